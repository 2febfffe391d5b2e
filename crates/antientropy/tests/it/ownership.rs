//! Only what both sides own is compared.

use quorate_antientropy::{Limits, Outcome, Ranges};

use crate::replica::{Replica, run};

const NODES: usize = 5;
const OWNERS: usize = 3;
const ARC: u64 = u64::MAX / NODES as u64 + 1;

fn owns(node: usize, arc: usize) -> bool {
    (0..OWNERS).any(|i| (arc + i) % NODES == node)
}

fn arc_range(arc: usize) -> std::ops::RangeInclusive<u64> {
    let first = arc as u64 * ARC;
    first..=first.saturating_add(ARC - 1)
}

#[test]
fn no_node_ends_up_with_keys_that_it_does_not_own() {
    let mut replicas = vec![Replica::default(); NODES];
    let mut places = Vec::new();
    for i in 0..1000_u64 {
        let token = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let arc = (0..NODES).find(|&arc| arc_range(arc).contains(&token)).unwrap();
        let holder = (arc + usize::try_from(i % 3).unwrap()) % NODES;
        replicas[holder].merge((token, 0), i);
        places.push((arc, (token, 0)));
    }
    for _round in 0..2 {
        for a in 0..NODES {
            for b in a + 1..NODES {
                let shared = (0..NODES).filter(|&arc| owns(a, arc) && owns(b, arc));
                let ranges = Ranges::new(shared.map(arc_range));
                let (left, right) = replicas.split_at_mut(b);
                let limits = Limits { max_records: usize::MAX, ..Limits::default() };
                let (summary, _) = run((&mut left[a], &mut right[0]), &ranges, limits, 0, None);
                assert_eq!(summary.outcome, Outcome::Complete);
            }
        }
    }
    for (node, replica) in replicas.iter().enumerate() {
        for (arc, place) in &places {
            assert_eq!(replica.0.contains_key(place), owns(node, *arc));
        }
    }
}
