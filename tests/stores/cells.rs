//! A store in one value that is compared and swapped, with every fault that a server can have: a swap that is lost; a swap
//! without an answer that was made, was not made, or is made later; another process that is always faster.

use crate::support::Home;
use onegrant::error::{Failure, Kind};
use onegrant::lock::Locked;
use onegrant::session::{LockMode, Revision};
use onegrant::store::cell::{Cell, CellStore, RawValue, SwapResult, Version};
use onegrant::store::{NewRecord, RecordName, Store, WriteResult, absent};
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::rc::Rc;
use std::time::Duration;

const KEY: &str = "0123456789abcdef0123456789abcdef";
const OTHER_KEY: &str = "fedcba9876543210fedcba9876543210";
const OLD: &[u8] = br#"{"version":1,"token_endpoint":"https://as.example/t","session":null}"#;
const NEW: &[u8] = br#"{ "version":1,"token_endpoint":"https://as.example/t","session":{}}"#;
const NEWER: &[u8] = br#"{"version":1,"token_endpoint":"https://as.example/t","session":{"a":1}}"#;

/// What happens to one swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Made, without an answer.
    Made,
    /// Not made, without an answer.
    NotMade,
    /// Without an answer; made after the next read, if its condition still holds then.
    Late,
    /// Another process writes the same value first.
    Overtaken,
}

#[derive(Default)]
struct World {
    value: Option<(Vec<u8>, u64)>,
    last: u64,
    reads: u32,
    failing_reads: u32,
    /// How many seconds the clock of the client is ahead of the store's clock.
    ahead: i64,
    /// What the next wait returns, as if the value had changed.
    change: Option<(Vec<u8>, u64)>,
    faults: VecDeque<Fault>,
    late: Option<(Option<u64>, Option<Vec<u8>>)>,
    /// The store cannot be reached after that many swaps.
    swaps_left: Option<u32>,
}

impl World {
    fn swap(&mut self, expected: Option<u64>, bytes: Option<&[u8]>) -> bool {
        let is_as_expected = self.value.as_ref().map(|(_, version)| *version) == expected;
        if is_as_expected {
            self.last += 1;
            self.value = bytes.map(|bytes| (bytes.to_vec(), self.last));
        }
        is_as_expected
    }
}

#[derive(Clone, Default)]
struct Memory(Rc<RefCell<World>>);

fn cut_off() -> Failure {
    Failure::new(Kind::Store, "cut off")
}

impl Cell for Memory {
    fn read(&self, _: Duration) -> Result<RawValue, Failure> {
        let mut world = self.0.borrow_mut();
        if world.swaps_left == Some(0) {
            return Err(cut_off());
        }
        if world.failing_reads > 0 {
            world.failing_reads -= 1;
            return Err(Failure::new(Kind::Temporary, "away for a moment"));
        }
        world.reads += 1;
        let value = world.value.clone();
        if let Some((expected, bytes)) = world.late.take() {
            world.swap(expected, bytes.as_deref());
        }
        Ok(value.map(|(bytes, version)| (bytes, Version(version.to_string()))))
    }

    fn swap(&self, expected: Option<&Version>, bytes: Option<&[u8]>, _: Duration) -> SwapResult {
        let expected = expected.map(|version| version.0.parse().unwrap());
        let mut world = self.0.borrow_mut();
        match &mut world.swaps_left {
            Some(0) => return SwapResult::Failed(cut_off()),
            Some(left) => *left -= 1,
            None => {}
        }
        let fault = world.faults.pop_front().unwrap_or(Fault::None);
        match fault {
            Fault::None => match world.swap(expected, bytes) {
                true => SwapResult::Done,
                false => SwapResult::Lost,
            },
            Fault::Made => {
                world.swap(expected, bytes);
                SwapResult::Unknown("no answer".to_owned())
            }
            Fault::NotMade => SwapResult::Unknown("no answer".to_owned()),
            Fault::Late => {
                world.late = Some((expected, bytes.map(<[u8]>::to_vec)));
                SwapResult::Unknown("no answer".to_owned())
            }
            Fault::Overtaken => {
                world.last += 1;
                let last = world.last;
                world.value.iter_mut().for_each(|(_, version)| *version = last);
                match world.swap(expected, bytes) {
                    true => SwapResult::Done,
                    false => SwapResult::Lost,
                }
            }
        }
    }

