//! A store of records: a log has them, an index in memory says where.

mod backup;
mod cache;
mod compaction;
mod maintenance;
mod open;
mod read;
mod shards;
pub(crate) mod snapshot;
mod usage;

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_record::{Digest, Key, Record, Sketch, Stamp, Timestamp, Version, encode_record};

use self::compaction::Compaction;
use self::maintenance::Maintenance;
pub(crate) use self::shards::Notes;
use self::shards::Shards;
use self::snapshot::{Unpublished, publish, snapshot_number, snapshot_path, unfinished_path};
use crate::completion::Completion;
use crate::fs::{Fs, is_full};
use crate::index::{self, ENTRY_BYTES, Position, SHARDS, Shard, TooManyWriters, shard_of};
use crate::log::{Drive, Log, LogOptions, SyncPolicy};
use crate::queue::{LogError, Ticket};
use crate::read::ReadError;
use crate::recovery::{Damage, OpenError};

pub use self::backup::{BackupError, BackupInfo, Restored, restore};
pub use self::compaction::{CompactError, Step};
pub(crate) use self::open::random;
pub use self::read::{Scanned, ScrubPosition, Scrubbed};
pub use self::snapshot::SnapshotInfo;

/// Frames of the store's log that hold a record.
pub(crate) const KIND_RECORD: u8 = 1;
/// Frames of the store's log that hold a ceiling for the clock.
pub(crate) const KIND_CEILING: u8 = 2;
/// Frames of the store's log that hold notes.
pub(crate) const KIND_NOTES: u8 = 3;

/// The most bytes that [`Store::keep_notes`] takes.
pub const MAX_NOTES_BYTES: usize = 16 << 10;

/// Into how many equal parts [`Store::bucket_digests`] cuts the token space.
pub const BUCKETS: usize = SHARDS * index::BUCKETS;

/// How a store behaves.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Places a key in the token space. It must be the same at every opening.
    pub token_of: fn(&[u8]) -> u64,
    /// How its log behaves; [`LogOptions::next_seq_at_least`] and [`LogOptions::replay_after`] are set by the store
    /// itself. If the log has threads, so has the store: one that [compacts](Store::compact).
    pub log: LogOptions,
    /// A snapshot is [due](Store::snapshot_due) when so many bytes, and as many as a snapshot has, were logged since
    /// the last one.
    pub snapshot_after_bytes: u64,
    /// Segments are compacted when the bytes in them that nobody needs are more than so many of a hundred that
    /// somebody does, and with all the time there is when they are a sixth more than that. While others write, that is;
    /// in quiet times a sixth of it is enough. The later, the less has to be moved, and the more room is taken up.
    pub compact_at_percent: u64,
    /// How much memory may hold small records that were read of late (about; 128 bytes each are counted for it): reading
    /// such a one takes a fraction of the time that a read of the file takes, even if the system has it in its own cache.
    /// A 256th of it is for each part of the token space, so less than 1 MiB keeps next to nothing; records above 32 KiB
    /// are never kept. 0 by default: that cache is enough where a system call is a small part of what a request costs.
    pub cache_bytes: u64,
    /// How many cells the kept sketch of each of the 4,096 parts of the token space has, 32 bytes each once there is a
    /// record in it. With them, [`Store::sketches`] costs the same however many records there are; a write costs about
    /// a fifth of a microsecond more. 0 by default: nothing is kept.
    pub sketch_cells: usize,
    /// What the keys are hashed with in memory, so that nobody outside can make two of them alike. Drawn at random if
    /// it is not given; kept in snapshots.
    pub secret: Option<[u8; 16]>,
}

impl StoreOptions {
    /// The default options for keys that are placed by `token_of`.
    #[must_use]
    pub fn new(token_of: fn(&[u8]) -> u64) -> Self {
        Self {
            token_of,
            log: LogOptions::default(),
            snapshot_after_bytes: 64 << 20,
            compact_at_percent: 75,
            cache_bytes: 0,
            sketch_cells: 0,
            secret: None,
        }
    }
}

