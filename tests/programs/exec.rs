//! `onegrant exec`: the command runs as if it had been called directly, with a token; and its file stays fresh.

use crate::support::*;
use rustix::process::Signal;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// `onegrant exec ARGUMENTS` in a place where programs are found.
fn exec(home: &Home, arguments: &[&str]) -> Command {
    let mut command = home.command(&["exec"]);
    command.args(arguments).env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command
}

fn shell<'a>(options: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [options, &["--", "/bin/sh", "-c", script]].concat()
}

#[test]
fn the_token_is_in_the_named_variables_and_in_no_argument() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let token = issued.access_token;
    let script = "echo \"$ACCESS_TOKEN,$A,$B\"; tr '\\0' ' ' </proc/$$/cmdline";
    let printed = |values: &str| Ran {
        code: 0,
        stdout: format!("{values}\n/bin/sh -c {script} "),
        stderr: String::new(),
    };
    assert_eq!(run(&mut exec(&home, &shell(&[], script))), printed(&format!("{token},,")));
    let named = shell(&["--env", "A", "--env=B"], script);
    assert_eq!(run(&mut exec(&home, &named)), printed(&format!(",{token},{token}")));
    // Ours are the child's as they were, and nothing else is new.
    let environment = run(&mut exec(&home, &["env"])).stdout;
    let wanted = format!("ACCESS_TOKEN={token}");
    let names: Vec<&str> = environment.lines().map(|line| line.split('=').next().unwrap()).collect();
    assert!(environment.lines().any(|line| line == wanted), "{environment}");
    assert!(names.iter().all(|name| ["ACCESS_TOKEN", "ONEGRANT_HOME", "PATH"].contains(name)), "{names:?}");
    assert_eq!(server.counts(), Default::default());
}

#[test]
fn arguments_of_any_bytes_are_passed_on_with_and_without_dashes() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let all: Vec<u8> = (1..=255).collect();
    for dashes in [&["--"][..], &[]] {
        let mut command = exec(&home, dashes);
        command.args(["/usr/bin/printf", "%s|"]).arg(OsStr::from_bytes(&all)).args(["", "--env", "--", "-v"]);
        let output = command.output().unwrap();
        assert_eq!(output.stderr, b"");
        assert_eq!(output.stdout, [&all[..], b"||--env|--|-v|"].concat());
    }
}

#[test]
fn exit_codes_and_signals_are_those_of_the_command_in_the_same_process() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    for code in [0, 1, 3, 42, 255] {
        let script = format!("exit {code}");
        assert_eq!(run(&mut exec(&home, &shell(&[], &script))).code, code);
    }
    for (signal, number) in [(Signal::TERM, 15), (Signal::INT, 2), (Signal::HUP, 1), (Signal::QUIT, 3)] {
        // The command has the signals that its caller had, and a shell's background ignores some.
        let command = exec(&home, &["sleep", "60"]);
        let process = Process::start(&mut wrapped("env", &["--default-signal"], &command));
        let name = format!("/proc/{}/comm", process.pid());
        wait_for("the command", || fs::read_to_string(&name).is_ok_and(|name| name == "sleep\n"));
        process.signal(signal);
        assert_eq!(process.finish().code, -number);
    }
}

/// As `grep Sig /proc/self/status` prints it: what is blocked, and what is ignored. A refresh and a written file went before.
#[test]
fn signals_are_as_the_caller_had_them() {
    let server = server(|_| {});
    let home = Home::new();
    let file = home.root.join("token");
    let grep = ["grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"];
    for setting in ["", "trap '' PIPE; ", "trap '' INT; ", "trap '' XFSZ; "] {
        let script = format!("{setting}exec \"$@\"");
        let plain = run(Command::new("/bin/sh").args(["-c", &script, "sh"]).args(grep));
        assert_eq!((plain.code, plain.stdout.lines().count()), (0, 2), "{plain:?}");
        for options in [&[][..], &["--file", file.to_str().unwrap()]] {
            home.grant(&server, EXPIRED);
            let mut ours = exec(&home, options);
            ours.args(grep);
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &script, "sh"]).arg(ours.get_program()).args(ours.get_args()).env_clear();
            command.envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
            assert_eq!(run(&mut command), plain, "{setting}");
        }
    }
}

