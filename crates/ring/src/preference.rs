//! A preference list, read one node at a time.

use crate::circle::{Vnode, Walked};
use crate::ring::Ring;
use std::fmt;
use std::iter::FusedIterator;

/// The nodes of a token in preference order, each once: all of them, or the owners only.
///
/// Borrows the ring and allocates nothing. See [`Ring`] for the order.
pub struct Preference<'r, I> {
    ring: &'r Ring<I>,
    vnode: &'r Vnode,
    taken: usize,
    limit: usize,
    walked: Walked, // beyond the nodes that stand at the vnode
}

impl<'r, I> Preference<'r, I> {
    #[inline(always)]
    pub(crate) fn new(ring: &'r Ring<I>, vnode: &'r Vnode, limit: usize) -> Self {
        Self { ring, vnode, taken: 0, limit, walked: Walked::default() }
    }

    /// The next node's place in [`Ring::nodes`].
    #[inline(always)]
    fn next_place(&mut self) -> Option<u16> {
        if self.taken == self.limit {
            return None;
        }
        let number = match self.vnode.near.get(self.taken) {
            Some(&number) => number,
            None => {
                let number;
                (number, self.walked) = self.ring.circle.walk(self.vnode, self.taken, self.walked);
                number
            }
        };
        self.taken += 1;
        Some(number)
    }

    /// The same nodes as places in [`Ring::nodes`], for callers that keep something for each node
    /// in an array: cheaper than comparing ids.
    ///
    /// ```
    /// # use quorate_ring::{Ring, RingNode};
    /// let ring = Ring::new(["n1", "n2", "n3"].map(RingNode::new).to_vec(), 256, 2)?;
    /// let mut sent = [0; 3];
    /// for place in ring.owners_of_key(b"cat").places() {
    ///     sent[place] += 1;
    /// }
    /// assert_eq!(sent.iter().sum::<i32>(), 2);
    /// # Ok::<(), quorate_ring::RingError>(())
    /// ```
    #[inline(always)]
    pub fn places(mut self) -> impl Iterator<Item = usize> {
        std::iter::from_fn(move || self.next_place().map(usize::from))
    }
}

impl<'r, I> Iterator for Preference<'r, I> {
    type Item = &'r I;

    #[inline(always)]
    fn next(&mut self) -> Option<&'r I> {
        let number = self.next_place()?;
        Some(&self.ring.nodes[usize::from(number)].id)
    }

    #[inline(always)]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.limit - self.taken;
        (left, Some(left))
    }
}

impl<I> Clone for Preference<'_, I> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

/// The nodes still to come.
impl<I: fmt::Debug> fmt::Debug for Preference<'_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<I> ExactSizeIterator for Preference<'_, I> {}
impl<I> FusedIterator for Preference<'_, I> {}

#[cfg(test)]
mod tests {
    use crate::{Ring, RingNode};

    #[test]
    fn a_ring_of_the_most_nodes_lists_each_once() {
        let nodes: Vec<_> = (0..1_024).map(|i| RingNode::new(format!("node-{i}"))).collect();
        let ring = Ring::new(nodes, 2, 3).unwrap();
        let mut listed: Vec<_> = ring.preference(u64::MAX).collect();
        assert_eq!(listed.len(), 1_024);
        listed.sort();
        listed.dedup();
        assert_eq!(listed.len(), 1_024);
    }

    #[test]
    fn the_count_left_is_known_at_every_step() {
        let nodes = ["a", "b", "c", "d", "e", "f"].map(RingNode::new).to_vec();
        let ring = Ring::new(nodes, 8, 5).unwrap();
        let mut owners = ring.owners_of(7);
        for left in (0..5).rev() {
            owners.next();
            assert_eq!(owners.len(), left);
        }
        assert_eq!(owners.next(), None);
        assert_eq!(ring.preference(7).len(), 6);
    }

    #[test]
    fn a_zone_that_has_given_an_owner_waits_until_all_others_have() {
        let zoned = [("a1", "a"), ("a2", "a"), ("a3", "a"), ("a4", "a"), ("b1", "b"), ("c1", "c")];
        let nodes = zoned.map(|(id, zone)| RingNode::new(id).with_zone(zone)).to_vec();
        let ring = Ring::new(nodes, 32, 3).unwrap();
        for token in (0..64).map(|i| i << 58) {
            let mut zones: Vec<&str> = ring.owners_of(token).map(|id| &id[..1]).collect();
            zones.sort_unstable();
            assert_eq!(zones, ["a", "b", "c"]);
        }
    }
}
