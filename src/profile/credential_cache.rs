//! The files in which `helper aws` keeps credentials for the next process: one for each role, beside the document or, if the
//! store has no files of documents, in the directory of its files on this machine. See "Credentials of AWS" in `docs/design.md`.
//!
//! No file here is needed: a process that cannot read, write or lock one makes a request of its own.

use super::Context;
use super::token_file::TokenFile;
use crate::adapters::aws_cache;
use crate::error::{Failure, Kind};
use crate::grant::Secret;
use crate::lock::{Locked, Locker};
use crate::protocol::sts::Role;
use crate::session::LockMode;
use crate::store::files::digits;
use crate::store_address::StoreAddress;
use crate::system::secret::read_text;
use crate::system::shared;
use crate::system::small_files::{create_directory_of, open_regular, with_suffix};
use crate::system::trust::user;
use crate::text::{describe, printable, shell_word};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the end of each name begins. A profile name has no tilde.
const SUFFIX: &str = "~aws.";

/// The end of the lock file's name.
const LOCK: &str = ".lock";

/// The longest file that is read, in bytes. A session token has a few thousand.
const SIZE_LIMIT: usize = 256 << 10;

/// The file for one role.
pub struct CredentialCache {
    /// The digest of store, profile, role and server.
    pub key: String,
    /// `None`: there is no place for the file.
    path: Option<PathBuf>,
}

impl CredentialCache {
    /// The file for this role. To name it does no I/O but to find the document.
    pub fn new(role: &Role, context: &Context) -> Self {
        let store = match &context.globals.store {
            // The file is beside the document, which may have several paths.
            StoreAddress::File(_) => "file:".into(),
            address => address.text(),
        };
        let key = aws_cache::key(&store.to_string_lossy(), context.globals.profile.as_str(), role);
        // The file has the whole key.
        let path = context.local_file(&format!("{SUFFIX}{}", digits(&key))).ok();
        Self { path, key }
    }

    /// What the file has. `None` if there is none, or if another user may have written or read it.
    pub fn read(&self) -> Option<Secret> {
        let path = self.path.as_deref()?;
        if shared::is_shared(path) {
            shared::forget(path);
        }
        read(path).ok()
    }

    /// Replaces the file. A failure is a warning: the credentials can be used all the same.
    pub fn write(&self, bytes: &[u8], left: Duration) -> Result<(), Failure> {
        let Some(path) = &self.path else { return Ok(()) };
        let _ = create_directory_of(path);
        // A link or a FIFO in the place of the file is not followed: no process would find the credentials there.
        if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
            let _ = fs::remove_file(path);
        }
        TokenFile::find(path).and_then(|file| file.write(bytes, left)).map_err(|failure| {
            let message = format!("the credentials are not kept for other processes: {}", failure.message);
            Failure { message, ..failure }
        })
    }

    /// Removes the file.
    pub fn remove(&self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }

    /// Takes the lock of the file. It keeps apart requests for the same credentials, and nothing else depends on it.
    pub fn lock(&self, mode: LockMode, at_most: Duration) -> Locked {
        let Some(path) = &self.path else { return Locked::Refused("there is no place for it".to_owned()) };
        let _ = create_directory_of(path);
        let path = with_suffix(path, LOCK);
        let is_local = !shared::is_shared(&path);
        Locker::new(path.clone(), is_local).lock(mode, at_most, |error| {
            let shown = printable(&path.display().to_string());
            Failure::new(Kind::Store, format!("cannot lock {shown}: {}", describe(error)))
        })
    }
}

/// Removes the files of all roles of this profile, whose grant is gone. Prints a warning about each that stays.
pub fn remove_all(context: &Context) {
    for path in context.local_files(SUFFIX) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let shown = printable(&path.display().to_string());
                let message = format!("credentials of AWS stay in {shown}: {}", describe(&error));
                let hint = shell_word(&path).map(|path| format!("rm {path}"));
                context.warn(&Failure::new(Kind::Store, message).hint_of(hint.as_deref()));
            }
            _ => {}
        }
    }
}

fn read(path: &Path) -> io::Result<Secret> {
    let mut file = open_regular(path, OpenOptions::new().read(true))?;
    let metadata = file.metadata()?;
    let directory = fs::metadata(path.parent().unwrap_or(path))?;
    let is_own = [user(), 0, directory.uid()].contains(&metadata.uid());
    match is_own && metadata.mode() & 0o077 == 0 {
        true => read_text(&mut file, SIZE_LIMIT),
        false => Err(io::Error::other("it is not a file of this user alone")),
    }
}