/// What became of a record. It is durable, as far as the sync policy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The store holds this record, or did until a greater one replaced it.
    Stored,
    /// The store holds a greater one, of this version.
    Superseded(Version),
    /// It was not taken, since it is too old; at this timestamp it would not be.
    Below(Timestamp),
}

/// What is too old to be stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// What is below this.
    pub floor: Timestamp,
    /// What is below this, if nothing is held for its key: it was deleted.
    pub horizon: Timestamp,
}

impl Bounds {
    fn refuse(self, timestamp: Timestamp, is_absent: bool) -> bool {
        timestamp < self.floor || (is_absent && timestamp < self.horizon)
    }
}

/// What opening a store found.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// How many records the snapshot knew of, and how many were read from the log.
    pub records: u64,
    /// The snapshot that was read.
    pub snapshot: Option<SnapshotInfo>,
    /// Snapshots that could not be read, and why. The last of them is kept as `damaged-snapshot`.
    pub bad_snapshots: Vec<(PathBuf, String)>,
    /// Bytes cut from the end of the log: an unfinished write, or damage in the last batch that was synced. Behind that
    /// there is nothing that could tell which.
    pub truncated_bytes: u64,
    /// Places of the log that had been synced and cannot be read, or are missing. If there is any, records may have
    /// been lost that others count on.
    pub damages: Vec<Damage>,
    /// Keys whose record is known to have been there and is not: reading them says that it is damaged.
    pub lost_records: u64,
    /// Whole frames in the log that hold nothing this store knows.
    pub unknown_frames: u64,
    /// The greatest clock ceiling that was persisted. If there are damages a greater one may have been lost.
    pub clock_ceiling: Option<Timestamp>,
    /// What [`Store::keep_notes`] kept last.
    pub notes: Option<Vec<u8>>,
    /// Whether keys may be there that were deleted: tombstones were forgotten, and the newest snapshot, which does
    /// without what these had hidden, cannot be read. It must be compared with other replicas before anybody relies on it.
    pub is_doubtful: bool,
}

impl Recovered {
    /// How many frames of the log were lost or make no sense, as far as that is known; a damage counts as one at least.
    #[must_use]
    pub fn corrupt_frames(&self) -> u64 {
        let lost = |damage: &Damage| (damage.last_seq + 1).saturating_sub(damage.first_seq).max(1);
        self.unknown_frames + self.damages.iter().map(lost).sum::<u64>()
    }
}

/// Why no snapshot was made. The store is as it was, and the older snapshots are in place.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There is no room for it.
    #[error("there is no room on the disk for a snapshot")]
    NoSpace,
    /// A file could not be written, read back, renamed or removed.
    #[error("cannot write a snapshot into {dir}")]
    Io {
        /// The folder.
        dir: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// What is in the log could not be synced.
    #[error("the log cannot be synced")]
    Log(#[source] LogError),
}

/// Counters of a store, for a page that shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreStats {
    /// The folder of the log.
    pub log_dir: PathBuf,
    /// The folder of the snapshots.
    pub snapshot_dir: PathBuf,
    /// When a write counts as done.
    pub sync: SyncPolicy,
    /// Frames in the log.
    pub wal_ops: u64,
    /// Bytes in the log.
    pub wal_bytes: u64,
    /// Files of the log.
    pub segments: u64,
    /// Keys, tombstones included.
    pub keys: u64,
    /// Keys that were deleted.
    pub tombstones: u64,
    /// Keys whose record cannot be read, and has not come again.
    pub damaged: u64,
    /// Records that could not be read and have been replaced, by the same or a newer one, since the store was opened.
    pub healed: u64,
    /// What the records of all keys take up in the log.
    pub live_bytes: u64,
    /// What log and snapshots take up beyond that.
    pub dead_bytes: u64,
    /// Segments given up by compaction since the store was opened.
    pub compacted_segments: u64,
    /// Bytes of frames that compaction has written again since the store was opened.
    pub compacted_bytes: u64,
    /// Writes that wait to become durable: their bytes.
    pub queued_bytes: u64,
    /// Snapshots made since the store was opened.
    pub snapshots: u64,
    /// The newest snapshot.
    pub snapshot: Option<SnapshotInfo>,
    /// What [`Recovered::records`] said at opening.
    pub recovered_records: u64,
    /// What [`Recovered::truncated_bytes`] said.
    pub truncated_bytes: u64,
    /// What [`Recovered::corrupt_frames`] said.
    pub corrupt_frames: u64,
}

