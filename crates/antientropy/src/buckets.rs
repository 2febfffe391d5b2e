//! Equal parts of the token space, for which digests and sketches are kept.

use std::ops::RangeInclusive;

use quorate_record::Digest;

use crate::Ranges;

/// Into how many buckets the token space is cut.
pub const BUCKETS: usize = 1 << BUCKET_BITS;

const BUCKET_BITS: u32 = 12;

/// The number of the bucket that a token is in.
#[must_use]
pub fn bucket_of(token: u64) -> u16 {
    u16::try_from(token >> (u64::BITS - BUCKET_BITS)).expect("a few bits")
}

/// The tokens of a bucket.
///
/// # Panics
/// If there are not so many of [`BUCKETS`].
#[must_use]
pub fn bucket_span(bucket: u16) -> RangeInclusive<u64> {
    assert!(usize::from(bucket) < BUCKETS, "there is no bucket {bucket}");
    let first = u64::from(bucket) << (u64::BITS - BUCKET_BITS);
    first..=first + (u64::MAX >> BUCKET_BITS)
}

/// A digest in two bytes. Two that differ seem equal under one salt in 65,536, and practically never
/// under two.
#[must_use]
pub fn short_digest(digest: &Digest, salt: u64) -> u16 {
    let hash = (digest.xor ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ digest.count;
    let hash = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    u16::try_from(hash >> 48).expect("a few bits")
}

impl Ranges {
    /// The buckets that have tokens in the ranges, in order.
    #[must_use]
    pub fn buckets(&self) -> Vec<u16> {
        let mut buckets: Vec<u16> = self
            .within(&(0..=u64::MAX))
            .flat_map(|range| bucket_of(*range.start())..=bucket_of(*range.end()))
            .collect();
        buckets.dedup();
        buckets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_the_token_space_without_gaps() {
        let last = u16::try_from(BUCKETS - 1).unwrap();
        assert_eq!((*bucket_span(0).start(), *bucket_span(last).end()), (0, u64::MAX));
        for bucket in 1..=last {
            let span = bucket_span(bucket);
            assert_eq!(*bucket_span(bucket - 1).end() + 1, *span.start());
            assert_eq!((bucket_of(*span.start()), bucket_of(*span.end())), (bucket, bucket));
        }
    }

    #[test]
    fn a_bucket_that_two_ranges_touch_is_named_once() {
        let first = *bucket_span(7).start();
        let ranges = Ranges::new([first - 1..=first, first + 2..=first + 3, u64::MAX..=u64::MAX]);
        assert_eq!(ranges.buckets(), [6, 7, 4095]);
    }

    #[test]
    fn digests_that_seem_equal_under_one_salt_differ_under_another() {
        let digest = |xor| Digest { xor, count: 1 };
        let same = |salt| {
            let hidden =
                |xor: &u64| short_digest(&digest(*xor), salt) == short_digest(&digest(0), salt);
            (1..200_000_u64).filter(hidden).collect::<Vec<_>>()
        };
        let (one, other) = (same(1), same(2));
        assert!(!one.is_empty() && !other.is_empty());
        assert!(one.iter().all(|xor| !other.contains(xor)));
    }
}
