//! The index in one file, as it is while the store goes on.
//!
//! A snapshot is whole or worth nothing: every checksum in it starts from the one before, so that the last one vouches
//! for all of them, their order and their number.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_record::{NodeId, Timestamp, Writer};

use super::shards::{Notes, Shards};
use crate::frame::checksum;
use crate::fs::{File, Fs, durable_replace};
use crate::index::{ENTRY_BYTES, Entry, SHARDS, Secret, WriterId, Writers};
use crate::queue::{LogError, Place};
use crate::recovery::OpenError;

const MAGIC: [u8; 8] = *b"QUORSNAP";
const FORMAT_VERSION: u32 = 3;
/// The oldest version that can be read; it has no notes.
const OLDEST_VERSION: u32 = 2;
const HEADER_BYTES: usize = 48;
const BLOCK_HEADER_BYTES: usize = 8;

/// Blocks that name more writers.
const WRITERS: u8 = 1;
/// Blocks of entries of one shard.
const ENTRIES: u8 = 2;
/// The last block.
const END: u8 = 3;
const NOTES: u8 = 4;

/// How much of the index is taken at once, so that nobody is held up.
const BATCH_ENTRIES: usize = 512;
const BATCH_WRITERS: usize = 512;
/// More than any block has.
const MAX_BLOCK_BYTES: usize = 64 << 10;

/// How much is written and read at once.
const BUFFER_BYTES: usize = 256 << 10;

/// A snapshot that is in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The file.
    pub path: PathBuf,
    /// Its number; later ones are greater.
    pub number: u64,
    /// It knows of everything that the log has up to this sequence number, and of some of what comes after.
    pub seq: u64,
    /// Of how many records it knows.
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

/// Why a snapshot was not written.
#[derive(Debug)]
pub(crate) enum Unpublished {
    Io(io::Error),
    Log(LogError),
}

