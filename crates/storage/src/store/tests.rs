use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_record::{NodeId, Writer};

use super::snapshot::BadSnapshot;
use super::*;
use crate::fault::{Crash, Fault, FaultFs, FaultKind, last_frame};
use crate::queue::Place;

const DIR: &str = "/data";

/// Spreads short keys over the token space.
fn token_of(key: &[u8]) -> u64 {
    key.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Small files, so that little work passes many borders, all of it on the caller's thread.
fn options() -> StoreOptions {
    let log = LogOptions {
        drive: Drive::Manual,
        segment_bytes: 2048,
        max_payload_bytes: 1024,
        prepare_ahead_bytes: 512,
        prepare_chunk_bytes: 512,
        ..LogOptions::default()
    };
    StoreOptions {
        log,
        snapshot_after_bytes: 1024,
        compact_at_percent: 36,
        secret: Some([7; 16]),
        ..StoreOptions::new(token_of)
    }
}

fn open(fs: &FaultFs) -> (Store, Recovered) {
    Store::open(Arc::new(fs.clone()), DIR.as_ref(), &options(), Box::new(|| {})).unwrap()
}

fn store() -> (FaultFs, Store) {
    let fs = FaultFs::new();
    let store = open(&fs).0;
    (fs, store)
}

fn key(number: u64) -> Key {
    Key::new(format!("key{number}")).unwrap()
}

fn version(timestamp: u64) -> Version {
    let writer = Writer { node: NodeId::new("n1").unwrap(), incarnation: 1 };
    Version { timestamp: Timestamp::from_bits(timestamp), writer }
}

/// Every seventh is a tombstone.
fn record(timestamp: u64) -> Record {
    match timestamp % 7 {
        0 => Record::tombstone(version(timestamp)),
        _ => Record::live(version(timestamp), format!("value {timestamp:0100}")),
    }
}

fn turn(store: &Store) {
    store.turn(Duration::ZERO);
}

/// Applies a record, durably.
fn put(store: &Store, number: u64, timestamp: u64) {
    store.apply(0, key(number), record(timestamp)).unwrap();
    turn(store);
    assert!(completions(store).iter().all(|(_, outcome)| outcome.is_some()));
}

fn get(store: &Store, number: u64) -> Option<Record> {
    store.get(&key(number)).unwrap()
}

/// Ids and answers; `None` for a failure.
fn completions(store: &Store) -> Vec<(u64, Option<Applied>)> {
    let mut out = Vec::new();
    store.take_completions(&mut out);
    out.into_iter().map(|completion| (completion.id, completion.outcome.ok())).collect()
}

/// Compacts until nothing is left to do, on the caller's thread.
fn compact(store: &Store) {
    for _ in 0..10_000 {
        match store.compact(600).unwrap() {
            Step::Idle => return,
            Step::Waiting => turn(store),
            Step::Moved { .. } | Step::Kept { .. } | Step::Released { .. } => {}
        }
    }
    panic!("compaction does not end");
}

fn contents(store: &Store) -> BTreeMap<Key, Record> {
    let scanned = store.scan(None, usize::MAX).unwrap();
    assert_eq!(scanned.damaged, 0);
    scanned.records.into_iter().collect()
}

fn snapshots(fs: &FaultFs) -> Vec<PathBuf> {
    let dir = Path::new(DIR).join("snapshot");
    let names = fs.list(&dir).unwrap();
    names.iter().filter(|name| snapshot_number(name).is_some()).map(|name| dir.join(name)).collect()
}

#[test]
fn a_record_is_seen_when_it_is_durable_and_not_before() {
    let (_, store) = store();
    store.apply(1, key(1), record(1)).unwrap();
    assert_eq!((get(&store, 1), completions(&store)), (None, vec![]));
    turn(&store);
    assert_eq!(get(&store, 1), Some(record(1)));
    assert_eq!(completions(&store), [(1, Some(Applied::Stored))]);
}

#[test]
fn what_needs_no_write_is_answered_at_once() {
    let calls = Arc::new(AtomicU64::new(0));
    let counter = calls.clone();
    let count = Box::new(move || {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let (store, _) =
        Store::open(Arc::new(FaultFs::new()), DIR.as_ref(), &options(), count).unwrap();
    put(&store, 1, 5);
    store.apply(2, key(1), record(4)).unwrap();
    store.apply(3, key(1), record(5)).unwrap();
    let answers = [(2, Some(Applied::Superseded(version(5)))), (3, Some(Applied::Stored))];
    assert_eq!(completions(&store), answers);
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    assert_eq!(store.stats().wal_ops, 1);
}

#[test]
fn a_large_batch_is_taken_in_like_many_small_ones() {
    // Many of each part of the index, some of them of the same keys, in no order, and some that wait for others.
    let writes: Vec<(u64, u64)> =
        (1..4000_u64).map(|id| (id * 7919 % 500, id * 104_729 % 9001 + 1)).collect();
    let apply = |store: &Store, at_once: usize| {
        let mut ids = BTreeSet::new();
        for (id, &(number, timestamp)) in (1..).zip(&writes) {
            store.apply(id, key(number), record(timestamp)).unwrap();
            if ids.len() % at_once == 0 {
                turn(store);
            }
            ids.insert(id);
        }
        store.reserve_clock(0, Timestamp::from_bits(77)).unwrap();
        turn(store);
        for (id, outcome) in completions(store) {
            assert!(outcome.is_some());
            assert!(id == 0 || ids.remove(&id), "{id} completes once");
        }
        assert_eq!(ids, BTreeSet::new());
    };
    let [(_, large), (fs, small)] = [store(), store()];
    apply(&large, usize::MAX);
    apply(&small, 5);
    assert_eq!(contents(&large), contents(&small));
    assert_eq!(large.digest(0..=u64::MAX), small.digest(0..=u64::MAX));
    assert_eq!(large.stats().live_bytes, small.stats().live_bytes);
    drop(small);
    assert_eq!(contents(&open(&fs).0), contents(&large));
}

#[test]
fn an_answer_that_rests_on_a_write_in_flight_waits_for_it() {
    let (_, store) = store();
    store.apply(1, key(1), record(5)).unwrap();
    store.apply(2, key(1), record(5)).unwrap();
    store.apply(3, key(1), record(4)).unwrap();
    store.apply(4, key(1), record(6)).unwrap();
    assert_eq!(completions(&store), []);
    turn(&store);
    let mut answers = completions(&store);
    answers.sort_by_key(|answer| answer.0);
    let superseded = Applied::Superseded(version(5));
    let stored = Some(Applied::Stored);
    assert_eq!(answers, [(1, stored), (2, stored), (3, Some(superseded)), (4, stored)]);
    assert_eq!(get(&store, 1), Some(record(6)));
}

#[test]
fn an_answer_that_rests_on_a_write_fails_with_it() {
    let (fs, store) = store();
    put(&store, 1, 1);
    store.apply(1, key(1), record(5)).unwrap();
    store.apply(2, key(1), record(4)).unwrap();
    fs.set_fault(Some(Fault { at: fs.operations(), kind: FaultKind::Io, sticky: true, seed: 0 }));
    turn(&store);
    fs.set_fault(None);
    assert_eq!(completions(&store), [(1, None), (2, None)]);
    assert_eq!(get(&store, 1), Some(record(1)));
    assert!(matches!(store.apply(3, key(1), record(6)), Err(LogError::Poisoned { .. })));
    // What is durable stays so.
    store.apply(4, key(1), record(1)).unwrap();
    assert_eq!(completions(&store), [(4, Some(Applied::Stored))]);
}

#[test]
fn a_full_disk_fails_what_does_not_fit_until_there_is_room() {
    let (fs, store) = store();
    put(&store, 1, 1);
    fs.set_capacity(Some(fs.used_bytes()));
    let failed = (2..200).find(|&timestamp| {
        store.apply(timestamp, key(timestamp), record(timestamp)).unwrap();
        turn(&store);
        completions(&store) == [(timestamp, None)]
    });
    let failed = failed.expect("the disk runs full");
    assert_eq!(get(&store, failed), None);
    assert_eq!(get(&store, 1), Some(record(1)));
    fs.set_capacity(None);
    put(&store, failed, failed);
    assert_eq!(get(&store, failed), Some(record(failed)));
    let before = contents(&store);
    drop(store);
    assert_eq!(contents(&open(&fs.crash(Crash::Nothing)).0), before);
}

#[test]
fn a_snapshot_that_does_not_fit_leaves_everything_as_it_was() {
    let (fs, store) = store();
    (1..60).for_each(|timestamp| put(&store, timestamp, timestamp));
    fs.set_capacity(Some(fs.used_bytes()));
    assert!(matches!(store.snapshot(), Err(SnapshotError::NoSpace)));
    let used = fs.used_bytes();
    assert!(matches!(store.snapshot(), Err(SnapshotError::NoSpace)));
    assert_eq!(fs.used_bytes(), used);
    fs.set_capacity(None);
    assert_eq!(store.snapshot().unwrap().records, 59);
}

#[test]
fn a_value_above_the_limit_is_refused_before_anything_is_promised() {
    let (_, store) = store();
    let large = Record::live(version(1), vec![0; 2000]);
    assert!(matches!(store.apply(1, key(1), large), Err(LogError::TooLarge { .. })));
    turn(&store);
    assert_eq!(completions(&store), []);
    put(&store, 1, 2);
}

#[test]
fn a_reopened_store_is_the_same() {
    let (fs, store) = store();
    (1..100).for_each(|timestamp| put(&store, timestamp % 13, timestamp));
    let (before, digest) = (contents(&store), store.digest(0..=u64::MAX));
    drop(store);
    let (store, recovered) = open(&fs.crash(Crash::Nothing));
    assert_eq!((contents(&store), store.digest(0..=u64::MAX)), (before, digest));
    assert_eq!(
        (recovered.records, recovered.corrupt_frames(), recovered.clock_ceiling),
        (99, 0, None)
    );
}

#[test]
fn the_greatest_ceiling_comes_back_from_log_and_snapshot() {
    let (fs, store) = store();
    let ceiling = Timestamp::from_bits;
    for bits in [7, 9] {
        store.reserve_clock(bits, ceiling(bits)).unwrap();
    }
    turn(&store);
    store.reserve_clock(3, ceiling(8)).unwrap();
    let stored = Some(Applied::Stored);
    assert_eq!(completions(&store), [(7, stored), (9, stored), (3, stored)]);
    assert_eq!(open(&fs.crash(Crash::Nothing)).1.clock_ceiling, Some(ceiling(9)));
    store.snapshot().unwrap();
    (1..60).for_each(|timestamp| put(&store, 1, timestamp));
    compact(&store);
    assert!(store.stats().compacted_segments > 1);
    let fs = fs.crash(Crash::Nothing);
    assert_eq!(open(&fs).1.clock_ceiling, Some(ceiling(9)));
    fs.remove(&snapshots(&fs)[0]).unwrap();
    assert_eq!(open(&fs).1.clock_ceiling, Some(ceiling(9)));
}

fn segments(fs: &FaultFs) -> Vec<PathBuf> {
    let dir = Path::new(DIR).join("log");
    let names = fs.list(&dir).unwrap();
    names.iter().filter(|name| name.ends_with(".qlog")).map(|name| dir.join(name)).collect()
}

/// Where in the log the record of a key is.
fn place(store: &Store, number: u64) -> (PathBuf, usize) {
    let entry = store.core.shards.get(store.core.position(key(number).as_bytes())).unwrap();
    let Place { segment, offset } = entry.place();
    let path = Path::new(DIR).join("log").join(format!("{segment:016x}.qlog"));
    (path, usize::try_from(offset).unwrap())
}

/// Flips a bit of the value of a key's record.
fn damage(fs: &FaultFs, store: &Store, number: u64) {
    let (path, offset) = place(store, number);
    fs.tamper(&path, |bytes| bytes[offset + 40] ^= 1).unwrap();
}

#[test]
fn compaction_keeps_the_log_short_and_everything_in_it() {
    let (fs, store) = store();
    (0..40).for_each(|number| put(&store, number, number + 1));
    let (mut most, mut expected) = (0, contents(&store));
    for timestamp in 100..1000 {
        let number = timestamp * timestamp % 37;
        put(&store, number, timestamp);
        expected.insert(key(number), record(timestamp));
        compact(&store);
        most = most.max(store.stats().segments);
    }
    // Forty records fill less than four segments.
    assert!((4..9).contains(&most), "{most}");
    let stats = store.stats();
    assert!(stats.compacted_segments > 50 && stats.compacted_bytes > 0);
    assert_eq!(contents(&store), expected);
    let digest = store.digest(0..=u64::MAX);
    let (store, recovered) = open(&fs.crash(Crash::Nothing));
    assert_eq!((contents(&store), store.digest(0..=u64::MAX)), (expected, digest));
    assert_eq!((recovered.corrupt_frames(), recovered.lost_records), (0, 0));
}

#[test]
fn a_record_overwritten_while_it_moves_stays_overwritten() {
    let (fs, store) = store();
    (0..40).for_each(|number| put(&store, number, number + 1));
    (0..40).filter(|number| number % 3 > 0).for_each(|number| put(&store, number, number + 100));
    let (mut expected, mut timestamp) = (contents(&store), 1000);
    for _ in 0..60 {
        store.compact(600).unwrap();
        // These are behind the moved frames in the log, or before, and have none or all of their outcome.
        for number in (0..40).step_by(13) {
            timestamp += 1;
            store.apply(timestamp, key(number), record(timestamp)).unwrap();
            expected.insert(key(number), record(timestamp));
        }
        if timestamp % 2 == 0 {
            turn(&store);
        }
    }
    turn(&store);
    let moved = store.stats().compacted_bytes;
    assert!(moved > 500, "{moved}");
    compact(&store);
    assert_eq!(contents(&store), expected);
    let fs = fs.crash(Crash::Nothing);
    assert_eq!(contents(&open(&fs).0), expected);
}

#[test]
fn a_reader_follows_a_record_that_moved() {
    let (_, store) = store();
    (0..40).for_each(|number| put(&store, number, number + 1));
    (0..40).filter(|number| number % 3 > 0).for_each(|number| put(&store, number, number + 100));
    let old = || (0..40).step_by(3);
    let before: Vec<_> = old().map(|number| place(&store, number)).collect();
    compact(&store);
    let moved = old().zip(&before).filter(|(number, at)| place(&store, *number) != **at).count();
    assert!(moved > 5, "{moved}");
    old().for_each(|number| assert_eq!(get(&store, number), Some(record(number + 1))));
}

#[test]
fn what_compaction_cannot_read_is_damaged_and_the_rest_is_kept() {
    let (fs, store) = store();
    (0..40).for_each(|number| put(&store, number, number + 1));
    (0..40).filter(|number| number % 4 > 0).for_each(|number| put(&store, number, number + 100));
    let bad = [8, 20];
    bad.iter().for_each(|&number| damage(&fs, &store, number));
    compact(&store);
    assert_eq!(store.stats().damaged, 2);
    for number in (0..40).filter(|number| !bad.contains(number)) {
        assert!(get(&store, number).is_some());
    }
    for number in bad {
        assert!(matches!(store.get(&key(number)), Err(ReadError::Damaged)));
    }
    // Their segments are kept, so that a full scan says that something is missing.
    assert!(open(&fs.crash(Crash::Nothing)).1.corrupt_frames() >= 2);
    store.snapshot().unwrap();
    let (store, _) = open(&fs.crash(Crash::Nothing));
    assert!(matches!(store.get(&key(8)), Err(ReadError::Damaged)));
    assert_eq!(store.scan(None, usize::MAX).unwrap().damaged, 2);
    // Once they have come again, nothing is kept for them.
    bad.iter().for_each(|&number| put(&store, number, number + 1));
    compact(&store);
    assert_eq!((store.stats().damaged, contents(&store).len()), (0, 40));
    let (_, recovered) = open(&fs.crash(Crash::Nothing));
    assert_eq!(recovered.corrupt_frames(), 0);
    fs.remove(&snapshots(&fs)[0]).unwrap();
    assert_eq!(open(&fs.crash(Crash::Nothing)).1.corrupt_frames(), 0);
}

#[test]
fn what_is_kept_in_memory_is_what_is_on_disk() {
    let fs = FaultFs::new();
    let options = StoreOptions { cache_bytes: 64 << 20, ..options() };
    let open = || Store::open(Arc::new(fs.clone()), DIR.as_ref(), &options, Box::new(|| {}));
    let (store, _) = open().unwrap();
    (0..40).for_each(|number| put(&store, number, number + 1));
    let reads = |store: &Store| {
        let before = fs.operations();
        (0..40).for_each(|number| drop(get(store, number)));
        fs.operations() - before
    };
    assert_eq!((reads(&store), reads(&store)), (40, 0));
    // Overwritten and deleted ones are read anew, moved ones are the same.
    (0..40).filter(|number| number % 4 > 0).for_each(|number| put(&store, number, number + 100));
    compact(&store);
    for number in 0..40 {
        let timestamp = if number % 4 > 0 { number + 100 } else { number + 1 };
        assert_eq!(get(&store, number), Some(record(timestamp)));
    }
    assert_eq!(reads(&store), 0);
    // Nobody looks at the files for what is in memory, but for whoever is to find damage.
    damage(&fs, &store, 8);
    assert_eq!(get(&store, 8), Some(record(9)));
    assert_eq!(store.scrub(None, u64::MAX).unwrap().damaged, 1);
    assert!(matches!(store.get(&key(8)), Err(ReadError::Damaged)));
    drop(store);
    assert_eq!(reads(&open().unwrap().0), 39, "all but the damaged one");
}

#[test]
fn a_snapshot_that_could_not_be_read_once_covers_nothing_later() {
    let (fs, store) = store();
    (0..4).for_each(|number| put(&store, number, number + 1));
    store.snapshot().unwrap();
    drop(store);
    // The log loses its end, which the snapshot knows of, but the device does not give the snapshot.
    let segment = Path::new(DIR).join("log/0000000000000001.qlog");
    fs.tamper(&segment, |bytes| {
        let from = bytes.windows(10).rposition(|it| it == b"value 0000").unwrap() - 80;
        bytes[from..from + 300].fill(0);
    })
    .unwrap();
    let reads_snapshot = (0..).find(|at| {
        let fs = fs.fork();
        let at = fs.operations() + at;
        fs.set_fault(Some(Fault { at, kind: FaultKind::Io, sticky: false, seed: 1 }));
        let opened = Store::open(Arc::new(fs), DIR.as_ref(), &options(), Box::new(|| {}));
        opened.is_ok_and(|(_, found)| found.snapshot.is_none())
    });
    let at = fs.operations() + reads_snapshot.unwrap();
    fs.set_fault(Some(Fault { at, kind: FaultKind::Io, sticky: false, seed: 1 }));
    let (store, found) = open(&fs);
    assert_eq!((found.snapshot, found.bad_snapshots.len()), (None, 1));
    put(&store, 9, 100);
    drop(store);
    let (store, found) = open(&fs);
    assert_eq!((get(&store, 9), found.bad_snapshots.len()), (Some(record(100)), 0));
}

#[test]
fn many_threads_recover_what_one_does() {
    let (fs, store) = store();
    (0..400).for_each(|id| put(&store, id * 7919 % 60, id * 101 % 997 + 1));
    store.reserve_clock(0, Timestamp::from_bits(77)).unwrap();
    turn(&store);
    for _ in 0..20 {
        // Some are in the log twice then.
        store.compact(600).unwrap();
        turn(&store);
    }
    let alone = open(&fs.crash(Crash::Nothing));
    let mut options = options();
    options.log.drive = Drive::Threads;
    let fs = Arc::new(fs.crash(Crash::Nothing));
    let together = Store::open(fs, DIR.as_ref(), &options, Box::new(|| {})).unwrap();
    let said = |(store, found): &(Store, Recovered)| {
        (store.digest(0..=u64::MAX), store.stats().live_bytes, found.records, found.clock_ceiling)
    };
    assert_eq!(said(&together), said(&alone));
    assert_eq!(contents(&together.0), contents(&alone.0));
}

#[test]
fn keys_are_listed_in_pages_of_so_many_bytes_without_their_values() {
    let (_, store) = store();
    (1..6).for_each(|number| put(&store, number, number));
    let all = store.scan(None, 9).unwrap().records;
    for (max_bytes, len) in [(0, 1), (1, 1), (u64::MAX, 2)] {
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let (page, may_go_on) = store.scan_keys(after.as_ref(), 2, max_bytes).unwrap();
            assert!(page.records.len() == len || !may_go_on);
            after = page.records.last().map(|(key, _)| key.clone());
            listed.extend(page.records);
            if !may_go_on {
                break;
            }
        }
        let emptied = |(key, record): &(Key, Record)| {
            let value = record.value.as_ref().map(|_| bytes::Bytes::new());
            (key.clone(), Record { value, ..record.clone() })
        };
        assert_eq!(listed, all.iter().map(emptied).collect::<Vec<_>>());
    }
}

#[test]
fn a_damaged_record_is_never_absent_and_an_equal_one_mends_it() {
    let (fs, store) = store();
    (1..6).for_each(|number| put(&store, number, number));
    let digest = store.digest(0..=u64::MAX);
    damage(&fs, &store, 3);
    assert_eq!(store.digest(0..=u64::MAX), digest, "nobody has noticed");
    assert!(matches!(store.get(&key(3)), Err(ReadError::Damaged)));
    assert_eq!((store.stats().damaged, store.digest(0..=u64::MAX).count), (1, 4));
    assert_eq!(store.list(&[0..=u64::MAX], 9).0.len(), 4);
    let scanned = store.scan(None, 9).unwrap();
    assert_eq!((scanned.records.len(), scanned.damaged), (4, 1));
    let token = store.token(&key(3));
    let fetched = store.records_at(&[token], 1000).unwrap();
    assert_eq!((fetched.records.len(), fetched.damaged), (0, 1));
    // Its version still counts.
    store.apply(1, key(3), record(2)).unwrap();
    assert_eq!(completions(&store), [(1, Some(Applied::Superseded(version(3))))]);
    put(&store, 3, 3);
    assert_eq!(get(&store, 3), Some(record(3)));
    assert_eq!((store.stats().damaged, store.digest(0..=u64::MAX)), (0, digest));
    let store = open(&fs.crash(Crash::Nothing)).0;
    assert_eq!(get(&store, 3), Some(record(3)));
}

#[test]
fn scrubbing_finds_damage_in_bounded_steps() {
    let (fs, store) = store();
    (1..40).for_each(|number| put(&store, number, number));
    [5, 30].iter().for_each(|&number| damage(&fs, &store, number));
    let (mut from, mut steps, mut found) = (None, 0, (0, 0));
    loop {
        let scrubbed = store.scrub(from, 1000).unwrap();
        assert!(scrubbed.bytes < 1300);
        found = (found.0 + scrubbed.records, found.1 + scrubbed.damaged);
        steps += 1;
        from = scrubbed.next;
        if from.is_none() {
            break;
        }
    }
    assert!(steps > 5, "{steps}");
    assert_eq!((found, store.stats().damaged), ((37, 2), 2));
    assert_eq!(store.digest(0..=u64::MAX).count, 37);
}

#[test]
fn what_is_damaged_can_be_asked_for_by_token_and_is_counted_once_it_is_whole_again() {
    let (fs, store) = store();
    (1..40).for_each(|number| put(&store, number, number));
    assert_eq!(store.damaged_tokens(None, 10), []);
    [5, 17, 30].iter().for_each(|&number| damage(&fs, &store, number));
    store.scrub(None, u64::MAX).unwrap();
    let mut tokens = [5, 17, 30].map(|number| store.token(&key(number)));
    tokens.sort_unstable();
    assert_eq!(store.damaged_tokens(None, 10), tokens);
    assert_eq!(store.damaged_tokens(None, 2), tokens[..2]);
    assert_eq!(store.damaged_tokens(Some(tokens[1]), 10), tokens[2..]);
    assert_eq!(store.damaged_tokens(Some(u64::MAX), 10), []);
    put(&store, 5, 5);
    put(&store, 17, 99);
    assert_eq!((store.stats().damaged, store.stats().healed), (1, 2));
    assert_eq!(store.damaged_tokens(None, 10), [store.token(&key(30))]);
}

#[test]
fn a_scrub_goes_on_from_a_token_that_was_noted() {
    let (_fs, store) = store();
    (1..40).for_each(|number| put(&store, number, number));
    let first = store.scrub(None, 1000).unwrap();
    let noted = first.next.expect("there is more").token();
    let rest = store.scrub(Some(ScrubPosition::at(noted)), u64::MAX).unwrap();
    assert_eq!((rest.next, first.records + rest.records), (None, 39 + 1), "one is read twice");
}

#[test]
fn writes_during_a_snapshot_are_kept() {
    let (fs, store) = store();
    (0..600).for_each(|timestamp| put(&store, timestamp, timestamp + 1));
    let syncs = std::cell::Cell::new(0);
    let dir = Path::new(DIR).join("snapshot");
    // In flight while the index is copied; durable when the log is synced for the snapshot.
    (0..600).step_by(7).for_each(|number| {
        store.apply(0, key(number), record(number + 2000)).unwrap();
    });
    let sync = || {
        syncs.set(syncs.get() + 1);
        store.sync()
    };
    let info = publish(&fs, &dir, 1, &store.core.shards, sync).unwrap();
    assert_eq!((info.records, syncs.get()), (600, 1));
    let before = contents(&store);
    assert_eq!(before[&key(7)], record(2007));
    let (store, recovered) = open(&fs.crash(Crash::Nothing));
    assert_eq!(recovered.snapshot.unwrap(), info);
    assert_eq!((recovered.records, contents(&store)), (600 + 86, before));
}

#[test]
fn a_snapshot_names_nothing_that_is_not_durable() {
    let mut options = options();
    options.log.sync = SyncPolicy::Os;
    let fs = FaultFs::new();
    let reopen = |fs: &FaultFs| {
        Store::open(Arc::new(fs.clone()), DIR.as_ref(), &options, Box::new(|| {})).unwrap().0
    };
    let store = reopen(&fs);
    (1..30).for_each(|number| put(&store, number, number));
    store.snapshot().unwrap();
    let before = contents(&store);
    for seed in 0..20 {
        assert_eq!(contents(&reopen(&fs.crash(Crash::Random(seed)))), before);
    }
}

#[test]
fn a_snapshot_shortens_the_replay_and_the_one_before_is_kept() {
    let (fs, store) = store();
    for timestamp in 1..400 {
        put(&store, timestamp % 40, timestamp);
        if store.snapshot_due() {
            store.snapshot().unwrap();
        }
    }
    assert!(store.stats().snapshots > 10);
    assert_eq!(snapshots(&fs).len(), 2);
    let before = contents(&store);
    store.close().unwrap();
    let (store, recovered) = open(&fs.crash(Crash::Nothing));
    assert_eq!((contents(&store), recovered.records), (before, 40));
}

/// A store with a snapshot and frames behind and before it, from which compaction has taken some.
fn with_snapshot() -> (FaultFs, BTreeMap<Key, Record>) {
    let (fs, store) = store();
    for timestamp in 1..150 {
        put(&store, timestamp % 40, timestamp);
        if timestamp == 50 || timestamp == 110 {
            compact(&store);
            store.snapshot().unwrap();
        }
    }
    compact(&store);
    assert!(store.stats().compacted_segments > 5);
    (fs.crash(Crash::Nothing), contents(&store))
}

#[test]
fn without_a_good_snapshot_the_log_gives_the_same() {
    let (fs, before) = with_snapshot();
    let newest = snapshots(&fs).pop().unwrap();
    let digest = open(&fs.fork()).0.digest(0..=u64::MAX);
    for bad in [None, Some(100)] {
        let fs = fs.fork();
        match bad {
            None => snapshots(&fs).iter().for_each(|path| fs.remove(path).unwrap()),
            Some(at) => fs.tamper(&newest, |bytes| bytes[at] ^= 1).unwrap(),
        }
        let (store, recovered) = open(&fs);
        assert_eq!((contents(&store), store.digest(0..=u64::MAX)), (before.clone(), digest));
        assert_eq!(recovered.bad_snapshots.len(), usize::from(bad.is_some()));
        assert_eq!((recovered.damages.len(), recovered.lost_records), (0, 0));
        store.snapshot().unwrap();
        assert_eq!(contents(&open(&fs.crash(Crash::Nothing)).0), before);
    }
}

#[test]
fn a_segment_that_is_gone_is_reported_and_its_records_are_damaged() {
    let (fs, before) = with_snapshot();
    fs.remove(&segments(&fs)[1]).unwrap();
    let (store, recovered) = open(&fs);
    assert!(recovered.corrupt_frames() > 0);
    let lost = before.keys().filter(|key| store.get(key).is_err()).count() as u64;
    assert!(recovered.lost_records > 0 && recovered.lost_records <= lost);
    let found = store.scan(None, usize::MAX).unwrap().records;
    assert!(found.iter().all(|(key, record)| record <= &before[key]));
}

#[test]
fn a_log_that_is_gone_is_reported_and_numbers_are_not_used_twice() {
    let (fs, _) = with_snapshot();
    let dir = Path::new(DIR).join("log");
    for name in fs.list(&dir).unwrap() {
        fs.remove(&dir.join(name)).unwrap();
    }
    let (store, recovered) = open(&fs);
    let snapshot = recovered.snapshot.clone().unwrap();
    assert!(recovered.corrupt_frames() > 0);
    assert_eq!(recovered.lost_records, 40);
    put(&store, 3, 5000);
    assert!(store.core.shards.account().applied_seq > snapshot.seq);
    store.snapshot().unwrap();
    let fs = fs.crash(Crash::Nothing);
    fs.tamper(&snapshots(&fs).pop().unwrap(), |bytes| bytes[50] ^= 1).unwrap();
    assert_eq!(get(&open(&fs).0, 3), Some(record(5000)));
}

#[test]
fn damage_in_the_log_is_counted_and_everything_else_is_served() {
    let (fs, store) = store();
    (1..60).for_each(|timestamp| put(&store, timestamp, timestamp));
    let fs = fs.crash(Crash::Nothing);
    let dir = Path::new(DIR).join("log");
    let first =
        dir.join(fs.list(&dir).unwrap().into_iter().find(|name| name.ends_with(".qlog")).unwrap());
    fs.tamper(&first, |bytes| bytes[800] ^= 1).unwrap();
    let (store, recovered) = open(&fs);
    assert_eq!((recovered.corrupt_frames(), recovered.damages.len()), (1, 1));
    assert_eq!((contents(&store).len(), recovered.records), (58, 58));
    assert_eq!(store.stats().corrupt_frames, 1);
}

#[test]
fn a_frame_of_an_unknown_kind_is_counted() {
    let fs = FaultFs::new();
    let dir = Path::new(DIR).join("log");
    let (log, _) = Log::open(Arc::new(fs.clone()), &dir, &options().log, |_| {}, |_| {}).unwrap();
    log.append(9, b"?").unwrap();
    log.append(KIND_RECORD, b"?").unwrap();
    drop(log);
    let (_, recovered) = open(&fs);
    assert_eq!((recovered.unknown_frames, recovered.corrupt_frames()), (2, 2));
}

#[test]
fn a_snapshot_of_another_version_is_refused() {
    let (fs, _) = with_snapshot();
    fs.tamper(&snapshots(&fs).pop().unwrap(), |bytes| {
        bytes[8] = 9;
        let crc = crate::frame::checksum(0, &bytes[..40]);
        bytes[40..44].copy_from_slice(&crc.to_le_bytes());
    })
    .unwrap();
    let error = Store::open(Arc::new(fs), DIR.as_ref(), &options(), Box::new(|| {})).err().unwrap();
    assert!(matches!(error, OpenError::Version { found: 9, supported: 3, .. }), "{error}");
}

#[test]
fn a_snapshot_cut_anywhere_or_with_any_bit_flipped_is_never_believed() {
    let (fs, store) = store();
    (1..6).for_each(|timestamp| put(&store, timestamp, timestamp));
    let info = store.snapshot().unwrap();
    let whole = fs.contents(&info.path).unwrap();
    let read = |bytes: &[u8]| {
        fs.tamper(&info.path, |file| *file = bytes.to_vec()).unwrap();
        snapshot::read(&fs, &info.path, info.number, &mut |_, _| {}).map(|contents| contents.info)
    };
    assert_eq!(read(&whole).unwrap(), info);
    for len in 0..whole.len() {
        assert!(matches!(read(&whole[..len]), Err(BadSnapshot::Damaged { .. })), "{len} bytes");
    }
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(read(&bytes), Err(BadSnapshot::Damaged { .. })), "bit {bit}");
    }
    assert!(read(&[&whole[..], &[0]].concat()).is_err());
}

