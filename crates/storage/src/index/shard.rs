use std::cmp::Ordering;
use std::ops::{Bound, RangeBounds, RangeInclusive};

use quorate_record::Digest;

use super::entry::Place;
use super::leaf::Leaf;
use super::{Entry, Position, Writers};

/// Into how many equal parts the token space is cut.
pub(crate) const SHARDS: usize = 1 << SHARD_BITS;

const SHARD_BITS: u32 = 8;

/// Into how many equal parts a shard is cut, each with a digest that is kept up to date.
const BUCKETS: usize = 1 << BUCKET_BITS;

const BUCKET_BITS: u32 = 4;

/// The last token of a part, less its first.
const SHARD_SPAN: u64 = u64::MAX >> SHARD_BITS;
const BUCKET_SPAN: u64 = SHARD_SPAN >> BUCKET_BITS;

/// The entries of one part of the token space, in order: at most one for each position.
///
/// A tree of two levels: the directory, and leaves of neighbours.
pub(crate) struct Shard {
    tokens: RangeInclusive<u64>,
    /// Leaf `i` has what is from fence `i` up to before the next; the first fence is below everything. Kept apart from
    /// the leaves, so that they are close together in memory.
    fences: Vec<Position>,
    leaves: Vec<Leaf>,
    digests: [Digest; BUCKETS],
    counts: Counts,
}

/// What is in a shard, all in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// All entries.
    pub(crate) entries: u64,
    /// Those of stored deletes.
    pub(crate) tombstones: u64,
    /// Those whose frames cannot be read. They are in no digest.
    pub(crate) damaged: u64,
    /// Bytes of the frames that can be read, as far as is known.
    pub(crate) live_bytes: u64,
}

/// What became of an entry that was to be [merged](Shard::merge).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Merged {
    /// It is the first one of its position.
    Added,
    /// It has replaced this one.
    Replaced(Entry),
    /// This one is greater, and stays.
    Lost(Entry),
}

/// Entries do not come in the order of their positions, or are of another part of the token space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entries of the index are not in order")]
pub(crate) struct OutOfOrder;

/// The number of the shard that has this token.
pub(crate) fn shard_of(token: u64) -> usize {
    usize::try_from(token >> (u64::BITS - SHARD_BITS)).expect("a few bits")
}

impl Shard {
    /// An empty one: number `number` of [`SHARDS`].
    ///
    /// # Panics
    /// If there is no such number.
    pub(crate) fn new(number: usize) -> Self {
        assert!(number < SHARDS, "there are fewer shards");
        let first = (number as u64) << (u64::BITS - SHARD_BITS);
        Self {
            tokens: first..=first + SHARD_SPAN,
            fences: vec![Position::first_of(first)],
            leaves: vec![Leaf::default()],
            digests: [Digest::default(); BUCKETS],
            counts: Counts::default(),
        }
    }

