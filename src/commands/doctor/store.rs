//! The place of the document: what it is, whether a refresh could be stored there, and who can read it.

use super::{Check, path_hint};
use crate::error::{Failure, Kind};
use crate::profile::Context;
use crate::store::files::ProfileFiles;
use crate::text::{describe, printable};
use rustix::fs::{Access, access, statfs, statvfs};
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The room that an answer takes at most, but for the very long ones, in bytes.
const ROOM: u64 = 128 << 10;

/// The kinds of file system that people know by name (statfs(2)), and whether other machines, or other mounts of the
/// same files, may not see the locks that are held here.
const FILE_SYSTEMS: [(i64, &str, bool); 17] = [
    (0xef53, "ext4", false),
    (0x5846_5342, "xfs", false),
    (0x9123_683e, "btrfs", false),
    (0x0102_1994, "tmpfs", false),
    (0x794c_7630, "overlayfs", false),
    (0xf2f5_2010, "f2fs", false),
    (0x2fc1_2fc1, "zfs", false),
    (0x6969, "nfs", true),
    (0xff53_4d42, "cifs", true),
    (0xfe53_4d42, "smb", true),
    (0x517b, "smbfs", true),
    (0x0102_1997, "9p", true),
    (0x6573_5546, "fuse", true),
    (0x0bd0_0bd0, "lustre", true),
    (0x00c3_6400, "ceph", true),
    (0x7461_636f, "ocfs2", true),
    (0x786f_4256, "vboxsf", true),
];

/// What is known of the file system of `path`: its name, and whether its locks may be unknown elsewhere.
pub fn file_system(path: &Path) -> (String, bool) {
    let Ok(status) = statfs(path) else {
        return ("an unknown file system".to_owned(), false);
    };
    let known = FILE_SYSTEMS.iter().find(|(kind, ..)| *kind == status.f_type);
    known.map_or_else(
        || (format!("file system {:#x}", status.f_type), false),
        |(_, name, is_shared)| ((*name).to_owned(), *is_shared),
    )
}

/// `unreadable` is why the document cannot be used.
pub fn checks(context: &Context, unreadable: Option<&Failure>) -> Vec<Check> {
    let Some(store) = context.store.file() else {
        return vec![match unreadable {
            Some(failure) => Check::fail("store", failure.clone()),
            None => Check::ok("store", context.store.location()),
        }];
    };
    match fs::metadata(&context.directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let shown = context.directory.display();
            vec![Check::ok("store", format!("{shown} is not there yet: a login creates it"))]
        }
        Err(error) => {
            let message = format!("cannot read {}: {}", context.directory.display(), describe(&error));
            vec![Check::fail("store", Failure::new(Kind::Store, message))]
        }
        Ok(directory) => match store.place() {
            Ok(place) => {
                let mut checks =
                    vec![place_check(context, place, unreadable), permissions(place, &directory)];
                checks.extend(leftovers(place));
                checks
            }
            Err(failure) => vec![Check::fail("store", failure)],
        },
    }
}

fn place_check(context: &Context, place: &ProfileFiles, unreadable: Option<&Failure>) -> Check {
    let directory = &place.directory;
    if let Some(failure) = unreadable {
        return Check::fail("store", failure.clone());
    }
    if let Err(failure) = context.store.check_access() {
        return Check::fail("store", failure);
    }
    let mut what = context.store.location();
    if context.directory.join(place.document.file_name().unwrap_or_default()).is_symlink() {
        what.push_str(&format!(", a link to {}", printable(&place.document.display().to_string())));
    }
    if place.is_mount_point {
        what.push_str(", a mount point that is written in place");
    }
    what.push_str(&format!(", on {}", file_system(directory).0));
    // Some file systems tell no size at all.
    let Some(status) = statvfs(directory).ok().filter(|status| status.f_blocks > 0) else {
        return Check::ok("store", what);
    };
    let free = status.f_bavail.saturating_mul(status.f_frsize);
    let has_no_names = status.f_files > 0 && status.f_favail == 0;
    if free < ROOM || has_no_names {
        let lacking = if has_no_names { "no inodes are".to_owned() } else { format!("{free} bytes are") };
        let message = format!("no room for an answer: {lacking} free in {}", directory.display());
        return Check::fail("store", Failure::new(Kind::Store, message))
            .hint_of(path_hint("df -h", directory));
    }
    Check::ok("store", format!("{what}, {} MiB free", free >> 20))
}

fn permissions(place: &ProfileFiles, directory: &Metadata) -> Check {
    const NAME: &str = "permissions";
    let lock = place.lock();
    if lock.exists() && access(&lock, Access::READ_OK | Access::WRITE_OK).is_err() {
        let message = format!("cannot open {} for writing: every refresh needs it", lock.display());
        return Check::fail(NAME, Failure::new(Kind::Store, message))
            .hint_of(path_hint("ls -la", &place.directory));
    }
    let document = fs::metadata(&place.document).ok();
    let files = [(place.directory.as_path(), Some(directory), "700")];
    let files = files.into_iter().chain([(place.document.as_path(), document.as_ref(), "600")]);
    let mut told = Vec::new();
    let me = rustix::process::geteuid().as_raw();
    for (path, metadata, wanted) in files {
        let Some(metadata) = metadata else {
            continue;
        };
        let (mode, owner) = (metadata.mode() & 0o777, metadata.uid());
        if mode & 0o077 != 0 {
            let what = format!("others can reach {}: its mode is {mode:04o}", path.display());
            return Check::warn(NAME, what).hint_of(path_hint(&format!("chmod {wanted}"), path));
        }
        if owner != me {
            let what =
                format!("{} belongs to user {owner}, and this process runs as user {me}", path.display());
            return Check::warn(NAME, what).hint_of(path_hint("ls -la", &place.directory));
        }
        told.push(format!("{mode:04o}"));
    }
    let what = match &told[..] {
        [directory, document] => format!("directory {directory}, document {document}, user {me}"),
        _ => format!("directory {}, user {me}", told.concat()),
    };
    Check::ok(NAME, what)
}

/// Documents that a login kept aside: nobody else looks at them again, and they hold tokens.
fn leftovers(place: &ProfileFiles) -> Option<Check> {
    let prefix = place.sidecar("~unreadable.");
    let prefix = prefix.file_name()?.to_str()?;
    let names = crate::store::open::names_in(&place.directory).ok()?;
    let mut kept = names.iter().filter(|name| name.to_str().is_some_and(|name| name.starts_with(prefix)));
    let path = place.directory.join(kept.next()?);
    let more = match kept.count() {
        0 => String::new(),
        count => format!(", and {count} more"),
    };
    let what = format!("an unreadable document was kept as {}{more}", path.display());
    Some(Check::warn("leftovers", what).hint_of(path_hint("rm -i", &path)))
}
