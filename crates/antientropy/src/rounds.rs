//! With whom to compare next, and what came of it so far.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use crate::{Outcome, Summary};

/// How one exchange went, as its driver saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What the exchange said at its end.
    pub summary: Summary,
    /// Bytes of all messages sent for it.
    pub bytes_sent: u64,
    /// Bytes of all messages received for it.
    pub bytes_received: u64,
    /// Why it was aborted, if it was.
    pub error: Option<String>,
}

/// What all exchanges together did; `last_*` are of the latest one that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundsStats<I> {
    /// How many exchanges have ended.
    pub exchanges: u64,
    /// The peer.
    pub last_peer: Option<I>,
    /// When it ended, in milliseconds since the Unix epoch.
    pub last_run_ms: Option<u64>,
    /// How long it took.
    pub last_took: Duration,
    /// Records compared.
    pub last_compared: u64,
    /// Records pulled.
    pub last_pulled: u64,
    /// Records pushed.
    pub last_pushed: u64,
    /// Records compared so far.
    pub total_compared: u64,
    /// Records pulled so far.
    pub total_pulled: u64,
    /// Records pushed so far.
    pub total_pushed: u64,
    /// Bytes sent so far.
    pub total_bytes_sent: u64,
    /// Bytes received so far.
    pub total_bytes_received: u64,
    /// Spans with different digests over equal lists so far; see [`Summary::unexplained`].
    pub total_unexplained: u64,
    /// Exchanges that were aborted.
    pub total_errors: u64,
    /// Why the latest of those was.
    pub last_error: Option<String>,
}

/// The most exchanges that run at a time; each is with another peer.
const MOST_RUNNING: usize = 8;

/// After an exchange that moved more than this the next one with that peer comes soon. A few always
/// differ where clients write: what is on its way.
const MANY_RECORDS: usize = 64;

/// Begins exchanges with each peer in turn, at most one at a time with each, and remembers where
/// each left off.
#[derive(Clone, Debug)]
pub struct Rounds<I> {
    interval: Duration,
    next_at: Instant,
    last_turn: Option<I>,
    /// Peers that are not to wait for their turn, and from when on.
    hurried: BTreeMap<I, Instant>,
    /// Since when.
    running: BTreeMap<I, Instant>,
    resume_at: BTreeMap<I, u64>,
    stats: RoundsStats<I>,
}

impl<I: Copy + Ord + Debug> Rounds<I> {
    /// Starts one exchange every `interval`, the first one after one interval.
    ///
    /// # Panics
    /// If `interval` is zero.
    #[must_use]
    pub fn new(interval: Duration, now: Instant) -> Self {
        assert!(!interval.is_zero(), "exchanges without a pause");
        let stats = RoundsStats {
            exchanges: 0,
            last_peer: None,
            last_run_ms: None,
            last_took: Duration::ZERO,
            last_compared: 0,
            last_pulled: 0,
            last_pushed: 0,
            total_compared: 0,
            total_pulled: 0,
            total_pushed: 0,
            total_bytes_sent: 0,
            total_bytes_received: 0,
            total_unexplained: 0,
            total_errors: 0,
            last_error: None,
        };
        let next_at = now + interval;
        Self {
            interval,
            next_at,
            last_turn: None,
            hurried: BTreeMap::new(),
            running: BTreeMap::new(),
            resume_at: BTreeMap::new(),
            stats,
        }
    }

    /// Begins the next exchange if one is due. Returns the peer, and where to
    /// [start](crate::SketchExchange::start) if there was an exchange with it before;
    /// [`finish`](Self::finish) must follow. To be called until it returns nothing.
    ///
    /// `peers` are those that share ranges with this node and are up. Each gets its turn, in the
    /// order of their ids; one that is away now is passed over.
    pub fn begin(
        &mut self,
        peers: impl IntoIterator<Item = I>,
        now: Instant,
    ) -> Option<(I, Option<u64>)> {
        let is_due = self.next_wake().is_some_and(|at| at <= now);
        if !is_due {
            return None;
        }
        let idle = peers.into_iter().filter(|peer| !self.running.contains_key(peer));
        let idle: Vec<I> = idle.collect();
        let mut due = self.hurried.iter().filter(|(_, at)| **at <= now).map(|(peer, _)| *peer);
        let peer = if let Some(peer) = due.find(|peer| idle.contains(peer)) {
            peer
        } else {
            // Whoever is in a hurry and away waits for as long as one whose turn it was.
            let later = now + self.interval;
            self.hurried.values_mut().filter(|at| **at <= now).for_each(|at| *at = later);
            if now < self.next_at {
                return None;
            }
            self.next_at = later;
            let peer = idle.into_iter().min_by_key(|&peer| (Some(peer) <= self.last_turn, peer))?;
            self.last_turn = Some(peer);
            peer
        };
        self.hurried.remove(&peer);
        self.running.insert(peer, now);
        Some((peer, self.resume_at.get(&peer).copied()))
    }

