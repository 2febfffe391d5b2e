use std::collections::BTreeMap;

use super::history::OpId;

/// What had ended before a time, and the greatest of it: a sweep of all operations of a key.
///
/// Building it takes `n log n`, asking it `log n` for each different weight.
#[derive(Debug)]
pub(super) struct Earlier<T> {
    by_weight: BTreeMap<usize, Vec<Ended<T>>>,
}

/// The greatest `what` of all that ended up to this one.
#[derive(Clone, Copy, Debug)]
struct Ended<T> {
    end_us: u64,
    greatest: (T, OpId),
}

impl<T: Copy + Ord> Earlier<T> {
    /// Takes in `(end, weight, what, op)` of each operation; the weight is how many nodes hold it.
    pub(super) fn new(ops: impl IntoIterator<Item = (u64, usize, T, OpId)>) -> Self {
        let mut by_weight: BTreeMap<usize, Vec<Ended<T>>> = BTreeMap::new();
        for (end_us, weight, what, op) in ops {
            by_weight.entry(weight).or_default().push(Ended { end_us, greatest: (what, op) });
        }
        for ended in by_weight.values_mut() {
            ended.sort_by_key(|it| it.end_us);
            for index in 1..ended.len() {
                ended[index].greatest = ended[index].greatest.max(ended[index - 1].greatest);
            }
        }
        Self { by_weight }
    }

    /// The greatest of what weighs at least `weight` and ended before `time_us`.
    pub(super) fn greatest(&self, time_us: u64, weight: usize) -> Option<(T, OpId)> {
        let heavy = self.by_weight.range(weight..);
        heavy
            .filter_map(|(_, ended)| {
                let before = ended.partition_point(|it| it.end_us < time_us);
                before.checked_sub(1).map(|last| ended[last].greatest)
            })
            .max()
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{Call, History, Request};
    use super::*;
    use quorate_record::{Key, NodeId};

    #[test]
    fn only_what_is_heavy_and_ended_before_is_counted() {
        let mut history = History::new(3);
        let (key, coordinator) = (Key::new("k").unwrap(), NodeId::new("n1").unwrap());
        let get = Request { key, coordinator, call: Call::Get, needed: 1, sloppy: false };
        let [a, b, c] = [0; 3].map(|at_us| history.invoke(get.clone(), at_us));
        let earlier = Earlier::new([(10, 2, 'b', b), (5, 2, 'c', c), (3, 1, 'z', a)]);
        assert_eq!(earlier.greatest(3, 1), None);
        assert_eq!(earlier.greatest(4, 1), Some(('z', a)));
        assert_eq!(earlier.greatest(5, 2), None);
        assert_eq!(earlier.greatest(11, 2), Some(('c', c)));
        assert_eq!(earlier.greatest(11, 3), None);
    }
}
