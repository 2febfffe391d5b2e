//! The one who writes: takes what has gathered, writes it in one call or a few large ones, syncs once, and settles all of
//! it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::frame::{FrameHeader, HEADER_BYTES, MAX_LAG, checksum};
use crate::fs::{File, Fs};
use crate::log::SyncPolicy;
use crate::newest::{Newest, NewestFile};
use crate::queue::{Batch, Counters, LogError, Place, Progress, Shared};
use crate::segment::{DATA_OFFSET, SegmentHeader, epoch, index, segment_path};
use crate::segments::{Segments, Slot};
use crate::space::{Space, SpaceError};

/// How much of a batch is finished before it is written, about.
const RUN_BYTES: usize = 256 << 10;

pub(crate) struct Writer {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) dir: PathBuf,
    pub(crate) policy: SyncPolicy,
    pub(crate) shared: Arc<Shared>,
    pub(crate) space: Arc<Space>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) on_progress: Box<dyn FnMut(Progress<'_>) + Send>,
    /// The segment to append to; `None` if the next frame must begin a new one.
    pub(crate) active: Option<ActiveFile>,
    /// The newest segment, which need not be there any more.
    pub(crate) newest: Newest,
    pub(crate) newest_file: NewestFile,
    pub(crate) next_seq: u64,
    pub(crate) synced_through: u64,
    pub(crate) unsynced_since: Option<Duration>,
    pub(crate) syncs: u64,
    pub(crate) batches: u64,
    pub(crate) syncs_done: u64,
    pub(crate) poison: Option<Arc<io::Error>>,
    pub(crate) batch: Batch,
    /// The time of the present turn.
    pub(crate) now: Duration,
}

pub(crate) struct ActiveFile {
    pub(crate) file: Arc<dyn File>,
    pub(crate) head: u64,
    /// What of the file the writer knows to be prepared.
    pub(crate) ready: u64,
    pub(crate) end: u64,
}

/// What a turn asks of whoever drives the writer.
pub(crate) struct Turn {
    /// When to turn again even if nothing is submitted.
    pub(crate) deadline: Option<Duration>,
    /// The log was closed and everything is done.
    pub(crate) finished: bool,
}

impl Writer {
    /// Does everything that can be done now.
    pub(crate) fn turn(&mut self, now: Duration) -> Turn {
        self.now = now;
        let _told = PanicIsTold(self.shared.clone());
        let mut batch = std::mem::take(&mut self.batch);
        self.shared.take(&mut batch);
        if let Some(error) = self.space.take_failure() {
            self.fail(error);
        }
        // How many of the batch's frames are settled, and how many are written.
        let (mut settled, mut written) = (0, 0);
        let mut refusal = None;
        if self.poison.is_none() && !batch.bytes.is_empty() {
            self.batches += 1;
            match self.write(&mut batch, &mut written) {
                Ok(()) => {}
                Err(SpaceError::Full) => refusal = Some(LogError::NoSpace),
                Err(SpaceError::Exhausted(error)) => {
                    refusal = Some(LogError::Exhausted { cause: Arc::new(error) });
                }
                Err(SpaceError::Failed(error)) => self.fail(error),
            }
        }
        // Under the other policies what is written is acknowledged, and a sync is not waited for.
        if self.policy != SyncPolicy::Always && self.poison.is_none() {
            self.settle(&batch, settled, written, refusal.take());
            settled = batch.frames.len();
            written = settled;
        }
        if self.poison.is_none()
            && self.sync_is_due(now, &batch)
            && let Err(error) = self.sync()
        {
            self.fail(error);
        }
        if self.poison.is_none() {
            self.syncs_done = self.syncs_done.max(if self.unsynced_since.is_none() {
                batch.sync_wanted
            } else {
                0
            });
        }
        self.settle(&batch, settled, written, refusal);
        let finished = batch.closed;
        self.batch = batch;
        Turn { deadline: self.deadline(), finished }
    }

