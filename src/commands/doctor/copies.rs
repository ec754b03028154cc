//! The same refresh token in two documents: the second one that refreshes loses the grant, and at many servers both do.

use super::{Check, path_hint};
use crate::environment::Environment;
use crate::globals::Globals;
use crate::grant::Document;
use crate::profile::Context;
use crate::store::Store;
use crate::store::file::FileStore;
use crate::store_address::{ProfileName, StoreAddress};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The most documents that are compared.
const MAX_DOCUMENTS: usize = 1000;

/// Compares with the other profiles of the store, and with those of the other usual places of a file store.
pub fn check(document: &Document, context: &Context) -> Check {
    let Some(refresh_token) = document.refresh_token() else {
        return Check::ok("copies", "not checked: there is no refresh token");
    };
    let mine = identity(&context.directory.join(format!("{}.json", context.globals.profile)));
    let mut compared = 0;
    for directory in places(context) {
        for profile in FileStore::profiles(&directory).unwrap_or_default() {
            let path = directory.join(format!("{profile}.json"));
            if ProfileName::new(&profile).is_none() || identity(&path) == mine {
                continue;
            }
            if compared == MAX_DOCUMENTS || context.left().is_zero() {
                break;
            }
            compared += 1;
            let Ok(Some(snapshot)) = FileStore::new(&directory, &profile).read() else {
                continue;
            };
            let other = Document::parse(&snapshot.bytes).ok();
            if other.as_ref().and_then(Document::refresh_token) == Some(refresh_token) {
                let what = format!(
                    "the same refresh token is in {} too: the second one that refreshes loses the grant",
                    path.display()
                );
                let end = format!("onegrant --profile {profile} logout --local   # leaves one copy");
                let hint = path_hint("", &directory)
                    .map(|path| format!("env ONEGRANT_STORE=file:{} {end}", path.trim()));
                return Check::warn("copies", what).hint_of(hint);
            }
        }
    }
    let documents = if compared == 1 { "document" } else { "documents" };
    Check::ok(
        "copies",
        format!("no other profile holds this refresh token ({compared} {documents} compared)"),
    )
}

/// The device and inode of a file: the same file may have several names.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// The directory of this store, and the directory that each variable would name alone.
fn places(context: &Context) -> Vec<PathBuf> {
    let Environment { store, onegrant_home, xdg_state_home, home, .. } = Environment::read();
    let alone = [
        Environment { store, ..Environment::default() },
        Environment { onegrant_home, ..Environment::default() },
        Environment { xdg_state_home, ..Environment::default() },
        Environment { home, ..Environment::default() },
    ];
    let mut places = vec![context.directory.clone()];
    for environment in alone {
        if let Ok(StoreAddress::File(directory)) =
            Globals::from_environment(&environment).map(|globals| globals.store)
        {
            let is_known = |known: &PathBuf| known == &directory || identity(known) == identity(&directory);
            if identity(&directory).is_some() && !places.iter().any(is_known) {
                places.push(directory);
            }
        }
    }
    places
}
