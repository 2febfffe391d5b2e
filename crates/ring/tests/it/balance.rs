//! How evenly keys spread, and how few of them a change moves.

use proptest::prelude::*;
use quorate_ring::{Ring, RingNode};

fn ring(ids: impl IntoIterator<Item = String>, vnodes: u32) -> Ring<String> {
    Ring::new(ids.into_iter().map(RingNode::new).collect(), vnodes, 1).expect("distinct ids")
}

fn greatest_share(ring: &Ring<String>) -> f64 {
    ring.nodes().iter().map(|node| ring.share(&node.id)).fold(0.0, f64::max)
}

/// A ring hashed with FNV gave one node of these three 69 % of the keys: it mixes the last bytes
/// too little, so the vnodes of short, similar ids clump.
#[test]
fn no_node_of_three_gets_a_lopsided_share() {
    let ring = ring(["n1", "n2", "n3"].map(String::from), 64);
    for node in ring.nodes() {
        let share = ring.share(&node.id);
        assert!((0.25..=0.45).contains(&share), "{} has {share}", node.id);
    }
}

/// With 64 vnodes a share of a third has a standard deviation of about 3.4 points, so 45 % is more
/// than three of them away: rare for a good hash, the rule for a bad one.
#[test]
fn lopsided_shares_are_rare_whatever_the_ids_look_like() {
    let shapes: [fn(u32) -> String; 6] = [
        |i| format!("n{i}"),
        |i| format!("node-{i:04}"),
        |i| format!("10.0.{}.{}:7000", i / 256, i % 256),
        |i| format!("replica-{i}.store.svc.cluster.local"),
        |i| "x".repeat(1 + i as usize % 200) + &i.to_string(),
        |i| String::from_utf8_lossy(&i.to_be_bytes().map(|byte| byte & 0x7f)).into_owned(),
    ];
    for (shape, id) in shapes.into_iter().enumerate() {
        let greatest: Vec<f64> = (0..100)
            .map(|i| greatest_share(&ring([3 * i, 3 * i + 1, 3 * i + 2].map(id), 64)))
            .collect();
        let lopsided = greatest.iter().filter(|&&share| share > 0.45).count();
        let worst = greatest.iter().copied().fold(0.0, f64::max);
        assert!(
            lopsided <= 2 && worst < 0.5,
            "shape {shape}: {lopsided} above 45 %, worst {worst}"
        );
    }
}

#[test]
fn a_joiner_takes_its_fair_part_and_no_more() {
    let before = ring((0..10).map(|i| format!("n{i}")), 256);
    let after = ring((0..11).map(|i| format!("n{i}")), 256);
    let moved: f64 = before
        .moved_to(&after)
        .iter()
        .map(|moved| (moved.range.end() - moved.range.start()) as f64 / 2_f64.powi(64))
        .sum();
    let fair = 1.0 / 11.0;
    assert!((0.8 * fair..=1.2 * fair).contains(&moved), "moved {moved}, fair {fair}");
    assert!((moved - after.share(&"n10".into())).abs() < 1e-9);
}

#[test]
fn twice_the_weight_is_twice_the_share() {
    let mut nodes: Vec<_> = (0..8).map(|i| RingNode::new(format!("n{i}"))).collect();
    nodes[3].weight = 2.0;
    let ring = Ring::new(nodes, 1_024, 1).unwrap();
    let share = ring.share(&"n3".into());
    assert!((share * 9.0 / 2.0 - 1.0).abs() < 0.15, "{share}");
}

proptest! {
    #[test]
    fn the_busiest_of_ten_nodes_is_near_the_mean(
        ids in proptest::collection::btree_set("[a-z0-9.:-]{1,24}", 10),
    ) {
        let greatest = greatest_share(&ring(ids, 256));
        prop_assert!(greatest * 10.0 <= 1.35, "max/mean is {}", greatest * 10.0);
    }
}
