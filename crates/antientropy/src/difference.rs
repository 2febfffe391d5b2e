//! What two lists of the same span say must move.

use std::collections::BTreeMap;

/// What one replica holds in a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<S> {
    /// Token and stamp of each record, in any order.
    pub items: Vec<(u64, S)>,
    /// Whether these are all records of the span, and not only as many as were allowed.
    pub complete: bool,
}

/// One token at which the replicas differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) token: u64,
    pub(crate) pull: usize, // at most so many records; zero if there is nothing to pull
    pub(crate) push: usize,
}

impl Move {
    /// All records at `token`, both ways. What was pulled is pushed back with the rest: by its stamps
    /// alone it cannot be told from what the peer lacks.
    pub(crate) fn everything(token: u64, local: usize, remote: usize) -> Self {
        Self { token, pull: remote, push: local + remote }
    }

    /// The most records that it moves.
    pub(crate) fn records(&self) -> usize {
        self.pull + self.push
    }
}

/// The tokens at which there is something to pull, and those at which there is something to push.
pub(crate) fn ways(moves: &[Move]) -> (Vec<u64>, Vec<u64>) {
    let tokens = |is: fn(&&Move) -> bool| moves.iter().filter(is).map(|m| m.token).collect();
    (tokens(|m| m.pull > 0), tokens(|m| m.push > 0))
}

/// Where the two differ, by token.
///
/// Where a token has several keys, a stamp does not say whose it is, so the records at that token
/// are compared as a set, and all of them move both ways if the sets differ.
pub(crate) fn difference<S: Ord>(local: Vec<(u64, S)>, remote: Vec<(u64, S)>) -> Vec<Move> {
    let mut tokens: BTreeMap<u64, (Vec<S>, Vec<S>)> = BTreeMap::new();
    for (token, stamp) in local {
        tokens.entry(token).or_default().0.push(stamp);
    }
    for (token, stamp) in remote {
        tokens.entry(token).or_default().1.push(stamp);
    }
    let moves = tokens.into_iter().filter_map(|(token, (mut local, mut remote))| {
        local.sort_unstable();
        remote.sort_unstable();
        match (&local[..], &remote[..]) {
            (local, remote) if local == remote => None,
            ([], _) | (_, []) if planted!(AbsentIsEqual) => None,
            ([] | [_], [] | [_]) if local < remote => Some(Move { token, pull: 1, push: 0 }),
            ([] | [_], [] | [_]) => Some(Move { token, pull: 0, push: 1 }),
            _ => Some(Move::everything(token, local.len(), remote.len())),
        }
    });
    moves.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moves(local: &[(u64, u8)], remote: &[(u64, u8)]) -> Vec<(u64, usize, usize)> {
        difference(local.to_vec(), remote.to_vec())
            .into_iter()
            .map(|m| (m.token, m.pull, m.push))
            .collect()
    }

    #[test]
    fn the_greater_side_gives() {
        assert_eq!(
            moves(&[(1, 5), (2, 5), (3, 5), (5, 1)], &[(1, 5), (2, 6), (3, 4), (4, 1)]),
            [(2, 1, 0), (3, 0, 1), (4, 1, 0), (5, 0, 1)]
        );
    }

    #[test]
    fn keys_that_share_a_token_move_together_both_ways() {
        assert_eq!(moves(&[(1, 5), (1, 9)], &[(1, 9), (1, 5)]), []);
        assert_eq!(moves(&[(1, 5), (1, 9)], &[(1, 9), (1, 6)]), [(1, 2, 4)]);
        assert_eq!(moves(&[(1, 5), (1, 9)], &[(1, 9)]), [(1, 1, 3)]);
        assert_eq!(moves(&[(1, 5), (1, 9)], &[]), [(1, 0, 2)]);
    }
}