#[test]
fn a_closed_pipe_ends_the_command_with_its_signal() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(Process::start_to_its_stdout(exec(&home, &["yes"]).stdout(writer)).finish().code, -13);
}

#[test]
fn a_command_that_is_missing_or_cannot_run_ends_as_in_a_shell() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let file = home.root.join("not-executable");
    fs::write(&file, "x").unwrap();
    let file = file.to_str().unwrap();
    for (program, code, why) in [
        ("no-such-program", 127, "No such file or directory"),
        ("/no/such/program", 127, "No such file or directory"),
        (file, 126, "Permission denied"),
        ("/", 126, "Permission denied"),
    ] {
        let said = format!("onegrant: cannot run {program}: {why}\n");
        assert_eq!(run(&mut exec(&home, &[program])), Ran::failed(code, said));
    }
}

#[test]
fn without_a_token_the_command_does_not_run() {
    let home = Home::new();
    let wanted = home.run(&["token"]);
    assert_eq!(wanted.code, 3);
    assert_eq!(run(&mut exec(&home, &["touch", "ran"])), wanted);
    assert!(!home.root.join("ran").exists());
}

#[test]
fn a_job_starts_with_as_much_time_as_it_asks_for() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, VALID);
    let script = shell(&["--min-ttl", "900"], "echo $ACCESS_TOKEN");
    let ran = run(&mut exec(&home, &script));
    assert_ne!(ran.token(), issued.access_token);
    assert_eq!(ran.token(), home.tokens().access_token);
    assert_eq!((server.counts().refreshes, server.counts().unexpected), (1, 0));
}

/// Descriptors that are closed stay closed, and none of ours is left open.
#[test]
fn the_command_has_the_descriptors_that_its_caller_had() {
    let server = server(|_| {});
    let home = Home::new();
    let file = home.root.join("token");
    let script = "exec \"$@\" sh -c 'exec ls -l /proc/self/fd >\"$0\"'";
    let listed = |prefix: &[&OsStr], closing: &str| {
        let list = home.root.join("list");
        let line = script.replace("$0", list.to_str().unwrap()) + closing;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &line, "sh"]).args(prefix).env_clear().env("ONEGRANT_HOME", &home.state);
        command.env("PATH", "/usr/bin:/bin").stdin(Stdio::null()).stdout(Stdio::null());
        let status = command.stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "{status}");
        let list = fs::read_to_string(list).unwrap();
        // Behind the names of the files: the directory that is listed is another one each time.
        let open =
            list.lines().filter_map(|line| Some(line.split_once(" -> ")?.0.rsplit_once(' ')?.1.to_owned()));
        open.collect::<Vec<_>>()
    };
    for closing in ["", " <&-", " 0<&- 2>&-", " 7</dev/null"] {
        home.grant(&server, EXPIRED);
        let plain = listed(&[OsStr::new("env")], closing);
        let onegrant = OsStr::new(env!("CARGO_BIN_EXE_onegrant"));
        let options = ["exec", "--file"].map(OsStr::new);
        let ours = listed(&[onegrant, options[0], options[1], file.as_os_str()], closing);
        assert_eq!(ours, plain, "{closing}");
    }
}