    /// The tokens it is for.
    pub(crate) fn tokens(&self) -> RangeInclusive<u64> {
        self.tokens.clone()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn get(&self, position: Position) -> Option<&Entry> {
        let (leaf, found) = self.find(position);
        Some(&self.leaves[leaf].entries()[found.ok()?])
    }

    /// Sets the entry of a position, and returns the one that it replaces.
    ///
    /// # Panics
    /// If its token is none of this shard's.
    pub(crate) fn put(&mut self, entry: Entry, writers: &Writers) -> Option<Entry> {
        match self.put_unless(entry, writers, |_| false) {
            Merged::Replaced(old) => Some(old),
            Merged::Added | Merged::Lost(_) => None,
        }
    }

    /// Sets the entry of a position unless a greater one is there. Of equal ones, the one that comes last stays.
    ///
    /// # Panics
    /// If its token is none of this shard's.
    pub(crate) fn merge(&mut self, entry: Entry, writers: &Writers) -> Merged {
        self.put_unless(entry, writers, |old| old.order(&entry, writers) == Ordering::Greater)
    }

    /// Takes in entries that are behind all others; much faster than one by one.
    ///
    /// # Errors
    /// [`OutOfOrder`] if they are not; some of them may have been taken in.
    pub(crate) fn append(
        &mut self,
        entries: &[Entry],
        writers: &Writers,
    ) -> Result<(), OutOfOrder> {
        let mut last =
            self.leaves.last().and_then(|leaf| leaf.entries().last()).map(Entry::position);
        let is_next = |entry: &Entry| {
            let follows = self.tokens.contains(&entry.token()) && last < Some(entry.position());
            last = Some(entry.position());
            follows
        };
        if !entries.iter().all(is_next) {
            return Err(OutOfOrder);
        }
        entries.iter().for_each(|entry| self.count_in(entry, writers));
        let mut rest = entries;
        loop {
            rest = self.leaves.last_mut().expect("there is always one").append(rest);
            let Some(next) = rest.first() else { return Ok(()) };
            self.fences.push(next.position());
            self.leaves.push(Leaf::default());
        }
    }

    /// Takes out the entry of a position.
    pub(crate) fn remove(&mut self, position: Position, writers: &Writers) -> Option<Entry> {
        let (leaf, found) = self.find(position);
        let entry = self.leaves[leaf].remove(found.ok()?);
        self.count_out(&entry, writers);
        self.tidy(leaf);
        Some(entry)
    }

    /// Notes that a record lies elsewhere now, and returns the entry as it was. Does nothing if it is not at `from`
    /// (any more), or damaged there.
    pub(crate) fn relocate(
        &mut self,
        position: Position,
        from: Place,
        to: Place,
        bytes: u64,
    ) -> Option<Entry> {
        let (entry, old) = self.at_place(position, from)?;
        *entry = old.at(to, bytes);
        self.counts.live_bytes = self.counts.live_bytes - old.live_bytes() + bytes;
        Some(old)
    }

    /// Notes that a record cannot be read, and returns the entry as it was. Does nothing if it is not at `place` (any
    /// more), or is known to be damaged.
    pub(crate) fn mark_damaged(
        &mut self,
        position: Position,
        place: Place,
        writers: &Writers,
    ) -> Option<Entry> {
        let (entry, old) = self.at_place(position, place)?;
        let damaged = old.damaged();
        *entry = damaged;
        self.count_out(&old, writers);
        self.count_in(&damaged, writers);
        Some(old)
    }

    /// The entries with these positions, in order, damaged ones as well.
    pub(crate) fn range(
        &self,
        positions: impl RangeBounds<Position>,
    ) -> impl Iterator<Item = &Entry> {
        let end = positions.end_bound().cloned();
        let (leaf, at) = match positions.start_bound() {
            Bound::Unbounded => (0, 0),
            Bound::Included(&from) => {
                let (leaf, found) = self.find(from);
                (leaf, found.unwrap_or_else(|at| at))
            }
            Bound::Excluded(&from) => {
                let (leaf, found) = self.find(from);
                (leaf, found.map_or_else(|at| at, |at| at + 1))
            }
        };
        let first = &self.leaves[leaf].entries()[at..];
        let others = self.leaves[leaf + 1..].iter().flat_map(Leaf::entries);
        first.iter().chain(others).take_while(move |entry| match end {
            Bound::Unbounded => true,
            Bound::Included(to) => entry.position() <= to,
            Bound::Excluded(to) => entry.position() < to,
        })
    }

    /// The digest of the records with these tokens that are not damaged. Looks at no more of them one by one than are
    /// in two sixteenths of the shard.
    pub(crate) fn digest(&self, tokens: &RangeInclusive<u64>, writers: &Writers) -> Digest {
        let first = *tokens.start().max(self.tokens.start());
        let last = *tokens.end().min(self.tokens.end());
        if first > last {
            return Digest::default();
        }
        let of_bucket = |at: usize| {
            let start = self.tokens.start() + at as u64 * (BUCKET_SPAN + 1);
            let end = start + BUCKET_SPAN;
            if first <= start && end <= last {
                return self.digests[at];
            }
            let mut digest = Digest::default();
            self.range(Position::first_of(first.max(start))..=Position::last_of(last.min(end)))
                .filter(|entry| !entry.is_damaged())
                .for_each(|entry| digest.add(entry.digest_hash(writers)));
            digest
        };
        (bucket(first)..=bucket(last)).map(of_bucket).fold(Digest::default(), Digest::combine)
    }

    fn put_unless(
        &mut self,
        entry: Entry,
        writers: &Writers,
        stays: impl FnOnce(&Entry) -> bool,
    ) -> Merged {
        assert!(self.tokens.contains(&entry.token()), "an entry of another shard");
        let (leaf, found) = self.find(entry.position());
        let merged = match found {
            Ok(at) => {
                let slot = self.leaves[leaf].entry_mut(at);
                let old = *slot;
                if stays(&old) {
                    return Merged::Lost(old);
                }
                *slot = entry;
                self.count_out(&old, writers);
                Merged::Replaced(old)
            }
            Err(at) => {
                if let Some(upper) = self.leaves[leaf].insert(at, entry) {
                    self.fences.insert(leaf + 1, upper.entries()[0].position());
                    self.leaves.insert(leaf + 1, upper);
                }
                Merged::Added
            }
        };
        self.count_in(&entry, writers);
        merged
    }

    /// The leaf for a position, and where in it the entry is or would be.
    fn find(&self, position: Position) -> (usize, Result<usize, usize>) {
        let leaf = self.fences.partition_point(|fence| *fence <= position).saturating_sub(1);
        let low = self.fences[leaf].token;
        let high = self.fences.get(leaf + 1).map_or(*self.tokens.end(), |fence| fence.token);
        let guess = interpolate(position.token, low, high, self.leaves[leaf].len());
        (leaf, self.leaves[leaf].find(position, guess))
    }

    /// The readable entry of a position if it is at this place; to be changed, and as it is.
    fn at_place(&mut self, position: Position, place: Place) -> Option<(&mut Entry, Entry)> {
        let (leaf, found) = self.find(position);
        let entry = self.leaves[leaf].entry_mut(found.ok()?);
        let old = *entry;
        (old.place() == place && !old.is_damaged()).then_some((entry, old))
    }

    /// Makes one leaf of a small one and a neighbour.
    fn tidy(&mut self, leaf: usize) {
        for lower in [Some(leaf), leaf.checked_sub(1)].into_iter().flatten() {
            let upper = lower + 1;
            if upper < self.leaves.len() && self.leaves[lower].should_merge(&self.leaves[upper]) {
                self.fences.remove(upper);
                let next = self.leaves.remove(upper);
                self.leaves[lower].merge(&next);
                return;
            }
        }
    }

    fn count_in(&mut self, entry: &Entry, writers: &Writers) {
        self.counts.entries += 1;
        self.counts.tombstones += u64::from(entry.is_tombstone());
        self.counts.damaged += u64::from(entry.is_damaged());
        self.counts.live_bytes += entry.live_bytes();
        if !entry.is_damaged() {
            self.digests[bucket(entry.token())].add(entry.digest_hash(writers));
        }
    }

    fn count_out(&mut self, entry: &Entry, writers: &Writers) {
        self.counts.entries -= 1;
        self.counts.tombstones -= u64::from(entry.is_tombstone());
        self.counts.damaged -= u64::from(entry.is_damaged());
        self.counts.live_bytes -= entry.live_bytes();
        if !entry.is_damaged() {
            self.digests[bucket(entry.token())].remove(entry.digest_hash(writers));
        }
    }
}

/// The bucket of a token among those of its shard.
fn bucket(token: u64) -> usize {
    usize::try_from((token & SHARD_SPAN) >> (u64::BITS - SHARD_BITS - BUCKET_BITS))
        .expect("a few bits")
}

/// Where among `len` tokens that are spread evenly over `low..high` this one would be.
fn interpolate(token: u64, low: u64, high: u64, len: usize) -> usize {
    let (above, width) = (token.saturating_sub(low), high.saturating_sub(low));
    // Cut to half a word, so that the product fits into a whole one.
    let shift = 32_u32.saturating_sub(width.leading_zeros());
    let guess = (above >> shift) * len as u64 / ((width >> shift) + 1);
    usize::try_from(guess).map_or(len, |guess| guess.min(len))
}
