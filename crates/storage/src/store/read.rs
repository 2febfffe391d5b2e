//! Reading records: the index says where they are, the log has them.

use std::cell::RefCell;
use std::ops::RangeInclusive;

use bytes::Bytes;
use quorate_record::{Digest, Key, Record, RecordView, Sketch, Stamp, Version, decode_record_view};

use super::{Core, KIND_RECORD};
use crate::index::{Entry, Position, SHARDS, shard_of};
use crate::read::ReadError;

/// Some records, and how many more there are that could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// In token order.
    pub records: Vec<(Key, Record)>,
    /// Records in between that are damaged.
    pub damaged: u64,
}

/// How far scrubbing has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubPosition(Position);

impl ScrubPosition {
    /// Where to go on after a restart: at the records with this token, which are perhaps read again.
    #[must_use]
    pub fn at(token: u64) -> Self {
        Self(Position::first_of(token))
    }

    /// The token of the last record that was read.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.0.token
    }
}

/// What a step of scrubbing has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrubbed {
    /// Where to go on; `None` at the end.
    pub next: Option<ScrubPosition>,
    /// Records that were read.
    pub records: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// Records that are damaged, those included that were known to be.
    pub damaged: u64,
}

/// How much of the index is looked at under one lock.
const BATCH_ENTRIES: usize = 64;

/// A larger frame is read into a buffer of its own, which its record keeps.
const MOST_SHARED_BYTES: u64 = 32 << 10;

