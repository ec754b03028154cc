//! The tests can fail: this breaks each decision that keeps a session once, in a copy of the tree, and a test has to fail.
//!
//! `cargo test --test faults mutations -- --ignored --nocapture`, or with `ONEGRANT_MUTATION=WORDS` those alone that have
//! the words in their name. A mutation that does not build is not caught, and neither is one that another test sees than the one
//! that is named.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What is copied of the tree.
const PARTS: [&str; 7] = ["Cargo.toml", "Cargo.lock", ".cargo", "src", "tests", "fixtures", "docs"];

/// The longest that one build or one run of a test may take. One that goes on for ever is caught, too.
const LIMIT: Duration = Duration::from_secs(300);

/// Where a test is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// Every interleaving of a few machines.
    Exploration,
    /// One way through one machine.
    Story,
    /// The file store by itself.
    Store,
    /// A store that compares and swaps, by itself.
    Cell,
    /// What a broker does with its connections.
    Desk,
    /// A process that asks a broker.
    Asking,
    /// Real processes, and a disk that forgets what was not synced.
    PowerCut,
}

impl Place {
    /// What `cargo test` has to build.
    fn target(self) -> &'static [&'static str] {
        match self {
            Self::Exploration | Self::Story | Self::Desk | Self::Asking => &["--lib"],
            Self::Store | Self::Cell => &["--test", "stores"],
            Self::PowerCut => &["--test", "faults"],
        }
    }

    fn full_name(self, test: &str) -> String {
        match self {
            Self::Exploration => format!("session::exploration::families::{test}"),
            Self::Story => format!("session::machine_tests::{test}"),
            Self::Store => format!("file::{test}"),
            Self::Cell => format!("cells::{test}"),
            Self::Desk => format!("broker::desk::tests::{test}"),
            Self::Asking => format!("session::brokered::tests::{test}"),
            Self::PowerCut => format!("power_cut::{test}"),
        }
    }
}

struct Mutation {
    name: &'static str,
    /// The file, the text in it that occurs exactly once, and its replacement.
    edits: &'static [(&'static str, &'static str, &'static str)],
    /// The test that has to fail.
    caught_by: (Place, &'static str),
}

use Place::{Asking, Cell, Desk, Exploration, PowerCut, Store, Story};

const COMPARING: &str = "src/session/machine/comparing.rs";
const ENDING: &str = "src/session/machine/ending.rs";
const ENTERING: &str = "src/session/machine/entering.rs";
const MACHINE: &str = "src/session/machine/mod.rs";
const SPENDING: &str = "src/session/machine/spending.rs";
const JUDGEMENT: &str = "src/session/judgement.rs";
const ATTEMPT: &str = "src/session/attempt.rs";
const BOUNDS: &str = "src/session/bounds.rs";
const FRESHNESS: &str = "src/session/freshness.rs";
const LOGOUT: &str = "src/session/logout.rs";
const FILE: &str = "src/store/file.rs";
const CELL: &str = "src/store/cell/mod.rs";
const DESK: &str = "src/broker/desk.rs";
const BROKERED: &str = "src/session/brokered.rs";

/// Leaves out the first of two looks. The second one still protects the session.
const NO_LOOK_UNDER_THE_LOCK: (&str, &str, &str) = (
    ENTERING,
    "LockResult::Granted => self.look(Phase::Judging),",
    "LockResult::Granted => {
                let judgement = self.judgement(&View { attempts: Vec::new(), stored: self.latest.clone() }, now);
                self.act(judgement, now)
            }",
);

const NO_LOOK_AFTER_THE_CLAIM: (&str, &str, &str) = (
    ENTERING,
    "                self.look(Phase::Confirming)\n            }\n            ClaimResult::Taken",
    "                self.spend(now)\n            }\n            ClaimResult::Taken",
);

