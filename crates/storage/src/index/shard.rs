use std::cmp::Ordering;
use std::ops::{Bound, RangeBounds, RangeInclusive};

use quorate_record::{Digest, Sketch};

use super::leaf::{Leaf, gallop};
use super::sketches::{self, Sketches};
use super::{Entry, Position, Writers};
use crate::queue::Place;

/// Into how many equal parts the token space is cut.
pub(crate) const SHARDS: usize = 1 << SHARD_BITS;

pub(super) const SHARD_BITS: u32 = 8;

/// Into how many equal parts a shard is cut, each with a digest that is kept up to date.
pub(crate) const BUCKETS: usize = 1 << BUCKET_BITS;

const BUCKET_BITS: u32 = 4;

/// The last token of a part, less its first.
const SHARD_SPAN: u64 = u64::MAX >> SHARD_BITS;
const BUCKET_SPAN: u64 = SHARD_SPAN >> BUCKET_BITS;

/// The entries of one part of the token space, in order: at most one for each position.
///
/// A tree of two levels: the directory, and leaves of neighbours.
pub(crate) struct Shard {
    first_token: u64,
    /// Leaf `i` has what is from fence `i` up to before the next; the first fence is below everything. Kept apart from
    /// the leaves, so that they are close together in memory.
    fences: Vec<Position>,
    leaves: Vec<Leaf>,
    counts: Counts,
    /// Boxed, as readers do not need them: what they need shall be close together.
    digests: Box<[Digest; BUCKETS]>,
    sketches: Sketches,
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
        let first_token = Self::first_token_of(number);
        Self {
            first_token,
            fences: vec![Position::first_of(first_token)],
            leaves: vec![Leaf::default()],
            counts: Counts::default(),
            digests: Box::default(),
            sketches: Sketches::default(),
        }
    }

    /// Where the tokens of the shard of this number begin.
    pub(crate) fn first_token_of(number: usize) -> u64 {
        (number as u64) << (u64::BITS - SHARD_BITS)
    }

    /// Keeps a sketch of so many cells for each of its buckets, from now on.
    ///
    /// # Panics
    /// If anything is in it already.
    pub(crate) fn keeping_sketches(mut self, cells: usize) -> Self {
        assert_eq!(self.counts.entries, 0, "what is here is in no sketch");
        self.sketches = Sketches::new(cells, BUCKETS);
        self
    }

    /// The tokens it is for.
    pub(crate) fn tokens(&self) -> RangeInclusive<u64> {
        self.first_token..=self.first_token + SHARD_SPAN
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn get(&self, position: Position) -> Option<&Entry> {
        let (leaf, found) = self.find(position);
        Some(self.leaves[leaf].entry(found.ok()?))
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

    /// Sets the entry of a position unless a greater one is there. Of equal ones, the one that lies further on in the
    /// log stays, so that it does not matter in which order they come; a damaged one does not.
    ///
    /// # Panics
    /// If its token is none of this shard's.
    pub(crate) fn merge(&mut self, entry: Entry, writers: &Writers) -> Merged {
        self.put_unless(entry, writers, |old| match old.order(&entry, writers) {
            Ordering::Greater => true,
            Ordering::Equal => !old.is_damaged() && old.place() > entry.place(),
            Ordering::Less => false,
        })
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
        let mut last = self.leaves.last().and_then(Leaf::last).map(Entry::position);
        let tokens = self.tokens();
        let is_next = |entry: &Entry| {
            let follows = tokens.contains(&entry.token()) && last < Some(entry.position());
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
        let first = self.leaves[leaf].entries(at);
        let others = self.leaves[leaf + 1..].iter().flat_map(|leaf| leaf.entries(0));
        first.chain(others).take_while(move |entry| match end {
            Bound::Unbounded => true,
            Bound::Included(to) => entry.position() <= to,
            Bound::Excluded(to) => entry.position() < to,
        })
    }

    /// The digest of the records with these tokens that are not damaged. Looks at no more of them one by one than are
    /// in two sixteenths of the shard.
    pub(crate) fn digest(&self, tokens: &RangeInclusive<u64>, writers: &Writers) -> Digest {
        self.bucket_digests(tokens, writers)
            .fold(Digest::default(), |sum, (_, digest)| sum.combine(digest))
    }

    /// The same for each of its buckets that have some of these tokens, with their numbers among all buckets.
    pub(crate) fn bucket_digests(
        &self,
        tokens: &RangeInclusive<u64>,
        writers: &Writers,
    ) -> impl Iterator<Item = (usize, Digest)> {
        let first = shard_of(self.first_token) * BUCKETS;
        self.buckets_of(tokens).map(move |(at, part)| {
            if is_whole(&part) {
                return (first + at, self.digests[at]);
            }
            let mut digest = Digest::default();
            self.entries_of(&part)
                .filter(|entry| !entry.is_damaged())
                .for_each(|entry| digest.add(entry.digest_hash(writers)));
            (first + at, digest)
        })
    }

    /// Adds the records with these tokens that are not damaged to `sum`. Looks at them one by one unless sketches of as
    /// many cells are kept, and else at no more of them than are in two sixteenths of the shard.
    pub(crate) fn add_to_sketch(
        &self,
        sum: &mut Sketch,
        tokens: &RangeInclusive<u64>,
        writers: &Writers,
    ) {
        for (at, part) in self.buckets_of(tokens) {
            if !is_whole(&part) || !self.sketches.add_to(sum, at) {
                sketches::scan(sum, self.entries_of(&part), writers);
            }
        }
    }

    /// The buckets that have some of these tokens, and which of them.
    fn buckets_of(
        &self,
        tokens: &RangeInclusive<u64>,
    ) -> impl Iterator<Item = (usize, RangeInclusive<u64>)> {
        let first = (*tokens.start()).max(self.first_token);
        let last = (*tokens.end()).min(self.first_token + SHARD_SPAN);
        let buckets = if first > last { 0..0 } else { bucket(first)..bucket(last) + 1 };
        buckets.map(move |at| {
            let start = self.first_token + at as u64 * (BUCKET_SPAN + 1);
            (at, first.max(start)..=last.min(start + BUCKET_SPAN))
        })
    }

    fn entries_of(&self, tokens: &RangeInclusive<u64>) -> impl Iterator<Item = &Entry> {
        self.range(Position::first_of(*tokens.start())..=Position::last_of(*tokens.end()))
    }

    fn put_unless(
        &mut self,
        entry: Entry,
        writers: &Writers,
        stays: impl FnOnce(&Entry) -> bool,
    ) -> Merged {
        assert!(self.tokens().contains(&entry.token()), "an entry of another shard");
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
                self.insert(leaf, at, entry);
                Merged::Added
            }
        };
        self.count_in(&entry, writers);
        if let Merged::Replaced(old) = merged
            && planted!(DigestNotUpdated)
        {
            let digest = &mut self.digests[bucket(entry.token())];
            digest.remove(entry.digest_hash(writers));
            digest.add(old.digest_hash(writers));
        }
        if let Merged::Replaced(old) = merged
            && planted!(SketchNotUpdated)
        {
            let bucket = bucket(entry.token());
            self.sketches.remove(bucket, &entry, entry.digest_hash(writers));
            self.sketches.add(bucket, &old, old.digest_hash(writers));
        }
        merged
    }

    /// Reads what it takes to find these, and does nothing with it. Memory is waited for by several of them at the same
    /// time, where looking for one after the other waits for each. All are of this shard.
    pub(crate) fn touch(&self, positions: impl Iterator<Item = Position>) {
        const AT_ONCE: usize = 16;
        let mut positions = positions.peekable();
        let mut places = [(Position::first_of(0), 0, 0); AT_ONCE];
        while positions.peek().is_some() {
            let mut count = 0;
            for (place, position) in places.iter_mut().zip(&mut positions) {
                let (leaf, guess) = self.guess(position);
                self.leaves[leaf].touch_row(guess);
                *place = (position, leaf, guess);
                count += 1;
            }
            for &(position, leaf, guess) in &places[..count] {
                self.leaves[leaf].touch_entry(position, guess);
            }
        }
    }

    /// The leaf for a position, and where in it the entry is or would be.
    fn find(&self, position: Position) -> (usize, Result<usize, usize>) {
        // In a leaf all tokens are taken for tokens of this shard.
        if position.token < self.first_token {
            return (0, Err(0));
        }
        if position.token - self.first_token > SHARD_SPAN {
            let last = self.leaves.len() - 1;
            return (last, Err(self.leaves[last].len()));
        }
        let (leaf, guess) = self.guess(position);
        (leaf, self.leaves[leaf].find(position, guess))
    }

    /// The leaf for a position of this shard, and about where in it the entry is.
    fn guess(&self, position: Position) -> (usize, usize) {
        let above_start = position.token - self.first_token;
        let guess = interpolate(above_start, SHARD_SPAN, self.fences.len());
        let above = gallop(self.fences.len(), guess, |at| self.fences[at] <= position);
        let leaf = above.saturating_sub(1);
        let low = self.fences[leaf].token;
        let high =
            self.fences.get(above).map_or(self.first_token + SHARD_SPAN, |fence| fence.token);
        let leaf_len = self.leaves[leaf].len();
        let guess =
            interpolate(position.token.saturating_sub(low), high.saturating_sub(low), leaf_len);
        (leaf, guess)
    }

    /// Puts an entry where [`Self::find`] did not find it.
    fn insert(&mut self, leaf: usize, at: usize, entry: Entry) {
        if !self.leaves[leaf].is_full() {
            self.leaves[leaf].insert(at, entry);
            return;
        }
        let mut upper = self.leaves[leaf].split();
        match at.checked_sub(self.leaves[leaf].len()) {
            Some(at) if at > 0 => upper.insert(at, entry),
            _ => self.leaves[leaf].insert(at, entry),
        }
        self.fences.insert(leaf + 1, upper.entry(0).position());
        self.leaves.insert(leaf + 1, upper);
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
            let (bucket, hash) = (bucket(entry.token()), entry.digest_hash(writers));
            self.digests[bucket].add(hash);
            self.sketches.add(bucket, entry, hash);
        }
    }

    fn count_out(&mut self, entry: &Entry, writers: &Writers) {
        self.counts.entries -= 1;
        self.counts.tombstones -= u64::from(entry.is_tombstone());
        self.counts.damaged -= u64::from(entry.is_damaged());
        self.counts.live_bytes -= entry.live_bytes();
        if !entry.is_damaged() {
            let (bucket, hash) = (bucket(entry.token()), entry.digest_hash(writers));
            self.digests[bucket].remove(hash);
            self.sketches.remove(bucket, entry, hash);
        }
    }
}

