//! Numbers that look random and are the same in every run, on every machine.

use std::{ops::RangeInclusive, time::Duration};

/// A generator of random numbers: xoshiro256++ of Blackman and Vigna (2019), seeded by SplitMix64 as they advise.
///
/// It is short enough to be here, so that no upgrade of a dependency can change what a seed means.
#[derive(Clone, Debug)]
pub struct Random([u64; 4]);

impl Random {
    /// The numbers of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        let mut split_mix = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        };
        Self([split_mix(), split_mix(), split_mix(), split_mix()])
    }

    /// The numbers of one subsystem: one draw more in one of them does not shift the others.
    #[must_use]
    pub fn stream(seed: u64, name: &str) -> Self {
        let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = name.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, fnv);
        Self::new(seed ^ hash)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let drawn = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        drawn
    }

    /// A number below `end`, which is above zero. Not quite even, but for small ends nobody can tell.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// A place in something that has `len` places, which is above zero.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    /// A number of the range.
    pub fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// A number from 0 on and below 1.
    pub fn fraction(&mut self) -> f64 {
        const BITS: u32 = 53;
        (self.number() >> (64 - BITS)) as f64 / (1u64 << BITS) as f64
    }

    /// Whether something happens that has this chance, from 0 to 1. Nothing is drawn for what cannot happen.
    pub fn chance(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.fraction() < chance
    }

    /// A span of time, most of them short: exponential with this mean, very nearly.
    ///
    /// The logarithm is drawn as a straight line between powers of two: that of the standard library may differ in
    /// the last bit from one machine to the next.
    pub fn span(&mut self, mean: Duration) -> Duration {
        let halvings = f64::from(self.number().leading_zeros());
        mean.mul_f64((halvings + self.fraction()) * std::f64::consts::LN_2)
    }

    /// A span between the two.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        least + (most.saturating_sub(least)).mul_f64(self.fraction())
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    /// Puts them in any order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_numbers_for_ever() {
        let mut random = Random::new(1);
        let drawn = [random.number(), random.number(), random.number()];
        assert_eq!(drawn, GOLDEN);
    }
    const GOLDEN: [u64; 3] =
        [14_971_601_782_005_023_387, 13_781_649_495_232_077_965, 1_847_458_086_238_483_744];

    #[test]
    fn it_is_the_published_generator() {
        let mut random = Random([1, 2, 3, 4]);
        let drawn = [(); 4].map(|()| random.number());
        assert_eq!(drawn, [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]);
    }

    #[test]
    fn streams_of_one_seed_differ_and_do_not_shift_each_other() {
        let draw = |name| Random::stream(7, name).number();
        assert_ne!(draw("disk"), draw("network"));
        let mut other = Random::stream(7, "network");
        other.number();
        assert_eq!(draw("disk"), Random::stream(7, "disk").number());
    }

    #[test]
    fn ranges_are_reached_at_both_ends_and_not_left() {
        let mut random = Random::new(3);
        let drawn: Vec<u64> = (0..500).map(|_| random.within(5..=8)).collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&5), Some(&8)));
        assert!(!random.chance(0.0));
        assert!((0..100).all(|_| random.chance(1.0)));
    }
}
