//! Frames read where they lie: one by its place, or those of a segment one after the other.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::frame::{FrameHeader, HEADER_BYTES, checksum, frame_bytes};
use crate::fs::File;
use crate::log::Log;
use crate::queue::Place;
use crate::recovery::{Damage, Frame};
use crate::segment::{DATA_OFFSET, Window, epoch, index};

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no whole frame of this size. It was there if it was ever written: the device lost it.
    #[error("the frame is damaged")]
    Damaged,
    /// Its segment was given up meanwhile: if the frame is needed, it was written again elsewhere.
    #[error("the segment was given up")]
    Gone,
    /// The device does not give it at present.
    #[error("the frame cannot be read")]
    Io(#[from] io::Error),
}

/// What reading a part of a segment found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Where to go on; `None` if that was all.
    pub next_offset: Option<u64>,
    /// What could not be read. It reaches beyond the part that was asked for if the damage does.
    pub damages: Vec<Damage>,
}

impl Log {
    /// Reads the frame at `place`, which takes up `bytes`, into `buf`, whose content is lost. Returns its kind, and
    /// where its payload is in `buf`.
    ///
    /// One read of the file, and no waiting for anybody's write or sync. Only for frames whose submission has been told
    /// of, or that were found at opening.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(
        &self,
        place: Place,
        bytes: u32,
        buf: &mut Vec<u8>,
    ) -> Result<(u8, Range<usize>), ReadError> {
        self.read_there(place, bytes, buf).map_err(|error| {
            // The file may have become another segment under our hands.
            if self.segments.has(place.segment) { error } else { ReadError::Gone }
        })
    }

    fn read_there(
        &self,
        place: Place,
        bytes: u32,
        buf: &mut Vec<u8>,
    ) -> Result<(u8, Range<usize>), ReadError> {
        if u64::from(bytes) > frame_bytes(self.max_payload_bytes()) {
            return Err(ReadError::Damaged);
        }
        let file = self.segments.file(place.segment)?.ok_or(ReadError::Gone)?;
        read_frame(&*file, place, bytes, buf)
    }

    /// Gives the frames of a sealed segment to `each`, in order, from byte `from_offset` on, which is 0 or what an
    /// earlier call said, until they have `max_bytes` (one at least), in large reads.
    ///
    /// # Errors
    /// Whatever the file system says; [`io::ErrorKind::NotFound`] if there is no such segment any more, and
    /// [`io::ErrorKind::InvalidInput`] if it is still being written to. What the device does not give is damage.
    pub fn walk(
        &self,
        segment: u64,
        from_offset: u64,
        max_bytes: u64,
        each: &mut dyn FnMut(Frame<'_>),
    ) -> io::Result<Walked> {
        let bounds = self.segments.with(|slots| {
            let (_newest, sealed) = slots.split_last()?;
            let slot = sealed.iter().find(|slot| slot.number == segment)?;
            Some((slot.first_seq, slot.end_seq))
        });
        let Some((first_seq, end_seq)) = bounds else {
            let is_newest = self.segments.has(segment);
            return Err(if is_newest {
                io::ErrorKind::InvalidInput.into()
            } else {
                io::ErrorKind::NotFound.into()
            });
        };
        let file = self.segments.file(segment)?.ok_or(io::ErrorKind::NotFound)?;
        let mut walk = Walk::open(file, segment, self.max_payload_bytes(), first_seq..end_seq)?;
        let walked = walk.run(from_offset, max_bytes, each);
        // What looks like damage may be a file that became another segment under our hands.
        if !walked.damages.is_empty() && !self.segments.has(segment) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(walked)
    }
}

/// Reads the frame at `place`, which takes up `bytes`, from the file of its segment into `buf`.
pub(crate) fn read_frame(
    file: &dyn File,
    place: Place,
    bytes: u32,
    buf: &mut Vec<u8>,
) -> Result<(u8, Range<usize>), ReadError> {
    let len = index(bytes.into());
    if len < HEADER_BYTES {
        return Err(ReadError::Damaged);
    }
    buf.resize(len, 0);
    if file.read_at(buf, place.offset)? < len {
        return Err(ReadError::Damaged);
    }
    let epoch = epoch(place.segment);
    let (header, rest) = buf.split_first_chunk().ok_or(ReadError::Damaged)?;
    let header = FrameHeader::decode(header, epoch).ok_or(ReadError::Damaged)?;
    if frame_bytes(u64::from(header.len)) != u64::from(bytes) {
        return Err(ReadError::Damaged);
    }
    let payload = &rest[..index(header.len.into())];
    if checksum(epoch, payload) != header.payload_crc && !planted!(CorruptFrameServed) {
        return Err(ReadError::Damaged);
    }
    Ok((header.kind, HEADER_BYTES..HEADER_BYTES + payload.len()))
}

