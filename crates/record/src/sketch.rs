//! Sets that can be subtracted from each other without being sent.

/// What is known of one record: where its key lies, when it was written, and a hash of the rest.
///
/// Any set of pairs of a key's hash and a version can be made of these: `fingerprint` is then zero,
/// or a hash of what the version leaves open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol {
    /// The token of the key.
    pub token: u64,
    /// The bits of the version's timestamp; greater is newer.
    pub timestamp: u64,
    /// Tells records of the same key and time apart. The lowest bit is set for a tombstone.
    pub fingerprint: u32,
}

impl Symbol {
    /// The symbol of a record whose [hash](crate::Stamp::digest_hash) is this.
    #[must_use]
    pub fn hashed(token: u64, timestamp: u64, digest_hash: u64, is_tombstone: bool) -> Self {
        let upper = u32::try_from(digest_hash >> u32::BITS).expect("half of the bits");
        Self { token, timestamp, fingerprint: upper & !1 | u32::from(is_tombstone) }
    }

    /// Whether it is that of a stored delete.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.fingerprint & 1 != 0
    }

    fn hash(&self) -> u64 {
        let hash = mixed(self.token ^ 0x9e37_79b9_7f4a_7c15);
        let hash = mixed(hash ^ self.timestamp);
        mixed(hash ^ u64::from(self.fingerprint))
    }
}

/// The finaliser of SplitMix64 (Steele et al. 2014).
fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The sum of some of the symbols of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// XOR of their tokens.
    pub token: u64,
    /// XOR of their timestamps.
    pub timestamp: u64,
    /// XOR of their fingerprints.
    pub fingerprint: u32,
    /// XOR of their checksums: tells a single symbol from a sum that looks like one.
    pub checksum: u32,
    /// How many they are, less those subtracted; modulo 2^16, as only small differences matter.
    pub count: i16,
}

impl Cell {
    fn change(&mut self, symbol: &Symbol, hash: u64, by: i16) {
        self.token ^= symbol.token;
        self.timestamp ^= symbol.timestamp;
        self.fingerprint ^= symbol.fingerprint;
        self.checksum ^= checksum(hash);
        self.count = self.count.wrapping_add(by);
    }

    fn xor(&mut self, other: &Self) {
        self.token ^= other.token;
        self.timestamp ^= other.timestamp;
        self.fingerprint ^= other.fingerprint;
        self.checksum ^= other.checksum;
    }

    /// The only symbol in it, and its hash, if there seems to be just one.
    fn single(&self) -> Option<(Symbol, u64)> {
        let Self { token, timestamp, fingerprint, checksum: sum, count } = *self;
        let symbol = Symbol { token, timestamp, fingerprint };
        let hash = symbol.hash();
        (count.unsigned_abs() == 1 && checksum(hash) == sum).then_some((symbol, hash))
    }
}

fn checksum(hash: u64) -> u32 {
    u32::try_from(hash >> u32::BITS).expect("half of the bits")
}

/// The cells that a symbol is in: every symbol is in cell 0, and in cell `i` with a chance of
/// 1/(1 + i/2) (Yang et al. 2024, §4.2).
struct Indices {
    state: u64,
    next: u64,
}

impl Indices {
    fn of(hash: u64) -> Self {
        Self { state: hash | 1, next: 0 }
    }

    /// The next one, if it is below `cells`.
    fn below(&mut self, cells: usize) -> Option<usize> {
        let index = usize::try_from(self.next).ok().filter(|&index| index < cells)?;
        self.state = self.state.wrapping_mul(0xda94_2042_e4dd_58b5);
        let skip = (self.next as f64 + 1.5) * (TWO_TO_32 / (self.state as f64 + 1.0).sqrt() - 1.0);
        #[expect(clippy::cast_possible_truncation, reason = "what is too much is beyond all cells")]
        let skip = skip.ceil() as u64;
        self.next = self.next.saturating_add(skip.max(1));
        Some(index)
    }
}

const TWO_TO_32: f64 = 4_294_967_296.0;

/// A set of [`Symbol`]s, summed up in some cells: the first ones of a rateless IBLT (Yang, Gilad and
/// Alizadeh, "Practical Rateless Set Reconciliation", SIGCOMM 2024).
///
/// It is linear: subtracting the sketches of two sets gives that of their difference, whatever they
/// have in common, and a sketch of about 1.4 to 1.8 times as many cells as it has symbols can be
/// [decoded](Self::decode). The first cells of a sketch are a sketch of fewer cells.
///
/// ```
/// use quorate_record::{Sketch, Symbol};
///
/// let symbol = |token| Symbol { token, timestamp: 7, fingerprint: 0 };
/// let mut local = Sketch::new(16);
/// let mut remote = Sketch::new(16);
/// (0..100_000).for_each(|token| local.add(&symbol(token)));
/// (3..100_002).for_each(|token| remote.add(&symbol(token)));
///
/// local.subtract(&remote);
/// let difference = local.decode().expect("five symbols in sixteen cells");
/// assert_eq!(difference.local, [symbol(0), symbol(1), symbol(2)]);
/// assert_eq!(difference.remote, [symbol(100_000), symbol(100_001)]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sketch {
    cells: Vec<Cell>,
}

