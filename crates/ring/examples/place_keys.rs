//! Places keys on a small cluster with zones, then lets a node join and shows what has to move.
//!
//! `cargo run -p quorate-ring --example place_keys -- cat dog`

use quorate_ring::{Ring, RingError, RingNode, token};

fn main() -> Result<(), RingError> {
    let keys: Vec<String> = std::env::args().skip(1).collect();
    let keys =
        if keys.is_empty() { ["cat", "dog", "eel"].map(String::from).to_vec() } else { keys };

    let mut nodes = vec![
        RingNode::new("n1").with_zone("east"),
        RingNode::new("n2").with_zone("east"),
        RingNode::new("n3").with_zone("west"),
        RingNode::new("n4").with_zone("west").with_weight(2.0),
    ];
    let ring = Ring::new(nodes.clone(), 256, 3)?;

    println!("key          token             owners        fallbacks");
    for key in &keys {
        let order: Vec<&str> = ring.preference_of_key(key.as_bytes()).copied().collect();
        let (owners, fallbacks) = order.split_at(ring.owners());
        let token = token(key.as_bytes());
        println!("{key:<12} {token:016x}  {:<12}  {}", owners.join(" "), fallbacks.join(" "));
    }

    println!("\nnode  zone  vnodes  comes first for  owns");
    for node in ring.nodes() {
        println!(
            "{:<5} {:<5} {:>6}  {:>14.1}%  {:>3.0}%",
            node.id,
            node.zone.as_deref().unwrap_or("-"),
            ring.vnodes_of(&node.id),
            ring.share(&node.id) * 100.0,
            ring.ownership(&node.id) * 100.0
        );
    }

    nodes.push(RingNode::new("n5").with_zone("north"));
    let next = Ring::new(nodes, 256, 3)?;
    let moves = ring.moved_to(&next);
    let gained = moves.iter().filter(|moved| moved.gaining().any(|id| *id == "n5")).count();
    println!("\nn5 joins: {} ranges change owners, {gained} of them go to n5", moves.len());
    if let Some(first) = moves.first() {
        let (start, end) = (first.range.start(), first.range.end());
        println!(
            "the first is {start:016x} to {end:016x}: {:?} -> {:?}",
            first.before, first.after
        );
    }
    println!("ring {:016x} becomes {:016x}", ring.fingerprint(), next.fingerprint());
    Ok(())
}
