//! What every store promises: one table of behaviours, run on each store.
//!
//! A new store joins with one line in `conforms!` and a function that makes a [`Keeper`] of it; `docs/stores.md` says how.

mod behaviours;
mod forwarder;

use crate::support::{Home, LIMIT};
use forwarder::Forwarder;
use onegrant::environment::NetworkSettings;
use onegrant::store::Store;
use onegrant::store::cell::kubernetes::KubernetesSecret;
use onegrant::store::cell::{self, CellStore};
use onegrant::store::file::FileStore;
use onegrant::store::helper::HelperStore;
use onegrant::store_address::{CellAddress, KubernetesAddress};
use servers::kubernetes::{Kubernetes, NAME, NAMESPACE, Outage};
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The deadline of a store whose server fails: long enough for what it does before on a loaded machine.
const SHORT: Duration = Duration::from_secs(3);

type Open = dyn Fn(&str, Duration) -> Box<dyn Store> + Sync;

/// Keeps documents until it is dropped.
pub struct Keeper {
    /// Opens the store of a profile, as another process would that has this time left.
    pub open: Box<Open>,
    /// Makes the store fail, or work again. Its content stays.
    pub fail: Box<dyn Fn(bool) + Sync>,
    _home: Home,
}

impl Keeper {
    /// The store of the profile that most behaviours use.
    pub fn store(&self) -> Box<dyn Store> {
        self.store_of("default")
    }

    pub fn store_of(&self, profile: &str) -> Box<dyn Store> {
        (self.open)(profile, LIMIT)
    }

    /// The store of the same profile, for a process that gives up soon.
    pub fn impatient_store(&self) -> Box<dyn Store> {
        (self.open)("default", SHORT)
    }
}

/// A directory. It fails while there is a directory with the name of the document.
fn file() -> Keeper {
    let home = Home::new();
    let (state, document) = (home.state.clone(), home.document_path());
    let aside = home.root.join("aside");
    let fail = move |is_failing| match is_failing {
        true => {
            let _ = fs::rename(&document, &aside);
            fs::create_dir(&document).unwrap();
        }
        false => {
            fs::remove_dir(&document).unwrap();
            let _ = fs::rename(&aside, &document);
        }
    };
    let open = move |profile: &str, _| -> Box<dyn Store> { Box::new(FileStore::new(&state, profile)) };
    Keeper { open: Box::new(open), fail: Box::new(fail), _home: home }
}

/// A helper program. It fails while a script makes it fail.
fn helper() -> Keeper {
    let home = Home::new();
    let program = home.root.join("docker-credential-test");
    symlink(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/keyring/docker-credential-directory"),
        &program,
    )
    .unwrap();
    let keyring = home.root.join("keyring");
    fs::create_dir(&keyring).unwrap();
    let fail = move |is_failing| {
        for verb in ["get", "store", "erase", "list"] {
            let fault = keyring.join(format!("fault.{verb}"));
            match is_failing {
                true => fs::write(&fault, "fail 'the keyring is on fire'\n").unwrap(),
                false => fs::remove_file(&fault).unwrap(),
            }
        }
    };
    let beside = home.state.join("helper");
    let open = move |profile: &str, left| -> Box<dyn Store> {
        Box::new(HelperStore::new(&program, &beside, profile, left))
    };
    Keeper { open: Box::new(open), fail: Box::new(fail), _home: home }
}

/// A Secret, on a server that answers as a real one. It fails while the server has lost its etcd.
fn kubernetes() -> Keeper {
    let home = Home::new();
    let server = Kubernetes::start();
    server.world().data = Some(serde_json::Map::new());
    let token = home.root.join("token");
    fs::write(&token, "first").unwrap();
    let failing = server.clone();
    let fail = move |is_failing: bool| failing.world().outage = is_failing.then_some(Outage::Gone);
    let address = KubernetesAddress::parse(&format!("kubernetes://{NAMESPACE}/{NAME}")).unwrap();
    let beside = home.state.clone();
    let open = move |profile: &str, left| -> Box<dyn Store> {
        let settings = NetworkSettings::from_variables(|name| match name {
            "ONEGRANT_KUBERNETES_API" => Some(server.url.clone().into()),
            "ONEGRANT_KUBERNETES_TOKEN_FILE" => Some(token.clone().into()),
            _ => None,
        });
        let secret = KubernetesSecret::new(&address, profile).with_settings(settings).unwrap();
        Box::new(CellStore::new(Box::new(secret), beside.clone(), left))
    };
    Keeper { open: Box::new(open), fail: Box::new(fail), _home: home }
}

/// A prefix of a real etcd. It fails while connections to it fail.
fn etcd() -> Keeper {
    static KEEPERS: AtomicU64 = AtomicU64::new(0);
    let home = Home::new();
    let member = env::var("ONEGRANT_ETCD_MEMBER").expect("HOST:PORT of an etcd");
    let forwarder = Forwarder::to(&member);
    let number = KEEPERS.fetch_add(1, Ordering::Relaxed);
    let url = format!("etcd://{}/conformance-{}/{number}", forwarder.address(), std::process::id());
    let address = CellAddress::parse(&url).unwrap().unwrap();
    let beside = home.state.clone();
    let open = move |profile: &str, left| -> Box<dyn Store> {
        Box::new(CellStore::new(cell::cell_at(&address, profile), beside.clone(), left))
    };
    Keeper { open: Box::new(open), fail: Box::new(move |is_failing| forwarder.cut(is_failing)), _home: home }
}

/// One test for each behaviour of each store. A script runs the ones that need a program that not every machine has.
macro_rules! conforms {
    ($($(#[$attribute:meta])* $store:ident)*) => { $(mod $store { behaviours!([$(#[$attribute])*] $store); })* };
}

macro_rules! behaviours {
    ($attributes:tt $store:ident) => {
        behaviours! { $attributes $store:
            a_new_store_is_empty
            a_document_is_read_as_it_was_written
            a_replacement_compares_the_revision
            readers_see_whole_documents
            no_update_is_lost
            the_lock_has_one_holder
            awaiting_a_release_takes_no_lock
            a_record_is_created_by_one_process
            a_record_is_changed_only_by_its_creator
            a_commit_sweeps_its_record_and_those_before_it
            a_new_record_sweeps_those_of_spent_tokens
            an_answer_that_could_not_be_stored_is_adopted_once
            a_late_answer_is_not_adopted
            a_failing_store_is_not_an_empty_one
            a_removal_removes_the_records
            a_removal_compares_the_revision
            profiles_are_separate
        }
    };
    ($attributes:tt $store:ident: $($behaviour:ident)*) => { $(behaviour!($attributes $store $behaviour);)* };
}

macro_rules! behaviour {
    ([$(#[$attribute:meta])*] $store:ident $behaviour:ident) => {
        #[test]
        $(#[$attribute])*
        fn $behaviour() {
            let name = concat!("conformance::", stringify!($store), "::", stringify!($behaviour));
            if !crate::support::ran_alone(name) {
                crate::conformance::behaviours::$behaviour(&crate::conformance::$store());
            }
        }
    };
}

conforms! {
    file
    helper
    kubernetes
    #[ignore = "needs an etcd: .ci/etcd.sh"]
    etcd
}
