//! How host names are looked up.

/// Makes name look-ups use `/etc/hosts` and DNS alone. To be called before the first one.
///
/// A statically linked glibc loads whatever other modules `/etc/nsswitch.conf` names, and with them a second
/// C library from the machine it runs on: undefined where that is another version. The two modules named here
/// are linked in.
#[cfg(all(target_os = "linux", target_env = "gnu", target_feature = "crt-static"))]
#[expect(unsafe_code, reason = "no crate offers this call of glibc")]
pub fn resolve_names_without_modules() {
    use std::ffi::{c_char, c_int};
    use std::sync::Once;

    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: both arguments are constants that end in a null byte, glibc copies what it needs of them, and
        // no look-up runs yet: every look-up of this program comes after this call. If it fails, look-ups work
        // as nsswitch.conf says, which is what happened without it.
        unsafe {
            __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr());
        }
    });
}

/// Nothing to do: the C library is the machine's own.
#[cfg(not(all(target_os = "linux", target_env = "gnu", target_feature = "crt-static")))]
pub fn resolve_names_without_modules() {}
