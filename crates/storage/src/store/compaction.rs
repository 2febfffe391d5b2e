//! Gives back room: what is still needed of a segment is written again at the log's head, and the segment given up.
//!
//! A record never goes back to an older version by that. The index names one frame of each key, and only that one is
//! written again; whoever reads the log finds it twice then, and takes the greater record, as always. A segment is given
//! up only when everything is durable that makes it needless: the moved frames, and the newer records that made others
//! of its frames needless. Tombstones, the clock's ceiling and notes are moved like everything else, and a segment in which
//! something that is needed cannot be read stays.

use std::io;
use std::sync::atomic::Ordering;

use quorate_record::{Timestamp, decode_record_view};

use super::read::len;
use super::usage::Named;
use super::{Core, KIND_RECORD};
use crate::index::{Position, SHARDS};
use crate::queue::{LogError, Place};
use crate::read::ReadError;
use crate::recovery::Frame;
use crate::segment::DATA_OFFSET;
use crate::segments::SegmentInfo;

/// What a step of compaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, and nothing is to do.
    Idle,
    /// Nothing: frames that were moved have to become durable first.
    Waiting,
    /// Looked at a part of a segment, and moved so many bytes of it.
    Moved {
        /// Bytes of frames.
        bytes: u64,
    },
    /// Moved all that can be read of a segment. It is kept until the rest has come again: nothing else would know, after
    /// a crash, that something is missing.
    Kept {
        /// Its number.
        segment: u64,
    },
    /// Gave up a segment.
    Released {
        /// Its number.
        segment: u64,
    },
}

