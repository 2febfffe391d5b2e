//! Segments that nobody needs any more, given up in any order.
//!
//! The record that a segment was given up is durable before its file goes. So one that is missing is either in the
//! record or lost, and one that is in the record but still there was about to go, and goes at the next opening.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use crate::fs::{File, Fs, is_passing};
use crate::log::Log;
use crate::released::{Released, ReleasedFile};
use crate::segment::segment_path;
use crate::space::Space;

/// What was given up, and what of it is still to go.
pub(crate) struct Release {
    file: ReleasedFile,
    released: Released,
    /// Whether a loss of power cannot take back the record: what an earlier process wrote may not be synced.
    is_recorded: bool,
    leaving: VecDeque<Leaving>,
}

/// A file that goes.
struct Leaving {
    number: u64,
    /// As it was open to readers.
    file: Option<Arc<dyn File>>,
}

impl Release {
    /// Takes up where an earlier process ended: `released` is what it recorded, `leftovers` what it had no time for.
    pub(crate) fn new(file: ReleasedFile, released: Released, leftovers: Vec<u64>) -> Self {
        let leaving = leftovers.into_iter().map(|number| Leaving { number, file: None }).collect();
        Self { file, released, is_recorded: false, leaving }
    }

    /// What was given up.
    pub(crate) fn released(&self) -> &Released {
        &self.released
    }

    /// Makes the first record in a log that has none.
    pub(crate) fn create(&mut self, fs: &dyn Fs, dir: &Path) -> io::Result<()> {
        self.file.create(fs, dir, &self.released)
    }

    /// Lets leftovers go, now or later.
    pub(crate) fn clear(&mut self, fs: &dyn Fs, dir: &Path, space: &Space) -> io::Result<()> {
        match self.finish(fs, dir, space) {
            Err(error) if is_passing(&error) => Ok(()),
            outcome => outcome,
        }
    }

    fn record(&mut self, fs: &dyn Fs, dir: &Path, released: Released) -> io::Result<()> {
        self.file.record(fs, dir, &released)?;
        self.released = released;
        self.is_recorded = true;
        Ok(())
    }

    fn finish(&mut self, fs: &dyn Fs, dir: &Path, space: &Space) -> io::Result<()> {
        if !self.is_recorded && !self.leaving.is_empty() {
            self.record(fs, dir, self.released.clone())?;
        }
        while let Some(Leaving { number, file }) = self.leaving.front() {
            // Whoever still reads must not find another segment's bytes there.
            let is_read = file.as_ref().is_some_and(|file| Arc::strong_count(file) > 1);
            match space.recycle(&segment_path(dir, *number), !is_read) {
                // An earlier attempt may have come as far as the name.
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs.sync_dir(dir)?,
                outcome => outcome?,
            }
            self.leaving.pop_front();
        }
        Ok(())
    }
}

impl Log {
    /// Gives up a sealed segment, wherever in the log it is, for later use of its file or for good. What its frames were
    /// needed for must be durable elsewhere. One that was given up before is no error.
    ///
    /// # Errors
    /// Whatever the file system says; what was not given up is tried again at the next call.
    /// [`io::ErrorKind::InvalidInput`] if the segment is still being written to.
    pub fn release(&self, segment: u64) -> io::Result<()> {
        let newest = self.segments.with(|slots| slots.last().map(|slot| slot.number));
        if newest.is_none_or(|newest| newest <= segment) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.release_all(&[segment])
    }

    /// Gives up the segments whose frames are all below `seq`, for later use or for good.
    ///
    /// # Errors
    /// Whatever the file system says; what was not given up is tried again at the next call.
    pub fn recycle_below(&self, seq: u64) -> io::Result<()> {
        let numbers: Vec<u64> = self.segments.with(|slots| {
            let older = slots.split_last().map_or(&[][..], |(_newest, older)| older);
            older.iter().filter(|slot| slot.end_seq <= seq).map(|slot| slot.number).collect()
        });
        self.release_all(&numbers)
    }

    /// Gives up these, none of which is the newest.
    fn release_all(&self, numbers: &[u64]) -> io::Result<()> {
        let mut guard = self.release.lock().unwrap_or_else(PoisonError::into_inner);
        let release = &mut *guard;
        // While this is held, only newer segments come, and none go.
        let (mut released, mut found) = (release.released.clone(), Vec::new());
        self.segments.with(|slots| {
            for slot in slots.iter().filter(|slot| numbers.contains(&slot.number)) {
                released.add(slot.number, slot.first_seq, slot.end_seq);
                found.push(slot.number);
            }
            if let Some(oldest) = slots.iter().find(|slot| !numbers.contains(&slot.number)) {
                released.set_oldest(oldest.number, oldest.first_seq);
            }
        });
        if !found.is_empty() {
            release.record(&**self.fs(), self.dir(), released)?;
        }
        for number in found {
            let file = self.segments.remove(number).and_then(|slot| slot.file);
            release.leaving.push_back(Leaving { number, file });
        }
        release.finish(&**self.fs(), self.dir(), &self.space)
    }
}
