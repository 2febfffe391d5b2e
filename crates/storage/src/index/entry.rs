use std::cmp::Ordering;

use quorate_record::{Stamp, Timestamp, Version};

use super::{Position, WriterId, Writers};
use crate::queue::Place;

/// The greatest number a segment may have for the index to name it.
pub(crate) const MAX_SEGMENT: u64 = u32::MAX as u64;

/// How many bytes an entry has in a file.
pub(crate) const ENTRY_BYTES: usize = 48;

/// Frames begin at multiples of this, and have multiples of it.
const ALIGN_BYTES: u64 = 8;

/// The lowest bits of [`Entry::size`].
const TOMBSTONE: u32 = 1;
const DAMAGED: u32 = 2;
const FLAG_BITS: u32 = 2;

/// All that is known of a record without reading it: its version, and its place in the log.
///
/// As small as it can be: there is one for every key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    position: Position,
    timestamp: Timestamp,
    content: u64,
    writer: WriterId,
    segment: u32,
    /// The offset in the segment, in units of [`ALIGN_BYTES`].
    slot: u32,
    /// Bytes of the frame in units of [`ALIGN_BYTES`], and flags below.
    size: u32,
}

const _: () = assert!(size_of::<Entry>() == ENTRY_BYTES);

impl Entry {
    /// Stands where no entry is.
    pub(crate) const FILLER: Self = Self {
        position: Position { token: 0, check: 0 },
        timestamp: Timestamp::ZERO,
        content: 0,
        writer: WriterId::FIRST,
        segment: 0,
        slot: 0,
        size: 0,
    };

    /// The entry of a record that has no place yet.
    pub(crate) fn new(
        position: Position,
        timestamp: Timestamp,
        writer: WriterId,
        content: u64,
        is_tombstone: bool,
    ) -> Self {
        let size = if is_tombstone { TOMBSTONE } else { 0 };
        Self { position, timestamp, content, writer, segment: 0, slot: 0, size }
    }

    /// The same record at this place, where its frame has `bytes` in all. It is not damaged there.
    ///
    /// # Panics
    /// If the segment's number is greater than [`MAX_SEGMENT`], or the frame lies beyond 32 GiB or has 8 GiB.
    pub(crate) fn at(self, place: Place, bytes: u64) -> Self {
        debug_assert!(place.segment <= MAX_SEGMENT);
        debug_assert!(
            place.offset.is_multiple_of(ALIGN_BYTES) && bytes.is_multiple_of(ALIGN_BYTES)
        );
        let units = u32::try_from(bytes / ALIGN_BYTES)
            .ok()
            .filter(|units| units.leading_zeros() >= FLAG_BITS);
        Self {
            segment: u32::try_from(place.segment).expect("the store opens no greater segments"),
            slot: u32::try_from(place.offset / ALIGN_BYTES).expect("no segment has 32 GiB"),
            size: units.expect("no frame has 8 GiB") << FLAG_BITS | self.size & TOMBSTONE,
            ..self
        }
    }

    /// The same at the same place, where it cannot be read.
    pub(crate) fn damaged(self) -> Self {
        Self { size: self.size | DAMAGED, ..self }
    }

    /// What its key is known by.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// The time of the record's version.
    pub(crate) fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// The token of its key.
    pub(crate) fn token(&self) -> u64 {
        self.position.token
    }

    /// Where its frame begins.
    pub(crate) fn place(&self) -> Place {
        Place { segment: u64::from(self.segment), offset: u64::from(self.slot) * ALIGN_BYTES }
    }

