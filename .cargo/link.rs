//! How the binary is linked.
//!
//! With a static glibc on x86-64 Linux the functions of the hot path lie side by side (`hot-path.ld`), so that few pages
//! are loaded for them, and the places that the program must correct when it has found out where it was loaded are
//! listed in the short form (DT_RELR), a tenth of a megabyte less. Everywhere else, and with another linker than the
//! one that rustc chooses, this is left to the linker: nothing but speed and memory depend on it.

use std::env;
use std::path::Path;
use std::process::Command;

/// The first glibc whose static programs read the short form.
const FIRST_WITH_SHORT_FORM: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=.cargo/hot-path.ld");
    let is = |name: &str, wanted: &str| {
        env::var(name).is_ok_and(|value| value.split(',').any(|part| part == wanted))
    };
    let is_chosen_by_rustc = env::var_os("RUSTC_LINKER").is_none()
        && !env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default().contains("link");
    if is("CARGO_CFG_TARGET_OS", "linux")
        && is("CARGO_CFG_TARGET_ARCH", "x86_64")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && is("CARGO_CFG_TARGET_FEATURE", "crt-static")
        && is("PROFILE", "release")
        && is_chosen_by_rustc
    {
        let script =
            Path::new(&env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join(".cargo/hot-path.ld");
        println!("cargo::rustc-link-arg-bin=onegrant=-Wl,-T,{}", script.display());
        if env::var("HOST") == env::var("TARGET") && version_of_glibc() >= Some(FIRST_WITH_SHORT_FORM) {
            println!("cargo::rustc-link-arg-bin=onegrant=-Wl,-z,pack-relative-relocs");
        }
    }
}

/// The version of this machine's glibc, from `glibc 2.36`.
fn version_of_glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
