//! The circle itself: every vnode in order of its token, and the way from a token to its vnode.

use crate::recency::Recency;
use std::ops::RangeInclusive;

/// How many nodes of a preference list stand beside a vnode's token.
pub(crate) const NEAR: usize = 4;

/// How many vnodes a look-up compares without a branch.
const SCAN: usize = 3;

/// A vnode: its token ends its arc, so a key belongs to the first vnode at or after its own token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vnode {
    pub(crate) token: u64,
    /// The first nodes of this arc's preference list; the vnode's own node is the first of all.
    /// Places beyond the number of nodes hold [`NOBODY`].
    pub(crate) near: [u16; NEAR],
}

/// Four vnodes share a cache line, so that a look-up touches one of them, two at most.
const _: () = assert!(size_of::<Vnode>() == 16);

/// No node's number, so that a list read too far fails rather than name a wrong node.
const NOBODY: u16 = u16::MAX;

/// All vnodes of a ring, sorted, with an index by the top bits of a token.
#[derive(Clone, Debug)]
pub(crate) struct Circle {
    /// In order of their tokens, then of their nodes, so that where two tokens collide the smaller
    /// id has the arc and the greater one, with an arc of no length, comes next. Then
    /// `SCAN + 1` times the first vnode again with the greatest token, which spares look-ups the
    /// wrap.
    vnodes: Vec<Vnode>,
    /// For each value of a token's top bits, the first vnode at or after the first such token.
    starts: Vec<u32>,
    shift: u32,
    gaps: Vec<Gaps>,
    zones: usize,
}

/// How many vnodes back, once around at most, the last one of the same node and of the same zone are.
///
/// On a walk, the vnode at offset `k` is the first of its node exactly if the node's gap is above
/// `k`. So a walk knows whom it has met without keeping a set of them.
#[derive(Clone, Copy, Debug)]
struct Gaps {
    node: u32,
    zone: u32,
}

/// How far a walk has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Walked {
    /// Where the vnode stands whose list it is.
    position: usize,
    /// How many vnodes from there have been met.
    offset: usize,
}

impl Circle {
    /// Sorts `vnodes`, each a token and a node's number, and works out their preference lists.
    ///
    /// # Panics
    /// If there is no vnode at all or a node without one.
    pub(crate) fn new(vnodes: Vec<(u64, u16)>, zone_of: &[u16], zones: usize) -> Self {
        let mut vnodes: Vec<Vnode> = vnodes
            .into_iter()
            .map(|(token, node)| Vnode { token, near: [node, NOBODY, NOBODY, NOBODY] })
            .collect();
        vnodes.sort_unstable_by_key(|vnode| (vnode.token, vnode.near[0]));
        fill_near(&mut vnodes, zone_of, zones);
        let gaps = measure_gaps(&vnodes, zone_of, zones);

        // One to two values of the top bits for each vnode: a look-up then rarely finds SCAN tokens
        // before its own. A larger index is no faster, for it leaves the cache sooner.
        let bits = vnodes.len().max(2).next_power_of_two().trailing_zeros();
        let shift = u64::BITS - bits;
        let mut starts = Vec::with_capacity(1 << bits);
        let mut start = 0;
        for top in 0..1_u64 << bits {
            while vnodes.get(start).is_some_and(|vnode| vnode.token < top << shift) {
                start += 1;
            }
            starts.push(u32::try_from(start).expect("a ring has at most 2^22 vnodes"));
        }

        let wrapped = Vnode { token: u64::MAX, ..vnodes[0] };
        vnodes.extend([wrapped; SCAN + 1]);
        vnodes.shrink_to_fit();
        Self { vnodes, starts, shift, gaps, zones }
    }

    /// How many vnodes there are.
    pub(crate) fn len(&self) -> usize {
        self.vnodes.len() - (SCAN + 1)
    }

