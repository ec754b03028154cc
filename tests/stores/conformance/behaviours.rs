//! The behaviours. Each opens its own stores, as different processes do, and does not know their kind. A store that is opened
//! again sees what another process has changed. An open one may reuse what it read, until its process waits or writes.

use super::Keeper;
use crate::support::LIMIT;
use onegrant::error::Kind;
use onegrant::lock::{Guard, Locked};
use onegrant::session::{LockMode, Revision};
use onegrant::store::{NewRecord, RecordName, Snapshot, Store, WriteResult, absent};
use std::thread;
use std::time::Duration;

/// Long enough to see that nothing happens.
const MOMENT: Duration = Duration::from_millis(60);

const RECORD: &[u8] = b"{\"id\":\"mine\"}";

/// A document as the program writes it: one line. A store does not look at its members.
fn document(word: &str) -> Vec<u8> {
    format!("{{\"version\":1,\"word\":\"{word}\",\"odd\":\"\\\\ \\\" 'é€'\"}}\n").into_bytes()
}

#[track_caller]
fn read(store: &dyn Store) -> Snapshot {
    store.read().unwrap().unwrap()
}

#[track_caller]
fn write(store: &dyn Store, expected: &Revision, word: &str) -> Revision {
    assert_eq!(store.replace(expected, &document(word), None), WriteResult::Done);
    read(store).revision
}

/// The lock, if the store has one.
#[track_caller]
fn lock(store: &dyn Store) -> Option<Guard> {
    match store.lock(LockMode::Queue, LIMIT) {
        Locked::Granted(guard) => Some(guard),
        Locked::Refused(_) => None,
        other => panic!("{other:?}"),
    }
}

fn new_record<'a>(key: &'a str, number: u64, exclusive: bool, expected: &'a Revision) -> NewRecord<'a> {
    NewRecord {
        name: RecordName { key, number },
        bytes: RECORD,
        reserve: 1000,
        exclusive,
        expected,
        outdated: &[],
    }
}

#[track_caller]
fn numbers(store: &dyn Store, key: &str) -> Vec<u64> {
    store.records(key).unwrap().iter().map(|record| record.number).collect()
}

pub fn a_new_store_is_empty(keeper: &Keeper) {
    let store = keeper.store();
    assert_eq!(store.read().unwrap(), None);
    assert_eq!(store.records("key").unwrap(), []);
    assert_eq!(store.remove(&absent(), b"{}\n"), WriteResult::Done);
    assert!(matches!(store.remove(&Revision("other".to_owned()), b"{}\n"), WriteResult::Lost(None)));
    assert!(!store.adopt(RecordName { key: "key", number: 1 }, &absent()).unwrap());
    assert!(!store.location().is_empty());
    assert!(matches!(
        store.replace(&Revision("other".to_owned()), &document("a"), None),
        WriteResult::Lost(None)
    ));
    assert_eq!(store.read().unwrap(), None);
}

pub fn a_document_is_read_as_it_was_written(keeper: &Keeper) {
    let store = keeper.store();
    let long = document(&"x".repeat(30_000));
    for bytes in [document("one"), long, document("shorter")] {
        let expected = store.read().unwrap().map_or_else(absent, |snapshot| snapshot.revision);
        assert_eq!(store.replace(&expected, &bytes, None), WriteResult::Done);
        let (mine, others) = (read(&*store), read(&*keeper.store()));
        assert_eq!(String::from_utf8_lossy(&mine.bytes), String::from_utf8_lossy(&bytes));
        assert_eq!(mine, others);
        assert_ne!(mine.revision, expected, "another document is another revision");
    }
}

