//! Where the file store's files are: the document behind its symbolic links, and the sidecars beside it.

use super::open;
use crate::error::{Failure, Kind};
use crate::system::{shared, trust};
use crate::text::{describe, printable, shell_word};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

/// How many symbolic links are followed, as in Linux itself.
const MAX_LINKS: usize = 40;

/// How many hexadecimal digits of a key stand in a file name: enough that no two refresh tokens of a profile meet.
const KEY_DIGITS: usize = 16;

/// The real place of a document. The lock and the records lie beside the real file, so that the same file by
/// another path, another HOME or a symbolic link meets the same lock.
#[derive(Clone, Debug)]
pub(crate) struct ProfileFiles {
    pub document: PathBuf,
    pub directory: PathBuf,
    stem: OsString,
    /// The document is a mount point of its own: it cannot be renamed over.
    pub is_mount_point: bool,
    /// Another machine may see the files, too.
    pub is_shared: bool,
}

impl ProfileFiles {
    /// Follows the links of `document`, which need not exist yet.
    pub fn of(document: &Path) -> io::Result<Self> {
        let mut path = document.to_owned();
        for _ in 0..MAX_LINKS {
            match std::fs::read_link(&path) {
                Ok(target) => {
                    if trust::may_be_planted(&parent(&path).metadata()?, &path.symlink_metadata()?) {
                        let shown = printable(&path.display().to_string());
                        return Err(io::Error::other(format!("another user made the link {shown}")));
                    }
                    path = parent(&path).join(target);
                }
                // Not a link, or not there: what is left is to resolve the directory.
                Err(_) => return Self::behind(&path),
            }
        }
        Err(io::Error::from_raw_os_error(rustix::io::Errno::LOOP.raw_os_error()))
    }

    fn behind(path: &Path) -> io::Result<Self> {
        let directory = std::fs::canonicalize(parent(path))?;
        let name = path.file_name().unwrap_or(OsStr::new("default.json"));
        let is_json = Path::new(name).extension() == Some(OsStr::new("json"));
        let stem = if is_json { Path::new(name).file_stem().unwrap_or(name) } else { name };
        let document = directory.join(name);
        let (is_mount_point, is_shared) = (is_mount_point(&document), shared::is_shared(&document));
        Ok(Self { is_mount_point, is_shared, stem: stem.to_owned(), document, directory })
    }

    /// The lock: a sidecar, because a lock on the document itself is lost at its first replacement. A mount point
    /// is never replaced, and its sidecar would be private to the mount: there the document itself is locked.
    pub fn lock(&self) -> PathBuf {
        if self.is_mount_point { self.document.clone() } else { self.sidecar(".lock") }
    }

    pub fn record(&self, key: &str, number: u64) -> PathBuf {
        self.sidecar(&format!("{}{number}", record_prefix(key)))
    }

    pub fn answer(&self, key: &str, number: u64) -> PathBuf {
        self.sidecar(&format!("{}{number}", answer_prefix(key)))
    }

    /// A file of our own, which is renamed or removed within milliseconds.
    pub fn temporary(&self, nonce: &str) -> PathBuf {
        self.sidecar(&format!("{TEMPORARY}{nonce}"))
    }

    /// The old bytes that a login keeps: never overwritten by us.
    pub fn set_aside(&self, nonce: &str) -> PathBuf {
        self.sidecar(&format!("~unreadable.{nonce}"))
    }

    pub fn sidecar(&self, suffix: &str) -> PathBuf {
        let mut name = self.stem.clone();
        name.push(suffix);
        self.directory.join(name)
    }

    /// What follows the stem in the name of a sidecar of this document, and the path.
    pub fn sidecars(&self) -> io::Result<Vec<(String, PathBuf)>> {
        let stem = self.stem.as_encoded_bytes();
        let mut sidecars = Vec::new();
        for name in open::names_in(&self.directory)? {
            let suffix =
                name.as_encoded_bytes().strip_prefix(stem).and_then(|rest| str::from_utf8(rest).ok());
            if let Some(suffix) = suffix
                && [RECORD, ANSWER, TEMPORARY].iter().any(|kind| suffix.starts_with(kind))
            {
                sidecars.push((suffix.to_owned(), self.directory.join(&name)));
            }
        }
        Ok(sidecars)
    }
}

/// A tilde cannot stand in a profile name: no profile's files are taken for another one's sidecars.
const RECORD: &str = "~attempt.";
const ANSWER: &str = "~answer.";
pub(super) const TEMPORARY: &str = "~temporary.";

/// The part of a record's name before its number.
pub(super) fn record_prefix(key: &str) -> String {
    format!("{RECORD}{}.", digits(key))
}

/// The part of an answer's name before its number.
pub(super) fn answer_prefix(key: &str) -> String {
    format!("{ANSWER}{}.", digits(key))
}

fn digits(key: &str) -> &str {
    key.get(..KEY_DIGITS).unwrap_or(key)
}

pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn is_mount_point(path: &Path) -> bool {
    statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS)
        .is_ok_and(|status| status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// A failure of the store: what was tried, where, and what the system said.
pub(super) fn failure(what: &str, path: &Path, error: &io::Error) -> Failure {
    let shown = printable(&path.display().to_string());
    let failure = Failure::new(Kind::Store, format!("cannot {what} {shown}: {}", describe(error)));
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            let me = rustix::process::geteuid().as_raw();
            let shown = shell_word(parent(path));
            failure.hint(format!(
                "ls -la {}   # this process runs as user {me}",
                shown.as_deref().unwrap_or(".")
            ))
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            failure.hint("set ONEGRANT_HOME to a directory that can be written")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            open::hint(failure, "df -h", parent(path))
        }
        _ => failure,
    }
}
