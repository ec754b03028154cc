//! A command that prints something for us, bounded in time and in what it prints.

use super::SignalsHeld;
use crate::text::describe;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// What a command did.
#[derive(Debug)]
pub struct Printed {
    /// How it ended.
    pub status: ExitStatus,
    /// All that it printed on stdout.
    pub stdout: Zeroizing<Vec<u8>>,
    /// The beginning of what it said on stderr.
    pub stderr: Vec<u8>,
}

/// How much of stderr is kept, in bytes.
const STDERR_LIMIT: usize = 4096;

/// Runs a command without a stdin and in a process group of its own. The group is killed if it lasts longer than `timeout` or
/// prints more than `limit` bytes; both are errors.
pub fn run(command: &mut Command, timeout: Duration, limit: usize) -> io::Result<Printed> {
    run_on(Stdio::null(), command.process_group(0), timeout, limit)
}

/// The same in a session of its own: it has no terminal, also where this process has one.
pub fn run_without_terminal(command: &mut Command, timeout: Duration, limit: usize) -> io::Result<Printed> {
    run_on(Stdio::null(), super::as_given_in_own_session(command), timeout, limit)
}

/// The same with `input` on stdin, from a file in memory: so this process does not wait for the command to read it.
pub fn ask(command: &mut Command, input: &[u8], timeout: Duration, limit: usize) -> io::Result<Printed> {
    run_on(file_in_memory(input)?.into(), command.process_group(0), timeout, limit)
}

/// Runs a command in a session of its own, with this file as its stdin; what it prints goes nowhere. Its process group is
/// killed if it lasts longer than `timeout`, which is an error. A program that it leaves behind is not waited for. If this
/// process is killed, so is the command, and `lock` is held until all that it started has ended.
pub fn run_unheard(
    command: &mut Command,
    stdin: File,
    lock: Option<File>,
    timeout: Duration,
) -> io::Result<ExitStatus> {
    command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::null());
    let mut running = Running { child: super::as_given_under_lock(command, lock).spawn()?, is_over: false };
    let until = Instant::now() + timeout;
    let ended = pidfd_open(Pid::from_child(&running.child), PidfdFlags::empty()).ok();
    if let (Some(ended), Ok(timeout)) = (&ended, Timespec::try_from(timeout)) {
        // If a signal interrupts this, the wait below is longer.
        let _ = poll(&mut [PollFd::new(ended, PollFlags::IN)], Some(&timeout));
    }
    running.wait(until)
}

