//! How the release binary is linked: without the tables to unwind the stack, a tenth of it. A panic ends the process
//! (`report_panics`), no error has a backtrace, and the binary has no symbols to print one with.
//!
//! Such a binary also has its own `_Unwind_Backtrace` (`src/main.rs`). The one of libgcc stays in its archive. If the binary is
//! static, so do functions of glibc that this program never gets to (`src/left_out.rs`).
//!
//! Only with the LLD that comes with rustc: other linkers refuse the script, and everything works without it.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=.cargo/no-unwinding.ld");
    println!("cargo::rustc-check-cfg=cfg(no_unwinding)");
    let is = |name: &str, wanted: &str| env::var(name).is_ok_and(|value| value == wanted);
    let is_chosen_by_rustc = env::var_os("RUSTC_LINKER").is_none()
        && !env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default().contains("link");
    if is("TARGET", "x86_64-unknown-linux-gnu") && is("PROFILE", "release") && is_chosen_by_rustc && has_lld()
    {
        let directory = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-cfg=no_unwinding");
        println!("cargo::rustc-link-arg-bin=onegrant=-Wl,-T,{directory}/.cargo/no-unwinding.ld");
        // Of two functions with one name, the linker takes the first: that of this program.
        println!("cargo::rustc-link-arg-bin=onegrant=-Wl,-z,muldefs");
        // Of functions with the same code it keeps one. Rust does not promise that their addresses differ.
        println!("cargo::rustc-link-arg-bin=onegrant=-Wl,--icf=all");
    }
}

/// For this target rustc chooses its LLD, if it has one. Some distributions leave it out.
fn has_lld() -> bool {
    let rustc =
        Command::new(env::var_os("RUSTC").unwrap_or_default()).args(["--print", "target-libdir"]).output();
    let libraries = rustc.ok().and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    Path::new(libraries.trim()).with_file_name("bin").join("gcc-ld/ld.lld").exists()
}
