//! The files of a log, as far as their names and first sectors tell.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::walk::{Limit, Start, Walk};
use super::{Frame, OpenError, RecoverOptions};
use crate::frame::HEADER_BYTES;
use crate::fs::{File, Fs};
use crate::newest::Newest;
use crate::released::{Released, Run};
use crate::segment::{
    BadHeader, DATA_OFFSET, FORMAT_VERSION, SegmentHeader, Window, segment_number, segment_path,
    spare_number,
};

/// The segments of a log in order, with those between that were given up.
pub(super) struct Files<'a> {
    fs: &'a dyn Fs,
    options: RecoverOptions,
    recorded: Newest,
    pub(super) items: Vec<Item>,
    /// The number and first sequence number of each item, as far as that can be told.
    starts: Vec<Option<(u64, u64)>>,
    /// Segments that were given up but are still there.
    pub(super) leftovers: Vec<u64>,
    pub(super) spares: Vec<u64>,
}

/// One or more segments.
pub(super) enum Item {
    File(Found),
    Released(Run),
}

/// A segment's file.
pub(super) struct Found {
    number: u64,
    path: PathBuf,
    header: Option<SegmentHeader>,
    size: u64,
    /// Unless there are too many.
    file: Option<Arc<dyn File>>,
}

/// A segment that is being read.
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) file: Arc<dyn File>,
    pub(super) header: Option<SegmentHeader>,
    pub(super) window: Window,
}

impl<'a> Files<'a> {
    pub(super) fn list(
        fs: &'a dyn Fs,
        dir: &Path,
        options: RecoverOptions,
        released: Option<&Released>,
        recorded: Newest,
    ) -> Result<Self, OpenError> {
        let names = fs.list(dir).map_err(OpenError::io("list", dir))?;
        let spares = names.iter().filter_map(|name| spare_number(name)).collect();
        let numbers: BTreeSet<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
        let is_released =
            |number: &u64| released.is_some_and(|released| released.contains(*number));
        let (leftovers, numbers): (Vec<u64>, Vec<u64>) = numbers.into_iter().partition(is_released);
        let mut items = Vec::new();
        for (at, number) in numbers.iter().enumerate() {
            let stays_open = numbers.len() - at <= options.max_open_files.saturating_add(1);
            items.push(Item::File(Found::look(fs, dir, *number, stays_open)?));
        }
        let runs = released.into_iter().flat_map(|released| released.runs.iter().cloned());
        items.extend(runs.map(Item::Released));
        items.sort_by_key(Item::number);
        let mut files =
            Self { fs, options, recorded, items, starts: Vec::new(), leftovers, spares };
        files.starts =
            (0..files.items.len()).map(|at| files.start(at)).collect::<Result<_, _>>()?;
        Ok(files)
    }

    /// Where the frames of the item at `at` must end.
    pub(super) fn limit(&self, at: usize) -> Option<Limit> {
        let last = self.items[at].last_number();
        let next = match self.starts.get(at + 1) {
            Some(next) => *next,
            None => {
                let Newest { number, first_seq } = self.recorded;
                (number > last).then_some((number, first_seq))
            }
        };
        next.map(|(number, seq)| Limit { seq, file_missing: number > last + 1 })
    }

    /// Whether all frames of the item at `at` are known to the caller, and nothing asks for a look at them.
    pub(super) fn is_known(&self, at: usize) -> bool {
        self.is_plain(at)
            && self.limit(at).is_some_and(|limit| limit.seq - 1 <= self.options.replay_after)
    }

    /// Whether the item at `at` is a segment that by its first sector has everything from there to the next one.
    fn is_plain(&self, at: usize) -> bool {
        let Item::File(Found { header: Some(header), size, .. }) = &self.items[at] else {
            return false;
        };
        let exact = |limit: Limit| !limit.file_missing && header.first_seq <= limit.seq;
        *size >= header.file_bytes && self.limit(at).is_some_and(exact)
    }

    pub(super) fn open(&self, at: usize) -> Result<Segment, OpenError> {
        match &self.items[at] {
            Item::File(found) => found.open(self.fs, self.options.max_payload_bytes),
            Item::Released(_) => unreachable!("what was given up is not opened"),
        }
    }

    /// The file of the item at `at`, if it may stay open.
    pub(super) fn kept(&self, at: usize) -> Option<Arc<dyn File>> {
        match &self.items[at] {
            Item::File(found) => found.file.clone(),
            Item::Released(_) => None,
        }
    }