    /// Prepares one more piece of room, for those who have no thread for it.
    pub(crate) fn prepare(&mut self) {
        if self.poison.is_none()
            && let Err(SpaceError::Failed(error)) = self.space.step()
        {
            self.fail(error);
        }
    }

    /// When to turn again even if nothing is submitted.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        match self.policy {
            SyncPolicy::Interval(interval) if self.poison.is_none() => {
                self.unsynced_since.map(|since| since.saturating_add(interval))
            }
            _ => None,
        }
    }

    fn sync_is_due(&self, now: Duration, batch: &Batch) -> bool {
        let due = match self.policy {
            SyncPolicy::Always => true,
            SyncPolicy::Interval(_) => self.deadline().is_some_and(|deadline| now >= deadline),
            SyncPolicy::Os => false,
        };
        self.unsynced_since.is_some()
            && (due || batch.closed || batch.sync_wanted > self.syncs_done)
    }

    /// Publishes what became of the batch's frames from the one at `from` on: good up to the one at `written`, refused
    /// or poisoned from there.
    fn settle(&mut self, batch: &Batch, from: usize, written: usize, refusal: Option<LogError>) {
        let run = |from: usize, to: usize, outcome: Result<u64, LogError>| Progress {
            first_ticket: batch.first_ticket + from as u64,
            frames: &batch.frames[from..to],
            outcome,
        };
        let all = batch.frames.len();
        let runs = match &self.poison {
            Some(cause) => [
                run(from, from, Ok(0)),
                run(from, all, Err(LogError::Poisoned { cause: cause.clone() })),
            ],
            None => [
                run(from, written, Ok(self.next_seq - 1)),
                run(written, all, Err(refusal.unwrap_or(LogError::NoSpace))),
            ],
        };
        let counters = Counters {
            last_seq: self.next_seq - 1,
            durable_seq: self.synced_through,
            head_bytes: self.active.as_ref().map_or(0, |active| active.head),
            batches: self.batches,
            syncs: self.syncs,
        };
        self.shared.settle(&runs, self.syncs_done, counters);
        for run in runs.into_iter().filter(|run| !run.frames.is_empty()) {
            (self.on_progress)(run);
        }
    }

    fn fail(&mut self, error: io::Error) {
        let cause = Arc::new(error);
        self.shared.poison(&cause);
        self.poison.get_or_insert(cause);
    }

    /// Finishes the frames of `batch` and writes them; `written` goes along with what has been written.
    fn write(&mut self, batch: &mut Batch, written: &mut usize) -> Result<(), SpaceError> {
        let Batch { bytes, frames, .. } = batch;
        let mut offset = 0;
        while offset < bytes.len() {
            let size = index(frames[*written].bytes.into());
            let full = |active: &ActiveFile| size as u64 > active.end - active.head;
            if self.active.as_ref().is_none_or(full) || buggify!(SegmentLeft) {
                self.switch()?;
            }
            // No frame is written to a segment whose loss would not be noticed.
            self.record_newest()?;
            if self.next_seq - self.synced_through > MAX_LAG {
                self.sync().map_err(SpaceError::Failed)?;
            }
            let (head, room) = self
                .active
                .as_ref()
                .map_or((0, 0), |active| (active.head, active.end - active.head));
            let segment = self.newest.number;
            let epoch = epoch(segment);
            let start = offset;
            let mut seq = self.next_seq;
            let mut finished = *written;
            while let Some(frame) = frames.get_mut(finished) {
                let size = index(frame.bytes.into());
                let lag = seq - self.synced_through;
                if (offset - start + size) as u64 > room || lag > MAX_LAG {
                    break;
                }
                // What was finished is in the processor's cache, and best written from there.
                if offset > start && offset - start + size > RUN_BYTES {
                    break;
                }
                finish(&mut bytes[offset..offset + size], seq, lag, epoch);
                frame.place = Place { segment, offset: head + (offset - start) as u64 };
                finished += 1;
                offset += size;
                seq += 1;
            }
            self.write_run(&bytes[start..offset])?;
            *written = finished;
            self.next_seq = seq;
            self.unsynced_since.get_or_insert(self.now);
        }
        Ok(())
    }

    fn write_run(&mut self, run: &[u8]) -> Result<(), SpaceError> {
        let active = self.active.as_mut().expect("a run is measured against the active segment");
        let end = active.head + run.len() as u64;
        if end > active.ready {
            active.ready = self.space.reserve(end)?;
        }
        // The place was written before, so even an error that says "full" is a device that breaks its word.
        active.file.write_at(run, active.head).map_err(SpaceError::Failed)?;
        active.head = end;
        self.space.set_head(end);
        Ok(())
    }

    /// Goes on to a new segment. The old one is synced first: that is what makes a bad frame in it damage.
    fn switch(&mut self) -> Result<(), SpaceError> {
        if self.synced_through + 1 < self.next_seq {
            self.sync().map_err(SpaceError::Failed)?;
        }
        // The record never falls behind by two, so that one that does was lost itself.
        self.record_newest()?;
        let mut spare = self.space.take_next(DATA_OFFSET)?;
        let number = self.newest.number + 1;
        let header = SegmentHeader {
            number,
            first_seq: self.next_seq,
            recycled: spare.recycled,
            file_bytes: spare.end,
        };
        let path = segment_path(&self.dir, number);
        // An earlier attempt may have come as far as the name.
        if spare.path != path {
            let named = spare
                .file
                .write_at(&header.encode(), 0)
                .and_then(|()| spare.file.sync_data().map_err(io::Error::other))
                .and_then(|()| self.fs.rename(&spare.path, &path));
            if let Err(error) = named {
                self.space.return_next(spare);
                return Err(error.into());
            }
            spare.path = path;
        }
        // From here on the old segment ends where the new one says, whether the name lasts or not.
        if let Some(active) = self.active.take() {
            self.segments.seal(active.head, self.next_seq);
        }
        if !planted!(RenameNotSynced)
            && let Err(error) = self.fs.sync_dir(&self.dir)
        {
            self.space.return_next(spare);
            return Err(SpaceError::of_folder_sync(error));
        }
        self.segments.push(Slot::new(number, self.next_seq, spare.file.clone()));
        self.newest = Newest { number, first_seq: self.next_seq };
        self.space.set_active(spare.file.clone(), DATA_OFFSET, spare.ready, spare.end);
        self.active = Some(ActiveFile {
            file: spare.file,
            head: DATA_OFFSET,
            ready: spare.ready,
            end: spare.end,
        });
        Ok(())
    }

    fn record_newest(&mut self) -> Result<(), SpaceError> {
        self.newest_file.record(&*self.fs, &self.dir, self.newest)
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Some(active) = &self.active {
            match active.file.sync_data() {
                Err(_) if planted!(SyncRetried) => active.file.sync_data()?,
                outcome => outcome?,
            }
            self.syncs += 1;
        }
        self.synced_through = self.next_seq - 1;
        self.unsynced_since = None;
        Ok(())
    }
}

/// Lets nobody wait for a turn that ended in a panic.
struct PanicIsTold(Arc<Shared>);

impl Drop for PanicIsTold {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.end(&Arc::new(io::Error::other("the log or its listener panicked")));
        }
    }
}

/// Puts in what only the writer knows.
fn finish(frame: &mut [u8], seq: u64, lag: u64, epoch: u32) {
    let len = u32::from_le_bytes([frame[0], frame[1], frame[2], frame[3]]);
    let kind = frame[4];
    let payload_end = HEADER_BYTES + usize::try_from(len).expect("the frame is in memory");
    let payload_crc = checksum(epoch, &frame[HEADER_BYTES..payload_end]);
    let lag = u32::try_from(lag).expect("a sync comes before the lag gets too great");
    let header = FrameHeader { len, kind, lag, seq, payload_crc };
    frame[..HEADER_BYTES].copy_from_slice(&header.encode(epoch));
}
