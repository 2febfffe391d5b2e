//! The segments that a log has, and those of their files that are open.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::fs::{File, Fs};
use crate::segment::{DATA_OFFSET, segment_path};

/// A segment of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number, which is its file name in hexadecimal.
    pub number: u64,
    /// The sequence number of its first frame.
    pub first_seq: u64,
    /// Where its last frame ends, in bytes; of one that was not read at opening, the length of its file.
    pub used_bytes: u64,
    /// Whether there is a newer one, so that nothing more is written to it.
    pub sealed: bool,
}

/// A segment as recovery found it.
pub(crate) struct Slot {
    pub(crate) number: u64,
    pub(crate) first_seq: u64,
    /// One past its last frame's sequence number; of the newest segment, as it was when it was opened.
    pub(crate) end_seq: u64,
    /// The end of its last frame; of the newest segment, as it was when it was opened.
    pub(crate) used_bytes: u64,
    pub(crate) file: Option<Arc<dyn File>>,
    /// Whether it was read since it was last considered for closing.
    pub(crate) is_read: AtomicBool,
}

/// All segments of a log, oldest first.
///
/// Nothing is ever done to a file under the lock: readers and counters wait for nobody's disk.
pub(crate) struct Segments {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    /// How many files but for the newest one's are kept open.
    max_open: usize,
    table: RwLock<Table>,
}

struct Table {
    slots: Vec<Slot>,
    /// How many files are open, without the newest one's.
    open: usize,
    /// Who is next to be considered for closing (the clock algorithm).
    hand: usize,
}

impl Slot {
    pub(crate) fn new(number: u64, first_seq: u64, file: Arc<dyn File>) -> Self {
        Self {
            number,
            first_seq,
            end_seq: first_seq,
            used_bytes: DATA_OFFSET,
            file: Some(file),
            is_read: AtomicBool::new(false),
        }
    }
}

impl Segments {
    pub(crate) fn new(fs: Arc<dyn Fs>, dir: &Path, max_open: usize, slots: Vec<Slot>) -> Self {
        let older = slots.len().saturating_sub(1);
        let open = slots[..older].iter().filter(|slot| slot.file.is_some()).count();
        let segments = Self {
            fs,
            dir: dir.to_path_buf(),
            max_open,
            table: RwLock::new(Table { slots, open, hand: 0 }),
        };
        segments.close_surplus(segments.lock());
        segments
    }

    /// Notes where the newest segment ended.
    pub(crate) fn seal(&self, used_bytes: u64, end_seq: u64) {
        if let Some(last) = self.lock().slots.last_mut() {
            last.used_bytes = used_bytes;
            last.end_seq = end_seq;
        }
    }

    /// Adds a segment newer than all others.
    pub(crate) fn push(&self, slot: Slot) {
        let mut table = self.lock();
        table.open += usize::from(table.slots.last().is_some_and(|last| last.file.is_some()));
        table.slots.push(slot);
        self.close_surplus(table);
    }

    /// The file of a segment, opened if need be; `None` if there is no such segment any more.
    pub(crate) fn file(&self, number: u64) -> io::Result<Option<Arc<dyn File>>> {
        {
            let table = self.read();
            let Some(slot) = table.find(number).map(|at| &table.slots[at]) else { return Ok(None) };
            if let Some(file) = &slot.file {
                // Mostly it is set already, and reading it leaves the line in every core's cache.
                if !slot.is_read.load(Ordering::Relaxed) {
                    slot.is_read.store(true, Ordering::Relaxed);
                }
                return Ok(Some(file.clone()));
            }
        }
        let opened = match self.fs.open(&segment_path(&self.dir, number)) {
            Err(_) if !self.has(number) => return Ok(None),
            opened => opened?,
        };
        let mut table = self.lock();
        let Some(at) = table.find(number) else { return Ok(None) };
        // Somebody else may have been faster.
        if let Some(file) = &table.slots[at].file {
            return Ok(Some(file.clone()));
        }
        table.slots[at].file = Some(opened.clone());
        table.slots[at].is_read.store(true, Ordering::Relaxed);
        table.open += 1;
        self.close_surplus(table);
        Ok(Some(opened))
    }

