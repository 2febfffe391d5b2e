use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_record::{NodeId, Writer};

use super::*;
use crate::fault::{Crash, Fault, FaultFs, FaultKind};
use crate::log::Drive;

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
    StoreOptions { log, snapshot_after_bytes: 1024, ..StoreOptions::new(token_of) }
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

/// Ids and answers; `None` for a failure.
fn completions(store: &Store) -> Vec<(u64, Option<Applied>)> {
    let mut out = Vec::new();
    store.take_completions(&mut out);
    out.into_iter().map(|completion| (completion.id, completion.outcome.ok())).collect()
}

fn contents(store: &Store) -> BTreeMap<Key, Record> {
    store.scan(None, usize::MAX).into_iter().collect()
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
    assert_eq!((store.get(&key(1)), completions(&store)), (None, vec![]));
    turn(&store);
    assert_eq!(store.get(&key(1)), Some(record(1)));
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
    assert_eq!(store.get(&key(1)), Some(record(6)));
}

#[test]
fn an_answer_that_rests_on_a_write_fails_with_it() {
    let (fs, store) = store();
    put(&store, 1, 1);
    store.apply(1, key(1), record(5)).unwrap();
    store.apply(2, key(1), record(4)).unwrap();
    fs.set_fault(Some(Fault { at: fs.operations(), kind: FaultKind::Io, sticky: true, seed: 0 }));
    turn(&store);
    assert_eq!(completions(&store), [(1, None), (2, None)]);
    assert_eq!(store.get(&key(1)), Some(record(1)));
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
    assert_eq!(store.get(&key(failed)), None);
    assert_eq!(store.get(&key(1)), Some(record(1)));
    fs.set_capacity(None);
    put(&store, failed, failed);
    assert_eq!(store.get(&key(failed)), Some(record(failed)));
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
    // With two snapshots nobody needs the first segments.
    (1..60).for_each(|timestamp| put(&store, 1, timestamp));
    store.snapshot().unwrap();
    store.snapshot().unwrap();
    assert!(store.stats().wal_ops < 40);
    assert_eq!(open(&fs.crash(Crash::Nothing)).1.clock_ceiling, Some(ceiling(9)));
}

#[test]
fn snapshots_keep_the_log_short() {
    let (fs, store) = store();
    let mut most = 0;
    for timestamp in 1..1000 {
        put(&store, timestamp % 10, timestamp);
        if store.snapshot_due() {
            store.snapshot().unwrap();
        }
        most = most.max(store.stats().segments);
    }
    assert!((2..8).contains(&most), "{most}");
    assert_eq!(snapshots(&fs).len(), 2);
    let stats = store.stats();
    assert_eq!((stats.keys, stats.snapshot.unwrap().records), (10, 10));
    assert!(stats.snapshots > 50);
    let before = contents(&store);
    assert_eq!(contents(&open(&fs.crash(Crash::Nothing)).0), before);
}

#[test]
fn writes_during_a_snapshot_are_kept() {
    let (fs, store) = store();
    (0..600).for_each(|timestamp| put(&store, timestamp, timestamp + 1));
    let seq = store.shared.lock().applied_seq;
    let mut round = 0;
    let mut after = None;
    let dir = Path::new(DIR).join("snapshot");
    let next_batch = || {
        round += 1;
        (0..600).step_by(7).for_each(|number| put(&store, number, 1000 * round + number));
        let batch = store.shared.lock().index.scan(after.as_ref(), 100, u64::MAX);
        after = batch.last().map(|(key, _)| store.place(key));
        batch
    };
    publish(&fs, &dir, 1, seq, next_batch, || Timestamp::ZERO).unwrap();
    let before = contents(&store);
    let (store, recovered) = open(&fs.crash(Crash::Nothing));
    assert_eq!(recovered.snapshot.unwrap().records, 600);
    assert_eq!(contents(&store), before);
}

/// A store with two snapshots and frames behind, between and before them.
fn with_two_snapshots() -> (FaultFs, BTreeMap<Key, Record>) {
    let (fs, store) = store();
    for timestamp in 1..150 {
        put(&store, timestamp % 40, timestamp);
        if timestamp % 45 == 0 {
            store.snapshot().unwrap();
        }
    }
    assert_eq!(snapshots(&fs).len(), 2);
    (fs.crash(Crash::Nothing), contents(&store))
}

