//! Reading a log back: the longest run of frames that can be trusted, and an account of what cannot.
//!
//! A bad frame has two possible causes. Power was lost before a sync had ended: nobody was promised anything, and the
//! tail is cut. Or the device lost what had been synced: that is damage, to be stepped over and reported. They are told
//! apart by what lies behind. Each frame says what had been synced before it was written, so a good frame behind a
//! bad one either proves that the bad one had been synced or shows that it is itself a remainder of a torn batch. And
//! since a segment is synced whole before the next one is begun, every bad frame in an older segment is damage.

mod files;
mod look_ahead;
mod walk;

use std::io;
use std::path::Path;
use std::sync::Arc;

use self::files::{Files, Item, Segment};
use self::walk::{Start, Walk};
use crate::fs::{File, Fs};
use crate::newest::{Newest, NewestFile};
use crate::queue::Place;
use crate::released::{Released, ReleasedFile, Run};
use crate::segment::{DATA_OFFSET, index, segment_path};
use crate::segments::Slot;

/// A frame as it is given back by recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Its number in the log, counted from 1.
    pub seq: u64,
    /// The caller's kind.
    pub kind: u8,
    /// The caller's bytes.
    pub payload: &'a [u8],
    /// Where it is.
    pub place: Place,
    /// What it takes up, with header and padding.
    pub bytes: u32,
}

/// What opening a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// How many frames were given back.
    pub frames: u64,
    /// The last sequence number in use; 0 in a new log.
    pub last_seq: u64,
    /// Bytes at the end that are left out: an unfinished write, or damage in the last batch that was synced. Behind that
    /// there is nothing that could tell which.
    pub truncated_bytes: u64,
    /// What had been synced and cannot be read. It stays where it is until its segment is recycled.
    pub damages: Vec<Damage>,
}

/// A place in a log that had been synced and cannot be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The number of the segment, which is its file name in hexadecimal.
    pub segment: u64,
    /// Where in the file, in bytes; a copy is kept beside the log as `damaged-<segment>-<offset>`.
    pub offset: u64,
    /// How many bytes; 0 if the file ends there, or is missing.
    pub len: u64,
    /// The first sequence number that was lost.
    pub first_seq: u64,
    /// The last one; less than `first_seq` if no frame is known to be lost. At the end of the log nothing tells how
    /// many were: from `first_seq` on it may be any number.
    pub last_seq: u64,
}

impl Damage {
    /// Whether it goes on to the end of the file.
    fn reaches(&self, segment: &Segment) -> bool {
        self.segment == segment.number && self.offset + self.len >= segment.window.size()
    }
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The files cannot be used at present.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file or folder.
        path: String,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// A file was written by another version of this program.
    #[error("{path} has format version {found}, this program reads and writes version {supported}")]
    Version {
        /// Which file.
        path: String,
        /// The version in the file.
        found: u32,
        /// The only version that this program knows.
        supported: u32,
    },
}

impl OpenError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| OpenError::Io { doing, path, source }
    }
}

/// A log as recovery leaves it: everything delivered is durable, and nothing stale lies ahead of the head.
pub(crate) struct Recovered {
    pub(crate) report: Recovery,
    /// Oldest first.
    pub(crate) segments: Vec<Slot>,
    pub(crate) active: Option<Active>,
    /// The newest segment that ever was, as far as anything knows.
    pub(crate) newest: Newest,
    pub(crate) newest_file: NewestFile,
    /// What was given up, if that is known.
    pub(crate) released: Option<Released>,
    pub(crate) released_file: ReleasedFile,
    /// Segments that were given up but are still there.
    pub(crate) leftovers: Vec<u64>,
    pub(crate) spares: Vec<u64>,
}

/// The last segment, as far as it has been written.
pub(crate) struct Active {
    pub(crate) file: Arc<dyn File>,
    pub(crate) head: u64,
    pub(crate) end: u64,
    /// Nothing may be appended here: what lies behind the head is the proof that what lies before was synced.
    pub(crate) sealed: bool,
}

/// Who gets the frames.
pub(crate) enum Replay<'a> {
    /// Everybody's in order.
    InOrder(&'a mut dyn FnMut(Frame<'_>)),
    /// Those of one segment in order; so many threads read segments at the same time.
    BySegment(usize, &'a (dyn Fn(Frame<'_>) + Sync)),
}