const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "no look under the lock",
        edits: &[NO_LOOK_UNDER_THE_LOCK],
        caught_by: (Story, "under_a_lock_a_refresh_is_look_lock_look_claim_look_spend_store"),
    },
    Mutation {
        name: "no look after the claim",
        edits: &[NO_LOOK_AFTER_THE_CLAIM],
        caught_by: (Exploration, "two_processes_refresh_once_and_have_the_same_token"),
    },
    Mutation {
        name: "no look under the lock and none after the claim",
        edits: &[NO_LOOK_UNDER_THE_LOCK, NO_LOOK_AFTER_THE_CLAIM],
        caught_by: (Exploration, "two_processes_refresh_once_and_have_the_same_token"),
    },
    Mutation {
        name: "a verdict over a newer session of another process",
        edits: &[(
            COMPARING,
            "        if changed {",
            "        if changed && looks > COMPARISON_DELAYS.len() {",
        )],
        caught_by: (Exploration, "a_newer_session_that_has_expired_is_refreshed"),
    },
    Mutation {
        name: "clear at any level",
        edits: &[(
            COMPARING,
            "if (self.input.level == Level::Locked || self.settings.swaps)",
            "if (self.input.level == Level::Locked || !self.settings.swaps)",
        )],
        caught_by: (Exploration, "a_dead_session_is_cleared_and_a_new_login_is_not"),
    },
    Mutation {
        name: "a store that swaps is not cleared",
        edits: &[(
            COMPARING,
            "if (self.input.level == Level::Locked || self.settings.swaps)",
            "if (self.input.level == Level::Locked)",
        )],
        caught_by: (Exploration, "a_dead_session_costs_two_requests_of_one_process"),
    },
    Mutation {
        name: "a replacement that the store did not answer counts as done",
        edits: &[(
            SPENDING,
            "                self.phase = Phase::Verifying(Box::new(new));\n                Step::Read",
            "                self.withdraw_and_end(self.refreshed(&new, None, now))",
        )],
        caught_by: (Exploration, "a_replacement_that_the_store_does_not_answer_loses_no_session"),
    },
    Mutation {
        name: "a failure beside a working token is a failure",
        edits: &[(
            ENDING,
            "filter(|_| self.latest_freshness(now).is_usable())",
            "filter(|_| self.latest_freshness(now).is_fresh())",
        )],
        caught_by: (Exploration, "while_the_token_works_no_process_waits_and_one_refreshes"),
    },
    Mutation {
        name: "a change of a store that swaps does not compare",
        edits: &[(
            CELL,
            "            if current != *expected {\n                return Ok(EditResult::Unchanged(WriteResult::Lost(self.snapshot(value))));",
            "            if current != *expected && bytes.is_empty() {\n                return Ok(EditResult::Unchanged(WriteResult::Lost(self.snapshot(value))));",
        )],
        caught_by: (Cell, "a_late_holder_commits_over_an_open_claim_and_never_over_a_commit"),
    },
    Mutation {
        name: "a claim is made beside a document that has changed",
        edits: &[(
            CELL,
            "            if value.revision() != *record.expected {",
            "            if value.revision() != *record.expected && record.bytes.is_empty() {",
        )],
        caught_by: (Cell, "a_record_is_created_only_if_the_document_is_the_expected_one"),
    },
    Mutation {
        name: "a verdict while another's claim is open",
        edits: &[(
            COMPARING,
            "if others.any(|other| other.may_answer(now.wall)) {",
            "if others.any(|other| other.may_answer(now.wall) && false) {",
        )],
        caught_by: (Exploration, "without_lock_and_claim_no_visible_newer_session_is_overwritten"),
    },
    Mutation {
        name: "no delays in the comparison loop",
        edits: &[(
            BOUNDS,
            "[Duration; 3] =\n    [Duration::from_millis(25), Duration::from_millis(50), Duration::from_millis(100)];",
            "[Duration; 0] = [];",
        )],
        caught_by: (Story, "a_session_of_another_process_is_used_at_each_look"),
    },
    Mutation {
        name: "an older session over a newer one",
        edits: &[(SPENDING, "(Some(_), _) => attempt.concerns(document),", "(Some(_), _) => true,")],
        caught_by: (Exploration, "a_new_login_survives_every_refresh"),
    },
    Mutation {
        name: "a third time after lost answers",
        edits: &[(SPENDING, "self.first_request = Some(FirstRequest::Lost(what));", "drop(what);")],
        caught_by: (Exploration, "after_two_lost_answers_there_is_no_third_request"),
    },
    Mutation {
        name: "the first refusal is final",
        edits: &[(COMPARING, "if self.first_request.is_none()\n", "if self.first_request.is_some()\n")],
        caught_by: (Exploration, "a_refusal_that_the_server_withdraws_costs_no_session"),
    },
    Mutation {
        name: "a third time after refusals",
        edits: &[(COMPARING, "self.first_request = Some(FirstRequest::Refused);", "")],
        caught_by: (Story, "under_the_lock_a_dead_session_is_cleared_and_the_configuration_kept"),
    },
    Mutation {
        name: "a record that is about to be spent on again still says looking",
        edits: &[(
            ENTERING,
            "Some(claim) if claim.attempt.outcome.is_some() => {",
            "Some(claim) if claim.number == u64::MAX => {",
        )],
        caught_by: (Story, "a_refusal_that_the_server_withdraws_a_moment_later_costs_nothing"),
    },
    Mutation {
        name: "a refresh that failed hands out the token that it was to replace",
        edits: &[(FRESHNESS, "self.is_valid() && self != Self::Unwanted", "self.is_valid()")],
        caught_by: (Story, "a_forced_refresh_that_fails_is_a_failure_although_the_token_still_works"),
    },
    Mutation {
        name: "an ID token is as fresh as the access token",
        edits: &[(
            FRESHNESS,
            "TokenKind::IdToken => id_token_age(session, demand.min_ttl, now),",
            "TokenKind::IdToken => age(session, demand.min_ttl, now),",
        )],
        caught_by: (Exploration, "processes_that_demand_the_id_token_share_one_refresh"),
    },
    Mutation {
        name: "an ID token that never comes is refreshed for again and again",
        edits: &[(FRESHNESS, "Freshness::Ended if is_newest && needs_no_refresh => Freshness::Missing,", "")],
        caught_by: (Exploration, "a_refresh_without_an_id_token_is_made_once_and_all_say_so"),
    },
    Mutation {
        name: "an answer without the ID token that was demanded is handed out",
        edits: &[(
            ENDING,
            "is_access_token || id_token_age(session, 0, now).is_valid()",
            "is_access_token || !id_token_age(session, 0, now).is_valid() || true",
        )],
        caught_by: (Exploration, "a_refresh_without_an_id_token_is_made_once_and_all_say_so"),
    },
    Mutation {
        name: "the own record does not say looking",
        edits: &[(
            SPENDING,
            "self.mark(AttemptOutcome::Looking, None, Phase::Comparing(looks), now)",
            "self.look(Phase::Comparing(looks))",
        )],
        caught_by: (Story, "the_own_record_says_looking_and_binds_no_process"),
    },
    Mutation {
        name: "the refresh token that a logout left is not revoked",
        edits: &[(
            SPENDING,
            "        self.phase = Phase::Revoking(texts::logged_out(&self.settings.profile));\n        Step::Revoke { document }",
            "        let _ = document;\n        self.withdraw_and_end(Err(texts::logged_out(&self.settings.profile)))",
        )],
        caught_by: (Story, "a_logout_is_never_undone_and_the_new_refresh_token_is_revoked"),
    },
    Mutation {
        name: "a logout does not look after its removal",
        edits: &[(
            LOGOUT,
            "self.was_gone = true;\n                LogoutStep::LookHere",
            "self.was_gone = true;\n                self.leave_here()",
        )],
        caught_by: (Exploration, "a_logout_survives_every_refresh_and_leaves_no_refresh_token_behind"),
    },
    Mutation {
        name: "a live claim is taken over",
        edits: &[(
            JUDGEMENT,
            "if binding && others.iter().any(|other| other.is_live(now) || other.is_looking(now)) {",
            "if binding && others.iter().any(|other| other.is_looking(now)) {",
        )],
        caught_by: (Exploration, "two_processes_refresh_once_and_have_the_same_token"),
    },
    Mutation {
        name: "until is ignored",
        edits: &[(
            ATTEMPT,
            "Presence::Unknown => now < self.attempt.until && ahead",
            "Presence::Unknown => ahead",
        )],
        caught_by: (Exploration, "the_claim_of_a_process_killed_on_another_machine_binds_until_it_ends"),
    },
    Mutation {
        name: "a suspended owner that runs is not awaited before the verdict",
        edits: &[(
            ATTEMPT,
            "&& (self.owner == Presence::Alive || self.may_run(now))",
            "&& self.may_run(now)",
        )],
        caught_by: (Exploration, "a_suspended_process_with_the_answer_is_awaited_before_the_verdict"),
    },
    Mutation {
        name: "a busy lock is as good as a granted one",
        edits: &[(
            ENTERING,
            "LockResult::Busy => self.lock(LockMode::AwaitRelease, now),\n            LockResult::Refused",
            "LockResult::Busy => self.look(Phase::Judging),\n            LockResult::Refused",
        )],
        caught_by: (Story, "a_waiter_that_finds_a_fresh_document_takes_no_lock"),
    },
    Mutation {
        name: "failures are shared that were there before",
        edits: &[(
            ENTERING,
            "self.input.failed_before = failed.map(|record| record.attempt.id.clone()).collect();",
            "let _ = failed.count();",
        )],
        caught_by: (Exploration, "a_process_that_waited_for_a_failed_attempt_sends_no_request"),
    },
    Mutation {
        name: "no failure is shared",
        edits: &[(
            JUDGEMENT,
            "    if binding\n        && let Some(failure)",
            "    if !binding\n        && let Some(failure)",
        )],
        caught_by: (Exploration, "a_process_that_waited_for_a_failed_attempt_sends_no_request"),
    },
    Mutation {
        name: "an answer to another session is adopted",
        edits: &[(JUDGEMENT, " && record.attempt.concerns(&stored.document))", ")")],
        caught_by: (Story, "a_record_about_another_session_means_nothing"),
    },
    Mutation {
        name: "a completed answer is not adopted",
        edits: &[(
            JUDGEMENT,
            "rfind(|other| other.has_answer && !other.is_live(now))",
            "rfind(|other| other.has_answer && other.number == u64::MAX)",
        )],
        caught_by: (Exploration, "a_killed_process_loses_no_session_that_was_written"),
    },
    Mutation {
        name: "a wait for a claim never ends",
        edits: &[(MACHINE, "        if left.is_zero() {", "        if left == Duration::MAX {")],
        caught_by: (Exploration, "the_claim_of_a_process_killed_on_another_machine_binds_until_it_ends"),
    },
    Mutation {
        name: "any number of generations is spent",
        edits: &[(
            ENTERING,
            "if self.generations >= MAX_GENERATIONS {",
            "if self.generations == u32::MAX - MAX_GENERATIONS {",
        )],
        caught_by: (Story, "a_newer_session_that_expired_is_refreshed_and_a_third_one_is_not"),
    },
    Mutation {
        name: "a caller without its worker gives up",
        edits: &[(
            ENTERING,
            "DelegateResult::NoWorker => self.look(Phase::Judging),",
            "DelegateResult::NoWorker => self.give_up(\"the worker died\"),",
        )],
        caught_by: (Exploration, "a_killed_caller_loses_nothing_because_its_worker_continues"),
    },
    Mutation {
        name: "a commit does not compare",
        edits: &[(
            FILE,
            "        if let Comparison::Different(current) = self.compare(expected)? {\n            let _ = fs::remove_file(&beside);",
            "        if let (Comparison::Different(current), true) = (self.compare(expected)?, bytes.is_empty()) {\n            let _ = fs::remove_file(&beside);",
        )],
        caught_by: (Store, "a_replacement_that_finds_another_document_or_none_changes_nothing"),
    },
    Mutation {
        name: "a commit over a document that was removed",
        edits: &[(
            FILE,
            "        if let Comparison::Different(current) = self.compare(expected)? {\n            let _ = fs::remove_file(&beside);",
            "        if let Comparison::Different(current @ Some(_)) = self.compare(expected)? {\n            let _ = fs::remove_file(&beside);",
        )],
        caught_by: (Store, "a_replacement_that_finds_another_document_or_none_changes_nothing"),
    },
    Mutation {
        name: "records are swept before the commit",
        edits: &[(
            FILE,
            "        if !self.replace_document(files, &beside)? {",
            "        if let Some(name) = attempt {\n            self.sweep(files, name);\n        }\n        if !self.replace_document(files, &beside)? {",
        )],
        caught_by: (Store, "a_commit_removes_no_later_claim"),
    },
    Mutation {
        name: "an answer is renamed before it is synced",
        edits: &[(
            FILE,
            "        written.sync_all().map_err(|error| failure(\"sync\", &beside, &error))?;\n",
            "        let _ = written;\n",
        )],
        caught_by: (PowerCut, "a_power_cut_during_a_refresh_costs_nothing_once_the_answer_is_synced"),
    },
    Mutation {
        name: "an answer is adopted before it is synced",
        edits: &[(
            FILE,
            "if_there(File::open(&answer).and_then(|file| file.sync_all()));",
            "if_there(File::open(&answer).map(drop));",
        )],
        caught_by: (PowerCut, "a_power_cut_during_an_adoption_costs_nothing_once_the_answer_is_synced"),
    },
    Mutation {
        name: "a commit sweeps later claims",
        edits: &[(
            FILE,
            "sidecar.number(name.key).is_some_and(|number| number <= name.number)",
            "sidecar.number(name.key).is_some()",
        )],
        caught_by: (Store, "a_commit_removes_no_later_claim"),
    },
    Mutation {
        name: "a broker answers a web page",
        edits: &[(DESK, "head.check_origin(&self.entrance).map_err(refuse)?;", "")],
        caught_by: (Desk, "a_request_is_refused_before_anything_is_looked_up_for_it"),
    },
    Mutation {
        name: "a broker answers without its key",
        edits: &[(DESK, "head.check_key(&self.entrance).map_err(refuse)?;", "")],
        caught_by: (Desk, "a_request_is_refused_before_anything_is_looked_up_for_it"),
    },
    Mutation {
        name: "a broker answers another user at its socket",
        edits: &[(DESK, "(shaped.is_some() || self.entrance.key.is_none())", "shaped.is_some()")],
        caught_by: (Desk, "without_a_key_the_user_of_the_other_end_is_asked_for_and_with_a_key_it_is_not"),
    },
    Mutation {
        name: "a broker answers another user at a path without a key",
        edits: &[(DESK, "(shaped.is_some() || self.entrance.key.is_none())", "self.entrance.key.is_none()")],
        caught_by: (Desk, "without_a_key_the_user_of_the_other_end_is_asked_for_and_with_a_key_it_is_not"),
    },
    Mutation {
        name: "a broker does equal work twice",
        edits: &[(
            DESK,
            "let waits = self.running.contains(task) || (is_full && task.needs_token());",
            "let waits = is_full && task.needs_token();",
        )],
        caught_by: (Desk, "equal_requests_share_one_piece_of_work_and_four_are_done_at_once"),
    },
    Mutation {
        name: "the token of another profile of a broker",
        edits: &[(BROKERED, "            && *named != served", "            && named.is_empty()")],
        caught_by: (Asking, "the_token_of_another_profile_than_the_named_one_is_not_used"),
    },
];

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).unwrap();
    }
}

