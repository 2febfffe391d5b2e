//! A durable queue of hints on a log of its own.

mod held;
mod pages;
mod replay;
mod state;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quorate_record::{
    Hint, HintKind, HintPlace, HintSummary, HintsFound, Key, NodeId, Record, Version, decode_hint,
    encode_hint,
};

use self::held::Spot;
use self::replay::Replayed;
use self::state::{Removal, Slot, State, supersedes};
use crate::completion::Completion;
use crate::fs::Fs;
use crate::log::{Log, LogOptions, LogStats, SyncPolicy};
use crate::queue::{LogError, Place};
use crate::read::ReadError;
use crate::recovery::{Damage, OpenError};
use crate::segment::DATA_OFFSET;
use crate::store::random;

/// Frames that add a hint.
pub(crate) const KIND_ADD: u8 = 1;
/// Frames that remove one.
pub(crate) const KIND_REMOVE: u8 = 2;

/// How much is written again by one call of [`HintLog::maintain`], about.
const MOVE_BATCH_BYTES: u64 = 1 << 20;

/// How much is read at once where the caller does not say.
const MAX_READ_BYTES: u64 = 4 << 20;

/// How a hint log behaves.
#[derive(Clone, Debug)]
pub struct HintLogOptions {
    /// How its log behaves.
    pub log: LogOptions,
    /// Hints are written again, to give up the files that they are in, once the log has more dead bytes than this and
    /// more than live ones.
    pub dead_bytes_at_least: u64,
}

impl Default for HintLogOptions {
    fn default() -> Self {
        let log = LogOptions { segment_bytes: 16 << 20, ..LogOptions::default() };
        // Two segments: while hints are delivered in their order the oldest one is always partly dead, and what is left
        // of it goes soon without being written again.
        Self { log, dead_bytes_at_least: 32 << 20 }
    }
}

/// What opening a hint log found.
#[derive(Clone, Debug, Default)]
pub struct HintsRecovered {
    /// Bytes cut from the end of the log: an unfinished write, or damage in the last batch that was synced. Behind that
    /// there is nothing that could tell which.
    pub truncated_bytes: u64,
    /// Places that had been synced and cannot be read: hints may be lost that somebody counts on.
    pub damages: Vec<Damage>,
    /// Whole frames that hold nothing this program knows.
    pub unknown_frames: u64,
}

/// Why [`HintLog::maintain`] stopped.
#[derive(Debug, thiserror::Error)]
pub enum MaintainError {
    /// Nothing more can be written, at present or for good.
    #[error("hints cannot be written again")]
    Log(#[from] LogError),
    /// A file could not be renamed or removed.
    #[error("a file of the hint log cannot be given up")]
    Io(#[from] io::Error),
}

/// Counters of a hint log, for a page that shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HintLogStats {
    /// The folder of the log.
    pub dir: PathBuf,
    /// Hints held.
    pub hints: u64,
    /// What they take up in the log.
    pub live_bytes: u64,
    /// What everything else in the log takes up.
    pub dead_bytes: u64,
    /// Files of the log.
    pub segments: u64,
    /// Bytes that wait to be written.
    pub queued_bytes: u64,
    /// Hints whose frames were found damaged since the log was opened: they are gone.
    pub damaged: u64,
}

/// The newest hint for each target and key, on a log in a folder of its own.
///
/// In memory there are some 26 bytes for each hint; it is read from the log when it is wanted.
///
/// All methods may be called from any thread. A hint that was removed may come back after a crash; a hint that was
/// added durably and not removed always does.
///
/// ```
/// use std::sync::Arc;
/// use quorate_record::{Hint, HintKind, Key, NodeId, Record, Timestamp, Version, Writer};
/// use quorate_storage::{HintLog, HintLogOptions, fault::FaultFs};
///
/// let fs = Arc::new(FaultFs::new()); // `RealFs` for files that stay
/// let options = HintLogOptions::default();
/// let (hints, _) = HintLog::open(fs.clone(), "/hints".as_ref(), &options, Box::new(|| {}))?;
/// assert_eq!(hints.stats().hints, 0);
///
/// let writer = Writer { node: NodeId::new("n1")?, incarnation: 1 };
/// let version = Version { timestamp: Timestamp::from_wall_ms(5), writer };
/// let hint = Hint {
///     target: NodeId::new("n2")?,
///     key: Key::new("cat")?,
///     record: Record::live(version, "meow"),
///     kind: HintKind::Owed,
///     added_ms: 5,
/// };
/// hints.add(1, &hint)?; // ends in a completion
/// drop(hints);
///
/// let (hints, _) = HintLog::open(fs, "/hints".as_ref(), &options, Box::new(|| {}))?;
/// assert_eq!(hints.next(hint.target, None, 100, 1 << 20)?.hints, [hint.clone()]);
/// hints.remove(hint.target, &hint.key, version); // delivered
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct HintLog {
    shared: Arc<Shared>,
    log: Log,
    options: HintLogOptions,
}

struct Shared {
    state: Mutex<State>,
    on_progress: Box<dyn Fn() + Send + Sync>,
}

impl HintLog {
    /// Opens the hint log in the folder `dir`, which is created if need be. `on_progress` is called whenever there are
    /// new completions, on a thread of the log or within [`Self::turn`].
    ///
    /// # Errors
    /// [`OpenError`]. What was torn or damaged is no error, it is reported in [`HintsRecovered`].
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        options: &HintLogOptions,
        on_progress: Box<dyn Fn() + Send + Sync>,
    ) -> Result<(HintLog, HintsRecovered), OpenError> {
        let shared = Arc::new(Shared { state: Mutex::new(State::new(random())), on_progress });
        let settler = shared.clone();
        let mut recovered = HintsRecovered::default();
        let mut replayed = Replayed::new(fs.clone(), dir);
        let (log, report) = Log::open(
            fs,
            dir,
            &options.log,
            move |progress| {
                settler.lock().settle(&progress);
                (settler.on_progress)();
            },
            |frame| {
                if !replayed.take_in(frame, &mut shared.lock()) {
                    recovered.unknown_frames += 1;
                }
            },
        )?;
        recovered.truncated_bytes = report.truncated_bytes;
        recovered.damages = report.damages;
        shared.lock().settled_seq = log.stats().last_seq;
        Ok((HintLog { shared, log, options: options.clone() }, recovered))
    }

