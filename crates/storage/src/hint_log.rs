//! A durable queue of hints on a log of its own.

mod state;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quorate_record::{Hint, HintKind, Key, NodeId, Record, Version, decode_hint, encode_hint};

use self::state::{Removal, State};
use crate::completion::Completion;
use crate::fs::Fs;
use crate::log::{Log, LogOptions, LogStats, SyncPolicy};
use crate::queue::LogError;
use crate::recovery::{Damage, Frame, OpenError};
use crate::segment::DATA_OFFSET;

/// Frames that add a hint.
pub(crate) const KIND_ADD: u8 = 1;
/// Frames that remove one.
pub(crate) const KIND_REMOVE: u8 = 2;

/// How much is written again by one call of [`HintLog::maintain`], about.
const MOVE_BATCH_BYTES: u64 = 1 << 20;

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
        Self { log, dead_bytes_at_least: 4 << 20 }
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
}

/// The newest hint for each target and key, on a log in a folder of its own.
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
/// let (hints, found, _) = HintLog::open(fs.clone(), "/hints".as_ref(), &options, Box::new(|| {}))?;
/// assert!(found.is_empty());
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
/// let (hints, found, _) = HintLog::open(fs, "/hints".as_ref(), &options, Box::new(|| {}))?;
/// assert_eq!(found, [hint.clone()]);
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
    /// Opens the hint log in the folder `dir`, which is created if need be, and returns what it holds, by target and
    /// key. `on_progress` is called whenever there are new completions, on a thread of the log or within
    /// [`Self::turn`].
    ///
    /// # Errors
    /// [`OpenError`]. What was torn or damaged is no error, it is reported in [`HintsRecovered`].
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        options: &HintLogOptions,
        on_progress: Box<dyn Fn() + Send + Sync>,
    ) -> Result<(HintLog, Vec<Hint>, HintsRecovered), OpenError> {
        let shared = Arc::new(Shared { state: Mutex::new(State::new()), on_progress });
        let settler = shared.clone();
        let mut recovered = HintsRecovered::default();
        let (log, report) = Log::open(
            fs,
            dir,
            &options.log,
            move |progress| {
                settler.lock().settle(&progress);
                (settler.on_progress)();
            },
            |frame| {
                if !replay(frame, &mut shared.lock()) {
                    recovered.unknown_frames += 1;
                }
            },
        )?;
        recovered.truncated_bytes = report.truncated_bytes;
        recovered.damages = report.damages;
        let found = {
            let mut state = shared.lock();
            state.settled_seq = log.stats().last_seq;
            state.hints()
        };
        Ok((HintLog { shared, log, options: options.clone() }, found, recovered))
    }

    /// Adds a hint, in place of any for the same target and key unless that has a greater record. Ends in a completion.
    ///
    /// What is kept shares the memory of `hint`, which is therefore best no part of a larger buffer
    /// ([`Key::detached`], [`Record::detached`]): a hint may be held for days.
    ///
    /// # Errors
    /// [`LogError`]: the hint was not taken, and no completion comes.
    pub fn add(&self, id: u64, hint: &Hint) -> Result<(), LogError> {
        let mut state = self.shared.lock();
        // Under the lock, so that the outcome cannot come before anybody knows what it is of.
        let mut payload_bytes = 0;
        let ticket = self.log.submit_with(KIND_ADD, 0, |buf| {
            let start = buf.len();
            encode_hint(hint, buf);
            payload_bytes = (buf.len() - start) as u64;
        })?;
        state.submitted_add(ticket, id, hint.clone(), payload_bytes);
        Ok(())
    }

    /// Removes what is held for this target and key, or was added before this call, unless it is newer than `version`.
    ///
    /// Gives no answer and never fails: if the removal cannot be written, the hint comes back at the next opening.
    pub fn remove(&self, target: NodeId, key: &Key, version: Version) {
        let mut state = self.shared.lock();
        let removal = Removal { slot: (target, key.detached()), version };
        if !state.concerns(&removal) {
            return;
        }
        match self.log.submit_with(KIND_REMOVE, 0, |buf| encode_hint(&form_of(&removal), buf)) {
            Ok(ticket) => state.submitted_removal(ticket, removal),
            Err(_) => state.remove_unlogged(removal),
        }
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
        let mut state = self.shared.lock();
        let dead_bytes = dead_bytes(&log, &state);
        let most = self.options.dead_bytes_at_least.max(state.live_bytes);
        if log.segments < 2 || (dead_bytes <= most && !buggify!(HintsRewritten)) {
            return Ok(false);
        }
        if !state.is_moving() {
            for (hint, seq) in state.oldest(MOVE_BATCH_BYTES) {
                match self.log.submit_with(KIND_ADD, 0, |buf| encode_hint(&hint, buf)) {
                    Ok(ticket) => state.submitted_move(ticket, &hint, seq),
                    Err(LogError::Busy { .. }) => break,
                    Err(error) => return Err(error.into()),
                }
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
            hints: state.len(),
            live_bytes: state.live_bytes,
            dead_bytes: dead_bytes(&log, &state),
            segments: log.segments,
            queued_bytes: log.queued_bytes,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What frames that nobody needs take up.
fn dead_bytes(log: &LogStats, state: &State) -> u64 {
    log.bytes.saturating_sub(log.segments * DATA_OFFSET + state.live_bytes)
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

/// Takes in one frame; `false` if it makes no sense.
fn replay(frame: Frame<'_>, state: &mut State) -> bool {
    let Ok(hint) = decode_hint(&Bytes::copy_from_slice(frame.payload)) else { return false };
    match frame.kind {
        KIND_ADD => state.add(hint, frame.seq, frame.payload.len() as u64),
        KIND_REMOVE => {
            let version = hint.record.version;
            state.remove(&Removal { slot: (hint.target, hint.key), version });
        }
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests;
