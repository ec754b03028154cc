//! Owners and modes: what another user may have put where this process looks. See "Security rules" in `docs/design.md`.

use crate::error::{Failure, Kind};
use crate::text::{printable, shell_word};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

/// The owner that a user namespace shows for each user that it does not know (proc_sys_kernel(5), `overflowuid`): two files
/// with this owner may belong to two users.
const UNKNOWN_USER: u32 = 65534;

/// The user that this process acts for: the system is asked once.
pub fn user() -> u32 {
    static USER: OnceLock<u32> = OnceLock::new();
    *USER.get_or_init(|| rustix::process::geteuid().as_raw())
}

/// Whether this link or FIFO is in a sticky directory that others may write, and neither the caller nor the owner of the
/// directory owns it. Does not depend on `fs.protected_symlinks` (proc_sys_fs(5)).
pub fn may_be_planted(directory: &Metadata, entry: &Metadata) -> bool {
    const STICKY: u32 = 0o1000;
    const OTHERS_WRITE: u32 = 0o022;
    let is_shared = directory.mode() & STICKY != 0 && directory.mode() & OTHERS_WRITE != 0;
    let is_of_its_owner = entry.uid() == directory.uid() && entry.uid() != UNKNOWN_USER;
    is_shared && entry.uid() != user() && !is_of_its_owner
}

/// Why nothing is run or read that the document at `path` names: its owner is neither the caller nor root, or others may
/// write it. An access control list that lets others write shows in the group's bits (acl(5)).
pub fn distrust(document: &Metadata, path: &Path) -> Option<Failure> {
    let (owner, mode, me) = (document.uid(), document.mode() & 0o777, user());
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
