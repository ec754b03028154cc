//! The lock, tested with two processes: this one takes it, and the lock probe, a subprocess of this program, tries to.

use super::Check;
use crate::error::{Failure, Kind};
use crate::lock::Locked;
use crate::profile::Context;
use crate::session::{Level, LockMode, LockUse};
use crate::subprocess::lock_probe::{self, LIMIT, Probe, try_lock};
use crate::system::file_system::{Reach, file_system};
use crate::text::describe;
use std::path::Path;
use std::time::Duration;

/// The result of the test.
#[derive(Debug)]
enum LockTest {
    /// There is no file to lock yet.
    NoFile,
    /// A third process holds it.
    Busy,
    /// This process has the lock, and the lock probe could not take it.
    Excluded,
    /// Both have the lock.
    BothLocked,
    /// The file system refuses locks, for this reason.
    Refused(String),
    Failed(Failure),
    /// The lock probe gave no answer, for this reason.
    NoProbe(String),
}

/// Takes the lock of the profile and releases it at once. If there is no lock file yet, the document is locked instead, so that
/// nothing is created. No other process locks it.
pub(super) fn check(context: &Context) -> Check {
    const COMPARED: &str = "compared (ONEGRANT_LOCK=off): two processes can refresh at once; a server that ends the \
                            family on replay can still end the grant";
    const CLAIMED: &str = "claimed (ONEGRANT_LOCK=claim): an exclusive record replaces the lock";
    match context.globals.lock {
        LockUse::Off => Check::warn("lock", COMPARED).hint("unset ONEGRANT_LOCK"),
        LockUse::Claim => Check::ok("lock", CLAIMED),
        LockUse::Auto | LockUse::Require => {
            if context.store.file().is_none()
                && let Locked::Refused(why) = context.store.lock(LockMode::Try, Duration::ZERO)
            {
                return Check::ok("lock", format!("claimed: {why}"));
            }
            let file_system = file_system(&context.directory);
            let is_shared = file_system.reach == Reach::Shared;
            // A store that can lock only on this machine has another name for that level.
            let names = [Level::Locked, Level::Claimed].map(|level| context.store.level_name(level));
            verdict(test(context), &file_system.name, is_shared, names)
        }
    }
}

/// `locked` and `claimed` are the names of the levels.
fn verdict(test: LockTest, file_system: &str, is_shared: bool, [locked, claimed]: [&str; 2]) -> Check {
    const CLAIM: &str = "export ONEGRANT_LOCK=claim   # for every process that shares this store";
    match test {
        LockTest::NoFile => Check::ok("lock", "not checked: there is nothing to lock before the first login"),
        LockTest::Excluded | LockTest::Busy if is_shared => {
            let what = format!(
                "{locked}: processes exclude each other here, but on {file_system} another machine or mount may \
                 not see it"
            );
            Check::warn("lock", what).hint(CLAIM)
        }
        LockTest::Excluded => {
            Check::ok("lock", format!("{locked}: two processes exclude each other (flock, {file_system})"))
        }
        LockTest::Busy => {
            Check::ok("lock", format!("{locked}: another process holds it now (flock, {file_system})"))
        }
        LockTest::BothLocked => {
            let message =
                format!("two processes hold the lock at once: locks have no effect on this {file_system}");
            Check::fail("lock", Failure::new(Kind::Store, message)).hint(CLAIM)
        }
        LockTest::Refused(why) => {
            let what = format!(
                "{claimed}: {file_system} refuses locks ({why}); an exclusive record replaces the lock"
            );
            Check::warn("lock", what).hint(CLAIM)
        }
        LockTest::Failed(failure) => Check::fail("lock", failure),
        LockTest::NoProbe(why) => Check::warn(
            "lock",
            format!("{locked}, as far as one process can know: the lock probe gave no answer ({why})"),
        )
        .hint("onegrant doctor"),
    }
}

fn test(context: &Context) -> LockTest {
    let Some(Ok(place)) = context.store.profile_files() else { return LockTest::NoFile };
    let file = [place.lock(), place.document.clone()].into_iter().find(|path| path.exists());
    let Some(path) = file else {
        return LockTest::NoFile;
    };
    let limit = LIMIT.min(context.left());
    let guard = match try_lock(&path, limit) {
        Locked::Granted(guard) => guard,
        Locked::Busy => return LockTest::Busy,
        Locked::Refused(why) => return LockTest::Refused(why),
        Locked::Failed(failure) => return LockTest::Failed(failure),
        Locked::Unanswered => return LockTest::Failed(unanswered()),
    };
    let result = probe(&path, limit.saturating_mul(2));
    drop(guard);
    result
}

fn unanswered() -> Failure {
    Failure::new(Kind::Temporary, "the lock call does not answer")
        .hint("export ONEGRANT_LOCK=claim   # for every process that shares this store")
}

/// Runs the lock probe.
fn probe(path: &Path, limit: Duration) -> LockTest {
    match lock_probe::try_in_second_process(path, limit) {
        Ok(Probe::Busy) => LockTest::Excluded,
        Ok(Probe::Granted) => LockTest::BothLocked,
        Ok(probe) => LockTest::NoProbe(format!("{probe:?}").to_lowercase()),
        Err(error) => LockTest::NoProbe(describe(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn each_result_of_the_test_has_a_verdict() {
        let claim = Some("export ONEGRANT_LOCK=claim");
        let cases = [
            (LockTest::NoFile, false, Verdict::Ok, None, "not checked"),
            (LockTest::Excluded, false, Verdict::Ok, None, "two processes exclude each other (flock, ext4)"),
            (LockTest::Excluded, true, Verdict::Warn, claim, "another machine"),
            (LockTest::Busy, false, Verdict::Ok, None, "another process holds it now"),
            (LockTest::Busy, true, Verdict::Warn, claim, "another machine"),
            (LockTest::BothLocked, false, Verdict::Fail(Kind::Store), claim, "two processes hold the lock at once"),
            (LockTest::BothLocked, true, Verdict::Fail(Kind::Store), claim, "two processes hold the lock at once"),
            (LockTest::Refused("No locks available".to_owned()), true, Verdict::Warn, claim, "claimed: ext4 refuses locks (No locks"),
            (LockTest::Failed(unanswered()), false, Verdict::Fail(Kind::Temporary), claim, "does not answer"),
            (LockTest::NoProbe("failed".to_owned()), false, Verdict::Warn, Some("onegrant doctor"), "the lock probe gave no answer (failed)"),
        ];
        for (test, is_shared, wanted, hint, what) in cases {
            let case = format!("{test:?} {is_shared}");
            let check = verdict(test, "ext4", is_shared, ["locked", "claimed"]);
            assert_eq!(check.verdict, wanted, "{case}");
            assert!(check.what.contains(what), "{case}: {}", check.what);
            assert_eq!(check.hint.is_some(), hint.is_some(), "{case}");
            assert!(check.hint.unwrap_or_default().starts_with(hint.unwrap_or_default()), "{case}");
        }
    }
}