/// What one of two sets has and the other has not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// In the sketch that was subtracted from, in order.
    pub local: Vec<Symbol>,
    /// In the one that was subtracted, in order.
    pub remote: Vec<Symbol>,
}

impl Sketch {
    /// The empty set, in so many cells.
    #[must_use]
    pub fn new(cells: usize) -> Self {
        Self { cells: vec![Cell::default(); cells] }
    }

    /// A sketch that somebody has sent. Whatever the cells are, nothing here panics or runs on.
    #[must_use]
    pub fn from_cells(cells: Vec<Cell>) -> Self {
        Self { cells }
    }

    /// Its cells, to be sent.
    #[must_use]
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// Takes a symbol in. One that is taken in twice is not there any more, but counts.
    pub fn add(&mut self, symbol: &Symbol) {
        self.change(symbol, symbol.hash(), 1);
    }

    /// Takes a symbol out that was added before.
    pub fn remove(&mut self, symbol: &Symbol) {
        self.change(symbol, symbol.hash(), -1);
    }

    /// Takes in all symbols of another sketch, as far as that has cells; the rest is left out here,
    /// too, as it says nothing any more.
    pub fn combine(&mut self, other: &Self) {
        self.cells.truncate(other.cells.len());
        for (cell, other) in self.cells.iter_mut().zip(&other.cells) {
            cell.xor(other);
            cell.count = cell.count.wrapping_add(other.count);
        }
    }

    /// Leaves what differs from another sketch, as far as both have cells.
    pub fn subtract(&mut self, other: &Self) {
        self.cells.truncate(other.cells.len());
        for (cell, other) in self.cells.iter_mut().zip(&other.cells) {
            cell.xor(other);
            cell.count = cell.count.wrapping_sub(other.count);
        }
    }

    /// The symbols of a [difference](Self::subtract), or `None` if there are more than its cells
    /// tell. Takes time in proportion to the cells.
    #[must_use]
    pub fn decode(mut self) -> Option<Difference> {
        let mut difference = Difference::default();
        let mut pure: Vec<usize> = (0..self.cells.len()).collect();
        let mut found = 0;
        while let Some(at) = pure.pop() {
            let Some((symbol, hash)) = self.cells[at].single() else { continue };
            // That a symbol is where it does not belong, or that there are more of them than cells,
            // is chance or malice. Without the second bound malice could go on for ever.
            if found == self.cells.len() || !belongs(hash, at) {
                return None;
            }
            found += 1;
            let count = self.cells[at].count;
            if count > 0 { &mut difference.local } else { &mut difference.remote }.push(symbol);
            let mut indices = Indices::of(hash);
            while let Some(index) = indices.below(self.cells.len()) {
                let cell = &mut self.cells[index];
                cell.change(&symbol, hash, -count);
                if cell.count.unsigned_abs() == 1 {
                    pure.push(index);
                }
            }
        }
        difference.local.sort_unstable();
        difference.remote.sort_unstable();
        (!self.cells.is_empty() && self.is_empty()).then_some(difference)
    }

    /// Whether there seems to be nothing in it.
    fn is_empty(&self) -> bool {
        self.cells.iter().all(|cell| *cell == Cell::default())
    }

    fn change(&mut self, symbol: &Symbol, hash: u64, by: i16) {
        let mut indices = Indices::of(hash);
        while let Some(index) = indices.below(self.cells.len()) {
            self.cells[index].change(symbol, hash, by);
        }
    }
}

