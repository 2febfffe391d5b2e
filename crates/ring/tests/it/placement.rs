//! Laws of the preference order.

use crate::naive::{self, clusters, rings, telling_tokens};
use proptest::prelude::*;
use quorate_ring::{Ring, RingNode, token};
use std::collections::BTreeSet;

fn order(ring: &Ring<String>, token: u64) -> Vec<String> {
    ring.preference(token).cloned().collect()
}

fn without_zones(nodes: Vec<RingNode<String>>) -> Vec<RingNode<String>> {
    nodes.into_iter().map(|node| RingNode { zone: None, ..node }).collect()
}

proptest! {
    #[test]
    fn every_look_up_agrees_with_a_naive_walk(ring in rings()) {
        for token in telling_tokens(&ring) {
            let expected = naive::preference(&ring, token);
            prop_assert_eq!(ring.primary(token), &expected[0]);
            prop_assert_eq!(ring.owners_of(token).cloned().collect::<Vec<_>>(), &expected[..ring.owners()]);
            prop_assert_eq!(order(&ring, token), expected);
        }
    }

    #[test]
    fn a_preference_order_names_every_node_once(ring in rings(), token: u64) {
        let listed = order(&ring, token);
        prop_assert_eq!(listed.len(), ring.nodes().len());
        prop_assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len());
    }

    #[test]
    fn a_key_is_looked_up_by_its_token(ring in rings(), key: Vec<u8>) {
        prop_assert_eq!(ring.primary_of_key(&key), ring.primary(token(&key)));
        prop_assert!(ring.owners_of_key(&key).eq(ring.owners_of(token(&key))));
        prop_assert!(ring.preference_of_key(&key).eq(ring.preference(token(&key))));
    }

    #[test]
    fn the_order_does_not_depend_on_the_number_of_owners(nodes in clusters(), token: u64) {
        let all = Ring::new(nodes.clone(), 8, nodes.len()).unwrap();
        let one = Ring::new(nodes, 8, 1).unwrap();
        prop_assert_eq!(order(&all, token), order(&one, token));
    }

    #[test]
    fn owners_share_a_zone_only_once_every_zone_has_one(ring in rings(), token: u64) {
        let zone_of = |id: &String| {
            let node = ring.nodes().iter().find(|node| &node.id == id).unwrap();
            node.zone.clone().ok_or_else(|| id.clone())
        };
        let zones = ring.nodes().iter().map(|node| zone_of(&node.id)).collect::<BTreeSet<_>>().len();
        let used = ring.owners_of(token).map(zone_of).collect::<BTreeSet<_>>().len();
        prop_assert_eq!(used, zones.min(ring.owners()));
    }

    /// Taking a node off the ring takes it out of every order and changes nothing else. Read
    /// backwards, that is what a joiner does.
    #[test]
    fn without_zones_a_join_or_a_leave_moves_only_that_node(
        nodes in clusters().prop_filter("needs two nodes", |nodes| nodes.len() > 1),
        leaver: prop::sample::Index,
    ) {
        let mut nodes = without_zones(nodes);
        let with = Ring::new(nodes.clone(), 16, 1).unwrap();
        let leaver = nodes.remove(leaver.index(nodes.len())).id;
        let without = Ring::new(nodes, 16, 1).unwrap();
        for token in telling_tokens(&with) {
            let mut expected = order(&with, token);
            expected.retain(|id| id != &leaver);
            prop_assert_eq!(order(&without, token), expected);
        }
    }

    #[test]
    fn more_weight_only_moves_a_node_forward(
        nodes in clusters(), heavier: prop::sample::Index, token: u64,
    ) {
        let mut nodes = without_zones(nodes);
        let before = Ring::new(nodes.clone(), 16, 1).unwrap();
        let heavier = heavier.index(nodes.len());
        nodes[heavier].weight *= 2.0;
        let id = nodes[heavier].id.clone();
        let after = Ring::new(nodes, 16, 1).unwrap();
        let place = |ring: &Ring<String>| ring.preference(token).position(|node| node == &id);
        prop_assert!(place(&after) <= place(&before));
        let others = |ring: &Ring<String>| {
            ring.preference(token).filter(|&node| node != &id).cloned().collect::<Vec<_>>()
        };
        prop_assert_eq!(others(&before), others(&after));
    }

    #[test]
    fn a_fingerprint_does_not_depend_on_the_order_of_the_input(nodes in clusters()) {
        let turned = nodes.iter().rev().cloned().collect();
        let ring = Ring::new(nodes, 8, 1).unwrap();
        prop_assert_eq!(ring.fingerprint(), Ring::new(turned, 8, 1).unwrap().fingerprint());
    }
}
