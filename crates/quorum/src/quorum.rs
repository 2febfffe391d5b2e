//! How many nodes a request needs.

/// How many replicas a key has, and how many of them a read and a write need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quorum {
    n: usize,
    r: usize,
    w: usize,
    sloppy: bool,
}

impl Quorum {
    /// A quorum of `r` for reads and `w` for writes among `n` replicas.
    ///
    /// With `sloppy`, a fallback that stands in for a replica counts like the replica
    /// (Dynamo §4.6): more requests succeed, and a read need not meet the write before it.
    ///
    /// # Errors
    /// [`QuorumError`] unless `1 <= r <= n` and `1 <= w <= n`.
    pub fn new(n: usize, r: usize, w: usize, sloppy: bool) -> Result<Self, QuorumError> {
        if n == 0 {
            return Err(QuorumError::NoReplicas);
        }
        if !(1..=n).contains(&r) {
            return Err(QuorumError::ReadOutOfRange { r, n });
        }
        if !(1..=n).contains(&w) {
            return Err(QuorumError::WriteOutOfRange { w, n });
        }
        Ok(Self { n, r, w, sloppy })
    }

    /// The least number of `n` nodes of which any two such sets share one: more than half.
    #[must_use]
    pub const fn majority(n: usize) -> usize {
        n / 2 + 1
    }

    /// How many replicas a key has.
    #[must_use]
    pub const fn n(&self) -> usize {
        self.n
    }

    /// How many answers a read needs, `1..=n`.
    #[must_use]
    pub const fn r(&self) -> usize {
        self.r
    }

    /// How many acks a write needs, `1..=n`.
    #[must_use]
    pub const fn w(&self) -> usize {
        self.w
    }

    /// Whether a fallback counts like the replica that it stands in for.
    #[must_use]
    pub const fn sloppy(&self) -> bool {
        self.sloppy
    }

    /// Whether any `r` replicas and any `w` replicas share one: `r + w > n`.
    ///
    /// Of a [`sloppy`](Self::sloppy) quorum this speaks only for requests whose receipt says that
    /// no fallback was counted.
    #[must_use]
    pub const fn is_strict(&self) -> bool {
        self.r + self.w > self.n
    }

    /// Whether any two sets of `w` replicas share one: `2w > n`.
    ///
    /// Then, without fallbacks counted, a write gets a greater version than every write that was
    /// acknowledged before it began.
    #[must_use]
    pub const fn orders_writes(&self) -> bool {
        2 * self.w > self.n
    }
}

/// Whether no node is in a preference list twice.
pub(crate) fn are_distinct<I: Ord>(nodes: &[I]) -> bool {
    /// Up to here it is quicker to compare each with all before it than to sort.
    const FEW: usize = 16;
    if nodes.len() <= FEW {
        return nodes.iter().enumerate().all(|(place, node)| !nodes[..place].contains(node));
    }
    let mut sorted: Vec<&I> = nodes.iter().collect();
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| pair[0] != pair[1])
}

/// Why numbers make no quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// `n` is zero.
    #[error("a key needs at least one replica")]
    NoReplicas,
    /// `r` is not in `1..=n`.
    #[error("r = {r} is not between 1 and n = {n}")]
    ReadOutOfRange {
        /// The answers asked for.
        r: usize,
        /// The replicas there are.
        n: usize,
    },
    /// `w` is not in `1..=n`.
    #[error("w = {w} is not between 1 and n = {n}")]
    WriteOutOfRange {
        /// The acks asked for.
        w: usize,
        /// The replicas there are.
        n: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_make_no_quorum() {
        assert_eq!(Quorum::new(0, 1, 1, false), Err(QuorumError::NoReplicas));
        assert_eq!(Quorum::new(3, 0, 1, false), Err(QuorumError::ReadOutOfRange { r: 0, n: 3 }));
        assert_eq!(Quorum::new(3, 4, 1, false), Err(QuorumError::ReadOutOfRange { r: 4, n: 3 }));
        assert_eq!(Quorum::new(3, 1, 0, false), Err(QuorumError::WriteOutOfRange { w: 0, n: 3 }));
        assert_eq!(Quorum::new(3, 1, 4, false), Err(QuorumError::WriteOutOfRange { w: 4, n: 3 }));
    }

    #[test]
    fn two_majorities_always_share_a_node() {
        for n in 1..=9 {
            let majority = Quorum::majority(n);
            let quorum = Quorum::new(n, majority, majority, false).unwrap();
            assert!(quorum.is_strict() && quorum.orders_writes());
            assert!(2 * (majority - 1) <= n, "one node fewer would not be enough");
        }
    }

    #[test]
    fn one_of_three_is_not_strict() {
        let quorum = Quorum::new(3, 1, 1, false).unwrap();
        assert!(!quorum.is_strict());
        assert!(!quorum.orders_writes());
        assert!(Quorum::new(3, 3, 1, false).unwrap().is_strict());
    }
}
