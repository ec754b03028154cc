//! Whether a login can open a browser here, by the environment variables.

use std::ffi::OsString;
use std::path::Path;

/// Whether a login can open a browser, and whether the person sits at this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Desktop {
    /// A browser can be opened, and a person sees it.
    pub has_browser: bool,
    /// The person sits at another machine and uses ssh.
    pub is_remote: bool,
}

/// Variables of a session over ssh.
const REMOTE: [&str; 3] = ["SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"];

/// Variables that the Windows Subsystem for Linux sets.
const WINDOWS_SUBSYSTEM: [&str; 2] = ["WSL_DISTRO_NAME", "WSL_INTEROP"];

/// Files that exist only in a container.
const CONTAINER: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];

impl Desktop {
    /// The desktop of this process.
    pub fn here() -> Self {
        let is_container = CONTAINER.iter().any(|file| Path::new(file).exists());
        Self::from_variables(super::variable, is_container)
    }

    /// Whether this is the Windows Subsystem for Linux. Its browser is the one of Windows.
    pub fn is_windows_subsystem() -> bool {
        WINDOWS_SUBSYSTEM.iter().any(|name| super::text(name).is_some())
    }

    /// The desktop for these variables. `BROWSER` wins over all others: editors that work on another machine set it to a program
    /// that opens the address there.
    fn from_variables(look_up: impl Fn(&str) -> Option<OsString>, is_container: bool) -> Self {
        let has = |name: &&str| look_up(name).is_some_and(|value| !value.is_empty());
        let is_remote = REMOTE.iter().any(has);
        let has_display = cfg!(target_os = "macos") || ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(has);
        let is_container = is_container || has(&"container");
        // In the Windows Subsystem for Linux systemd sets `container`, but a person is there.
        let has_screen = (has_display && !is_container) || WINDOWS_SUBSYSTEM.iter().any(has);
        let is_attended = !is_remote && !has(&"CI");
        Self { has_browser: has(&"BROWSER") || (has_screen && is_attended), is_remote }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_can_be_opened_if_a_person_sees_the_display() {
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
            let desktop =
                Desktop::from_variables(|name| set.contains(&name).then(|| "1".into()), is_container);
            assert_eq!(desktop.has_browser, wanted, "{set:?} {is_container}");
            assert_eq!(desktop.is_remote, set.iter().any(|name| name.starts_with("SSH_")), "{set:?}");
        }
        assert!(
            !Desktop::from_variables(|_| Some(OsString::new()), false).is_remote,
            "an empty variable is none"
        );
    }
}