    /// Has the next exchange with `peer` begin at `at` and not only when it is its turn.
    pub fn hurry(&mut self, peer: I, at: Instant) {
        let due = self.hurried.entry(peer).or_insert(at);
        *due = at.min(*due);
    }

    /// The running exchange with `peer` has ended. `wall_ms` is the time in milliseconds since the
    /// Unix epoch. Changes nothing if none is running.
    pub fn finish(&mut self, peer: I, report: Report, now: Instant, wall_ms: u64) {
        let Some(started) = self.running.remove(&peer) else { return };
        let Report { summary, bytes_sent, bytes_received, error } = report;
        self.resume_at.insert(peer, summary.resume_at);
        if summary.pulled.saturating_add(summary.pushed) > MANY_RECORDS {
            self.hurry(peer, now + self.interval / 4);
        }
        let stats = &mut self.stats;
        stats.exchanges += 1;
        stats.last_peer = Some(peer);
        stats.last_run_ms = Some(wall_ms);
        stats.last_took = now.saturating_duration_since(started);
        stats.last_compared = summary.compared;
        stats.last_pulled = summary.pulled as u64;
        stats.last_pushed = summary.pushed as u64;
        stats.total_compared += stats.last_compared;
        stats.total_pulled += stats.last_pulled;
        stats.total_pushed += stats.last_pushed;
        stats.total_bytes_sent += bytes_sent;
        stats.total_bytes_received += bytes_received;
        stats.total_unexplained += summary.unexplained;
        if summary.outcome == Outcome::Aborted {
            stats.total_errors += 1;
            stats.last_error = error;
        }
    }