    fn wait(&self, _: Duration) -> Option<RawValue> {
        let change = self.0.borrow_mut().change.take();
        change.map(|(bytes, version)| Some((bytes, Version(version.to_string()))))
    }

    fn ahead(&self) -> i64 {
        self.0.borrow().ahead
    }

    fn location(&self) -> String {
        "the memory of a test".to_owned()
    }
}

/// Machines that share one value. Each has its own home.
#[derive(Default)]
struct Shared {
    memory: Memory,
    homes: Vec<Home>,
}

impl Shared {
    fn holding(document: &[u8]) -> Self {
        let shared = Self::default();
        shared.memory.0.borrow_mut().swap(None, Some(document));
        shared
    }

    fn machine(&mut self) -> CellStore {
        self.homes.push(Home::new());
        self.process(self.homes.len() - 1)
    }

    fn process(&self, machine: usize) -> CellStore {
        let home = self.homes[machine].state.join("answers");
        CellStore::new(Box::new(self.memory.clone()), home, Duration::from_secs(60))
    }

    fn faults(&self, faults: &[Fault]) {
        self.memory.0.borrow_mut().faults = faults.iter().copied().collect();
    }

    fn cut_off_after(&self, swaps: Option<u32>) {
        self.memory.0.borrow_mut().swaps_left = swaps;
    }

    fn value(&self) -> Option<String> {
        let world = self.memory.0.borrow();
        world.value.as_ref().map(|(bytes, _)| String::from_utf8(bytes.clone()).unwrap())
    }

    /// The answer files on this machine.
    fn answers(&self, machine: usize) -> Vec<Vec<u8>> {
        let Ok(entries) = fs::read_dir(self.homes[machine].state.join("answers")) else { return vec![] };
        let read = |entry: fs::DirEntry| {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            fs::read(entry.path()).unwrap()
        };
        entries.map(|entry| read(entry.unwrap())).collect()
    }
}

fn name(number: u64) -> RecordName<'static> {
    RecordName { key: KEY, number }
}

fn revision(store: &CellStore) -> Revision {
    store.read().unwrap().map_or_else(absent, |snapshot| snapshot.revision)
}

fn claim(store: &CellStore, number: u64, text: &str) -> Option<u64> {
    let expected = revision(store);
    claim_for(store, KEY, number, text, &expected)
}

fn claim_for(store: &CellStore, key: &str, number: u64, text: &str, expected: &Revision) -> Option<u64> {
    store.create_record(&record(key, number, text, expected)).unwrap()
}

fn record<'a>(key: &'a str, number: u64, text: &'a str, expected: &'a Revision) -> NewRecord<'a> {
    NewRecord {
        name: RecordName { key, number },
        bytes: text.as_bytes(),
        reserve: 0,
        exclusive: true,
        expected,
        outdated: &[],
    }
}

fn records(store: &CellStore) -> Vec<(u64, String)> {
    let records = store.records(KEY).unwrap();
    records.into_iter().map(|record| (record.number, String::from_utf8(record.bytes).unwrap())).collect()
}