    /// The vnode that `token` belongs to.
    #[inline(always)]
    pub(crate) fn find(&self, token: u64) -> &Vnode {
        let top =
            usize::try_from(token >> self.shift).expect("the index has fewer than 2^32 entries");
        let start = self.starts[top] as usize;
        // One check for all that is read: the count of those before is an index into this.
        let close: &[Vnode; SCAN + 1] =
            self.vnodes[start..].first_chunk().expect("the copies at the end leave room for it");
        let before =
            close[..SCAN].iter().map(|vnode| usize::from(vnode.token < token)).sum::<usize>();
        if before == SCAN { self.find_from(start + SCAN, token) } else { &close[before] }
    }

    /// The same, from a position on: apart, so that its loop takes no registers from the usual case.
    #[cold]
    #[inline(never)]
    fn find_from(&self, start: usize, token: u64) -> &Vnode {
        let mut position = start;
        while self.vnodes[position].token < token {
            position += 1;
        }
        &self.vnodes[position]
    }

    /// The node that comes after the first `taken`, at least [`NEAR`], in the preference list of
    /// a vnode's arc, and where to go on from; the first call may pass any such place.
    ///
    /// Values in, values out, and not even the vnode's position kept by the caller: its state can
    /// then live in registers, which is what the short lists that never come here gain from.
    #[cold]
    #[inline(never)]
    pub(crate) fn walk(&self, vnode: &Vnode, taken: usize, from: Walked) -> (u16, Walked) {
        let new_zone = taken < self.zones; // the first pass; the second takes what it left
        let position = match taken {
            // The first vnode on its token, or the copy beyond the last: none other has an arc.
            NEAR => self.vnodes.partition_point(|other| other.token < vnode.token),
            _ => from.position,
        };
        let (mut offset, mut skip) = match taken {
            NEAR if new_zone => (0, NEAR),
            NEAR => (0, NEAR - self.zones),
            _ if taken == self.zones => (0, 0),
            _ => (from.offset, 0),
        };
        loop {
            let mut at = position + offset;
            if at >= self.len() {
                at -= self.len(); // both are below it, or the position is one past the last
            }
            let first_of_node = self.gaps[at].node as usize > offset;
            let first_of_zone = self.gaps[at].zone as usize > offset;
            offset += 1;
            if first_of_node && first_of_zone == new_zone {
                if skip == 0 {
                    return (self.vnodes[at].near[0], Walked { position, offset });
                }
                skip -= 1;
            }
        }
    }

    /// The vnodes with their arcs from token 0 up. They cover every token once.
    pub(crate) fn arcs(&self) -> impl Iterator<Item = (&Vnode, RangeInclusive<u64>)> {
        let mut next = Some(0);
        self.vnodes[..=self.len()].iter().filter_map(move |vnode| {
            let start = next.filter(|&start| start <= vnode.token)?;
            next = vnode.token.checked_add(1);
            Some((vnode, start..=vnode.token))
        })
    }
}

/// Works out the first nodes of every vnode's preference list, in one backward walk.
fn fill_near(vnodes: &mut [Vnode], zone_of: &[u16], zones: usize) {
    let mut by_node = Recency::new(zone_of.len());
    let mut by_zone = Recency::new(zones);
    let mut nearest = vec![NOBODY; zones]; // of each zone
    let mut meet = |node: u16| {
        let zone = zone_of[usize::from(node)];
        by_node.touch(node);
        by_zone.touch(zone);
        nearest[usize::from(zone)] = node;
        let mut near = [NOBODY; NEAR];
        let mut taken = 0;
        for zone in by_zone.iter().take(NEAR) {
            near[taken] = nearest[usize::from(zone)];
            taken += 1;
        }
        for node in by_node.iter() {
            if taken == NEAR {
                break;
            }
            if !near[..taken].contains(&node) {
                near[taken] = node;
                taken += 1;
            }
        }
        near
    };
    // The walk starts in the middle of a circle, so one lap is needed to have met everybody.
    for vnode in vnodes.iter().rev() {
        meet(vnode.near[0]);
    }
    for vnode in vnodes.iter_mut().rev() {
        vnode.near = meet(vnode.near[0]);
    }
}

