//! Opening files in a directory that others may write to: never through a planted link, never a FIFO, never more
//! than a bound, and with the owner that the document has.

use crate::error::{Failure, Kind, printable};
use crate::grant::DOCUMENT_LIMIT;
use rustix::fs::{Dir, OFlags};
use rustix::process::geteuid;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

/// Whether the last component of a path may be a symbolic link: the document may, our own files never are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    Follow,
    Refuse,
}

/// The owner that a user namespace shows for each user that it does not know (proc_sys_kernel(5), `overflowuid`): two files
/// with this owner may belong to two users.
const UNKNOWN_USER: u32 = 65534;

/// Whether this link or FIFO is in a sticky directory that others may write, and neither the caller nor the owner of the
/// directory owns it. Does not depend on `fs.protected_symlinks` (proc_sys_fs(5)).
pub(crate) fn may_be_planted(directory: &Metadata, entry: &Metadata) -> bool {
    const STICKY: u32 = 0o1000;
    const OTHERS_WRITE: u32 = 0o022;
    let is_shared = directory.mode() & STICKY != 0 && directory.mode() & OTHERS_WRITE != 0;
    let is_of_its_owner = entry.uid() == directory.uid() && entry.uid() != UNKNOWN_USER;
    is_shared && entry.uid() != geteuid().as_raw() && !is_of_its_owner
}

/// What a person should know about the document at `path`: others can read it.
pub(super) fn warning(document: &Metadata, path: &Path) -> Option<Failure> {
    let mode = document.mode() & 0o777;
    (mode & 0o077 != 0).then(|| {
        let shown = printable(&path.display().to_string());
        let message = format!("others can read {shown}: its mode is {mode:04o}");
        hint(Failure::new(Kind::Store, message), "chmod 600", path)
    })
}

/// Why nothing is run or read that the document at `path` names: its owner is neither the caller nor root, or others may
/// write it. An access control list that lets others write shows in the group's bits (acl(5)).
pub(super) fn distrust(document: &Metadata, path: &Path) -> Option<Failure> {
    let (owner, mode, me) = (document.uid(), document.mode() & 0o777, geteuid().as_raw());
    let is_foreign = owner != me && owner != 0;
    let is_writable = mode & 0o022 != 0;
    let why = match (is_foreign, is_writable) {
        (false, false) => return None,
        (true, _) => format!("the document belongs to user {owner}"),
        (false, true) => format!("others may write the document: its mode is {mode:04o}"),
    };
    let shown = printable(&path.display().to_string());
    let failure = Failure::new(Kind::Store, format!("cannot run or read what {shown} names: {why}"));
    let Some(path) = shell_word(path) else { return Some(failure) };
    let mut commands = Vec::new();
    if is_foreign {
        commands.push(format!("{}chown {me} {path}", if me == 0 { "" } else { "sudo " }));
    }
    if is_writable {
        let is_allowed = is_foreign || owner == me || me == 0;
        commands.push(format!("{}chmod go-w {path}", if is_allowed { "" } else { "sudo " }));
    }
    Some(failure.hint(commands.join(" && ")))
}

/// Reads a regular file of at most [`DOCUMENT_LIMIT`] bytes.
pub(super) fn read(path: &Path, links: Links) -> io::Result<(Vec<u8>, Metadata)> {
    let nofollow = if links == Links::Refuse { OFlags::NOFOLLOW } else { OFlags::empty() };
    let flags = (OFlags::NONBLOCK | nofollow).bits().cast_signed(); // a FIFO must not block
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let size = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    if size > DOCUMENT_LIMIT {
        return Err(io::Error::other(format!("it is larger than {DOCUMENT_LIMIT} bytes")));
    }
    let mut bytes = vec![0; size];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok((bytes, metadata))
}

/// The names in a directory. `std::fs::read_dir` panics where closing the directory fails.
pub(crate) fn names_in(directory: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::new(File::open(directory)?)? {
        names.push(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned());
    }
    Ok(names)
}

/// Creates a file that was not there, mode 0600: a name of ours cannot have been prepared by anybody.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // Some users' umask takes the owner's rights, too.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Gives `file` the owner, group and mode of the document at `like`, before anything stands in it. Where the group
/// cannot be given, its members lose what they could read, rather than another group winning it.
pub(super) fn keep_owner_and_mode(file: &File, like: &Path) -> io::Result<()> {
    let Ok(old) = fs::metadata(like) else {
        return Ok(());
    };
    give(file, &old)?;
    let new = file.metadata()?;
    let kept = if new.gid() == old.gid() { 0o777 } else { 0o707 };
    match old.mode() & kept {
        mode if mode == new.mode() & 0o777 => Ok(()),
        mode => file.set_permissions(Permissions::from_mode(mode)),
    }
}

/// Gives `file` to the owner of `directory` where root created it: `sudo` must not lock the owner out.
pub(crate) fn give_to_owner_of(file: &File, directory: &Path) -> io::Result<()> {
    match geteuid().is_root() {
        true => give(file, &fs::metadata(directory)?),
        false => Ok(()),
    }
}

/// Only root can give a file away, others can give it to a group of theirs; what cannot be done stays undone.
fn give(file: &File, like: &Metadata) -> io::Result<()> {
    let new = file.metadata()?;
    if (new.uid(), new.gid()) != (like.uid(), like.gid())
        && fchown(file, Some(like.uid()), Some(like.gid())).is_err()
    {
        let _ = fchown(file, None, Some(like.gid()));
    }
    Ok(())
}

/// A path for a hint: as a shell takes it. None where a terminal would show another path than there is.
pub(crate) fn shell_word(path: &Path) -> Option<String> {
    let text = path.to_str()?;
    if printable(text) != text {
        return None;
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+,:@%".contains(&byte);
    Some(match text.bytes().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    })
}

/// The hint `COMMAND PATH`, where the path can be shown.
pub(super) fn hint(failure: Failure, command: &str, path: &Path) -> Failure {
    match shell_word(path) {
        Some(path) => failure.hint(format!("{command} {path}")),
        None => failure,
    }
}
