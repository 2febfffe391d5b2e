//! One file of the log: its name, its header, and a window to read it through.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::frame::{FrameHeader, HEADER_BYTES, MAX_SEQ, checksum, frame_bytes};
use crate::fs::File;

/// The header has the first sector to itself, so that no write of a frame can tear it.
pub(crate) const DATA_OFFSET: u64 = 512;

/// The version of the format that this code reads and writes.
pub(crate) const FORMAT_VERSION: u32 = 2;

const MAGIC: [u8; 8] = *b"QUORLOG\n";
const HEADER_LEN: usize = 44;
/// Where the header's own CRC is: it covers everything before.
const CRC_OFFSET: usize = HEADER_LEN - 4;
const RECYCLED: u32 = 1;

/// What the first sector of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) number: u64,
    /// The sequence number of the first frame; everything before it is in older segments, or recycled.
    pub(crate) first_seq: u64,
    /// Whether old frames may lie where nothing has been written yet; otherwise there are zeros.
    pub(crate) recycled: bool,
    /// The length of the file, which never changes: a shorter one was cut.
    pub(crate) file_bytes: u64,
}

/// Why the first sector could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    Damaged,
    /// Written whole and well by another version of this code.
    Version(u32),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; 512] {
        let mut bytes = [0; 512];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(if self.recycled { RECYCLED } else { 0 }).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_seq.to_le_bytes());
        bytes[32..CRC_OFFSET].copy_from_slice(&self.file_bytes.to_le_bytes());
        let crc = checksum(0, &bytes[..CRC_OFFSET]);
        bytes[CRC_OFFSET..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header of the segment whose file name says `number`.
    pub(crate) fn decode(bytes: &[u8], number: u64) -> Result<Self, BadHeader> {
        let word = |at: usize| {
            bytes
                .get(at..at + 4)
                .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        };
        let fields = || {
            Some((
                word(8)?,
                word(12)?,
                long(word(16)?, word(20)?),
                long(word(24)?, word(28)?),
                long(word(32)?, word(36)?),
                word(CRC_OFFSET)?,
            ))
        };
        let Some((version, flags, named, first_seq, file_bytes, crc)) = fields() else {
            return Err(BadHeader::Damaged);
        };
        if bytes[..8] != MAGIC || checksum(0, &bytes[..CRC_OFFSET]) != crc {
            return Err(BadHeader::Damaged);
        }
        if version != FORMAT_VERSION {
            return Err(BadHeader::Version(version));
        }
        // A file that was copied to another name has frames of another epoch: nothing in it could be read.
        if named != number {
            return Err(BadHeader::Damaged);
        }
        // Nobody writes these, and what is reckoned from them would overflow.
        if !(1..=MAX_SEQ).contains(&first_seq) || file_bytes < DATA_OFFSET {
            return Err(BadHeader::Damaged);
        }
        Ok(Self { number, first_seq, recycled: flags & RECYCLED != 0, file_bytes })
    }
}

fn long(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// What both checksums of a frame start from: a number that no two segments of a log share within four billion.
pub(crate) fn epoch(number: u64) -> u32 {
    let number = if planted!(RecycledFrameAccepted) { 0 } else { number };
    u32::try_from(number & u64::from(u32::MAX)).expect("masked to 32 bits")
}

/// The file of a segment.
pub(crate) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.qlog"))
}

/// The number in a segment's file name.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".qlog")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// The file of a spare, which waits to become a segment.
pub(crate) fn spare_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("spare-{number}.qspare"))
}

/// The number in a spare's file name.
pub(crate) fn spare_number(name: &str) -> Option<u64> {
    name.strip_prefix("spare-")?.strip_suffix(".qspare")?.parse().ok()
}

/// Reads a segment through one buffer, so that a big one costs little memory.
pub(crate) struct Window {
    file: Arc<dyn File>,
    epoch: u32,
    size: u64,
    max_payload: u64,
    buf: Vec<u8>,
    start: u64,
    /// Bytes that the device would not give; they read as zeros.
    unreadable_bytes: u64,
}

/// How much is read at once.
const WINDOW_BYTES: u64 = 256 * 1024;

