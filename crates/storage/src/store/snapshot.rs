//! All records of a moment in one file.
//!
//! A snapshot is whole or worth nothing: every checksum in it starts from the one before, so that the last one vouches
//! for all of them, their order and their number.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use quorate_record::{Key, MAX_ENCODED_BYTES, Record, Timestamp, decode_record, encode_record};

use crate::frame::checksum;
use crate::fs::{File, Fs, durable_replace};
use crate::recovery::OpenError;

const MAGIC: [u8; 8] = *b"QUORSNAP";
const FORMAT_VERSION: u32 = 2;
const HEADER_BYTES: usize = 40;
const ENTRY_HEADER_BYTES: usize = 8;
const END_BYTES: usize = 16;

/// How much is written and read at once.
const BUFFER_BYTES: usize = 1 << 20;

/// A snapshot that is in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The file.
    pub path: PathBuf,
    /// Its number; later ones are greater.
    pub number: u64,
    /// Everything that the log has up to this sequence number is in it, and some of what comes after may be.
    pub seq: u64,
    /// How many records it has.
    pub records: u64,
    /// Its size.
    pub bytes: u64,
}

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadSnapshot {
    /// What was written is not what is there.
    #[error("it is damaged at byte {offset}")]
    Damaged { offset: u64 },
    /// Another version of this code wrote it.
    #[error("its format version is {0}, known is {FORMAT_VERSION}")]
    Version(u32),
    /// The device does not give it.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
}

/// The file of a snapshot.
pub(crate) fn snapshot_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}.qsnap"))
}

/// The number in a snapshot's file name.
pub(crate) fn snapshot_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".qsnap")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// Where a snapshot is written before it has its name.
pub(crate) fn unfinished_path(dir: &Path) -> PathBuf {
    dir.join("snapshot.tmp")
}

/// Writes a snapshot of what `next_batch` gives until it gives nothing, reads it back, and only then gives it its name.
/// `ceiling` is asked for at the end.
pub(crate) fn publish(
    fs: &dyn Fs,
    dir: &Path,
    number: u64,
    seq: u64,
    mut next_batch: impl FnMut() -> Vec<(Key, Record)>,
    ceiling: impl FnOnce() -> Timestamp,
) -> io::Result<SnapshotInfo> {
    let unfinished = unfinished_path(dir);
    let file = fs.create(&unfinished)?;
    let mut writer = SnapshotWriter::begin(file, number, seq);
    loop {
        let batch = next_batch();
        if batch.is_empty() {
            break;
        }
        for (key, record) in batch {
            writer.add(&key, &record)?;
        }
    }
    let (file, records, bytes) = writer.end(ceiling())?;
    if !planted!(LogCutEarly) {
        file.sync_data()?;
    }
    drop(file);
    let mut found = 0;
    let again = read(fs, &unfinished, number, &mut |_, _| found += 1).map_err(io::Error::other)?;
    if (again.info.seq, again.info.bytes, found) != (seq, bytes, records) {
        return Err(io::Error::other("the snapshot does not read as it was written"));
    }
    let path = snapshot_path(dir, number);
    durable_replace(fs, &unfinished, &path)?;
    Ok(SnapshotInfo { path, number, seq, records, bytes })
}

/// What a snapshot says beside its records.
pub(crate) struct Contents {
    pub(crate) info: SnapshotInfo,
    pub(crate) ceiling: Timestamp,
}

/// Reads a snapshot, giving each record to `each`. If it turns out bad, what was given is to be forgotten.
pub(crate) fn read(
    fs: &dyn Fs,
    path: &Path,
    number: u64,
    each: &mut dyn FnMut(Key, Record),
) -> Result<Contents, BadSnapshot> {
    let mut reader = SnapshotReader::open(fs.open(path)?)?;
    let header = reader.take(HEADER_BYTES)?;
    let crc = checksum(0, &header[..32]);
    if header[..8] != MAGIC || u32_at(&header, 32) != crc {
        return Err(BadSnapshot::Damaged { offset: 0 });
    }
    match u32_at(&header, 8) {
        FORMAT_VERSION => {}
        version => return Err(BadSnapshot::Version(version)),
    }
    if u64_at(&header, 16) != number || header[36..] != [0; 4] {
        return Err(BadSnapshot::Damaged { offset: 0 });
    }
    let seq = u64_at(&header, 24);
    let mut chain = crc;
    let mut records = 0;
    loop {
        let offset = reader.offset;
        let damaged = || BadSnapshot::Damaged { offset };
        let entry = reader.take(ENTRY_HEADER_BYTES)?;
        let len = usize::try_from(u32_at(&entry, 0)).map_err(|_| damaged())?;
        if len > MAX_ENCODED_BYTES {
            return Err(damaged());
        }
        let payload = reader.take(if len == 0 { END_BYTES } else { len })?;
        chain = checksum(checksum(chain, &entry[..4]), &payload);
        if chain != u32_at(&entry, 4) {
            return Err(damaged());
        }
        if len == 0 {
            if u64_at(&payload, 0) != records || reader.offset != reader.size {
                return Err(damaged());
            }
            let ceiling = Timestamp::from_bits(u64_at(&payload, 8));
            let info =
                SnapshotInfo { path: path.to_path_buf(), number, seq, records, bytes: reader.size };
            return Ok(Contents { info, ceiling });
        }
        let (key, record) = decode_record(&payload).map_err(|_| damaged())?;
        each(key, record);
        records += 1;
    }
}

