//! Between those who submit and the one who writes: a queue of encoded frames, and what became of them.

use std::collections::VecDeque;
use std::io;
use std::ops::RangeInclusive;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::frame::{HEADER_BYTES, frame_bytes};
use crate::segment::index;

/// Why a submission failed. What failed may still be found in the log when it is next opened, except after
/// [`LogError::TooLarge`] and [`LogError::Busy`].
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// The payload is above the limit; it can never be appended.
    #[error("a payload of {bytes} bytes is above the limit of {limit_bytes}")]
    TooLarge {
        /// Size of the payload.
        bytes: u64,
        /// [`LogOptions::max_payload_bytes`](crate::LogOptions::max_payload_bytes).
        limit_bytes: u64,
    },
    /// The queue is full: the disk is slower than the submitters. Try again later.
    #[error("{queued_bytes} bytes wait to be written already")]
    Busy {
        /// Bytes in the queue.
        queued_bytes: u64,
    },
    /// The disk is full. Nothing is broken: submissions succeed again as soon as there is room.
    #[error("there is no room on the disk for the log to grow")]
    NoSpace,
    /// There is no file descriptor or no memory left to make the log grow. Nothing is broken, as with
    /// [`LogError::NoSpace`].
    #[error("there are no file descriptors or no memory left for the log to grow")]
    Exhausted {
        /// What the file system said.
        #[source]
        cause: Arc<io::Error>,
    },
    /// A write or a sync failed. Nobody can tell what is on disk, so nothing is promised until the log is reopened.
    #[error("the log takes no more writes until it is reopened, because one failed")]
    Poisoned {
        /// What the file system said.
        #[source]
        cause: Arc<io::Error>,
    },
    /// The log is being closed.
    #[error("the log is closed")]
    Closed,
}

/// A submission, by its number since the log was opened. Numbers count up from 1 without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Where in a log a frame is: its header begins here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The number of the segment, counted from 1.
    pub segment: u64,
    /// Where in its file, in bytes; a multiple of 8.
    pub offset: u64,
}

/// A submission, as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// What it was submitted with.
    pub tag: u64,
    /// Where it is; means nothing if the outcome is an error.
    pub place: Place,
    /// What its frame takes up, with header and padding.
    pub bytes: u32,
}

/// News about a run of submissions, in the order in which they were made.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// The number of the first one's [`Ticket`].
    pub first_ticket: u64,
    /// The submissions, one for each ticket from the first on; there is at least one.
    pub frames: &'a [Written],
    /// The sequence number of the last of them; its run is consecutive.
    pub outcome: Result<u64, LogError>,
}

impl Progress<'_> {
    /// Which submissions, by [`Ticket`] number.
    #[must_use]
    pub fn tickets(&self) -> RangeInclusive<u64> {
        self.first_ticket..=self.first_ticket + self.frames.len() as u64 - 1
    }
}

pub(crate) struct Shared {
    queue: Mutex<Queue>,
    /// Wakes the writer.
    work: Condvar,
    outcomes: Mutex<Outcomes>,
    /// Wakes those who wait for an outcome.
    settled: Condvar,
    max_payload_bytes: u64,
    queue_bytes: u64,
}

struct Queue {
    /// Whole frames, but for the parts of their headers that only the writer knows.
    bytes: Vec<u8>,
    /// Where the last whole frame ends. What lies behind was left by an encoder that panicked.
    end: usize,
    /// The same frames, still without places.
    frames: Vec<Written>,
    next_ticket: u64,
    first_ticket: u64,
    sync_wanted: u64,
    poison: Option<Arc<io::Error>>,
    closed: bool,
    nudged: bool,
    writer_waits: bool,
}

/// What the writer takes at one turn.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) frames: Vec<Written>,
    pub(crate) first_ticket: u64,
    pub(crate) sync_wanted: u64,
    pub(crate) closed: bool,
}

/// Counters for a page that shows them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) last_seq: u64,
    pub(crate) durable_seq: u64,
    /// The end of the last frame in the active segment.
    pub(crate) head_bytes: u64,
    pub(crate) batches: u64,
    pub(crate) syncs: u64,
}

struct Outcomes {
    /// Every ticket up to this one is settled.
    through: u64,
    /// The sequence number of ticket 0, so to speak.
    base_seq: u64,
    failures: VecDeque<(RangeInclusive<u64>, LogError)>,
    /// How many tickets failed that are no longer in `failures`, and the last of them.
    forgotten: u64,
    forgotten_through: u64,
    counters: Counters,
    syncs_done: u64,
    poison: Option<Arc<io::Error>>,
    /// Whether no more turns are taken, so that nothing is settled any more.
    ended: bool,
    waiters: usize,
}

/// How much of the queue's memory is kept from one batch to the next. A burst must not hold its own for good.
const KEPT_BYTES: usize = 16 << 20;
const KEPT_FRAMES: usize = KEPT_BYTES / 128;