#[test]
fn a_bad_snapshot_is_reported_and_the_one_before_gives_everything() {
    let (fs, before) = with_two_snapshots();
    let newest = snapshots(&fs).pop().unwrap();
    fs.tamper(&newest, |bytes| bytes[100] ^= 1).unwrap();
    let (store, recovered) = open(&fs);
    assert_eq!(contents(&store), before);
    assert_eq!((recovered.bad_snapshots.len(), recovered.damages.len()), (1, 0));
    // The next one takes its place.
    store.snapshot().unwrap();
    let fs = fs.crash(Crash::Nothing);
    assert_eq!(snapshots(&fs).len(), 2);
    assert!(!snapshots(&fs).contains(&newest));
    assert_eq!(contents(&open(&fs).0), before);
}

#[test]
fn a_loss_that_nothing_makes_up_for_is_reported() {
    let (fs, before) = with_two_snapshots();
    for snapshot in snapshots(&fs) {
        fs.tamper(&snapshot, |bytes| bytes.truncate(90)).unwrap();
    }
    let (store, recovered) = open(&fs);
    assert_eq!(recovered.bad_snapshots.len(), 2);
    assert_eq!((recovered.damages[0].segment, recovered.damages[0].first_seq), (0, 1));
    assert!(recovered.corrupt_frames() > 1);
    let after = contents(&store);
    assert!(!after.is_empty() && after.iter().all(|(key, record)| record <= &before[key]));
}

#[test]
fn a_log_that_is_gone_is_reported_and_numbers_are_not_used_twice() {
    let (fs, before) = with_two_snapshots();
    let dir = Path::new(DIR).join("log");
    for name in fs.list(&dir).unwrap() {
        fs.remove(&dir.join(name)).unwrap();
    }
    let (store, recovered) = open(&fs);
    let snapshot = recovered.snapshot.clone().unwrap();
    assert!(recovered.corrupt_frames() > 0);
    assert!(contents(&store).iter().all(|(key, record)| record <= &before[key]));
    put(&store, 3, 5000);
    assert!(store.shared.lock().applied_seq > snapshot.seq);
    store.snapshot().unwrap();
    let fs = fs.crash(Crash::Nothing);
    fs.tamper(&snapshots(&fs).pop().unwrap(), |bytes| bytes[50] ^= 1).unwrap();
    assert_eq!(open(&fs).0.get(&key(3)), Some(record(5000)));
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
    let (fs, _) = with_two_snapshots();
    fs.tamper(&snapshots(&fs).pop().unwrap(), |bytes| {
        bytes[8] = 1;
        let crc = crate::frame::checksum(0, &bytes[..32]);
        bytes[32..36].copy_from_slice(&crc.to_le_bytes());
    })
    .unwrap();
    let error = Store::open(Arc::new(fs), DIR.as_ref(), &options(), Box::new(|| {})).err().unwrap();
    assert!(matches!(error, OpenError::Version { found: 1, supported: 2, .. }), "{error}");
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
    put(&store, 1, 7);
    let bytes = fs.contents(&store.snapshot().unwrap().path).unwrap();
    assert_eq!(bytes[..16], *b"QUORSNAP\x02\0\0\0\0\0\0\0");
    assert_eq!(bytes[16..32], [[1, 0, 0, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0, 0, 0]].concat());
    let mut entry = Vec::new();
    encode_record(&key(1), &record(7), &mut entry);
    let len = u32::try_from(entry.len()).unwrap().to_le_bytes();
    assert_eq!((&bytes[40..44], &bytes[48..48 + entry.len()]), (&len[..], &entry[..]));
    let end = &bytes[48 + entry.len()..];
    let chained = [&bytes[..32], &len, &entry, &[0; 4], &end[8..]].concat();
    assert_eq!(end[..4], [0; 4]);
    assert_eq!(end[4..8], crate::frame::checksum(0, &chained).to_le_bytes());
    assert_eq!(end[8..], [[1, 0, 0, 0, 0, 0, 0, 0], [2, 1, 0, 0, 0, 0, 0, 0]].concat());
}