#[test]
fn the_bytes_of_a_snapshot_are_frozen() {
    let (fs, store) = store();
    store.reserve_clock(0, Timestamp::from_bits(0x0102)).unwrap();
    put(&store, 1, 0x0705);
    store.keep_notes(1, Timestamp::from_bits(0x0304), b"hi").unwrap();
    turn(&store);
    let bytes = fs.contents(&store.snapshot().unwrap().path).unwrap();
    assert_eq!(bytes[..24], *b"QUORSNAP\x03\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0");
    assert_eq!(bytes[24..40], [7; 16]);
    let mut chain = crate::frame::checksum(0, &bytes[..40]);
    assert_eq!(bytes[40..48], [chain.to_le_bytes(), [0; 4]].concat());
    let position = store.core.position(key(1).as_bytes());
    let [token, check] = [position.token, position.check].map(u64::to_le_bytes);
    let content = record(0x0705).content_hash().to_le_bytes();
    let mut frame = Vec::new();
    encode_record(&key(1), &record(0x0705), &mut frame);
    let units = u8::try_from((24 + frame.len()).div_ceil(8)).unwrap();
    let size = [units << 2]; // no flags
    let entry = [&token[..7], &check, &content, &[0], &[0], &[1], &[68], &size];
    let blocks: [Vec<u8>; 4] = [
        [&[1], &[1, 0, 0, 0, 0, 0, 0, 0][..], b"\x02n1"].concat(),
        [&[2], &token[7..], &[5, 7, 0, 0, 0, 0, 0, 0], &entry.concat()].concat(),
        [
            &[4],
            &[1, 512 + 32 + u64::from(units) * 8, 1, 0x0304_u64].map(u64::to_le_bytes).concat()[..],
            b"hi",
        ]
        .concat(),
        [&[3], &[3, 0x0102, 1, 512, 1_u64].map(u64::to_le_bytes).concat()[..]].concat(),
    ];
    let mut at = 48;
    for (number, block) in blocks.iter().enumerate() {
        let len = u32::try_from(block.len()).unwrap().to_le_bytes();
        chain = crate::frame::checksum(crate::frame::checksum(chain, &len), block);
        let expected = [&len[..], &chain.to_le_bytes(), block].concat();
        assert_eq!(bytes[at..at + expected.len()], expected, "block {number}");
        at += expected.len();
    }
    assert_eq!(bytes.len(), at);
}

