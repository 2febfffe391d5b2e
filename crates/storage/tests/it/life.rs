//! A store at work until the power goes, and a book of what was written and promised.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate_record::{Digest, Key, NodeId, Record, Timestamp, Version, Writer};
use quorate_storage::fault::FaultFs;
use quorate_storage::fs::{File, Fs};
use quorate_storage::{
    Applied, BackupError, Drive, LogOptions, Meta, Recovered, Restored, Step, Store, StoreOptions,
    StoreStats, SyncPolicy, restore,
};

pub(crate) const DIR: &str = "/data";

/// Spreads short keys over the token space.
pub(crate) fn token_of(key: &[u8]) -> u64 {
    key.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Small files, so that little work passes many borders, all of it on the caller's thread.
pub(crate) fn options() -> StoreOptions {
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

pub(crate) fn key(number: u64) -> Key {
    Key::new(format!("key{number}")).unwrap()
}

/// What a store has promised.
#[derive(Clone, Default)]
pub(crate) struct Promised {
    /// By key, the least version that may be found.
    pub(crate) versions: BTreeMap<Key, Version>,
    /// The least clock ceiling that may be found.
    pub(crate) ceiling: Option<Timestamp>,
}

/// Everything that was ever asked of a store, and what it answered.
#[derive(Clone, Default)]
pub(crate) struct Book {
    written: BTreeMap<(Key, Timestamp), Record>,
    greatest_ceiling: Option<Timestamp>,
    clock: u64,
    asked: BTreeMap<u64, Asked>,
    /// Of each backup that was begun, what it must have if there is one, and whether there must be.
    backups: Vec<(Promised, bool)>,
    /// Survives the end of the process.
    pub(crate) acked: Promised,
    /// Survives a loss of power.
    pub(crate) durable: Promised,
}

#[derive(Clone)]
enum Asked {
    Write(Key, Version),
    Ceiling(Timestamp),
}

/// A store, opened and closed at will, over files that nothing gets to any more after so many changes.
pub(crate) struct Life {
    fs: Arc<Cut>,
    options: StoreOptions,
    store: Option<Store>,
    now: Duration,
    pub(crate) book: Book,
}

impl Life {
    /// Begins a life on `fs`, where the power goes at change number `cut_at`.
    pub(crate) fn new(fs: &FaultFs, cut_at: u64, options: &StoreOptions, book: Book) -> Self {
        let fs = Arc::new(Cut::new(fs, cut_at));
        Self { fs, options: options.clone(), store: None, now: Duration::ZERO, book }
    }

    /// Whether the power is gone.
    pub(crate) fn is_cut(&self) -> bool {
        self.fs.changes.load(Ordering::Relaxed) > self.fs.cut_at
    }

    /// Opens the store; `None` if the power goes. Nothing may be damaged.
    pub(crate) fn open(&mut self) -> Option<()> {
        self.open_in(Path::new(DIR))
    }

    fn open_in(&mut self, dir: &Path) -> Option<()> {
        let opened = Store::open(self.fs.clone(), dir, &self.options, Box::new(|| {}));
        let (store, recovered) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                assert!(self.is_cut(), "the store does not open: {error}");
                return None;
            }
        };
        let Recovered {
            damages, bad_snapshots, lost_records, unknown_frames, clock_ceiling, ..
        } = &recovered;
        assert!(
            damages.is_empty()
                && bad_snapshots.is_empty()
                && (*lost_records, *unknown_frames) == (0, 0),
            "a crash is no damage: {recovered:?}"
        );
        assert!(*clock_ceiling <= self.book.greatest_ceiling, "{recovered:?}");
        assert!(*clock_ceiling >= self.book.durable.ceiling, "the ceiling fell: {recovered:?}");
        self.book.durable.ceiling = *clock_ceiling;
        self.store = Some(store);
        Some(())
    }

    /// Ends the store without a snapshot and opens it again.
    pub(crate) fn reopen(&mut self) -> Option<()> {
        self.store = None;
        self.open()
    }

    /// Ends the store in order and opens it again.
    pub(crate) fn close_and_open(&mut self) -> Option<()> {
        let store = self.store.take().expect("the store is open");
        store.close().ok()?;
        self.synced();
        self.open()
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().expect("the store is open")
    }

    pub(crate) fn stats(&self) -> StoreStats {
        self.store().stats()
    }

    /// Submits a value of `len` bytes that is newer than everything before.
    pub(crate) fn put(&mut self, number: u64, len: usize) -> Option<()> {
        let version = self.book.next_version();
        self.apply(number, Record::live(version, value(&version, len)))
    }

    /// Submits a tombstone that is newer than everything before.
    pub(crate) fn delete(&mut self, number: u64) -> Option<()> {
        let version = self.book.next_version();
        self.apply(number, Record::tombstone(version))
    }

    /// Submits a value that is older than the last `behind` writes.
    pub(crate) fn put_late(&mut self, number: u64, behind: u64, len: usize) -> Option<()> {
        let version = version_at(self.book.clock.saturating_sub(2 * behind) | 1);
        self.apply(number, Record::live(version, value(&version, len)))
    }

    fn apply(&mut self, number: u64, record: Record) -> Option<()> {
        let (key, version) = (key(number), record.version);
        self.book.written.insert((key.clone(), version.timestamp), record.clone());
        let id = self.book.ask(Asked::Write(key.clone(), version));
        self.store().apply(id, key, record).ok()
    }

    /// Submits a clock ceiling above all others.
    pub(crate) fn reserve_clock(&mut self) -> Option<()> {
        let ceiling = self.book.next_version().timestamp;
        self.book.greatest_ceiling = Some(ceiling);
        let id = self.book.ask(Asked::Ceiling(ceiling));
        self.store().reserve_clock(id, ceiling).ok()
    }

    /// Writes what was submitted; a millisecond passes.
    pub(crate) fn turn(&mut self) -> Option<()> {
        self.now += Duration::from_millis(1);
        let deadline = self.store().turn(self.now);
        let all_well = self.take_in();
        let is_interval = matches!(self.options.log.sync, SyncPolicy::Interval(_));
        if is_interval && deadline.is_none() && self.store().poisoned().is_none() {
            self.synced();
        }
        all_well
    }

    pub(crate) fn sync(&mut self) -> Option<()> {
        let outcome = self.store().sync().ok();
        self.take_in();
        outcome?;
        self.synced();
        Some(())
    }

    pub(crate) fn snapshot(&mut self) -> Option<()> {
        let outcome = self.store().snapshot().ok();
        self.take_in();
        outcome?;
        self.synced();
        Some(())
    }

    /// Makes one more backup.
    pub(crate) fn backup(&mut self) -> Option<()> {
        let number = self.book.backups.len();
        self.book.backups.push((self.book.durable.clone(), false));
        let node = NodeId::new("n1").unwrap();
        let meta = Meta { node, cluster: 9, incarnation: 1 };
        self.store().backup(&backup_dir(number), meta, 5).ok()?;
        self.book.backups[number].1 = true;
        self.take_in()
    }

    /// A step of compaction, so small that much can come between two.
    pub(crate) fn compact(&mut self) -> Option<Step> {
        let outcome = self.store().compact(400).ok();
        self.take_in();
        outcome
    }

    /// Compacts until nothing is left to do.
    pub(crate) fn compact_all(&mut self) -> Option<()> {
        for _ in 0..1000 {
            match self.compact()? {
                Step::Idle => return Some(()),
                Step::Waiting => self.turn()?,
                Step::Moved { .. } | Step::Kept { .. } | Step::Released { .. } => {}
            }
        }
        panic!("compaction does not end");
    }

    /// Notes what was answered; `None` if anything failed.
    fn take_in(&mut self) -> Option<()> {
        let mut done = Vec::new();
        self.store().take_completions(&mut done);
        let mut all_well = Some(());
        for completion in done {
            match (self.book.asked.remove(&completion.id), completion.outcome) {
                (Some(Asked::Write(key, version)), Ok(Applied::Stored)) => {
                    self.book.acked.raise(key, version);
                }
                (Some(Asked::Write(key, version)), Ok(Applied::Superseded(greater))) => {
                    assert!(greater > version, "{key} is superseded by something older");
                    self.book.acked.raise(key, greater);
                }
                (Some(Asked::Ceiling(ceiling)), Ok(_)) => {
                    self.book.acked.ceiling = self.book.acked.ceiling.max(Some(ceiling));
                }
                (Some(Asked::Write(..)), Ok(Applied::Below(_))) => {
                    panic!("there is no horizon that anything could be below")
                }
                (Some(_), Err(_)) => all_well = None,
                (None, _) => panic!("{} was answered twice, or never asked", completion.id),
            }
        }
        if self.options.log.sync == SyncPolicy::Always {
            self.synced();
        }
        all_well
    }

    /// What was acknowledged so far survives a loss of power.
    fn synced(&mut self) {
        self.book.durable = self.book.acked.clone();
    }

    /// Holds the open store against the book, and takes what is in it as promised.
    pub(crate) fn check(&mut self, promised: &Promised) {
        let store = self.store();
        let scanned = store.scan(None, usize::MAX).unwrap();
        assert_eq!(scanned.damaged, 0);
        let mut found = Promised { versions: BTreeMap::new(), ceiling: promised.ceiling };
        let mut digest = Digest::default();
        for (key, record) in scanned.records {
            let written = self.book.written.get(&(key.clone(), record.version.timestamp));
            assert_eq!(Some(&record), written, "{key} was never written so");
            assert_eq!(store.get(&key).unwrap(), Some(record.clone()));
            digest.add(record.stamp().digest_hash(store.token(&key)));
            let twice = found.versions.insert(key.clone(), record.version);
            assert!(twice.is_none(), "{key} is there twice");
        }
        assert_eq!(store.digest(0..=u64::MAX), digest);
        for (key, version) in &promised.versions {
            let held = found.versions.get(key);
            assert!(held >= Some(version), "{key} went back to {held:?} from {version:?}");
        }
        assert_eq!(store.stats().keys, found.versions.len() as u64);
        self.book.asked.clear();
        self.book.acked = found;
        self.synced();
    }
}