/// What a device that fails is asked for at once, so that one bad spot costs no more than it must.
const SMALL_READ_BYTES: usize = 4096;

impl Window {
    /// The whole of a file.
    pub(crate) fn open(file: Arc<dyn File>, number: u64, max_payload: u64) -> io::Result<Self> {
        let size = file.size()?;
        Ok(Self::new(file, number, size, max_payload))
    }

    /// The first `size` bytes of a file, which has as many.
    pub(crate) fn new(file: Arc<dyn File>, number: u64, size: u64, max_payload: u64) -> Self {
        Self {
            file,
            epoch: epoch(number),
            size,
            max_payload,
            buf: Vec::new(),
            start: 0,
            unreadable_bytes: 0,
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn unreadable_bytes(&self) -> u64 {
        self.unreadable_bytes
    }

    /// The `len` bytes at `offset`; `None` if the file ends before.
    pub(crate) fn bytes(&mut self, offset: u64, len: u64) -> Option<&[u8]> {
        let end = offset.checked_add(len).filter(|end| *end <= self.size)?;
        if offset < self.start || end > self.start + self.buf.len() as u64 {
            self.fill(offset, len.max(WINDOW_BYTES).min(self.size - offset));
        }
        let from = index(offset - self.start);
        Some(&self.buf[from..from + index(len)])
    }

    /// The header at `offset` if it was written under this segment's epoch and its frame can lie within the file.
    pub(crate) fn header(&mut self, offset: u64) -> Option<FrameHeader> {
        let epoch = self.epoch;
        let (size, max_payload) = (self.size, self.max_payload);
        let bytes: &[u8; HEADER_BYTES] =
            self.bytes(offset, HEADER_BYTES as u64)?.try_into().expect("asked for as many");
        // Cheap tests first: a search for frames comes here at every eighth byte.
        let len = u64::from(FrameHeader::decode_unchecked(bytes).len);
        if len > max_payload || frame_bytes(len) > size - offset {
            return None;
        }
        FrameHeader::decode(bytes, epoch)
    }

    /// The payload behind a header that [`Self::header`] gave; `None` if it is not what was written.
    pub(crate) fn payload(&mut self, offset: u64, header: &FrameHeader) -> Option<&[u8]> {
        let epoch = self.epoch;
        let payload = self.bytes(offset + HEADER_BYTES as u64, u64::from(header.len))?;
        let good = checksum(epoch, payload) == header.payload_crc;
        (good || planted!(CorruptFrameServed)).then_some(payload)
    }

    /// Whether the `len` bytes at `offset` are all there and all zero.
    pub(crate) fn is_zero(&mut self, offset: u64, len: u64) -> bool {
        self.bytes(offset, len).is_some_and(|bytes| {
            let (words, rest) = bytes.as_chunks::<16>();
            words.iter().all(|word| u128::from_ne_bytes(*word) == 0)
                && rest.iter().all(|byte| *byte == 0)
        })
    }

    /// Whether a frame of this segment stood at `offset` although its header is broken: two of its parts still fit.
    pub(crate) fn looks_like_frame(&mut self, offset: u64, seq: u64) -> bool {
        let Some(bytes) = self.bytes(offset, HEADER_BYTES as u64) else { return false };
        let header = FrameHeader::decode_unchecked(bytes.try_into().expect("asked for as many"));
        if header.kind == 0 && header.len == 0 {
            return false;
        }
        let plausible = u64::from(header.len) <= self.max_payload;
        header.seq == seq
            || (plausible && header.len > 0 && self.payload(offset, &header).is_some())
    }

    fn fill(&mut self, offset: u64, len: u64) {
        self.start = offset;
        self.buf.resize(index(len), 0);
        if self.file.read_at(&mut self.buf, offset).is_ok_and(|n| n as u64 == len) {
            return;
        }
        for (number, piece) in self.buf.chunks_mut(SMALL_READ_BYTES).enumerate() {
            let at = offset + (number * SMALL_READ_BYTES) as u64;
            if self.file.read_at(piece, at).is_ok_and(|n| n == piece.len()) {
                continue;
            }
            piece.fill(0);
            self.unreadable_bytes += piece.len() as u64;
        }
    }
}

/// A length that is known to fit into memory as an index.
pub(crate) fn index(bytes: u64) -> usize {
    usize::try_from(bytes).expect("checked against what is in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: SegmentHeader =
        SegmentHeader { number: 9, first_seq: 100, recycled: true, file_bytes: 4096 };

    #[test]
    fn a_header_reads_as_it_was_written() {
        assert_eq!(SegmentHeader::decode(&HEADER.encode(), 9), Ok(HEADER));
    }

    #[test]
    fn a_header_under_another_name_or_changed_or_cut_is_damaged() {
        assert_eq!(SegmentHeader::decode(&HEADER.encode(), 8), Err(BadHeader::Damaged));
        for bit in 0..HEADER_LEN * 8 {
            let mut bytes = HEADER.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bytes, 9), Err(BadHeader::Damaged), "bit {bit}");
        }
        for len in 0..HEADER_LEN {
            assert_eq!(SegmentHeader::decode(&HEADER.encode()[..len], 9), Err(BadHeader::Damaged));
        }
    }

    #[test]
    fn numbers_that_nobody_writes_are_damage() {
        let is_good = |header: SegmentHeader| SegmentHeader::decode(&header.encode(), 9).is_ok();
        for (first_seq, good) in [(0, false), (1, true), (MAX_SEQ, true), (MAX_SEQ + 1, false)] {
            assert_eq!(is_good(SegmentHeader { first_seq, ..HEADER }), good, "{first_seq}");
        }
        for (file_bytes, good) in [(0, false), (DATA_OFFSET - 1, false), (DATA_OFFSET, true)] {
            assert_eq!(is_good(SegmentHeader { file_bytes, ..HEADER }), good, "{file_bytes}");
        }
    }

    #[test]
    fn a_whole_header_of_another_version_says_which() {
        let mut bytes = HEADER.encode();
        bytes[8] = 3;
        let crc = checksum(0, &bytes[..CRC_OFFSET]);
        bytes[CRC_OFFSET..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes, 9), Err(BadHeader::Version(3)));
    }

