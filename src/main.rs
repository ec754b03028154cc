//! The binary: hands the arguments over and returns the exit code.
//!
//! With glibc the C library calls this `main`. Rust's own start would first find the end of the stack, to print a message if
//! the stack overflows. That costs 17 system calls, among them the reading of `/proc/self/maps`: as many as everything else
//! together. The other two things that Rust's start does are done here.

#![cfg_attr(all(target_os = "linux", target_env = "gnu", not(test)), no_main)]

#[cfg(all(no_unwinding, target_feature = "crt-static"))]
mod left_out;

#[cfg(not(all(target_os = "linux", target_env = "gnu", not(test))))]
fn main() -> std::process::ExitCode {
    onegrant::report_panics();
    onegrant::run(std::env::args_os()).into()
}

#[cfg(all(target_os = "linux", target_env = "gnu", not(test)))]
mod start {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::{MemfdFlags, memfd_create};
    use rustix::stdio::{stderr, stdin, stdout};
    use std::fs::OpenOptions;
    use std::os::fd::IntoRawFd;
    use std::process::abort;

    /// glibc has already given the arguments to Rust's library.
    #[unsafe(no_mangle)]
    #[expect(unsafe_code, reason = "the name that glibc calls; nothing else in this program has it")]
    extern "C" fn main() -> i32 {
        let _ = fill_closed_descriptors();
        onegrant::system::ignore_broken_pipes();
        onegrant::report_panics();
        onegrant::run(std::env::args_os()).into()
    }

    /// Opens `/dev/null` for each of stdin, stdout and stderr that is closed. Otherwise the next file that this process opens
    /// would get that number, and messages would be written into it. An empty root has no `/dev/null`: a file in memory is
    /// opened instead.
    fn fill_closed_descriptors() -> rustix::io::Result<()> {
        let (stdin, stdout, stderr) = (stdin(), stdout(), stderr());
        let mut standard = [&stdin, &stdout, &stderr].map(|fd| PollFd::new(fd, PollFlags::empty()));
        poll(&mut standard, Some(&Timespec::default()))?;
        // The lowest free number is taken each time.
        for _ in standard.iter().filter(|fd| fd.revents().contains(PollFlags::NVAL)) {
            let null =
                OpenOptions::new().read(true).write(true).open("/dev/null").map(IntoRawFd::into_raw_fd);
            if null.is_err() {
                match memfd_create("null", MemfdFlags::empty()) {
                    Ok(file) => _ = file.into_raw_fd(),
                    Err(_) => abort(),
                }
            }
        }
        Ok(())
    }
}

/// Without its tables, a stack has no frame that can be found. The function of libgcc would abort. With this one the compiler
/// sees that no frame is ever named, and leaves out the reader of debug information: a twentieth of the binary.
#[cfg(no_unwinding)]
mod unwinding {
    use std::ffi::c_void;

    const END_OF_STACK: i32 = 5;

    #[unsafe(no_mangle)]
    #[expect(
        unsafe_code,
        reason = "the name that Rust's library calls; build.rs lets it take the place of libgcc's"
    )]
    extern "C" fn _Unwind_Backtrace(_: extern "C" fn(), _: *mut c_void) -> i32 {
        END_OF_STACK
    }
}