/// A copy of the tree, and a target directory that all mutations share.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
    output: PathBuf,
}

impl Copy {
    fn new() -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutations");
        let tree = root.join("tree");
        let _ = fs::remove_dir_all(&tree);
        fs::create_dir_all(&tree).unwrap();
        for part in PARTS {
            copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join(part), &tree.join(part));
        }
        let copy = Self { tree, target: root.join("target"), output: root.join("output") };
        copy.take_dependencies();
        copy
    }

    /// Copies the dependencies that are built already. With the same profile and flags cargo takes them as they are.
    fn take_dependencies(&self) {
        let built = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let host = built.parent().unwrap();
        let triple = self.target.join(built.file_name().unwrap());
        for (from, to) in [(built, triple.as_path()), (host, self.target.as_path())] {
            let script = "mkdir -p \"$2/deps\" && cp -a \"$1/build\" \"$1/.fingerprint\" \"$2\" &&
                find \"$1/deps\" -name 'lib*' ! -name '*onegrant*' -exec cp -a -t \"$2/deps\" {} +";
            let mut shell = Command::new("sh");
            shell.args(["-ec", script, "sh"]).args([from.join("debug"), to.join("debug")]);
            assert!(shell.status().unwrap().success());
        }
    }

    /// Runs `cargo test` there; whether it succeeded, and what it said.
    fn cargo_test(&self, place: Place, arguments: &[&str]) -> (bool, String) {
        let output = File::create(&self.output).unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(&self.tree).args(["test", "--offline"]).args(place.target()).args(arguments);
        cargo.env("CARGO_TARGET_DIR", &self.target);
        cargo.env("CARGO_INCREMENTAL", "1").env("RUST_BACKTRACE", "0");
        cargo.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let mut child = cargo.spawn().unwrap();
        let began = Instant::now();
        let is_ok = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status.success(),
                None if began.elapsed() > LIMIT => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    break false;
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        (is_ok, String::from_utf8_lossy(&fs::read(&self.output).unwrap()).into_owned())
    }

    fn build(&self, place: Place) {
        let (is_built, said) = self.cargo_test(place, &["--no-run"]);
        assert!(is_built, "does not build: {said}");
    }

    /// Whether that very test fails; that it is there is asserted.
    fn fails(&self, place: Place, test: &str) -> bool {
        let name = place.full_name(test);
        let (is_ok, said) = self.cargo_test(place, &["--", "--include-ignored", "--exact", &name]);
        match is_ok {
            true => {
                assert!(said.contains(&format!("test {name} ... ok")), "there is no test {name}: {said}");
                false
            }
            false => {
                assert!(said.contains(&format!("test {name}")), "{name} was not run: {said}");
                true
            }
        }
    }

    /// Makes the edits; gives what the files were before.
    fn mutate(&self, mutation: &Mutation) -> Vec<(PathBuf, String)> {
        let mut before = Vec::new();
        for (file, old, new) in mutation.edits {
            let path = self.tree.join(file);
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replacen(old, new, 1)).unwrap();
            before.push((path, text));
        }
        before
    }
}