/// Why a step of compaction failed. Nothing is lost; the segment is taken up again by a later step.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// What is to be kept could not be written again, or not be synced.
    #[error("records could not be written again")]
    Log(#[from] LogError),
    /// A segment could not be read or given up.
    #[error("a segment could not be read or given up")]
    Io(#[from] io::Error),
}

/// How much may be on its way to the disk at a time, but no more than a quarter of what the log's queue takes: the rest
/// is for others.
const MOST_IN_FLIGHT_BYTES: u64 = 1 << 20;

/// Where compaction stands.
#[derive(Debug, Default)]
pub(crate) struct Compaction {
    victim: Option<Victim>,
}

/// The segment that is to be given up.
#[derive(Clone, Copy, Debug)]
struct Victim {
    segment: u64,
    /// Where to go on; `None` when the end was reached.
    next_offset: Option<u64>,
}

impl Compaction {
    /// Does a little more, of about `max_bytes`; a segment is chosen only if more than `at_percent` of the bytes that
    /// are needed are not, or nothing of it is needed.
    pub(crate) fn step(
        &mut self,
        core: &Core,
        max_bytes: u64,
        at_percent: u64,
    ) -> Result<Step, CompactError> {
        if let Some(error) = core.shards.moves.take_failure() {
            self.victim = None;
            return Err(error.into());
        }
        let Some(victim) = &mut self.victim else {
            let Some(victim) = Waste::of(core).victim(at_percent) else { return Ok(Step::Idle) };
            self.victim = Some(victim);
            return Ok(Step::Moved { bytes: 0 });
        };
        let in_flight = core.shards.moves.in_flight_bytes();
        if let Some(offset) = victim.next_offset {
            if in_flight >= MOST_IN_FLIGHT_BYTES.min(core.options.log.queue_bytes / 4) {
                return Ok(Step::Waiting);
            }
            let (next_offset, bytes) = move_frames(core, victim.segment, offset, max_bytes)?;
            victim.next_offset = next_offset;
            // The log has more to do than it can.
            let is_held_up = next_offset == Some(offset);
            return Ok(if is_held_up { Step::Waiting } else { Step::Moved { bytes } });
        }
        let segment = victim.segment;
        if !planted!(MovesNotAwaited) {
            if in_flight > 0 {
                return Ok(Step::Waiting);
            }
            let left = left_behind(core, segment);
            if !left.is_empty() {
                return Ok(Step::Moved { bytes: move_one_by_one(core, &left)? });
            }
            if core.shards.account().usage.of(segment).damaged > 0 {
                self.victim = None;
                return Ok(Step::Kept { segment });
            }
            let submit_ceiling = |ceiling, tag| core.submit_ceiling(ceiling, tag);
            let submit_notes = |notes: &_, tag| core.submit_notes(notes, tag);
            if core.shards.move_latest(segment, submit_ceiling, submit_notes)? {
                return Ok(Step::Waiting);
            }
            if core.shards.account().forgotten_in.contains(&segment) {
                core.snapshot().map_err(io::Error::other)?;
            } else if core.shards.horizon() > Timestamp::ZERO
                && core.lock_snapshots().newest.is_none()
            {
                // An opening takes a log that lacks a segment and has no snapshot for one that has lost it. On a full disk
                // that must do: it may be this segment that makes room.
                let _ = core.snapshot();
            }
            // Under the lax policies what is written need not be durable.
            core.log.sync()?;
        }
        core.log.release(segment)?;
        core.shards.account().usage.give_up(segment);
        self.victim = None;
        core.compacted.fetch_add(1, Ordering::Relaxed);
        Ok(Step::Released { segment })
    }
}

/// What is wasted in segments that nothing is written to any more.
pub(crate) struct Waste {
    /// Bytes of frames that nobody needs.
    pub(crate) dead_bytes: u64,
    /// Bytes of frames that somebody does, everywhere.
    pub(crate) live_bytes: u64,
    /// A segment of which nothing is needed.
    empty: Option<u64>,
    /// The segment with the greatest part that is not needed, and the bytes of that part and in all.
    worst: Option<(u64, u64, u64)>,
}

impl Waste {
    pub(crate) fn of(core: &Core) -> Self {
        let segments = core.log.segments();
        let ceiling = core.shards.durable_ceiling().map(|(_, place)| place.segment);
        let notes = core.shards.durable_notes().map(|(_, place)| place.segment);
        let account = core.shards.account();
        let live_bytes = account.usage.live_bytes();
        let mut waste = Self { dead_bytes: 0, live_bytes, empty: None, worst: None };
        for pair in segments.windows(2) {
            let (SegmentInfo { number, used_bytes, .. }, next) = (pair[0], pair[1]);
            // What is written but not taken in looks dead, and may not be.
            if next.first_seq > account.applied_seq + 1 {
                break;
            }
            let Named { live_bytes: live, damaged } = account.usage.of(number);
            // It is the only one to know that these were there.
            if damaged > 0 {
                continue;
            }
            if live == 0 && ![ceiling, notes].contains(&Some(number)) {
                waste.empty = Some(number);
            }
            let used = used_bytes.saturating_sub(DATA_OFFSET);
            let dead = used.saturating_sub(live);
            waste.dead_bytes += dead;
            // Compares shares without dividing.
            let is_worse = waste.worst.is_none_or(|(_, its_dead, its_used)| {
                u128::from(dead) * u128::from(its_used) > u128::from(its_dead) * u128::from(used)
            });
            if dead > 0 && is_worse {
                waste.worst = Some((number, dead, used));
            }
        }
        waste
    }

    /// How much is wasted for a hundred bytes that are needed.
    pub(crate) fn percent(&self) -> u64 {
        self.dead_bytes.saturating_mul(100).checked_div(self.live_bytes).unwrap_or(0)
    }

    /// The segment to give up, if it is time to.
    fn victim(&self, at_percent: u64) -> Option<Victim> {
        if let Some(segment) = self.empty {
            return Some(Victim { segment, next_offset: None });
        }
        let is_due = self.percent() > at_percent || buggify!(CompactEarly);
        let (segment, ..) = self.worst.filter(|_| is_due)?;
        Some(Victim { segment, next_offset: Some(DATA_OFFSET) })
    }
}

/// Writes again what is needed of the frames from `offset` on. Returns where to go on and the bytes submitted.
fn move_frames(
    core: &Core,
    segment: u64,
    offset: u64,
    max_bytes: u64,
) -> Result<(Option<u64>, u64), CompactError> {
    let mut bytes = 0;
    let mut stopped = None;
    let walked = core.log.walk(segment, offset, max_bytes, &mut |frame| {
        if stopped.is_none() {
            match move_frame(core, &frame) {
                Ok(true) => bytes += u64::from(frame.bytes),
                Ok(false) => {}
                Err(error) => stopped = Some((frame.place.offset, error)),
            }
        }
    })?;
    match stopped {
        // The log has more to do than it can. This frame comes first next time.
        Some((offset, LogError::Busy { .. })) => Ok((Some(offset), bytes)),
        Some((_, error)) => Err(error.into()),
        None => Ok((walked.next_offset, bytes)),
    }
}

/// Writes a frame again if it is needed, and says whether it is.
fn move_frame(core: &Core, frame: &Frame<'_>) -> Result<bool, LogError> {
    let submit =
        |tag| core.log.submit_with(frame.kind, tag, |buf| buf.extend_from_slice(frame.payload));
    // What holds no record is needed by nobody, or known otherwise.
    if frame.kind != KIND_RECORD {
        return Ok(false);
    }
    let Ok(record) = decode_record_view(frame.payload) else { return Ok(false) };
    core.shards.move_record(core.position(record.key), frame.place, submit)
}

/// What the index still names in a segment whose good frames were all moved.
fn left_behind(core: &Core, segment: u64) -> Vec<(Position, Place, u64)> {
    if core.shards.account().usage.of(segment).live_bytes == 0 {
        return Vec::new();
    }
    let mut left = Vec::new();
    for number in 0..SHARDS {
        let part = core.shards.part(number);
        let named = part.index.range(..).filter(|entry| {
            entry.place().segment == segment
                && !entry.is_damaged()
                && !(planted!(TombstonesNotMoved) && entry.is_tombstone())
        });
        left.extend(named.map(|entry| (entry.position(), entry.place(), entry.bytes())));
    }
    left
}

/// Moves records whose frames were not found from the one before. What cannot be read by itself either is damaged.
fn move_one_by_one(core: &Core, left: &[(Position, Place, u64)]) -> Result<u64, CompactError> {
    let mut buf = Vec::new();
    let mut moved = 0;
    for &(position, place, bytes) in left {
        match core.log.read(place, len(bytes), &mut buf) {
            Ok((kind, payload)) => {
                let submit =
                    |tag| core.log.submit_with(kind, tag, |to| to.extend_from_slice(&buf[payload]));
                match core.shards.move_record(position, place, submit) {
                    Ok(needed) => moved += if needed { bytes } else { 0 },
                    Err(LogError::Busy { .. }) => return Ok(moved),
                    Err(error) => return Err(error.into()),
                }
            }
            Err(ReadError::Damaged | ReadError::Gone) => core.shards.mark_damaged(position, place),
            Err(ReadError::Io(error)) => return Err(error.into()),
        }
    }
    Ok(moved)
}
