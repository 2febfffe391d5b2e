//! Reading a log back: the longest run of frames that can be trusted, and an account of what cannot.
//!
//! A bad frame has two possible causes. Power was lost before a sync had ended: nobody was promised anything, and the
//! tail is cut. Or the device lost what had been synced: that is damage, to be stepped over and reported. They are told
//! apart by what lies behind. Each frame says what had been synced before it was written, so a good frame behind a
//! bad one either proves that the bad one had been synced or shows that it is itself a remainder of a torn batch. And
//! since a segment is synced whole before the next one is begun, every bad frame in an older segment is damage.

mod look_ahead;

use std::io;
use std::path::Path;
use std::sync::Arc;

use self::look_ahead::look_ahead;
use crate::frame::{HEADER_BYTES, frame_bytes};
use crate::fs::{File, Fs};
use crate::newest::{Newest, NewestFile};
use crate::queue::Place;
use crate::segment::{
    BadHeader, DATA_OFFSET, FORMAT_VERSION, SegmentHeader, Window, index, segment_number,
    segment_path, spare_number,
};
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

/// Reads the log in `dir`, gives every good frame to `replay` in order, and mends the end.
pub(crate) fn recover(
    fs: &dyn Fs,
    dir: &Path,
    max_payload: u64,
    replay: &mut dyn FnMut(Frame<'_>),
) -> Result<Recovered, OpenError> {
    let names = fs.list(dir).map_err(OpenError::io("list", dir))?;
    let spares = names.iter().filter_map(|name| spare_number(name)).collect();
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    let files = numbers
        .iter()
        .map(|number| open_segment(fs, dir, *number, max_payload))
        .collect::<Result<Vec<_>, _>>()?;

    let (newest_file, recorded) = NewestFile::open(fs, dir)?;

    let mut reader = Reader {
        replay,
        report: Recovery::default(),
        recorded,
        expected: None,
        proven: 0,
        checkpoints: Vec::new(),
    };
    let mut segments = Vec::new();
    let mut active = None;
    let mut files = files.into_iter().peekable();
    let mut previous = None;
    while let Some(mut segment) = files.next() {
        let is_last = files.peek().is_none();
        let next = match files.peek_mut() {
            Some(next) => next.first_seq().map(|seq| (next.number, seq)),
            None => {
                (recorded.number > segment.number).then_some((recorded.number, recorded.first_seq))
            }
        };
        let limit =
            next.map(|(number, seq)| Limit { seq, file_missing: number > segment.number + 1 });
        let start = reader.enter(previous, &mut segment);
        previous = Some(segment.number);
        let first_seq = reader.expected.unwrap_or(1);
        let known = reader.report.damages.len();
        let mut tail = reader.walk(&mut segment, start, limit);
        if segment.is_cut() {
            tail.damaged = true;
            // Unless the frames that are missing said so already.
            if reader.report.damages[known..].iter().all(|damage| !damage.reaches(&segment)) {
                reader.cut(&segment, tail.head);
            }
        }
        segments.push(Slot {
            used_bytes: tail.head,
            end_seq: reader.expected.unwrap_or(first_seq).max(first_seq),
            ..Slot::new(segment.number, first_seq, segment.file.clone())
        });
        if is_last {
            active = Some(reader.mend(dir, segment, tail)?);
        }
    }
    let last = segments.last().map_or(0, |last: &Slot| last.number);
    let mut newest = recorded;
    if last > recorded.number {
        let first_seq = segments.last().map_or(1, |last| last.first_seq);
        newest = Newest { number: last, first_seq };
        if last > recorded.number + 1 {
            // Frames go to a segment only when it is recorded, so there is no telling what else is gone.
            reader.lost(last + 1, first_seq);
        }
    } else if last < recorded.number {
        // If there is no segment at all, the older ones may have been recycled.
        reader.lost(if last > 0 { last + 1 } else { recorded.number }, recorded.first_seq);
        active = None;
    }
    let mut report = reader.report;
    report.last_seq = reader.expected.map_or(0, |expected| expected - 1);
    for damage in &report.damages {
        keep_copy(fs, dir, damage);
    }
    Ok(Recovered { report, segments, active, newest, newest_file, spares })
}

struct Segment {
    number: u64,
    file: Arc<dyn File>,
    header: Option<SegmentHeader>,
    window: Window,
}

impl Segment {
    /// Whether the file is shorter than it was made: its length is durable before its name is.
    fn is_cut(&self) -> bool {
        self.header.is_some_and(|header| self.window.size() < header.file_bytes)
    }

    /// The sequence number that this segment begins with, from its frames if its header is gone.
    fn first_seq(&mut self) -> Option<u64> {
        match self.header {
            Some(header) => Some(header.first_seq),
            None => self.first_frame().map(|(_, seq)| seq),
        }
    }

    fn first_frame(&mut self) -> Option<(u64, u64)> {
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

fn open_segment(
    fs: &dyn Fs,
    dir: &Path,
    number: u64,
    max_payload: u64,
) -> Result<Segment, OpenError> {
    let path = segment_path(dir, number);
    let file = fs.open(&path).map_err(OpenError::io("open", &path))?;
    let mut window =
        Window::open(file.clone(), number, max_payload).map_err(OpenError::io("read", &path))?;
    let len = window.size().min(DATA_OFFSET);
    let sector = window.bytes(0, len).expect("within the file");
    match SegmentHeader::decode(sector, number) {
        Ok(header) => {
            window.limit(header.file_bytes);
            Ok(Segment { number, file, header: Some(header), window })
        }
        Err(BadHeader::Damaged) => Ok(Segment { number, file, header: None, window }),
        Err(BadHeader::Version(found)) => Err(OpenError::Version {
            path: path.display().to_string(),
            found,
            supported: FORMAT_VERSION,
        }),
    }
}

/// Where the frames of the next segment begin.
#[derive(Clone, Copy)]
struct Limit {
    seq: u64,
    /// Whether there should be another segment between.
    file_missing: bool,
}

/// Where the frames of a segment begin.
struct Start {
    offset: u64,
    damaged: bool,
}

/// Where the good frames of a segment end.
struct Tail {
    head: u64,
    /// The end of what was written behind the head and is to be cut; the head itself if there is nothing.
    remains_end: u64,
    damaged: bool,
}

struct Reader<'a> {
    replay: &'a mut dyn FnMut(Frame<'_>),
    report: Recovery,
    recorded: Newest,
    /// The next sequence number, once the first is known.
    expected: Option<u64>,
    /// The greatest sequence number that anything read so far says was synced.
    proven: u64,
    /// Now and then, where in the present segment a frame is.
    checkpoints: Vec<(u64, u64)>,
}

/// How far checkpoints are apart.
const CHECKPOINT_BYTES: u64 = 64 * 1024;

impl Reader<'_> {
    /// Notes what is missing before the frames of `segment`, and says where to begin.
    fn enter(&mut self, previous: Option<u64>, segment: &mut Segment) -> Start {
        self.checkpoints.clear();
        let Some(header) = segment.header else {
            // That the header is gone loses no frame by itself.
            let len = segment.window.size().min(DATA_OFFSET);
            if segment.number == 1 {
                self.expected = Some(1);
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
        let expected = self.expected.unwrap_or(header.first_seq);
        let mut damaged = false;
        let file_missing = previous.is_some_and(|previous| segment.number > previous + 1);
        if expected < header.first_seq || (expected == header.first_seq && file_missing) {
            self.damage(Damage {
                segment: previous
                    .map_or(segment.number, |previous| (previous + 1).min(segment.number)),
                offset: 0,
                len: 0,
                first_seq: expected,
                last_seq: header.first_seq - 1,
            });
        } else if expected > header.first_seq {
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

    /// Delivers the frames of one segment, up to where the next one begins if there is one.
    fn walk(&mut self, segment: &mut Segment, start: Start, limit: Option<Limit>) -> Tail {
        let Start { mut offset, mut damaged } = start;
        let Some(mut expected) = self.expected else {
            return Tail { head: offset, remains_end: offset, damaged };
        };
        self.checkpoints.push((expected, offset));
        loop {
            // What follows was torn, then written again in the next segment.
            if limit.is_some_and(|limit| limit.seq == expected) {
                break;
            }
            let header = segment.window.header(offset);
            if let Some(stale) = header.filter(|_| planted!(RecycledFrameAccepted)) {
                expected = stale.seq;
            }
            if let Some(header) = header.filter(|header| header.seq == expected)
                && let Some(payload) = segment.window.payload(offset, &header)
            {
                let place = Place { segment: segment.number, offset };
                let bytes = header.frame_bytes();
                (self.replay)(Frame { seq: expected, kind: header.kind, payload, place, bytes });
                self.report.frames += 1;
                self.proven = self.proven.max(header.synced_through());
                if self.checkpoints.last().is_none_or(|(_, at)| offset - at >= CHECKPOINT_BYTES) {
                    self.checkpoints.push((expected, offset));
                }
                expected += 1;
                offset += frame_bytes(u64::from(header.len));
                continue;
            }
            let skip = header.map_or(8, |header| frame_bytes(u64::from(header.len)));
            let ahead = look_ahead(segment, offset, skip, expected, limit.map(|limit| limit.seq));
            self.proven = self.proven.max(ahead.proven);
            let resume = match (ahead.candidate, limit) {
                (Some(candidate), Some(_)) => candidate,
                (Some(candidate), None) if ahead.proven >= expected => candidate,
                // Here nothing is wrong: what is missing was in the missing file.
                (None, Some(limit)) if limit.file_missing && ahead.remains_end <= offset => break,
                (None, Some(limit)) => {
                    let len = segment.window.size().saturating_sub(offset);
                    self.damage(Damage {
                        segment: segment.number,
                        offset,
                        len,
                        first_seq: expected,
                        last_seq: limit.seq - 1,
                    });
                    expected = limit.seq;
                    break;
                }
                (_, None) => {
                    self.expected = Some(expected);
                    return Tail {
                        head: offset,
                        remains_end: ahead.remains_end.max(offset),
                        damaged,
                    };
                }
            };
            let (at, seq) = resume;
            self.damage(Damage {
                segment: segment.number,
                offset,
                len: at - offset,
                first_seq: expected,
                last_seq: seq - 1,
            });
            damaged = true;
            (offset, expected) = (at, seq);
        }
        self.expected = Some(expected);
        Tail { head: offset, remains_end: offset, damaged }
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
    fn mend(&mut self, dir: &Path, segment: Segment, tail: Tail) -> Result<Active, OpenError> {
        let path = segment_path(dir, segment.number);
        let io = || OpenError::io("mend", &path);
        let mut dirty = false;
        // The process may have ended between a failed sync and now. What we read is then in the kernel's memory only,
        // and clean, so that no sync saves it. Writing it again does.
        let last = self.expected.map_or(0, |expected| expected - 1);
        if last > self.proven {
            let from = self.checkpoints.iter().rev().find(|(seq, _)| *seq <= self.proven + 1);
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
        if tail.remains_end > tail.head && !tail.damaged && !planted!(TornTailKept) {
            // A device that cannot be read may be a device that cannot be read just now.
            if segment.window.unreadable_bytes() > 0 {
                return Err(io()(io::Error::other(
                    "the end of the log cannot be read, so nothing is cut",
                )));
            }
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