/// The greatest record of each key, on disk. In memory there is only where each of them is, some sixty bytes a key.
///
/// Readers only ever see what is durable (as far as the sync policy goes), and wait for nobody's disk but their own read.
/// All methods may be called from any thread; [`Store::snapshot`] and [`Store::close`] take long.
///
/// ```
/// use std::sync::Arc;
/// use quorate_record::{Key, NodeId, Record, Timestamp, Version, Writer};
/// use quorate_storage::{Applied, Drive, Store, StoreOptions, fault::FaultFs};
///
/// let mut options = StoreOptions::new(|key| key.len() as u64); // in earnest, a hash
/// options.log.drive = Drive::Manual; // by default log and store have their own threads
/// let fs = Arc::new(FaultFs::new()); // `RealFs` for files that stay
/// let (store, _) = Store::open(fs, "/data".as_ref(), &options, Box::new(|| {}))?;
///
/// let key = Key::new("cat")?;
/// let writer = Writer { node: NodeId::new("n1")?, incarnation: 1 };
/// let record = Record::live(Version { timestamp: Timestamp::from_wall_ms(5), writer }, "meow");
/// store.apply(1, key.clone(), record.clone())?;
/// assert_eq!(store.get(&key)?, None); // not durable yet
///
/// store.turn(std::time::Duration::ZERO);
/// let mut done = Vec::new();
/// store.take_completions(&mut done);
/// assert!(matches!(done[0].outcome, Ok(Applied::Stored)));
/// assert_eq!(store.get(&key)?, Some(record));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Store {
    /// Ended before the rest is dropped.
    maintenance: Option<Maintenance>,
    core: Arc<Core>,
}

/// A store but for its thread, which has it too.
struct Core {
    fs: Arc<dyn Fs>,
    snapshot_dir: PathBuf,
    options: StoreOptions,
    shards: Arc<Shards>,
    log: Log,
    /// Held by whoever makes a snapshot.
    snapshotting: Mutex<()>,
    snapshots: Mutex<Snapshots>,
    compaction: Mutex<Compaction>,
    /// Segments given up.
    compacted: AtomicU64,
    recovered: Recovered,
}

/// The snapshots in place, and how many were made.
struct Snapshots {
    newest: Option<SnapshotInfo>,
    next_number: u64,
    made: u64,
}