pub fn a_replacement_compares_the_revision(keeper: &Keeper) {
    let (store, other) = (keeper.store(), keeper.store());
    let first = write(&*store, &absent(), "first");
    let second = write(&*other, &first, "second");
    for stale in [absent(), first] {
        match store.replace(&stale, &document("stale"), None) {
            WriteResult::Lost(Some(there)) => {
                assert_eq!((there.bytes, &there.revision), (document("second"), &second))
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(read(&*store).bytes, document("second"));
}

pub fn readers_see_whole_documents(keeper: &Keeper) {
    let words = ["a".repeat(20_000), "b".repeat(10)];
    let store = keeper.store();
    let mut revision = write(&*store, &absent(), &words[0]);
    let open = &keeper.open;
    thread::scope(|scope| {
        let reader = || {
            let store = open("default", LIMIT);
            for _ in 0..25 {
                let bytes = read(&*store).bytes;
                assert!(words.iter().any(|word| document(word) == bytes), "{} bytes", bytes.len());
            }
        };
        scope.spawn(reader);
        scope.spawn(reader);
        for round in 1..20 {
            revision = write(&*store, &revision, &words[round % 2]);
        }
    });
}

/// A process that holds the lock or, without locks, wins the comparison has seen every earlier change.
pub fn no_update_is_lost(keeper: &Keeper) {
    write(&*keeper.store(), &absent(), "");
    let open = &keeper.open;
    let add = |letter: &str| {
        let store = open("default", LIMIT);
        loop {
            let guard = lock(&*store);
            let snapshot = read(&*store);
            let text = String::from_utf8(snapshot.bytes).unwrap();
            let word = text.split('"').nth(5).unwrap();
            let written = store.replace(&snapshot.revision, &document(&format!("{word}{letter}")), None);
            drop(guard);
            match written {
                WriteResult::Done => return,
                WriteResult::Lost(_) | WriteResult::Unknown => continue,
                WriteResult::Failed { failure, .. } => panic!("{failure}"),
            }
        }
    };
    thread::scope(|scope| {
        for letter in ["a", "b", "c", "d", "e", "f"] {
            scope.spawn(move || add(letter));
        }
    });
    let mut word =
        String::from_utf8(read(&*keeper.store()).bytes).unwrap().split('"').nth(5).unwrap().to_owned();
    sort(&mut word);
    assert_eq!(word, "abcdef");
}

fn sort(word: &mut String) {
    let mut letters: Vec<char> = word.chars().collect();
    letters.sort_unstable();
    *word = letters.into_iter().collect();
}

pub fn the_lock_has_one_holder(keeper: &Keeper) {
    let (store, other, other_profile) = (keeper.store(), keeper.store(), keeper.store_of("other"));
    let Some(guard) = lock(&*store) else {
        assert!(matches!(other.lock(LockMode::Try, LIMIT), Locked::Refused(_)), "no process gets a lock");
        return;
    };
    assert!(matches!(other.lock(LockMode::Try, LIMIT), Locked::Busy));
    assert!(
        matches!(other.lock(LockMode::Queue, MOMENT), Locked::Unanswered),
        "the wait ends by its deadline"
    );
    assert!(lock(&*other_profile).is_some(), "every profile has its own lock");
    // The same call again goes on waiting.
    drop(guard);
    let guard = lock(&*other).unwrap();
    assert!(matches!(store.lock(LockMode::Try, LIMIT), Locked::Busy));
    drop(guard);
    assert!(matches!(store.lock(LockMode::Try, LIMIT), Locked::Granted(_)));
}

pub fn awaiting_a_release_takes_no_lock(keeper: &Keeper) {
    let (store, other) = (keeper.store(), keeper.store());
    let Some(guard) = lock(&*store) else { return };
    assert!(matches!(other.lock(LockMode::AwaitRelease, MOMENT), Locked::Unanswered));
    drop(guard);
    let Locked::Granted(_released) = other.lock(LockMode::AwaitRelease, LIMIT) else { panic!("not granted") };
    assert!(matches!(store.lock(LockMode::Try, LIMIT), Locked::Granted(_)));
}

pub fn a_record_is_created_by_one_process(keeper: &Keeper) {
    let (store, other) = (keeper.store(), keeper.store());
    let revision = write(&*store, &absent(), "a");
    assert_eq!(store.create_record(&new_record("key", 1, true, &revision)).unwrap(), Some(1));
    assert_eq!(other.create_record(&new_record("key", 1, true, &revision)).unwrap(), None);
    assert_eq!(other.create_record(&new_record("key", 1, false, &revision)).unwrap(), Some(2));
    let records = store.records("key").unwrap();
    assert_eq!(records.iter().map(|record| record.number).collect::<Vec<_>>(), [1, 2]);
    assert!(records.iter().all(|record| record.bytes == RECORD && record.answer.is_empty()), "{records:?}");
    let winners: usize = thread::scope(|scope| {
        let create = || {
            let store = keeper.store();
            store.create_record(&new_record("key", 3, true, &revision)).unwrap().is_some()
        };
        let all: Vec<_> = (0..6).map(|_| scope.spawn(create)).collect();
        all.into_iter().map(|one| usize::from(one.join().unwrap())).sum()
    });
    assert_eq!(winners, 1);
}

pub fn a_record_is_changed_only_by_its_creator(keeper: &Keeper) {
    let (store, other) = (keeper.store(), keeper.store());
    let revision = write(&*store, &absent(), "a");
    let name = RecordName { key: "key", number: 1 };
    store.create_record(&new_record("key", 1, true, &revision)).unwrap();
    other.rewrite_record(name, b"another", b"overwritten", true).unwrap();
    other.remove_record(name, b"another").unwrap();
    assert_eq!(store.records("key").unwrap()[0].bytes, RECORD);
    store.rewrite_record(name, RECORD, b"{\"id\":\"done\"}", true).unwrap();
    assert_eq!(keeper.store().records("key").unwrap()[0].bytes, b"{\"id\":\"done\"}");
    store.remove_record(name, b"{\"id\":\"done\"}").unwrap();
    assert_eq!(numbers(&*keeper.store(), "key"), [0; 0]);
    assert_eq!(read(&*store).revision, revision, "a record is not the document");
}

pub fn a_commit_sweeps_its_record_and_those_before_it(keeper: &Keeper) {
    let store = keeper.store();
    let revision = write(&*store, &absent(), "a");
    for number in 1..=3 {
        assert_eq!(store.create_record(&new_record("key", number, true, &revision)).unwrap(), Some(number));
    }
    let name = RecordName { key: "key", number: 2 };
    assert_eq!(store.replace(&revision, &document("b"), Some(name)), WriteResult::Done);
    assert_eq!(read(&*keeper.store()).bytes, document("b"));
    assert_eq!(numbers(&*keeper.store(), "key"), [3], "a higher one may be a live claim");
}

pub fn a_new_record_sweeps_those_of_spent_tokens(keeper: &Keeper) {
    let store = keeper.store();
    let first = write(&*store, &absent(), "a");
    store.create_record(&new_record("old", 1, true, &first)).unwrap();
    let second = write(&*store, &first, "b");
    // The document has changed: it is not known which refresh tokens are spent.
    store.create_record(&new_record("stale", 1, true, &first)).unwrap();
    assert_eq!(numbers(&*store, "old"), [1]);
    store.create_record(&new_record("new", 1, true, &second)).unwrap();
    assert_eq!((numbers(&*store, "old"), numbers(&*store, "new")), (vec![], vec![1]));
}

/// Leaves the same as a process that ends between the server's answer and the commit.
#[track_caller]
fn leave_an_answer(keeper: &Keeper) -> Revision {
    let store = keeper.impatient_store();
    let revision = write(&*store, &absent(), "a");
    let name = RecordName { key: "key", number: 1 };
    store.create_record(&new_record("key", 1, true, &revision)).unwrap();
    (keeper.fail)(true);
    match store.replace(&revision, &document("b"), Some(name)) {
        WriteResult::Failed { kept: Some(kept), .. } => assert!(!kept.is_empty()),
        other => panic!("{other:?}"),
    }
    (keeper.fail)(false);
    revision
}

pub fn an_answer_that_could_not_be_stored_is_adopted_once(keeper: &Keeper) {
    let revision = leave_an_answer(keeper);
    let (store, name) = (keeper.store(), RecordName { key: "key", number: 1 });
    assert_eq!(read(&*store).revision, revision);
    assert_eq!(store.records("key").unwrap()[0].answer, document("b"));
    assert!(!store.adopt(name, &absent()).unwrap(), "only over the expected document");
    assert!(store.adopt(name, &revision).unwrap());
    assert_eq!(read(&*keeper.store()).bytes, document("b"));
    assert_eq!(numbers(&*store, "key"), [0; 0]);
    assert!(!store.adopt(name, &read(&*store).revision).unwrap(), "it was adopted already");
}

pub fn a_late_answer_is_not_adopted(keeper: &Keeper) {
    let revision = leave_an_answer(keeper);
    let store = keeper.store();
    write(&*store, &revision, "newer");
    assert!(!store.adopt(RecordName { key: "key", number: 1 }, &revision).unwrap());
    assert_eq!(read(&*store).bytes, document("newer"));
}

pub fn a_failing_store_is_not_an_empty_one(keeper: &Keeper) {
    let store = keeper.store();
    let revision = write(&*store, &absent(), "a");
    (keeper.fail)(true);
    let store = keeper.impatient_store();
    let failure = store.read().unwrap_err();
    assert!(matches!(failure.kind, Kind::Store | Kind::Temporary), "{failure:?}");
    for expected in [&revision, &absent()] {
        match store.replace(expected, &document("b"), None) {
            WriteResult::Failed { failure, kept: None } => assert_ne!(failure.message, ""),
            WriteResult::Unknown => {}
            other => panic!("{other:?}"),
        }
    }
    (keeper.fail)(false);
    assert_eq!(read(&*keeper.store()).bytes, document("a"));
}

pub fn a_removal_removes_the_records(keeper: &Keeper) {
    let store = keeper.store();
    let revision = write(&*store, &absent(), "a");
    store.create_record(&new_record("key", 1, true, &revision)).unwrap();
    assert_eq!(store.remove(&revision, b"{}\n"), WriteResult::Done);
    assert_eq!(keeper.store().read().unwrap(), None);
    assert_eq!(numbers(&*store, "key"), [0; 0]);
    write(&*store, &absent(), "again");
}

pub fn a_removal_compares_the_revision(keeper: &Keeper) {
    let (store, other) = (keeper.store(), keeper.store());
    let first = write(&*store, &absent(), "first");
    let second = write(&*other, &first, "second");
    other.create_record(&new_record("key", 1, true, &second)).unwrap();
    for stale in [absent(), first] {
        match store.remove(&stale, b"{}\n") {
            WriteResult::Lost(Some(there)) => {
                assert_eq!((there.bytes, &there.revision), (document("second"), &second))
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(read(&*keeper.store()).bytes, document("second"));
    assert_eq!(numbers(&*keeper.store(), "key"), [1]);
    assert_eq!(store.remove(&second, b"{}\n"), WriteResult::Done);
    assert_eq!(keeper.store().read().unwrap(), None);
}

pub fn profiles_are_separate(keeper: &Keeper) {
    let (one, two) = (keeper.store(), keeper.store_of("default.2"));
    let revision = write(&*one, &absent(), "one");
    assert_eq!(two.read().unwrap(), None);
    let other = write(&*two, &absent(), "two");
    one.create_record(&new_record("key", 1, true, &revision)).unwrap();
    assert_eq!(numbers(&*two, "key"), [0; 0]);
    two.create_record(&new_record("key", 1, true, &other)).unwrap();
    assert_eq!(one.remove(&revision, b"{}\n"), WriteResult::Done);
    assert_eq!(read(&*two).bytes, document("two"));
    assert_eq!(numbers(&*two, "key"), [1]);
}
