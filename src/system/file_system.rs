//! File systems: their names, and whether another machine may see the same files.

use rustix::fs::statfs;
use std::path::Path;

/// Where the files of a file system are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// On this machine's own disks or in its memory. The kernel answers lock calls at once.
    Local,
    /// Another machine, or another mount of the same files, may not see the locks that are held here.
    Shared,
    /// The file system is not in the table: a lock call may hang, as on a shared one.
    Unknown,
}

/// A file system, for people and for decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// Its name, for a message.
    pub name: String,
    /// Where its files are.
    pub reach: Reach,
}

/// The file systems that people know by name (statfs(2)).
const FILE_SYSTEMS: [(i64, &str, Reach); 17] = [
    (0xef53, "ext4", Reach::Local),
    (0x5846_5342, "xfs", Reach::Local),
    (0x9123_683e, "btrfs", Reach::Local),
    (0x0102_1994, "tmpfs", Reach::Local),
    (0x794c_7630, "overlayfs", Reach::Local),
    (0xf2f5_2010, "f2fs", Reach::Local),
    (0x2fc1_2fc1, "zfs", Reach::Local),
    (0x6969, "nfs", Reach::Shared),
    (0xff53_4d42, "cifs", Reach::Shared),
    (0xfe53_4d42, "smb", Reach::Shared),
    (0x517b, "smbfs", Reach::Shared),
    (0x0102_1997, "9p", Reach::Shared),
    (0x6573_5546, "fuse", Reach::Shared),
    (0x0bd0_0bd0, "lustre", Reach::Shared),
    (0x00c3_6400, "ceph", Reach::Shared),
    (0x7461_636f, "ocfs2", Reach::Shared),
    (0x786f_4256, "vboxsf", Reach::Shared),
];

/// The file system of the file or directory at `path`.
pub fn file_system(path: &Path) -> FileSystem {
    let Ok(status) = statfs(path) else {
        return FileSystem { name: "an unknown file system".to_owned(), reach: Reach::Unknown };
    };
    match row(status.f_type) {
        Some((name, reach)) => FileSystem { name: name.to_owned(), reach },
        None => FileSystem { name: format!("file system {:#x}", status.f_type), reach: Reach::Unknown },
    }
}

/// Whether the kernel itself answers a lock call on the file at `path` that does not wait. On other file systems a silent
/// server can keep the call waiting.
pub fn answers_lock_calls_at_once(path: &Path) -> bool {
    let status = statfs(path.parent().unwrap_or(path));
    status.is_ok_and(|status| matches!(row(status.f_type), Some((_, Reach::Local))))
}

fn row(kind: i64) -> Option<(&'static str, Reach)> {
    FILE_SYSTEMS.iter().find(|(found, ..)| *found == kind).map(|(_, name, reach)| (*name, *reach))
}