    /// Adds a hint, in place of any for the same target and key unless that has a greater record. Ends in a completion.
    /// May read the one that is held.
    ///
    /// # Errors
    /// [`LogError`]: the hint was not taken, and no completion comes.
    pub fn add(&self, id: u64, hint: &Hint) -> Result<(), LogError> {
        let mut state = self.shared.lock();
        if !state.held.names(hint.target) {
            let cause = io::Error::other("there are hints for 65,536 nodes already");
            return Err(LogError::Exhausted { cause: Arc::new(cause) });
        }
        let held = self.held(&mut state, &state::slot(hint));
        // Under the lock, so that the outcome cannot come before anybody knows what it is of.
        let ticket = self.log.submit_with(KIND_ADD, 0, |buf| encode_hint(hint, buf))?;
        state.submitted_add(ticket, id, hint.clone(), held);
        Ok(())
    }

    /// Removes what is held for this target and key, or was added before this call, unless it is newer than `version`.
    /// May read what is held.
    ///
    /// Gives no answer and never fails: if the removal cannot be written, the hint comes back at the next opening.
    pub fn remove(&self, target: NodeId, key: &Key, version: Version) {
        let mut state = self.shared.lock();
        let removal = Removal { slot: (target, key.detached()), version };
        let held = self.held(&mut state, &removal.slot);
        if !state.concerns(&removal, held.as_ref()) {
            return;
        }
        match self.log.submit_with(KIND_REMOVE, 0, |buf| encode_hint(&form_of(&removal), buf)) {
            Ok(ticket) => state.submitted_removal(ticket, removal, held),
            Err(_) => state.remove_unlogged(removal, held),
        }
    }

    /// The durable hint for this target and key.
    ///
    /// # Errors
    /// [`ReadError::Io`]: it cannot be read at present.
    pub fn get(&self, target: NodeId, key: &Key) -> Result<Option<Hint>, ReadError> {
        self.read_stable(|state| state.held.candidates(Some(target), key)).map(|hints| {
            let of_key = hints.into_iter().filter(|hint| (hint.target, &hint.key) == (target, key));
            of_key.max_by(|one, other| one.record.cmp(&other.record))
        })
    }

    /// The greatest durable record held for this key, for whichever target.
    ///
    /// # Errors
    /// [`ReadError::Io`]: one cannot be read at present.
    pub fn find(&self, key: &Key) -> Result<Option<Record>, ReadError> {
        self.read_stable(|state| state.held.candidates(None, key)).map(|hints| {
            let of_key = hints.into_iter().filter(|hint| hint.key == *key);
            of_key.map(|hint| hint.record).max()
        })
    }

