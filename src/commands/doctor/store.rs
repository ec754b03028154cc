//! The store: what it is, whether a refresh could be stored there, and which users can read it.

use super::{Check, path_hint};
use crate::error::{Failure, Kind};
use crate::profile::Context;
use crate::store::files::ProfileFiles;
use crate::system::file_system::file_system;
use crate::text::{describe, printable};
use rustix::fs::{Access, access, statvfs};
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

/// The space that almost every answer fits in, in bytes.
const SPACE_BYTES: u64 = 128 << 10;

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
        Ok(directory) => match store.files() {
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
    what.push_str(&format!(", on {}", file_system(directory).name));
    // Some file systems report no size.
    let Some(status) = statvfs(directory).ok().filter(|status| status.f_blocks > 0) else {
        return Check::ok("store", what);
    };
    let free = status.f_bavail.saturating_mul(status.f_frsize);
    let has_no_names = status.f_files > 0 && status.f_favail == 0;
    if free < SPACE_BYTES || has_no_names {
        let lacking = if has_no_names { "no inodes are".to_owned() } else { format!("{free} bytes are") };
        let message = format!("no space for an answer: {lacking} free in {}", directory.display());
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
    let mut modes = Vec::new();
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
        modes.push(format!("{mode:04o}"));
    }
    let what = match &modes[..] {
        [directory, document] => format!("directory {directory}, document {document}, user {me}"),
        _ => format!("directory {}, user {me}", modes.concat()),
    };
    Check::ok(NAME, what)
}

/// Unreadable documents that a login kept aside. They hold tokens, and no command uses them again.
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