/// What recovery needs to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecoverOptions {
    pub(crate) max_payload_bytes: u64,
    /// Frames up to this one are known.
    pub(crate) replay_after: u64,
    /// How many files may stay open, beside the newest one.
    pub(crate) max_open_files: usize,
}

/// Is called before something goes by which a later opening could tell what this one has found. May be called again; if
/// it fails, the opening does.
pub(crate) type BeforeLoss<'a> = &'a mut dyn FnMut() -> io::Result<()>;

/// Reads the log in `dir`, gives every good frame that is asked for to `replay`, and mends the end.
pub(crate) fn recover(
    fs: &dyn Fs,
    dir: &Path,
    options: RecoverOptions,
    replay: &mut Replay<'_>,
    before_cut: BeforeLoss<'_>,
) -> Result<Recovered, OpenError> {
    let (newest_file, recorded) = NewestFile::open(fs, dir)?;
    let (released_file, released) = ReleasedFile::open(fs, dir)?;
    let files = Files::list(fs, dir, options, released.as_ref(), recorded)?;
    let walks = match replay {
        Replay::BySegment(threads, each) if *threads > 1 => files.walk_many(*threads, *each)?,
        _ => Vec::new(),
    };
    let mut walks = walks.into_iter().peekable();
    let mut in_order = |frame: Frame<'_>| match replay {
        Replay::InOrder(each) => each(frame),
        Replay::BySegment(_, each) => each(frame),
    };

    let mut reader = Reader {
        report: Recovery::default(),
        recorded,
        expected: released.as_ref().map(|released| released.first_seq),
        proven: 0,
        last: released.as_ref().map(|released| released.oldest - 1),
    };
    let mut segments = Vec::new();
    let mut active = None;
    for at in 0..files.items.len() {
        let (limit, is_last) = (files.limit(at), at + 1 == files.items.len());
        if let Item::Released(run) = &files.items[at] {
            reader.pass(run);
            continue;
        }
        let is_known = files.is_known(at);
        let mut segment = files.open(at)?;
        let start = reader.enter(&mut segment);
        let first_seq = reader.expected.unwrap_or(1);
        let known = reader.report.damages.len();
        let mut walk = match walks.next_if(|(number, _)| *number == segment.number) {
            Some((_, walk)) => walk,
            None if is_known => Walk::over(&segment, reader.expected, limit),
            None => Walk::run(
                &mut segment,
                start,
                reader.expected,
                limit,
                options.replay_after,
                &mut in_order,
            ),
        };
        reader.take(&mut walk);
        if segment.is_cut() {
            walk.damaged = true;
            // Unless the frames that are missing said so already.
            if reader.report.damages[known..].iter().all(|damage| !damage.reaches(&segment)) {
                reader.cut(&segment, walk.head);
            }
        }
        segments.push(Slot {
            used_bytes: walk.head,
            end_seq: reader.expected.unwrap_or(first_seq).max(first_seq),
            file: files.kept(at),
            ..Slot::new(segment.number, first_seq, segment.file.clone())
        });
        if is_last {
            active = Some(reader.mend(dir, segment, &walk, before_cut)?);
        }
    }
    let last = reader.last.unwrap_or(0);
    let mut newest = recorded;
    if last > recorded.number {
        let its = segments.last().filter(|slot: &&Slot| slot.number == last);
        let first_seq = its.map_or(reader.expected, |slot| Some(slot.first_seq)).unwrap_or(1);
        newest = Newest { number: last, first_seq };
        if last > recorded.number + 1 {
            // Frames go to a segment only when it is recorded, so there is no telling what else is gone.
            reader.lost(last + 1, first_seq);
        }
    } else if last < recorded.number {
        // If nothing is known of older ones, they may have been given up.
        reader.lost(reader.last.map_or(recorded.number, |last| last + 1), recorded.first_seq);
        active = None;
    }
    let mut report = reader.report;
    report.last_seq = reader.expected.map_or(0, |expected| expected - 1);
    for damage in &report.damages {
        keep_copy(fs, dir, damage);
    }
    let Files { leftovers, spares, .. } = files;
    Ok(Recovered {
        report,
        segments,
        active,
        newest,
        newest_file,
        released,
        released_file,
        leftovers,
        spares,
    })
}