    /// The durable hints for a target behind a place and then around, in the order of the log: at most so many, and
    /// with so many bytes, but one at least if there is any.
    ///
    /// # Errors
    /// [`ReadError::Io`]: one cannot be read at present.
    pub fn next(
        &self,
        target: NodeId,
        after: Option<HintPlace>,
        max_hints: usize,
        max_bytes: u64,
    ) -> Result<HintsFound, ReadError> {
        let found =
            self.found(|state| state.held.next(target, after.map(place), max_hints, max_bytes))?;
        Ok(self.with_lost(found))
    }

    /// At most so many of the courtesies behind a place that were taken on up to this time, in milliseconds since the
    /// Unix epoch, in the order of the log, which is about that of their age; no more than have 4 MiB, but one.
    ///
    /// # Errors
    /// [`ReadError::Io`]: one cannot be read at present.
    pub fn courtesies(
        &self,
        after: Option<HintPlace>,
        added_until_ms: u64,
        max_hints: usize,
    ) -> Result<HintsFound, ReadError> {
        let mut more = false;
        let mut found = self.found(|state| {
            let (after, bytes) = (after.map(place), MAX_READ_BYTES);
            let spots;
            (spots, more) = state.held.courtesies(after, added_until_ms, max_hints, bytes);
            spots
        })?;
        found.last = found.last.filter(|_| more);
        found.hints.retain(|hint| hint.added_ms <= added_until_ms);
        Ok(self.with_lost(found))
    }

    /// At most so many of the durable hints behind a place, in the order of the log; no more than have 4 MiB, but one.
    ///
    /// # Errors
    /// [`ReadError::Io`]: one cannot be read at present.
    pub fn page(
        &self,
        after: Option<HintPlace>,
        max_hints: usize,
    ) -> Result<HintsFound, ReadError> {
        self.found(|state| state.held.all(after.map(place), max_hints, MAX_READ_BYTES))
    }

    /// What is held, counted.
    #[must_use]
    pub fn summary(&self) -> HintSummary {
        self.shared.lock().summary()
    }

    /// Moves what has completed since the last call to the end of `out`.
    pub fn take_completions(&self, out: &mut Vec<Completion<()>>) {
        out.append(&mut self.shared.lock().ready);
    }