impl Store {
    /// Opens the store in the folder `dir`, which is created if need be: the log is in `log`, snapshots are in
    /// `snapshot` there. `on_progress` is called whenever there are new completions, on a thread of the log or within
    /// the call that brought them about.
    ///
    /// # Errors
    /// [`OpenError`]. What was torn or damaged is no error, it is reported in [`Recovered`].
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        options: &StoreOptions,
        on_progress: Box<dyn Fn() + Send + Sync>,
    ) -> Result<(Store, Recovered), OpenError> {
        Self::open_guarded(fs, dir, options, on_progress, &mut || Ok(()))
    }

    /// [`Self::open`], but before anything goes by which a later opening could tell that something is lost, may be or was
    /// cut off, `before_loss` is called, perhaps more than once. What it makes durable is there even if the process ends
    /// before it has read what is in [`Recovered`].
    ///
    /// # Errors
    /// As [`Self::open`], and if `before_loss` fails.
    pub fn open_guarded(
        fs: Arc<dyn Fs>,
        dir: &Path,
        options: &StoreOptions,
        on_progress: Box<dyn Fn() + Send + Sync>,
        before_loss: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<(Store, Recovered), OpenError> {
        let core = Arc::new(Core::open(fs, dir, options, on_progress, before_loss)?);
        let maintenance = match options.log.drive {
            Drive::Manual => None,
            Drive::Threads => Some(
                Maintenance::start(core.clone())
                    .map_err(OpenError::io("start a thread for", dir))?,
            ),
        };
        let recovered = core.recovered.clone();
        Ok((Store { maintenance, core }, recovered))
    }

    /// Merges a record into what is held for its key. The answer comes by [`Self::take_completions`].
    ///
    /// # Errors
    /// [`LogError`]: the record was not taken, and no completion comes.
    pub fn apply(&self, id: u64, key: Key, record: Record) -> Result<(), LogError> {
        self.apply_within(Bounds::default(), id, key, record)
    }

    /// [`Self::apply`], but a record that would be stored is refused if it is too old: [`Applied::Below`].
    ///
    /// # Errors
    /// [`LogError`]: the record was not taken, and no completion comes.
    pub fn apply_within(
        &self,
        bounds: Bounds,
        id: u64,
        key: Key,
        record: Record,
    ) -> Result<(), LogError> {
        let Core { shards, log, .. } = &*self.core;
        let token = self.token(&key);
        let entry = shards
            .entry(token, key.as_bytes(), &record.stamp(), record.is_tombstone())
            .map_err(too_many_writers)?;
        shards.apply(id, entry, bounds, |tag| {
            log.submit_with(KIND_RECORD, tag, |buf| encode_record(&key, &record, buf))
        })
    }

    /// Persists a ceiling for the clock. Completes like [`Self::apply`], with [`Applied::Stored`].
    ///
    /// # Errors
    /// As for [`Self::apply`].
    pub fn reserve_clock(&self, id: u64, ceiling: Timestamp) -> Result<(), LogError> {
        self.core.shards.raise_ceiling(id, ceiling, |tag| self.core.submit_ceiling(ceiling, tag))
    }

    /// Persists what the owner of the store wants to find again, in place of what it kept before, and a horizon, which
    /// never goes back. Completes like [`Self::apply`], with [`Applied::Stored`].
    ///
    /// From then on [`Self::drop_tombstones`] forgets the tombstones that are below it, and so does every opening.
    ///
    /// # Errors
    /// As for [`Self::apply`]. [`LogError::TooLarge`] beyond [`MAX_NOTES_BYTES`].
    pub fn keep_notes(&self, id: u64, horizon: Timestamp, text: &[u8]) -> Result<(), LogError> {
        if text.len() > MAX_NOTES_BYTES {
            let limit_bytes = MAX_NOTES_BYTES as u64;
            return Err(LogError::TooLarge { bytes: text.len() as u64, limit_bytes });
        }
        let submit = |notes: &Notes, tag| self.core.submit_notes(notes, tag);
        self.core.shards.keep_notes(id, horizon, text, submit)
    }

    /// Tombstones below the durable horizon are forgotten, those of some tokens from `from` on, and `limit` of them at
    /// most. Returns how many, and where to go on; `None` when all tokens were looked at.
    ///
    /// Whoever forgets all of them gets back their memory, and by and by their room on the disk.
    #[must_use]
    pub fn drop_tombstones(&self, from: Option<u64>, limit: usize) -> (usize, Option<u64>) {
        let first = from.map_or(0, shard_of);
        let mut dropped = 0;
        for number in first..SHARDS {
            dropped += self.core.shards.drop_tombstones(number, limit - dropped);
            if dropped == limit {
                return (dropped, Some(Shard::first_token_of(number)));
            }
        }
        (dropped, None)
    }

    /// How many tombstones the index holds.
    #[must_use]
    pub fn tombstones(&self) -> u64 {
        self.core.shards.counts().tombstones
    }

    /// The sequence number of the last frame that is in the index: durable, as far as the sync policy goes. It never goes
    /// back as long as nothing is lost.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.core.shards.account().applied_seq
    }

    /// The horizon that is durable.
    #[must_use]
    pub fn horizon(&self) -> Timestamp {
        self.core.shards.horizon()
    }

    /// Moves what has completed since the last call to the end of `out`.
    pub fn take_completions(&self, out: &mut Vec<Completion<Applied>>) {
        self.core.shards.take_completions(out);
    }

    /// The durable record of a key; `None` only if there is none.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] and [`ReadError::Io`].
    pub fn get(&self, key: &Key) -> Result<Option<Record>, ReadError> {
        self.core.get(key)
    }

    /// The version of the durable record of a key, also of one that is [damaged](ReadError::Damaged). Reads nothing.
    #[must_use]
    pub fn version(&self, key: &Key) -> Option<Version> {
        self.core.version(key)
    }

    /// Whether the durable record of a key has this version and content, and is not known to be damaged. Reads nothing.
    #[must_use]
    pub fn holds(&self, key: &Key, stamp: &Stamp) -> bool {
        self.core.holds(key, stamp)
    }

    /// Up to `limit` records in token order, from behind the key `after` on, which need not be there.
    ///
    /// What is written and compacted meanwhile neither hides nor repeats a record.
    ///
    /// # Errors
    /// [`ReadError::Io`]; damaged records are counted.
    pub fn scan(&self, after: Option<&Key>, limit: usize) -> Result<Scanned, ReadError> {
        self.core.scan(after, limit)
    }

    /// The same without the values, of which nothing is kept: those of live records are empty. Reads about `max_bytes` of
    /// the log, but one record at least if there is one. Says as well whether there may be more.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    pub fn scan_keys(
        &self,
        after: Option<&Key>,
        limit: usize,
        max_bytes: u64,
    ) -> Result<(Scanned, bool), ReadError> {
        self.core.scan_keys(after, limit, max_bytes)
    }

    /// The digest of all records with tokens in `tokens`, without those that are known to be damaged. Costs about as
    /// much as looking at 1/2000 of all records.
    #[must_use]
    pub fn digest(&self, tokens: RangeInclusive<u64>) -> Digest {
        self.core.digest(&tokens)
    }

    /// One digest for each set of disjoint ranges.
    #[must_use]
    pub fn digests(&self, sets: &[Vec<RangeInclusive<u64>>]) -> Vec<Digest> {
        let sum = |set: &Vec<RangeInclusive<u64>>| {
            set.iter().fold(Digest::default(), |sum, range| sum.combine(self.core.digest(range)))
        };
        sets.iter().map(sum).collect()
    }

    /// One digest for each of the [`BUCKETS`] equal parts of the token space that has tokens in `ranges`, which are
    /// disjoint and in order: of what is in the ranges. The highest 12 bits of a token tell its part.
    #[must_use]
    pub fn bucket_digests(&self, ranges: &[RangeInclusive<u64>]) -> Vec<Digest> {
        self.core.bucket_digests(ranges)
    }

    /// One sketch of `cells` cells for each set of disjoint ranges, of all records without those that are known to be
    /// damaged. Looks at the records one by one unless it [keeps](StoreOptions::sketch_cells) as many cells.
    #[must_use]
    pub fn sketches(&self, sets: &[Vec<RangeInclusive<u64>>], cells: usize) -> Vec<Sketch> {
        let sum = |set: &Vec<RangeInclusive<u64>>| {
            let mut sum = Sketch::new(cells);
            set.iter().for_each(|range| self.core.add_to_sketch(&mut sum, range));
            sum
        };
        sets.iter().map(sum).collect()
    }

    /// Token and stamp of the records in `ranges`, which are disjoint and in order, and whether these are all. If not,
    /// the rest lies behind the last one's token. Records that are known to be damaged are left out.
    ///
    /// At most `limit`, unless more have the first token: the records of one token are never separated.
    #[must_use]
    pub fn list(&self, ranges: &[RangeInclusive<u64>], limit: usize) -> (Vec<(u64, Stamp)>, bool) {
        self.core.list(ranges, limit)
    }

    /// The records with these tokens, in token order, as many as have `max_bytes` of keys and values.
    ///
    /// The records of one token are never separated, and those of the first that has any always come.
    ///
    /// # Errors
    /// [`ReadError::Io`]; damaged records are counted.
    pub fn records_at(&self, tokens: &[u64], max_bytes: usize) -> Result<Scanned, ReadError> {
        let mut tokens = tokens.to_vec();
        tokens.sort_unstable();
        tokens.dedup();
        self.core.records_at(&tokens, max_bytes)
    }

    /// Tokens of records that are known to be damaged, in order, from behind `after` on: at most `limit`, each once. Costs
    /// as much as looking at all records of the parts of the token space that have such a one.
    #[must_use]
    pub fn damaged_tokens(&self, after: Option<u64>, limit: usize) -> Vec<u64> {
        self.core.damaged_tokens(after, limit)
    }

    /// Reads records in token order, about `max_bytes` of them, to see whether they are what was written. Those that
    /// are not are out of digests and lists from then on, so that replicas bring them again.
    ///
    /// # Errors
    /// [`ReadError::Io`].
    pub fn scrub(
        &self,
        from: Option<ScrubPosition>,
        max_bytes: u64,
    ) -> Result<Scrubbed, ReadError> {
        self.core.scrub(from, max_bytes)
    }

    /// The token of a key.
    #[must_use]
    pub fn token(&self, key: &Key) -> u64 {
        (self.core.options.token_of)(key.as_bytes())
    }

    /// Writes the index into one file, so that the next opening need not read all of the log. Runs on the caller's
    /// thread while reads and writes go on; only one at a time.
    ///
    /// No record is lost without it: the log has them all. But deleted keys may be back if tombstones were forgotten and
    /// the newest snapshot cannot be read, see [`Recovered::is_doubtful`].
    ///
    /// # Errors
    /// [`SnapshotError`]. It may have failed after the snapshot was in place, when tidying up.
    pub fn snapshot(&self) -> Result<SnapshotInfo, SnapshotError> {
        self.core.snapshot()
    }

    /// Whether so much was logged since the last snapshot that it is time for another.
    #[must_use]
    pub fn snapshot_due(&self) -> bool {
        let snapshot_bytes = self.core.shards.counts().entries * ENTRY_BYTES as u64;
        let most = self.core.options.snapshot_after_bytes.max(snapshot_bytes);
        self.core.shards.account().bytes_since_snapshot > most || buggify!(SnapshotEarly)
    }

    /// Does a step of compaction, of about `max_bytes`: copies what is needed of a segment that has much that is not,
    /// and in the end gives the segment up. A store whose log has threads does so by itself.
    ///
    /// # Errors
    /// [`CompactError`].
    pub fn compact(&self, max_bytes: u64) -> Result<Step, CompactError> {
        self.core.compact(max_bytes, false)
    }

    /// Does the log's work on the caller's thread, see [`Log::turn`].
    ///
    /// # Panics
    /// If the log has threads of its own.
    pub fn turn(&self, now: Duration) -> Option<Duration> {
        self.core.log.turn(now)
    }

    /// Syncs everything written so far, whatever the policy.
    ///
    /// # Errors
    /// [`LogError::Poisoned`].
    pub fn sync(&self) -> Result<(), LogError> {
        self.core.log.sync()
    }

    /// Why the store takes no more writes, if it does not.
    #[must_use]
    pub fn poisoned(&self) -> Option<LogError> {
        self.core.log.poisoned()
    }

    /// Counters for a page that shows them.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        self.core.stats()
    }

    /// Ends the store, with a snapshot, so that it is opened quickly again. Dropping it is as safe, but slower then.
    ///
    /// # Errors
    /// [`SnapshotError`]; the store is closed all the same.
    pub fn close(mut self) -> Result<SnapshotInfo, SnapshotError> {
        self.maintenance = None;
        self.core.snapshot()
    }
}

