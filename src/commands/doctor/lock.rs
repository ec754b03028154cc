//! The lock, as two processes see it: this one takes it, and another one, which is this program once more, tries to.

use super::Check;
use super::store::file_system;
use crate::error::{Failure, Kind};
use crate::lock::{Locked, Locker};
use crate::output;
use crate::profile::Context;
use crate::session::{Level, LockMode, LockUse};
use crate::system::{answers_lock_calls_at_once, command};
use crate::text::describe;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The first argument of the other process; the second is the path. It is for this program's own use.
pub const ARGUMENT: &str = "--try-lock-for-doctor";

/// How long a lock call may take that does not wait.
const LIMIT: Duration = Duration::from_secs(2);

/// How much the other process says, in bytes.
const WORD_LIMIT: usize = 64;

/// What the two processes met.
#[derive(Debug)]
enum Met {
    /// There is no file yet to lock.
    Nothing,
    /// A third process holds it.
    Busy,
    /// It was taken here, and the other process was kept out.
    Excluded,
    /// Both took it.
    Both,
    /// The place cannot lock, and why.
    Refused(String),
    Failed(Failure),
    /// The other process was of no use, and why.
    Alone(String),
}

/// Asks for the profile's own lock, and gives it back at once. Where there is no lock file yet the document is locked,
/// which nobody else does: nothing is created.
pub(super) fn check(context: &Context) -> Check {
    const COMPARED: &str = "compared (ONEGRANT_LOCK=off): nothing keeps two processes apart; a server that ends the \
                            family on replay can still end the grant";
    const CLAIMED: &str = "claimed (ONEGRANT_LOCK=claim): an exclusive record stands for the lock";
    match context.globals.lock {
        LockUse::Off => Check::warn("lock", COMPARED).hint("unset ONEGRANT_LOCK"),
        LockUse::Claim => Check::ok("lock", CLAIMED),
        LockUse::Auto | LockUse::Require => {
            if context.store.file().is_none()
                && let Locked::Refused(why) = context.store.lock(LockMode::Try, Duration::ZERO)
            {
                return Check::ok("lock", format!("claimed: {why}"));
            }
            let (name, is_shared) = file_system(&context.directory);
            let mut check = verdict(meet(context), &name, is_shared);
            // A store that can lock on this machine alone has a word of its own for it.
            for level in [Level::Locked, Level::Claimed] {
                let (word, here) = (format!("{}:", level.name()), format!("{}:", context.store.names(level)));
                check.what = check.what.replacen(&word, &here, 1);
            }
            check
        }
    }
}

fn verdict(met: Met, file_system: &str, is_shared: bool) -> Check {
    const CLAIM: &str = "export ONEGRANT_LOCK=claim   # for everybody who shares this store";
    match met {
        Met::Nothing => Check::ok("lock", "not checked: there is nothing to lock before the first login"),
        Met::Excluded | Met::Busy if is_shared => {
            let what = format!(
                "locked: processes exclude each other here, but on {file_system} another machine or mount may \
                 not see it"
            );
            Check::warn("lock", what).hint(CLAIM)
        }
        Met::Excluded => {
            Check::ok("lock", format!("locked: two processes exclude each other (flock, {file_system})"))
        }
        Met::Busy => {
            Check::ok("lock", format!("locked: another process holds it now (flock, {file_system})"))
        }
        Met::Both => {
            let message =
                format!("two processes hold the lock at once: locks mean nothing on this {file_system}");
            Check::fail("lock", Failure::new(Kind::Store, message)).hint(CLAIM)
        }
        Met::Refused(why) => {
            let what = format!(
                "claimed: {file_system} refuses locks ({why}); an exclusive record stands for the lock"
            );
            Check::warn("lock", what).hint(CLAIM)
        }
        Met::Failed(failure) => Check::fail("lock", failure),
        Met::Alone(why) => Check::warn(
            "lock",
            format!("locked, as far as one process can tell: no other one could try ({why})"),
        )
        .hint("onegrant doctor"),
    }
}