impl BadSnapshot {
    /// The error to end with, if this is nothing to go on after.
    pub(crate) fn refusal(&self, path: &Path) -> Option<OpenError> {
        match self {
            BadSnapshot::Version(found) => {
                let path = path.display().to_string();
                Some(OpenError::Version { path, found: *found, supported: FORMAT_VERSION })
            }
            BadSnapshot::Damaged { .. } | BadSnapshot::Io(_) => None,
        }
    }
}

struct SnapshotWriter {
    file: Arc<dyn File>,
    buf: Vec<u8>,
    written: u64,
    chain: u32,
    records: u64,
}

impl SnapshotWriter {
    fn begin(file: Arc<dyn File>, number: u64, seq: u64) -> Self {
        let mut buf = Vec::with_capacity(BUFFER_BYTES);
        buf.extend(MAGIC);
        buf.extend(FORMAT_VERSION.to_le_bytes());
        buf.extend([0; 4]);
        buf.extend(number.to_le_bytes());
        buf.extend(seq.to_le_bytes());
        let chain = checksum(0, &buf);
        buf.extend(chain.to_le_bytes());
        buf.extend([0; 4]);
        Self { file, buf, written: 0, chain, records: 0 }
    }

    fn add(&mut self, key: &Key, record: &Record) -> io::Result<()> {
        self.records += 1;
        self.entry(|buf| encode_record(key, record, buf));
        if self.buf.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn end(mut self, ceiling: Timestamp) -> io::Result<(Arc<dyn File>, u64, u64)> {
        let (start, chain, records) = (self.buf.len(), self.chain, self.records);
        self.entry(|buf| {
            buf.extend(records.to_le_bytes());
            buf.extend(ceiling.bits().to_le_bytes());
        });
        // The end is the one entry whose length is given as zero: no record is that short.
        self.buf[start..start + 4].fill(0);
        let crc = checksum(checksum(chain, &[0; 4]), &self.buf[start + ENTRY_HEADER_BYTES..]);
        self.buf[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
        self.flush()?;
        Ok((self.file, records, self.written))
    }

    fn entry(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let start = self.buf.len();
        self.buf.extend([0; ENTRY_HEADER_BYTES]);
        encode(&mut self.buf);
        let (head, payload) = self.buf[start..].split_at_mut(ENTRY_HEADER_BYTES);
        let len = u32::try_from(payload.len()).expect("a record is far below 4 GiB");
        head[..4].copy_from_slice(&len.to_le_bytes());
        self.chain = checksum(checksum(self.chain, &head[..4]), payload);
        head[4..].copy_from_slice(&self.chain.to_le_bytes());
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buf, self.written)?;
        self.written += self.buf.len() as u64;
        self.buf.clear();
        Ok(())
    }
}

struct SnapshotReader {
    file: Arc<dyn File>,
    size: u64,
    offset: u64,
    /// What was read ahead, from `offset` on.
    ahead: Bytes,
}

impl SnapshotReader {
    fn open(file: Arc<dyn File>) -> io::Result<Self> {
        let size = file.size()?;
        Ok(Self { file, size, offset: 0, ahead: Bytes::new() })
    }

    /// The next `len` bytes, in an allocation of their own.
    fn take(&mut self, len: usize) -> Result<Bytes, BadSnapshot> {
        let left = self.size - self.offset;
        if len as u64 > left {
            return Err(BadSnapshot::Damaged { offset: self.offset });
        }
        if self.ahead.len() < len {
            let wanted = len.max(usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER_BYTES));
            let mut buf = vec![0; wanted];
            if self.file.read_at(&mut buf, self.offset)? < wanted {
                return Err(BadSnapshot::Damaged { offset: self.offset });
            }
            self.ahead = buf.into();
        }
        self.offset += len as u64;
        Ok(Bytes::copy_from_slice(&self.ahead.split_to(len)))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