    /// Gives up files that nobody needs, and writes some of the oldest hints again if there are too many dead bytes.
    /// Does a bounded amount of work on the caller's thread; to be called now and then. Returns whether there is more to
    /// do once what it submitted is durable.
    ///
    /// # Errors
    /// [`MaintainError`]. No hint is lost; the next call tries again.
    pub fn maintain(&self) -> Result<bool, MaintainError> {
        if self.log.stats().segments < 2 {
            return Ok(false);
        }
        let needed_from = self.shared.lock().needed_from();
        // A hint that was written again must be durable before the file with the older copy goes.
        if self.options.log.sync != SyncPolicy::Always {
            self.log.sync()?;
        }
        self.log.recycle_below(needed_from)?;

        let log = self.log.stats();
        let spots = {
            let state = self.shared.lock();
            let dead_bytes = dead_bytes(&log, &state);
            let most = self.options.dead_bytes_at_least.max(state.held.live_bytes());
            if log.segments < 2 || (dead_bytes <= most && !buggify!(HintsRewritten)) {
                return Ok(false);
            }
            if state.is_moving() { Vec::new() } else { state.held.oldest(MOVE_BATCH_BYTES) }
        };
        // Not under the lock: the files that nobody has read for longest are the ones not in memory.
        let hints = self.read_all(&spots).map_err(|error| match error {
            ReadError::Io(error) => error,
            error => io::Error::other(error),
        })?;
        let mut state = self.shared.lock();
        if state.is_moving() {
            return Ok(true);
        }
        for (hint, spot) in hints {
            if !state.stays(&hint, spot.place) {
                continue;
            }
            match self.log.submit_with(KIND_ADD, 0, |buf| encode_hint(&hint, buf)) {
                Ok(ticket) => state.submitted_move(ticket, hint, spot),
                Err(LogError::Busy { .. }) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Does the log's work on the caller's thread, see [`Log::turn`].
    ///
    /// # Panics
    /// If the log has threads of its own.
    pub fn turn(&self, now: Duration) -> Option<Duration> {
        self.log.turn(now)
    }

    /// Why no hints can be added any more, if so.
    #[must_use]
    pub fn poisoned(&self) -> Option<LogError> {
        self.log.poisoned()
    }

    /// Counters for a page that shows them.
    #[must_use]
    pub fn stats(&self) -> HintLogStats {
        let log = self.log.stats();
        let state = self.shared.lock();
        HintLogStats {
            dir: self.log.dir().to_path_buf(),
            hints: state.held.len(),
            live_bytes: state.held.live_bytes(),
            dead_bytes: dead_bytes(&log, &state),
            segments: log.segments,
            queued_bytes: log.queued_bytes,
            damaged: state.damaged,
        }
    }

    /// What a slot holds, as far as submissions are settled.
    ///
    /// What cannot be read counts as nothing. If the device gives it later, there are two hints for a while, and both
    /// are delivered.
    fn held(&self, state: &mut State, slot: &Slot) -> Option<(Hint, Spot)> {
        if let Some(known) = state.known(slot) {
            return known.cloned();
        }
        let (target, key) = slot;
        let mut greatest: Option<(Hint, Spot)> = None;
        for spot in state.held.candidates(Some(*target), key) {
            match self.read(spot) {
                Ok(hint) if hint.key != *key => {}
                Ok(hint) => {
                    if greatest.as_ref().is_none_or(|(held, _)| !supersedes(held, &hint)) {
                        greatest = Some((hint, spot));
                    }
                }
                Err(ReadError::Damaged) => state.lose(spot),
                Err(ReadError::Gone | ReadError::Io(_)) => {}
            }
        }
        greatest
    }

    fn found(&self, choose: impl FnOnce(&mut State) -> Vec<Spot>) -> Result<HintsFound, ReadError> {
        let spots = choose(&mut self.shared.lock());
        let last = spots.last().map(|Spot { place: Place { segment, offset }, .. }| HintPlace {
            segment: *segment,
            offset: *offset,
        });
        let read = self.read_all(&spots)?;
        let state = self.shared.lock();
        let stay = |(hint, spot): (Hint, Spot)| state.stays(&hint, spot.place).then_some(hint);
        let hints = read.into_iter().filter_map(stay).collect();
        Ok(HintsFound { hints, last, lost: Vec::new(), held: state.summary() })
    }

    fn with_lost(&self, found: HintsFound) -> HintsFound {
        HintsFound { lost: std::mem::take(&mut self.shared.lock().lost), ..found }
    }

    /// Reads a few hints, again if some of them have gone elsewhere meanwhile.
    fn read_stable(&self, choose: impl Fn(&State) -> Vec<Spot>) -> Result<Vec<Hint>, ReadError> {
        loop {
            let spots = choose(&self.shared.lock());
            let read = self.read_all(&spots)?;
            let state = self.shared.lock();
            if spots.iter().all(|spot| state.held.is_live(spot.place)) {
                let stay =
                    |(hint, spot): (Hint, Spot)| state.stays(&hint, spot.place).then_some(hint);
                return Ok(read.into_iter().filter_map(stay).collect());
            }
        }
    }

    /// Reads hints; those that are damaged are gone from now on.
    fn read_all(&self, spots: &[Spot]) -> Result<Vec<(Hint, Spot)>, ReadError> {
        let mut hints = Vec::with_capacity(spots.len());
        for &spot in spots {
            match self.read(spot) {
                Ok(hint) => hints.push((hint, spot)),
                Err(ReadError::Damaged) => self.shared.lock().lose(spot),
                Err(ReadError::Gone) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(hints)
    }

    fn read(&self, Spot { place, bytes }: Spot) -> Result<Hint, ReadError> {
        let mut buf = Vec::new();
        let (kind, payload) = self.log.read(place, bytes, &mut buf)?;
        hint_in(kind, buf, payload)
    }
}

fn place(HintPlace { segment, offset }: HintPlace) -> Place {
    Place { segment, offset }
}

/// The hint in a frame that was read.
fn hint_in(kind: u8, frame: Vec<u8>, payload: Range<usize>) -> Result<Hint, ReadError> {
    let hint = decode_hint(&Bytes::from(frame).slice(payload));
    hint.ok().filter(|_| kind == KIND_ADD).ok_or(ReadError::Damaged)
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What frames that nobody needs take up.
fn dead_bytes(log: &LogStats, state: &State) -> u64 {
    log.bytes.saturating_sub(log.segments * DATA_OFFSET + state.held.live_bytes())
}

/// A removal is written like a hint without a value.
fn form_of(removal: &Removal) -> Hint {
    let (target, key) = removal.slot.clone();
    Hint {
        target,
        key,
        record: Record::tombstone(removal.version),
        kind: HintKind::Courtesy,
        added_ms: 0,
    }
}

#[cfg(test)]
mod tests;
