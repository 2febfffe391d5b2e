//! Digests of parts of the token space, kept up to date by every write.

use std::ops::Range;

use quorate_record::Digest;

/// The token space is cut into this many equal buckets.
pub(crate) const BUCKETS: usize = 1 << BUCKET_BITS;

const BUCKET_BITS: u32 = 12;

/// One digest a bucket, and above them a tree of their sums, so that any run of buckets costs a few steps.
pub(crate) struct Digests {
    /// Node `i` sums up `2 i` and `2 i + 1`; the root is 1, the buckets are the last half.
    nodes: Vec<Digest>,
}

impl Digests {
    pub(crate) fn new() -> Self {
        Self { nodes: vec![Digest::default(); 2 * BUCKETS] }
    }

    pub(crate) fn add(&mut self, token: u64, hash: u64) {
        self.climb(token, |node| node.add(hash));
    }

    pub(crate) fn remove(&mut self, token: u64, hash: u64) {
        self.climb(token, |node| node.remove(hash));
    }

    /// The digest of whole buckets.
    pub(crate) fn of(&self, buckets: Range<usize>) -> Digest {
        let mut sum = Digest::default();
        let (mut left, mut right) = (BUCKETS + buckets.start, BUCKETS + buckets.end);
        while left < right {
            if left % 2 == 1 {
                sum = sum.combine(self.nodes[left]);
                left += 1;
            }
            if right % 2 == 1 {
                right -= 1;
                sum = sum.combine(self.nodes[right]);
            }
            (left, right) = (left / 2, right / 2);
        }
        sum
    }

    fn climb(&mut self, token: u64, change: impl Fn(&mut Digest)) {
        let mut node = BUCKETS + bucket(token);
        while node > 0 {
            change(&mut self.nodes[node]);
            node /= 2;
        }
    }
}

/// The bucket of a token.
pub(crate) fn bucket(token: u64) -> usize {
    usize::try_from(token >> (u64::BITS - BUCKET_BITS)).expect("a few bits")
}

/// The first token of a bucket.
pub(crate) fn first_token(bucket: usize) -> u64 {
    (bucket as u64) << (u64::BITS - BUCKET_BITS)
}

/// The last token of a bucket.
pub(crate) fn last_token(bucket: usize) -> u64 {
    first_token(bucket) | (u64::MAX >> BUCKET_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_the_token_space_without_gaps() {
        assert_eq!((first_token(0), last_token(BUCKETS - 1)), (0, u64::MAX));
        for at in 1..BUCKETS {
            assert_eq!(last_token(at - 1) + 1, first_token(at));
            assert_eq!((bucket(first_token(at)), bucket(last_token(at))), (at, at));
        }
    }

    #[test]
    fn any_run_of_buckets_is_the_sum_of_its_buckets() {
        let mut digests = Digests::new();
        for at in (0..BUCKETS).step_by(3) {
            digests.add(first_token(at), at as u64 + 1);
        }
        for range in
            [0..0, 0..1, 7..7, 0..BUCKETS, 1..BUCKETS, 0..BUCKETS - 1, 100..101, 1000..3001]
        {
            let one_by_one = range
                .clone()
                .fold(Digest::default(), |sum, at| sum.combine(digests.nodes[BUCKETS + at]));
            assert_eq!(digests.of(range.clone()), one_by_one, "{range:?}");
        }
    }

    #[test]
    fn removing_undoes_adding() {
        let mut digests = Digests::new();
        digests.add(5, 1);
        digests.add(u64::MAX, 2);
        digests.remove(5, 1);
        assert_eq!(digests.of(0..BUCKETS), Digest { xor: 2, count: 1 });
        digests.remove(u64::MAX, 2);
        assert_eq!(digests.of(0..BUCKETS), Digest::default());
    }
}