/// Restores every backup that is whole, and holds it against the book.
pub(crate) fn check_backups(fs: &FaultFs, options: &StoreOptions, book: &Book) {
    for (number, (promised, is_done)) in book.backups.iter().enumerate() {
        let (from, to) = (backup_dir(number), Path::new("/restored").join(number.to_string()));
        let taken_ms = match restore(fs, &from, fs, &to, None, 7, &mut |_, _| {}) {
            Ok(Restored { taken_ms, .. }) => taken_ms,
            Err(error) => {
                assert!(!is_done, "{} cannot be restored: {error}", from.display());
                assert!(matches!(error, BackupError::NoBackup(_)), "{error}");
                continue;
            }
        };
        assert_eq!(taken_ms, 5);
        let mut life = Life::new(fs, u64::MAX, options, book.clone());
        life.book.durable = promised.clone();
        life.open_in(&to).expect("there is power");
        life.check(promised);
    }
}

fn backup_dir(number: usize) -> PathBuf {
    Path::new("/backups").join(number.to_string())
}

impl Promised {
    fn raise(&mut self, key: Key, version: Version) {
        let known = self.versions.entry(key).or_insert(version);
        *known = (*known).max(version);
    }
}

impl Book {
    /// Even ones, so that there is room for what comes late.
    fn next_version(&mut self) -> Version {
        self.clock += 2;
        version_at(self.clock)
    }