impl Core {
    fn position(&self, key: &[u8]) -> Position {
        self.shards.secret.position((self.options.token_of)(key), key)
    }

    fn submit_notes(&self, notes: &Notes, tag: u64) -> Result<Ticket, LogError> {
        self.log.submit_with(KIND_NOTES, tag, |buf| notes.encode(buf))
    }

    fn submit_ceiling(&self, ceiling: Timestamp, tag: u64) -> Result<Ticket, LogError> {
        let bits = ceiling.bits().to_le_bytes();
        self.log.submit_with(KIND_CEILING, tag, |buf| buf.extend(bits))
    }

    fn snapshot(&self) -> Result<SnapshotInfo, SnapshotError> {
        let _alone = self.snapshotting.lock().unwrap_or_else(PoisonError::into_inner);
        let (covered, forgotten_in) = {
            let account = self.shards.account();
            (account.bytes_since_snapshot, account.forgotten_in.clone())
        };
        let number = self.lock_snapshots().take_number();
        let sync = || self.log.sync();
        let info = publish(&*self.fs, &self.snapshot_dir, number, &self.shards, sync).map_err(
            |error| {
                // Whatever is left of it is overwritten by the next one; removing it only gives back room.
                let _ = self.fs.remove(&unfinished_path(&self.snapshot_dir));
                match error {
                    Unpublished::Io(error) => self.failed(error),
                    Unpublished::Log(error) => SnapshotError::Log(error),
                }
            },
        )?;
        self.lock_snapshots().made(&info);
        {
            let mut account = self.shards.account();
            account.bytes_since_snapshot -= covered;
            account.forgotten_in.retain(|segment| !forgotten_in.contains(segment));
        }
        self.tidy(&info).map_err(|error| self.failed(error))?;
        Ok(info)
    }

