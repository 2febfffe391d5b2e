//! A store of records in memory, made durable by a log and snapshots.

mod digests;
mod index;
mod snapshot;
mod state;

use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quorate_record::{
    Digest, Key, Record, Stamp, Timestamp, Version, decode_record, encode_record,
};

use self::index::{Held, Place};
use self::snapshot::{BadSnapshot, publish, snapshot_number, snapshot_path, unfinished_path};
use self::state::{State, Verdict};
use crate::completion::Completion;
use crate::fs::{Fs, create_dir_durably, durable_replace, is_full};
use crate::log::{Log, LogOptions, SyncPolicy};
use crate::queue::LogError;
use crate::recovery::{Damage, Frame, OpenError};

pub use self::snapshot::SnapshotInfo;

/// Frames of the store's log that hold a record.
const KIND_RECORD: u8 = 1;
/// Frames of the store's log that hold a ceiling for the clock.
const KIND_CEILING: u8 = 2;

/// How much of the index a snapshot takes at once, so that it holds nobody up.
const SNAPSHOT_BATCH_RECORDS: usize = 256;
const SNAPSHOT_BATCH_BYTES: u64 = 1 << 20;

/// How a store behaves.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Places a key in the token space. It must be the same at every opening.
    pub token_of: fn(&[u8]) -> u64,
    /// How its log behaves; [`LogOptions::next_seq_at_least`] is set by the store itself.
    pub log: LogOptions,
    /// A snapshot is [due](Store::snapshot_due) when so many bytes, and as many as the records have, were logged since
    /// the last one.
    pub snapshot_after_bytes: u64,
}

impl StoreOptions {
    /// The default options for keys that are placed by `token_of`.
    #[must_use]
    pub fn new(token_of: fn(&[u8]) -> u64) -> Self {
        Self { token_of, log: LogOptions::default(), snapshot_after_bytes: 64 << 20 }
    }
}

/// What became of a record. It is durable, as far as the sync policy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The store holds this record, or did until a greater one replaced it.
    Stored,
    /// The store holds a greater one, of this version.
    Superseded(Version),
}

/// What opening a store found.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// How many records were read, from the snapshot and from the log.
    pub records: u64,
    /// The snapshot that was read.
    pub snapshot: Option<SnapshotInfo>,
    /// Snapshots that could not be read, and why. One that is damaged is kept as `damaged-snapshot`.
    pub bad_snapshots: Vec<(PathBuf, String)>,
    /// Bytes cut from the end of the log: an unfinished write, or damage in the last batch that was synced. Behind that
    /// there is nothing that could tell which.
    pub truncated_bytes: u64,
    /// Places of the log that had been synced and cannot be read, or are missing. If there is any, records may have
    /// been lost that others count on.
    pub damages: Vec<Damage>,
    /// Whole frames in the log that hold nothing this store knows.
    pub unknown_frames: u64,
    /// The greatest clock ceiling that was persisted. If there are damages a greater one may have been lost.
    pub clock_ceiling: Option<Timestamp>,
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
    /// What the records of all keys take up, about.
    pub live_bytes: u64,
    /// What log and snapshots take up beyond that.
    pub dead_bytes: u64,
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

