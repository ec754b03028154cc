//! The files of a profile: the document behind its symbolic links, and the sidecars beside it. See "Files" in
//! `docs/design.md`.

use super::{open, sorted};
use crate::error::{Failure, Kind};
use crate::system::{shared, trust};
use crate::text::{describe, printable, shell_word};
use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

/// How many symbolic links are followed, as in Linux itself.
const MAX_LINKS: usize = 40;

/// How many hexadecimal digits of a hash are in a file name. No two refresh tokens of a profile have the same ones.
const DIGITS: usize = 16;

/// The files of one profile. The sidecars lie beside the real document, so that every path to it, another HOME or a
/// symbolic link, leads to the same lock.
#[derive(Clone, Debug)]
pub(crate) struct ProfileFiles {
    /// The document itself, behind its links.
    pub document: PathBuf,
    /// The directory of the document and its sidecars.
    pub directory: PathBuf,
    /// How the names of all sidecars begin.
    stem: OsString,
    /// The document is a mount point: it cannot be renamed over.
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
                // It is no link, or it does not exist: only the directory is left to resolve.
                Err(_) => return Self::without_link(&path),
            }
        }
        Err(io::Error::from_raw_os_error(rustix::io::Errno::LOOP.raw_os_error()))
    }

    fn without_link(path: &Path) -> io::Result<Self> {
        let directory = std::fs::canonicalize(parent(path))?;
        let name = path.file_name().unwrap_or(OsStr::new("default.json"));
        let is_json = Path::new(name).extension() == Some(OsStr::new("json"));
        let stem = if is_json { Path::new(name).file_stem().unwrap_or(name) } else { name };
        let document = directory.join(name);
        let (is_mount_point, is_shared) = (is_mount_point(&document), shared::is_shared(&document));
        Ok(Self { is_mount_point, is_shared, stem: stem.to_owned(), document, directory })
    }

    /// The lock file: a sidecar, because a lock on the document is lost when the document is replaced. A document that is a
    /// mount point is never replaced, and other mounts do not see its sidecars. So it is locked itself.
    pub fn lock(&self) -> PathBuf {
        if self.is_mount_point { self.document.clone() } else { self.sidecar(".lock") }
    }

    /// The attempt record with this number.
    pub fn record(&self, key: &str, number: u64) -> PathBuf {
        self.sidecar(&format!("{}{number}", record_prefix(key)))
    }

    /// The room for the answer of the attempt with this number.
    pub fn answer(&self, key: &str, number: u64) -> PathBuf {
        self.sidecar(&format!("{}{number}", answer_prefix(key)))
    }

    /// A file that is renamed or removed within milliseconds.
    pub fn temporary(&self, nonce: &str) -> PathBuf {
        self.sidecar(&format!("{TEMPORARY}{nonce}"))
    }

    /// The file for unreadable bytes that a login replaces. It is never overwritten.
    pub fn set_aside(&self, nonce: &str) -> PathBuf {
        self.sidecar(&format!("~unreadable.{nonce}"))
    }

    /// The file beside the document with this end of its name.
    pub fn sidecar(&self, suffix: &str) -> PathBuf {
        let mut name = self.stem.clone();
        name.push(suffix);
        self.directory.join(name)
    }

    /// The records of one key with their numbers, sorted.
    pub fn records(&self, key: &str) -> io::Result<Vec<(u64, PathBuf)>> {
        let sidecars = self.sidecars()?.into_iter();
        let numbered = |sidecar: Sidecar| Some((sidecar.record_number(key)?, sidecar.path));
        Ok(sorted(sidecars.filter_map(numbered), |(number, _)| *number))
    }

    /// The records, answers and temporary files of this document.
    pub fn sidecars(&self) -> io::Result<Vec<Sidecar>> {
        let stem = self.stem.as_encoded_bytes();
        let mut sidecars = Vec::new();
        for name in open::names_in(&self.directory)? {
            let suffix =
                name.as_encoded_bytes().strip_prefix(stem).and_then(|rest| str::from_utf8(rest).ok());
            if let Some(suffix) = suffix
                && [RECORD, ANSWER, TEMPORARY].iter().any(|kind| suffix.starts_with(kind))
            {
                sidecars.push(Sidecar { suffix: suffix.to_owned(), path: self.directory.join(&name) });
            }
        }
        Ok(sidecars)
    }
}

/// A record, an answer or a temporary file.
#[derive(Clone, Debug)]
pub(crate) struct Sidecar {
    pub path: PathBuf,
    /// The end of its name.
    suffix: String,
}

impl Sidecar {
    /// The number, if it is a record or an answer of this key.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.record_number(key).or_else(|| self.number_after(&answer_prefix(key)))
    }

    fn record_number(&self, key: &str) -> Option<u64> {
        self.number_after(&record_prefix(key))
    }

    fn number_after(&self, prefix: &str) -> Option<u64> {
        self.suffix.strip_prefix(prefix)?.parse().ok()
    }

    /// Whether it is an answer, of any key.
    pub fn is_answer(&self) -> bool {
        self.suffix.starts_with(ANSWER)
    }

    /// Whether it is a temporary file.
    pub fn is_temporary(&self) -> bool {
        self.suffix.starts_with(TEMPORARY)
    }
}

// A profile name has no tilde. So no document is taken for a sidecar of another profile.
const RECORD: &str = "~attempt.";
const ANSWER: &str = "~answer.";
const TEMPORARY: &str = "~temporary.";

/// The part of a record's name before its number.
fn record_prefix(key: &str) -> String {
    format!("{RECORD}{}.", digits(key))
}

/// The part of an answer's name before its number.
fn answer_prefix(key: &str) -> String {
    format!("{ANSWER}{}.", digits(key))
}

/// The digits of a SHA-256 that are in a file name.
pub(crate) fn digits(sha256: &str) -> &str {
    sha256.get(..DIGITS).unwrap_or(sha256)
}

/// The directory of `path`.
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

/// What an operation on a file gave; `None` if there is no such file.
pub(super) fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// A failure of the store: what was tried, with which file, and the error of the system.
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