struct Walk {
    segment: u64,
    /// The sequence numbers that the segment has.
    seqs: Range<u64>,
    window: Window,
    damages: Vec<Damage>,
}

impl Walk {
    fn open(
        file: Arc<dyn File>,
        segment: u64,
        max_payload_bytes: u64,
        seqs: Range<u64>,
    ) -> io::Result<Self> {
        let window = Window::open(file, segment, max_payload_bytes)?;
        Ok(Self { segment, seqs, window, damages: Vec::new() })
    }

    fn run(&mut self, from_offset: u64, max_bytes: u64, each: &mut dyn FnMut(Frame<'_>)) -> Walked {
        let mut offset = from_offset.max(DATA_OFFSET);
        let until = offset.saturating_add(max_bytes.max(1));
        // In the middle only the frame itself tells its number; nothing but a good one is ever gone on from.
        let mut expected = (offset == DATA_OFFSET).then_some(self.seqs.start);
        let mut next_offset = None;
        while expected.is_none_or(|seq| seq < self.seqs.end) {
            let found = self.good_frame(offset, expected);
            let Some((at, header)) = found.or_else(|| self.good_frame_behind(offset, expected))
            else {
                self.damage(offset, self.window.size(), expected, self.seqs.end);
                break;
            };
            if at > offset {
                self.damage(offset, at, expected, header.seq);
            } else if at >= until {
                next_offset = Some(at);
                break;
            }
            let place = Place { segment: self.segment, offset: at };
            let payload = self.window.bytes(at + HEADER_BYTES as u64, u64::from(header.len));
            let payload = payload.expect("it was there a moment ago");
            let bytes = header.frame_bytes();
            each(Frame { seq: header.seq, kind: header.kind, payload, place, bytes });
            offset = at + u64::from(bytes);
            expected = Some(header.seq + 1);
        }
        Walked { next_offset, damages: std::mem::take(&mut self.damages) }
    }

    fn good_frame(&mut self, offset: u64, expected: Option<u64>) -> Option<(u64, FrameHeader)> {
        let header = self.window.header(offset)?;
        let fits = match expected {
            Some(expected) => header.seq == expected,
            None => self.seqs.contains(&header.seq),
        };
        (fits && self.window.payload(offset, &header).is_some()).then_some((offset, header))
    }

    /// The first good frame behind a bad one that can belong there.
    fn good_frame_behind(&mut self, bad: u64, expected: Option<u64>) -> Option<(u64, FrameHeader)> {
        let (least, from) = match expected {
            Some(expected) => (expected + 1, bad),
            None => (self.seqs.start, DATA_OFFSET),
        };
        let mut offset = bad;
        let mut step = match self.window.header(bad) {
            Some(header) => u64::from(header.frame_bytes()),
            None => 8,
        };
        loop {
            offset += step;
            if offset + HEADER_BYTES as u64 > self.window.size() {
                return None;
            }
            step = 8;
            let Some(header) = self.window.header(offset) else { continue };
            // So many frames cannot have stood in so few bytes: this one is part of somebody's payload.
            let room = (offset - from) / HEADER_BYTES as u64;
            let fits = (least..self.seqs.end).contains(&header.seq) && header.seq - least <= room;
            if self.window.payload(offset, &header).is_some() {
                if fits {
                    return Some((offset, header));
                }
                step = u64::from(header.frame_bytes());
            }
        }
    }

    fn damage(&mut self, from: u64, to: u64, expected: Option<u64>, next_seq: u64) {
        self.damages.push(Damage {
            segment: self.segment,
            offset: from,
            len: to.saturating_sub(from),
            first_seq: expected.unwrap_or(self.seqs.start),
            last_seq: next_seq - 1,
        });
    }
}
