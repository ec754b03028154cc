//! The file with a token for other programs: `token --write` and `exec --file`.
//!
//! The file may be in a directory that others write to, such as `/tmp`. So this module walks the path, component by component,
//! from descriptor to descriptor: it uses the file that it checked. Three rules:
//!
//! - In a sticky directory that others may write, a link or a FIFO is used only if the caller or the owner of the
//!   directory owns it. This does not depend on `fs.protected_symlinks` and `fs.protected_fifos`.
//! - Only a regular file is replaced. A FIFO and a terminal are written through. Everything else is refused, before a token is
//!   requested.
//! - The new file has mode 0600 and belongs to the caller. The owner of the old file and of the directory do not matter.
//!
//! If the file system allows it, the new file has no name before it is complete. Otherwise, and between the two names of a
//! replacement, a kill leaves a temporary file. Its name contains the process, and the next write in this directory removes it.

use crate::error::{Failure, Kind};
use crate::system::trust::may_be_planted;
use crate::system::{self, SignalsHeld};
use crate::text::{describe, printable, shell_word};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstatfs, fstatvfs};
use rustix::fs::{linkat, openat, readlinkat, renameat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, geteuid, test_kill_process};
use std::collections::VecDeque;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, Metadata, Permissions};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How many symbolic links are followed, as in Linux itself.
const MAX_LINKS: usize = 40;

/// How often the file is written again if another process removed its temporary file: a process of another pid namespace
/// does not see that this process is alive.
const MAX_TRIES: u32 = 10;

/// The pause before a FIFO without a reader is opened again. The kernel has no event for this.
const READER_PAUSE: Duration = Duration::from_millis(10);

/// How the name of a temporary file begins. The identifier of the process, a dot and a random word follow.
const TEMPORARY: &str = ".onegrant-token.";

/// The bit of `statvfs` that says that no link is followed on this mount (mount(2), `MS_NOSYMFOLLOW`).
const NO_LINKS: u64 = 0x2000;

/// The type of the file system `proc` (statfs(2)).
const PROC: i64 = 0x9fa0;

/// Opens a file of any kind, and does not follow a link.
const NAME_ALONE: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A file or stream for a token, found and checked.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    target: Target,
}

#[derive(Debug)]
enum Target {
    /// A name in a directory. It is free, or the name of a regular file.
    Name { directory: File, name: OsString },
    /// A FIFO or a terminal, open for writing.
    Stream(File),
}

impl TokenFile {
    /// Finds a file that can be replaced. Fails with [`Kind::Usage`] if it is no regular file, or if the path has a link of another
    /// user.
    pub fn find(path: &Path) -> Result<Self, Failure> {
        let WalkResult { directory, name, object } =
            walk(path).map_err(|obstacle| obstacle.on_the_way_to(path))?;
        match object {
            Some((_, metadata)) if !metadata.is_file() => {
                let why = format!("it is {}, and only a regular file can be replaced", kind(&metadata));
                Err(refused(path, &why))
            }
            _ => Ok(Self { path: path.to_owned(), target: Target::Name { directory, name } }),
        }
    }

    /// Like [`TokenFile::find`]; also opens a FIFO or a terminal. Waits for the reader of a FIFO for at most `left`.
    pub fn open(path: &Path, left: Duration) -> Result<Self, Failure> {
        let found = walk(path).map_err(|obstacle| obstacle.on_the_way_to(path))?;
        let stream = match &found.object {
            Some((_, metadata)) if metadata.file_type().is_fifo() => open_fifo(path, &found, metadata, left)?,
            Some((_, metadata)) if metadata.file_type().is_char_device() => {
                let device =
                    found.open_for_writing(metadata).map_err(|error| refused(path, &describe(&error)))?;
                if !device.is_terminal() {
                    return Err(refused(path, "it is a device and not a terminal"));
                }
                device
            }
            _ => return Self::find(path),
        };
        Ok(Self { path: path.to_owned(), target: Target::Stream(stream) })
    }

    /// Replaces the file atomically and durably, or writes the stream within `left`.
    pub fn write(&self, bytes: &[u8], left: Duration) -> Result<(), Failure> {
        match &self.target {
            Target::Name { directory, name } => {
                // A file size limit shows as an error of the write.
                let _signals = SignalsHeld::hold();
                replace(directory, name, bytes).map_err(|error| broken(&self.path, &error))
            }
            Target::Stream(stream) => write_through(stream, bytes, left)
                .map_err(|error| failed(Kind::Temporary, &self.path, &describe(&error)).hint("try again")),
        }
    }
}

fn failed(kind: Kind, path: &Path, why: &str) -> Failure {
    let shown = printable(&path.display().to_string());
    Failure::new(kind, format!("cannot write the token to {shown}: {why}"))
}