thread_local! {
    /// What small frames are read into.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Core {
    pub(super) fn get(&self, key: &Key) -> Result<Option<Record>, ReadError> {
        let position = self.position(key.as_bytes());
        if let Some(record) = self.recall(position, key) {
            return Ok(Some(record));
        }
        let read = self.read_at(position, Some(key))?;
        Ok(read.map(|(_, record)| record))
    }

    /// The record of a position, if it was read of late and has this key.
    fn recall(&self, position: Position, key: &Key) -> Option<Record> {
        if self.options.cache_bytes == 0 {
            return None;
        }
        BUFFER.with_borrow_mut(|buf| {
            let view = decode_record_view(self.shards.recall(position, buf)?).ok()?;
            (view.key == key.as_bytes()).then(|| kept(&view, Bytes::copy_from_slice))
        })
    }

    pub(super) fn version(&self, key: &Key) -> Option<Version> {
        let entry = self.shards.get(self.position(key.as_bytes()))?;
        Some(entry.version(&self.shards.writers))
    }

    pub(super) fn holds(&self, key: &Key, stamp: &Stamp) -> bool {
        let entry = self.shards.get(self.position(key.as_bytes()));
        entry
            .is_some_and(|entry| !entry.is_damaged() && entry.stamp(&self.shards.writers) == *stamp)
    }

    pub(super) fn scan(&self, after: Option<&Key>, limit: usize) -> Result<Scanned, ReadError> {
        let (scanned, _) = self.scan_with(after, limit, u64::MAX, |_| {})?;
        Ok(scanned)
    }

    pub(super) fn scan_keys(
        &self,
        after: Option<&Key>,
        limit: usize,
        max_bytes: u64,
    ) -> Result<(Scanned, bool), ReadError> {
        self.scan_with(after, limit, max_bytes, |(key, record)| {
            *key = key.detached();
            record.value = record.value.take().map(|_| Bytes::new());
        })
    }

    /// Reads records, and has `kept` make of each what is kept of it. Says whether there may be more.
    fn scan_with(
        &self,
        after: Option<&Key>,
        limit: usize,
        max_bytes: u64,
        kept: impl Fn(&mut (Key, Record)),
    ) -> Result<(Scanned, bool), ReadError> {
        let mut bytes = 0;
        let mut after = after.map(|key| self.position(key.as_bytes()));
        let mut scanned = Scanned::default();
        let mut batch = Vec::new();
        for shard in after.map_or(0, |position| shard_of(position.token))..SHARDS {
            loop {
                let most = (limit - scanned.records.len()).min(BATCH_ENTRIES);
                if most == 0 {
                    return Ok((scanned, true));
                }
                self.shards.copy_entries(shard, after, most, &mut batch);
                if batch.is_empty() {
                    break;
                }
                for entry in &batch {
                    // What is not looked at now comes with the next page.
                    if bytes >= max_bytes && !scanned.records.is_empty() {
                        return Ok((scanned, true));
                    }
                    bytes += entry.bytes();
                    after = Some(entry.position());
                    let before = scanned.records.len();
                    self.read_into(&mut scanned, entry.position())?;
                    scanned.records[before..].iter_mut().for_each(&kept);
                }
            }
        }
        Ok((scanned, false))
    }

    pub(super) fn records_at(
        &self,
        tokens: &[u64],
        max_bytes: usize,
    ) -> Result<Scanned, ReadError> {
        let mut scanned = Scanned::default();
        let mut bytes = 0_usize;
        for &token in tokens {
            let mut positions = Vec::new();
            {
                let part = self.shards.part(shard_of(token));
                let group = part.index.range(Position::first_of(token)..=Position::last_of(token));
                positions.extend(group.map(Entry::position));
            }
            let mut group = Scanned::default();
            for position in positions {
                self.read_into(&mut group, position)?;
            }
            let len = |(key, record): &(Key, Record)| {
                key.as_bytes().len() + record.value.as_ref().map_or(0, Bytes::len)
            };
            bytes = bytes.saturating_add(group.records.iter().map(len).sum());
            if bytes > max_bytes && !scanned.records.is_empty() {
                break;
            }
            scanned.records.append(&mut group.records);
            scanned.damaged += group.damaged;
        }
        Ok(scanned)
    }

    pub(super) fn digest(&self, tokens: &RangeInclusive<u64>) -> Digest {
        if tokens.is_empty() {
            return Digest::default();
        }
        (shard_of(*tokens.start())..=shard_of(*tokens.end()))
            .filter(|shard| self.shards.is_in_use(*shard))
            .map(|shard| self.shards.part(shard).index.digest(tokens, &self.shards.writers))
            .fold(Digest::default(), Digest::combine)
    }

    pub(super) fn bucket_digests(&self, ranges: &[RangeInclusive<u64>]) -> Vec<Digest> {
        let mut digests = Vec::new();
        let mut last = None;
        let mut push = |(bucket, digest): (usize, Digest)| match digests.last_mut() {
            Some(sum) if last == Some(bucket) => *sum = digest.combine(*sum),
            _ => {
                last = Some(bucket);
                digests.push(digest);
            }
        };
        for range in ranges.iter().filter(|range| !range.is_empty()) {
            for shard in shard_of(*range.start())..=shard_of(*range.end()) {
                let part = self.shards.part(shard);
                part.index.bucket_digests(range, &self.shards.writers).for_each(&mut push);
            }
        }
        digests
    }

    pub(super) fn add_to_sketch(&self, sum: &mut Sketch, tokens: &RangeInclusive<u64>) {
        if tokens.is_empty() {
            return;
        }
        (shard_of(*tokens.start())..=shard_of(*tokens.end()))
            .filter(|shard| self.shards.is_in_use(*shard))
            .for_each(|shard| {
                self.shards.part(shard).index.add_to_sketch(sum, tokens, &self.shards.writers);
            });
    }

    pub(super) fn list(
        &self,
        ranges: &[RangeInclusive<u64>],
        limit: usize,
    ) -> (Vec<(u64, Stamp)>, bool) {
        let mut items: Vec<(u64, Stamp)> = Vec::new();
        for range in ranges.iter().filter(|range| !range.is_empty()) {
            let positions = Position::first_of(*range.start())..=Position::last_of(*range.end());
            let shards = shard_of(*range.start())..=shard_of(*range.end());
            for shard in shards.filter(|shard| self.shards.is_in_use(*shard)) {
                let part = self.shards.part(shard);
                let entries = part.index.range(positions.clone());
                for entry in entries.filter(|entry| !entry.is_damaged()) {
                    let token = entry.token();
                    let (first, last) =
                        (items.first().map(|item| item.0), items.last().map(|item| item.0));
                    if items.len() >= limit && first != Some(token) {
                        if last == Some(token) {
                            items.truncate(items.partition_point(|item| item.0 < token));
                        }
                        return (items, false);
                    }
                    items.push((token, entry.stamp(&self.shards.writers)));
                }
            }
        }
        (items, true)
    }

    pub(super) fn scrub(
        &self,
        from: Option<ScrubPosition>,
        max_bytes: u64,
    ) -> Result<Scrubbed, ReadError> {
        let mut scrubbed = Scrubbed { next: None, records: 0, bytes: 0, damaged: 0 };
        let mut after = from.map(|ScrubPosition(position)| position);
        let mut batch = Vec::new();
        for shard in after.map_or(0, |position| shard_of(position.token))..SHARDS {
            loop {
                self.shards.copy_entries(shard, after, BATCH_ENTRIES, &mut batch);
                if batch.is_empty() {
                    break;
                }
                for entry in &batch {
                    if scrubbed.bytes >= max_bytes {
                        return Ok(scrubbed);
                    }
                    after = Some(entry.position());
                    scrubbed.next = after.map(ScrubPosition);
                    scrubbed.bytes += entry.bytes();
                    // What is in the index says nothing of what is on the disk.
                    if planted!(ScrubTrustsIndex) {
                        scrubbed.records += 1;
                        continue;
                    }
                    match self.read_at(entry.position(), None) {
                        Ok(_) => scrubbed.records += 1,
                        Err(ReadError::Damaged) => scrubbed.damaged += 1,
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        scrubbed.next = None;
        Ok(scrubbed)
    }

    pub(super) fn damaged_tokens(&self, after: Option<u64>, limit: usize) -> Vec<u64> {
        let Some(first) = after.map_or(Some(0), |after| after.checked_add(1)) else {
            return Vec::new();
        };
        let mut tokens: Vec<u64> = Vec::new();
        for shard in (shard_of(first)..SHARDS).filter(|shard| self.shards.is_in_use(*shard)) {
            let part = self.shards.part(shard);
            if part.index.counts().damaged == 0 {
                continue;
            }
            let entries = part.index.range(Position::first_of(first)..);
            for token in entries.filter(|entry| entry.is_damaged()).map(Entry::token) {
                if tokens.len() == limit {
                    return tokens;
                }
                if tokens.last() != Some(&token) {
                    tokens.push(token);
                }
            }
        }
        tokens
    }

    fn read_into(&self, scanned: &mut Scanned, position: Position) -> Result<(), ReadError> {
        match self.read_at(position, None) {
            Ok(record) => scanned.records.extend(record),
            Err(ReadError::Damaged) => scanned.damaged += 1,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The record of a position, whose key is `key` if that is given.
    fn read_at(
        &self,
        position: Position,
        key: Option<&Key>,
    ) -> Result<Option<(Key, Record)>, ReadError> {
        let mut failed_at = None;
        loop {
            let Some(entry) = self.shards.get(position) else { return Ok(None) };
            if entry.is_damaged() {
                return unreadable();
            }
            match self.read_entry(&entry, key) {
                Ok(record) => return Ok(Some(record)),
                Err(error @ ReadError::Io(_)) => return Err(error),
                Err(ReadError::Damaged | ReadError::Gone) => {}
            }
            // It may have been moved meanwhile, and the file been given up or be another segment's by now.
            if failed_at == Some(entry.place()) {
                self.shards.mark_damaged(position, entry.place());
                return unreadable();
            }
            failed_at = Some(entry.place());
        }
    }

    /// What is at an entry's place, if it is the entry's record.
    fn read_entry(&self, entry: &Entry, key: Option<&Key>) -> Result<(Key, Record), ReadError> {
        let (place, bytes) = (entry.place(), len(entry.bytes()));
        if entry.bytes() > MOST_SHARED_BYTES {
            let mut buf = Vec::new();
            let (kind, payload) = self.log.read(place, bytes, &mut buf)?;
            let frame = Bytes::from(buf).slice(payload);
            return self.record_of(entry, key, kind, &frame, |part| frame.slice_ref(part));
        }
        BUFFER.with_borrow_mut(|buf| {
            let (kind, payload) = self.log.read(place, bytes, buf)?;
            let frame = &buf[payload];
            let record = self.record_of(entry, key, kind, frame, Bytes::copy_from_slice)?;
            // Who reads one after the other does not come back soon.
            if key.is_some() && self.options.cache_bytes > 0 {
                self.shards.keep(entry, frame);
            }
            Ok(record)
        })
    }

    /// That a frame is good does not make it the one that was looked for.
    fn record_of(
        &self,
        entry: &Entry,
        key: Option<&Key>,
        kind: u8,
        frame: &[u8],
        keep: impl Fn(&[u8]) -> Bytes,
    ) -> Result<(Key, Record), ReadError> {
        let view = decode_record_view(frame).map_err(|_| ReadError::Damaged)?;
        let is_it = kind == KIND_RECORD
            && key.is_none_or(|key| key.as_bytes() == view.key)
            && view.version == entry.version(&self.shards.writers);
        if !is_it {
            return Err(ReadError::Damaged);
        }
        let key = match key {
            Some(key) => key.clone(),
            None => Key::new(keep(view.key)).map_err(|_| ReadError::Damaged)?,
        };
        Ok((key, kept(&view, keep)))
    }
}

/// A record of which `keep` makes the value last.
fn kept(view: &RecordView<'_>, keep: impl Fn(&[u8]) -> Bytes) -> Record {
    let RecordView { version, expires_ms, value, .. } = *view;
    Record { version, expires_ms, value: value.map(keep) }
}

/// What is said of a record that is damaged.
fn unreadable<T>() -> Result<Option<T>, ReadError> {
    if planted!(DamagedIsAbsent) { Ok(None) } else { Err(ReadError::Damaged) }
}

/// The size of a frame, as the log takes it.
pub(super) fn len(bytes: u64) -> u32 {
    u32::try_from(bytes).expect("a frame is below 4 GiB")
}