    /// Whether there is such a segment.
    pub(crate) fn has(&self, number: u64) -> bool {
        self.read().find(number).is_some()
    }

    /// What `f` says of all segments, oldest first.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&[Slot]) -> T) -> T {
        f(&self.read().slots)
    }

    /// Takes a segment out: whoever asks for it from now on finds it gone.
    pub(crate) fn remove(&self, number: u64) -> Option<Slot> {
        let mut table = self.lock();
        let at = table.find(number)?;
        let slot = table.slots.remove(at);
        table.open -= usize::from(slot.file.is_some() && at < table.slots.len());
        if table.hand > at {
            table.hand -= 1;
        }
        Some(slot)
    }

    /// Closes files that were not read for the longest time, about, until there are no more than allowed.
    fn close_surplus(&self, mut table: RwLockWriteGuard<'_, Table>) {
        let mut closed = Vec::new();
        let older = table.slots.len().saturating_sub(1);
        while table.open > self.max_open {
            let hand = table.hand % older;
            table.hand = hand + 1;
            let slot = &mut table.slots[hand];
            if slot.file.is_some() && !std::mem::take(slot.is_read.get_mut()) {
                closed.extend(slot.file.take());
                table.open -= 1;
            }
        }
        drop(table);
        drop(closed);
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn find(&self, number: u64) -> Option<usize> {
        let slots = &self.slots;
        // Without gaps, which is often so, the place follows from the number; with gaps it is nearer to the start.
        let guess = number.checked_sub(slots.first()?.number)?;
        let guess = usize::try_from(guess).unwrap_or(usize::MAX).min(slots.len());
        if slots.get(guess).is_some_and(|slot| slot.number == number) {
            return Some(guess);
        }
        slots[..guess].binary_search_by_key(&number, |slot| slot.number).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultFs;

    const DIR: &str = "/";

    fn segments(numbers: &[u64], max_open: usize) -> (FaultFs, Segments) {
        let fs = FaultFs::new();
        let slots = numbers
            .iter()
            .map(|number| {
                let file = fs.create(&segment_path(DIR.as_ref(), *number)).unwrap();
                Slot::new(*number, number * 10, file)
            })
            .collect();
        let segments = Segments::new(Arc::new(fs.clone()), DIR.as_ref(), max_open, slots);
        (fs, segments)
    }

    fn open(segments: &Segments) -> Vec<u64> {
        segments.with(|slots| {
            let open = slots.iter().filter(|slot| slot.file.is_some());
            open.map(|slot| slot.number).collect()
        })
    }

    #[test]
    fn a_segment_is_found_among_gaps_and_a_missing_one_is_not() {
        let numbers = [3, 4, 7, 8, 9, 20];
        let (_fs, segments) = segments(&numbers, 10);
        for number in 0..30 {
            assert_eq!(segments.has(number), numbers.contains(&number), "{number}");
        }
        assert!(segments.remove(7).is_some() && segments.remove(7).is_none());
        assert!(!segments.has(7) && segments.has(8) && segments.has(4));
        assert!(segments.file(7).unwrap().is_none());
    }

    #[test]
    fn no_more_files_are_open_than_allowed_and_those_that_are_read_stay() {
        let (fs, segments) = segments(&[1, 2, 3, 4, 5], 2);
        assert_eq!(open(&segments).len(), 3, "the newest comes on top");
        for number in [1, 2, 3, 1, 4, 1] {
            segments.file(number).unwrap().unwrap();
            assert_eq!(open(&segments).len(), 3);
        }
        assert!(open(&segments).contains(&5));
        let before = fs.operations();
        let last_opened = open(&segments);
        for number in last_opened {
            segments.file(number).unwrap().unwrap();
        }
        assert_eq!(fs.operations(), before, "what is open is not opened again");
        segments.seal(1000, 60);
        segments.push(Slot::new(6, 60, fs.create("/six".as_ref()).unwrap()));
        assert_eq!(open(&segments).len(), 3);
        while let Some(number) = segments.with(|slots| slots.first().map(|slot| slot.number)) {
            segments.remove(number).unwrap();
        }
        assert_eq!(open(&segments), []);
    }
}