/// A failed system call.
fn broken(path: &Path, error: &io::Error) -> Failure {
    let failure = failed(Kind::Store, path, &describe(error));
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(parent) = shell_word(parent) else { return failure };
    failure.hint(match error.kind() {
        ErrorKind::NotFound => format!("mkdir -p {parent}"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => format!("df -h {parent}"),
        _ => format!("ls -la {parent}   # this process runs as user {}", geteuid().as_raw()),
    })
}

fn refused(path: &Path, why: &str) -> Failure {
    let failure = failed(Kind::Usage, path, why);
    match shell_word(path) {
        Some(path) => failure.hint(format!("ls -ld {path}   # choose another file")),
        None => failure,
    }
}

fn kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    match () {
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () if kind.is_symlink() => "a link",
        () => "a device",
    }
}

// ---- the path ----

/// The end of a path.
pub(crate) struct WalkResult {
    /// The directory, open as a name alone.
    pub directory: File,
    /// The name in it.
    pub name: OsString,
    /// `None` if the name is free.
    pub object: Option<(File, Metadata)>,
}

/// Why a path cannot be walked.
pub(crate) enum Obstacle {
    /// A system call failed.
    System(io::Error),
    /// Another user may have put something there.
    Refused(String),
}

impl Obstacle {
    fn on_the_way_to(self, path: &Path) -> Failure {
        match self {
            Self::System(error) => broken(path, &error),
            Self::Refused(why) => refused(path, &why),
        }
    }
}

impl WalkResult {
    /// Opens the object without waiting. Fails if it is not the one with the metadata `found` any more.
    fn open_for_writing(&self, found: &Metadata) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = File::from(openat(&self.directory, &self.name, flags, Mode::empty())?);
        match opened.metadata().map(|opened| identity(&opened))? == identity(found) {
            true => Ok(opened),
            false => Err(io::Error::other("it was replaced meanwhile")),
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Walks a path: see the module.
pub(crate) fn walk(path: &Path) -> Result<WalkResult, Obstacle> {
    let failed = Obstacle::System;
    let planted = |name: &OsStr, metadata: &Metadata| {
        let (owner, name, kind) = (metadata.uid(), printable(&name.to_string_lossy()), kind(metadata));
        Obstacle::Refused(format!("user {owner} made '{name}', {kind}, in a directory that others may write"))
    };
    let nameless = || Obstacle::Refused("it is an open file that has no name".to_owned());
    let mut directory = start(path.as_os_str()).map_err(failed)?;
    let mut names = components(path.as_os_str());
    let mut links = 0;
    // The file of a descriptor in `/proc`: the path that the link shows must lead to this file.
    let mut wanted = None;
    while let Some(name) = names.pop_front() {
        let is_last = names.is_empty();
        let object = match openat(&directory, &name, NAME_ALONE, Mode::empty()) {
            Err(Errno::NOENT) if wanted.is_some() => return Err(nameless()),
            Err(Errno::NOENT) if is_last => return Ok(WalkResult { directory, name, object: None }),
            opened => File::from(opened.map_err(|errno| failed(errno.into()))?),
        };
        let metadata = object.metadata().map_err(failed)?;
        let is_link = metadata.is_symlink();
        let is_stream = metadata.file_type().is_fifo() || metadata.file_type().is_char_device();
        if (is_link || is_stream) && may_be_planted(&directory.metadata().map_err(failed)?, &metadata) {
            return Err(planted(&name, &metadata));
        }
        if !is_link && is_last {
            return match wanted.is_none_or(|wanted| wanted == identity(&metadata)) {
                true => Ok(WalkResult { directory, name, object: Some((object, metadata)) }),
                false => Err(nameless()),
            };
        }
        if !is_link {
            directory = object;
            continue;
        }
        links += 1;
        if links > MAX_LINKS || follows_no_links(&object) {
            return Err(failed(Errno::LOOP.into()));
        }
        if fstatfs(&directory).is_ok_and(|system| system.f_type == PROC) {
            let target = openat(&directory, &name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            let target = File::from(target.map_err(|errno| failed(errno.into()))?);
            let metadata = target.metadata().map_err(failed)?;
            if metadata.is_file() {
                wanted = Some(identity(&metadata));
            } else if is_last {
                return Ok(WalkResult { directory, name, object: Some((target, metadata)) });
            } else {
                directory = target;
                continue;
            }
        }
        let text = readlinkat(&object, "", Vec::new()).map_err(|errno| failed(errno.into()))?;
        let text = OsString::from_vec(text.into_bytes());
        if text.as_bytes().starts_with(b"/") {
            directory = start(&text).map_err(failed)?;
        }
        for name in components(&text).into_iter().rev() {
            names.push_front(name);
        }
    }
    Err(failed(Errno::NOENT.into()))
}

/// The directory in which a path begins.
fn start(path: &OsStr) -> io::Result<File> {
    let start = if path.as_bytes().starts_with(b"/") { "/" } else { "." };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(File::from(openat(CWD, start, flags, Mode::empty())?))
}

/// The names in a path. A slash at its end means a directory, as for the system.
fn components(path: &OsStr) -> VecDeque<OsString> {
    let bytes = path.as_bytes();
    let names = bytes.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
    let end = (bytes.ends_with(b"/")).then_some(&b"."[..]);
    names.chain(end).map(|name| OsStr::from_bytes(name).to_owned()).collect()
}

fn follows_no_links(link: &File) -> bool {
    fstatvfs(link).is_ok_and(|mount| mount.f_flag.bits() & NO_LINKS != 0)
}

// ---- a FIFO or a terminal ----

fn open_fifo(path: &Path, found: &WalkResult, metadata: &Metadata, left: Duration) -> Result<File, Failure> {
    let until = Instant::now() + left;
    loop {
        match found.open_for_writing(metadata) {
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    let failure =
                        failed(Kind::Temporary, path, "no process read this FIFO within the deadline");
                    return Err(match shell_word(path) {
                        Some(path) => failure.hint(format!("cat {path} &   # then try again")),
                        None => failure,
                    });
                }
                std::thread::sleep(left.min(READER_PAUSE));
            }
            opened => return opened.map_err(|error| broken(path, &error)),
        }
    }
}

fn write_through(mut stream: &File, bytes: &[u8], left: Duration) -> io::Result<()> {
    let until = Instant::now() + left;
    let mut rest = bytes;
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let left = Timespec::try_from(until.saturating_duration_since(Instant::now()));
                let left = left.map_err(io::Error::other)?;
                match poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&left)) {
                    Ok(0) => return Err(io::Error::other("its reader did not read it within the deadline")),
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

// ---- a file that is replaced ----

fn replace(directory: &File, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        sweep(directory);
        match replace_once(directory, name, bytes) {
            Err(error) if error.kind() == ErrorKind::NotFound && tries < MAX_TRIES => {}
            replaced => {
                replaced?;
                // Not every file system can sync a directory, and a directory may be closed to reading.
                let _ = readable(directory).and_then(|directory| directory.sync_all());
                return Ok(());
            }
        }
    }
}

