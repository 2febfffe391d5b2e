use std::ops::RangeInclusive;

use quorate_record::NodeId;

use crate::Node;

/// A range of tokens that this node owns, and who else does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRange {
    /// From first to last.
    pub tokens: RangeInclusive<u64>,
    /// The other owners, in the order of their ids.
    pub peers: Vec<NodeId>,
}

impl Node {
    /// All that this node owns, from token 0 up; neighbours with the same owners are one.
    #[must_use]
    pub fn owned_ranges(&self) -> Vec<OwnedRange> {
        let mut ranges: Vec<OwnedRange> = Vec::new();
        for (tokens, owners) in self.ring.arcs() {
            let owners: Vec<NodeId> = owners.copied().collect();
            if !owners.contains(&self.id) {
                continue;
            }
            let mut peers: Vec<NodeId> = owners.into_iter().filter(|&it| it != self.id).collect();
            peers.sort_unstable();
            match ranges.last_mut() {
                Some(last)
                    if last.peers == peers
                        && last.tokens.end().checked_add(1) == Some(*tokens.start()) =>
                {
                    last.tokens = *last.tokens.start()..=*tokens.end();
                }
                _ => ranges.push(OwnedRange { tokens, peers }),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use quorate_record::{HintSummary, Timestamp, Writer};
    use quorate_ring::{Ring, RingNode};

    use super::*;
    use crate::{NodeOptions, Notes, Now};

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn node(nodes: usize) -> Node {
        let ids = (1..=nodes).map(|it| NodeId::new(&format!("n{it}")).expect("a good id"));
        let ring = Ring::new(ids.map(RingNode::new).collect(), 16, 3).expect("a good ring");
        let writer = Writer { node: NodeId::new("n1").expect("a good id"), incarnation: 1 };
        let now = Now { instant: Instant::now(), wall_ms: 0 };
        let (options, ceiling) = (NodeOptions::default(), Timestamp::ZERO);
        Node::new(writer, ring, options, ceiling, Notes::default(), &HintSummary::default(), now)
    }

    #[test]
    fn where_everybody_owns_everything_there_is_one_range() {
        let ranges = node(3).owned_ranges();
        assert_eq!(ranges.len(), 1);
        assert_eq!((&ranges[0].tokens, ranges[0].peers.len()), (&(0..=u64::MAX), 2));
    }

    #[test]
    fn ranges_are_what_the_ring_says_and_neighbours_differ() {
        let node = node(6);
        let ranges = node.owned_ranges();
        let owned: Vec<_> = node.ring.owned_by(&node.id);
        let within = |range: &OwnedRange| {
            let ends = [range.tokens.start(), range.tokens.end()];
            owned.iter().any(|it| ends.iter().all(|end| it.contains(end)))
        };
        assert!(ranges.iter().all(within));
        let sum = |ranges: &mut dyn Iterator<Item = &RangeInclusive<u64>>| {
            ranges.map(|it| u128::from(it.end() - it.start()) + 1).sum::<u128>()
        };
        assert_eq!(sum(&mut ranges.iter().map(|it| &it.tokens)), sum(&mut owned.iter()));
        for range in &ranges {
            let owners: Vec<_> = node.ring.preference(*range.tokens.end()).take(3).collect();
            assert!(range.peers.len() == 2 && range.peers.iter().all(|it| owners.contains(&it)));
        }
        assert!(ranges.windows(2).all(|pair| pair[0].peers != pair[1].peers
            || pair[0].tokens.end() + 1 != *pair[1].tokens.start()));
    }
}
