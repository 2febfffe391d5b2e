use std::cmp::Ordering;

use bytes::Bytes;
use twox_hash::XxHash3_64;

use crate::{Timestamp, Version};

/// Most bytes a value may have, whatever a node is configured to take.
pub const MAX_VALUE_BYTES: usize = 8 * 1024 * 1024;

/// The content hash of a tombstone that never expires.
const TOMBSTONE_HASH: u64 = 0;

/// One version of a key: a value, or a tombstone (a stored delete).
///
/// The records of a key are totally ordered: by version, then by the hash of the content, then by
/// the content itself, which is the value and the time of expiry. The two last only decide between records that carry the same version, which
/// no correct writer issues; they are there so that every set of records has one greatest element
/// on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stands among the records of its key.
    pub version: Version,
    /// When it ends, in milliseconds since the Unix epoch; `None` for never. Kept and passed on,
    /// but nothing is done about it yet.
    pub expires_ms: Option<u64>,
    /// The value; `None` in a tombstone.
    pub value: Option<Bytes>,
}

/// A record without its bytes: enough to order it and to tell it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// The record's version.
    pub version: Version,
    /// The record's [content hash](Record::content_hash).
    pub content: u64,
}

impl Stamp {
    /// Whether it is that of a stored delete that never expires.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.content == TOMBSTONE_HASH
    }
}

impl Record {
    /// A value that never expires.
    pub fn live(version: Version, value: impl Into<Bytes>) -> Self {
        Self { version, expires_ms: None, value: Some(value.into()) }
    }

    /// A stored delete that never expires.
    #[must_use]
    pub fn tombstone(version: Version) -> Self {
        Self { version, expires_ms: None, value: None }
    }

    /// What a replica that holds every acknowledged write below `horizon` says of a key of which it holds nothing: a
    /// tombstone that wins over everything below the horizon, and over nothing else.
    #[must_use]
    pub fn buried(horizon: Timestamp) -> Self {
        Self::tombstone(Version::buried(horizon))
    }

    /// Whether this is a stored delete.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.value.is_none()
    }

    /// The greater of the two: commutative, associative, idempotent.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        self.max(other)
    }

    /// xxh3-64 of the value, or 0 for a tombstone; with a time of expiry, xxh3-64 of that hash and
    /// the time, both little-endian.
    #[must_use]
    pub fn content_hash(&self) -> u64 {
        content_hash(self.value.as_deref(), self.expires_ms)
    }

    /// This record without its bytes.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp { version: self.version, content: self.content_hash() }
    }

    /// The same record in an allocation of its own, so that keeping it does not keep a whole
    /// receive buffer alive.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { value: self.value.as_deref().map(Bytes::copy_from_slice), ..*self }
    }
}

pub(crate) fn content_hash(value: Option<&[u8]>, expires_ms: Option<u64>) -> u64 {
    let hash = value.map_or(TOMBSTONE_HASH, XxHash3_64::oneshot);
    let Some(expires_ms) = expires_ms else { return hash };
    let mut both = [0; 16];
    both[..8].copy_from_slice(&hash.to_le_bytes());
    both[8..].copy_from_slice(&expires_ms.to_le_bytes());
    XxHash3_64::oneshot(&both)
}

impl Stamp {
    /// What a record adds to a [`Digest`](crate::Digest): a hash of its key's token, its version
    /// and its content.
    #[must_use]
    pub fn digest_hash(&self, token: u64) -> u64 {
        let Version { timestamp, writer } = self.version;
        let mut bytes = [0; 64];
        bytes[..8].copy_from_slice(&token.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.content.to_le_bytes());
        bytes[16..24].copy_from_slice(&timestamp.bits().to_le_bytes());
        bytes[24..32].copy_from_slice(&writer.incarnation.to_le_bytes());
        let node = writer.node.as_str().as_bytes();
        bytes[32..32 + node.len()].copy_from_slice(node);
        XxHash3_64::oneshot(&bytes)
    }
}

impl Ord for Record {
    fn cmp(&self, other: &Self) -> Ordering {
        self.version.cmp(&other.version).then_with(|| match self == other {
            // By far the usual case of equal versions, and much quicker to see than two hashes.
            true => Ordering::Equal,
            false => self
                .content_hash()
                .cmp(&other.content_hash())
                .then_with(|| self.value.cmp(&other.value))
                .then_with(|| self.expires_ms.cmp(&other.expires_ms)),
        })
    }
}

impl PartialOrd for Record {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{NodeId, Timestamp, Writer};