    /// How many bytes its frame has in all.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.size >> FLAG_BITS) * ALIGN_BYTES
    }

    /// How many bytes of the log are worth keeping for it: none of a damaged one.
    pub(crate) fn live_bytes(&self) -> u64 {
        if self.is_damaged() { 0 } else { self.bytes() }
    }

    /// Whether the record is a stored delete.
    pub(crate) fn is_tombstone(&self) -> bool {
        self.size & TOMBSTONE != 0
    }

    /// Whether its frame is known not to be readable. Its version counts all the same.
    pub(crate) fn is_damaged(&self) -> bool {
        self.size & DAMAGED != 0
    }

    /// The record's version.
    pub(crate) fn version(&self, writers: &Writers) -> Version {
        Version { timestamp: self.timestamp, writer: *writers.get(self.writer) }
    }

    /// The record's stamp.
    pub(crate) fn stamp(&self, writers: &Writers) -> Stamp {
        Stamp { version: self.version(writers), content: self.content }
    }

    /// What the record adds to a digest.
    pub(crate) fn digest_hash(&self, writers: &Writers) -> u64 {
        self.stamp(writers).digest_hash(self.position.token)
    }

    /// How the records compare, by their [stamps](Stamp); neither key nor place counts.
    pub(crate) fn order(&self, other: &Self, writers: &Writers) -> Ordering {
        if planted!(TiesByArrival) {
            return self.timestamp.cmp(&other.timestamp);
        }
        self.timestamp
            .cmp(&other.timestamp)
            .then_with(|| writers.order(self.writer, other.writer))
            .then_with(|| self.content.cmp(&other.content))
    }

    /// The entry as a file keeps it: token, check, timestamp, content, writer, segment, slot, size; little-endian.
    pub(crate) fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let longs = [self.position.token, self.position.check, self.timestamp.bits(), self.content];
        let shorts = [self.writer.number(), self.segment, self.slot, self.size];
        let (front, back) = bytes.split_at_mut(32);
        front
            .chunks_exact_mut(8)
            .zip(longs)
            .for_each(|(to, n)| to.copy_from_slice(&n.to_le_bytes()));
        back.chunks_exact_mut(4)
            .zip(shorts)
            .for_each(|(to, n)| to.copy_from_slice(&n.to_le_bytes()));
        bytes
    }

    /// What [`Self::encode`] made. `writers` has the new number for each of those that were used then; `None` if one
    /// is not among them.
    pub(crate) fn decode(bytes: &[u8; ENTRY_BYTES], writers: &[WriterId]) -> Option<Self> {
        let (longs, _) = bytes.as_chunks();
        let long = |at: usize| u64::from_le_bytes(longs[at]);
        let (shorts, _) = bytes.as_chunks();
        let short = |at: usize| u32::from_le_bytes(shorts[at]);
        Some(Self {
            position: Position { token: long(0), check: long(1) },
            timestamp: Timestamp::from_bits(long(2)),
            content: long(3),
            writer: *writers.get(short(8) as usize)?,
            segment: short(9),
            slot: short(10),
            size: short(11),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_record::{NodeId, Writer};

    use super::*;

    fn intern(writers: &Writers, name: &str, incarnation: u64) -> WriterId {
        writers.intern(&Writer { node: NodeId::new(name).unwrap(), incarnation }).unwrap()
    }

    fn entry(timestamp: u64, writer: WriterId, content: u64) -> Entry {
        let position = Position { token: 3, check: 4 };
        Entry::new(position, Timestamp::from_bits(timestamp), writer, content, false)
    }

    #[test]
    fn a_place_and_the_flags_do_not_mix() {
        let writers = Writers::new();
        let position = Position { token: 3, check: 4 };
        let writer = intern(&writers, "n", 1);
        let dead = Entry::new(position, Timestamp::ZERO, writer, 0, true);
        let place = Place { segment: MAX_SEGMENT, offset: u64::from(u32::MAX) * 8 };
        let most = (u64::from(u32::MAX) >> 2) * 8;
        let placed = dead.at(place, most);
        assert_eq!((placed.place(), placed.bytes(), placed.live_bytes()), (place, most, most));
        assert!(placed.is_tombstone() && !placed.is_damaged());
        let damaged = placed.damaged();
        assert_eq!((damaged.place(), damaged.bytes(), damaged.live_bytes()), (place, most, 0));
        assert!(damaged.is_tombstone() && damaged.is_damaged());
        let moved = damaged.at(Place { segment: 1, offset: 64 }, 8);
        assert!(moved.is_tombstone() && !moved.is_damaged());
    }

    #[test]
    #[should_panic(expected = "no frame has 8 GiB")]
    fn a_frame_that_is_too_long_is_refused() {
        let writers = Writers::new();
        let _ = entry(1, intern(&writers, "n", 1), 1).at(Place { segment: 1, offset: 0 }, 8 << 30);
    }

    #[test]
    fn a_file_keeps_every_field() {
        let (writers, others) = (Writers::new(), Writers::new());
        let id = intern(&writers, "n", 1);
        let other = [intern(&others, "m", 1), intern(&others, "n", 1)][1];
        let kept = entry(5, id, 7).at(Place { segment: 9, offset: 80 }, 64).damaged();
        let bytes = kept.encode();
        assert_eq!(Entry::decode(&bytes, &[id]), Some(kept));
        let read = Entry::decode(&bytes, &[other]).unwrap();
        assert_eq!(read.stamp(&others), kept.stamp(&writers));
        assert_eq!(Entry::decode(&bytes, &[]), None);
    }

    proptest! {
        #[test]
        fn entries_are_ordered_like_the_stamps_of_their_records(
            (a, b) in ((0_u64..2, 0_usize..4, 0_u64..2), (0_u64..2, 0_usize..4, 0_u64..2)),
        ) {
            let writers = Writers::new();
            let ids = [("b", 1), ("a", 2), ("b", 0), ("a", 1)].map(|(name, life)| intern(&writers, name, life));
            let [a, b] = [a, b].map(|(time, writer, content)| entry(time, ids[writer], content));
            prop_assert_eq!(a.order(&b, &writers), a.stamp(&writers).cmp(&b.stamp(&writers)));
        }
    }
}