/// Linux passes no variable of more than 128 KiB.
#[test]
fn a_token_too_long_for_a_variable_is_reported_and_a_file_takes_it() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let mut document = home.document();
    let token = "t".repeat(140 << 10);
    document["session"]["access_token"] = token.as_str().into();
    home.write(&document);
    let script = "cat \"$ACCESS_TOKEN_FILE\"; echo \"<$ACCESS_TOKEN>\"";
    let ran = run(&mut exec(&home, &shell(&[], script)));
    let said = format!(
        "onegrant: cannot run /bin/sh: the token has 143360 bytes, and a variable of Linux has 131072 at most\n\
         hint: onegrant exec --file FILE -- /bin/sh -c '{script}'\n"
    );
    assert_eq!(ran, Ran::failed(126, said.as_str()));
    let hint = said.split_once("hint: onegrant ").unwrap().1.trim_end();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("{} {hint}", env!("CARGO_BIN_EXE_onegrant"))]).current_dir(&home.root);
    let inherited = command.env("ONEGRANT_HOME", &home.state).env("ACCESS_TOKEN", "of another grant");
    let ran = run(inherited);
    assert_eq!((ran.code, ran.stdout), (0, format!("{token}\n<>\n")), "as the hint says: {}", ran.stderr);
    // Where a variable is named beside the file, the rest of the call stays.
    let options = ["--env", "A", "--format", "raw", "--min-ttl", "60", "--file", "a token"];
    let ran = run(&mut exec(&home, &shell(&options, script)));
    let hint =
        format!("hint: onegrant exec --min-ttl 60 --format raw --file 'a token' -- /bin/sh -c '{script}'\n");
    assert_eq!((ran.code, ran.stderr.ends_with(&hint)), (126, true), "{ran:?}");
}

/// The lifetime of a token that the keeper replaces in the test, and that of one that it does not.
const SHORT: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_secs(3600);

/// The keepers of that file, by their command lines.
fn keepers(file: &Path) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap();
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_keeper = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        words.any(|word| word == b"--stay-beside-command")
            && words.any(|word| word == file.as_os_str().as_bytes())
    };
    pids.filter(|pid| is_keeper(pid) && is_running(*pid)).collect()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

/// A command that runs until the file `end` is there, with the file that is kept for it.
struct Kept {
    home: Home,
    file: std::path::PathBuf,
    process: Process,
}

impl Kept {
    fn start(server: &AuthorizationServer, left: i64, options: &[&str]) -> Self {
        let (home, _) = Home::with_grant(server, left);
        let file = home.root.join("token");
        let script = "echo \"$ACCESS_TOKEN_FILE\"; cat \"$ACCESS_TOKEN_FILE\"; while ! [ -e end ]; do sleep 0.02; done";
        let options = [&["--file", "token"][..], options].concat();
        let process = Process::start(&mut exec(&home, &shell(&options, script)));
        wait_for("what the command reads first", || process.printed().lines().count() == 2);
        Self { home, file, process }
    }

    #[track_caller]
    fn finish(self) -> (Home, Ran) {
        let keepers = keepers(&self.file);
        let before = read(&self.file);
        fs::write(self.home.root.join("end"), "").unwrap();
        let ran = self.process.finish();
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        for keeper in keepers {
            wait_for("the end of the keeper", || !is_running(keeper));
        }
        assert_eq!(read(&self.file), before, "it removes nothing");
        (self.home, ran)
    }
}

