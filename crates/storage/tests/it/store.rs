//! The store under crashes and failures at every file operation, and under many threads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use quorate_record::{Key, NodeId, Record, Timestamp, Version, Writer};
use quorate_storage::fault::{Crash, Fault, FaultFs, FaultKind};
use quorate_storage::{
    Applied, Completion, Drive, LogOptions, ReadError, RealFs, Recovered, Store, StoreOptions,
};

const DIR: &str = "/data";
const KEYS: u64 = 9;
const WRITES: u64 = 60;

fn token_of(key: &[u8]) -> u64 {
    key.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn options() -> StoreOptions {
    let log = LogOptions {
        drive: Drive::Manual,
        segment_bytes: 2048,
        max_payload_bytes: 1024,
        prepare_ahead_bytes: 512,
        prepare_chunk_bytes: 512,
        ..LogOptions::default()
    };
    StoreOptions { log, secret: Some([7; 16]), ..StoreOptions::new(token_of) }
}

fn key(number: u64) -> Key {
    Key::new(format!("key{number}")).unwrap()
}

fn record(timestamp: u64) -> Record {
    let writer = Writer { node: NodeId::new("n1").unwrap(), incarnation: 1 };
    let version = Version { timestamp: Timestamp::from_bits(timestamp), writer };
    match timestamp % 7 {
        0 => Record::tombstone(version),
        _ => Record::live(version, format!("value {timestamp:0100}")),
    }
}

/// The write with this number: newer ones mostly, some older ones, some again.
fn write(number: u64) -> (Key, Record) {
    let timestamp = match number % 5 {
        3 => number / 2 + 1,
        4 => number,
        _ => number + 1,
    };
    (key(number % KEYS), record(timestamp))
}

fn scan(store: &Store) -> Vec<(Key, Record)> {
    let scanned = store.scan(None, usize::MAX).unwrap();
    assert_eq!(scanned.damaged, 0);
    scanned.records
}

/// What the store has promised.
#[derive(Default)]
struct Promised {
    records: BTreeMap<Key, Record>,
    ceiling: Option<Timestamp>,
}

impl Promised {
    fn take_in(&mut self, store: &Store) {
        let mut done = Vec::new();
        store.take_completions(&mut done);
        for Completion { id, outcome } in done {
            if outcome.is_err() {
                continue;
            }
            if id >= WRITES {
                self.ceiling = self.ceiling.max(Some(Timestamp::from_bits(id)));
                continue;
            }
            let (key, record) = write(id);
            let least = match outcome {
                Ok(Applied::Superseded(version)) => {
                    assert!(version > record.version);
                    record
                }
                _ => record,
            };
            let known = self.records.entry(key).or_insert_with(|| least.clone());
            *known = known.clone().max(least);
        }
    }
}

/// Writes, ceilings and snapshots over several segments.
fn run(fs: &FaultFs) -> Promised {
    let mut promised = Promised::default();
    let opened = Store::open(Arc::new(fs.clone()), DIR.as_ref(), &options(), Box::new(|| {}));
    let Ok((store, _)) = opened else { return promised };
    for number in 0..WRITES {
        let (key, record) = write(number);
        let _ = store.apply(number, key, record);
        if number % 20 == 3 {
            let _ = store.reserve_clock(WRITES + number, Timestamp::from_bits(WRITES + number));
        }
        if number % 3 == 0 {
            store.turn(Duration::ZERO);
            promised.take_in(&store);
        }
        if number % 17 == 16 {
            let _ = store.snapshot();
        }
        // A little at a time, so that much can come between.
        let _ = store.compact(400);
    }
    store.turn(Duration::ZERO);
    promised.take_in(&store);
    for (key, record) in &promised.records {
        match store.get(key) {
            Ok(found) => assert!(found.as_ref() >= Some(record), "promised and not there"),
            Err(error) => assert!(matches!(error, ReadError::Io(_)), "{error}"),
        }
    }
    promised
}

fn reopen(fs: &FaultFs) -> (Store, Recovered) {
    Store::open(Arc::new(fs.clone()), DIR.as_ref(), &options(), Box::new(|| {})).unwrap()
}

/// Opens what a crash left, and holds it against what was promised.
fn check(fs: &FaultFs, promised: &Promised, at: &str) {
    let (store, recovered) = reopen(fs);
    assert!(
        recovered.damages.is_empty()
            && recovered.bad_snapshots.is_empty()
            && recovered.lost_records == 0,
        "{at}: {recovered:?}"
    );
    assert!(recovered.clock_ceiling >= promised.ceiling, "{at}");
    let written: BTreeSet<(Key, Option<Version>)> =
        (0..WRITES).map(write).map(|(key, record)| (key, Some(record.version))).collect();
    let found: BTreeMap<Key, Record> = scan(&store).into_iter().collect();
    for (key, record) in &promised.records {
        assert!(found.get(key) >= Some(record), "{at}: {key} is lost");
    }
    for (key, found) in &found {
        let version = found.version;
        assert!(written.contains(&(key.clone(), Some(version))), "{at}: {key} was never written");
        assert_eq!(found, &record(version.timestamp.bits()), "{at}");
    }

    // It goes on from here: what is added now is there as well after another crash.
    store.apply(0, key(0), record(1000)).unwrap();
    store.turn(Duration::ZERO);
    let mut found = found;
    found.insert(key(0), record(1000));
    let digest = store.digest(0..=u64::MAX);
    let fs = fs.crash(Crash::Nothing);
    let (store, recovered) = reopen(&fs);
    assert!(
        recovered.damages.is_empty()
            && recovered.bad_snapshots.is_empty()
            && recovered.lost_records == 0,
        "{at}: {recovered:?}"
    );
    assert_eq!(scan(&store).into_iter().collect::<BTreeMap<_, _>>(), found, "{at}");
    assert_eq!(store.digest(0..=u64::MAX), digest, "{at}");
}

fn crashes(seed: u64) -> Vec<Crash> {
    let mut crashes = vec![Crash::Nothing, Crash::Everything];
    crashes.extend((0..4).map(Crash::Prefix));
    crashes.extend((0..6).map(|n| Crash::Random(100 * seed + n)));
    crashes
}

#[test]
fn a_crash_at_any_file_operation_loses_nothing_that_was_promised() {
    for at in 0.. {
        let fs = FaultFs::new();
        fs.set_fault(Some(Fault { at, kind: FaultKind::Io, sticky: true, seed: at }));
        let promised = run(&fs);
        for crash in crashes(at) {
            check(&fs.crash(crash), &promised, &format!("operation {at}, {crash:?}"));
        }
        if fs.operations() <= at {
            assert!(at > 100 && promised.records.len() as u64 == KEYS);
            return;
        }
    }
}

#[test]
fn a_failure_of_any_file_operation_breaks_no_promise() {
    for kind in [FaultKind::Io, FaultKind::NoSpace, FaultKind::ShortWrite] {
        for at in 0.. {
            let fs = FaultFs::new();
            fs.set_fault(Some(Fault { at, kind, sticky: false, seed: at }));
            let promised = run(&fs);
            for crash in [Crash::Nothing, Crash::Everything, Crash::Random(at)] {
                check(
                    &fs.crash(crash),
                    &promised,
                    &format!("{kind:?} at operation {at}, {crash:?}"),
                );
            }
            if fs.operations() <= at {
                break;
            }
        }
    }
}

#[test]
fn a_crash_while_opening_loses_nothing() {
    let before = FaultFs::new();
    let promised = run(&before);
    let torn = before.crash(Crash::Random(7));
    for at in 0.. {
        let fs = torn.fork();
        let start = fs.operations();
        fs.set_fault(Some(Fault { at: start + at, kind: FaultKind::Io, sticky: true, seed: at }));
        let opened =
            Store::open(Arc::new(fs.clone()), DIR.as_ref(), &options(), Box::new(|| {})).is_ok();
        for crash in crashes(at) {
            check(&fs.crash(crash), &promised, &format!("operation {at}, {crash:?}"));
        }
        if opened {
            return;
        }
    }
}

/// Counts completions, and wakes whoever waits for them.
#[derive(Default)]
struct Bell {
    rung: Mutex<u64>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() += 1;
        self.changed.notify_all();
    }

    fn wait(&self, seen: &mut u64) {
        let rung = self.changed.wait_while(self.rung.lock().unwrap(), |rung| rung == seen).unwrap();
        *seen = *rung;
    }
}

