//! Any bit flipped and any file cut: the store has what it had, or says what is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quorate_record::{Key, NodeId, Record, Timestamp, Version, Writer};
use quorate_storage::fault::FaultFs;
use quorate_storage::fs::Fs;
use quorate_storage::{ReadError, Recovered, Scrubbed, Step, Store};

use crate::life::{Cut, DIR, key, options};

fn record(timestamp: u64) -> Record {
    let writer = Writer { node: NodeId::new("n1").unwrap(), incarnation: 1 };
    let version = Version { timestamp: Timestamp::from_bits(timestamp), writer };
    match timestamp % 7 {
        0 => Record::tombstone(version),
        _ => Record::live(version, format!("value {timestamp:0100}")),
    }
}

fn reopen(fs: &FaultFs) -> (Store, Recovered) {
    let fs = Arc::new(Cut::new(fs, u64::MAX));
    Store::open(fs, Path::new(DIR), &options(), Box::new(|| {})).unwrap()
}

/// A store at rest.
struct Written {
    fs: FaultFs,
    /// What is in it.
    records: BTreeMap<Key, Record>,
    /// What ever was.
    ever: BTreeSet<(Key, Record)>,
    /// How much memory opening it takes at most, when nothing is wrong with it.
    opens_in_bytes: u64,
}

/// How much more memory than that a damaged one may take, beside what the file has.
const SLACK_BYTES: u64 = 64 << 10;

/// Opens a store and reads all of it; gives how much memory that took at most.
fn reopen_counted(fs: &FaultFs) -> ((Store, Recovered), Scrubbed, u64) {
    let mut opened = None;
    let counted = allocation_counter::measure(|| {
        let (store, recovered) = reopen(fs);
        let scrubbed = store.scrub(None, u64::MAX).unwrap();
        opened = Some(((store, recovered), scrubbed));
    });
    let (opened, scrubbed) = opened.expect("it was opened");
    (opened, scrubbed, counted.bytes_max)
}

const CEILING: Timestamp = Timestamp::from_bits(1 << 40);

/// Some that stay, some that are written over until segments in the middle are given up, a snapshot, and a few more.
fn written() -> Written {
    let fs = FaultFs::new();
    let store = reopen(&fs).0;
    let (mut records, mut ever) = (BTreeMap::new(), BTreeSet::new());
    let put = |number: u64, timestamp: u64| {
        store.apply(0, key(number), record(timestamp)).unwrap();
        store.turn(Duration::ZERO);
        (key(number), record(timestamp))
    };
    let stay = (1..=14).map(|timestamp| (timestamp, timestamp));
    let change = (15..=50).map(|timestamp| (20 + timestamp % 5, timestamp));
    let last = (51..=60).map(|timestamp| (timestamp % 10, timestamp));
    store.reserve_clock(0, CEILING).unwrap();
    for (number, timestamp) in stay.chain(change) {
        ever.insert(put(number, timestamp));
    }
    while store.compact(500).unwrap() != Step::Idle {
        store.turn(Duration::ZERO);
    }
    assert!(store.stats().compacted_segments > 1);
    store.snapshot().unwrap();
    for (number, timestamp) in last {
        ever.insert(put(number, timestamp));
    }
    for (key, record) in &ever {
        let known = records.entry(key.clone()).or_insert_with(|| record.clone());
        *known = known.clone().max(record.clone());
    }
    drop(store);
    Written { fs, records, ever, opens_in_bytes: 0 }.weighed()
}

impl Written {
    /// The same, with nothing to help the log.
    fn without_snapshots(self) -> Self {
        let dir = Path::new(DIR).join("snapshot");
        for name in self.fs.list(&dir).unwrap() {
            self.fs.remove(&dir.join(name)).unwrap();
        }
        self.weighed()
    }

    fn weighed(self) -> Self {
        let (_, _, opens_in_bytes) = reopen_counted(&self.fs.fork());
        Self { opens_in_bytes, ..self }
    }

    fn files(&self) -> Vec<PathBuf> {
        let in_dir = |dir: &str| {
            let dir = Path::new(DIR).join(dir);
            self.fs.list(&dir).unwrap().into_iter().map(move |name| dir.join(name))
        };
        let files: Vec<PathBuf> = in_dir("log").chain(in_dir("snapshot")).collect();
        assert!(files.len() > 5, "{files:?}");
        files
    }

