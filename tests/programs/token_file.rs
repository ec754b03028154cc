//! The file with a token for other programs, `token --write` and `exec --file`: what it replaces, what it follows, and
//! who owns it.

use crate::support::*;
use rustix::fs::{CWD, Mode, OFlags, mkfifoat, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

/// Another user, who need not have a name.
const OTHER: u32 = 12_345;

/// A directory as `/tmp` is.
fn sticky(home: &Home) -> PathBuf {
    let path = home.root.join("sticky");
    DirBuilder::new().create(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o1777)).unwrap();
    path
}

/// Both commands that write a token to a file.
fn writers(home: &Home, file: &Path) -> [Command; 2] {
    let mut token = home.command(&["--timeout", "5", "token", "--write"]);
    token.arg(file);
    let mut exec = home.command(&["exec", "--file"]);
    exec.arg(file).args(["--", "/bin/true"]);
    [token, exec]
}

/// Both commands end with 2 because of this, and request nothing.
#[track_caller]
fn assert_refused(server: &AuthorizationServer, home: &Home, file: &Path, why: &str) {
    for mut command in writers(home, file) {
        let ran = run(&mut command);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{}: {ran:?}", file.display());
        let wanted = format!("onegrant: cannot write the token to {}: ", file.display());
        assert!(ran.stderr.starts_with(&wanted), "{ran:?}");
        assert!(ran.stderr.contains(why), "{why}: {ran:?}");
        assert!(ran.stderr.contains("\nhint: ls -ld "), "{ran:?}");
    }
    assert_eq!(server.counts(), Default::default(), "nothing was requested");
}

/// Only root can run this test: it makes links that belong to another user.
#[test]
fn no_link_and_no_fifo_of_another_user_in_a_sticky_directory_is_used() {
    if !is_root() {
        return;
    }
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let sticky = sticky(&home);
    let victim = home.root.join("victim");
    fs::write(&victim, "precious\n").unwrap();
    let directory = home.root.join("directory");
    fs::create_dir(&directory).unwrap();
    let plant = |name: &str, target: &Path| {
        symlink(target, sticky.join(name)).unwrap();
        lchown(sticky.join(name), Some(OTHER), Some(OTHER)).unwrap();
        sticky.join(name)
    };
    let planted = ", a link, in a directory that others may write";
    let to_file = plant("file", &victim);
    assert_refused(&server, &home, &to_file, planted);
    assert_refused(&server, &home, &plant("new", &home.root.join("new")), planted);
    // In the middle of a path, too, and behind a link of one's own.
    plant("directory", &directory);
    assert_refused(&server, &home, &sticky.join("directory/token"), planted);
    let own = home.root.join("own");
    symlink(&to_file, &own).unwrap();
    assert_refused(&server, &home, &own, planted);
    // The process that reads a FIFO gets the token.
    let fifo = sticky.join("fifo");
    mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
    chown(&fifo, Some(OTHER), Some(OTHER)).unwrap();
    assert_refused(&server, &home, &fifo, &format!("user {OTHER} made 'fifo', a FIFO, in "));

    assert_eq!(fs::read_to_string(victim).unwrap(), "precious\n");
    assert!(!home.root.join("new").exists());
    assert_eq!(fs::read_dir(directory).unwrap().count(), 0);
}

#[test]
fn a_link_of_the_caller_or_of_the_owner_of_the_directory_is_followed() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let sticky = sticky(&home);
    symlink("../second", sticky.join("first")).unwrap();
    symlink("elsewhere", home.root.join("second")).unwrap();
    let mut followed = vec![sticky.join("first"), PathBuf::from("sticky/first")];
    if is_root() {
        let theirs = home.root.join("theirs");
        fs::rename(&sticky, &theirs).unwrap();
        chown(&theirs, Some(OTHER), Some(OTHER)).unwrap();
        lchown(theirs.join("first"), Some(OTHER), Some(OTHER)).unwrap();
        followed = vec![theirs.join("first")];
    }
    for path in followed {
        let _ = fs::remove_file(home.root.join("elsewhere"));
        for mut command in writers(&home, &path) {
            assert_eq!(run(&mut command).code, 0);
        }
        let written = fs::read_to_string(home.root.join("elsewhere")).unwrap();
        assert_eq!(written, format!("{}\n", issued.access_token));
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink(), "the link stays");
    }
}

