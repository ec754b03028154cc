//! The store of a profile, of any kind: [`Store`], and what login, logout and the list of profiles need beside it.

use crate::error::Failure;
use crate::globals::Globals;
use crate::grant::Document;
use crate::session::LockUse;
use crate::store::Store;
use crate::store::broker::BrokerStore;
use crate::store::cell::{self, CellStore};
use crate::store::file::FileStore;
use crate::store::files::ProfileFiles;
use crate::store::helper::{self, HelperStore};
use crate::store_address::StoreAddress;
use crate::system::SystemClock;
use crate::text::printable;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

/// The store of one profile. To make it does no I/O.
pub enum ProfileStore {
    /// A file store.
    File(FileStore),
    /// A helper store.
    Helper(HelperStore),
    /// A cell of etcd or Kubernetes.
    Cell(CellStore),
    /// A broker.
    Broker(BrokerStore),
}

impl ProfileStore {
    /// The store and profile that options and environment name. The deadline counts from the start of `clock`.
    pub fn new(globals: &Globals, clock: SystemClock) -> Self {
        let profile = globals.profile.as_str();
        let left = globals.timeout.saturating_sub(clock.now().elapsed);
        match &globals.store {
            StoreAddress::File(directory) => Self::File(FileStore::new(directory, profile)),
            StoreAddress::Helper { program, .. } => {
                let is_required = globals.lock == LockUse::Require;
                let store =
                    HelperStore::new(program, &local_directory(&globals.store), profile, globals.timeout);
                let store = store.ending_in(left);
                Self::Helper(if is_required { store.refused() } else { store })
            }
            StoreAddress::Cell(address, _) => {
                let store =
                    CellStore::new(cell::cell_at(address, profile), local_directory(&globals.store), left);
                Self::Cell(store.trusted(globals.trusts_store))
            }
            StoreAddress::Broker(address) => Self::Broker(BrokerStore::new(address, globals.timeout, clock)),
        }
    }

    /// The file store, if it is one.
    pub fn file(&self) -> Option<&FileStore> {
        match self {
            Self::File(store) => Some(store),
            Self::Helper(_) | Self::Cell(_) | Self::Broker(_) => None,
        }
    }

    /// The broker, if it is one.
    pub fn broker(&self) -> Option<&BrokerStore> {
        match self {
            Self::Broker(store) => Some(store),
            Self::File(_) | Self::Helper(_) | Self::Cell(_) => None,
        }
    }

    /// The files with the lock and the records, if the store has files.
    pub(crate) fn profile_files(&self) -> Option<Result<&ProfileFiles, Failure>> {
        match self {
            Self::File(store) => Some(store.files()),
            Self::Helper(store) => Some(store.files()),
            Self::Cell(_) | Self::Broker(_) => None,
        }
    }

    /// Waits for `duration`. A cell with a claim of another process waits for a change instead: see [`CellStore::pause`].
    pub fn pause(&self, duration: Duration) {
        match self {
            Self::File(_) | Self::Helper(_) | Self::Broker(_) => std::thread::sleep(duration),
            Self::Cell(store) => store.pause(duration),
        }
    }

    /// Whether a document of this size can be written. A login checks this before it asks a person for anything.
    pub fn check_writable(&self, bytes: u64) -> Result<(), Failure> {
        match self {
            Self::File(store) => store.check_writable(bytes),
            Self::Helper(store) => store.check_writable(),
            Self::Cell(store) => store.check_writable(),
            Self::Broker(_) => Err(BrokerStore::other_side()),
        }
    }

    /// Fails if this document could not be used here, because it names programs or files and the store is not trusted.
    pub fn check_trust(&self, document: &Document) -> Result<(), Failure> {
        match self {
            Self::Cell(store) if document.names_sources() => store.distrust().map_or(Ok(()), Err),
            _ => Ok(()),
        }
    }

    /// Whether a refresh could be stored, as far as this can be found out without a change.
    pub fn check_access(&self) -> Result<(), Failure> {
        match self {
            Self::File(store) => store.check_access(),
            Self::Helper(store) => store.check_access(),
            Self::Cell(store) => store.check_access(),
            Self::Broker(_) => Err(BrokerStore::other_side()),
        }
    }

    /// Copies an unreadable document to another file, so that a login can replace it. Returns the path of the copy as text to
    /// show.
    pub fn set_aside(&self) -> Result<String, Failure> {
        let path = match self {
            Self::File(store) => store.set_aside(),
            Self::Helper(store) => store.set_aside(),
            Self::Cell(store) => store.set_aside(),
            Self::Broker(_) => Err(BrokerStore::other_side()),
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
            Self::Broker(store) => store,
        }
    }
}

/// The profiles that the store keeps, sorted.
pub fn profiles(globals: &Globals, clock: SystemClock) -> Result<Vec<String>, Failure> {
    let left = globals.timeout.saturating_sub(clock.now().elapsed);
    match &globals.store {
        StoreAddress::File(directory) => FileStore::profiles(directory),
        StoreAddress::Helper { program, .. } => helper::profiles(program),
        StoreAddress::Cell(address, _) => cell::profiles_at(address, left),
        StoreAddress::Broker(address) => {
            let profile = BrokerStore::new(address, globals.timeout, clock).profile_if_any()?;
            Ok(profile.and_then(|profile| profile.profile).into_iter().collect())
        }
    }
}

/// The directory of the files that a store has on this machine: history, answers, the lock of a helper store.
pub fn local_directory(address: &StoreAddress) -> PathBuf {
    match address {
        StoreAddress::File(directory) => directory.clone(),
        // A profile name has no tilde.
        StoreAddress::Cell(address, home) => home.join(format!("~{}", address.kind_name())),
        StoreAddress::Helper { program, home } => {
            home.join(format!("~helper.{}", StoreAddress::helper_name(program)))
        }
        // A broker has none: see [`super::Context::local_file`].
        StoreAddress::Broker(_) => PathBuf::new(),
    }
}
