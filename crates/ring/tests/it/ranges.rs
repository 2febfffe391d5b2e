//! Ranges and moves say the same as look-ups token by token.

use crate::naive::{clusters, rings, telling_tokens};
use proptest::prelude::*;
use quorate_ring::Ring;
use std::ops::RangeInclusive;

fn holds(ranges: &[RangeInclusive<u64>], token: u64) -> bool {
    ranges.iter().any(|range| range.contains(&token))
}

/// Whether the ranges ascend with a gap before each: none is empty, none could be merged.
fn apart(ranges: &[RangeInclusive<u64>]) -> bool {
    ranges.iter().all(|range| range.start() <= range.end())
        && ranges
            .windows(2)
            .all(|pair| pair[0].end().checked_add(1).is_some_and(|after| after < *pair[1].start()))
}

proptest! {
    #[test]
    fn arcs_cover_every_token_once_and_name_its_owners(ring in rings()) {
        let mut next = Some(0);
        for (range, owners) in ring.arcs() {
            prop_assert_eq!(next, Some(*range.start()));
            prop_assert!(owners.clone().eq(ring.owners_of(*range.start())));
            prop_assert!(owners.eq(ring.owners_of(*range.end())));
            next = range.end().checked_add(1);
        }
        prop_assert_eq!(next, None);
    }

    #[test]
    fn owned_ranges_agree_with_look_ups(ring in rings(), node: prop::sample::Index) {
        let id = &node.get(ring.nodes()).id;
        let owned = ring.owned_by(id);
        prop_assert!(apart(&owned));
        for token in telling_tokens(&ring) {
            prop_assert_eq!(holds(&owned, token), ring.owners_of(token).any(|owner| owner == id));
            prop_assert_eq!(holds(&owned, token), ring.owns(id, token));
        }
    }

    #[test]
    fn co_owned_ranges_agree_with_look_ups(
        ring in rings(), a: prop::sample::Index, b: prop::sample::Index,
    ) {
        let (a, b) = (&a.get(ring.nodes()).id, &b.get(ring.nodes()).id);
        let shared = ring.co_owned(a, b);
        prop_assert!(apart(&shared));
        prop_assert_eq!(&shared, &ring.co_owned(b, a));
        for token in telling_tokens(&ring) {
            prop_assert_eq!(holds(&shared, token), ring.owns(a, token) && ring.owns(b, token));
        }
    }

    #[test]
    fn shares_are_parts_of_a_whole(ring in rings()) {
        let share: f64 = ring.nodes().iter().map(|node| ring.share(&node.id)).sum();
        let ownership: f64 = ring.nodes().iter().map(|node| ring.ownership(&node.id)).sum();
        prop_assert!((share - 1.0).abs() < 1e-9);
        prop_assert!((ownership / ring.owners() as f64 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn moves_agree_with_look_ups_on_both_rings(
        before in clusters(), after in clusters(), kept: prop::sample::Index,
        vnodes in 1..=8_u32,
    ) {
        // Rings that have some nodes in common, as those of one cluster do.
        let mut nodes: Vec<_> = before.iter().take(kept.index(before.len()) + 1).cloned().collect();
        for node in after {
            if !nodes.iter().any(|other| other.id == node.id) {
                nodes.push(node);
            }
        }
        let owners = before.len().min(nodes.len()).min(5);
        let (before, after) =
            (Ring::new(before, vnodes, owners).unwrap(), Ring::new(nodes, vnodes, owners).unwrap());
        let moves = before.moved_to(&after);
        for pair in moves.windows(2) {
            prop_assert!(pair[0].range.end() < pair[1].range.start());
            let adjacent = pair[0].range.end() + 1 == *pair[1].range.start();
            let equal = pair[0].before == pair[1].before && pair[0].after == pair[1].after;
            prop_assert!(!(adjacent && equal), "two ranges that should be one: {pair:?}");
        }
        for token in telling_tokens(&before).into_iter().chain(telling_tokens(&after)) {
            let old: Vec<String> = before.owners_of(token).cloned().collect();
            let new: Vec<String> = after.owners_of(token).cloned().collect();
            match moves.iter().find(|moved| moved.range.contains(&token)) {
                Some(moved) => {
                    prop_assert_ne!(&old, &new);
                    prop_assert_eq!((&moved.before, &moved.after), (&old, &new));
                }
                None => prop_assert_eq!(old, new),
            }
        }
    }
}
