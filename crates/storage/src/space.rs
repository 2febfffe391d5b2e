//! Room to write into: blocks that have been written once, ahead of need.
//!
//! A sync of a growing file has to save the file's new shape too, and costs several times one over blocks that were
//! written before. So segments have a fixed size, are filled with zeros some way ahead of the writer, and are used
//! again when their frames are no longer needed. It is also here that a full disk shows itself first, while
//! nothing has been promised yet.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::fs::{
    File, Fs, durable_remove, durable_replace, is_full, is_out_of_descriptors, is_out_of_memory,
};
use crate::segment::spare_path;

/// A file that waits to become a segment.
pub(crate) struct Spare {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
    /// Bytes from its start that have been written before.
    pub(crate) ready: u64,
    pub(crate) end: u64,
    /// Whether it holds old frames.
    pub(crate) recycled: bool,
}

/// Why there is no room.
#[derive(Debug)]
pub(crate) enum SpaceError {
    /// The disk is full; try again later.
    Full,
    /// File descriptors or memory ran out before anything was done; try again later.
    Exhausted(io::Error),
    /// The device failed: what it holds can no longer be trusted.
    Failed(io::Error),
}

impl From<io::Error> for SpaceError {
    fn from(error: io::Error) -> Self {
        if is_full(&error) {
            SpaceError::Full
        } else if is_out_of_descriptors(&error) || is_out_of_memory(&error) {
            SpaceError::Exhausted(error)
        } else {
            SpaceError::Failed(error)
        }
    }
}

impl SpaceError {
    /// Why a folder could not be synced. A sync that failed is never asked for again, but one that could not even be
    /// tried may be.
    pub(crate) fn of_folder_sync(error: io::Error) -> Self {
        if is_out_of_descriptors(&error) {
            SpaceError::Exhausted(error)
        } else {
            SpaceError::Failed(error)
        }
    }
}

/// How much to prepare, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpaceOptions {
    pub(crate) segment_bytes: u64,
    pub(crate) ahead_bytes: u64,
    pub(crate) chunk_bytes: u64,
    pub(crate) max_spares: usize,
}

/// The room ahead of the writer's head, kept up by whoever calls [`Space::step`].
pub(crate) struct Space {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    options: SpaceOptions,
    zeros: Vec<u8>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    active: Option<Ground>,
    next: Option<Spare>,
    /// Whole files from recycling.
    idle: VecDeque<Spare>,
    /// Leftovers of an earlier run, or of an attempt that failed: nobody knows what of them is on disk.
    found: VecDeque<u64>,
    next_spare: u64,
    working: bool,
    closed: bool,
    /// The device failed in the background.
    failed: Option<io::Error>,
}

/// The active segment.
struct Ground {
    file: Arc<dyn File>,
    head: u64,
    ready: u64,
    end: u64,
}

/// One piece of preparation.
enum Job {
    Nothing,
    Active(Arc<dyn File>, u64, u64),
    Next(Arc<dyn File>, u64, u64),
    Create,
}

/// Zeros are written in pieces of this size. Linux keeps what one call wrote together in one large folio of its page
/// cache, and counts all of that as written again with every frame that is put into it.
const MOST_ZEROS_BYTES: u64 = 16 << 10;