fn keep(store: &Store, horizon: u64, text: &[u8]) {
    store.keep_notes(0, Timestamp::from_bits(horizon), text).unwrap();
    turn(store);
    assert_eq!(completions(store), [(0, Some(Applied::Stored))]);
}

#[test]
fn the_latest_notes_come_back_from_log_and_snapshot_and_survive_compaction() {
    let (fs, store) = store();
    assert_eq!(open(&fs.crash(Crash::Nothing)).1.notes, None);
    keep(&store, 3, b"first");
    keep(&store, 2, b"second");
    assert_eq!(store.horizon().bits(), 3, "it never goes back");
    let found = open(&fs.crash(Crash::Nothing)).1;
    assert_eq!(found.notes.as_deref(), Some(&b"second"[..]));
    for round in 1..40 {
        (1..8).for_each(|number| put(&store, number, 100 * round + number));
        compact(&store);
    }
    assert!(store.stats().compacted_segments > 0);
    let (again, found) = open(&fs.crash(Crash::Nothing));
    assert_eq!(found.notes.as_deref(), Some(&b"second"[..]));
    assert_eq!(again.horizon().bits(), 3);
    again.snapshot().unwrap();
    let (again, found) = open(&fs.crash(Crash::Nothing));
    assert_eq!((found.notes.as_deref(), again.horizon().bits()), (Some(&b"second"[..]), 3));
}