/// How many runs of failures are remembered for those who ask late.
const REMEMBERED_FAILURES: usize = 4096;

impl Shared {
    pub(crate) fn new(last_seq: u64, max_payload_bytes: u64, queue_bytes: u64) -> Self {
        let queue = Queue {
            bytes: Vec::new(),
            end: 0,
            frames: Vec::new(),
            next_ticket: 1,
            first_ticket: 1,
            sync_wanted: 0,
            poison: None,
            closed: false,
            nudged: false,
            writer_waits: false,
        };
        let outcomes = Outcomes {
            through: 0,
            base_seq: last_seq,
            failures: VecDeque::new(),
            forgotten: 0,
            forgotten_through: 0,
            counters: Counters { last_seq, durable_seq: last_seq, ..Counters::default() },
            syncs_done: 0,
            poison: None,
            ended: false,
            waiters: 0,
        };
        Self {
            queue: Mutex::new(queue),
            work: Condvar::new(),
            outcomes: Mutex::new(outcomes),
            settled: Condvar::new(),
            max_payload_bytes,
            queue_bytes,
        }
    }

    /// Queues one frame whose payload `encode` appends to the buffer that it is given, and wakes the writer unless
    /// somebody else takes its turn.
    pub(crate) fn submit(
        &self,
        kind: u8,
        tag: u64,
        wakes: bool,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Ticket, LogError> {
        assert!(kind > 0, "kind 0 marks what was never written");
        let mut guard = self.lock_queue();
        let queue = &mut *guard;
        if let Some(cause) = &queue.poison {
            return Err(LogError::Poisoned { cause: cause.clone() });
        }
        if queue.closed {
            return Err(LogError::Closed);
        }
        queue.bytes.truncate(queue.end);
        let start = queue.end;
        if start as u64 >= self.queue_bytes || buggify!(LogBusy) {
            return Err(LogError::Busy { queued_bytes: start as u64 });
        }
        queue.bytes.resize(start + HEADER_BYTES, 0);
        encode(&mut queue.bytes);
        let payload =
            queue.bytes.len().checked_sub(start + HEADER_BYTES).expect("the encoder only appends")
                as u64;
        let total = start as u64 + frame_bytes(payload);
        if payload > self.max_payload_bytes {
            queue.bytes.truncate(start);
            let limit_bytes = self.max_payload_bytes;
            return Err(LogError::TooLarge { bytes: payload, limit_bytes });
        }
        let len = u32::try_from(payload).expect("the limit is below 4 GiB");
        queue.bytes[start..start + 4].copy_from_slice(&len.to_le_bytes());
        queue.bytes[start + 4] = kind;
        queue.end = index(total);
        queue.bytes.resize(queue.end, 0);
        let bytes = u32::try_from(frame_bytes(payload)).expect("the limit is below 4 GiB");
        queue.frames.push(Written { tag, place: Place::default(), bytes });
        let ticket = Ticket(queue.next_ticket);
        queue.next_ticket += 1;
        // Notifying costs a system call, and mostly the writer is busy and looks by itself.
        if wakes && std::mem::take(&mut queue.writer_waits) {
            drop(guard);
            self.work.notify_one();
        }
        Ok(ticket)
    }

    pub(crate) fn max_payload_bytes(&self) -> u64 {
        self.max_payload_bytes
    }

    /// Asks the writer for a sync, and returns a number to wait for.
    pub(crate) fn request_sync(&self) -> u64 {
        let mut queue = self.lock_queue();
        queue.sync_wanted += 1;
        queue.nudged = true;
        let wanted = queue.sync_wanted;
        drop(queue);
        self.work.notify_one();
        wanted
    }

    /// Makes the writer turn once although there may be nothing to write.
    pub(crate) fn nudge(&self) {
        self.lock_queue().nudged = true;
        self.work.notify_one();
    }

    pub(crate) fn close(&self) {
        self.lock_queue().closed = true;
        self.work.notify_one();
    }

    /// Waits until there is something to do, or for `timeout`.
    pub(crate) fn wait_for_work(&self, timeout: Option<Duration>) {
        let mut queue = self.lock_queue();
        if queue.end == 0 && !queue.nudged && !queue.closed {
            queue.writer_waits = true;
            queue = match timeout {
                None => self.work.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(timeout) => {
                    self.work.wait_timeout(queue, timeout).unwrap_or_else(PoisonError::into_inner).0
                }
            };
            queue.writer_waits = false;
        }
        queue.nudged = false;
    }

    /// Takes everything that is queued. The buffer in `batch` becomes the queue's next one.
    pub(crate) fn take(&self, batch: &mut Batch) {
        let mut queue = self.lock_queue();
        let end = queue.end;
        queue.bytes.truncate(end);
        batch.bytes.clear();
        batch.bytes.shrink_to(KEPT_BYTES);
        std::mem::swap(&mut queue.bytes, &mut batch.bytes);
        queue.end = 0;
        batch.frames.clear();
        batch.frames.shrink_to(KEPT_FRAMES);
        std::mem::swap(&mut queue.frames, &mut batch.frames);
        batch.first_ticket = queue.first_ticket;
        queue.first_ticket = queue.next_ticket;
        batch.sync_wanted = queue.sync_wanted;
        batch.closed = queue.closed;
    }

    /// Refuses all further submissions.
    pub(crate) fn poison(&self, cause: &Arc<io::Error>) {
        self.lock_queue().poison = Some(cause.clone());
        let mut outcomes = self.lock_outcomes();
        outcomes.poison = Some(cause.clone());
        drop(outcomes);
        self.settled.notify_all();
    }

    /// Refuses all further submissions, and lets nobody wait for those that were made.
    pub(crate) fn end(&self, cause: &Arc<io::Error>) {
        self.lock_outcomes().ended = true;
        self.poison(cause);
    }

    /// Publishes what became of runs of tickets, some of which may have none.
    pub(crate) fn settle(&self, runs: &[Progress<'_>], syncs_done: u64, counters: Counters) {
        let mut outcomes = self.lock_outcomes();
        for run in runs.iter().filter(|run| !run.frames.is_empty()) {
            outcomes.settle(run);
        }
        outcomes.syncs_done = syncs_done;
        outcomes.counters = counters;
        let waiters = outcomes.waiters;
        drop(outcomes);
        if waiters > 0 {
            self.settled.notify_all();
        }
    }

    /// The outcome of a ticket, if there is one yet.
    pub(crate) fn outcome(&self, ticket: Ticket) -> Option<Result<u64, LogError>> {
        self.lock_outcomes().of(ticket)
    }

    pub(crate) fn wait(&self, ticket: Ticket) -> Result<u64, LogError> {
        self.wait_until(|outcomes| outcomes.of(ticket))
    }

    pub(crate) fn sync_outcome(&self, wanted: u64) -> Option<Result<(), LogError>> {
        self.lock_outcomes().of_sync(wanted)
    }

    pub(crate) fn wait_for_sync(&self, wanted: u64) -> Result<(), LogError> {
        self.wait_until(|outcomes| outcomes.of_sync(wanted))
    }

    pub(crate) fn wait_for_seq(&self, seq: u64) -> Result<(), LogError> {
        self.wait_until(|outcomes| {
            let poisoned =
                |cause: &Arc<io::Error>| Err(LogError::Poisoned { cause: cause.clone() });
            (outcomes.counters.durable_seq >= seq)
                .then_some(Ok(()))
                .or(outcomes.poison.as_ref().map(poisoned))
        })
    }

    pub(crate) fn counters(&self) -> Counters {
        self.lock_outcomes().counters
    }

    pub(crate) fn queued_bytes(&self) -> u64 {
        self.lock_queue().end as u64
    }

    pub(crate) fn poison_cause(&self) -> Option<Arc<io::Error>> {
        self.lock_outcomes().poison.clone()
    }

    fn wait_until<T>(&self, ready: impl Fn(&Outcomes) -> Option<T>) -> T {
        let mut outcomes = self.lock_outcomes();
        loop {
            if let Some(outcome) = ready(&outcomes) {
                return outcome;
            }
            outcomes.waiters += 1;
            outcomes = self.settled.wait(outcomes).unwrap_or_else(PoisonError::into_inner);
            outcomes.waiters -= 1;
        }
    }

    fn lock_queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_outcomes(&self) -> MutexGuard<'_, Outcomes> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outcomes {
    fn settle(&mut self, run: &Progress<'_>) {
        self.through = *run.tickets().end();
        let Err(error) = &run.outcome else { return };
        if self.failures.len() == REMEMBERED_FAILURES
            && let Some((tickets, _)) = self.failures.pop_front()
        {
            self.forgotten += tickets.end() - tickets.start() + 1;
            self.forgotten_through = *tickets.end();
        }
        self.failures.push_back((run.tickets(), error.clone()));
    }

    fn of(&self, Ticket(number): Ticket) -> Option<Result<u64, LogError>> {
        if number > self.through {
            let cause = self.poison.as_ref().filter(|_| self.ended)?;
            return Some(Err(LogError::Poisoned { cause: cause.clone() }));
        }
        // Nobody knows any more. Saying that it failed is safe: a failed submission may be in the log all the same.
        if number <= self.forgotten_through {
            return Some(Err(LogError::NoSpace));
        }
        let mut failed_before = self.forgotten;
        for (tickets, error) in &self.failures {
            if tickets.contains(&number) {
                return Some(Err(error.clone()));
            }
            if *tickets.end() < number {
                failed_before += tickets.end() - tickets.start() + 1;
            }
        }
        Some(Ok(self.base_seq + number - failed_before))
    }

    fn of_sync(&self, wanted: u64) -> Option<Result<(), LogError>> {
        if self.syncs_done >= wanted {
            return Some(Ok(()));
        }
        self.poison.as_ref().map(|cause| Err(LogError::Poisoned { cause: cause.clone() }))
    }
}