    fn ask(&mut self, what: Asked) -> u64 {
        let id = self.asked.last_key_value().map_or(1, |(last, _)| last + 1);
        self.asked.insert(id, what);
        id
    }
}

fn version_at(timestamp: u64) -> Version {
    let writer = Writer { node: NodeId::new("n1").unwrap(), incarnation: 1 };
    Version { timestamp: Timestamp::from_bits(timestamp), writer }
}

/// Bytes that are no other version's.
fn value(version: &Version, len: usize) -> Vec<u8> {
    let bits = version.timestamp.bits();
    let filling = (0..).map(|at: u64| (bits * 131 + at * 7).to_le_bytes()[0]);
    bits.to_le_bytes().into_iter().chain(filling).take(len).collect()
}

/// Files that no change gets to any more from a certain one on, as if the power had gone at that moment. Nobody is to
/// have a buffer for more of a file than there can be.
pub(crate) struct Cut {
    fs: FaultFs,
    changes: Arc<AtomicU64>,
    cut_at: u64,
}

impl Cut {
    pub(crate) fn new(fs: &FaultFs, cut_at: u64) -> Self {
        Self { fs: fs.clone(), changes: Arc::default(), cut_at }
    }

    fn change(&self) -> io::Result<()> {
        gone_after(&self.changes, self.cut_at)
    }

    fn wrap(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(CutFile { file, changes: self.changes.clone(), cut_at: self.cut_at })
    }
}

fn gone_after(changes: &AtomicU64, cut_at: u64) -> io::Result<()> {
    if changes.fetch_add(1, Ordering::Relaxed) < cut_at {
        return Ok(());
    }
    Err(io::Error::other("the power is gone"))
}

/// A buffer of this size may be had for any file.
const SMALL_BYTES: u64 = 4096;

struct CutFile {
    file: Arc<dyn File>,
    changes: Arc<AtomicU64>,
    cut_at: u64,
}

impl Fs for Cut {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.change()?;
        Ok(self.wrap(self.fs.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(self.wrap(self.fs.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change()?;
        self.fs.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        self.fs.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.fs.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.change()?;
        self.fs.sync_dir(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.change()?;
        self.fs.create_dir_all(dir)
    }
}

impl File for CutFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let most = self.file.size()?.max(SMALL_BYTES);
        assert!(buf.len() as u64 <= most, "a buffer of {} bytes for {most}", buf.len());
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        gone_after(&self.changes, self.cut_at)?;
        self.file.write_at(bytes, offset)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        gone_after(&self.changes, self.cut_at)?;
        self.file.set_len(bytes)
    }

    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn sync_data(&self) -> io::Result<()> {
        gone_after(&self.changes, self.cut_at)?;
        self.file.sync_data()
    }
}
