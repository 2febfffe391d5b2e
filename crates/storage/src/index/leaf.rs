use std::hint::black_box;

use super::shard::SHARD_BITS;
use super::{Entry, Position};

/// Most entries of a leaf. One that is full is split in halves.
const MAX_ENTRIES: usize = BLOCKS * BLOCK_ENTRIES;

/// Entries of a block. Small, as every leaf has half of it to spare on average.
const BLOCK_ENTRIES: usize = 16;

/// Most blocks of a leaf. An even number, so that halves are whole blocks.
const BLOCKS: usize = 8;

/// Leaves that have together no more than this become one.
const MERGED_ENTRIES: usize = MAX_ENTRIES * 3 / 4;

/// Neighbours in the order of their positions.
///
/// They are in blocks of one size, all full but the last, so that whatever comes and goes leaves no holes in memory
/// that nothing fits into. There they stay where they were put; a row beside says in which order. Finding one takes as
/// long as memory is waited for, so that row has the part of each position that mostly decides as well.
///
/// The length is with whoever has the leaf: it is needed for a guess at where to look.
pub(crate) struct Leaf {
    len: usize,
    rows: Box<Rows>,
}

struct Rows {
    /// A sign for each entry, in order; behind them, the greatest there can be.
    signs: [Sign; MAX_ENTRIES],
    /// As many as it takes, from the first on. The slots of all together are counted through.
    blocks: [Option<Box<Block>>; BLOCKS],
}

type Block = [Entry; BLOCK_ENTRIES];

/// The leading bits of a position, and below them the slot of its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sign(u32);

const SLOT_BITS: u32 = MAX_ENTRIES.ilog2();
const _: () = assert!(1 << SLOT_BITS == MAX_ENTRIES);

impl Default for Leaf {
    fn default() -> Self {
        let rows = Rows { signs: [Sign::GREATEST; MAX_ENTRIES], blocks: Default::default() };
        Self { len: 0, rows: Box::new(rows) }
    }
}