fn open_real(dir: &Path, bell: &Arc<Bell>) -> (Store, Recovered) {
    let log = LogOptions {
        segment_bytes: 64 << 10,
        max_payload_bytes: 4096,
        prepare_ahead_bytes: 16 << 10,
        prepare_chunk_bytes: 16 << 10,
        ..LogOptions::default()
    };
    let options =
        StoreOptions { log, snapshot_after_bytes: 32 << 10, ..StoreOptions::new(token_of) };
    let bell = bell.clone();
    Store::open(Arc::new(RealFs), dir, &options, Box::new(move || bell.ring())).unwrap()
}

#[test]
fn writers_readers_and_snapshots_agree_on_real_files() {
    const WRITERS: u64 = 6;
    const EACH: u64 = 400;
    let dir = tempfile::tempdir().unwrap();
    let bell = Arc::new(Bell::default());
    let (store, _) = open_real(dir.path(), &bell);
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = &store;
            scope.spawn(move || {
                for number in 0..EACH {
                    let timestamp = number * WRITERS + writer + 1;
                    store.apply(timestamp, key(number % 50), record(timestamp)).unwrap();
                    let seen = store.get(&key(number % 50)).unwrap();
                    assert!(store.get(&key(number % 50)).unwrap() >= seen, "a read goes back");
                }
            });
        }
        let (mut seen, mut done) = (0, Vec::new());
        while (done.len() as u64) < WRITERS * EACH {
            bell.wait(&mut seen);
            store.take_completions(&mut done);
            if store.snapshot_due() {
                store.snapshot().unwrap();
            }
        }
        let ids: BTreeSet<u64> = done.iter().map(|completion| completion.id).collect();
        assert_eq!((ids.len() as u64, done.len() as u64), (WRITERS * EACH, WRITERS * EACH));
        assert!(done.iter().all(|completion| completion.outcome.is_ok()));
    });
    store.snapshot().unwrap();
    let before = scan(&store);
    let greatest = |number| (EACH / 50 * 50 - 50 + number) * WRITERS + WRITERS;
    let expected: BTreeMap<Key, Record> =
        (0..50).map(|number| (key(number), record(greatest(number)))).collect();
    assert_eq!(before.iter().cloned().collect::<BTreeMap<_, _>>(), expected);
    assert!(store.stats().snapshots > 1);
    drop(store);
    let (store, recovered) = open_real(dir.path(), &bell);
    assert_eq!(scan(&store), before);
    assert_eq!((recovered.corrupt_frames(), recovered.truncated_bytes), (0, 0));
}