#[test]
fn the_file_belongs_to_the_caller_and_others_cannot_read_it() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let theirs = home.root.join("theirs");
    fs::create_dir(&theirs).unwrap();
    let (new, old, linked) = (theirs.join("new"), theirs.join("old"), home.root.join("linked"));
    fs::write(&old, "old\n").unwrap();
    fs::set_permissions(&old, Permissions::from_mode(0o666)).unwrap();
    fs::hard_link(&old, &linked).unwrap();
    if is_root() {
        for path in [&theirs, &old] {
            chown(path, Some(OTHER), Some(OTHER)).unwrap();
        }
    }
    let me = rustix::process::geteuid().as_raw();
    for file in [&new, &old] {
        // A umask takes the owner's rights, too.
        for command in writers(&home, file) {
            let command = wrapped("/bin/sh", &["-c", "umask 777; exec \"$@\"", "sh"], &command);
            assert_eq!(run(&mut { command }).code, 0);
            let metadata = fs::metadata(file).unwrap();
            assert_eq!((metadata.uid(), metadata.mode() & 0o777), (me, 0o600), "{}", file.display());
            assert_eq!(fs::read_to_string(file).unwrap(), format!("{}\n", issued.access_token));
        }
    }
    assert_eq!(
        fs::read_to_string(linked).unwrap(),
        "old\n",
        "another name of the old file keeps the old file"
    );
    assert_eq!(fs::read_dir(&theirs).unwrap().count(), 2, "nothing is left beside it");
}

#[test]
fn only_a_regular_file_is_replaced_and_the_rest_is_refused_before_a_request() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    let socket = home.root.join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    symlink("socket", home.root.join("to-socket")).unwrap();
    symlink("/dev/null", home.root.join("to-null")).unwrap();
    for (name, why) in [
        ("socket", "it is a socket"),
        ("to-socket", "it is a socket"),
        ("/dev/null", "it is a device"),
        ("to-null", "it is a device"),
        ("state", "it is a directory"),
        ("state/", "it is a directory"),
        ("/", "it is a directory"),
    ] {
        let file = if name == "/" { PathBuf::from(name) } else { home.root.join(name) };
        assert_refused(&server, &home, &file, why);
    }
    assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    // A file that is kept fresh is one that is replaced.
    let fifo = home.root.join("fifo");
    mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
    let [_, mut exec] = writers(&home, &fifo);
    let ran = run(&mut exec);
    assert!(ran.code == 2 && ran.stderr.contains("it is a FIFO, and only a regular file"), "{ran:?}");
    assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());
    // The system's own words where there is no such directory.
    for mut command in writers(&home, &home.root.join("nothing/file")) {
        let ran = run(&mut command);
        let said = format!(
            "nothing/file: No such file or directory\nhint: mkdir -p {}/nothing\n",
            home.root.display()
        );
        assert!(ran.code == 5 && ran.stderr.ends_with(&said), "{ran:?}");
    }
    assert_eq!(server.counts(), Default::default());
}

#[test]
fn links_in_a_circle_are_refused() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    symlink("circle", home.root.join("circle")).unwrap();
    let [mut token, _] = writers(&home, &home.root.join("circle"));
    let ran = run(&mut token);
    assert!(ran.code == 5 && ran.stderr.contains("symbolic links"), "{ran:?}");
    assert_eq!(server.counts(), Default::default());
}

