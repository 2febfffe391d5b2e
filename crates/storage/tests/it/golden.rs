//! Folders as earlier versions wrote them, in `tests/golden`: every later version opens them and finds the same.
//!
//! A new one, when a format has changed (the old ones stay):
//! `QUORATE_GOLDEN=v3 cargo test -p quorate-storage --test it -- --ignored golden`

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quorate_record::{Hint, HintKind, Key, NodeId, Record, Timestamp, Version, Writer};
use quorate_storage::{
    Drive, HintLog, HintLogOptions, LogOptions, RealFs, Recovered, Step, Store, StoreOptions,
};

use crate::life::token_of;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn log_options() -> LogOptions {
    LogOptions {
        drive: Drive::Manual,
        segment_bytes: 4096,
        max_payload_bytes: 2048,
        prepare_ahead_bytes: 512,
        prepare_chunk_bytes: 512,
        max_spares: 0,
        ..LogOptions::default()
    }
}

fn open(dir: &Path) -> (Store, Recovered) {
    let options =
        StoreOptions { log: log_options(), secret: Some([7; 16]), ..StoreOptions::new(token_of) };
    Store::open(Arc::new(RealFs), dir, &options, Box::new(|| {})).unwrap()
}

fn open_hints(dir: &Path) -> (HintLog, Vec<Hint>) {
    let options = HintLogOptions { log: log_options(), dead_bytes_at_least: 1 << 20 };
    let (log, recovered) =
        HintLog::open(Arc::new(RealFs), &dir.join("hints"), &options, Box::new(|| {})).unwrap();
    assert!(recovered.damages.is_empty(), "{recovered:?}");
    assert_eq!((recovered.unknown_frames, recovered.truncated_bytes), (0, 0));
    let hints = log.page(None, 100).unwrap().hints;
    (log, hints)
}

/// Short ones and long ones, and such that are no text.
fn key(number: u64) -> Key {
    match number {
        0 => Key::new(vec![0]),
        1 => Key::new(vec![0xff, 0, 0xfe]),
        2 => Key::new("k".repeat(1024)),
        _ => Key::new(format!("key/{number}")),
    }
    .unwrap()
}

fn version(timestamp: u64) -> Version {
    let (node, incarnation) = if timestamp.is_multiple_of(3) { ("n1", 1) } else { ("m", 1 << 40) };
    let writer = Writer { node: NodeId::new(node).unwrap(), incarnation };
    Version { timestamp: Timestamp::from_bits(timestamp << 20), writer }
}

/// Every seventh is a tombstone, every fifth expires, one is empty.
fn record(timestamp: u64) -> Record {
    let len = usize::try_from(timestamp * 53 % 400).unwrap();
    let value: Vec<u8> = (0..len as u64).map(|at| (timestamp + at * at).to_le_bytes()[0]).collect();
    let record = match timestamp {
        5 => Record::live(version(5), ""),
        6 => Record::live(version(6), vec![0x5a; 1000]),
        _ if timestamp.is_multiple_of(7) => Record::tombstone(version(timestamp)),
        _ => Record::live(version(timestamp), value),
    };
    let expires_ms = timestamp.is_multiple_of(5).then_some(4_000_000_000_000 + timestamp);
    Record { expires_ms, ..record }
}

/// First some keys that stay as they are, then some that are written over and over, then a few of each.
fn writes() -> Vec<(Key, Record)> {
    let stay = (1..=24).map(|timestamp| (timestamp - 1, timestamp));
    let change = (25..=84).map(|timestamp| (24 + timestamp % 8, timestamp));
    let last = (85..=94).map(|timestamp| (timestamp % 10 * 4, timestamp));
    let all = stay.chain(change).chain(last);
    all.map(|(number, timestamp)| (key(number), record(timestamp))).collect()
}

/// What is behind the snapshot.
const TAIL: usize = 12;

/// The first of the hints are removed again.
const REMOVED: usize = 2;

