/// An order-free summary of a set of records: two equal sets have equal digests, and different
/// ones practically never do.
///
/// It is the XOR of a hash of each record, so adding and removing one is the same O(1) step; the
/// count keeps the empty set apart from sets whose hashes cancel out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Digest {
    /// XOR of the [hashes](crate::Stamp::digest_hash) of the records.
    pub xor: u64,
    /// How many records there are.
    pub count: u64,
}

impl Digest {
    /// Takes a record in.
    pub fn add(&mut self, hash: u64) {
        self.xor ^= hash;
        self.count = self.count.wrapping_add(1);
    }

    /// Takes a record out that was added before.
    pub fn remove(&mut self, hash: u64) {
        self.xor ^= hash;
        self.count = self.count.wrapping_sub(1);
    }

    /// The digest of two disjoint sets together.
    #[must_use]
    pub fn combine(self, other: Self) -> Self {
        Self { xor: self.xor ^ other.xor, count: self.count.wrapping_add(other.count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(hashes: &[u64]) -> Digest {
        let mut digest = Digest::default();
        hashes.iter().for_each(|&hash| digest.add(hash));
        digest
    }

    #[test]
    fn order_does_not_matter_and_removing_undoes_adding() {
        assert_eq!(digest(&[1, 2, 3]), digest(&[3, 1, 2]));
        let mut all = digest(&[1, 2, 3]);
        all.remove(2);
        assert_eq!(all, digest(&[1, 3]));
        assert_eq!(digest(&[1]).combine(digest(&[3])), all);
    }

    #[test]
    fn sets_whose_hashes_cancel_are_not_empty() {
        assert_ne!(digest(&[5, 5]), Digest::default());
    }
}
