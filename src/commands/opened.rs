//! The store of a profile, of whatever kind: what a login and a list of profiles need of it beside [`Store`].

use crate::arguments::{Globals, StoreAddress};
use crate::error::{Failure, printable};
use crate::store::Store;
use crate::store::file::FileStore;
use std::ops::Deref;
use std::path::PathBuf;

/// An opened store. Opening costs nothing.
pub enum Opened {
    /// A directory.
    File(FileStore),
}

impl Opened {
    /// The store that the words and the environment name, for their profile.
    pub fn new(globals: &Globals) -> Self {
        match &globals.store {
            StoreAddress::File(directory) => Self::File(FileStore::new(directory, globals.profile.as_str())),
        }
    }

    /// The directory of files, where it is one.
    pub fn file(&self) -> Option<&FileStore> {
        match self {
            Self::File(store) => Some(store),
        }
    }

    /// Finds out before anything is asked of a person whether a document of that many bytes can be written.
    pub fn check_writable(&self, bytes: u64) -> Result<(), Failure> {
        match self {
            Self::File(store) => store.check_writable(bytes),
        }
    }

    /// Whether a refresh could be stored, as far as that can be told without a change.
    pub fn check_access(&self) -> Result<(), Failure> {
        match self {
            Self::File(store) => store.check_access(),
        }
    }

    /// Keeps unreadable bytes beside, so that a login can write a new document. Gives the place, fit to be shown.
    pub fn set_aside(&self) -> Result<String, Failure> {
        match self {
            Self::File(store) => store.set_aside().map(|path| printable(&path.display().to_string())),
        }
    }
}

impl Deref for Opened {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::File(store) => store,
        }
    }
}

/// The profiles that the store keeps, sorted.
pub fn profiles(address: &StoreAddress) -> Result<Vec<String>, Failure> {
    match address {
        StoreAddress::File(directory) => FileStore::profiles(directory),
    }
}

/// Where this store's side files are: what is for people, and no other machine.
pub fn beside(address: &StoreAddress) -> PathBuf {
    match address {
        StoreAddress::File(directory) => directory.clone(),
    }
}