#[test]
fn notes_that_are_too_long_are_refused() {
    let (_, store) = store();
    let error = store.keep_notes(0, Timestamp::ZERO, &[0; MAX_NOTES_BYTES + 1]).unwrap_err();
    assert!(matches!(error, LogError::TooLarge { .. }), "{error}");
}

#[test]
fn what_is_absent_and_below_the_horizon_is_refused_and_what_is_held_is_not() {
    let (_, store) = store();
    put(&store, 1, 5);
    let below = |timestamp| Some(Applied::Below(Timestamp::from_bits(timestamp)));
    let apply = |number, timestamp, floor| {
        let [floor, horizon] = [floor, 10].map(Timestamp::from_bits);
        let bounds = Bounds { floor, horizon };
        store.apply_within(bounds, timestamp, key(number), record(timestamp)).unwrap();
        turn(&store);
        completions(&store).pop().unwrap().1
    };
    assert_eq!(apply(1, 6, 0), Some(Applied::Stored), "a newer one of a key that is held");
    assert_eq!(apply(2, 9, 0), below(10));
    assert_eq!(apply(2, 10, 0), Some(Applied::Stored));
    assert_eq!(apply(1, 8, 20), below(20));
    assert_eq!(apply(1, 6, 20), Some(Applied::Stored), "it is held already");
    assert_eq!(apply(1, 5, 20), Some(Applied::Superseded(version(6))));
    assert_eq!(get(&store, 1), Some(record(6)));
}

