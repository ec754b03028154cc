//! What the release binary leaves out of glibc and libgcc: functions that this program never gets to, and all that they would
//! bring. They are a twentieth of the binary.
//!
//! Code of glibc names these functions. The linker meets the ones below first, and then leaves glibc's in their archive
//! (build.rs says when). Those of glibc that are not public may have other names in another version: the linker then brings
//! them, and nothing else changes.

#![expect(unsafe_code, reason = "the names that the C library calls")]

use std::ffi::{c_char, c_int, c_void};
use std::process::abort;
use std::ptr::null_mut;

/// Functions that end the process if they are called after all.
macro_rules! never_called {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> ! {
            abort()
        }
    )*};
}

// Without its tables a stack cannot be unwound (build.rs). A panic ends the process, and no thread is cancelled.
never_called! {
    _Unwind_ForcedUnwind _Unwind_GetCFA _Unwind_GetDataRelBase _Unwind_GetIP _Unwind_GetIPInfo
    _Unwind_GetLanguageSpecificData _Unwind_GetRegionStart _Unwind_GetTextRelBase _Unwind_Resume _Unwind_SetGR
    _Unwind_SetIP __gcc_personality_v0
}

/// The start of the program hands over its tables, which are empty.
#[unsafe(no_mangle)]
extern "C" fn __register_frame_info(_: *const c_void, _: *mut c_void) {}

/// The end of the program takes them back.
#[unsafe(no_mangle)]
extern "C" fn __deregister_frame_info(_: *const c_void) -> *mut c_void {
    null_mut()
}

// glibc prints what a look-up of a name needs: no fractions, no wide characters, and no other character set.
never_called! {
    __gconv_btwoc_ascii __gconv_get_builtin_trans __gconv_transform_ascii_internal __gconv_transform_internal_ascii
    __printf_fp __printf_fphex __printf_fp_l_buffer __printf_fphex_l_buffer __vfwprintf_internal
}

/// A message of glibc in the user's language. This program never calls `setlocale`, so it is always the message itself.
#[unsafe(no_mangle)]
extern "C" fn __dcgettext(_: *const c_char, message: *mut c_char, _: c_int) -> *mut c_char {
    message
}

/// Loads no library: not one that `/etc/nsswitch.conf` names either (`system::resolve_names_without_modules`).
#[unsafe(no_mangle)]
extern "C" fn __libc_dlopen_mode(_: *const c_char, _: c_int) -> *mut c_void {
    null_mut()
}

/// A static program has no table of symbols: none is found.
#[unsafe(no_mangle)]
extern "C" fn dlsym(_: *mut c_void, _: *const c_char) -> *mut c_void {
    null_mut()
}

// None is loaded.
never_called! { __libc_dlclose __libc_dlsym __libc_dlvsym }