    fn compact(&self, max_bytes: u64, quiet: bool) -> Result<Step, CompactError> {
        let mut compaction = self.compaction.lock().unwrap_or_else(PoisonError::into_inner);
        let percent = self.options.compact_at_percent;
        compaction.step(self, max_bytes, if quiet { percent / 6 } else { percent })
    }

    fn stats(&self) -> StoreStats {
        let log = self.log.stats();
        let (snapshot, snapshots) = {
            let snapshots = self.lock_snapshots();
            (snapshots.newest.clone(), snapshots.made)
        };
        let counts = self.shards.counts();
        let snapshot_bytes = snapshot.as_ref().map_or(0, |info| info.bytes);
        StoreStats {
            log_dir: self.log.dir().to_path_buf(),
            snapshot_dir: self.snapshot_dir.clone(),
            sync: self.options.log.sync,
            wal_ops: log.frames,
            wal_bytes: log.bytes,
            segments: log.segments,
            keys: counts.entries,
            tombstones: counts.tombstones,
            damaged: counts.damaged,
            healed: self.shards.account().healed,
            live_bytes: counts.live_bytes,
            dead_bytes: (log.bytes + snapshot_bytes).saturating_sub(counts.live_bytes),
            compacted_segments: self.compacted.load(Ordering::Relaxed),
            compacted_bytes: self.shards.moves.written_bytes(),
            queued_bytes: log.queued_bytes,
            snapshots,
            snapshot,
            recovered_records: self.recovered.records,
            truncated_bytes: self.recovered.truncated_bytes,
            corrupt_frames: self.recovered.corrupt_frames(),
        }
    }