/// The greatest record of each key, in memory; a log and snapshots make it last.
///
/// Readers only ever see what is durable (as far as the sync policy goes). All methods may be called from any thread;
/// only [`Store::snapshot`] takes long.
///
/// ```
/// use std::sync::Arc;
/// use quorate_record::{Key, NodeId, Record, Timestamp, Version, Writer};
/// use quorate_storage::{Applied, Drive, Store, StoreOptions, fault::FaultFs};
///
/// let mut options = StoreOptions::new(|key| key.len() as u64); // in earnest, a hash
/// options.log.drive = Drive::Manual; // by default the log has its own threads
/// let fs = Arc::new(FaultFs::new()); // `RealFs` for files that stay
/// let (store, _) = Store::open(fs, "/data".as_ref(), &options, Box::new(|| {}))?;
///
/// let key = Key::new("cat")?;
/// let writer = Writer { node: NodeId::new("n1")?, incarnation: 1 };
/// let record = Record::live(Version { timestamp: Timestamp::from_wall_ms(5), writer }, "meow");
/// store.apply(1, key.clone(), record.clone())?;
/// assert_eq!(store.get(&key), None); // not durable yet
///
/// store.turn(std::time::Duration::ZERO);
/// let mut done = Vec::new();
/// store.take_completions(&mut done);
/// assert!(matches!(done[0].outcome, Ok(Applied::Stored)));
/// assert_eq!(store.get(&key), Some(record));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Store {
    fs: Arc<dyn Fs>,
    snapshot_dir: PathBuf,
    options: StoreOptions,
    shared: Arc<Shared>,
    log: Log,
    /// Held by whoever makes a snapshot.
    snapshotting: Mutex<()>,
    snapshots: Mutex<Snapshots>,
    recovered: Recovered,
}

struct Shared {
    state: Mutex<State>,
    on_progress: Box<dyn Fn() + Send + Sync>,
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
        let snapshot_dir = dir.join("snapshot");
        create_dir_durably(&*fs, &snapshot_dir).map_err(OpenError::io("create", &snapshot_dir))?;
        let mut state = State::new();
        let mut recovered = Recovered::default();
        let next_number = load_snapshot(&*fs, &snapshot_dir, options, &mut state, &mut recovered)?;

