use super::{Entry, Position};

/// Most entries of a leaf. One that is full is split in halves.
pub(crate) const MAX_ENTRIES: usize = 128;

/// Leaves that have together no more than this become one.
const MERGED_ENTRIES: usize = MAX_ENTRIES * 3 / 4;

/// For how many more entries a leaf that has no room gets some. Small, as every leaf has half of it to spare on average.
const GROWTH: usize = 8;

/// Neighbours in the order of their positions, in one allocation.
#[derive(Debug, Default)]
pub(crate) struct Leaf {
    entries: Vec<Entry>,
}

impl Leaf {
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn entry_mut(&mut self, at: usize) -> &mut Entry {
        &mut self.entries[at]
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Where the entry of this position is, or would be: best looked for near `guess`.
    ///
    /// Costs the logarithm of how far off the guess is.
    pub(crate) fn find(&self, position: Position, guess: usize) -> Result<usize, usize> {
        let entries = &self.entries[..];
        let is_below = |at: usize| entries[at].position() < position;
        let guess = guess.min(entries.len());
        // Whatever is before `low` is below the position, and nothing from `high` on is.
        let (mut low, mut high) = (0, entries.len());
        let mut step = 1;
        if guess < high && is_below(guess) {
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
            high = guess;
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
        let at = low + entries[low..high].partition_point(|entry| entry.position() < position);
        let is_there = entries.get(at).is_some_and(|entry| entry.position() == position);
        if is_there { Ok(at) } else { Err(at) }
    }

    /// Puts an entry between others. If there was no room, the upper half is returned, which is to become a leaf.
    pub(crate) fn insert(&mut self, at: usize, entry: Entry) -> Option<Leaf> {
        if self.entries.len() < MAX_ENTRIES {
            self.make_room(1);
            self.entries.insert(at, entry);
            return None;
        }
        let half = MAX_ENTRIES / 2;
        let mut upper = Vec::with_capacity(half + GROWTH);
        upper.extend(self.entries.drain(half..));
        self.entries.shrink_to(half + GROWTH);
        if at <= half {
            self.entries.insert(at, entry);
        } else {
            upper.insert(at - half, entry);
        }
        Some(Leaf { entries: upper })
    }

    /// Takes as many of these in, behind all others, as a leaf should have that is filled in one go; returns the rest.
    pub(crate) fn append<'a>(&mut self, entries: &'a [Entry]) -> &'a [Entry] {
        let fits = MAX_ENTRIES.saturating_sub(self.entries.len()).min(entries.len());
        let (taken, rest) = entries.split_at(fits);
        self.entries.reserve_exact(taken.len());
        self.entries.extend_from_slice(taken);
        rest
    }

    pub(crate) fn remove(&mut self, at: usize) -> Entry {
        let entry = self.entries.remove(at);
        if self.entries.capacity() - self.entries.len() > 2 * GROWTH {
            self.entries.shrink_to(self.entries.len() + GROWTH);
        }
        entry
    }

    /// Whether this leaf and its neighbour had better be one.
    pub(crate) fn should_merge(&self, other: &Leaf) -> bool {
        self.len() + other.len() <= MERGED_ENTRIES || self.len() == 0 || other.len() == 0
    }

    /// Takes in all entries of the next leaf.
    pub(crate) fn merge(&mut self, next: &Leaf) {
        self.entries.reserve_exact(next.len());
        self.entries.extend_from_slice(&next.entries);
    }

    fn make_room(&mut self, more: usize) {
        if self.entries.capacity() - self.entries.len() < more {
            self.entries.reserve_exact(GROWTH);
        }
    }
}