struct Reader {
    report: Recovery,
    recorded: Newest,
    /// The next sequence number, once the first is known.
    expected: Option<u64>,
    /// The greatest sequence number that anything read so far says was synced.
    proven: u64,
    /// The last segment that was accounted for, once there is one.
    last: Option<u64>,
}

impl Reader {
    /// Goes past segments that were given up.
    fn pass(&mut self, run: &Run) {
        self.missing(*run.numbers.start(), run.first_seq);
        self.expected = self.expected.max(Some(run.end_seq));
        // What is given up was synced whole.
        self.proven = self.proven.max(run.end_seq - 1);
        self.last = Some(*run.numbers.end());
    }

    /// Notes what is missing before segment `number`, which begins with `first_seq`.
    fn missing(&mut self, number: u64, first_seq: u64) {
        let expected = self.expected.unwrap_or(first_seq);
        let file_missing = self.last.is_some_and(|last| number > last + 1);
        if expected < first_seq || (expected == first_seq && file_missing) {
            let segment = self.last.map_or(number, |last| (last + 1).min(number));
            let last_seq = first_seq - 1;
            self.damage(Damage { segment, offset: 0, len: 0, first_seq: expected, last_seq });
        }
    }

    /// Notes what a walk through a segment found.
    fn take(&mut self, walk: &mut Walk) {
        self.report.frames += walk.frames;
        self.expected = walk.expected;
        self.proven = self.proven.max(walk.proven);
        for damage in std::mem::take(&mut walk.damages) {
            self.damage(damage);
        }
    }

    /// Notes what is missing before the frames of `segment`, and says where to begin.
    fn enter(&mut self, segment: &mut Segment) -> Start {
        let start = self.start(segment);
        self.last = Some(segment.number);
        start
    }

    fn start(&mut self, segment: &mut Segment) -> Start {
        let Some(header) = segment.header else {
            // That the header is gone loses no frame by itself.
            let len = segment.window.size().min(DATA_OFFSET);
            if segment.number == 1 {
                self.expected = self.expected.or(Some(1));
            } else if segment.number == self.recorded.number {
                self.expected = self.expected.or(Some(self.recorded.first_seq));
            }
            let next = self.expected.unwrap_or(1);
            self.damage(Damage {
                segment: segment.number,
                offset: 0,
                len,
                first_seq: next,
                last_seq: next - 1,
            });
            let found = if self.expected.is_none() { segment.first_frame() } else { None };
            if let Some((offset, seq)) = found {
                self.expected = Some(seq);
                if offset > DATA_OFFSET {
                    let len = offset - DATA_OFFSET;
                    let number = segment.number;
                    self.damage(Damage {
                        segment: number,
                        offset: DATA_OFFSET,
                        len,
                        first_seq: seq,
                        last_seq: seq - 1,
                    });
                }
                return Start { offset, damaged: true };
            }
            return Start { offset: DATA_OFFSET, damaged: true };
        };
        self.missing(segment.number, header.first_seq);
        let expected = self.expected.unwrap_or(header.first_seq);
        let mut damaged = false;
        if expected > header.first_seq {
            // Somebody put a file here that does not belong behind the one before.
            let len = segment.window.size();
            let number = segment.number;
            self.damage(Damage {
                segment: number,
                offset: 0,
                len,
                first_seq: expected,
                last_seq: expected - 1,
            });
            damaged = true;
        }
        self.expected = Some(expected.max(header.first_seq));
        self.proven = self.proven.max(header.first_seq - 1);
        Start { offset: DATA_OFFSET, damaged }
    }

    /// Notes that segments from number `segment` on are missing at the end, where `first_seq` was in use.
    fn lost(&mut self, segment: u64, first_seq: u64) {
        let next = self.expected.unwrap_or(first_seq);
        let after = next.max(first_seq);
        self.damage(Damage { segment, offset: 0, len: 0, first_seq: next, last_seq: after - 1 });
        self.expected = Some(after);
    }