/// A file without a name, which lies in memory alone and is read from its beginning.
pub fn file_in_memory(bytes: &[u8]) -> io::Result<File> {
    // The file size limit is also for files in memory. With signals held it is an error of the write.
    let _signals = SignalsHeld::hold();
    // A system may insist that such a file cannot be executed (vm.memfd_noexec = 2). Linux before 6.3 does not know the flag.
    let no_exec = memfd_create("input", MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL);
    let created = no_exec.or_else(|_| memfd_create("input", MemfdFlags::CLOEXEC));
    let mut file = File::from(created?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

fn run_on(stdin: Stdio, command: &mut Command, timeout: Duration, limit: usize) -> io::Result<Printed> {
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running { child: super::as_given(command).spawn()?, is_over: false };
    let mut printed = Zeroizing::new(Vec::new());
    let mut said = Vec::new();
    let until = Instant::now() + timeout;
    running.read(&mut printed, &mut said, limit, until)?;
    let status = running.wait(until)?;
    Ok(Printed { status, stdout: printed, stderr: said })
}

/// A child. Dropping it before its end kills it and its process group.
struct Running {
    child: Child,
    is_over: bool,
}

/// How often the end of a command is looked for if the system gives no pidfd for it.
const GLANCE: Duration = Duration::from_millis(5);

impl Running {
    fn read(
        &mut self,
        printed: &mut Vec<u8>,
        said: &mut Vec<u8>,
        limit: usize,
        until: Instant,
    ) -> io::Result<()> {
        let (Some(mut stdout), Some(mut stderr)) = (self.child.stdout.take(), self.child.stderr.take())
        else {
            return Err(io::Error::other("it has no stdout"));
        };
        let ended = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()).ok();
        let mut buffer = Zeroizing::new([0; 4096]);
        let (mut is_printing, mut is_saying) = (true, true);
        while is_printing {
            // When the command has ended, all its output is in the pipe. A program that it left behind may keep the pipe open;
            // it is not waited for.
            self.is_over = self.child.try_wait()?.is_some();
            let has_ended = self.is_over;
            let left = until.saturating_duration_since(Instant::now());
            let wait = match (&ended, has_ended) {
                (_, true) => Duration::ZERO,
                (Some(_), false) => left,
                (None, false) => left.min(GLANCE),
            };
            let wait = Timespec::try_from(wait).map_err(|error| io::Error::other(describe(&error)))?;
            let mut watched = vec![PollFd::new(&stdout, PollFlags::IN)];
            watched.extend(is_saying.then(|| PollFd::new(&stderr, PollFlags::IN)));
            watched.extend(ended.as_ref().filter(|_| !has_ended).map(|fd| PollFd::new(fd, PollFlags::IN)));
            match poll(&mut watched, Some(&wait)) {
                Ok(0) if has_ended => break,
                _ if left.is_zero() => return Err(ErrorKind::TimedOut.into()),
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                ready => ready?,
            };
            let [is_readable, is_talking] = [0, 1]
                .map(|index: usize| watched.get(index).is_some_and(|fd: &PollFd| !fd.revents().is_empty()));
            if is_readable {
                let length = stdout.read(&mut buffer[..])?;
                is_printing = length > 0;
                printed.extend_from_slice(buffer.get(..length).unwrap_or_default());
                if printed.len() > limit {
                    return Err(io::Error::other(format!("it prints more than {limit} bytes")));
                }
            }
            if is_saying && is_talking {
                let length = stderr.read(&mut buffer[..])?;
                is_saying = length > 0;
                let room = STDERR_LIMIT.saturating_sub(said.len()).min(length);
                said.extend_from_slice(buffer.get(..room).unwrap_or_default());
            }
        }
        Ok(())
    }

    fn wait(&mut self, until: Instant) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.is_over = true;
                return Ok(status);
            }
            if Instant::now() >= until {
                return Err(ErrorKind::TimedOut.into());
            }
            std::thread::sleep(GLANCE);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration) -> io::Result<Printed> {
        run(Command::new("/bin/sh").args(["-c", script]), timeout, 1000)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn stdout_and_stderr_of_a_command_are_kept_apart() {
        let printed = shell("echo token; echo why >&2; exit 3", LONG).unwrap();
        assert_eq!(printed.status.code(), Some(3));
        assert_eq!((&printed.stdout[..], &printed.stderr[..]), (&b"token\n"[..], &b"why\n"[..]));
    }

    #[test]
    fn a_command_is_asked_more_than_a_pipe_takes_and_need_not_listen() {
        let input = vec![b'x'; 1 << 20];
        let mut count = Command::new("/bin/sh");
        let printed = ask(count.args(["-c", "wc -c"]), &input, LONG, 1000).unwrap();
        assert_eq!(String::from_utf8_lossy(&printed.stdout).trim(), "1048576");
        let printed = ask(&mut Command::new("/bin/true"), &input, LONG, 1000).unwrap();
        assert!(printed.status.success());
    }

    #[test]
    fn a_command_that_does_not_end_is_killed_with_its_children() {
        let began = Instant::now();
        let error = shell("sleep 50 & sleep 50", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let error = shell("exec >&-; sleep 50", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(began.elapsed() < Duration::from_secs(50), "it was waited for");
    }

    #[test]
    fn a_command_whose_output_goes_nowhere_is_killed_with_its_group_after_its_time() {
        let run = |script: &str, timeout| {
            let mut shell = Command::new("/bin/sh");
            run_unheard(shell.args(["-c", script]), file_in_memory(b"3").unwrap(), None, timeout)
        };
        assert_eq!(run("read -r code; exit $code", LONG).unwrap().code(), Some(3));
        let flood = "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2";
        assert!(run(flood, LONG).unwrap().success());
        let marker = std::env::temp_dir().join(format!("onegrant-group-{}", std::process::id()));
        let script = format!("trap '' TERM HUP; sleep 50 & echo $! >'{}'; wait", marker.display());
        // On a busy machine the time may be over before the command has begun: then once more, with a longer one.
        let attempt = |seconds| {
            let (began, ran) = (Instant::now(), run(&script, Duration::from_secs(seconds)));
            let child = std::fs::read_to_string(&marker).ok()?.trim().parse().ok()?;
            Some((began, ran, child))
        };
        let (began, ran, child) = [1, 4, 16].into_iter().find_map(attempt).unwrap();
        std::fs::remove_file(&marker).unwrap();
        // A process that nothing takes note of is dead, too.
        let status = || super::super::process_status(child);
        while status().is_some_and(|status| !status.is_dead) && began.elapsed() < Duration::from_secs(40) {
            std::thread::sleep(GLANCE);
        }
        assert!(status().is_none_or(|status| status.is_dead), "its child is killed, too");
        assert_eq!(ran.unwrap_err().kind(), ErrorKind::TimedOut);
        assert!(began.elapsed() < Duration::from_secs(50), "it was waited for");
    }

    #[test]
    fn a_program_that_a_command_leaves_behind_is_not_waited_for_and_lives_on() {
        for script in ["sleep 50 & echo $!", "sleep 50 & echo $!; exec 2>&-", "sleep 50 2>&- & echo $!"] {
            let printed = shell(script, Duration::from_secs(20)).unwrap();
            let left = String::from_utf8_lossy(&printed.stdout).trim().parse().ok().and_then(Pid::from_raw);
            assert_eq!(rustix::process::kill_process(left.unwrap(), Signal::KILL), Ok(()), "{script}");
        }
        // All that was printed is read, however much it is.
        let printed = run(
            Command::new("/bin/sh").args(["-c", "sleep 50 & echo $!; head -c 60000 /dev/zero"]),
            Duration::from_secs(20),
            100_000,
        );
        let stdout = printed.unwrap().stdout;
        let (left, zeros) = stdout.split_at(stdout.iter().position(|byte| *byte == b'\n').unwrap());
        assert_eq!(zeros.len(), 60_001);
        let left = String::from_utf8_lossy(left).parse().ok().and_then(Pid::from_raw);
        assert_eq!(rustix::process::kill_process(left.unwrap(), Signal::KILL), Ok(()));
    }

    #[test]
    fn a_command_finds_the_signals_as_this_process_was_given_them() {
        let signals = || {
            let printed =
                run(Command::new("grep").args(["^Sig[BI]", "/proc/self/status"]), LONG, 1000).unwrap();
            String::from_utf8(printed.stdout.to_vec()).unwrap()
        };
        let before = signals();
        let held = super::super::SignalsHeld::hold();
        assert_eq!(signals(), before);
        drop(held);
        assert_eq!(signals(), before);
    }

    #[test]
    fn a_command_that_prints_for_ever_is_ended() {
        let error = shell("while :; do echo 0123456789; done", LONG).unwrap_err();
        assert!(error.to_string().contains("more than 1000 bytes"), "{error}");
        let printed =
            shell("i=0; while [ $i -lt 3000 ]; do echo noise >&2; i=$((i+1)); done; echo x", LONG).unwrap();
        assert_eq!((&printed.stdout[..], printed.stderr.len()), (&b"x\n"[..], STDERR_LIMIT));
    }
}
