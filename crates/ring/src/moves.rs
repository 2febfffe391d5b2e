//! What changes hands between two rings.

use crate::ranges::is_next;
use crate::ring::Ring;
use std::ops::RangeInclusive;

/// A range of tokens whose owners differ between two rings, or come in another order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move<I> {
    /// The tokens, both ends included; never wraps.
    pub range: RangeInclusive<u64>,
    /// The owners on the ring asked, in preference order.
    pub before: Vec<I>,
    /// The owners on the other ring, in preference order.
    pub after: Vec<I>,
}

impl<I: AsRef<[u8]>> Move<I> {
    /// The nodes that become owners, which have to be given the range's records.
    pub fn gaining(&self) -> impl Iterator<Item = &I> {
        self.after.iter().filter(|id| !has(&self.before, id))
    }

    /// The nodes that are owners no longer. None if only the order differs.
    pub fn losing(&self) -> impl Iterator<Item = &I> {
        self.before.iter().filter(|id| !has(&self.after, id))
    }
}

impl<I: AsRef<[u8]> + Clone> Ring<I> {
    /// Every range whose owners on this ring and on `new` differ, in who they are or in their
    /// order, from token 0 up. Adjacent ranges with the same owners before and after are one.
    pub fn moved_to(&self, new: &Self) -> Vec<Move<I>> {
        let mut ends: Vec<u64> = self.circle.arcs().map(|(_, range)| *range.end()).collect();
        ends.extend(new.circle.arcs().map(|(_, range)| *range.end()));
        ends.sort_unstable();
        ends.dedup();

        let mut moves: Vec<Move<I>> = Vec::new();
        let mut start = 0;
        for end in ends {
            let range = start..=end;
            start = end.wrapping_add(1); // the last end is the greatest token
            let (before, after) = (self.owners_of(end), new.owners_of(end));
            if same(before.clone(), after.clone()) {
                continue;
            }
            match moves.last_mut() {
                Some(last)
                    if is_next(&last.range, &range)
                        && same(last.before.iter(), before.clone())
                        && same(last.after.iter(), after.clone()) =>
                {
                    last.range = *last.range.start()..=end;
                }
                _ => moves.push(Move {
                    range,
                    before: before.cloned().collect(),
                    after: after.cloned().collect(),
                }),
            }
        }
        moves
    }
}

fn same<'i, I: AsRef<[u8]> + 'i>(
    a: impl Iterator<Item = &'i I>,
    b: impl Iterator<Item = &'i I>,
) -> bool {
    a.map(AsRef::as_ref).eq(b.map(AsRef::as_ref))
}

fn has<I: AsRef<[u8]>>(ids: &[I], id: &I) -> bool {
    ids.iter().any(|other| other.as_ref() == id.as_ref())
}

#[cfg(test)]
mod tests {
    use crate::{Ring, RingNode};

    fn ring(ids: &[&'static str], owners: usize) -> Ring<&'static str> {
        Ring::new(ids.iter().map(|&id| RingNode::new(id)).collect(), 32, owners).unwrap()
    }

    #[test]
    fn nothing_moves_between_equal_rings() {
        assert_eq!(ring(&["a", "b", "c"], 2).moved_to(&ring(&["a", "b", "c"], 2)), []);
    }

    #[test]
    fn a_replaced_cluster_moves_as_one_range() {
        let moves = ring(&["a"], 1).moved_to(&ring(&["b"], 1));
        assert_eq!(moves.len(), 1);
        assert_eq!(moves[0].range, 0..=u64::MAX);
        assert_eq!((&moves[0].before, &moves[0].after), (&vec!["a"], &vec!["b"]));
    }

    #[test]
    fn a_joiner_gains_and_one_owner_loses_what_it_owned() {
        let moves = ring(&["a", "b", "c", "d"], 3).moved_to(&ring(&["a", "b", "c", "d", "e"], 3));
        assert!(!moves.is_empty());
        for moved in &moves {
            assert_eq!(moved.gaining().collect::<Vec<_>>(), [&"e"]);
            assert_eq!(moved.losing().count(), 1);
        }
    }

    #[test]
    fn another_order_is_a_move_in_which_nobody_gains() {
        let weighted = |weight| {
            let nodes = vec![RingNode::new("a").with_weight(weight), RingNode::new("b")];
            Ring::new(nodes, 32, 2).unwrap()
        };
        let moves = weighted(1.0).moved_to(&weighted(2.0));
        assert!(!moves.is_empty());
        assert!(moves.iter().all(|m| m.gaining().count() == 0 && m.losing().count() == 0));
        assert!(moves.iter().all(|m| m.before == ["b", "a"] && m.after == ["a", "b"]));
    }
}
