use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::{Distribution, Mix, Operation, keys::Keys, random::Random};

/// What is done, to which keys, and with what values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Which operations.
    pub mix: Mix,
    /// Which keys; the distribution of the mix if not given.
    pub distribution: Option<Distribution>,
    /// How many keys there are at the beginning; at least 1.
    pub keys: u64,
    /// What all keys begin with; their number follows.
    pub key_prefix: String,
    /// How long values are; any length in between is as likely.
    pub value_bytes: RangeInclusive<usize>,
    /// Workloads that are alike with the same seed are the same operations in the same order.
    pub seed: u64,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            mix: Mix::A,
            distribution: None,
            keys: 100_000,
            key_prefix: "bench-".to_owned(),
            value_bytes: 100..=100,
            seed: 1,
        }
    }
}

impl Workload {
    /// The distribution of its keys.
    #[must_use]
    pub fn distribution(&self) -> Distribution {
        self.distribution.unwrap_or(self.mix.distribution())
    }
}

/// One operation to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) operation: Operation,
    pub(crate) key: u64,
    /// What to write; empty if nothing is written.
    pub(crate) value: Bytes,
}

/// Draws the operations of a workload, one after the other.
pub(crate) struct Orders {
    mix: Mix,
    keys: Keys,
    values: Values,
    random: Random,
}

impl Orders {
    pub(crate) fn new(workload: &Workload) -> Self {
        Self {
            mix: workload.mix,
            keys: Keys::new(workload.distribution(), workload.keys),
            values: Values::new(workload),
            random: Random::new(workload.seed),
        }
    }

    pub(crate) fn next(&mut self) -> Order {
        let operation = self.mix.draw(&mut self.random);
        let key = match operation {
            Operation::Insert => self.keys.insert(),
            _ => self.keys.draw(&mut self.random),
        };
        let value = match operation {
            Operation::Get | Operation::Delete => Bytes::new(),
            Operation::Put | Operation::Insert | Operation::ReadModifyWrite => {
                self.values.draw(&mut self.random)
            }
        };
        Order { operation, key, value }
    }

    /// Whoever did an order says so, well or not.
    pub(crate) fn done(&mut self, order: &Order) {
        if order.operation == Operation::Insert {
            self.keys.inserted(order.key);
        }
    }
}

/// Values: pieces of one store of random bytes, so that none has to be made.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    bytes: Bytes,
    lengths: RangeInclusive<usize>,
}

impl Values {
    /// How many different places a value may come from.
    const PLACES: usize = 64 * 1024;

    pub(crate) fn new(workload: &Workload) -> Self {
        let lengths = workload.value_bytes.clone();
        let mut random = Random::new(!workload.seed);
        let words = (lengths.end() + Self::PLACES).div_ceil(8);
        let bytes = (0..words).flat_map(|_| random.next().to_le_bytes()).collect();
        Self { bytes, lengths }
    }

    pub(crate) fn draw(&self, random: &mut Random) -> Bytes {
        let span = self.lengths.end().saturating_sub(*self.lengths.start()) + 1;
        let length = self.lengths.start() + below(random, span);
        let place = below(random, Self::PLACES);
        self.bytes.slice(place..place + length)
    }
}

fn below(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.below(bound as u64)).expect("it is below a usize")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(workload: &Workload, count: usize) -> Vec<Order> {
        let mut orders = Orders::new(workload);
        (0..count).map(|_| orders.next()).collect()
    }

    #[test]
    fn the_same_seed_draws_the_same_orders() {
        let workload = Workload { value_bytes: 0..=1_000, ..Workload::default() };
        let other = Workload { seed: 2, ..workload.clone() };
        assert_eq!(orders(&workload, 100), orders(&workload, 100));
        assert_ne!(orders(&workload, 100), orders(&other, 100));
    }

    #[test]
    fn values_have_the_lengths_asked_for_and_differ() {
        let workload =
            Workload { mix: Mix::Put, value_bytes: 3..=5, keys: 10, ..Workload::default() };
        let orders = orders(&workload, 1_000);
        for length in 3..=5 {
            let count = orders.iter().filter(|order| order.value.len() == length).count();
            assert!((250..420).contains(&count), "{length}: {count}");
        }
        assert_ne!(orders[0].value, orders[1].value);
    }

    #[test]
    fn what_is_only_read_or_deleted_has_no_value() {
        for mix in [Mix::C, Mix::Delete] {
            let workload = Workload { mix, ..Workload::default() };
            assert!(orders(&workload, 100).iter().all(|order| order.value.is_empty()));
        }
    }

    #[test]
    fn inserts_are_new_keys_in_order() {
        let workload = Workload { mix: Mix::Insert, keys: 10, ..Workload::default() };
        let keys: Vec<_> = orders(&workload, 3).iter().map(|order| order.key).collect();
        assert_eq!(keys, [10, 11, 12]);
    }
}
