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
/// that nothing fits into.
#[derive(Default)]
pub(crate) struct Leaf {
    len: usize,
    /// As many as it takes, from the first on.
    blocks: [Option<Box<Block>>; BLOCKS],
}

type Block = [Entry; BLOCK_ENTRIES];

impl Leaf {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len == MAX_ENTRIES
    }

    pub(crate) fn entry(&self, at: usize) -> &Entry {
        let block = self.blocks[at / BLOCK_ENTRIES].as_deref();
        &block.expect("there are as many blocks as it takes")[at % BLOCK_ENTRIES]
    }

    pub(crate) fn entry_mut(&mut self, at: usize) -> &mut Entry {
        &mut self.block_mut(at / BLOCK_ENTRIES)[at % BLOCK_ENTRIES]
    }

    /// The entries from the one at `from` on.
    pub(crate) fn entries(&self, from: usize) -> impl Iterator<Item = &Entry> {
        self.blocks
            .iter()
            .enumerate()
            .filter_map(|(at, block)| Some((at, block.as_deref()?)))
            .flat_map(move |(at, block)| {
                let len = self.len.saturating_sub(at * BLOCK_ENTRIES).min(BLOCK_ENTRIES);
                &block[from.saturating_sub(at * BLOCK_ENTRIES).min(len)..len]
            })
    }

    pub(crate) fn last(&self) -> Option<&Entry> {
        Some(self.entry(self.len.checked_sub(1)?))
    }

    /// Where the entry of this position is, or would be: best looked for near `guess`.
    pub(crate) fn find(&self, position: Position, guess: usize) -> Result<usize, usize> {
        let at = gallop(self.len, guess, |at| self.entry(at).position() < position);
        let is_there = at < self.len && self.entry(at).position() == position;
        if is_there { Ok(at) } else { Err(at) }
    }

    /// Puts an entry before the one that is at `at` now.
    ///
    /// # Panics
    /// If the leaf is full.
    pub(crate) fn insert(&mut self, at: usize, entry: Entry) {
        self.make_room();
        let (first, mut at) = (at / BLOCK_ENTRIES, at % BLOCK_ENTRIES);
        let last = self.len / BLOCK_ENTRIES;
        let mut entry = entry;
        for block in first..=last {
            let block = self.block_mut(block);
            let pushed_out = block[BLOCK_ENTRIES - 1];
            block.copy_within(at..BLOCK_ENTRIES - 1, at + 1);
            block[at] = entry;
            (entry, at) = (pushed_out, 0);
        }
        self.len += 1;
    }

    /// Puts as many of these behind all others as there is room for; returns the rest.
    pub(crate) fn append<'a>(&mut self, mut entries: &'a [Entry]) -> &'a [Entry] {
        while !self.is_full() && !entries.is_empty() {
            self.make_room();
            let (block, at) = (self.len / BLOCK_ENTRIES, self.len % BLOCK_ENTRIES);
            let (taken, rest) = entries.split_at(entries.len().min(BLOCK_ENTRIES - at));
            self.block_mut(block)[at..at + taken.len()].copy_from_slice(taken);
            self.len += taken.len();
            entries = rest;
        }
        entries
    }

    /// Keeps the lower half of a full leaf; the upper half becomes another.
    pub(crate) fn split(&mut self) -> Leaf {
        debug_assert!(self.is_full());
        let mut upper = Leaf { len: MAX_ENTRIES / 2, ..Leaf::default() };
        let (_, blocks) = self.blocks.split_at_mut(BLOCKS / 2);
        blocks.swap_with_slice(&mut upper.blocks[..BLOCKS / 2]);
        self.len = MAX_ENTRIES / 2;
        upper
    }

    /// Takes out the entry at `at`.
    pub(crate) fn remove(&mut self, at: usize) -> Entry {
        let (first, at) = (at / BLOCK_ENTRIES, at % BLOCK_ENTRIES);
        let last = (self.len - 1) / BLOCK_ENTRIES;
        let mut pulled_in = *self.entry(self.len - 1);
        for block in (first + 1..=last).rev() {
            let block = self.block_mut(block);
            block.rotate_left(1);
            std::mem::swap(&mut block[BLOCK_ENTRIES - 1], &mut pulled_in);
        }
        let block = self.block_mut(first);
        let removed = block[at];
        block.copy_within(at + 1.., at);
        block[BLOCK_ENTRIES - 1] = pulled_in;
        self.len -= 1;
        if self.len.is_multiple_of(BLOCK_ENTRIES) {
            self.blocks[last] = None;
        }
        removed
    }

    /// Whether this leaf and its neighbour had better be one.
    pub(crate) fn should_merge(&self, other: &Leaf) -> bool {
        self.len + other.len <= MERGED_ENTRIES || self.len == 0 || other.len == 0
    }

    /// Takes in all entries of the next leaf, which are no more than there is room for.
    pub(crate) fn merge(&mut self, next: &Leaf) {
        for entry in next.entries(0) {
            let rest = self.append(std::slice::from_ref(entry));
            debug_assert!(rest.is_empty());
        }
    }

    /// Makes sure that there is a block for one more entry.
    fn make_room(&mut self) {
        self.blocks[self.len / BLOCK_ENTRIES]
            .get_or_insert_with(|| Box::new([Entry::FILLER; BLOCK_ENTRIES]));
    }

    fn block_mut(&mut self, at: usize) -> &mut Block {
        self.blocks[at].as_deref_mut().expect("there are as many blocks as it takes")
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

    fn entry(token: u64) -> Entry {
        let writer = Writer { node: NodeId::new("n").unwrap(), incarnation: 1 };
        let writer = Writers::new().intern(&writer).unwrap();
        let position = Position { token, check: 0 };
        Entry::new(position, Timestamp::ZERO, writer, 0, false)
    }

    fn leaf(len: usize) -> Leaf {
        let entries: Vec<Entry> = (0..len as u64).map(|at| entry(2 * at)).collect();
        let mut leaf = Leaf::default();
        assert!(leaf.append(&entries).is_empty());
        leaf
    }

    fn tokens(leaf: &Leaf) -> Vec<u64> {
        assert_eq!(leaf.blocks.iter().flatten().count(), leaf.len.div_ceil(BLOCK_ENTRIES));
        leaf.entries(0).map(Entry::token).collect()
    }

    #[test]
    fn an_entry_is_found_whatever_the_guess() {
        for len in [0, 1, 2, 15, 16, 17, 100, MAX_ENTRIES] {
            let leaf = leaf(len);
            for token in 0..2 * len as u64 {
                let at = usize::try_from(token.div_ceil(2)).unwrap();
                let found = if token % 2 == 0 { Ok(at) } else { Err(at) };
                for guess in 0..=len + 1 {
                    assert_eq!(leaf.find(Position::first_of(token), guess), found);
                }
            }
        }
    }

    #[test]
    fn inserting_and_removing_keep_all_others_in_order() {
        for len in [0, 1, 15, 16, 17, 63, MAX_ENTRIES - 1] {
            for at in 0..=len {
                let mut leaf = leaf(len);
                let mut expected = tokens(&leaf);
                leaf.insert(at, entry(777));
                expected.insert(at, 777);
                assert_eq!(tokens(&leaf), expected);
                assert_eq!(leaf.remove(at).token(), 777);
                expected.remove(at);
                assert_eq!(tokens(&leaf), expected);
            }
        }
    }

    #[test]
    fn a_full_leaf_is_split_in_halves_and_can_take_in_its_upper_half_again() {
        let mut leaf = leaf(MAX_ENTRIES);
        let all = tokens(&leaf);
        let upper = leaf.split();
        assert_eq!((tokens(&leaf), tokens(&upper)), {
            let (low, high) = all.split_at(MAX_ENTRIES / 2);
            (low.to_vec(), high.to_vec())
        });
        assert!(!leaf.should_merge(&upper));
        leaf.merge(&upper);
        assert_eq!(tokens(&leaf), all);
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
        let all = tokens(&leaf);
        for from in 0..=40 {
            assert!(leaf.entries(from).map(Entry::token).eq(all[from..].iter().copied()));
        }
    }
}
