//! Which parts of the token space belong to whom.

use crate::preference::Preference;
use crate::ring::Ring;
use std::ops::RangeInclusive;

/// How many tokens there are.
const TOKENS: f64 = 18_446_744_073_709_551_616.0;

/// Ranges of tokens hold both their ends and never wrap: an arc across 0 counts as two.
impl<I: AsRef<[u8]>> Ring<I> {
    /// Every arc of the ring with its owners, from token 0 up; together they hold each token once.
    pub fn arcs(&self) -> impl Iterator<Item = (RangeInclusive<u64>, Preference<'_, I>)> {
        let owners = |vnode| Preference::new(self, vnode, self.owners());
        self.circle.arcs().map(move |(vnode, range)| (range, owners(vnode)))
    }

    /// The ranges of which the node is an owner, from token 0 up, adjacent ones made one.
    pub fn owned_by(&self, id: &I) -> Vec<RangeInclusive<u64>> {
        self.co_owned(id, id)
    }

    /// The ranges of which both nodes are owners, from token 0 up, adjacent ones made one.
    pub fn co_owned(&self, a: &I, b: &I) -> Vec<RangeInclusive<u64>> {
        let (Some(a), Some(b)) = (self.number_of(a), self.number_of(b)) else { return Vec::new() };
        let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
        for (range, owners) in self.arcs() {
            let owns =
                |number: u16| owners.clone().places().any(|place| place == usize::from(number));
            if !(owns(a) && (a == b || owns(b))) {
                continue;
            }
            match ranges.last_mut() {
                Some(last) if is_next(last, &range) => *last = *last.start()..=*range.end(),
                _ => ranges.push(range),
            }
        }
        ranges
    }

    /// The part of all tokens for which the node comes first, 0 to 1. All nodes' add up to 1.
    pub fn share(&self, id: &I) -> f64 {
        let number = self.number_of(id);
        let arcs = self.circle.arcs().filter(|(vnode, _)| Some(vnode.near[0]) == number);
        arcs.map(|(_, range)| part(&range)).sum()
    }

    /// The part of all tokens of which the node is an owner, 0 to 1. All nodes' add up to the
    /// number of owners.
    pub fn ownership(&self, id: &I) -> f64 {
        self.owned_by(id).iter().map(part).sum()
    }
}

/// Whether `range` begins where `before` ends.
pub(crate) fn is_next(before: &RangeInclusive<u64>, range: &RangeInclusive<u64>) -> bool {
    before.end().checked_add(1) == Some(*range.start())
}

/// The part of all tokens that the range holds.
fn part(range: &RangeInclusive<u64>) -> f64 {
    ((range.end() - range.start()) as f64 + 1.0) / TOKENS
}

#[cfg(test)]
mod tests {
    use crate::{Ring, RingNode};

    fn ring(owners: usize) -> Ring<&'static str> {
        let nodes = ["a", "b", "c", "d"].map(RingNode::new).to_vec();
        Ring::new(nodes, 32, owners).unwrap()
    }

    #[test]
    fn shares_add_up_to_one_and_ownerships_to_the_number_of_owners() {
        let ring = ring(3);
        let share: f64 = ring.nodes().iter().map(|node| ring.share(&node.id)).sum();
        let ownership: f64 = ring.nodes().iter().map(|node| ring.ownership(&node.id)).sum();
        assert!((share - 1.0).abs() < 1e-9, "{share}");
        assert!((ownership - 3.0).abs() < 1e-9, "{ownership}");
    }

    #[test]
    fn a_node_that_owns_everything_owns_one_range() {
        let ring = ring(4);
        assert_eq!(ring.owned_by(&"c"), [0..=u64::MAX]);
        assert_eq!(ring.co_owned(&"a", &"d"), [0..=u64::MAX]);
    }

    #[test]
    fn a_stranger_owns_nothing() {
        let ring = ring(3);
        assert!(ring.owned_by(&"e").is_empty());
        assert!(ring.co_owned(&"a", &"e").is_empty());
        assert!(!ring.owns(&"e", 7));
        assert_eq!((ring.share(&"e"), ring.ownership(&"e")), (0.0, 0.0));
    }
}