    #[test]
    fn the_format_is_frozen() {
        let bytes = HEADER.encode();
        assert_eq!(bytes[..16], *b"QUORLOG\n\x02\0\0\0\x01\0\0\0");
        assert_eq!(bytes[16..32], [9, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[32..44], [0, 16, 0, 0, 0, 0, 0, 0, 60, 109, 239, 170]);
        assert!(bytes[44..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn a_length_beyond_the_file_or_the_limit_is_not_believed_and_nothing_is_allocated_for_it() {
        use crate::fault::FaultFs;
        use crate::fs::Fs;
        let fs = FaultFs::new();
        let file = fs.create(Path::new("/segment")).unwrap();
        let claim = |len| FrameHeader { len, kind: 1, lag: 1, seq: 1, payload_crc: 0 }.encode(1);
        file.write_at(&[0; 4096], 0).unwrap();
        for (len, believed) in [(0, true), (2000, true), (2001, false), (u32::MAX, false)] {
            file.write_at(&claim(len), DATA_OFFSET).unwrap();
            let mut window = Window::open(file.clone(), 1, 2000).unwrap();
            assert_eq!(window.header(DATA_OFFSET).is_some(), believed, "{len}");
            file.write_at(&claim(len), 2560).unwrap();
            let mut window = Window::open(file.clone(), 1, u64::from(u32::MAX)).unwrap();
            assert_eq!(
                window.header(2560).is_some(),
                len <= 1512,
                "{len} with {} left",
                4096 - 2560
            );
            assert!(window.buf.capacity() <= 4096, "no more than the file has");
        }
    }

    #[test]
    fn names_read_as_they_were_written() {
        let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(segment_number(&name(segment_path(Path::new("/"), 0xabc))), Some(0xabc));
        assert_eq!(spare_number(&name(spare_path(Path::new("/"), 12))), Some(12));
        assert_eq!(segment_number("1.qlog"), None);
        assert_eq!(spare_number("spare-x.qspare"), None);
    }
}