    /// When to [`begin`](Self::begin) next; `None` while as many exchanges are running as may.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        if self.running.len() >= MOST_RUNNING {
            return None;
        }
        // With one that is in a hurry and running, the next begins when that has ended.
        let idle = self.hurried.iter().filter(|(peer, _)| !self.running.contains_key(peer));
        idle.map(|(_, at)| *at).chain([self.next_at]).min()
    }

    /// What came of it so far.
    #[must_use]
    pub fn stats(&self) -> &RoundsStats<I> {
        &self.stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(1500);

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of a test")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn report(outcome: Outcome, resume_at: u64) -> Report {
        let summary = Summary {
            outcome,
            compared: 10,
            pulled: 2,
            pushed: 1,
            resume_at,
            ..Summary::default()
        };
        let error = (outcome == Outcome::Aborted).then(|| "peer lost".to_owned());
        Report { summary, bytes_sent: 100, bytes_received: 50, error }
    }

    #[test]
    fn peers_take_turns_and_those_away_are_passed_over() {
        let mut now = origin();
        let mut rounds = Rounds::new(INTERVAL, now);
        let mut turn = |peers: &[u8]| {
            now += INTERVAL;
            let (peer, _) = rounds.begin(peers.iter().copied(), now)?;
            rounds.finish(peer, report(Outcome::Complete, 0), now, 0);
            Some(peer)
        };
        assert_eq!(turn(&[5, 2, 9]), Some(2));
        assert_eq!(turn(&[2, 5, 9]), Some(5));
        assert_eq!(turn(&[2, 5]), Some(2));
        assert_eq!(turn(&[]), None);
        assert_eq!(turn(&[2, 5, 9]), Some(5));
        assert_eq!(turn(&[2, 5, 9]), Some(9));
        assert_eq!(turn(&[2]), Some(2));
        assert_eq!(turn(&[2]), Some(2));
    }

    #[test]
    fn a_long_exchange_with_one_peer_holds_no_other_up() {
        let start = origin();
        let mut rounds = Rounds::new(INTERVAL, start);
        assert_eq!(rounds.next_wake(), Some(start + INTERVAL));
        assert_eq!(rounds.begin([2, 3], start), None);
        assert_eq!(rounds.begin([2, 3], start + INTERVAL), Some((2, None)));
        assert_eq!(rounds.begin([2, 3], start + INTERVAL), None, "one an interval");
        assert_eq!(rounds.next_wake(), Some(start + INTERVAL * 2));
        assert_eq!(rounds.begin([2, 3], start + INTERVAL * 2), Some((3, None)));
        assert_eq!(rounds.begin([2, 3], start + INTERVAL * 3), None, "one at a time with each");
        assert_eq!(rounds.next_wake(), Some(start + INTERVAL * 4));
        rounds.finish(2, report(Outcome::Complete, 7), start + INTERVAL * 3, 0);
        assert_eq!(rounds.begin([2, 3], start + INTERVAL * 4), Some((2, Some(7))));
    }

    #[test]
    fn so_many_exchanges_run_at_a_time_and_no_more() {
        let start = origin();
        let mut rounds = Rounds::new(INTERVAL, start);
        (0..20).for_each(|peer| rounds.hurry(peer, start));
        let begun = (0..20).filter_map(|_| rounds.begin(0..20, start));
        assert_eq!(begun.count(), MOST_RUNNING);
        assert_eq!(rounds.next_wake(), None);
        rounds.finish(0, report(Outcome::Complete, 0), start, 0);
        assert_eq!(rounds.begin(0..20, start), Some((8, None)));
    }

    #[test]
    fn a_peer_in_a_hurry_does_not_wait_for_its_turn() {
        let start = origin();
        let mut rounds = Rounds::new(INTERVAL, start);
        rounds.hurry(3, start + INTERVAL / 2);
        rounds.hurry(3, start + INTERVAL);
        assert_eq!(rounds.next_wake(), Some(start + INTERVAL / 2));
        assert_eq!(rounds.begin([2], start + INTERVAL / 2), None, "it is away");
        assert_eq!(rounds.next_wake(), Some(start + INTERVAL), "and is not asked for at once");
        assert_eq!(rounds.begin([2, 3], start + INTERVAL), Some((2, None)));
        assert_eq!(rounds.begin([2, 3], start + INTERVAL * 3 / 2), Some((3, None)));
        rounds.hurry(3, start);
        assert_eq!(rounds.begin([2, 3], start + INTERVAL * 3 / 2), None, "it runs");
        rounds.finish(3, report(Outcome::Complete, 0), start + INTERVAL * 3 / 2, 0);
        assert_eq!(rounds.begin([2, 3], start + INTERVAL * 3 / 2), Some((3, Some(0))));
    }

    #[test]
    fn where_much_differed_the_next_exchange_comes_soon() {
        let start = origin();
        let mut rounds = Rounds::new(INTERVAL, start);
        rounds.begin([2, 3], start + INTERVAL);
        let mut much = report(Outcome::Complete, 0);
        much.summary.pulled = 1_000;
        rounds.finish(2, much, start + INTERVAL, 0);
        assert_eq!(rounds.next_wake(), Some(start + INTERVAL + INTERVAL / 4));
        assert_eq!(rounds.begin([2, 3], start + INTERVAL * 5 / 4), Some((2, Some(0))));
    }

    #[test]
    fn each_peer_goes_on_where_it_left_off() {
        let start = origin();
        let mut rounds = Rounds::new(INTERVAL, start);
        rounds.begin([2, 3], start + INTERVAL);
        rounds.finish(2, report(Outcome::Truncated, 42), start + INTERVAL, 0);
        assert_eq!(rounds.begin([2, 3], start + INTERVAL * 2), Some((3, None)));
        rounds.finish(3, report(Outcome::Complete, 7), start + INTERVAL * 2, 0);
        assert_eq!(rounds.begin([2, 3], start + INTERVAL * 3), Some((2, Some(42))));
    }

    #[test]
    fn totals_add_up_and_errors_are_kept() {
        let start = origin();
        let mut rounds = Rounds::new(INTERVAL, start);
        for (i, outcome) in [(1, Outcome::Aborted), (2, Outcome::Complete)] {
            rounds.begin([2], start + INTERVAL * i);
            rounds.finish(2, report(outcome, 0), start + INTERVAL * i + INTERVAL, 123);
        }
        rounds.finish(2, report(Outcome::Aborted, 0), start, 0);
        let stats = rounds.stats();
        assert_eq!((stats.exchanges, stats.total_errors), (2, 1));
        assert_eq!(stats.last_error.as_deref(), Some("peer lost"));
        assert_eq!((stats.last_run_ms, stats.last_took), (Some(123), INTERVAL));
        assert_eq!((stats.total_compared, stats.total_pulled, stats.total_pushed), (20, 4, 2));
        assert_eq!((stats.total_bytes_sent, stats.total_bytes_received), (200, 100));
    }
}
