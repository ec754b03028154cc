//! The store of a profile, of whatever kind: what a login and a list of profiles need of it beside [`Store`].

use crate::error::Failure;
use crate::globals::Globals;
use crate::grant::Document;
use crate::session::LockUse;
use crate::store::Store;
use crate::store::cell::{self, CellStore};
use crate::store::file::FileStore;
use crate::store::files::ProfileFiles;
use crate::store::helper::{self, HelperStore};
use crate::store_address::StoreAddress;
use crate::text::printable;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

/// An opened store. Opening costs nothing.
pub enum ProfileStore {
    /// A directory.
    File(FileStore),
    /// A keyring's helper program.
    Helper(HelperStore),
    /// A value of etcd or of Kubernetes.
    Cell(CellStore),
}

impl ProfileStore {
    /// The store that the words and the environment name, for their profile, when that much of the deadline has passed.
    pub fn new(globals: &Globals, elapsed: Duration) -> Self {
        let (profile, left) = (globals.profile.as_str(), globals.timeout.saturating_sub(elapsed));
        match &globals.store {
            StoreAddress::File(directory) => Self::File(FileStore::new(directory, profile)),
            StoreAddress::Helper { program, .. } => {
                let is_required = globals.lock == LockUse::Require;
                let store = HelperStore::new(program, &beside(&globals.store), profile, globals.timeout);
                let store = store.ending_in(left);
                Self::Helper(if is_required { store.refused() } else { store })
            }
            StoreAddress::Cell(address, _) => {
                let store = CellStore::new(cell::cell_at(address, profile), beside(&globals.store), left);
                Self::Cell(store.trusted(globals.trusts_store))
            }
        }
    }

    /// The directory of files, where it is one.
    pub fn file(&self) -> Option<&FileStore> {
        match self {
            Self::File(store) => Some(store),
            Self::Helper(_) | Self::Cell(_) => None,
        }
    }

    /// Where its lock is, where that is a file.
    pub(crate) fn lock_place(&self) -> Option<Result<&ProfileFiles, Failure>> {
        match self {
            Self::File(store) => Some(store.place()),
            Self::Helper(store) => Some(store.place()),
            Self::Cell(_) => None,
        }
    }

    /// Waits that long, or until somebody else's claim has ended, where the store can tell.
    pub fn pause(&self, duration: Duration) {
        match self {
            Self::File(_) | Self::Helper(_) => std::thread::sleep(duration),
            Self::Cell(store) => store.pause(duration),
        }
    }

    /// Finds out before anything is asked of a person whether a document of that many bytes can be written.
    pub fn check_writable(&self, bytes: u64) -> Result<(), Failure> {
        match self {
            Self::File(store) => store.check_writable(bytes),
            Self::Helper(store) => store.check_writable(),
            Self::Cell(store) => store.check_writable(),
        }
    }

    /// Fails where a document that is stored here could not be used, because of what it names.
    pub fn check_trust(&self, document: &Document) -> Result<(), Failure> {
        match self {
            Self::Cell(store) if document.names_sources() => store.distrust().map_or(Ok(()), Err),
            _ => Ok(()),
        }
    }

    /// Whether a refresh could be stored, as far as that can be told without a change.
    pub fn check_access(&self) -> Result<(), Failure> {
        match self {
            Self::File(store) => store.check_access(),
            Self::Helper(store) => store.check_access(),
            Self::Cell(store) => store.check_access(),
        }
    }

    /// Keeps unreadable bytes beside, so that a login can write a new document. Gives the place, fit to be shown.
    pub fn set_aside(&self) -> Result<String, Failure> {
        let path = match self {
            Self::File(store) => store.set_aside(),
            Self::Helper(store) => store.set_aside(),
            Self::Cell(store) => store.set_aside(),
        };
        path.map(|path| printable(&path.display().to_string()))
    }
}

impl Deref for ProfileStore {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::File(store) => store,
            Self::Helper(store) => store,
            Self::Cell(store) => store,
        }
    }
}

/// The profiles that the store keeps, sorted.
pub fn profiles(address: &StoreAddress, left: Duration) -> Result<Vec<String>, Failure> {
    match address {
        StoreAddress::File(directory) => FileStore::profiles(directory),
        StoreAddress::Helper { program, .. } => helper::profiles(program),
        StoreAddress::Cell(address, _) => cell::profiles_at(address, left),
    }
}

/// Where this store's side files are: what is for people, and no other machine.
pub fn beside(address: &StoreAddress) -> PathBuf {
    match address {
        StoreAddress::File(directory) => directory.clone(),
        // A tilde stands in no profile's name.
        StoreAddress::Cell(address, home) => home.join(format!("~{}", address.kind_name())),
        StoreAddress::Helper { program, home } => {
            home.join(format!("~helper.{}", StoreAddress::helper_name(program)))
        }
    }
}
