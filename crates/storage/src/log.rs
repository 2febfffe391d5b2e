//! The log as its users see it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::frame::frame_bytes;
use crate::fs::{Fs, create_dir_durably};
use crate::queue::{LogError, Progress, Shared, Ticket};
use crate::recovery::{
    BeforeLoss, Damage, Frame, OpenError, RecoverOptions, Recovery, Replay, recover,
};
use crate::release::Release;
use crate::released::Released;
use crate::segment::DATA_OFFSET;
use crate::segments::{SegmentInfo, Segments, Slot};
use crate::space::{Space, SpaceOptions};
use crate::writer::{ActiveFile, Turn, Writer};

/// When a submission counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// When it has been synced: it survives a loss of power.
    Always,
    /// When it has been written: it survives the end of the process. It is synced so much later at most.
    Interval(Duration),
    /// When it has been written. The operating system syncs when it likes.
    Os,
}

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drive {
    /// Two threads of the log's own: one writes, one prepares room ahead.
    Threads,
    /// The caller, by [`Log::turn`]: everything happens on its thread, in an order that repeats.
    Manual,
}

/// How a log behaves. Of these only the format on disk lasts: each may differ at the next opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// When a submission counts as done.
    pub sync: SyncPolicy,
    /// Who does the work.
    pub drive: Drive,
    /// Size of a segment file.
    pub segment_bytes: u64,
    /// The largest payload that can be appended, and that is believed to have been.
    pub max_payload_bytes: u64,
    /// From how many waiting bytes on submissions are refused; one that comes before is taken whatever its size, so that
    /// large ones are not starved by small ones. As much again may be on its way to the disk. 1 MiB by default: what
    /// waits longer leaves the processor's cache on its way to the writer, and a larger queue makes nothing faster.
    pub queue_bytes: u64,
    /// How far ahead of the last frame blocks are prepared.
    pub prepare_ahead_bytes: u64,
    /// How much is prepared at once.
    pub prepare_chunk_bytes: u64,
    /// How many files without use are kept for later.
    pub max_spares: usize,
    /// How many files of segments are kept open for [`Log::read`], beside the one that is written to. Others are
    /// opened when they are needed.
    pub max_open_files: usize,
    /// A number that the next frame's must not be below, for callers who know from elsewhere that there was more. If
    /// the log ends before it, that is reported as damage.
    pub next_seq_at_least: u64,
    /// Frames up to this one are known to the caller: they are not given back, and segments that have no others are not
    /// read at opening.
    pub replay_after: u64,
    /// How many threads read segments in [`Log::open_unordered`], unless the log is driven by hand.
    pub recovery_threads: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            sync: SyncPolicy::Always,
            drive: Drive::Threads,
            segment_bytes: 32 << 20,
            max_payload_bytes: (8 << 20) + (64 << 10),
            queue_bytes: 1 << 20,
            prepare_ahead_bytes: 4 << 20,
            prepare_chunk_bytes: 1 << 20,
            max_spares: 1,
            max_open_files: 256,
            next_seq_at_least: 1,
            replay_after: 0,
            recovery_threads: 4,
        }
    }
}

/// Counters of a log, taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Segment files in use.
    pub segments: u64,
    /// Bytes of frames and headers in them, without room prepared ahead.
    pub bytes: u64,
    /// Frames in them, damaged ones included.
    pub frames: u64,
    /// Files that wait to become segments.
    pub spares: u64,
    /// The last sequence number written; 0 if there is none.
    pub last_seq: u64,
    /// The last sequence number synced.
    pub durable_seq: u64,
    /// Writes since the log was opened, each of one or more frames.
    pub batches: u64,
    /// Syncs of frames since the log was opened.
    pub syncs: u64,
    /// Bytes that wait to be written.
    pub queued_bytes: u64,
}