#[test]
fn tombstones_below_the_horizon_go_and_what_they_hid_does_not_come_back() {
    let (fs, store) = store();
    for number in 1..=30 {
        put(&store, number, number * 7 + 1);
        put(&store, number, number * 7 + 7);
    }
    assert_eq!(store.stats().tombstones, 30);
    keep(&store, 7 * 20 + 8, b"");
    let mut dropped = 0;
    let mut from = None;
    loop {
        let (some, next) = store.drop_tombstones(from, 3);
        dropped += some;
        from = next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!((dropped, store.stats().tombstones), (20, 10));
    let bytes_before = store.stats().wal_bytes;
    compact(&store);
    assert!(store.stats().wal_bytes < bytes_before);
    // By the snapshot that compaction needed, without any, and with the log alone.
    for crash in [Crash::Nothing, Crash::Everything] {
        let (again, found) = open(&fs.crash(crash));
        assert_eq!((contents(&again).len(), found.is_doubtful), (10, false));
    }
    let fs = fs.crash(Crash::Nothing);
    for path in snapshots(&fs) {
        fs.tamper(&path, |bytes| bytes[50] ^= 1).unwrap();
    }
    assert!(open(&fs).1.is_doubtful, "a scan may find what tombstones had hidden");
}

#[test]
fn a_store_that_had_no_snapshot_yet_is_not_doubtful() {
    let (fs, store) = store();
    keep(&store, 1, b"");
    (0..40).for_each(|number| put(&store, number, number + 1));
    (0..40).filter(|number| number % 3 > 0).for_each(|number| put(&store, number, number + 100));
    compact(&store);
    assert!(store.stats().compacted_segments > 0);
    let (again, found) = open(&fs.crash(Crash::Everything));
    assert_eq!((contents(&again).len(), found.is_doubtful), (40, false));
}

#[test]
fn a_segment_goes_on_a_full_disk_though_there_is_no_room_for_a_first_snapshot() {
    let (fs, store) = store();
    keep(&store, 1, b"");
    (0..40).for_each(|number| put(&store, number, number + 1));
    (0..40).for_each(|number| put(&store, number, number + 100));
    fs.set_capacity(Some(fs.used_bytes()));
    while store.stats().compacted_segments == 0 {
        assert_ne!(store.compact(600).unwrap(), Step::Idle);
        turn(&store);
    }
    assert!(store.stats().snapshot.is_none());
}

/// A store whose newest snapshot is damaged. The older one still names records whose tombstones went at this horizon,
/// before the newer one was made.
fn only_an_older_snapshot(horizon: u64) -> FaultFs {
    let (fs, store) = store();
    for number in 1..=60 {
        put(&store, number, number * 7 + 1);
    }
    store.snapshot().unwrap();
    for number in 1..=30 {
        put(&store, number, number * 7 + 7);
        put(&store, 60, 500 + number);
    }
    keep(&store, horizon, b"");
    let dropped = if horizon > 0 { 30 } else { 0 };
    assert_eq!(store.drop_tombstones(None, usize::MAX), (dropped, None));
    store.snapshot().unwrap();
    compact(&store);
    let fs = fs.crash(Crash::Nothing);
    let newest = snapshots(&fs).into_iter().max().unwrap();
    fs.tamper(&newest, |bytes| bytes[50] ^= 1).unwrap();
    fs
}

#[test]
fn a_store_that_falls_back_to_an_older_snapshot_is_doubtful_once_tombstones_were_forgotten() {
    for (horizon, is_doubtful) in [(0, false), (1_000, true)] {
        let (again, found) = open(&only_an_older_snapshot(horizon));
        assert!(found.snapshot.is_some(), "the older one is good");
        let stats = again.stats();
        assert_eq!(stats.keys - stats.tombstones > 30, is_doubtful, "deleted keys are back");
        assert_eq!((found.bad_snapshots.len(), found.is_doubtful), (1, is_doubtful));
    }
}

/// A store whose last frame is bad, so that it is cut off.
fn torn() -> FaultFs {
    let (fs, store) = store();
    (1..=5).for_each(|number| put(&store, number, number));
    drop(store);
    let (segment, frame) = (1..)
        .map_while(|number| {
            let path = crate::segment::segment_path(&Path::new(DIR).join("log"), number);
            fs.contents(&path).ok().map(|bytes| (number, path, bytes))
        })
        .filter_map(|(number, path, bytes)| last_frame(&bytes, number).map(|frame| (path, frame)))
        .last()
        .expect("something was written");
    fs.tamper(&segment, |contents| contents[frame.start] ^= 1).unwrap();
    fs
}

/// An opening that ends anywhere has either told before, or leaves all there is to see to the next one.
#[test]
fn what_an_opening_finds_is_told_before_a_later_one_could_miss_it() {
    for fs in [torn(), only_an_older_snapshot(1_000)] {
        for at in fs.operations().. {
            let fs = fs.fork();
            fs.set_fault(Some(Fault { at, kind: FaultKind::Io, sticky: true, seed: at }));
            let mut told = false;
            let opened = Store::open_guarded(
                Arc::new(fs.clone()),
                DIR.as_ref(),
                &options(),
                Box::new(|| {}),
                &mut || {
                    told = true;
                    Ok(())
                },
            );
            for crash in [Crash::Nothing, Crash::Everything, Crash::Random(at)] {
                let (_, found) = open(&fs.crash(crash));
                let is_seen = found.is_doubtful || found.truncated_bytes > 0;
                assert!(told || is_seen, "it ended at {at}, {crash:?}");
            }
            if opened.is_ok() {
                assert!(told);
                break;
            }
        }
    }
}

#[test]
fn an_opening_fails_if_nobody_can_be_told() {
    let fs = torn();
    for _ in 0..2 {
        let opened = Store::open_guarded(
            Arc::new(fs.clone()),
            DIR.as_ref(),
            &options(),
            Box::new(|| {}),
            &mut || Err(io::Error::other("nobody listens")),
        );
        assert!(opened.is_err(), "and it is still there to be told");
    }
}

#[test]
fn kept_sketches_are_those_of_the_records() {
    let fs = FaultFs::new();
    let options = StoreOptions { sketch_cells: 16, ..options() };
    let open = || {
        let open = Store::open(Arc::new(fs.clone()), DIR.as_ref(), &options, Box::new(|| {}));
        open.unwrap().0
    };
    // What is asked for in halves of buckets is looked through.
    let halves = || (0..8_192_u64).map(|half| half << 51..=(half << 51 | u64::MAX >> 13));
    let sum = |store: &Store| {
        let sums = store.sketches(&[vec![0..=u64::MAX], halves().collect()], 16);
        assert_eq!(sums[0], sums[1]);
        sums[0].clone()
    };
    let store = open();
    (0..300).for_each(|timestamp| put(&store, timestamp % 200, timestamp + 1));
    let before = sum(&store);
    store.snapshot().unwrap();
    put(&store, 7, 1_000);
    let after = sum(&store);
    drop(store);
    assert_eq!(sum(&open()), after);
    let mut changed = after;
    changed.subtract(&before);
    let changed = changed.decode().expect("one key in sixteen cells");
    assert_eq!((changed.local.len(), changed.remote.len()), (1, 1));
    assert_eq!((changed.local[0].timestamp, changed.remote[0].timestamp), (1_000, 208));
}

#[test]
fn buckets_are_digested_as_far_as_ranges_go() {
    let (_fs, store) = store();
    (0..300).for_each(|timestamp| put(&store, timestamp, timestamp + 1));
    let bucket = |number: u64| number << 52..=(number << 52 | u64::MAX >> 12);
    let all: Vec<_> = (0..4_096).map(|number| vec![bucket(number)]).collect();
    assert_eq!(store.bucket_digests(&[0..=u64::MAX]), store.digests(&all));
    let third = (u64::MAX >> 12) / 3;
    let [low, high] = [0_u64, 2_000].map(|number| *bucket(number).start());
    let ranges = [low..=low + third, low + 2 * third..=high + third];
    let digests = store.bucket_digests(&ranges);
    assert_eq!(digests.len(), 2_001);
    let first = store.digest(ranges[0].clone());
    let first = first.combine(store.digest(low + 2 * third..=*bucket(0).end()));
    assert_eq!((digests[0], digests[2_000]), (first, store.digest(high..=high + third)));
}