impl Leaf {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len == MAX_ENTRIES
    }

    pub(crate) fn entry(&self, at: usize) -> &Entry {
        let slot = self.rows.signs[at].slot();
        let block = self.rows.blocks[slot / BLOCK_ENTRIES].as_deref();
        &block.expect("there are as many blocks as it takes")[slot % BLOCK_ENTRIES]
    }

    /// To be changed in all but its position.
    pub(crate) fn entry_mut(&mut self, at: usize) -> &mut Entry {
        self.slot_mut(self.rows.signs[at].slot())
    }

    /// The entries from the one at `from` on.
    pub(crate) fn entries(&self, from: usize) -> impl Iterator<Item = &Entry> {
        (from..self.len).map(|at| self.entry(at))
    }

    pub(crate) fn last(&self) -> Option<&Entry> {
        Some(self.entry(self.len.checked_sub(1)?))
    }

    /// Where the entry of this position is, or would be: best looked for near `guess`.
    pub(crate) fn find(&self, position: Position, guess: usize) -> Result<usize, usize> {
        let least = Sign::least(position);
        self.touch_row(guess);
        let mut at = self.below(least, guess);
        if at == self.len || !self.rows.signs[at].has_leading_of(least) {
            return Err(at);
        }
        let is_below = |at: usize| self.entry(at).position() < position;
        if is_below(at) {
            at = gallop(self.len, at, is_below);
        }
        let is_there = at < self.len && self.entry(at).position() == position;
        if is_there { Ok(at) } else { Err(at) }
    }

    /// Has what is read first come from memory: the row where the guess is, and what is needed right after it.
    pub(crate) fn touch_row(&self, guess: usize) {
        black_box(self.rows.signs[guess.min(MAX_ENTRIES - 1)]);
        black_box(self.rows.blocks[0].is_some());
    }

    /// Has the entry of this position come from memory, or one beside where it would be.
    pub(crate) fn touch_entry(&self, position: Position, guess: usize) {
        let at = self.below(Sign::least(position), guess);
        if at < self.len {
            black_box(self.entry(at).timestamp());
        }
    }

    /// How many entries have lesser leading bits.
    fn below(&self, least: Sign, guess: usize) -> usize {
        // Counting some of them takes less time than guessing wrong which way a comparison goes.
        const WINDOW: usize = 32;
        let signs = &self.rows.signs;
        let start = guess.saturating_sub(WINDOW / 2).min(MAX_ENTRIES - WINDOW);
        let window: &[Sign; WINDOW] = signs[start..].first_chunk().expect("it is inside");
        let count: u32 = window.iter().map(|it| u32::from(it.0 < least.0)).sum();
        let at = start + count as usize;
        let is_exact = (count > 0 || start == 0)
            && ((count as usize) < WINDOW || start + WINDOW == MAX_ENTRIES);
        if is_exact { at } else { gallop(self.len, at, |at| signs[at] < least) }
    }

    /// Puts an entry before the one that is at `before` now.
    ///
    /// # Panics
    /// If the leaf is full.
    pub(crate) fn insert(&mut self, before: usize, entry: Entry) {
        let len = self.len;
        let signs = &mut self.rows.signs;
        signs.copy_within(before..len, before + 1);
        signs[before] = Sign::least(entry.position()).with_slot(len);
        self.push(entry);
    }

    /// Puts as many of these behind all others as there is room for; returns the rest.
    pub(crate) fn append<'a>(&mut self, entries: &'a [Entry]) -> &'a [Entry] {
        let (taken, rest) = entries.split_at(entries.len().min(MAX_ENTRIES - self.len));
        taken.iter().for_each(|entry| self.insert(self.len, *entry));
        rest
    }

    /// Keeps the lower half of a full leaf; the upper half becomes another.
    pub(crate) fn split(&mut self) -> Leaf {
        debug_assert!(self.is_full());
        let all: Vec<Entry> = self.entries(0).copied().collect();
        let (lower, upper) = all.split_at(MAX_ENTRIES / 2);
        let [mut low, mut high] = [Leaf::default(), Leaf::default()];
        // The blocks stay here, those that are not needed go.
        std::mem::swap(&mut low.rows.blocks, &mut self.rows.blocks);
        low.rows.blocks[BLOCKS / 2..].swap_with_slice(&mut high.rows.blocks[..BLOCKS / 2]);
        low.append(lower);
        high.append(upper);
        *self = low;
        high
    }

    /// Takes out the entry at `at`.
    pub(crate) fn remove(&mut self, at: usize) -> Entry {
        let last = self.len - 1;
        let freed = self.rows.signs[at].slot();
        // The last slot must be the one that is free.
        let moved = *self.slot_mut(last);
        let removed = std::mem::replace(self.slot_mut(freed), moved);
        let Rows { signs, blocks } = &mut *self.rows;
        let of_moved = signs[..self.len].iter_mut().find(|sign| sign.slot() == last);
        let of_moved = of_moved.expect("every slot up to the last is somebody's");
        *of_moved = of_moved.with_slot(freed);
        signs.copy_within(at + 1.., at);
        signs[MAX_ENTRIES - 1] = Sign::GREATEST;
        self.len = last;
        if last.is_multiple_of(BLOCK_ENTRIES) {
            blocks[last / BLOCK_ENTRIES] = None;
        }
        removed
    }

    /// Whether this leaf and its neighbour had better be one.
    pub(crate) fn should_merge(&self, other: &Leaf) -> bool {
        self.len + other.len <= MERGED_ENTRIES || self.len == 0 || other.len == 0
    }

    /// Takes in all entries of the next leaf, which are no more than there is room for.
    pub(crate) fn merge(&mut self, next: &Leaf) {
        next.entries(0).for_each(|entry| self.insert(self.len, *entry));
    }

    /// Puts an entry into the next slot.
    fn push(&mut self, entry: Entry) {
        let (block, at) = (self.len / BLOCK_ENTRIES, self.len % BLOCK_ENTRIES);
        let block =
            self.rows.blocks[block].get_or_insert_with(|| Box::new([Entry::FILLER; BLOCK_ENTRIES]));
        block[at] = entry;
        self.len += 1;
    }

    fn slot_mut(&mut self, slot: usize) -> &mut Entry {
        let block = self.rows.blocks[slot / BLOCK_ENTRIES].as_deref_mut();
        &mut block.expect("there are as many blocks as it takes")[slot % BLOCK_ENTRIES]
    }
}

impl Sign {
    const GREATEST: Self = Self(u32::MAX);

    /// The least one of a position. The leading bits are those that mostly tell it from others of its shard, which have
    /// the same bits before.
    fn least(position: Position) -> Self {
        let leading = u32::try_from(position.token << SHARD_BITS >> u32::BITS);
        Self(leading.expect("half of a token") >> SLOT_BITS << SLOT_BITS)
    }

    /// The same with this slot.
    fn with_slot(self, slot: usize) -> Self {
        let slot = u32::try_from(slot).expect("a leaf has few");
        Self(self.0 >> SLOT_BITS << SLOT_BITS | slot)
    }

    fn slot(self) -> usize {
        self.0 as usize % MAX_ENTRIES
    }

    fn has_leading_of(self, other: Self) -> bool {
        self.0 >> SLOT_BITS == other.0 >> SLOT_BITS
    }
}