/// More than a pipe takes at once.
#[test]
fn a_fifo_is_written_through_to_its_reader() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let mut document = home.document();
    let token = "t".repeat(200 << 10);
    document["session"]["access_token"] = token.as_str().into();
    home.write(&document);
    let fifo = home.root.join("fifo");
    mkfifoat(CWD, &fifo, Mode::RUSR | Mode::WUSR).unwrap();
    let path = fifo.clone();
    let reader = thread::spawn(move || fs::read_to_string(path).unwrap());
    let ran = home.run(&["token", "--write", "fifo"]);
    assert_eq!(ran, Ran { code: 0, stdout: String::new(), stderr: String::new() });
    assert_eq!(reader.join().unwrap(), format!("{token}\n"));
    assert!(fs::metadata(fifo).unwrap().file_type().is_fifo());
}

#[test]
fn a_fifo_without_a_reader_costs_the_deadline_and_no_request() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, EXPIRED);
    mkfifoat(CWD, home.root.join("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
    let ran = home.run(&["--timeout", "0.2", "token", "--write", "fifo"]);
    let said = "onegrant: cannot write the token to fifo: no process read this FIFO within the deadline\n\
                hint: cat fifo &   # then try again\n";
    assert_eq!(ran, Ran::failed(4, said));
    assert_eq!(server.counts(), Default::default());
}

#[test]
fn a_terminal_is_written_through() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&keyboard).unwrap();
    unlockpt(&keyboard).unwrap();
    let name = ptsname(&keyboard, Vec::new()).unwrap();
    // Kept open: what is written to a terminal that is closed may be lost.
    let _line = open(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    let (name, mut keyboard) = (name.into_string().unwrap(), File::from(keyboard));
    assert_eq!(home.run(&["token", "--write", &name]).code, 0);
    let mut screen = vec![0; issued.access_token.len()];
    keyboard.read_exact(&mut screen).unwrap();
    assert_eq!(String::from_utf8(screen).unwrap(), issued.access_token);
    assert!(fs::metadata(&name).unwrap().file_type().is_char_device());
    let ran = run(&mut writers(&home, Path::new(&name))[1]);
    assert_eq!(ran.code, 2, "it cannot be kept fresh: {ran:?}");
}

/// `/dev/stdout` is such a name.
#[test]
fn the_name_of_an_open_descriptor_means_what_is_open() {
    let server = server(|_| {});
    let (home, issued) = Home::with_grant(&server, LIFETIME);
    let arguments = ["token", "--write", "/proc/self/fd/1"];
    let output = home.command(&arguments).output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}\n", issued.access_token));
    let path = home.root.join("file");
    let file = File::create(&path).unwrap();
    assert_eq!(Process::start_to_its_stdout(home.command(&arguments).stdout(file)).finish().code, 0);
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", issued.access_token));
    // A file in memory has no name that could be given to another one.
    let ran = home.run(&arguments);
    assert!(ran.code == 2 && ran.stderr.contains("it is an open file that has no name"), "{ran:?}");
}

/// What a process left that was killed between the two names of a replacement.
#[test]
fn a_write_removes_the_temporary_files_of_processes_that_are_gone() {
    let server = server(|_| {});
    let (home, _) = Home::with_grant(&server, LIFETIME);
    let mut child = Command::new("/bin/true").spawn().unwrap();
    child.wait().unwrap();
    let place = home.root.join("place");
    fs::create_dir(&place).unwrap();
    let temporary = |process: u32| place.join(format!(".onegrant-token.{process}.0123456789abcdef"));
    let (gone, alive) = (temporary(child.id()), temporary(std::process::id()));
    for path in [&gone, &alive] {
        fs::write(path, "token").unwrap();
    }
    assert_eq!(home.run(&["token", "--write", "place/token"]).code, 0);
    assert!(!gone.exists(), "its process is gone");
    assert!(alive.exists(), "its process lives");
    let mut names: Vec<_> = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert_eq!(names, [alive, place.join("token")]);
}
