//! The store of a profile, of whatever kind: what a login and a list of profiles need of it beside [`Store`].

use crate::arguments::{CellAddress, Globals, ProfileName, StoreAddress};
use crate::error::{Failure, printable};
use crate::store::Store;
use crate::store::cell::CellStore;
use crate::store::cell::etcd::Etcd;
use crate::store::cell::kubernetes::KubernetesSecret;
use crate::store::file::FileStore;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

/// An opened store. Opening costs nothing.
#[expect(clippy::large_enum_variant, reason = "a process holds one")]
pub enum Opened {
    /// A directory.
    File(FileStore),
    /// A key of etcd.
    Etcd(CellStore<Etcd>),
    /// A Kubernetes Secret.
    Kubernetes(CellStore<KubernetesSecret>),
}

impl Opened {
    /// The store that the words and the environment name, for their profile, when that much of the deadline has passed.
    pub fn new(globals: &Globals, elapsed: Duration) -> Self {
        let (profile, left) = (globals.profile.as_str(), globals.timeout.saturating_sub(elapsed));
        match &globals.store {
            StoreAddress::File(directory) => Self::File(FileStore::new(directory, profile)),
            StoreAddress::Cell(CellAddress::Etcd(address, _), home) => {
                Self::Etcd(CellStore::new(Etcd::new(address, profile), home.clone(), left))
            }
            StoreAddress::Cell(CellAddress::Kubernetes(address, _), home) => {
                Self::Kubernetes(CellStore::new(KubernetesSecret::new(address, profile), home.clone(), left))
            }
        }
    }

    /// The directory of files, where it is one.
    pub fn file(&self) -> Option<&FileStore> {
        match self {
            Self::File(store) => Some(store),
            Self::Etcd(_) | Self::Kubernetes(_) => None,
        }
    }

    /// Waits that long, or until somebody else's claim has ended, where the store can tell.
    pub fn pause(&self, duration: Duration) {
        match self {
            Self::File(_) => std::thread::sleep(duration),
            Self::Etcd(store) => store.pause(duration),
            Self::Kubernetes(store) => store.pause(duration),
        }
    }

    /// Finds out before anything is asked of a person whether a document of that many bytes can be written.
    pub fn check_writable(&self, bytes: u64) -> Result<(), Failure> {
        match self {
            Self::File(store) => store.check_writable(bytes),
            Self::Etcd(store) => store.check_writable(),
            Self::Kubernetes(store) => store.check_writable(),
        }
    }

    /// Whether a refresh could be stored, as far as that can be told without a change.
    pub fn check_access(&self) -> Result<(), Failure> {
        match self {
            Self::File(store) => store.check_access(),
            Self::Etcd(store) => store.check_access(),
            Self::Kubernetes(store) => store.check_access(),
        }
    }

    /// Keeps unreadable bytes beside, so that a login can write a new document. Gives the place, fit to be shown.
    pub fn set_aside(&self) -> Result<String, Failure> {
        let aside = match self {
            Self::File(store) => store.set_aside(),
            Self::Etcd(store) => store.set_aside(),
            Self::Kubernetes(store) => store.set_aside(),
        };
        aside.map(|path| printable(&path.display().to_string()))
    }
}

impl Deref for Opened {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::File(store) => store,
            Self::Etcd(store) => store,
            Self::Kubernetes(store) => store,
        }
    }
}

/// The profiles that the store keeps, sorted.
pub fn profiles(address: &StoreAddress, left: Duration) -> Result<Vec<String>, Failure> {
    match address {
        StoreAddress::File(directory) => FileStore::profiles(directory),
        StoreAddress::Cell(address, _) => {
            let mut names = match address {
                CellAddress::Etcd(address, _) => Etcd::new(address, "").names(left)?,
                CellAddress::Kubernetes(address, _) => KubernetesSecret::new(address, "").names(left)?,
            };
            names.retain(|name| ProfileName::new(name).is_some());
            Ok(names)
        }
    }
}

/// Where this store's side files are: what is for people, and no other machine.
pub fn beside(address: &StoreAddress) -> PathBuf {
    match address {
        StoreAddress::File(directory) | StoreAddress::Cell(_, directory) => directory.clone(),
    }
}
