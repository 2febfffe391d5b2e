//! The fingerprint of a ring; its layout is documented at [`Ring::fingerprint`](crate::Ring::fingerprint).

use crate::node::RingNode;
use crate::token::{KEY_SEED, VNODE_SEED};
use twox_hash::XxHash3_64;

/// The seed of every ring's fingerprint: the ASCII letters `quor-rin`, big-endian.
pub const FINGERPRINT_SEED: u64 = 0x7175_6f72_2d72_696e;

/// Random tokens, zones first. Another way to place keys takes another number.
const PLACEMENT: u32 = 1;

/// The fingerprint of checked nodes in order of their ids.
pub(crate) fn of<I: AsRef<[u8]>>(nodes: &[RingNode<I>], vnodes: u32, owners: usize) -> u64 {
    let mut bytes = Vec::new();
    bytes.extend(PLACEMENT.to_le_bytes());
    bytes.extend(KEY_SEED.to_le_bytes());
    bytes.extend(VNODE_SEED.to_le_bytes());
    bytes.extend(vnodes.to_le_bytes());
    bytes.extend(count(owners));
    bytes.extend(count(nodes.len()));
    for node in nodes {
        let id = node.id.as_ref();
        bytes.extend(count(id.len()));
        bytes.extend(id);
        match &node.zone {
            None => bytes.push(0),
            Some(zone) => {
                bytes.push(1);
                bytes.extend(count(zone.len()));
                bytes.extend(zone.as_bytes());
            }
        }
        bytes.extend(node.weight.to_bits().to_le_bytes());
    }
    XxHash3_64::oneshot_with_seed(FINGERPRINT_SEED, &bytes)
}

fn count(count: usize) -> [u8; 4] {
    u32::try_from(count).expect("nodes and names were checked against their limits").to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<RingNode<&'static str>> {
        vec![
            RingNode::new("n1"),
            RingNode::new("n2").with_zone("east"),
            RingNode::new("n3").with_zone("west").with_weight(1.5),
        ]
    }

    #[test]
    fn fingerprints_are_frozen() {
        assert_eq!(FINGERPRINT_SEED.to_be_bytes(), *b"quor-rin");
        assert_eq!(of(&sample(), 256, 3), 0x174a_88f4_34f2_89cc);
    }

    #[test]
    fn everything_that_placement_depends_on_changes_the_fingerprint() {
        let mut found = vec![of(&sample(), 256, 3), of(&sample(), 255, 3), of(&sample(), 256, 2)];
        for change in [
            |node: &mut RingNode<&'static str>| node.id = "n0",
            |node: &mut RingNode<&'static str>| node.zone = Some("east".into()),
            |node: &mut RingNode<&'static str>| node.weight = 2.0,
        ] {
            let mut nodes = sample();
            change(&mut nodes[0]);
            found.push(of(&nodes, 256, 3));
        }
        found.push(of(&sample()[..2], 256, 3));
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), 7);
    }
}