fn measure_gaps(vnodes: &[Vnode], zone_of: &[u16], zones: usize) -> Vec<Gaps> {
    let mut last_of_node = vec![0; zone_of.len()];
    let mut last_of_zone = vec![0; zones];
    let mut gaps = Vec::with_capacity(vnodes.len());
    // As above, the first lap only meets everybody.
    for (at, vnode) in (0_u32..).zip(vnodes.iter().chain(vnodes)) {
        let node = usize::from(vnode.near[0]);
        let zone = usize::from(zone_of[node]);
        if at as usize >= vnodes.len() {
            gaps.push(Gaps { node: at - last_of_node[node], zone: at - last_of_zone[zone] });
        }
        last_of_node[node] = at;
        last_of_zone[zone] = at;
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circle(vnodes: &[(u64, u16)]) -> Circle {
        let nodes = vnodes.iter().map(|&(_, node)| node + 1).max().unwrap();
        let zone_of: Vec<u16> = (0..nodes).collect();
        Circle::new(vnodes.to_vec(), &zone_of, zone_of.len())
    }

    fn near(circle: &Circle, token: u64) -> Vec<u16> {
        let near = circle.find(token).near;
        near.into_iter().filter(|&node| node != NOBODY).collect()
    }

    #[test]
    fn a_token_belongs_to_the_first_vnode_at_or_after_it() {
        let circle = circle(&[(100, 0), (200, 1), (u64::MAX - 1, 2)]);
        for (token, node) in [(0, 0), (100, 0), (101, 1), (200, 1), (201, 2), (u64::MAX - 1, 2)] {
            assert_eq!(near(&circle, token)[0], node, "token {token}");
        }
        assert_eq!(near(&circle, u64::MAX), [0, 1, 2], "beyond the last vnode comes the first");
    }

    #[test]
    fn vnodes_crowded_into_one_corner_are_all_found() {
        let crowd: Vec<(u64, u16)> = (0..50).map(|node| (1_000 + u64::from(node), node)).collect();
        let circle = circle(&crowd);
        for node in 0..50 {
            assert_eq!(near(&circle, 1_000 + u64::from(node))[0], node);
        }
        assert_eq!(near(&circle, 1_050)[0], 0);
    }

    #[test]
    fn of_two_vnodes_on_one_token_the_smaller_node_has_the_arc_and_the_other_comes_next() {
        let circle = circle(&[(100, 2), (100, 1), (50, 0), (100, 2)]);
        assert_eq!(near(&circle, 51), [1, 2, 0]);
        assert_eq!(near(&circle, 100), [1, 2, 0]);
        let arcs: Vec<_> = circle.arcs().map(|(_, range)| range).collect();
        assert_eq!(arcs, [0..=50, 51..=100, 101..=u64::MAX]);
    }

    #[test]
    fn a_vnode_on_the_last_token_leaves_no_arc_to_wrap() {
        let circle = circle(&[(7, 0), (u64::MAX, 1)]);
        let arcs: Vec<_> = circle.arcs().map(|(vnode, range)| (vnode.near[0], range)).collect();
        assert_eq!(arcs, [(0, 0..=7), (1, 8..=u64::MAX)]);
        assert_eq!(near(&circle, u64::MAX), [1, 0]);
    }

    #[test]
    fn a_vnode_on_the_first_token_owns_it_alone() {
        let circle = circle(&[(0, 0), (10, 1)]);
        let arcs: Vec<_> = circle.arcs().map(|(vnode, range)| (vnode.near[0], range)).collect();
        assert_eq!(arcs, [(0, 0..=0), (1, 1..=10), (0, 11..=u64::MAX)]);
    }
}