/// How many of `len` things in a row are below something, of which all that are come first.
///
/// Costs the logarithm of how far off the guess is.
pub(crate) fn gallop(len: usize, guess: usize, is_below: impl Fn(usize) -> bool) -> usize {
    // Whatever is before `low` is below, and nothing from `high` on is.
    let (mut low, mut high) = (0, len);
    let mut step = 1;
    if guess < len && is_below(guess) {
        low = guess + 1;
        while low + step <= high {
            let probe = low + step - 1;
            if !is_below(probe) {
                high = probe;
                break;
            }
            low = probe + 1;
            step *= 2;
        }
    } else {
        high = guess.min(len);
        while low + step <= high {
            let probe = high - step;
            if is_below(probe) {
                low = probe + 1;
                break;
            }
            high = probe;
            step *= 2;
        }
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if is_below(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use quorate_record::{NodeId, Timestamp, Writer};

    use super::super::Writers;
    use super::*;

    /// Tokens of which four in a row have the same leading bits.
    const STEP: u64 = 1 << (u32::BITS - SHARD_BITS + SLOT_BITS - 2);

    fn position(number: u64) -> Position {
        Position { token: number * STEP, check: 0 }
    }

    fn entry(number: u64) -> Entry {
        let writer = Writer { node: NodeId::new("n").unwrap(), incarnation: 1 };
        let writer = Writers::new().intern(&writer).unwrap();
        Entry::new(position(number), Timestamp::ZERO, writer, 0, false)
    }

    fn number(entry: &Entry) -> u64 {
        entry.token() / STEP
    }

    fn leaf(len: usize) -> Leaf {
        let entries: Vec<Entry> = (0..len as u64).map(|at| entry(2 * at)).collect();
        let mut leaf = Leaf::default();
        assert!(leaf.append(&entries).is_empty());
        leaf
    }

    fn numbers(leaf: &Leaf) -> Vec<u64> {
        assert_eq!(leaf.rows.blocks.iter().flatten().count(), leaf.len.div_ceil(BLOCK_ENTRIES));
        let (row, rest) = leaf.rows.signs.split_at(leaf.len);
        let least = leaf.entries(0).map(|entry| Sign::least(entry.position()));
        assert!(least.eq(row.iter().map(|sign| sign.with_slot(0))));
        assert!(rest.iter().all(|sign| *sign == Sign::GREATEST));
        leaf.entries(0).map(number).collect()
    }

    #[test]
    fn an_entry_is_found_whatever_the_guess() {
        for len in [0, 1, 2, 15, 16, 17, 100, MAX_ENTRIES] {
            let leaf = leaf(len);
            for number in 0..2 * len as u64 {
                let at = usize::try_from(number.div_ceil(2)).unwrap();
                let found = if number % 2 == 0 { Ok(at) } else { Err(at) };
                for guess in 0..=len + 1 {
                    assert_eq!(leaf.find(position(number), guess), found);
                }
            }
        }
    }

    #[test]
    fn inserting_and_removing_keep_all_others_in_order() {
        for len in [0, 1, 15, 16, 17, 63, MAX_ENTRIES - 1] {
            for at in 0..=len {
                let mut leaf = leaf(len);
                let mut expected = numbers(&leaf);
                leaf.insert(at, entry(777));
                expected.insert(at, 777);
                assert_eq!(numbers(&leaf), expected);
                assert_eq!(number(&leaf.remove(at)), 777);
                expected.remove(at);
                assert_eq!(numbers(&leaf), expected);
            }
        }
    }

    #[test]
    fn a_full_leaf_is_split_in_halves_and_can_take_in_its_upper_half_again() {
        let mut leaf = leaf(MAX_ENTRIES);
        let all = numbers(&leaf);
        let upper = leaf.split();
        assert_eq!((numbers(&leaf), numbers(&upper)), {
            let (low, high) = all.split_at(MAX_ENTRIES / 2);
            (low.to_vec(), high.to_vec())
        });
        assert!(!leaf.should_merge(&upper));
        leaf.merge(&upper);
        assert_eq!(numbers(&leaf), all);
    }

    #[test]
    fn what_does_not_fit_is_given_back() {
        let mut leaf = leaf(MAX_ENTRIES - 3);
        let more: Vec<Entry> = (900..905).map(entry).collect();
        assert_eq!(leaf.append(&more), &more[3..]);
        assert_eq!(leaf.last(), Some(&more[2]));
        assert!(leaf.is_full());
    }

    #[test]
    fn entries_can_be_read_from_anywhere() {
        let leaf = leaf(40);
        let all = numbers(&leaf);
        for from in 0..=40 {
            assert!(leaf.entries(from).map(number).eq(all[from..].iter().copied()));
        }
    }
}
