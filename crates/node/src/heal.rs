//! Damage: what this node cannot read any more, it asks of the other owners at once.
//!
//! Comparisons bring it back too, since what is damaged is in no digest, but only when their turn
//! comes, and so many records at a time.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use quorate_quorum::Failure;
use quorate_record::{Key, NodeId, Record};

use crate::{
    Node, Now, PutOutcome, Request, Response,
    call::{Outcome, Waiter},
};

/// Most tokens that wait to be asked for; the driver tells again of those that find no room.
const MOST_WAITING: usize = 1024;
/// Most tokens that the other owners are asked for at a time.
const MOST_AT_ONCE: usize = 16;
/// Most tokens that are remembered because nobody had them.
const MOST_MISSED: usize = 4096;
/// How long a token is left alone when nobody had it.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// An owner that takes longer is given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Which records are to be healed, and how far that has come.
#[derive(Debug, Default)]
pub(crate) struct Heal {
    waiting: VecDeque<u64>,
    asked: BTreeMap<u64, Asked>,
    missed: BTreeMap<u64, Instant>,
    damaged_segments: u64,
    compared: BTreeSet<NodeId>,
}

/// A token that others were asked for.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    answers_due: usize,
    healed: bool,
}

impl Heal {
    /// A damaged record has this token. Changes nothing if it is seen to, was asked for in vain of
    /// late, or there is no room.
    fn note(&mut self, token: u64, now: Instant) {
        let is_recent = |at: &Instant| now < *at + RETRY_AFTER;
        let is_known = self.asked.contains_key(&token)
            || self.missed.get(&token).is_some_and(is_recent)
            || self.waiting.contains(&token);
        if !is_known && self.waiting.len() < MOST_WAITING {
            self.waiting.push_back(token);
        }
    }

    fn next(&mut self) -> Option<u64> {
        if self.asked.len() < MOST_AT_ONCE { self.waiting.pop_front() } else { None }
    }

    fn miss(&mut self, token: u64, now: Instant) {
        if self.missed.len() == MOST_MISSED {
            self.missed.retain(|_, at| now < *at + RETRY_AFTER);
        }
        if self.missed.len() < MOST_MISSED {
            self.missed.insert(token, now);
        }
    }

    /// All ranges shared with a peer have been compared, and what it had has been taken.
    pub(crate) fn compared(&mut self, peer: NodeId) {
        if self.damaged_segments > 0 {
            self.compared.insert(peer);
        }
    }
}

impl Node {
    /// Says that recovery stepped over damage in so many segments of the log: what they held is to
    /// come from the other owners. To be called before any event.
    pub fn expect_refill(&mut self, damaged_segments: u64) {
        self.heal.damaged_segments = damaged_segments;
    }

    /// Segments of the log that recovery found [damaged](Self::expect_refill).
    #[must_use]
    pub fn damaged_segments(&self) -> u64 {
        self.heal.damaged_segments
    }

    /// How many of the segments that were [damaged](Self::expect_refill) are full again: all of them
    /// once every peer that shares ranges with this node has been compared with as a whole since it
    /// started, none before.
    #[must_use]
    pub fn refilled_segments(&self) -> u64 {
        let is_compared = |(peer, _): (NodeId, _)| self.heal.compared.contains(&peer);
        if self.comparisons().all(is_compared) { self.heal.damaged_segments } else { 0 }
    }

    /// Whether clients found no room of late: a bad time for what can wait.
    #[must_use]
    pub fn is_pressed(&self, now: Instant) -> bool {
        self.admission.is_pressed(now)
    }

    /// Damaged records that other owners are being asked for, or will be.
    #[must_use]
    pub fn healing(&self) -> usize {
        self.heal.waiting.len() + self.heal.asked.len()
    }

    pub(crate) fn note_damaged(&mut self, tokens: impl IntoIterator<Item = u64>, now: Now) {
        for token in tokens {
            if self.ring.owns(&self.id, token) {
                self.heal.note(token, now.instant);
            }
        }
    }

    /// Asks for what is damaged, unless clients wait for something else.
    pub(crate) fn run_heal(&mut self, now: Now) {
        while !self.admission.is_pressed(now.instant)
            && let Some(token) = self.heal.next()
        {
            let is_up = |peer: &NodeId| self.membership.is_up(*peer);
            let owners = self.ring.preference(token).take(self.ring.owners()).copied();
            let others: Vec<NodeId> = owners.filter(|&it| it != self.id && is_up(&it)).collect();
            if others.is_empty() {
                self.heal.miss(token, now.instant);
                continue;
            }
            self.counters.heals += 1;
            self.heal.asked.insert(token, Asked { answers_due: others.len(), healed: false });
            for peer in others {
                let body = Request::Fetch { tokens: vec![token] };
                self.call_within(ANSWER_TIMEOUT, peer, body, Waiter::Heal { token }, now);
            }
        }
    }

    /// Another owner has sent what it has, or this node has taken that in. All are asked, as the
    /// first to answer may have something older.
    pub(crate) fn heal_answered(&mut self, token: u64, outcome: Outcome, now: Now) {
        match outcome {
            Ok(Response::Fetched(records)) => {
                let is_it = |(key, _): &(Key, Record)| quorate_ring::token(key.as_bytes()) == token;
                let records: Vec<_> = records.into_iter().filter(is_it).collect();
                if !records.is_empty() {
                    let body = Request::Merge { records };
                    return self.call_within(
                        ANSWER_TIMEOUT,
                        self.id,
                        body,
                        Waiter::Heal { token },
                        now,
                    );
                }
            }
            Ok(Response::Merged(outcomes)) => {
                if let Some(asked) = self.heal.asked.get_mut(&token) {
                    asked.healed |= outcomes.contains(&PutOutcome::Stored);
                }
            }
            Ok(_) | Err(Failure::Refused | Failure::Unknown) => {}
        }
        let Some(asked) = self.heal.asked.get_mut(&token) else { return };
        asked.answers_due -= 1;
        if asked.answers_due == 0 {
            let Asked { healed, .. } = *asked;
            self.heal.asked.remove(&token);
            if !healed {
                self.heal.miss(token, now.instant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::origin;

    #[test]
    fn a_token_waits_once_and_what_nobody_had_is_left_alone_for_a_while() {
        let (mut heal, start) = (Heal::default(), origin());
        (0..3).for_each(|_| heal.note(7, start));
        assert_eq!((heal.next(), heal.next()), (Some(7), None));
        heal.miss(7, start);
        heal.note(7, start + RETRY_AFTER / 2);
        assert_eq!(heal.next(), None);
        heal.note(7, start + RETRY_AFTER);
        assert_eq!(heal.next(), Some(7));
    }

    #[test]
    fn however_much_is_damaged_a_bounded_part_is_remembered_and_fewer_asked_for() {
        let (mut heal, start) = (Heal::default(), origin());
        (0..10_000).for_each(|token| heal.note(token, start));
        assert_eq!(heal.waiting.len(), MOST_WAITING);
        while let Some(token) = heal.next() {
            heal.asked.insert(token, Asked::default());
        }
        assert_eq!(heal.asked.len(), MOST_AT_ONCE);
        (0..10_000).for_each(|token| heal.miss(token, start));
        assert_eq!(heal.missed.len(), MOST_MISSED);
        heal.miss(1 << 40, start + RETRY_AFTER);
        assert_eq!(heal.missed.len(), 1, "the others are over");
    }
}