fn hints() -> Vec<Hint> {
    let hint = |number: u64| Hint {
        target: NodeId::new(if number.is_multiple_of(2) { "n2" } else { "n3" }).unwrap(),
        key: key(number),
        record: record(number + 1),
        kind: if number < 9 { HintKind::Owed } else { HintKind::Courtesy },
        added_ms: 1_700_000_000_000 + number,
    };
    (0..12).map(hint).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for path in files(from) {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

/// Opens a store, holds it against what was written, goes on writing, and opens it once more.
fn same(dir: &Path, has_snapshot: bool) {
    let mut expected = BTreeMap::new();
    for (key, record) in writes() {
        let known = expected.entry(key).or_insert_with(|| record.clone());
        *known = known.clone().max(record);
    }
    for round in 0..2 {
        let (store, recovered) = open(dir);
        assert!(
            recovered.damages.is_empty() && recovered.bad_snapshots.is_empty(),
            "{dir:?}: {recovered:?}"
        );
        assert_eq!(
            (recovered.lost_records, recovered.unknown_frames, recovered.truncated_bytes),
            (0, 0, 0)
        );
        assert_eq!(recovered.snapshot.is_some(), has_snapshot);
        assert_eq!(recovered.clock_ceiling, Some(Timestamp::from_bits(1 << 50)));
        let scanned = store.scan(None, usize::MAX).unwrap();
        let found: BTreeMap<Key, Record> = scanned.records.into_iter().collect();
        assert_eq!((scanned.damaged, &found), (0, &expected), "{dir:?}, round {round}");
        for (key, record) in &expected {
            assert_eq!(store.get(key).unwrap().as_ref(), Some(record));
        }
        let (added, newer) = (key(1000 + round), record(1000 + round));
        store.apply(1, added.clone(), newer.clone()).unwrap();
        store.turn(Duration::ZERO);
        assert_eq!(store.get(&added).unwrap().as_ref(), Some(&newer));
        expected.insert(added, newer);
    }
}

#[test]
fn every_version_opens_what_the_earlier_ones_wrote() {
    let versions = files(&folder());
    assert!(!versions.is_empty());
    for written in versions {
        let dir = tempfile::tempdir().unwrap();
        copy(&written, dir.path());
        same(dir.path(), true);
        let mut found = open_hints(dir.path()).1;
        found.sort_by_key(|hint| hint.added_ms);
        assert_eq!(found, hints()[REMOVED..]);
    }
}

#[test]
fn without_its_snapshots_what_an_earlier_version_wrote_is_the_same() {
    for written in files(&folder()) {
        let dir = tempfile::tempdir().unwrap();
        copy(&written, dir.path());
        fs::remove_dir_all(dir.path().join("snapshot")).unwrap();
        same(dir.path(), false);
    }
}

#[test]
#[ignore = "writes the folder that QUORATE_GOLDEN names"]
fn a_golden_folder_is_written() {
    let name = std::env::var("QUORATE_GOLDEN").expect("QUORATE_GOLDEN names a new folder");
    let dir = folder().join(name);
    assert!(!dir.exists(), "what was once written stays as it is");
    fs::create_dir_all(&dir).unwrap();
    let (store, _) = open(&dir);
    let apply = |(key, record): &(Key, Record)| {
        store.apply(1, key.clone(), record.clone()).unwrap();
        store.turn(Duration::ZERO);
    };
    let writes = writes();
    let (most, tail) = writes.split_at(writes.len() - TAIL);
    store.reserve_clock(1, Timestamp::from_bits(1 << 50)).unwrap();
    most.iter().for_each(apply);
    while store.compact(1000).unwrap() != Step::Idle {
        store.turn(Duration::ZERO);
    }
    let stats = store.stats();
    let logs: Vec<PathBuf> = files(&dir.join("log"))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|it| it == "qlog"))
        .collect();
    let number = |path: &PathBuf| {
        u64::from_str_radix(path.file_stem().unwrap().to_str().unwrap(), 16).unwrap()
    };
    let has_hole = logs.windows(2).any(|pair| number(&pair[0]) + 1 < number(&pair[1]));
    assert!(stats.compacted_segments > 1 && has_hole, "no hole in {logs:?}");
    store.snapshot().unwrap();
    store.reserve_clock(2, Timestamp::from_bits(1 << 49)).unwrap();
    tail.iter().for_each(apply);
    drop(store);

    let (log, _) = open_hints(&dir);
    for (id, hint) in (0..).zip(&hints()) {
        log.add(id, hint).unwrap();
    }
    log.turn(Duration::ZERO);
    for Hint { target, key, record, .. } in hints().into_iter().take(REMOVED) {
        log.remove(target, &key, record.version);
    }
    log.turn(Duration::ZERO);
}
