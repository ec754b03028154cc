//! What a real process did to its disk and its network, from the words of strace.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Home, Ran, run, wrapped};

/// One call that succeeded, in the order in which the kernel ended it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Opened for writing, created where it was not there.
    Open {
        path: PathBuf,
        descriptor: u32,
        creates: bool,
    },
    /// Bytes on a file: at an offset, or where the last write through this descriptor ended.
    Write {
        path: PathBuf,
        descriptor: u32,
        offset: Option<usize>,
        bytes: Vec<u8>,
    },
    SetLength {
        path: PathBuf,
        length: usize,
    },
    /// Of a file or of a directory.
    Sync {
        path: PathBuf,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    MakeDirectory {
        path: PathBuf,
    },
    /// Bytes left for the server.
    Sent,
    /// Bytes came from the server.
    Received,
    /// The history was opened, written or replaced: nothing is decided by it, and no cut of it matters.
    Noted,
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match self {
            Self::Open { path, .. } => write!(formatter, "open {}", name(path)),
            Self::Write { path, bytes, .. } => {
                write!(formatter, "write {} bytes to {}", bytes.len(), name(path))
            }
            Self::SetLength { path, length } => write!(formatter, "cut {} to {length} bytes", name(path)),
            Self::Sync { path } => write!(formatter, "sync {}", name(path)),
            Self::Link { from, to } => write!(formatter, "link {} to {}", name(from), name(to)),
            Self::Rename { from, to } => write!(formatter, "rename {} to {}", name(from), name(to)),
            Self::Unlink { path } => write!(formatter, "unlink {}", name(path)),
            Self::MakeDirectory { path } => write!(formatter, "make the directory {}", name(path)),
            Self::Sent => write!(formatter, "send"),
            Self::Received => write!(formatter, "receive"),
            Self::Noted => write!(formatter, "note in the history"),
        }
    }
}

/// Calls that change neither bytes nor names. Owner and mode are not followed: the model gives every file mode 0600.
const HARMLESS: [&str; 36] = [
    "access",
    "chdir",
    "chmod",
    "chroot",
    "close",
    "dup2",
    "epoll_ctl",
    "execve",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fchmod",
    "fchmodat",
    "fchown",
    "fcntl",
    "fgetxattr",
    "flock",
    "fstat",
    "fstatfs",
    "getcwd",
    "getdents64",
    "getxattr",
    "ioctl",
    "lseek",
    "lstat",
    "mmap",
    "newfstatat",
    "poll",
    "ppoll",
    "pread64",
    "read",
    "readlink",
    "readlinkat",
    "stat",
    "statfs",
    "statx",
];

/// Runs the command to its end, and gives what it and its children did under the home's root.
pub fn record(home: &Home, command: &Command, stdin: Option<&Path>) -> (Ran, Vec<Call>) {
    let log = home.root.join("trace");
    let output = format!("-o{}", log.display());
    let options = ["-f", "-qq", "-yy", "-xx", "-s1000000", "-etrace=%file,%desc,%network", &output];
    let mut traced = wrapped("strace", &options, command);
    if let Some(path) = stdin {
        traced.stdin(std::fs::File::open(path).unwrap());
    }
    let ran = run(&mut traced);
    let text = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    let mut calls: Vec<Call> = whole_lines(&text).iter().filter_map(|line| call(line, &home.root)).collect();
    // The history comes after everything else: it never comes between the server's answer and its durable copy.
    let noted = calls.iter().position(|call| *call == Call::Noted).unwrap_or(calls.len());
    let late = calls.split_off(noted).into_iter().find(|call| *call != Call::Noted);
    assert_eq!(late, None, "the history was written before this was done");
    (ran, calls)
}

