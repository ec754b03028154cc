//! What the place where a login runs allows, told by its environment.

use std::ffi::OsString;
use std::path::Path;

/// What the place where a login runs allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Desktop {
    /// A browser can be opened here, and a person sees it.
    pub has_browser: bool,
    /// The person sits at another machine (ssh).
    pub is_remote: bool,
}

/// Variables that only a session over ssh has.
const REMOTE: [&str; 3] = ["SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"];

/// Variables that the Windows Subsystem for Linux sets.
const WINDOWS_SUBSYSTEM: [&str; 2] = ["WSL_DISTRO_NAME", "WSL_INTEROP"];

/// Files that only a container has.
const CONTAINER: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];

impl Desktop {
    /// This place.
    pub fn here() -> Self {
        let is_container = CONTAINER.iter().any(|file| Path::new(file).exists());
        Self::told_by(super::variable, is_container)
    }

    /// Whether this is the Windows Subsystem for Linux, whose browser is that of Windows.
    pub fn is_windows_subsystem() -> bool {
        WINDOWS_SUBSYSTEM.iter().any(|name| super::text(name).is_some())
    }

    /// A place with these variables. Who sets `BROWSER` says himself what opens an address, wherever he is: editors
    /// that work on another machine do.
    fn told_by(look_up: impl Fn(&str) -> Option<OsString>, is_container: bool) -> Self {
        let has = |name: &&str| look_up(name).is_some_and(|value| !value.is_empty());
        let is_remote = REMOTE.iter().any(has);
        let has_display = cfg!(target_os = "macos") || ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(has);
        let is_container = is_container || has(&"container");
        // Its variables are those of a person's session, also where systemd calls it a container.
        let has_screen = (has_display && !is_container) || WINDOWS_SUBSYSTEM.iter().any(has);
        let is_attended = !is_remote && !has(&"CI");
        Self { has_browser: has(&"BROWSER") || (has_screen && is_attended), is_remote }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_there_where_a_display_is_that_a_person_sees() {
        let cases: [(&[&str], bool, bool); 12] = [
            (&["DISPLAY"], false, true),
            (&["WAYLAND_DISPLAY"], false, true),
            (&[], false, cfg!(target_os = "macos")),
            (&["DISPLAY", "SSH_CONNECTION"], false, false),
            (&["DISPLAY", "SSH_TTY"], false, false),
            (&["WSL_DISTRO_NAME", "container"], false, true),
            (&["WSL_INTEROP", "CI"], false, false),
            (&["WSL_INTEROP", "SSH_CONNECTION"], false, false),
            (&["DISPLAY"], true, false),
            (&["DISPLAY", "container"], false, false),
            (&["DISPLAY", "CI"], false, false),
            (&["BROWSER", "SSH_CONNECTION", "CI"], true, true),
        ];
        for (set, is_container, wanted) in cases {
            let place = Desktop::told_by(|name| set.contains(&name).then(|| "1".into()), is_container);
            assert_eq!(place.has_browser, wanted, "{set:?} {is_container}");
            assert_eq!(place.is_remote, set.iter().any(|name| name.starts_with("SSH_")), "{set:?}");
        }
        assert!(!Desktop::told_by(|_| Some(OsString::new()), false).is_remote, "an empty variable is none");
    }
}