/// Whether these tokens are all those of a bucket; they are of no other.
fn is_whole(tokens: &RangeInclusive<u64>) -> bool {
    tokens.end() - tokens.start() == BUCKET_SPAN
}

/// The bucket of a token among those of its shard.
fn bucket(token: u64) -> usize {
    usize::try_from((token & SHARD_SPAN) >> (u64::BITS - SHARD_BITS - BUCKET_BITS))
        .expect("a few bits")
}

/// How many of `len` tokens that are spread evenly over a range of `width` are below the one that is `above` its start.
fn interpolate(above: u64, width: u64, len: usize) -> usize {
    // Cut to half a word, so that the product fits into a whole one.
    let shift = u32::BITS.saturating_sub(width.leading_zeros());
    let guess = (above >> shift) * len as u64 / ((width >> shift) + 1);
    usize::try_from(guess).map_or(len, |guess| guess.min(len))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use quorate_record::{NodeId, Timestamp, Writer};

    use super::super::WriterId;
    use super::*;

    /// What a shard should be: nothing kept up, everything counted when it is asked for.
    #[derive(Default)]
    struct Model(BTreeMap<Position, Entry>);

    impl Model {
        fn merge(&mut self, entry: Entry, writers: &Writers) -> Merged {
            match self.0.get(&entry.position()) {
                Some(old) if old.stamp(writers) > entry.stamp(writers) => Merged::Lost(*old),
                Some(old)
                    if old.stamp(writers) == entry.stamp(writers)
                        && !old.is_damaged()
                        && old.place() > entry.place() =>
                {
                    Merged::Lost(*old)
                }
                _ => self.put(entry).map_or(Merged::Added, Merged::Replaced),
            }
        }

        fn put(&mut self, entry: Entry) -> Option<Entry> {
            self.0.insert(entry.position(), entry)
        }

        fn change(
            &mut self,
            position: Position,
            place: Place,
            change: impl Fn(Entry) -> Entry,
        ) -> Option<Entry> {
            let entry = self.0.get_mut(&position)?;
            let old = *entry;
            (old.place() == place && !old.is_damaged()).then(|| *entry = change(old))?;
            Some(old)
        }

        fn digest(&self, tokens: &RangeInclusive<u64>, writers: &Writers) -> Digest {
            let mut digest = Digest::default();
            self.0
                .values()
                .filter(|entry| tokens.contains(&entry.token()) && !entry.is_damaged())
                .for_each(|entry| digest.add(entry.digest_hash(writers)));
            digest
        }

        fn sketch(&self, cells: usize, tokens: &RangeInclusive<u64>, writers: &Writers) -> Sketch {
            let mut sketch = Sketch::new(cells);
            let entries = self.0.values().filter(|entry| tokens.contains(&entry.token()));
            sketches::scan(&mut sketch, entries, writers);
            sketch
        }

        fn counts(&self) -> Counts {
            let count =
                |is: fn(&Entry) -> bool| self.0.values().filter(|entry| is(entry)).count() as u64;
            Counts {
                entries: count(|_| true),
                tombstones: count(Entry::is_tombstone),
                damaged: count(Entry::is_damaged),
                live_bytes: self.0.values().map(Entry::live_bytes).sum(),
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(Entry),
        Merge(Entry),
        Remove(Position),
        Relocate(Position, Place, Place),
        MarkDamaged(Position, Place),
        /// Puts so many with positions from there on, so that leaves are split.
        PutRow(Position, u64),
        /// Removes so many from there on, so that leaves are merged.
        RemoveRow(Position, usize),
    }

    const NUMBER: usize = 0xa5;

    fn first_token() -> u64 {
        *Shard::new(NUMBER).tokens().start()
    }

    fn writers() -> (Writers, [WriterId; 3]) {
        let writers = Writers::new();
        let ids = [("b", 1), ("a", 2), ("a", 1)].map(|(name, incarnation)| {
            writers.intern(&Writer { node: NodeId::new(name).unwrap(), incarnation }).unwrap()
        });
        (writers, ids)
    }

    fn place(number: u64) -> Place {
        Place { segment: 1 + number % 2, offset: 8 * (number / 2) }
    }

    fn entry_at(position: Position) -> Entry {
        let entry = Entry::new(position, Timestamp::from_bits(1), writers().1[0], 1, false);
        entry.at(place(0), 64)
    }

    fn next(position: Position, steps: u64) -> Position {
        // Within one token first, then over the tokens of the shard.
        let check = position.check.wrapping_add(steps * 5);
        let token = (position.token + steps / 100 * 3).min(first_token() + SHARD_SPAN);
        Position { token, check }
    }

    /// Tokens of one shard: all the same, at the borders of buckets, and anywhere.
    fn any_token() -> impl Strategy<Value = u64> {
        let border = (0_u64..16, 0_u64..3).prop_map(|(bucket, off)| {
            let border = first_token() + bucket * (BUCKET_SPAN + 1);
            (border + off).saturating_sub(1).max(first_token())
        });
        prop_oneof![
            Just(first_token() + SHARD_SPAN),
            Just(first_token() + 77),
            border,
            any::<u64>().prop_map(|token| first_token() + (token & SHARD_SPAN)),
        ]
    }

    fn any_position() -> impl Strategy<Value = Position> {
        let check = prop_oneof![0_u64..4, Just(u64::MAX)];
        (any_token(), check).prop_map(|(token, check)| Position { token, check })
    }

    fn any_entry() -> impl Strategy<Value = Entry> {
        let stamp = (0_u64..3, 0_usize..3, 0_u64..3);
        (any_position(), stamp, any::<bool>(), 0_u64..4, 1_u64..4).prop_map(
            |(position, (time, writer, content), dead, at, units)| {
                let (_, ids) = writers();
                Entry::new(position, Timestamp::from_bits(time), ids[writer], content, dead)
                    .at(place(at), units * 8)
            },
        )
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let places = || (0_u64..4).prop_map(place);
        prop_oneof![
            3 => any_entry().prop_map(Step::Put),
            3 => any_entry().prop_map(Step::Merge),
            1 => any_position().prop_map(Step::Remove),
            2 => (any_position(), places(), places()).prop_map(|(at, a, b)| Step::Relocate(at, a, b)),
            2 => (any_position(), places()).prop_map(|(at, a)| Step::MarkDamaged(at, a)),
            1 => (any_position(), 0_u64..500).prop_map(|(at, count)| Step::PutRow(at, count)),
            1 => (any_position(), 0_usize..400).prop_map(|(at, count)| Step::RemoveRow(at, count)),
        ]
    }

    fn take(step: Step, shard: &mut Shard, model: &mut Model, writers: &Writers) {
        match step {
            Step::Put(entry) => assert_eq!(shard.put(entry, writers), model.put(entry)),
            Step::Merge(entry) => {
                assert_eq!(shard.merge(entry, writers), model.merge(entry, writers));
            }
            Step::Remove(at) => assert_eq!(shard.remove(at, writers), model.0.remove(&at)),
            Step::Relocate(at, from, to) => {
                let expected = model.change(at, from, |entry| entry.at(to, 24));
                assert_eq!(shard.relocate(at, from, to, 24), expected);
            }
            Step::MarkDamaged(at, from) => {
                let expected = model.change(at, from, Entry::damaged);
                assert_eq!(shard.mark_damaged(at, from, writers), expected);
            }
            Step::PutRow(from, count) => (0..count).for_each(|steps| {
                let entry = entry_at(next(from, steps * 7 % count));
                assert_eq!(shard.put(entry, writers), model.put(entry));
            }),
            Step::RemoveRow(from, count) => {
                let row: Vec<_> = model.0.range(from..).map(|(at, _)| *at).take(count).collect();
                for at in row {
                    assert_eq!(shard.remove(at, writers), model.0.remove(&at));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_shard_is_a_sorted_map_that_knows_its_sums(
            steps in prop::collection::vec(any_step(), 0..60),
            asked in prop::collection::vec((any_position(), any_position()), 8),
            tokens in prop::collection::vec((any::<u64>(), any_token(), any::<bool>()), 8),
            kept in prop_oneof![Just(0_usize), Just(4), Just(8)],
        ) {
            let (writers, _) = writers();
            let mut shard = Shard::new(NUMBER).keeping_sketches(kept);
            let mut model = Model::default();
            for step in steps {
                take(step, &mut shard, &mut model, &writers);
                prop_assert_eq!(shard.counts(), model.counts());
            }
            prop_assert!(shard.range(..).eq(model.0.values()));
            prop_assert!(shard.fences.is_sorted() && shard.fences.len() == shard.leaves.len());
            for (a, b) in asked {
                prop_assert_eq!(shard.get(a), model.0.get(&a));
                let (a, b) = (a.min(b), a.max(b));
                prop_assert!(shard.range(a..=b).eq(model.0.range(a..=b).map(|(_, entry)| entry)));
                let behind = (Bound::Excluded(a), Bound::Unbounded);
                prop_assert!(shard.range(behind).eq(model.0.range(behind).map(|(_, entry)| entry)));
            }
            for (a, b, both_within) in tokens {
                let a = if both_within { first_token() + (a & SHARD_SPAN) } else { a };
                let range = a.min(b)..=a.max(b);
                prop_assert_eq!(shard.digest(&range, &writers), model.digest(&range, &writers));
                let buckets = shard.bucket_digests(&range, &writers).map(|(bucket, _)| bucket);
                let last = first_token() + SHARD_SPAN;
                let ours = first_token().max(*range.start())..=last.min(*range.end());
                let number = |token: u64| NUMBER * BUCKETS + bucket(token);
                let expected = number(*ours.start())..=number(*ours.end());
                prop_assert!(buckets.eq(expected.filter(|_| !ours.is_empty())));
                let mut sum = Sketch::new(6);
                shard.add_to_sketch(&mut sum, &range, &writers);
                prop_assert_eq!(sum, model.sketch(6, &range, &writers));
            }
        }

        #[test]
        fn a_shard_built_in_one_go_is_like_one_built_step_by_step(
            entries in prop::collection::vec(any_entry(), 0..300),
            (row, count) in (any_position(), 0_u64..500),
            at_once in 1_usize..200,
            later in prop::collection::vec(any_step(), 0..10),
        ) {
            let (writers, _) = writers();
            let (mut shard, mut model) = (Shard::new(NUMBER), Model::default());
            for entry in entries {
                let _ = model.merge(entry, &writers);
            }
            for steps in 0..count {
                model.put(entry_at(next(row, steps)));
            }
            let sorted: Vec<Entry> = model.0.values().copied().collect();
            for entries in sorted.chunks(at_once) {
                prop_assert_eq!(shard.append(entries, &writers), Ok(()));
            }
            for step in later {
                take(step, &mut shard, &mut model, &writers);
            }
            prop_assert_eq!(shard.counts(), model.counts());
            prop_assert!(shard.range(..).eq(model.0.values()));
            let all = 0..=u64::MAX;
            prop_assert_eq!(shard.digest(&all, &writers), model.digest(&all, &writers));
        }
    }

    #[test]
    fn shards_cover_the_token_space_without_gaps() {
        assert_eq!(Shard::new(0).tokens().start(), &0);
        assert_eq!(Shard::new(SHARDS - 1).tokens().end(), &u64::MAX);
        for number in 1..SHARDS {
            let (start, end) = Shard::new(number).tokens().into_inner();
            assert_eq!((shard_of(start), shard_of(end)), (number, number));
            assert_eq!(*Shard::new(number - 1).tokens().end() + 1, start);
            assert_eq!((bucket(start), bucket(end)), (0, BUCKETS - 1));
        }
    }

    #[test]
    fn ranges_may_begin_and_end_in_other_shards() {
        let (writers, _) = writers();
        let mut shard = Shard::new(NUMBER);
        // Tokens that differ from those of the bounds in other bits than a shard's own.
        let tokens =
            [first_token() + 1, first_token() + SHARD_SPAN / 2, first_token() + SHARD_SPAN];
        for token in tokens {
            shard.put(entry_at(Position::first_of(token)), &writers);
        }
        for (from, to) in [(0, u64::MAX), (SHARD_SPAN, u64::MAX - 1), (1, u64::MAX - SHARD_SPAN)] {
            let range = Position::first_of(from)..=Position::last_of(to);
            assert!(shard.range(range).map(Entry::token).eq(tokens));
        }
        assert_eq!(shard.range(..=Position::last_of(first_token() - 1)).count(), 0);
        assert_eq!(shard.range(Position::first_of(first_token() + SHARD_SPAN + 1)..).count(), 0);
    }

    #[test]
    fn entries_out_of_order_or_of_another_shard_are_not_built_upon() {
        let (writers, _) = writers();
        let entry = |off: u64| entry_at(Position::first_of(first_token().wrapping_add(off)));
        let mut shard = Shard::new(NUMBER);
        assert_eq!(shard.append(&[entry(5), entry(6)], &writers), Ok(()));
        for bad in [[entry(6), entry(7)], [entry(8), entry(7)], [entry(7), entry(SHARD_SPAN + 1)]] {
            assert_eq!(shard.append(&bad, &writers), Err(OutOfOrder));
        }
        assert_eq!(shard.counts().entries, 2);
    }

    #[test]
    fn of_equal_records_the_place_that_lies_furthest_stays() {
        let (writers, _) = writers();
        let mut shard = Shard::new(NUMBER);
        let first = entry_at(Position::first_of(first_token()));
        let again = first.at(place(3), 32);
        assert_eq!(shard.merge(first, &writers), Merged::Added);
        assert_eq!(shard.merge(again, &writers), Merged::Replaced(first));
        assert_eq!(shard.merge(first, &writers), Merged::Lost(again));
        assert_eq!(shard.get(first.position()), Some(&again));
        shard.mark_damaged(again.position(), again.place(), &writers).unwrap();
        assert_eq!(shard.merge(first, &writers), Merged::Replaced(again.damaged()));
    }

    #[test]
    fn what_is_damaged_is_in_no_digest_but_still_orders_writes() {
        let (writers, ids) = writers();
        let mut shard = Shard::new(NUMBER);
        let position = Position::first_of(first_token());
        let old = entry_at(position);
        let new = Entry::new(position, Timestamp::from_bits(2), ids[0], 1, false).at(place(2), 64);
        shard.put(new, &writers);
        assert_eq!(shard.mark_damaged(position, old.place(), &writers), None);
        assert_eq!(shard.mark_damaged(position, new.place(), &writers), Some(new));
        assert_eq!(shard.digest(&(0..=u64::MAX), &writers), Digest::default());
        let counts = Counts { entries: 1, tombstones: 0, damaged: 1, live_bytes: 0 };
        assert_eq!(shard.counts(), counts);
        assert_eq!(shard.merge(old, &writers), Merged::Lost(new.damaged()));
        assert_eq!(shard.relocate(position, new.place(), place(1), 64), None);
        // The same record, brought again by another replica, heals it.
        assert_eq!(shard.merge(new.at(place(3), 64), &writers), Merged::Replaced(new.damaged()));
        assert_eq!((shard.counts().damaged, shard.counts().live_bytes), (0, 64));
    }
}