#[test]
fn the_file_is_replaced_while_the_command_runs_with_one_refresh_for_each_token() {
    let server = server(|settings| settings.lifetime = Some(SHORT));
    let gates: [Gate; 3] = std::array::from_fn(|_| Gate::closed());
    server.script(Endpoint::Token, gates.iter().map(|gate| Fault::Hold(gate.clone())));
    gates[0].open();
    let kept = Kept::start(&server, EXPIRED, &["--format", "header"]);
    let header = |home: &Home| format!("Authorization: Bearer {}\n", home.tokens().access_token);
    let first = read(&kept.file);
    let path = kept.file.to_str().unwrap().to_owned();
    assert_eq!(kept.process.printed(), format!("{path}\n{first}"));
    assert_eq!(fs::metadata(&kept.file).unwrap().permissions().mode() & 0o777, 0o600);
    // A child of the first process alone, in a session of its own.
    wait_for("the keeper", || keepers(&kept.file).len() == 1);
    let keeper = keepers(&kept.file)[0];
    let status = fs::read_to_string(format!("/proc/{keeper}/status")).unwrap();
    assert!(!status.contains(&format!("PPid:\t{}\n", kept.process.pid())), "{status}");
    let environment = fs::read_to_string(format!("/proc/{keeper}/environ")).unwrap();
    let names = environment.split_terminator('\0').map(|line| line.split('=').next().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["ONEGRANT_HOME", "PATH"], "what its caller was given");
    let mut replaced = vec![first];
    for gate in &gates[1..] {
        // After the last one the keeper has nothing to do, so nothing changes while the command ends.
        server.adjust(|settings| settings.lifetime = Some(if replaced.len() == 1 { SHORT } else { LONG }));
        gate.open();
        wait_for("another token in the file", || !replaced.contains(&read(&kept.file)));
        replaced.push(read(&kept.file));
        assert_eq!(fs::metadata(&kept.file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let (home, _) = kept.finish();
    assert_eq!(read(&home.root.join("token")), header(&home));
    assert_eq!(replaced.last(), Some(&header(&home)));
    let counts = server.counts();
    assert_eq!((counts.refreshes, counts.rotations, counts.replays, counts.unexpected), (3, 3, 0, 0));
}

#[test]
fn a_file_is_kept_in_a_directory_with_a_name_of_any_bytes() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let directory = home.root.join(OsStr::from_bytes(b"\xff"));
    fs::create_dir(&directory).unwrap();
    let script = "cat \"$ACCESS_TOKEN_FILE\"";
    let ran = run(exec(&home, &shell(&["--file", "token"], script)).current_dir(directory));
    assert_eq!(ran, Ran::printed(&issued.access_token));
}

#[test]
fn the_keeper_ends_when_the_command_is_killed() {
    let server = server(|_| {});
    let kept = Kept::start(&server, LIFETIME, &[]);
    wait_for("the keeper", || keepers(&kept.file).len() == 1);
    let keeper = keepers(&kept.file)[0];
    kept.process.signal(Signal::KILL);
    assert_eq!(kept.process.finish().code, -9);
    wait_for("the end of the keeper", || !is_running(keeper));
    assert_eq!(read(&kept.file), format!("{}\n", kept.home.tokens().access_token));
    assert_eq!(server.counts(), Default::default(), "a token that lasts is not replaced");
}

#[test]
fn a_keeper_ends_with_the_grant_and_the_command_goes_on() {
    let server = server(|settings| settings.lifetime = Some(SHORT));
    let mut kept = Kept::start(&server, EXPIRED, &[]);
    wait_for("the keeper", || keepers(&kept.file).len() == 1);
    let keeper = keepers(&kept.file)[0];
    assert_eq!(kept.home.run(&["logout", "--local"]).code, 0);
    wait_for("the end of the keeper", || !is_running(keeper));
    assert!(!kept.process.is_over());
    kept.finish();
}

#[test]
fn a_keeper_tries_again_after_a_failure() {
    let server = server(|settings| settings.lifetime = Some(SHORT));
    let (first_is_wanted, gate) = (Gate::closed(), Gate::closed());
    first_is_wanted.open();
    let down = || Fault::status(503);
    let faults = [Fault::Hold(first_is_wanted), down(), down(), Fault::Hold(gate.clone())];
    server.script(Endpoint::Token, faults);
    let kept = Kept::start(&server, EXPIRED, &[]);
    let first = read(&kept.file);
    server.wait_until(|counts| counts.refreshes == 4);
    assert_eq!(read(&kept.file), first, "two failures change nothing");
    server.adjust(|settings| settings.lifetime = Some(LONG));
    gate.open();
    wait_for("another token in the file", || read(&kept.file) != first);
    kept.finish();
    let counts = server.counts();
    assert_eq!((counts.refreshes, counts.rotations, counts.unexpected), (4, 2, 0));
}

/// A program that reads the command's output to its end does not wait for the keeper.
#[test]
fn the_keeper_holds_none_of_the_commands_files() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let file = home.root.join("token");
    let script = "sleep 60 >/dev/null 2>&1 & echo $!; exec >&- 2>&-; wait";
    let mut command = exec(&home, &["--file", file.to_str().unwrap(), "--", "/bin/sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut text).unwrap();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut text).unwrap();
    // The reading ended before the command, so its keeper is there, or still on its way to its own arguments.
    wait_for("the keeper", || keepers(&file).len() == 1);
    let sleeper = rustix::process::Pid::from_raw(text.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(sleeper, Signal::KILL).unwrap();
    assert!(child.wait().is_ok());
    wait_for("the end of the keeper", || keepers(&file).is_empty());
    assert_eq!(read(&file), format!("{}\n", issued.access_token));
}
