//! How the binary is linked.
//!
//! With a static glibc on x86-64 Linux the functions of the hot path lie side by side (`hot-path.ld`), so that few pages
//! are loaded for them. Everywhere else, and with another linker than the one that rustc chooses, the order is the
//! linker's own: nothing but speed and memory depend on it.

use std::env;
use std::path::Path;

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
    }
}