    /// Removes all snapshots but the new one and the one before.
    fn tidy(&self, info: &SnapshotInfo) -> io::Result<()> {
        let names = self.fs.list(&self.snapshot_dir)?;
        let numbers = names.iter().filter_map(|name| snapshot_number(name));
        let mut older: Vec<u64> = numbers.filter(|number| *number < info.number).collect();
        older.sort_unstable();
        older.pop();
        for number in &older {
            self.fs.remove(&snapshot_path(&self.snapshot_dir, *number))?;
        }
        if older.is_empty() { Ok(()) } else { self.fs.sync_dir(&self.snapshot_dir) }
    }

    fn failed(&self, source: io::Error) -> SnapshotError {
        if is_full(&source) {
            return SnapshotError::NoSpace;
        }
        SnapshotError::Io { dir: self.snapshot_dir.clone(), source }
    }

    fn lock_snapshots(&self) -> MutexGuard<'_, Snapshots> {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshots {
    fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    fn made(&mut self, info: &SnapshotInfo) {
        self.made += 1;
        self.newest = Some(info.clone());
    }
}

fn too_many_writers(error: TooManyWriters) -> LogError {
    LogError::Exhausted { cause: Arc::new(io::Error::other(error)) }
}

#[cfg(test)]
mod tests;