        let snapshot_seq = recovered.snapshot.as_ref().map_or(0, |info| info.seq);
        let log_options = LogOptions { next_seq_at_least: snapshot_seq + 1, ..options.log.clone() };
        let shared = Arc::new(Shared { state: Mutex::new(state), on_progress });
        let settler = shared.clone();
        let mut first_frame = None;
        let (log, report) = Log::open(
            fs.clone(),
            &dir.join("log"),
            &log_options,
            move |progress| {
                settler.lock().settle(&progress);
                (settler.on_progress)();
            },
            |frame| {
                first_frame.get_or_insert(frame.seq);
                replay(frame, options.token_of, &mut shared.lock(), &mut recovered);
            },
        )?;
        recovered.truncated_bytes = report.truncated_bytes;
        recovered.damages = report.damages;
        let lost = recovered.damages.iter().filter(|damage| damage.first_seq <= damage.last_seq);
        let first_damage = lost.map(|damage| damage.first_seq).min();
        let log_begins =
            first_frame.into_iter().chain(first_damage).min().unwrap_or(report.last_seq + 1);
        if log_begins > snapshot_seq + 1 {
            let (first_seq, last_seq) = (snapshot_seq + 1, log_begins - 1);
            recovered
                .damages
                .insert(0, Damage { segment: 0, offset: 0, len: 0, first_seq, last_seq });
        }
        {
            let mut state = shared.lock();
            state.applied_seq = log.stats().last_seq;
            recovered.clock_ceiling = (state.ceiling > Timestamp::ZERO).then_some(state.ceiling);
        }
        let snapshots = Snapshots { newest: recovered.snapshot.clone(), next_number, made: 0 };
        let store = Store {
            fs,
            snapshot_dir,
            options: options.clone(),
            shared,
            log,
            snapshotting: Mutex::new(()),
            snapshots: Mutex::new(snapshots),
            recovered: recovered.clone(),
        };
        Ok((store, recovered))
    }

    /// Merges a record into what is held for its key. The answer comes by [`Self::take_completions`].
    ///
    /// What is kept has an allocation of its own, whatever `key` and `record` share theirs with.
    ///
    /// # Errors
    /// [`LogError`]: the record was not taken, and no completion comes.
    pub fn apply(&self, id: u64, key: Key, record: Record) -> Result<(), LogError> {
        let held = Held::new(record);
        let place = self.place(&key);
        let mut state = self.shared.lock();
        match state.judge(&place, &held) {
            Verdict::Answer(answer) => {
                state.complete(id, Ok(answer));
                drop(state);
                (self.shared.on_progress)();
            }
            Verdict::Wait(ticket, answer) => state.wait(ticket, id, answer),
            Verdict::Write => {
                // Under the lock, so that the outcome cannot come before anybody knows what it is of.
                let ticket = self
                    .log
                    .submit_with(KIND_RECORD, 0, |buf| encode_record(&key, &held.record, buf))?;
                let (key, held) = held.detached(&key);
                state.submitted(ticket, id, (place.0, key), held);
            }
        }
        Ok(())
    }

    /// Persists a ceiling for the clock. Completes like [`Self::apply`], with [`Applied::Stored`].
    ///
    /// # Errors
    /// As for [`Self::apply`].
    pub fn reserve_clock(&self, id: u64, ceiling: Timestamp) -> Result<(), LogError> {
        let mut state = self.shared.lock();
        if ceiling <= state.ceiling {
            state.complete(id, Ok(Applied::Stored));
            drop(state);
            (self.shared.on_progress)();
            return Ok(());
        }
        let ticket = self.log.submit(KIND_CEILING, &ceiling.bits().to_le_bytes())?;
        state.submitted_ceiling(ticket, id, ceiling);
        Ok(())
    }

    /// Moves what has completed since the last call to the end of `out`.
    pub fn take_completions(&self, out: &mut Vec<Completion<Applied>>) {
        out.append(&mut self.shared.lock().ready);
    }

    /// The durable record of a key.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Record> {
        let place = self.place(key);
        self.shared.lock().index.get(&place).map(|held| held.record.clone())
    }

    /// Up to `limit` records in token order, from behind the key `after` on, which need not be there.
    #[must_use]
    pub fn scan(&self, after: Option<&Key>, limit: usize) -> Vec<(Key, Record)> {
        let after = after.map(|key| self.place(key));
        self.shared.lock().index.scan(after.as_ref(), limit, u64::MAX)
    }

    /// The digest of all records with tokens in `tokens`. Costs about as much as looking at 1/2000 of all records.
    #[must_use]
    pub fn digest(&self, tokens: RangeInclusive<u64>) -> Digest {
        self.shared.lock().index.digest(&tokens)
    }

    /// One digest for each set of disjoint ranges.
    #[must_use]
    pub fn digests(&self, sets: &[Vec<RangeInclusive<u64>>]) -> Vec<Digest> {
        let state = self.shared.lock();
        let sum = |set: &Vec<RangeInclusive<u64>>| {
            set.iter().fold(Digest::default(), |sum, range| sum.combine(state.index.digest(range)))
        };
        sets.iter().map(sum).collect()
    }

    /// Token and stamp of the records in `ranges`, which are disjoint and in order, and whether these are all. If not,
    /// the rest lies behind the last one's token.
    ///
    /// At most `limit`, unless more have the first token: the records of one token are never separated.
    #[must_use]
    pub fn list(&self, ranges: &[RangeInclusive<u64>], limit: usize) -> (Vec<(u64, Stamp)>, bool) {
        self.shared.lock().index.list(ranges, limit)
    }

    /// The records with these tokens, in token order, as many as have `max_bytes` of keys and values.
    ///
    /// The records of one token are never separated, and those of the first that has any always come.
    #[must_use]
    pub fn records_at(&self, tokens: &[u64], max_bytes: usize) -> Vec<(Key, Record)> {
        let mut tokens = tokens.to_vec();
        tokens.sort_unstable();
        tokens.dedup();
        self.shared.lock().index.fetch(&tokens, max_bytes)
    }

    /// The token of a key.
    #[must_use]
    pub fn token(&self, key: &Key) -> u64 {
        (self.options.token_of)(key.as_bytes())
    }

    /// Writes all records into one file and gives up the part of the log that is not needed any more. Runs on the
    /// caller's thread while reads and writes go on; only one at a time.
    ///
    /// Two snapshots are kept, and enough of the log that the older one and the log give everything as well.
    ///
    /// # Errors
    /// [`SnapshotError`]. It may have failed after the snapshot was in place, when tidying up.
    pub fn snapshot(&self) -> Result<SnapshotInfo, SnapshotError> {
        let _alone = self.snapshotting.lock().unwrap_or_else(PoisonError::into_inner);
        let (seq, covered) = {
            let state = self.shared.lock();
            (state.applied_seq, state.bytes_since_snapshot)
        };
        // Under the lax policies some of it may not be durable yet. A snapshot must not be ahead of the log, which
        // would number other frames alike after a crash.
        self.log.sync().map_err(SnapshotError::Log)?;
        let number = self.lock_snapshots().take_number();
        let mut after: Option<Place> = None;
        let next_batch = || {
            let state = self.shared.lock();
            let records = if buggify!(OneRecordSnapshotted) { 1 } else { SNAPSHOT_BATCH_RECORDS };
            let batch = state.index.scan(after.as_ref(), records, SNAPSHOT_BATCH_BYTES);
            after = batch.last().map(|(key, _)| self.place(key));
            if planted!(TombstoneDroppedByAge) {
                let old_ms = state.ceiling.wall_ms().saturating_sub(3_000);
                let is_old = |record: &Record| record.version.timestamp.wall_ms() < old_ms;
                return batch
                    .into_iter()
                    .filter(|(_, r)| !r.is_tombstone() || !is_old(r))
                    .collect();
            }
            drop(state);
            batch
        };
        let ceiling = || self.shared.lock().ceiling;
        let info = publish(&*self.fs, &self.snapshot_dir, number, seq, next_batch, ceiling)
            .map_err(|error| {
                // Whatever is left of it is overwritten by the next one; removing it only gives back room.
                let _ = self.fs.remove(&unfinished_path(&self.snapshot_dir));
                self.failed(error)
            })?;
        let older = self.lock_snapshots().made(&info);
        self.shared.lock().bytes_since_snapshot -= covered;
        self.tidy(&info, older.as_ref()).map_err(|error| self.failed(error))?;
        Ok(info)
    }

    /// Whether so much was logged since the last snapshot that it is time for another.
    #[must_use]
    pub fn snapshot_due(&self) -> bool {
        let state = self.shared.lock();
        let most = self.options.snapshot_after_bytes.max(state.index.live_bytes());
        state.bytes_since_snapshot > most || buggify!(SnapshotEarly)
    }

    /// Does the log's work on the caller's thread, see [`Log::turn`].
    ///
    /// # Panics
    /// If the log has threads of its own.
    pub fn turn(&self, now: Duration) -> Option<Duration> {
        self.log.turn(now)
    }

    /// Syncs everything written so far, whatever the policy.
    ///
    /// # Errors
    /// [`LogError::Poisoned`].
    pub fn sync(&self) -> Result<(), LogError> {
        self.log.sync()
    }

    /// Why the store takes no more writes, if it does not.
    #[must_use]
    pub fn poisoned(&self) -> Option<LogError> {
        self.log.poisoned()
    }

    /// Counters for a page that shows them.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let log = self.log.stats();
        let (snapshot, snapshots) = {
            let snapshots = self.lock_snapshots();
            (snapshots.newest.clone(), snapshots.made)
        };
        let state = self.shared.lock();
        let live_bytes = state.index.live_bytes();
        let snapshot_bytes = snapshot.as_ref().map_or(0, |info| info.bytes);
        StoreStats {
            log_dir: self.log.dir().to_path_buf(),
            snapshot_dir: self.snapshot_dir.clone(),
            sync: self.options.log.sync,
            wal_ops: log.frames,
            wal_bytes: log.bytes,
            segments: log.segments,
            keys: state.index.keys(),
            live_bytes,
            dead_bytes: (log.bytes + snapshot_bytes).saturating_sub(live_bytes),
            queued_bytes: log.queued_bytes,
            snapshots,
            snapshot,
            recovered_records: self.recovered.records,
            truncated_bytes: self.recovered.truncated_bytes,
            corrupt_frames: self.recovered.corrupt_frames(),
        }
    }
    fn place(&self, key: &Key) -> Place {
        (self.token(key), key.clone())
    }

    /// Removes what a new snapshot makes needless. What the older of the two needs stays.
    fn tidy(&self, info: &SnapshotInfo, older: Option<&SnapshotInfo>) -> io::Result<()> {
        let kept = [Some(info.number), older.map(|older| older.number)];
        let mut removed = false;
        for number in
            self.fs.list(&self.snapshot_dir)?.iter().filter_map(|name| snapshot_number(name))
        {
            if !kept.contains(&Some(number)) {
                self.fs.remove(&snapshot_path(&self.snapshot_dir, number))?;
                removed = true;
            }
        }
        if removed {
            self.fs.sync_dir(&self.snapshot_dir)?;
        }
        match older {
            _ if planted!(LogCutEarly) => self.log.recycle_below(info.seq + 1),
            Some(older) => self.log.recycle_below(older.seq + 1),
            None => Ok(()),
        }
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshots {
    fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }

    /// Takes in a new snapshot, and returns the one that was the newest.
    fn made(&mut self, info: &SnapshotInfo) -> Option<SnapshotInfo> {
        self.made += 1;
        self.newest.replace(info.clone())
    }
}