fn replace_once(directory: &File, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{TEMPORARY}{}.{}", std::process::id(), system::nonce()?);
    let nameless = create(directory, OsStr::new("."), OFlags::TMPFILE, bytes);
    let is_named =
        |name: &OsStr| nameless.as_ref().is_ok_and(|file| give_name(file, directory, name).is_ok());
    if is_named(name) {
        return Ok(());
    }
    match kind_of(directory, name) {
        Ok(FileType::RegularFile) | Err(Errno::NOENT) => {}
        Ok(_) => return Err(io::Error::other("it is no longer a regular file")),
        Err(errno) => return Err(errno.into()),
    }
    // A name that is in use can only be taken by a file that has another one.
    let replaced = match is_named(temporary.as_ref()) {
        true => Ok(()),
        false => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
            create(directory, temporary.as_ref(), flags, bytes).map(drop)
        }
    };
    let replaced = replaced.and_then(|()| Ok(renameat(directory, &temporary, directory, name)?));
    if replaced.is_err() {
        let _ = unlinkat(directory, &temporary, AtFlags::empty());
    }
    replaced
}

fn create(directory: &File, name: &OsStr, flags: OFlags, bytes: &[u8]) -> io::Result<File> {
    let flags = flags | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut file = File::from(openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?);
    // The umask may take rights from the owner, too.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

fn give_name(file: &File, directory: &File, name: &OsStr) -> rustix::io::Result<()> {
    let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(CWD, opened, directory, name, AtFlags::SYMLINK_FOLLOW)
}

fn kind_of(directory: &File, name: &OsStr) -> rustix::io::Result<FileType> {
    statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map(|status| FileType::from_raw_mode(status.st_mode))
}

fn readable(directory: &File) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(File::from(openat(directory, ".", flags, Mode::empty())?))
}

/// Removes this user's temporary files of processes that have ended. If that fails, the next write tries again.
fn sweep(directory: &File) {
    let Ok(entries) = readable(directory).and_then(|directory| Ok(Dir::new(directory)?)) else { return };
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_owned()));
    let is_abandoned = |name: &CString| {
        let name = name.to_str().unwrap_or_default();
        let process = name.strip_prefix(TEMPORARY).and_then(|name| name.split('.').next()?.parse().ok());
        let process = process.and_then(Pid::from_raw);
        // This process has no temporary file now: a file with its identifier is of an earlier process.
        let is_gone =
            |process| process == rustix::process::getpid() || test_kill_process(process) == Err(Errno::SRCH);
        process.is_some_and(is_gone)
    };
    for name in names.filter(is_abandoned) {
        let status = statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW);
        let is_own = |status: rustix::fs::Stat| {
            FileType::from_raw_mode(status.st_mode).is_file() && status.st_uid == geteuid().as_raw()
        };
        if status.is_ok_and(is_own) {
            let _ = unlinkat(directory, &name, AtFlags::empty());
        }
    }
}
