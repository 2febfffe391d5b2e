use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::Serialize;

use crate::{UnknownName, mix::named, random::Random, zipf::Zipf};

/// Which keys are chosen more often than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Distribution {
    /// None.
    Uniform,
    /// A few of them, scattered over all that there are at first: Zipf's law with θ = 0.99 over ten
    /// billion ranks, which a hash spreads over the keys, as in YCSB. The most popular key gets
    /// 3.8 % of all.
    Zipfian,
    /// Those inserted last: Zipf's law over the age.
    Latest,
}

const NAMES: [(&str, Distribution); 3] = [
    ("uniform", Distribution::Uniform),
    ("zipfian", Distribution::Zipfian),
    ("latest", Distribution::Latest),
];

impl FromStr for Distribution {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        named(name, &NAMES)
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, known)| known == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

/// The keys that there are, by number, and which of them is next.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    distribution: Distribution,
    zipf: Zipf,
    /// How many there were at first.
    initial: u64,
    /// All keys below it are there, or as good as there.
    present: u64,
    /// The number of the next key to be inserted.
    next: u64,
    /// Inserts that ended before an earlier one did; at most one for each operation under way.
    ended_early: BTreeSet<u64>,
}

impl Keys {
    pub(crate) fn new(distribution: Distribution, keys: u64) -> Self {
        let zipf = match distribution {
            Distribution::Zipfian => Zipf::new(YCSB_RANKS),
            Distribution::Uniform | Distribution::Latest => Zipf::new(keys),
        };
        let ended_early = BTreeSet::new();
        Self { distribution, zipf, initial: keys, present: keys, next: keys, ended_early }
    }

    /// One of the keys that are there.
    pub(crate) fn draw(&self, random: &mut Random) -> u64 {
        match self.distribution {
            Distribution::Uniform => random.below(self.present),
            Distribution::Zipfian => scrambled(self.zipf.draw(random)) % self.initial,
            Distribution::Latest => self.present - 1 - self.zipf.draw(random),
        }
    }

    /// The key to be inserted next.
    pub(crate) fn insert(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// An insert has ended, well or not. Keys are drawn once all earlier ones have ended, too.
    pub(crate) fn inserted(&mut self, key: u64) {
        self.ended_early.insert(key);
        while self.ended_early.remove(&self.present) {
            self.present += 1;
            if self.distribution == Distribution::Latest {
                self.zipf.grow();
            }
        }
    }
}

/// Over how many ranks YCSB draws before it scrambles them, however many keys there are.
const YCSB_RANKS: u64 = 10_000_000_000;

/// 64-bit FNV-1a of the eight bytes of a rank, which is what YCSB scrambles with.
fn scrambled(rank: u64) -> u64 {
    rank.to_le_bytes().into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(distribution: Distribution) -> Vec<usize> {
        let keys = Keys::new(distribution, 100);
        let mut random = Random::new(11);
        let mut counts = vec![0; 100];
        for _ in 0..100_000 {
            counts[usize::try_from(keys.draw(&mut random)).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn uniform_prefers_no_key() {
        assert!(counts(Distribution::Uniform).iter().all(|count| (800..1_200).contains(count)));
    }

    #[test]
    fn latest_prefers_the_last_key() {
        let counts = counts(Distribution::Latest);
        assert_eq!(counts.iter().max(), counts.last());
        assert!(counts[99] > 15_000 && counts[98] > 7_000 && counts[0] < 500, "{counts:?}");
    }

    #[test]
    fn zipfian_prefers_a_key_somewhere() {
        let counts = counts(Distribution::Zipfian);
        let favourite = usize::try_from(scrambled(0) % 100).unwrap();
        assert_eq!(counts.iter().max(), Some(&counts[favourite]));
        assert_ne!(favourite, 0);
    }

    #[test]
    fn zipfian_keeps_its_favourite_when_keys_are_inserted() {
        let mut keys = Keys::new(Distribution::Zipfian, 1_000_000);
        let mut random = Random::new(5);
        let favourite = scrambled(0) % 1_000_000;
        let mut hits = 0;
        for _ in 0..10_000 {
            let inserted = keys.insert();
            keys.inserted(inserted);
            hits += u32::from(keys.draw(&mut random) == favourite);
        }
        assert!((300..460).contains(&hits), "3.8 % of 10,000, and not {hits}");
    }

    #[test]
    fn a_new_key_is_drawn_once_it_and_all_before_it_are_there() {
        let mut keys = Keys::new(Distribution::Latest, 10);
        let mut random = Random::new(1);
        let mut newest = |keys: &Keys| (0..1_000).map(|_| keys.draw(&mut random)).max();
        assert_eq!([keys.insert(), keys.insert(), keys.insert()], [10, 11, 12]);
        keys.inserted(12);
        keys.inserted(11);
        assert_eq!(newest(&keys), Some(9));
        keys.inserted(10);
        assert_eq!(newest(&keys), Some(12));
    }

    proptest! {
        #[test]
        fn only_keys_that_are_there_are_drawn(
            distribution in prop::sample::select(vec![
                Distribution::Uniform, Distribution::Zipfian, Distribution::Latest,
            ]),
            keys in 1..100_000u64,
            inserts in 0..20u64,
            seed: u64,
        ) {
            let mut chooser = Keys::new(distribution, keys);
            let mut random = Random::new(seed);
            for _ in 0..inserts {
                let inserted = chooser.insert();
                chooser.inserted(inserted);
            }
            for _ in 0..50 {
                prop_assert!(chooser.draw(&mut random) < keys + inserts);
            }
        }
    }
}
