//! Other names of this program. Each is short for a command, except `keyring`, which has arguments of its own.

use crate::adapters::python_keyring;
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The names that other programs call, and the words that replace each. Their protocols allow no other arguments.
/// Under any other name the program is `onegrant`.
pub(super) const NAMES: [(&str, &[&str]); 6] = [
    ("git-credential-onegrant", &["git-credential"]),
    ("bazel-credential-onegrant", &["helper", "bazel"]),
    ("cargo-credential-onegrant", &["helper", "cargo"]),
    ("docker-credential-onegrant", &["helper", "docker"]),
    ("pnpm-onegrant", &["helper", "pnpm"]),
    ("terraform-credentials-onegrant", &["helper", "terraform"]),
];

/// Whether the program is called in the place of Python's `keyring`. `called` may have a path.
pub fn is_keyring(called: &OsStr) -> bool {
    name(called) == python_keyring::NAME
}

fn name(called: &OsStr) -> &OsStr {
    Path::new(called).file_name().unwrap_or_default()
}

/// The words that replace the program's name. `called` may have a path.
pub fn words_of_name(called: &OsStr) -> impl Iterator<Item = OsString> + use<> {
    let name = name(called);
    let found = NAMES.iter().find(|(known, _)| name == *known);
    found.map_or(&[][..], |(_, words)| words).iter().map(OsString::from)
}