impl From<io::Error> for Unpublished {
    fn from(error: io::Error) -> Self {
        Unpublished::Io(error)
    }
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

/// Writes down what `shards` know, reads it back, and only then gives it its name. `sync` syncs the log.
pub(crate) fn publish(
    fs: &dyn Fs,
    dir: &Path,
    number: u64,
    shards: &Shards,
    sync: impl Fn() -> Result<(), LogError>,
) -> Result<SnapshotInfo, Unpublished> {
    let mut seq = shards.account().applied_seq;
    let unfinished = unfinished_path(dir);
    let file = fs.create(&unfinished)?;
    let mut writer = SnapshotWriter::begin(file, number, shards.secret);
    let mut batch = Vec::new();
    for shard in 0..SHARDS {
        let mut after = None;
        loop {
            shards.copy_entries(shard, after, batch_entries(), &mut batch);
            let Some(last) = batch.last() else { break };
            after = Some(last.position());
            if planted!(TombstoneDroppedByAge) {
                let now_ms = shards.durable_ceiling().map_or(0, |(ceiling, _)| ceiling.wall_ms());
                let is_old = |it: &Entry| it.timestamp().wall_ms() + 3_000 < now_ms;
                batch.retain(|entry| !entry.is_tombstone() || !is_old(entry));
            }
            // Only now, so that it has the writers of all these entries.
            writer.add_writers(&shards.writers)?;
            writer.add_entries(shard, &batch)?;
        }
    }
    if planted!(SnapshotMissesWrites) {
        sync().map_err(Unpublished::Log)?;
        seq = shards.account().applied_seq;
    }
    if let Some((notes, place)) = shards.durable_notes() {
        writer.add_notes(&notes, place)?;
    }
    let (file, records, bytes) = writer.end(seq, shards.durable_ceiling())?;
    // Under the lax policies frames that are named may not be durable yet. After a crash others would be in their place.
    sync().map_err(Unpublished::Log)?;
    file.sync_data()?;
    drop(file);
    let mut found = 0;
    let again = read(fs, &unfinished, number, &mut |entries, _| found += entries.len() as u64)
        .map_err(io::Error::other)?;
    if (again.info.seq, again.info.bytes, found) != (seq, bytes, records) {
        return Err(io::Error::other("the snapshot does not read as it was written").into());
    }
    let path = snapshot_path(dir, number);
    durable_replace(fs, &unfinished, &path)?;
    Ok(SnapshotInfo { path, number, seq, records, bytes })
}

fn batch_entries() -> usize {
    if buggify!(OneRecordSnapshotted) { 1 } else { BATCH_ENTRIES }
}

/// What a snapshot says beside its entries.
pub(crate) struct Contents {
    pub(crate) info: SnapshotInfo,
    pub(crate) secret: Secret,
    pub(crate) writers: Writers,
    pub(crate) ceiling: Option<(Timestamp, Place)>,
    /// The latest notes.
    pub(crate) notes: Option<(Notes, Place)>,
}

/// Reads a snapshot, giving its entries to `each`, in order. If it turns out bad, what was given is to be forgotten.
pub(crate) fn read(
    fs: &dyn Fs,
    path: &Path,
    number: u64,
    each: &mut dyn FnMut(&[Entry], &Writers),
) -> Result<Contents, BadSnapshot> {
    let mut reader = SnapshotReader::open(fs.open(path)?)?;
    let header = reader.take(HEADER_BYTES)?;
    let crc = checksum(0, &header[..40]);
    if header[..8] != MAGIC || u32_at(header, 40) != crc {
        return Err(BadSnapshot::Damaged { offset: 0 });
    }
    match u32_at(header, 8) {
        OLDEST_VERSION..=FORMAT_VERSION => {}
        version => return Err(BadSnapshot::Version(version)),
    }
    if u64_at(header, 16) != number || header[44..] != [0; 4] {
        return Err(BadSnapshot::Damaged { offset: 0 });
    }
    let secret = Secret(header[24..40].try_into().expect("sixteen bytes"));
    let writers = Writers::new();
    let (mut ids, mut entries) = (Vec::new(), Vec::new());
    let (mut chain, mut records) = (crc, 0);
    let mut notes = None;
    loop {
        let offset = reader.offset;
        let damaged = || BadSnapshot::Damaged { offset };
        let block = reader.take(BLOCK_HEADER_BYTES)?;
        let (len_bytes, crc) = ([block[0], block[1], block[2], block[3]], u32_at(block, 4));
        let len = usize::try_from(u32::from_le_bytes(len_bytes)).map_err(|_| damaged())?;
        if len == 0 || len > MAX_BLOCK_BYTES {
            return Err(damaged());
        }
        let payload = reader.take(len)?;
        chain = checksum(checksum(chain, &len_bytes), payload);
        if chain != crc {
            return Err(damaged());
        }
        let mut fields = Fields(&payload[1..]);
        match payload[0] {
            WRITERS => fields.writers(&writers, &mut ids).ok_or_else(damaged)?,
            ENTRIES => {
                entries.clear();
                fields.entries(&ids, &mut entries).ok_or_else(damaged)?;
                records += entries.len() as u64;
                each(&entries, &writers);
            }
            NOTES => notes = Some(fields.notes().ok_or_else(damaged)?),
            END => {
                let End { seq, ceiling, records: count } = fields.end().ok_or_else(damaged)?;
                let bytes = reader.size;
                if count != records || reader.offset != bytes {
                    return Err(damaged());
                }
                let path = path.to_path_buf();
                let info = SnapshotInfo { path, number, seq, records, bytes };
                return Ok(Contents { info, secret, writers, ceiling, notes });
            }
            _ => return Err(damaged()),
        }
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
    writers: usize,
}

impl SnapshotWriter {
    fn begin(file: Arc<dyn File>, number: u64, Secret(secret): Secret) -> Self {
        let mut buf = Vec::with_capacity(BUFFER_BYTES + MAX_BLOCK_BYTES);
        buf.extend(MAGIC);
        buf.extend(FORMAT_VERSION.to_le_bytes());
        buf.extend([0; 4]);
        buf.extend(number.to_le_bytes());
        buf.extend(secret);
        let chain = checksum(0, &buf);
        buf.extend(chain.to_le_bytes());
        buf.extend([0; 4]);
        Self { file, buf, written: 0, chain, records: 0, writers: 0 }
    }

    /// Adds those writers that were not there at the last call.
    fn add_writers(&mut self, writers: &Writers) -> io::Result<()> {
        if writers.len() == self.writers {
            return Ok(());
        }
        let all = writers.all();
        for some in all[self.writers..].chunks(BATCH_WRITERS) {
            self.block(WRITERS, |buf| {
                for Writer { node, incarnation } in some {
                    let name = node.as_str().as_bytes();
                    buf.extend(incarnation.to_le_bytes());
                    buf.push(u8::try_from(name.len()).expect("node ids are short"));
                    buf.extend(name);
                }
            })?;
        }
        self.writers = all.len();
        Ok(())
    }

    fn add_entries(&mut self, shard: usize, entries: &[Entry]) -> io::Result<()> {
        self.records += entries.len() as u64;
        let base = entries.iter().map(|entry| entry.timestamp().bits()).min().unwrap_or(0);
        self.block(ENTRIES, |buf| {
            buf.push(u8::try_from(shard).expect("a shard has the first byte of a token"));
            buf.extend(base.to_le_bytes());
            entries.iter().for_each(|entry| pack(entry, base, buf));
        })
    }

    fn add_notes(&mut self, notes: &Notes, place: Place) -> io::Result<()> {
        self.block(NOTES, |buf| {
            buf.extend(place.segment.to_le_bytes());
            buf.extend(place.offset.to_le_bytes());
            notes.encode(buf);
        })
    }

    fn end(
        mut self,
        seq: u64,
        ceiling: Option<(Timestamp, Place)>,
    ) -> io::Result<(Arc<dyn File>, u64, u64)> {
        let records = self.records;
        self.block(END, |buf| {
            let (ceiling, place) = ceiling.unwrap_or((Timestamp::ZERO, Place::default()));
            for field in [seq, ceiling.bits(), place.segment, place.offset, records] {
                buf.extend(field.to_le_bytes());
            }
        })?;
        self.flush()?;
        Ok((self.file, records, self.written))
    }

    fn block(&mut self, kind: u8, encode: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let start = self.buf.len();
        self.buf.extend([0; BLOCK_HEADER_BYTES]);
        self.buf.push(kind);
        encode(&mut self.buf);
        let (head, payload) = self.buf[start..].split_at_mut(BLOCK_HEADER_BYTES);
        assert!(payload.len() <= MAX_BLOCK_BYTES, "a block is too long to be read back");
        let len = u32::try_from(payload.len()).expect("below the limit");
        head[..4].copy_from_slice(&len.to_le_bytes());
        self.chain = checksum(checksum(self.chain, &head[..4]), payload);
        head[4..].copy_from_slice(&self.chain.to_le_bytes());
        if self.buf.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buf, self.written)?;
        self.written += self.buf.len() as u64;
        self.buf.clear();
        Ok(())
    }
}

/// The most that [`pack`] makes of an entry.
const MAX_PACKED_BYTES: usize = 7 + 8 + 8 + 10 + 4 * 5;
const _: () = assert!(BATCH_ENTRIES * MAX_PACKED_BYTES + 16 < MAX_BLOCK_BYTES);

/// What differs little from the neighbours is kept short: without that, a snapshot would have a third more.
fn pack(entry: &Entry, base: u64, buf: &mut Vec<u8>) {
    let raw = entry.encode();
    buf.extend(&raw[..7]); // of the token; its last byte is the shard
    buf.extend(&raw[8..16]);
    buf.extend(&raw[24..32]);
    put_short(u64_at(&raw, 16) - base, buf);
    (32..ENTRY_BYTES).step_by(4).for_each(|at| put_short(u32_at(&raw, at).into(), buf));
}

/// Seven bits a byte, the lowest first; all bytes but the last have the highest bit set.
fn put_short(mut number: u64, buf: &mut Vec<u8>) {
    while number >= 0x80 {
        buf.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    buf.push(number.to_le_bytes()[0]);
}

/// What the last block says.
struct End {
    seq: u64,
    ceiling: Option<(Timestamp, Place)>,
    records: u64,
}

/// The rest of a block; each `None` means that there is no such thing in it.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn writers(&mut self, writers: &Writers, ids: &mut Vec<WriterId>) -> Option<()> {
        while !self.0.is_empty() {
            let incarnation = self.long()?;
            let len = usize::from(self.take(1)?[0]);
            let node = NodeId::new(std::str::from_utf8(self.take(len)?).ok()?).ok()?;
            ids.push(writers.intern(&Writer { node, incarnation }).ok()?);
        }
        Some(())
    }