    /// Reads in several threads what can be read in any order. Returns what was found, by segment.
    pub(super) fn walk_many(
        &self,
        threads: usize,
        each: &(dyn Fn(Frame<'_>) + Sync),
    ) -> Result<Vec<(u64, Walk)>, OpenError> {
        // What does not fit together is better looked at step by step.
        if !self.starts.is_sorted_by_key(|start| start.map(|(_, seq)| seq)) {
            return Ok(Vec::new());
        }
        let plain = (0..self.items.len()).filter(|at| self.is_plain(*at) && !self.is_known(*at));
        let plain: Vec<usize> = plain.collect();
        let (next, walks) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            while let Some(&at) = plain.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut segment = self.open(at)?;
                let first_seq = segment.header.map(|header| header.first_seq);
                let (limit, after) = (self.limit(at), self.options.replay_after);
                let start = Start { offset: DATA_OFFSET, damaged: false };
                let walk = Walk::run(&mut segment, start, first_seq, limit, after, &mut |frame| {
                    each(frame);
                });
                let mut walks = walks.lock().unwrap_or_else(PoisonError::into_inner);
                walks.push((segment.number, walk));
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let helpers: Vec<_> =
                (1..threads.min(plain.len())).map(|_| scope.spawn(work)).collect();
            let mine = work();
            helpers.into_iter().fold(mine, |outcome, helper| {
                outcome.and(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            })
        })?;
        let mut walks = walks.into_inner().unwrap_or_else(PoisonError::into_inner);
        walks.sort_by_key(|(number, _)| *number);
        Ok(walks)
    }

    fn start(&self, at: usize) -> Result<Option<(u64, u64)>, OpenError> {
        Ok(match &self.items[at] {
            Item::Released(run) => Some((*run.numbers.start(), run.first_seq)),
            Item::File(Found { number, header: Some(header), .. }) => {
                Some((*number, header.first_seq))
            }
            // Its frames must tell.
            Item::File(Found { number, header: None, .. }) => {
                self.open(at)?.first_frame().map(|(_, seq)| (*number, seq))
            }
        })
    }
}

impl Item {
    fn number(&self) -> u64 {
        match self {
            Item::File(found) => found.number,
            Item::Released(run) => *run.numbers.start(),
        }
    }

    fn last_number(&self) -> u64 {
        match self {
            Item::File(found) => found.number,
            Item::Released(run) => *run.numbers.end(),
        }
    }
}

impl Found {
    fn look(fs: &dyn Fs, dir: &Path, number: u64, stays_open: bool) -> Result<Self, OpenError> {
        let path = segment_path(dir, number);
        let file = fs.open(&path).map_err(OpenError::io("open", &path))?;
        let size = file.size().map_err(OpenError::io("read", &path))?;
        let mut sector = [0; 512];
        // A device that does not give it, asked twice, may have lost it.
        let header = match file.read_at(&mut sector, 0).or_else(|_| file.read_at(&mut sector, 0)) {
            Ok(len) => SegmentHeader::decode(&sector[..len], number),
            Err(_) => Err(BadHeader::Damaged),
        };
        let header = match header {
            Ok(header) => Some(header),
            Err(BadHeader::Damaged) => None,
            Err(BadHeader::Version(found)) => {
                let path = path.display().to_string();
                return Err(OpenError::Version { path, found, supported: FORMAT_VERSION });
            }
        };
        Ok(Self { number, path, header, size, file: stays_open.then_some(file) })
    }

    fn open(&self, fs: &dyn Fs, max_payload_bytes: u64) -> Result<Segment, OpenError> {
        let file = match &self.file {
            Some(file) => file.clone(),
            None => fs.open(&self.path).map_err(OpenError::io("open", &self.path))?,
        };
        let bytes = self.header.map_or(self.size, |header| self.size.min(header.file_bytes));
        let window = Window::new(file.clone(), self.number, bytes, max_payload_bytes);
        Ok(Segment { number: self.number, file, header: self.header, window })
    }
}

impl Segment {
    /// Whether the file is shorter than it was made: its length is durable before its name is.
    pub(super) fn is_cut(&self) -> bool {
        self.header.is_some_and(|header| self.window.size() < header.file_bytes)
    }

    /// Whether the device gives the last sector.
    pub(super) fn ends_readable(&self) -> bool {
        let mut sector = [0; 512];
        let offset = self.window.size().saturating_sub(sector.len() as u64);
        self.file.read_at(&mut sector, offset).is_ok()
    }

    /// The first good frame, and its sequence number.
    pub(super) fn first_frame(&mut self) -> Option<(u64, u64)> {
        let mut offset = DATA_OFFSET;
        while offset + HEADER_BYTES as u64 <= self.window.size() {
            if let Some(header) = self.window.header(offset)
                && self.window.payload(offset, &header).is_some()
            {
                return Some((offset, header.seq));
            }
            offset += 8;
        }
        None
    }
}
