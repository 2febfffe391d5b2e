//! A ring as one would write it down first, and the random clusters to compare it with.

use proptest::collection::btree_map;
use proptest::prelude::*;
use quorate_ring::{Ring, RingNode, vnode_token};

/// The preference order of `token`: sort all vnodes, walk once for the zones, once for the rest.
pub(crate) fn preference(ring: &Ring<String>, token: u64) -> Vec<String> {
    let vnodes = vnodes(ring);
    let start = vnodes.iter().position(|&(end, _)| token <= end).unwrap_or(0);
    let walk = || vnodes[start..].iter().chain(&vnodes[..start]).map(|&(_, node)| node);
    let mut order: Vec<&RingNode<String>> = Vec::new();
    for node in walk() {
        let zone_used =
            order.iter().any(|o| o.id == node.id || (o.zone.is_some() && o.zone == node.zone));
        if !zone_used {
            order.push(node);
        }
    }
    for node in walk() {
        if !order.iter().any(|o| o.id == node.id) {
            order.push(node);
        }
    }
    order.into_iter().map(|node| node.id.clone()).collect()
}

/// Tokens where something may change: both ends of the space and of every arc, and some between.
pub(crate) fn telling_tokens(ring: &Ring<String>) -> Vec<u64> {
    let mut tokens: Vec<u64> = (0..64).map(|i| i << 58).collect();
    for (end, _) in vnodes(ring) {
        tokens.extend([end.wrapping_sub(1), end, end.wrapping_add(1)]);
    }
    tokens.push(u64::MAX);
    tokens
}

/// Up to a dozen nodes with at most four zones; some without; weights from a quarter to three.
pub(crate) fn clusters() -> impl Strategy<Value = Vec<RingNode<String>>> {
    let zone = prop_oneof![Just(None), "[a-d]".prop_map(Some)];
    btree_map("[a-z0-9]{1,6}", (zone, 1..=12_u8), 1..=12).prop_map(|nodes| {
        let node =
            |(id, (zone, quarters))| RingNode { id, zone, weight: f64::from(quarters) / 4.0 };
        nodes.into_iter().map(node).collect()
    })
}

/// Rings of [`clusters`] with few vnodes, so that arcs are long and wraps common.
pub(crate) fn rings() -> impl Strategy<Value = Ring<String>> {
    (clusters(), 1..=16_u32, any::<prop::sample::Index>()).prop_map(|(nodes, vnodes, owners)| {
        let owners = 1 + owners.index(nodes.len());
        Ring::new(nodes, vnodes, owners).expect("within the limits")
    })
}

fn vnodes(ring: &Ring<String>) -> Vec<(u64, &RingNode<String>)> {
    let mut vnodes: Vec<_> = ring
        .nodes()
        .iter()
        .flat_map(|node| {
            let tokens = (0..ring.vnodes_of(&node.id)).map(|i| vnode_token(node.id.as_bytes(), i));
            tokens.map(move |token| (token, node))
        })
        .collect();
    vnodes.sort_by(|a, b| (a.0, &a.1.id).cmp(&(b.0, &b.1.id)));
    vnodes
}