/// Reads the newest snapshot that is good, and returns the number for the next one.
fn load_snapshot(
    fs: &dyn Fs,
    dir: &Path,
    options: &StoreOptions,
    state: &mut State,
    recovered: &mut Recovered,
) -> Result<u64, OpenError> {
    let names = fs.list(dir).map_err(OpenError::io("list", dir))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| snapshot_number(name)).collect();
    numbers.sort_unstable();
    let next_number = numbers.last().map_or(1, |last| last + 1);
    for number in numbers.into_iter().rev() {
        let path = snapshot_path(dir, number);
        let mut attempt = State::new();
        let outcome = snapshot::read(fs, &path, number, &mut |key, record| {
            let token = (options.token_of)(key.as_bytes());
            attempt.index.merge((token, key), Held::new(record));
        });
        match outcome {
            Ok(contents) => {
                *state = attempt;
                state.ceiling = contents.ceiling;
                recovered.records = contents.info.records;
                recovered.snapshot = Some(contents.info);
                break;
            }
            Err(bad) => {
                if let Some(refusal) = bad.refusal(&path) {
                    return Err(refusal);
                }
                if matches!(bad, BadSnapshot::Damaged { .. }) {
                    let aside = dir.join("damaged-snapshot");
                    durable_replace(fs, &path, &aside)
                        .map_err(OpenError::io("set aside", &path))?;
                }
                recovered.bad_snapshots.push((path, bad.to_string()));
            }
        }
    }
    Ok(next_number)
}

fn replay(
    frame: Frame<'_>,
    token_of: fn(&[u8]) -> u64,
    state: &mut State,
    recovered: &mut Recovered,
) {
    match frame.kind {
        KIND_RECORD => {
            if let Ok((key, record)) = decode_record(&Bytes::copy_from_slice(frame.payload)) {
                recovered.records += 1;
                let token = token_of(key.as_bytes());
                state.index.merge((token, key), Held::new(record));
                return;
            }
        }
        KIND_CEILING => {
            if let Ok(bits) = frame.payload.try_into() {
                state.ceiling = state.ceiling.max(Timestamp::from_bits(u64::from_le_bytes(bits)));
                return;
            }
        }
        _ => {}
    }
    recovered.unknown_frames += 1;
}

#[cfg(test)]
mod tests;