fn meet(context: &Context) -> Met {
    let Some(Ok(place)) = context.store.lock_place() else { return Met::Nothing };
    let file = [place.lock(), place.document.clone()].into_iter().find(|path| path.exists());
    let Some(path) = file else {
        return Met::Nothing;
    };
    let limit = LIMIT.min(context.left());
    let guard = match take(&path, limit) {
        Locked::Granted(guard) => guard,
        Locked::Busy => return Met::Busy,
        Locked::Refused(why) => return Met::Refused(why),
        Locked::Failed(failure) => return Met::Failed(failure),
        Locked::Unanswered => return Met::Failed(unanswered()),
    };
    let met = other(&path, limit.saturating_mul(2));
    drop(guard);
    met
}

fn take(path: &Path, limit: Duration) -> Locked {
    let fail = |error: &std::io::Error| {
        let message = format!("cannot lock {}: {}", path.display(), describe(error));
        Failure::new(Kind::Store, message)
    };
    Locker::new(path.to_owned(), answers_lock_calls_at_once(path)).lock(LockMode::Try, limit, fail)
}

fn unanswered() -> Failure {
    Failure::new(Kind::Temporary, "the lock call does not answer")
        .hint("export ONEGRANT_LOCK=claim   # for everybody who shares this store")
}

fn other(path: &Path, limit: Duration) -> Met {
    let mut program = Command::new("/proc/self/exe");
    let said = command::run(program.arg(ARGUMENT).arg(path), limit, WORD_LIMIT);
    match said {
        Ok(said) if said.stdout.starts_with(b"busy") => Met::Excluded,
        Ok(said) if said.stdout.starts_with(b"granted") => Met::Both,
        Ok(said) => Met::Alone(String::from_utf8_lossy(&said.stdout).trim().to_owned()),
        Err(error) => Met::Alone(describe(&error)),
    }
}

/// What the other process does: tries, tells, and ends.
pub fn try_once(mut arguments: impl Iterator<Item = OsString>) -> anyhow::Result<()> {
    let path = arguments.next().map(PathBuf::from).filter(|path| path.exists()).ok_or_else(|| {
        Failure::new(Kind::Usage, format!("{ARGUMENT} is for onegrant's own use")).hint("onegrant --help")
    })?;
    let word = match take(&path, LIMIT) {
        Locked::Granted(_) => "granted",
        Locked::Busy => "busy",
        Locked::Refused(_) => "refused",
        Locked::Unanswered => "unanswered",
        Locked::Failed(_) => "failed",
    };
    output::answer(format!("{word}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn what_two_processes_met_is_judged() {
        let claim = Some("export ONEGRANT_LOCK=claim");
        let cases = [
            (Met::Nothing, false, Verdict::Ok, None, "not checked"),
            (Met::Excluded, false, Verdict::Ok, None, "two processes exclude each other (flock, ext4)"),
            (Met::Excluded, true, Verdict::Warn, claim, "another machine"),
            (Met::Busy, false, Verdict::Ok, None, "another process holds it now"),
            (Met::Busy, true, Verdict::Warn, claim, "another machine"),
            (Met::Both, false, Verdict::Fail(Kind::Store), claim, "two processes hold the lock at once"),
            (Met::Both, true, Verdict::Fail(Kind::Store), claim, "two processes hold the lock at once"),
            (Met::Refused("No locks available".to_owned()), true, Verdict::Warn, claim, "claimed: ext4 refuses locks (No locks"),
            (Met::Failed(unanswered()), false, Verdict::Fail(Kind::Temporary), claim, "does not answer"),
            (Met::Alone("failed".to_owned()), false, Verdict::Warn, Some("onegrant doctor"), "no other one could try (failed)"),
        ];
        for (met, is_shared, wanted, hint, what) in cases {
            let case = format!("{met:?} {is_shared}");
            let check = verdict(met, "ext4", is_shared);
            assert_eq!(check.verdict, wanted, "{case}");
            assert!(check.what.contains(what), "{case}: {}", check.what);
            assert_eq!(check.hint.is_some(), hint.is_some(), "{case}");
            assert!(check.hint.unwrap_or_default().starts_with(hint.unwrap_or_default()), "{case}");
        }
    }
}