    /// Notes that a file ends too early, with good frames up to `head`.
    fn cut(&mut self, segment: &Segment, head: u64) {
        let (size, next) = (segment.window.size(), self.expected.unwrap_or(1));
        let offset = head.min(size);
        self.damage(Damage {
            segment: segment.number,
            offset,
            len: size - offset,
            first_seq: next,
            last_seq: next - 1,
        });
    }

    fn damage(&mut self, damage: Damage) {
        if !planted!(CorruptFrameSkipped) {
            self.report.damages.push(damage);
        }
    }

    /// Makes the last segment ready for the next append.
    fn mend(
        &mut self,
        dir: &Path,
        segment: Segment,
        tail: &Walk,
        before_cut: BeforeLoss<'_>,
    ) -> Result<Active, OpenError> {
        let path = segment_path(dir, segment.number);
        let io = || OpenError::io("mend", &path);
        let mut dirty = false;
        // The process may have ended between a failed sync and now. What we read is then in the kernel's memory only,
        // and clean, so that no sync saves it. Writing it again does.
        let last = self.expected.map_or(0, |expected| expected - 1);
        if last > self.proven {
            let from = tail.checkpoints.iter().rev().find(|(seq, _)| *seq <= self.proven + 1);
            let mut offset = from.map_or(DATA_OFFSET, |(_, offset)| *offset);
            let mut buf = vec![0; index((tail.head - offset).min(1 << 20))];
            while offset < tail.head {
                let len = index((tail.head - offset).min(buf.len() as u64));
                let count = segment.file.read_at(&mut buf[..len], offset).map_err(io())?;
                if count < len {
                    return Err(io()(io::ErrorKind::UnexpectedEof.into()));
                }
                segment.file.write_at(&buf[..len], offset).map_err(io())?;
                offset += len as u64;
            }
            dirty = true;
        }
        self.report.truncated_bytes = tail.remains_end - tail.head;
        // A device that cannot be read may be a device that cannot be read just now. Behind the head there may be frames
        // that were acknowledged, to be neither cut nor written over. One bad spot leaves the end of the file readable.
        if segment.window.unreadable_bytes() > 0 && (!tail.damaged || !segment.ends_readable()) {
            return Err(io()(io::Error::other(
                "the end of the log cannot be read, so nothing is cut",
            )));
        }
        if tail.remains_end > tail.head {
            before_cut().map_err(io())?;
        }
        if tail.remains_end > tail.head && !tail.damaged && !planted!(TornTailKept) {
            let zeros = vec![0; index((tail.remains_end - tail.head).min(1 << 20))];
            let mut offset = tail.head;
            while offset < tail.remains_end {
                let len = index((tail.remains_end - offset).min(zeros.len() as u64));
                segment.file.write_at(&zeros[..len], offset).map_err(io())?;
                offset += len as u64;
            }
            dirty = true;
        }
        if dirty {
            segment.file.sync_data().map_err(io())?;
        }
        let keeps_tail = planted!(TornTailKept) && !tail.damaged;
        Ok(Active {
            file: segment.file,
            head: if keeps_tail { tail.remains_end.next_multiple_of(8) } else { tail.head },
            end: segment.window.size(),
            sealed: tail.damaged,
        })
    }
}

/// Sets aside what could not be read, for whoever wants to look at it. The report is what counts; this may fail.
fn keep_copy(fs: &dyn Fs, dir: &Path, damage: &Damage) {
    let path = dir.join(format!("damaged-{:016x}-{}", damage.segment, damage.offset));
    if damage.len == 0 || fs.open(&path).is_ok() {
        return;
    }
    let copy = || -> io::Result<()> {
        let from = fs.open(&segment_path(dir, damage.segment))?;
        let to = fs.create(&path)?;
        let mut buf = vec![0; index(damage.len.min(1 << 20))];
        let mut done = 0;
        while done < damage.len {
            let len = index((damage.len - done).min(buf.len() as u64));
            let count = from.read_at(&mut buf[..len], damage.offset + done)?;
            to.write_at(&buf[..count], done)?;
            if count < len {
                break;
            }
            done += count as u64;
        }
        to.sync_data()?;
        fs.sync_dir(dir)
    };
    let _ = copy();
}