    /// Changes one file and holds what is left against what was there. If it `goes_on`, nothing more is forgotten.
    fn judge(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>), goes_on: bool, context: &str) {
        let fs = self.fs.fork();
        fs.tamper(path, change).unwrap();
        let _told = Told(path, context);
        let ((store, recovered), scrubbed, bytes) = reopen_counted(&fs);
        assert_eq!(scrubbed.next, None);
        let len = self.fs.contents(path).unwrap().len() as u64;
        // What is damaged is copied, and the files are in memory here.
        let most = self.opens_in_bytes + len + 2 * self.fs.used_bytes() + SLACK_BYTES;
        assert!(bytes <= most, "it took {bytes} bytes of memory, not at most {most}");
        let is_told = !recovered.damages.is_empty()
            || (recovered.lost_records, recovered.truncated_bytes) != (0, 0);
        for (key, expected) in &self.records {
            match store.get(key) {
                Ok(Some(found)) if found == *expected => {}
                Ok(Some(found)) => {
                    assert!(is_told, "{key} went back without a word: {recovered:?}");
                    assert!(self.ever.contains(&(key.clone(), found)), "{key} was never that");
                }
                Ok(None) => assert!(is_told, "{key} is lost without a word: {recovered:?}"),
                Err(ReadError::Damaged) => assert!(scrubbed.damaged > 0),
                Err(error) => panic!("{error}"),
            }
        }
        let known = self.records.len() as u64;
        assert!(store.stats().keys <= known, "there are records that never were");
        assert!(recovered.clock_ceiling == Some(CEILING) || is_told, "{recovered:?}");

        if !goes_on {
            return;
        }
        let damaged = store.stats().damaged;
        store.apply(0, key(0), record(1000)).unwrap();
        store.turn(Duration::ZERO);
        let before = store.scan(None, usize::MAX).unwrap();
        assert_eq!(store.get(&key(0)).unwrap(), Some(record(1000)));
        drop(store);
        let (store, again) = reopen(&fs);
        assert_eq!(again.truncated_bytes, 0, "what was cut is still there");
        assert_eq!(store.scan(None, usize::MAX).unwrap().records, before.records);
        assert!(store.stats().damaged <= damaged);
    }

    /// Calls `each` with the places in a file that say something; between the records of one there is a large hole.
    fn places(&self, path: &Path, mut each: impl FnMut(usize)) {
        let len = self.fs.contents(path).unwrap().len();
        let is_hole = |at: usize| at > 8192 && at + 512 < len;
        (0..len).filter(|at| !is_hole(*at)).for_each(&mut each);
    }

    /// Every bit of what a file begins with and one of each other byte, or all of them with `QUORATE_ALL_BITS`.
    fn flip_bits(&self) {
        let all = std::env::var_os("QUORATE_ALL_BITS").is_some();
        for path in self.files() {
            self.places(&path, |at| {
                let bits = if all || at < 64 { 0..8 } else { at * 5 % 8..at * 5 % 8 + 1 };
                for bit in bits {
                    let flip = |bytes: &mut Vec<u8>| bytes[at] ^= 1 << bit;
                    self.judge(&path, flip, at % 8 == 0, &format!("bit {bit} of byte {at}"));
                }
            });
        }
    }

    fn cut_files(&self) {
        for path in self.files() {
            self.places(&path, |len| {
                let cut = |bytes: &mut Vec<u8>| bytes.truncate(len);
                self.judge(&path, cut, len % 8 == 0, &format!("cut to {len} bytes"));
            });
        }
    }
}

/// Says what was tried when a check fails.
struct Told<'a>(&'a Path, &'a str);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("it was {}: {}", self.0.display(), self.1);
        }
    }
}

#[test]
fn a_flipped_bit_is_healed_or_told() {
    written().flip_bits();
}

#[test]
fn a_flipped_bit_is_healed_or_told_without_a_snapshot_too() {
    written().without_snapshots().flip_bits();
}

#[test]
fn a_file_cut_anywhere_is_healed_or_told() {
    written().cut_files();
}

#[test]
fn a_file_cut_anywhere_is_healed_or_told_without_a_snapshot_too() {
    written().without_snapshots().cut_files();
}