    fn version(timestamp: u64) -> Version {
        let node = NodeId::new("n1").unwrap();
        Version {
            timestamp: Timestamp::from_bits(timestamp),
            writer: Writer { node, incarnation: 1 },
        }
    }

    #[test]
    fn the_later_version_wins_whatever_it_is() {
        let put = Record::live(version(1), "x");
        let delete = Record::tombstone(version(2));
        let again = Record::live(version(3), "");
        assert_eq!(put.clone().merge(delete.clone()), delete);
        assert_eq!(delete.merge(again.clone()), again);
    }

    #[test]
    fn a_tie_is_decided_by_content_and_so_alike_everywhere() {
        let [a, b] = ["a", "b"].map(|value| Record::live(version(1), value));
        assert_ne!(a.content_hash(), b.content_hash());
        assert_eq!(a.clone().merge(b.clone()), b.merge(a));
    }

    #[test]
    fn a_tie_of_equal_values_is_decided_by_when_they_end() {
        let ending = |expires_ms| Record { expires_ms, ..Record::live(version(1), "x") };
        let records = [None, Some(0), Some(1), Some(u64::MAX)].map(ending);
        for (place, a) in records.iter().enumerate() {
            for b in &records[..place] {
                assert_ne!(a.content_hash(), b.content_hash());
                assert_eq!(a.clone().merge(b.clone()), b.clone().merge(a.clone()));
            }
        }
    }

    #[test]
    fn an_empty_value_is_no_tombstone() {
        let [live, dead] = [Record::live(version(1), ""), Record::tombstone(version(1))];
        assert_ne!(live.content_hash(), dead.content_hash());
        assert_eq!(live.clone().merge(dead.clone()), dead.merge(live));
    }

    #[test]
    fn the_hashes_that_nodes_compare_are_frozen() {
        let record = Record::live(version(0x0191_f3c2_a4b7_0003), "meow");
        assert_eq!(record.content_hash(), CONTENT_GOLDEN);
        assert_eq!(record.stamp().digest_hash(7), DIGEST_GOLDEN);
        assert_eq!(Record::tombstone(version(1)).content_hash(), 0);
        let expiring = Record { expires_ms: Some(9), ..record };
        assert_eq!(expiring.content_hash(), EXPIRING_GOLDEN);
    }
    const CONTENT_GOLDEN: u64 = 505_842_157_505_281_907;
    const EXPIRING_GOLDEN: u64 = 4_174_120_155_883_020_809;
    const DIGEST_GOLDEN: u64 = 14_681_475_826_373_145_333;

    /// Few versions and few values, so that every kind of tie comes up.
    fn records() -> impl Strategy<Value = Record> {
        let value = prop::option::of(prop::collection::vec(0u8..2, 0..3));
        let expires_ms = prop::option::of(0u64..2);
        let parts = (0u64..3, prop::sample::select(vec!["a", "b"]), 0u64..2, expires_ms, value);
        parts.prop_map(|(timestamp, node, incarnation, expires_ms, value)| Record {
            version: Version {
                timestamp: Timestamp::from_bits(timestamp),
                writer: Writer { node: NodeId::new(node).expect("a good id"), incarnation },
            },
            expires_ms,
            value: value.map(Bytes::from),
        })
    }

    proptest! {
        #[test]
        fn merge_is_commutative_associative_idempotent_and_an_upper_bound(
            a in records(), b in records(), c in records(),
        ) {
            let ab = a.clone().merge(b.clone());
            prop_assert_eq!(&ab, &b.clone().merge(a.clone()));
            prop_assert_eq!(ab.clone().merge(c.clone()), a.clone().merge(b.clone().merge(c)));
            prop_assert_eq!(&a.clone().merge(a.clone()), &a);
            prop_assert!(ab >= a && ab >= b);
            prop_assert!(ab == a || ab == b);
        }

        #[test]
        fn any_order_of_the_same_records_gives_the_same_state(
            (records, shuffled) in prop::collection::vec(records(), 1..8)
                .prop_flat_map(|records| (Just(records.clone()), Just(records).prop_shuffle())),
        ) {
            let state = |records: Vec<Record>| records.into_iter().reduce(Record::merge);
            prop_assert_eq!(state(records), state(shuffled));
        }

        #[test]
        fn stamps_are_ordered_like_their_records(a in records(), b in records()) {
            prop_assert_eq!(a.cmp(&b), a.stamp().cmp(&b.stamp()));
        }
    }
}