#[test]
fn the_document_and_its_records_keep_their_bytes_in_one_value() {
    let mut shared = Shared::default();
    let store = shared.machine();
    assert_eq!(store.read().unwrap(), None);
    assert_eq!(store.replace(&absent(), NEW, None), WriteResult::Done);
    assert_eq!(shared.value().unwrap().as_bytes(), NEW, "without records it is the document");
    let before = revision(&store);
    assert_eq!(claim(&store, 1, r#"{"id":"a"}"#), Some(1));
    let value: serde_json::Value = serde_json::from_str(&shared.value().unwrap()).unwrap();
    assert_eq!(value["attempts"][0]["record"], r#"{"id":"a"}"#);
    assert_eq!(value["version"], 1);
    let snapshot = store.read().unwrap().unwrap();
    assert_eq!((snapshot.bytes.as_slice(), snapshot.revision), (NEW, before));
    store.remove_record(name(1), b"another").unwrap();
    assert_eq!(records(&store), [(1, r#"{"id":"a"}"#.to_owned())]);
    store.remove_record(name(1), br#"{"id":"a"}"#).unwrap();
    assert_eq!(shared.value().unwrap().as_bytes(), NEW);
    assert_eq!(store.remove(&revision(&store), b""), WriteResult::Done);
    assert_eq!(shared.value(), None);
}

#[test]
fn the_order_of_members_in_a_value_does_not_matter() {
    let mut shared = Shared::holding(
        br#"{"version":1, "attempts":[{"number":3,"key":"0123456789abcdef0123456789abcdef","record":"r"}]}"#,
    );
    let store = shared.machine();
    assert_eq!(records(&store), [(3, "r".to_owned())]);
    assert_eq!(store.read().unwrap().unwrap().bytes, br#"{"version":1}"#);
    for foreign in [&b"no JSON"[..], b"", b"[]", br#"{"attempts":[}"#] {
        let mut shared = Shared::holding(foreign);
        let store = shared.machine();
        assert_eq!(store.read().unwrap().unwrap().bytes, foreign);
        let aside = store.set_aside().unwrap();
        assert_eq!(fs::read(aside).unwrap(), foreign);
        assert_eq!(store.replace(&revision(&store), NEW, None), WriteResult::Done);
    }
}

#[test]
fn a_record_is_created_only_if_the_document_is_the_expected_one() {
    let mut shared = Shared::holding(OLD);
    let (store, other) = (shared.machine(), shared.machine());
    let seen = revision(&store);
    assert_eq!(other.replace(&seen, NEW, None), WriteResult::Done);
    assert_eq!(claim_for(&store, KEY, 1, "late", &seen), None);
    assert_eq!(shared.value().unwrap().as_bytes(), NEW);
    // A record of another refresh token is older, and is removed.
    assert_eq!(claim_for(&store, OTHER_KEY, 1, "older", &revision(&store)), Some(1));
    assert_eq!(claim(&store, 1, "mine"), Some(1));
    assert_eq!(store.records(OTHER_KEY).unwrap(), []);
}

/// If a hundred processes wait, each extra read delays the last one.
#[test]
fn a_waiter_reads_the_document_once() {
    let mut shared = Shared::holding(OLD);
    let (holder, waiter) = (shared.machine(), shared.machine());
    assert_eq!(claim(&holder, 1, "holder"), Some(1));
    let reads = || std::mem::take(&mut shared.memory.0.borrow_mut().reads);
    reads();
    assert_eq!(revision(&waiter), revision(&waiter));
    assert_eq!(records(&waiter), [(1, "holder".to_owned())]);
    assert_eq!((records(&waiter).len(), revision(&waiter), reads()), (1, revision(&waiter), 1));

    assert_eq!(holder.replace(&revision(&holder), NEW, Some(name(1))), WriteResult::Done);
    reads();
    let value = shared.memory.0.borrow().value.clone();
    shared.memory.0.borrow_mut().change = value;
    waiter.pause(Duration::ZERO);
    assert_eq!(
        (records(&waiter), waiter.read().unwrap().unwrap().bytes.as_slice(), reads()),
        (vec![], NEW, 0)
    );
    // Now it waits for no other process, and reads again.
    waiter.pause(Duration::ZERO);
    assert_eq!((records(&waiter).len(), reads()), (0, 1));
}

#[test]
fn after_a_claim_the_value_is_read_again_and_a_claim_for_an_old_document_is_refused() {
    let mut shared = Shared::holding(OLD);
    let (one, other) = (shared.machine(), shared.machine());
    let seen = revision(&one);
    assert_eq!(other.replace(&seen, NEW, None), WriteResult::Done);
    assert_eq!(claim_for(&one, KEY, 1, "late", &seen), None, "the document has changed since it was read");
    let seen = revision(&one);
    assert_eq!(claim_for(&one, KEY, 1, "one", &seen), Some(1));
    assert_eq!(records(&one), [(1, "one".to_owned())]);
    assert_eq!(other.replace(&seen, NEWER, None), WriteResult::Done);
    assert_eq!((records(&one).len(), revision(&one) == seen), (1, false), "both were read again");
}

#[test]
fn a_late_holder_commits_over_an_open_claim_and_never_over_a_commit() {
    let mut shared = Shared::holding(OLD);
    let (late, taker) = (shared.machine(), shared.machine());
    let seen = revision(&late);
    assert_eq!(claim(&late, 1, "late"), Some(1));
    assert_eq!(claim(&taker, 2, "taker"), Some(2));
    assert_eq!(late.replace(&seen, NEW, Some(name(1))), WriteResult::Done);
    assert_eq!(records(&taker), [(2, "taker".to_owned())], "a live claim stays");
    assert!(
        matches!(taker.replace(&seen, NEWER, Some(name(2))), WriteResult::Lost(Some(it)) if it.bytes == NEW)
    );

    let seen = revision(&late);
    assert_eq!(claim(&late, 3, "late"), Some(3));
    assert_eq!(claim(&taker, 4, "taker"), Some(4));
    assert_eq!(taker.replace(&seen, NEWER, Some(name(4))), WriteResult::Done);
    assert!(
        matches!(late.replace(&seen, OLD, Some(name(3))), WriteResult::Lost(Some(it)) if it.bytes == NEWER)
    );
    assert_eq!(shared.value().unwrap().as_bytes(), NEWER);
    assert_eq!((shared.answers(0), shared.answers(1)), (vec![], vec![]));
}

#[test]
fn an_answer_that_cannot_be_stored_is_kept_on_this_machine_and_adopted() {
    let mut shared = Shared::holding(OLD);
    let (store, elsewhere) = (shared.machine(), shared.machine());
    let seen = revision(&store);
    assert_eq!(claim(&store, 1, "mine"), Some(1));
    shared.cut_off_after(Some(0));
    let WriteResult::Failed { failure, kept: Some(kept) } = store.replace(&seen, NEW, Some(name(1))) else {
        unreachable!("the store cannot be reached");
    };
    assert_eq!((failure.kind, fs::read(&kept).unwrap().as_slice()), (Kind::Store, NEW));
    shared.cut_off_after(None);
    assert_eq!(elsewhere.records(KEY).unwrap()[0].answer, b"");
    assert!(!elsewhere.adopt(name(1), &seen).unwrap());
    let next = shared.process(0);
    assert_eq!(next.records(KEY).unwrap()[0].answer, NEW);
    assert!(next.adopt(name(1), &seen).unwrap());
    assert_eq!(shared.value().unwrap().as_bytes(), NEW);
    assert_eq!(shared.answers(0), [[0; 0]; 0]);
}

#[test]
fn an_answer_to_an_older_refresh_token_is_not_adopted_and_the_next_claim_removes_it() {
    let mut shared = Shared::holding(OLD);
    let (store, elsewhere) = (shared.machine(), shared.machine());
    let seen = revision(&store);
    assert_eq!(claim(&store, 1, "mine"), Some(1));
    shared.cut_off_after(Some(0));
    assert!(matches!(store.replace(&seen, NEW, Some(name(1))), WriteResult::Failed { .. }));
    shared.cut_off_after(None);
    assert_eq!(elsewhere.replace(&seen, NEWER, None), WriteResult::Done);
    let next = shared.process(0);
    assert!(!next.adopt(name(1), &seen).unwrap());
    assert_eq!(next.read().unwrap().unwrap().bytes, NEWER);
    assert_eq!(shared.answers(0), [NEW]);
    assert_eq!(claim_for(&next, OTHER_KEY, 1, "next", &revision(&next)), Some(1));
    assert_eq!(shared.answers(0), [[0; 0]; 0]);
}

/// The later claim may be live. Its process may be on another machine, so the one that adopts cannot know that it was killed
/// since.
#[test]
fn an_adoption_keeps_a_later_claim_and_the_next_claim_for_the_new_refresh_token_removes_it() {
    let mut shared = Shared::holding(OLD);
    let (store, elsewhere) = (shared.machine(), shared.machine());
    let seen = revision(&store);
    assert_eq!(claim(&store, 1, "mine"), Some(1));
    shared.cut_off_after(Some(0));
    assert!(matches!(store.replace(&seen, NEW, Some(name(1))), WriteResult::Failed { kept: Some(_), .. }));
    shared.cut_off_after(None);
    assert_eq!(claim(&elsewhere, 2, "later"), Some(2));
    let next = shared.process(0);
    assert!(next.adopt(name(1), &seen).unwrap());
    assert_eq!(next.read().unwrap().unwrap().bytes, NEW);
    assert_eq!(records(&next), [(2, "later".to_owned())], "it may be a live claim");
    assert_eq!(next.records(OTHER_KEY).unwrap(), [], "it is not about the new refresh token");
    assert_eq!(claim_for(&next, OTHER_KEY, 1, "next", &revision(&next)), Some(1));
    assert_eq!((records(&next), next.records(OTHER_KEY).unwrap().len()), (vec![], 1));
    assert_eq!(
        next.replace(&revision(&next), NEWER, Some(RecordName { key: OTHER_KEY, number: 1 })),
        WriteResult::Done
    );
    assert_eq!(shared.value().unwrap().as_bytes(), NEWER, "nothing else is left");
}

#[test]
fn if_this_machine_can_keep_no_file_an_answer_goes_to_the_store_alone() {
    let shared = Shared::holding(OLD);
    let store =
        CellStore::new(Box::new(shared.memory.clone()), "/proc/nowhere".into(), Duration::from_secs(60));
    assert_eq!(claim(&store, 1, "mine"), Some(1));
    assert_eq!(store.replace(&revision(&store), NEW, Some(name(1))), WriteResult::Done);
    assert_eq!(shared.value().unwrap().as_bytes(), NEW);
}

#[test]
fn a_cell_has_no_lock_and_the_write_check_leaves_nothing() {
    let mut shared = Shared::default();
    let store = shared.machine();
    assert!(matches!(store.lock(LockMode::Try, Duration::ZERO), Locked::Refused(_)));
    store.check_writable().unwrap();
    assert_eq!(shared.value(), None);
    assert_eq!(store.replace(&absent(), OLD, None), WriteResult::Done);
    store.check_writable().unwrap();
    assert_eq!(shared.value().unwrap().as_bytes(), OLD);
    shared.cut_off_after(Some(0));
    assert_eq!(store.check_writable(), Err(cut_off()));
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        Just(Fault::None),
        Just(Fault::Made),
        Just(Fault::NotMade),
        Just(Fault::Late),
        Just(Fault::Overtaken)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn with_any_faults_of_swaps_one_process_claims_and_its_commit_is_stored(
        faults in prop::collection::vec(fault(), 0..12),
        reversed in any::<bool>(),
    ) {
        let mut shared = Shared::holding(OLD);
        let (one, two) = (shared.machine(), shared.machine());
        let seen = revision(&one);
        shared.faults(&faults);
        let (first, second) = if reversed { (&two, &one) } else { (&one, &two) };
        let claims = [claim_for(first, KEY, 1, "first", &seen), claim_for(second, KEY, 1, "second", &seen)];
        prop_assert_eq!(claims, [Some(1), None]);
        first.rewrite_record(name(1), b"first", b"looking", false).unwrap();
        prop_assert_eq!(records(second), vec![(1, "looking".to_owned())]);
        prop_assert_eq!(first.replace(&seen, NEW, Some(name(1))), WriteResult::Done);
        let is_lost = matches!(second.replace(&seen, NEWER, None), WriteResult::Lost(Some(it)) if it.bytes == NEW);
        prop_assert!(is_lost);
        // No swap is late any more.
        shared.faults(&[]);
        prop_assert_eq!(records(second), vec![]);
        prop_assert_eq!(second.read().unwrap().unwrap().bytes, NEW);
        prop_assert_eq!(first.remove(&revision(first), b""), WriteResult::Done);
        prop_assert_eq!(shared.value(), None);
    }
}

/// A person may need longer than the deadline for a login, and this is the only copy of the grant.
#[test]
fn an_unanswered_login_is_read_back_even_after_the_deadline() {
    for fault in [Fault::Made, Fault::NotMade, Fault::Late] {
        let mut shared = Shared::holding(OLD);
        let seen = revision(&shared.machine());
        let late = CellStore::new(Box::new(shared.memory.clone()), "/proc/nowhere".into(), Duration::ZERO);
        shared.faults(&[fault]);
        assert_eq!(late.replace(&seen, NEW, None), WriteResult::Done, "{fault:?}");
        assert_eq!(shared.value().unwrap().as_bytes(), NEW, "{fault:?}");
    }
}

#[test]
fn an_answer_is_stored_after_a_short_outage_of_the_store() {
    let mut shared = Shared::holding(OLD);
    let store = shared.machine();
    let seen = revision(&store);
    assert_eq!(claim(&store, 1, "mine"), Some(1));
    shared.memory.0.borrow_mut().failing_reads = 5;
    assert_eq!(store.replace(&seen, NEW, Some(name(1))), WriteResult::Done);
    assert_eq!((shared.value().unwrap().as_bytes(), shared.answers(0)), (NEW, vec![]));
}

#[test]
fn a_write_without_an_answer_is_unknown_and_no_failure() {
    let mut shared = Shared::holding(OLD);
    let store = shared.machine();
    let seen = revision(&store);
    shared.faults(&[Fault::Made]);
    shared.cut_off_after(Some(1));
    assert_eq!(store.replace(&seen, NEW, None), WriteResult::Unknown);
}

#[test]
fn a_claim_without_an_answer_is_removed_when_its_process_gives_up() {
    let mut shared = Shared::holding(OLD);
    let (store, other) = (shared.machine(), shared.machine());
    let seen = revision(&store);
    shared.faults(&[Fault::Made]);
    shared.memory.0.borrow_mut().failing_reads = 1;
    assert!(store.create_record(&record(KEY, 1, "mine", &seen)).is_err());
    assert_eq!(records(&other), [], "no process waits for it");
}

/// If refresh tokens do not rotate, a record can have the name of an earlier one.
#[test]
fn the_answer_to_an_earlier_attempt_is_not_taken_for_the_answer_to_a_new_one() {
    let mut shared = Shared::holding(OLD);
    let store = shared.machine();
    let seen = revision(&store);
    assert_eq!(claim(&store, 1, "first"), Some(1));
    shared.cut_off_after(Some(0));
    assert!(matches!(store.replace(&seen, NEW, Some(name(1))), WriteResult::Failed { kept: Some(_), .. }));
    shared.cut_off_after(None);
    store.remove_record(name(1), b"first").unwrap();
    assert_eq!(claim(&store, 1, "second"), Some(1));
    assert_eq!(store.records(KEY).unwrap()[0].answer, b"");
}

/// The clock of one machine is a minute ahead. The other one converts the times by means of the store's clock.
#[test]
fn the_times_of_a_claim_follow_the_clock_of_its_reader() {
    let mut shared = Shared::holding(OLD);
    let (writer, reader) = (shared.machine(), shared.machine());
    let ahead = |seconds| shared.memory.0.borrow_mut().ahead = seconds;
    ahead(60);
    assert_eq!(claim(&writer, 1, r#"{"id":"a","at":1060,"until":1100}"#), Some(1));
    assert_eq!(records(&writer), [(1, r#"{"id":"a","at":1060,"until":1100}"#.to_owned())]);
    for (seconds, expected) in [
        (0, r#"{"at":1000,"id":"a","until":1040}"#),
        (-30, r#"{"at":970,"id":"a","until":1010}"#),
        // So small a difference comes from a clock of whole seconds and a slow answer.
        (58, r#"{"id":"a","at":1060,"until":1100}"#),
    ] {
        ahead(seconds);
        reader.pause(Duration::ZERO);
        assert_eq!(records(&reader), [(1, expected.to_owned())], "{seconds}");
    }
}

#[test]
fn an_empty_value_that_a_kill_left_is_removed() {
    let mut shared = Shared::holding(OLD);
    shared.memory.0.borrow_mut().value = Some((br#"{"attempts":[]}"#.to_vec(), 1));
    shared.machine().check_writable().unwrap();
    assert_eq!(shared.value(), None);
}