impl Space {
    pub(crate) fn new(
        fs: Arc<dyn Fs>,
        dir: &Path,
        options: SpaceOptions,
        spares: Vec<u64>,
    ) -> Self {
        let next_spare = spares.iter().max().map_or(1, |number| number + 1);
        let zeros_bytes = options.chunk_bytes.min(MOST_ZEROS_BYTES);
        let zeros = vec![0; usize::try_from(zeros_bytes).expect("a few KiB fit into memory")];
        let state = State { found: spares.into(), next_spare, ..State::default() };
        Self {
            fs,
            dir: dir.to_path_buf(),
            options,
            zeros,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Removes what earlier runs left beyond the number of spares to keep.
    pub(crate) fn drop_surplus(&self) -> io::Result<()> {
        loop {
            let number = {
                let mut state = self.lock();
                if state.found.len() <= self.options.max_spares {
                    return Ok(());
                }
                state.found.pop_back()
            };
            if let Some(number) = number {
                durable_remove(&*self.fs, &spare_path(&self.dir, number))?;
            }
        }
    }

    pub(crate) fn set_active(&self, file: Arc<dyn File>, head: u64, ready: u64, end: u64) {
        self.lock().active = Some(Ground { file, head, ready, end });
        self.changed.notify_all();
    }

    /// Tells how far the writer has come, so that preparation stays ahead of it.
    pub(crate) fn set_head(&self, head: u64) {
        let mut state = self.lock();
        if let Some(active) = &mut state.active {
            active.head = head;
        }
        if self.is_behind(&state) {
            self.changed.notify_all();
        }
    }

    /// Waits until the active segment is prepared up to `end`, helping if need be, and returns how far it is.
    pub(crate) fn reserve(&self, end: u64) -> Result<u64, SpaceError> {
        loop {
            let state = self.wait_idle(self.lock());
            let Some(active) = &state.active else { return Err(SpaceError::Full) };
            if active.ready >= end {
                return Ok(active.ready);
            }
            let (file, from) = (active.file.clone(), active.ready);
            let len = self.options.chunk_bytes.max(end - from).min(active.end - from);
            self.run(state, &Job::Active(file, from, len))?;
        }
    }

    /// Takes the file that the next segment will be, prepared up to `ready` at least.
    pub(crate) fn take_next(&self, ready: u64) -> Result<Spare, SpaceError> {
        loop {
            let mut state = self.wait_idle(self.lock());
            match &state.next {
                Some(next) if next.ready >= ready => {
                    return Ok(state.next.take().expect("just seen"));
                }
                Some(next) => {
                    let (file, from) = (next.file.clone(), next.ready);
                    let len = self.options.chunk_bytes.max(ready - from).min(next.end - from);
                    self.run(state, &Job::Next(file, from, len))?;
                }
                None => self.run(state, &Job::Create)?,
            }
        }
    }

    /// Gives back a file from [`Self::take_next`] that could not be used.
    pub(crate) fn return_next(&self, spare: Spare) {
        self.lock().next = Some(spare);
    }

    /// Prepares one more piece if the writer's head is too near; says whether it did.
    pub(crate) fn step(&self) -> Result<bool, SpaceError> {
        let state = self.wait_idle(self.lock());
        let job = self.job(&state);
        if matches!(job, Job::Nothing) {
            return Ok(false);
        }
        self.run(state, &job)?;
        Ok(true)
    }

    /// Prepares in the background until [`Self::close`].
    pub(crate) fn run_background(&self, mut on_failure: impl FnMut()) {
        let mut stalled = false;
        loop {
            let mut state = self.lock();
            while !state.closed && (stalled || state.working || !self.is_behind(&state)) {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                stalled = false;
            }
            if state.closed {
                return;
            }
            drop(state);
            match self.step() {
                Ok(_) => {}
                // The writer meets this too if it comes so far. Its progress wakes us to try again.
                Err(SpaceError::Full | SpaceError::Exhausted(_)) => stalled = true,
                Err(SpaceError::Failed(error)) => {
                    self.lock().failed = Some(error);
                    on_failure();
                    return;
                }
            }
        }
    }

    /// The failure that ended preparation in the background, once.
    pub(crate) fn take_failure(&self) -> Option<io::Error> {
        self.lock().failed.take()
    }

    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Turns the segment at `path`, whose frames nobody needs, into a spare, or removes it if there are enough or it is
    /// not `reusable`.
    pub(crate) fn recycle(&self, path: &Path, reusable: bool) -> io::Result<()> {
        let number = {
            let mut state = self.lock();
            let kept = state.idle.len() + state.found.len() + usize::from(state.next.is_some());
            if kept >= self.options.max_spares || !reusable {
                None
            } else {
                state.next_spare += 1;
                Some(state.next_spare - 1)
            }
        };
        let Some(number) = number else { return durable_remove(&*self.fs, path) };
        let file = self.fs.open(path)?;
        let end = file.size()?;
        if end != self.options.segment_bytes {
            return durable_remove(&*self.fs, path);
        }
        let spare = spare_path(&self.dir, number);
        durable_replace(&*self.fs, path, &spare)?;
        self.lock().idle.push_back(Spare { path: spare, file, ready: end, end, recycled: true });
        Ok(())
    }

    /// How many files wait to become segments.
    pub(crate) fn spares(&self) -> usize {
        let state = self.lock();
        state.idle.len() + state.found.len() + usize::from(state.next.is_some())
    }

    fn is_behind(&self, state: &State) -> bool {
        !matches!(self.job(state), Job::Nothing)
    }

    fn job(&self, state: &State) -> Job {
        let Some(active) = &state.active else { return Job::Nothing };
        let ahead = self.options.ahead_bytes;
        let target = (active.head + ahead).min(active.end);
        if active.ready < target {
            let len = self.options.chunk_bytes.min(active.end - active.ready);
            return Job::Active(active.file.clone(), active.ready, len);
        }
        let missing = (active.head + ahead).saturating_sub(active.end);
        match &state.next {
            _ if missing == 0 || active.ready < active.end => Job::Nothing,
            None => Job::Create,
            Some(next) if next.ready < missing.min(next.end) => {
                let len = self.options.chunk_bytes.min(next.end - next.ready);
                Job::Next(next.file.clone(), next.ready, len)
            }
            Some(_) => Job::Nothing,
        }
    }

    /// Does a job without the lock, alone.
    fn run<'a>(&'a self, mut state: MutexGuard<'a, State>, job: &Job) -> Result<(), SpaceError> {
        state.working = true;
        let mut outcome = Ok(());
        let mut created = None;
        match job {
            Job::Nothing => {}
            Job::Active(file, from, len) | Job::Next(file, from, len) => {
                drop(state);
                outcome = self.fill(&**file, *from, *len);
                state = self.lock();
            }
            Job::Create => {
                if let Some(spare) = state.idle.pop_front() {
                    created = Some(spare);
                } else {
                    let found = state.found.pop_front();
                    let number = found.unwrap_or(state.next_spare);
                    if found.is_none() {
                        state.next_spare += 1;
                    }
                    drop(state);
                    match self.create(number) {
                        Ok(spare) => created = Some(spare),
                        Err(error) => outcome = Err(error),
                    }
                    state = self.lock();
                    // It may be there half made; the next attempt takes it up again.
                    if created.is_none() {
                        state.found.push_front(number);
                    }
                }
            }
        }
        if outcome.is_ok() {
            match job {
                Job::Nothing => {}
                // The writer may have gone on to another file meanwhile.
                Job::Active(file, from, len) => {
                    if let Some(active) =
                        state.active.as_mut().filter(|active| Arc::ptr_eq(&active.file, file))
                    {
                        active.ready = from + len;
                    }
                }
                Job::Next(file, from, len) => {
                    if let Some(next) =
                        state.next.as_mut().filter(|next| Arc::ptr_eq(&next.file, file))
                    {
                        next.ready = from + len;
                    }
                }
                Job::Create => state.next = created,
            }
        }
        state.working = false;
        drop(state);
        self.changed.notify_all();
        outcome
    }

    fn fill(&self, file: &dyn File, from: u64, len: u64) -> Result<(), SpaceError> {
        let mut done = 0;
        while done < len {
            let left = usize::try_from(len - done).unwrap_or(usize::MAX);
            let zeros = &self.zeros[..left.min(self.zeros.len())];
            file.write_at(zeros, from + done)?;
            done += zeros.len() as u64;
        }
        // Not to be retried: after a failed sync nobody knows which of the file's pages are lost, frames included.
        file.sync_data().map_err(SpaceError::Failed)
    }

    fn create(&self, number: u64) -> Result<Spare, SpaceError> {
        let path = spare_path(&self.dir, number);
        let end = self.options.segment_bytes;
        // A leftover is emptied first. Its length may be in the kernel's memory only, and clean, if a sync failed before
        // the last process ended; then no sync saves it unless it changes.
        let file = self.fs.create(&path)?;
        file.set_len(end)?;
        self.fs.sync_dir(&self.dir).map_err(SpaceError::of_folder_sync)?;
        Ok(Spare { path, file, ready: 0, end, recycled: false })
    }

    fn wait_idle<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        while state.working {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