/// The text of all Rust files below a path.
fn texts(path: &Path) -> String {
    match path.is_dir() {
        true => fs::read_dir(path).unwrap().map(|entry| texts(&entry.unwrap().path())).collect(),
        false => fs::read_to_string(path).unwrap_or_default(),
    }
}

/// A change of the code shows at once which mutation does not apply any more, and whose test has another name now.
#[test]
fn each_mutation_has_its_place_and_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = |file: &str| fs::read_to_string(root.join(file)).unwrap();
    let tests = texts(&root.join("src")) + &texts(&root.join("tests"));
    for mutation in MUTATIONS {
        for (file, old, _) in mutation.edits {
            let occurs = source(file).matches(old).count();
            assert_eq!(occurs, 1, "{}: {file} contains this text {occurs} times: {old}", mutation.name);
        }
        let test = mutation.caught_by.1.rsplit("::").next().unwrap();
        let is_there =
            [format!("fn {test}("), format!("{test}, at_least ")].iter().any(|text| tests.contains(text));
        assert!(is_there, "{}: there is no test {test}", mutation.name);
    }
}

#[test]
#[ignore = "builds the crate once for each mutation: .ci/run mutations"]
fn each_mutation_is_caught() {
    let began = Instant::now();
    let words = std::env::var("ONEGRANT_MUTATION").unwrap_or_default();
    let mutations: Vec<&Mutation> =
        MUTATIONS.iter().filter(|mutation| mutation.name.contains(&words)).collect();
    let copy = Copy::new();
    let mut tests: Vec<(Place, &str)> = mutations.iter().map(|mutation| mutation.caught_by).collect();
    tests.sort_unstable();
    tests.dedup();
    for (place, test) in &tests {
        assert!(!copy.fails(*place, test), "{test} fails without any mutation");
    }
    println!("{:>4} s: {} tests pass without a mutation", began.elapsed().as_secs(), tests.len());

    let mut survived = Vec::new();
    for mutation in &mutations {
        let (place, test) = mutation.caught_by;
        let before = copy.mutate(mutation);
        copy.build(place);
        let is_caught = copy.fails(place, test);
        // The last edit first: two may be in one file.
        for (path, text) in before.into_iter().rev() {
            fs::write(path, text).unwrap();
        }
        let seconds = began.elapsed().as_secs();
        match is_caught {
            true => println!("{seconds:>4} s: {}: caught by {test}", mutation.name),
            false => {
                println!("{seconds:>4} s: {}: SURVIVED {test}", mutation.name);
                survived.push(mutation.name);
            }
        }
    }
    println!("{} passed, {} failed", mutations.len() - survived.len(), survived.len());
    assert!(!mutations.is_empty(), "no mutation is called {words}");
    assert_eq!(survived, Vec::<&str>::new());
}