/// Lines without their process identifiers; a call that another thread interrupted is where it ended.
fn whole_lines(text: &str) -> Vec<String> {
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        let (process, line) = line.split_once(' ').unwrap();
        let line = line.trim_start();
        if line.starts_with("+++") || line.starts_with("---") {
            continue;
        }
        if let Some(beginning) = line.strip_suffix(" <unfinished ...>") {
            begun.insert(process, beginning);
        } else if let Some(rest) = line.strip_prefix("<... ") {
            let (_, end) = rest.split_once(" resumed>").unwrap();
            lines.push(format!("{}{end}", begun.remove(process).unwrap()));
        } else {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// None for what failed, for what changes nothing, and for what lies elsewhere.
fn call(line: &str, root: &Path) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let arguments = arguments.trim_end().strip_suffix(')')?;
    let result: String = result.chars().take_while(char::is_ascii_digit).collect();
    let result: usize = result.parse().ok()?;
    // Strings and paths are hexadecimal, so a comma always parts two arguments.
    let arguments: Vec<&str> = arguments.split(", ").collect();
    let number = |at: usize| arguments[at].parse::<usize>().unwrap();
    let path = |at: usize| path_at(&arguments, at);
    match name {
        "sendto" | "sendmsg" => return is_of_the_server(arguments[0]).then_some(Call::Sent),
        "recvfrom" | "recvmsg" => {
            return (is_of_the_server(arguments[0]) && result > 0).then_some(Call::Received);
        }
        _ => {}
    }
    // A network that is not the server's, and files that are not the store's.
    let subject = match name {
        "open" | "creat" | "mkdir" | "unlink" | "rename" | "link" | "truncate" => path(0),
        "openat" | "mkdirat" | "unlinkat" | "renameat" | "renameat2" | "linkat" => path(1),
        _ => descriptor_path(arguments[0]).or_else(|| (arguments.len() > 1).then(|| path(0))?),
    }?;
    if !subject.starts_with(root) {
        return None;
    }
    if subject.file_name().is_some_and(|name| name.to_string_lossy().contains("~history")) {
        return Some(Call::Noted);
    }
    let descriptor = || arguments[0].split('<').next().unwrap().parse().unwrap();
    Some(match name {
        "open" | "openat" => {
            let flags = arguments[if name == "open" { 1 } else { 2 }];
            assert!(!flags.contains("O_TRUNC") && !flags.contains("O_APPEND"), "not modelled: {line}");
            let writes = flags.contains("O_WRONLY") || flags.contains("O_RDWR");
            let creates = flags.contains("O_CREAT");
            let descriptor = u32::try_from(result).unwrap();
            return (writes || creates).then_some(Call::Open { path: subject, descriptor, creates });
        }
        "write" => {
            let bytes = text(arguments[1])[..result].to_vec();
            Call::Write { path: subject, descriptor: descriptor(), offset: None, bytes }
        }
        "pwrite64" => {
            let bytes = text(arguments[1])[..result].to_vec();
            Call::Write { path: subject, descriptor: descriptor(), offset: Some(number(3)), bytes }
        }
        "ftruncate" | "truncate" => Call::SetLength { path: subject, length: number(1) },
        "fsync" | "fdatasync" => Call::Sync { path: subject },
        "fallocate" => {
            assert!(arguments[1].contains("KEEP_SIZE"), "not modelled: {line}");
            return None;
        }
        "mkdir" | "mkdirat" => Call::MakeDirectory { path: subject },
        "unlink" | "unlinkat" => Call::Unlink { path: subject },
        "link" | "rename" => renamed(name, subject, path(1)?),
        "linkat" | "renameat" | "renameat2" => renamed(name, subject, path(3)?),
        name if HARMLESS.contains(&name) => return None,
        _ => panic!("not modelled: {line}"),
    })
}

fn renamed(name: &str, from: PathBuf, to: PathBuf) -> Call {
    if name.starts_with("link") { Call::Link { from, to } } else { Call::Rename { from, to } }
}

/// Caller and worker talk to each other through a socket of another kind.
fn is_of_the_server(argument: &str) -> bool {
    argument
        .split_once('<')
        .is_some_and(|(_, kind)| kind.starts_with("TCP") || decoded(kind).starts_with(b"TCP"))
}

/// The path of a descriptor, as the kernel knows it at that moment; none for what is no file.
fn descriptor_path(argument: &str) -> Option<PathBuf> {
    let (number, decoration) = argument.split_once('<')?;
    number.parse::<u32>().ok()?;
    Some(PathBuf::from(OsStr::from_bytes(&decoded(decoration.split('>').next()?))))
}

/// A path argument; a relative one is below the directory before it.
fn path_at(arguments: &[&str], at: usize) -> Option<PathBuf> {
    let path = PathBuf::from(OsStr::from_bytes(&text(arguments.get(at)?)));
    if path.is_absolute() {
        return Some(path);
    }
    let (_, directory) = arguments.get(at.checked_sub(1)?)?.split_once('<')?;
    Some(Path::new(OsStr::from_bytes(&decoded(directory))).join(path))
}

/// The bytes of a string argument.
fn text(argument: &str) -> Vec<u8> {
    assert!(!argument.ends_with("..."), "strace cut a string short");
    decoded(argument.trim_matches('"'))
}

fn decoded(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.split("\\x").skip(1);
    digits.filter_map(|pair| u8::from_str_radix(pair.get(..2)?, 16).ok()).collect()
}
