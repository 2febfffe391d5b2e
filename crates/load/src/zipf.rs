use crate::random::Random;

/// Exponent of YCSB's Zipfian: rank i is drawn with a probability proportional to 1 / (i + 1)^θ.
pub(crate) const THETA: f64 = 0.99;

/// Up to here the sum that a Zipfian needs is added up; beyond, Euler and Maclaurin are trusted.
const SUMMED: u64 = 1_000;

/// Ranks, the lower ones drawn far more often.
///
/// The way of drawing is that of Gray et al., "Quickly generating billion-record synthetic
/// databases" (SIGMOD 1994, §3), as in YCSB: exact for the first two ranks, an inverted integral for
/// the others. The number of ranks may grow.
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    ranks: u64,
    zeta: f64,
}

impl Zipf {
    /// # Panics
    /// If there are no ranks.
    pub(crate) fn new(ranks: u64) -> Self {
        assert!(ranks > 0, "a Zipfian needs a rank");
        Self { ranks, zeta: zeta(ranks) }
    }

    /// Adds one rank, the least likely.
    pub(crate) fn grow(&mut self) {
        self.ranks += 1;
        self.zeta += (self.ranks as f64).powf(-THETA);
    }

    /// One rank, below the number of ranks.
    pub(crate) fn draw(&self, random: &mut Random) -> u64 {
        let second = 0.5f64.powf(THETA);
        let unit = random.unit();
        let scaled = unit * self.zeta;
        if scaled < 1.0 || self.ranks == 1 {
            return 0;
        }
        if scaled < 1.0 + second || self.ranks == 2 {
            return 1;
        }
        let ranks = self.ranks as f64;
        let eta = (1.0 - (2.0 / ranks).powf(1.0 - THETA)) / (1.0 - (1.0 + second) / self.zeta);
        let rank = ranks * (eta * unit - eta + 1.0).powf(1.0 / (1.0 - THETA));
        #[expect(clippy::cast_possible_truncation, reason = "a whole number is what is wanted")]
        #[expect(clippy::cast_sign_loss, reason = "it is not below 0")]
        let rank = rank as u64;
        rank.min(self.ranks - 1)
    }
}

/// The sum of 1 / i^θ for i from 1 to `n`.
fn zeta(n: u64) -> f64 {
    let power = |i: u64| (i as f64).powf(-THETA);
    let head: f64 = (1..=n.min(SUMMED)).map(power).sum();
    if n <= SUMMED {
        return head;
    }
    let (low, high) = (SUMMED as f64, n as f64);
    let integral = (high.powf(1.0 - THETA) - low.powf(1.0 - THETA)) / (1.0 - THETA);
    let slopes = THETA * (low.powf(-THETA - 1.0) - high.powf(-THETA - 1.0)) / 12.0;
    head + integral + (power(n) - power(SUMMED)) / 2.0 + slopes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_sum_is_right_where_it_is_not_added_up() {
        for n in [1, 2, 1_000, 1_001, 5_000, 200_000] {
            let exact: f64 = (1..=n).map(|i| (i as f64).powf(-THETA)).sum();
            assert!((zeta(n) - exact).abs() < 1e-9 * exact, "{n}: {} {exact}", zeta(n));
        }
    }

    #[test]
    fn ranks_come_as_often_as_the_formula_says() {
        const RANKS: u64 = 1_000;
        const DRAWS: u32 = 1_000_000;
        let zipf = Zipf::new(RANKS);
        let mut random = Random::new(7);
        let mut seen = vec![0u32; usize::try_from(RANKS).unwrap()];
        for _ in 0..DRAWS {
            seen[usize::try_from(zipf.draw(&mut random)).unwrap()] += 1;
        }
        let expected = |rank: u64| f64::from(DRAWS) / ((rank + 1) as f64).powf(THETA) / zeta(RANKS);
        for rank in [0, 1] {
            let count = f64::from(seen[usize::try_from(rank).unwrap()]);
            assert!((count / expected(rank) - 1.0).abs() < 0.02, "{rank}: {count}");
        }
        // The integral is an approximation, above all at the first ranks that it gives.
        for (from, to) in [(2, 5), (5, 20), (20, 100), (100, 500), (500, 1_000)] {
            let range = usize::try_from(from).unwrap()..usize::try_from(to).unwrap();
            let count: f64 = seen[range].iter().map(|&count| f64::from(count)).sum();
            let expected: f64 = (from..to).map(expected).sum();
            assert!((count / expected - 1.0).abs() < 0.15, "{from}..{to}: {count} {expected}");
        }
    }

    proptest! {
        #[test]
        fn a_rank_is_below_their_number(ranks in 1..u64::from(u32::MAX), seed: u64) {
            let mut zipf = Zipf::new(ranks);
            let mut random = Random::new(seed);
            for _ in 0..20 {
                prop_assert!(zipf.draw(&mut random) < ranks);
            }
            zipf.grow();
            prop_assert!(zipf.draw(&mut random) <= ranks);
        }
    }
}