    fn entries(&mut self, writers: &[WriterId], entries: &mut Vec<Entry>) -> Option<()> {
        let shard = self.take(1)?[0];
        let base = self.long()?;
        while !self.0.is_empty() {
            let mut raw = [0; ENTRY_BYTES];
            raw[..7].copy_from_slice(self.take(7)?);
            raw[7] = shard;
            raw[8..16].copy_from_slice(self.take(8)?);
            raw[24..32].copy_from_slice(self.take(8)?);
            raw[16..24].copy_from_slice(&base.checked_add(self.short()?)?.to_le_bytes());
            for at in (32..ENTRY_BYTES).step_by(4) {
                let number = u32::try_from(self.short()?).ok()?;
                raw[at..at + 4].copy_from_slice(&number.to_le_bytes());
            }
            entries.push(Entry::decode(&raw, writers)?);
        }
        Some(())
    }

    fn notes(&mut self) -> Option<(Notes, Place)> {
        let place = Place { segment: self.long()?, offset: self.long()? };
        Some((Notes::decode(self.0)?, place))
    }

    fn end(&mut self) -> Option<End> {
        let seq = self.long()?;
        let ceiling = Timestamp::from_bits(self.long()?);
        let place = Place { segment: self.long()?, offset: self.long()? };
        let records = self.long()?;
        let ceiling = (ceiling > Timestamp::ZERO).then_some((ceiling, place));
        self.0.is_empty().then_some(End { seq, ceiling, records })
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn long(&mut self) -> Option<u64> {
        self.take(8).map(|bytes| u64_at(bytes, 0))
    }

    fn short(&mut self) -> Option<u64> {
        let mut number = 0;
        for (at, byte) in self.0.iter().enumerate().take(10) {
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.0 = &self.0[at + 1..];
                return Some(number);
            }
        }
        None
    }
}

struct SnapshotReader {
    file: Arc<dyn File>,
    size: u64,
    offset: u64,
    buf: Vec<u8>,
    /// How much of the buffer was taken.
    taken: usize,
}

impl SnapshotReader {
    fn open(file: Arc<dyn File>) -> io::Result<Self> {
        let size = file.size()?;
        Ok(Self { file, size, offset: 0, buf: Vec::new(), taken: 0 })
    }

    /// The next `len` bytes.
    fn take(&mut self, len: usize) -> Result<&[u8], BadSnapshot> {
        let left = self.size - self.offset;
        if len as u64 > left {
            return Err(BadSnapshot::Damaged { offset: self.offset });
        }
        if self.buf.len() - self.taken < len {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(BUFFER_BYTES.max(len));
            self.buf.resize(wanted, 0);
            self.taken = 0;
            if self.file.read_at(&mut self.buf, self.offset)? < wanted {
                return Err(BadSnapshot::Damaged { offset: self.offset });
            }
        }
        let from = self.taken;
        self.taken += len;
        self.offset += len as u64;
        Ok(&self.buf[from..self.taken])
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