/// A crash-safe log of opaque payloads, numbered from 1.
///
/// Many threads may submit; one writes whatever has gathered, syncs once, and settles all of it (group commit).
/// Submitting never blocks; [`Log::append`] and the `wait` functions do.
pub struct Log {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    shared: Arc<Shared>,
    pub(crate) space: Arc<Space>,
    pub(crate) segments: Arc<Segments>,
    /// Held by whoever gives up segments.
    pub(crate) release: Mutex<Release>,
    /// Held for a turn, by whoever takes one.
    writer: Arc<Mutex<Writer>>,
    /// Whether a write counts before it is synced.
    is_unsynced: bool,
    /// Of the log's own threads; there are none if it is driven by hand.
    clock: Option<Clock>,
    threads: Vec<JoinHandle<()>>,
}

impl Log {
    /// Opens the log in the folder `dir`, which is created if need be. Every good frame goes to `replay`, in order;
    /// from then on `on_progress` hears once a batch, on the writer's thread, what became of submissions.
    ///
    /// # Errors
    /// [`OpenError`]. Torn tails and damage are no errors: they are reported in [`Recovery`].
    ///
    /// # Panics
    /// If a segment could not hold the largest payload, or a size in `options` is zero.
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        options: &LogOptions,
        on_progress: impl FnMut(Progress<'_>) + Send + 'static,
        mut replay: impl FnMut(Frame<'_>),
    ) -> Result<(Log, Recovery), OpenError> {
        let replay = Replay::InOrder(&mut replay);
        Self::open_with(fs, dir, options, Box::new(on_progress), replay, &mut || Ok(()))
    }

    /// Opens a log like [`Self::open`], but reads several segments at the same time
    /// ([`LogOptions::recovery_threads`]): only the frames of one segment come in order.
    ///
    /// # Errors
    /// As for [`Self::open`].
    ///
    /// # Panics
    /// As for [`Self::open`].
    pub fn open_unordered(
        fs: Arc<dyn Fs>,
        dir: &Path,
        options: &LogOptions,
        on_progress: impl FnMut(Progress<'_>) + Send + 'static,
        replay: impl Fn(Frame<'_>) + Sync,
    ) -> Result<(Log, Recovery), OpenError> {
        Self::open_guarded(fs, dir, options, on_progress, replay, &mut || Ok(()))
    }

    /// [`Self::open_unordered`], but `before_cut` is called before an unfinished write is cut off.
    pub(crate) fn open_guarded(
        fs: Arc<dyn Fs>,
        dir: &Path,
        options: &LogOptions,
        on_progress: impl FnMut(Progress<'_>) + Send + 'static,
        replay: impl Fn(Frame<'_>) + Sync,
        before_cut: BeforeLoss<'_>,
    ) -> Result<(Log, Recovery), OpenError> {
        let threads = match options.drive {
            Drive::Threads => options.recovery_threads,
            Drive::Manual => 1,
        };
        let replay = Replay::BySegment(threads, &replay);
        Self::open_with(fs, dir, options, Box::new(on_progress), replay, before_cut)
    }

    fn open_with(
        fs: Arc<dyn Fs>,
        dir: &Path,
        options: &LogOptions,
        on_progress: Box<dyn FnMut(Progress<'_>) + Send>,
        mut replay: Replay<'_>,
        before_cut: BeforeLoss<'_>,
    ) -> Result<(Log, Recovery), OpenError> {
        let largest = DATA_OFFSET + frame_bytes(options.max_payload_bytes);
        assert!(
            options.segment_bytes >= largest,
            "a segment cannot hold the largest frame, {largest} bytes"
        );
        assert!(
            frame_bytes(options.max_payload_bytes) <= u64::from(u32::MAX),
            "a length has 32 bits"
        );
        assert!(
            options.queue_bytes > 0 && options.prepare_chunk_bytes > 0,
            "nothing could ever be written"
        );
        let segment_bytes = options.segment_bytes & !511;

        create_dir_durably(&*fs, dir).map_err(OpenError::io("create", dir))?;
        // The process may have ended between a change of names and its sync.
        fs.sync_dir(dir).map_err(OpenError::io("sync", dir))?;
        let recover_options = RecoverOptions {
            max_payload_bytes: options.max_payload_bytes,
            replay_after: options.replay_after,
            max_open_files: options.max_open_files,
        };
        let mut recovered = recover(&*fs, dir, recover_options, &mut replay, before_cut)?;
        let space_options = SpaceOptions {
            segment_bytes,
            ahead_bytes: options.prepare_ahead_bytes,
            chunk_bytes: options.prepare_chunk_bytes,
            max_spares: options.max_spares,
        };
        let space = Arc::new(Space::new(fs.clone(), dir, space_options, recovered.spares));
        space.drop_surplus().map_err(OpenError::io("tidy", dir))?;

        let mut next_seq = recovered.report.last_seq + 1;
        let mut active = None;
        if let Some(last) = recovered.active
            && !last.sealed
            && next_seq >= options.next_seq_at_least
        {
            space.set_active(last.file.clone(), last.head, last.head, last.end);
            active = Some(ActiveFile {
                file: last.file,
                head: last.head,
                ready: last.head,
                end: last.end,
            });
        }
        if next_seq < options.next_seq_at_least {
            let lost = Damage {
                segment: recovered.newest.number + 1,
                offset: 0,
                len: 0,
                first_seq: next_seq,
                last_seq: options.next_seq_at_least - 1,
            };
            recovered.report.damages.push(lost);
            next_seq = options.next_seq_at_least;
        }

        let is_new = recovered.released.is_none();
        let released = recovered.released.unwrap_or_else(|| {
            let (number, first_seq) = recovered
                .segments
                .first()
                .map_or((recovered.newest.number + 1, next_seq), |oldest| {
                    (oldest.number, oldest.first_seq)
                });
            Released::below(number, first_seq)
        });
        let mut release = Release::new(recovered.released_file, released, recovered.leftovers);
        if is_new {
            release.create(&*fs, dir).map_err(OpenError::io("create a file in", dir))?;
        }
        release.clear(&*fs, dir, &space).map_err(OpenError::io("tidy", dir))?;

        let shared =
            Arc::new(Shared::new(next_seq - 1, options.max_payload_bytes, options.queue_bytes));
        let max_open = options.max_open_files;
        let segments = Arc::new(Segments::new(fs.clone(), dir, max_open, recovered.segments));
        let writer = Writer {
            fs: fs.clone(),
            dir: dir.to_path_buf(),
            policy: options.sync,
            shared: shared.clone(),
            space: space.clone(),
            segments: segments.clone(),
            on_progress,
            active,
            newest: recovered.newest,
            newest_file: recovered.newest_file,
            next_seq,
            synced_through: next_seq - 1,
            unsynced_since: None,
            syncs: 0,
            batches: 0,
            syncs_done: 0,
            poison: None,
            batch: Default::default(),
            now: Duration::ZERO,
        };
        let mut log = Log {
            fs,
            dir: dir.to_path_buf(),
            shared,
            space,
            segments,
            release: Mutex::new(release),
            writer: Arc::new(Mutex::new(writer)),
            is_unsynced: options.sync != SyncPolicy::Always,
            clock: None,
            threads: Vec::new(),
        };
        if options.drive == Drive::Threads {
            log.start_threads().map_err(OpenError::io("start threads for", dir))?;
        }
        Ok((log, recovered.report))
    }

    /// Queues one frame. `kind` is the caller's, 1 or more.
    ///
    /// # Errors
    /// [`LogError::TooLarge`], [`LogError::Busy`], [`LogError::Poisoned`]: nothing was queued.
    ///
    /// # Panics
    /// If `kind` is 0.
    pub fn submit(&self, kind: u8, payload: &[u8]) -> Result<Ticket, LogError> {
        self.check_size(payload)?;
        self.submit_with(kind, 0, |buf| buf.extend_from_slice(payload))
    }

    /// Queues one frame whose payload is what `encode` appends to the buffer that it is given. Other frames are in
    /// front of it there; they are not to be touched. `encode` holds up other submitters.
    ///
    /// `tag` is the caller's: it is not written, but comes back in [`Progress`].
    ///
    /// # Errors
    /// As for [`Self::submit`].
    ///
    /// # Panics
    /// If `kind` is 0, or `encode` shortens the buffer.
    pub fn submit_with(
        &self,
        kind: u8,
        tag: u64,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Ticket, LogError> {
        self.shared.submit(kind, tag, true, encode)
    }

    /// Waits for the outcome of a submission: its sequence number, or why it failed.
    ///
    /// # Errors
    /// [`LogError::NoSpace`], [`LogError::Exhausted`], [`LogError::Poisoned`].
    pub fn wait(&self, ticket: Ticket) -> Result<u64, LogError> {
        if self.clock.is_none() {
            return self.turn_until(|| self.shared.outcome(ticket));
        }
        self.shared.wait(ticket)
    }

    /// Submits one frame and waits for the outcome.
    ///
    /// If that need not be synced and nobody is writing, it is written on the caller's thread, which costs less than
    /// waking another one; so news of it, and of what others have submitted, may come there.
    ///
    /// # Errors
    /// As for [`Self::submit`] and [`Self::wait`].
    ///
    /// # Panics
    /// If `kind` is 0.
    pub fn append(&self, kind: u8, payload: &[u8]) -> Result<u64, LogError> {
        if self.is_unsynced
            && let Some(clock) = &self.clock
            && let Ok(mut writer) = self.writer.try_lock()
        {
            self.check_size(payload)?;
            let encode = |buf: &mut Vec<u8>| buf.extend_from_slice(payload);
            let ticket = self.shared.submit(kind, 0, false, encode)?;
            let was_due = writer.deadline().is_some();
            let turn = writer.turn(clock.now());
            drop(writer);
            if !was_due && turn.deadline.is_some() {
                // The writer's thread sleeps, and does not know yet that there is something to sync.
                self.shared.nudge();
            }
            return self
                .shared
                .outcome(ticket)
                .expect("a turn settles everything that was submitted");
        }
        let ticket = self.submit(kind, payload)?;
        self.wait(ticket)
    }

    /// Refuses what is too large before it is copied.
    fn check_size(&self, payload: &[u8]) -> Result<(), LogError> {
        let (bytes, limit_bytes) = (payload.len() as u64, self.max_payload_bytes());
        if bytes > limit_bytes { Err(LogError::TooLarge { bytes, limit_bytes }) } else { Ok(()) }
    }

    /// Syncs everything written so far, whatever the policy.
    ///
    /// # Errors
    /// [`LogError::Poisoned`].
    pub fn sync(&self) -> Result<(), LogError> {
        let wanted = self.shared.request_sync();
        if self.clock.is_none() {
            return self.turn_until(|| self.shared.sync_outcome(wanted));
        }
        self.shared.wait_for_sync(wanted)
    }

    /// Waits until every frame up to `seq` is synced, by whatever makes it so: this does not ask for a sync.
    ///
    /// # Errors
    /// [`LogError::Poisoned`].
    pub fn wait_for(&self, seq: u64) -> Result<(), LogError> {
        self.shared.wait_for_seq(seq)
    }

    /// The last sequence number that is synced.
    #[must_use]
    pub fn durable_seq(&self) -> u64 {
        self.shared.counters().durable_seq
    }

    /// Does the writer's work on the caller's thread; `now` counts from any fixed moment and never goes back.
    /// Returns when to turn again even if nothing is submitted, on the same clock.
    ///
    /// # Panics
    /// If the log has threads of its own.
    pub fn turn(&self, now: Duration) -> Option<Duration> {
        assert!(self.clock.is_none(), "a log with threads of its own is not turned by hand");
        let mut writer = self.lock_writer();
        let now = writer.now.max(now);
        let turn = writer.turn(now);
        writer.prepare();
        turn.deadline
    }

    /// The segments in use, oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let head_bytes = self.shared.counters().head_bytes;
        self.segments.with(|slots| {
            let info = |(at, slot): (usize, &Slot)| {
                let sealed = at + 1 < slots.len();
                let used_bytes =
                    if sealed { slot.used_bytes } else { slot.used_bytes.max(head_bytes) };
                SegmentInfo { number: slot.number, first_seq: slot.first_seq, used_bytes, sealed }
            };
            slots.iter().enumerate().map(info).collect()
        })
    }

    /// The segments and the last sequence number between two writes, so that the newest one ends with a whole frame.
    pub(crate) fn written(&self) -> (Vec<SegmentInfo>, u64) {
        let writer = self.lock_writer();
        let mut segments = self.segments();
        if let (Some(last), Some(active)) = (segments.last_mut(), &writer.active) {
            last.used_bytes = active.head;
        }
        (segments, writer.next_seq - 1)
    }

    /// Counters for a page that shows them.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        let counters = self.shared.counters();
        let (segments, bytes, frames) = self.segments.with(|slots| {
            let Some((last, older)) = slots.split_last() else { return (0, 0, 0) };
            let bytes = last.used_bytes.max(counters.head_bytes);
            let frames = (counters.last_seq + 1).saturating_sub(last.first_seq);
            (
                slots.len() as u64,
                older.iter().map(|slot| slot.used_bytes).sum::<u64>() + bytes,
                older.iter().map(|slot| slot.end_seq - slot.first_seq).sum::<u64>() + frames,
            )
        });
        LogStats {
            segments,
            bytes,
            frames,
            spares: self.space.spares() as u64,
            last_seq: counters.last_seq,
            durable_seq: counters.durable_seq,
            batches: counters.batches,
            syncs: counters.syncs,
            queued_bytes: self.shared.queued_bytes(),
        }
    }

    pub(crate) fn max_payload_bytes(&self) -> u64 {
        self.shared.max_payload_bytes()
    }

    /// Why the log takes no more submissions, if it does not.
    #[must_use]
    pub fn poisoned(&self) -> Option<LogError> {
        self.shared.poison_cause().map(|cause| LogError::Poisoned { cause })
    }

    /// The folder that the log is in.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file system that the log is on.
    #[must_use]
    pub fn fs(&self) -> &Arc<dyn Fs> {
        &self.fs
    }

    fn turn_until<T>(&self, done: impl Fn() -> Option<T>) -> T {
        loop {
            if let Some(outcome) = done() {
                return outcome;
            }
            self.turn(Duration::ZERO);
        }
    }

    fn lock_writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_threads(&mut self) -> std::io::Result<()> {
        let (space, shared) = (self.space.clone(), self.shared.clone());
        let preparer = std::thread::Builder::new().name("log-prepare".into());
        self.threads.push(preparer.spawn(move || space.run_background(|| shared.nudge()))?);
        let (shared, writer) = (self.shared.clone(), self.writer.clone());
        let clock = *self.clock.insert(Clock::start());
        let thread = std::thread::Builder::new().name("log-write".into());
        self.threads.push(thread.spawn(move || {
            loop {
                let Turn { deadline, finished } = match writer.lock() {
                    Ok(mut writer) => writer.turn(clock.now()),
                    // Somebody's turn ended in a panic, and everybody has been told.
                    Err(_) => return,
                };
                if finished {
                    return;
                }
                shared.wait_for_work(deadline.map(|deadline| deadline.saturating_sub(clock.now())));
            }
        })?);
        Ok(())
    }
}

impl Drop for Log {
    /// Writes and syncs what is queued, and ends the threads.
    fn drop(&mut self) {
        self.shared.close();
        if self.clock.is_none() {
            let mut writer = self.lock_writer();
            let now = writer.now;
            writer.turn(now);
        }
        // The preparer last: the writer may yet need room.
        while let Some(thread) = self.threads.pop() {
            if self.threads.is_empty() {
                self.space.close();
            }
            // A panic of the writer has already been shown, and dropping must not add another.
            let _ = thread.join();
        }
    }
}

/// The time that decides when an interval is over.
#[derive(Clone, Copy)]
struct Clock(std::time::Instant);

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this thread is the driver, and hands the time on as a value"
    )]
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}