/// Whether the symbol of this hash is in the cell of this index.
fn belongs(hash: u64, index: usize) -> bool {
    let mut indices = Indices::of(hash);
    std::iter::from_fn(|| indices.below(index + 1)).last() == Some(index)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn symbol(number: u64) -> Symbol {
        let hash = mixed(number);
        Symbol::hashed(hash, mixed(hash), hash, number.is_multiple_of(3))
    }

    fn sketch(cells: usize, numbers: impl IntoIterator<Item = u64>) -> Sketch {
        let mut sketch = Sketch::new(cells);
        numbers.into_iter().for_each(|number| sketch.add(&symbol(number)));
        sketch
    }

    #[test]
    fn a_symbol_of_each_kind_is_told_apart() {
        assert!(symbol(3).is_tombstone() && !symbol(4).is_tombstone());
    }

    #[test]
    fn the_mapping_to_cells_is_frozen() {
        let indices = |number: u64| {
            let mut indices = Indices::of(symbol(number).hash());
            std::iter::from_fn(|| indices.below(100)).collect::<Vec<_>>()
        };
        assert_eq!(indices(1), GOLDEN_INDICES);
        assert_eq!(sketch(1, 1..4).cells()[0], GOLDEN_CELL);
    }

    #[test]
    fn what_is_in_both_sets_cancels_out() {
        let mut all = sketch(8, 0..10_000);
        all.subtract(&sketch(8, 0..10_000));
        assert!(all.is_empty());
        assert_eq!(all.decode(), Some(Difference::default()));
    }

    #[test]
    fn too_many_differences_are_seen_to_be_too_many() {
        let mut here = sketch(64, 0..1_000);
        here.subtract(&Sketch::new(64));
        assert_eq!(here.decode(), None);
    }

    #[test]
    fn most_sketches_of_two_and_a_half_times_as_many_cells_can_be_decoded() {
        let decoded = (0..1_000_u64).filter(|round| {
            let numbers = round * 1_000..round * 1_000 + 26;
            sketch(64, numbers).decode().is_some_and(|it| it.local.len() == 26)
        });
        assert!(decoded.count() >= 980);
    }

    #[test]
    fn cells_without_end_do_not_keep_the_decoder_busy() {
        // Every cell claims the same symbol, alternately for either side.
        let mut cell = Cell::default();
        cell.change(&symbol(1), symbol(1).hash(), 1);
        let cells = (0..64).map(|at| Cell { count: if at % 2 == 0 { 1 } else { -1 }, ..cell });
        assert_eq!(Sketch::from_cells(cells.collect()).decode(), None);
    }

    fn cells() -> impl Strategy<Value = Vec<Cell>> {
        let honest = (0..20_u64).prop_map(|number| {
            let mut cell = Cell::default();
            cell.change(&symbol(number), symbol(number).hash(), 1);
            cell
        });
        let any = (any::<u64>(), any::<u64>(), any::<u32>(), any::<u32>(), any::<i16>()).prop_map(
            |(token, timestamp, fingerprint, checksum, count)| Cell {
                token,
                timestamp,
                fingerprint,
                checksum,
                count,
            },
        );
        prop::collection::vec(prop_oneof![honest, any], 0..80)
    }

    proptest! {
        #[test]
        fn whatever_a_peer_sends_is_survived(here in cells(), there in cells()) {
            let mut sketch = Sketch::from_cells(here);
            sketch.subtract(&Sketch::from_cells(there));
            let cells = sketch.cells().len();
            if let Some(difference) = sketch.decode() {
                prop_assert!(difference.local.len() + difference.remote.len() <= cells);
            }
        }

        #[test]
        fn a_decoded_difference_is_the_difference(
            here in prop::collection::btree_set(0..200_u64, 0..60),
            there in prop::collection::btree_set(0..200_u64, 0..60),
            cells in 0..200_usize,
        ) {
            let mut difference = sketch(cells, here.iter().copied());
            difference.subtract(&sketch(cells, there.iter().copied()));
            let only = |one: &BTreeSet<u64>, other: &BTreeSet<u64>| {
                let mut only: Vec<Symbol> =
                    one.difference(other).map(|number| symbol(*number)).collect();
                only.sort_unstable();
                only
            };
            let (local, remote) = (only(&here, &there), only(&there, &here));
            let is_ample = cells >= 8 * (local.len() + remote.len()) + 32;
            match difference.decode() {
                Some(decoded) => prop_assert_eq!(decoded, Difference { local, remote }),
                None => prop_assert!(!is_ample),
            }
        }

        #[test]
        fn sketches_are_linear_and_their_beginnings_are_sketches(
            here in prop::collection::vec(0..200_u64, 0..40),
            there in prop::collection::vec(200..400_u64, 0..40),
            fewer in 0..20_usize,
        ) {
            let mut both = sketch(20, here.iter().copied());
            both.combine(&sketch(fewer, there.iter().copied()));
            prop_assert_eq!(&both, &sketch(fewer, here.iter().chain(&there).copied()));
            there.iter().for_each(|number| both.remove(&symbol(*number)));
            prop_assert_eq!(both, sketch(fewer, here.iter().copied()));
        }
    }

    const GOLDEN_INDICES: [usize; 14] = [0, 1, 2, 10, 12, 23, 25, 30, 31, 33, 48, 58, 89, 95];
    const GOLDEN_CELL: Cell = Cell {
        token: 10_597_937_939_192_494_495,
        timestamp: 18_423_919_407_926_704_655,
        fingerprint: 2_467_524_711,
        checksum: 4_082_491_304,
        count: 3,
    };
}
