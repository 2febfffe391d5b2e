//! The failure detector.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::time::{Duration, Instant};

use crate::peer::Peer;
use crate::{Evidence, MembershipOptions, PeerState};

/// Something the driver of a [`Membership`] must do or may want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipAction<I> {
    /// Send a ping to `peer`; report the answer with [`Membership::ponged`]. At most one comes for a
    /// peer in each [`MembershipOptions::ping_every`]. One that cannot be sent needs no report.
    Ping {
        /// A connected peer.
        peer: I,
    },
    /// `peer` is no longer in the state `from`.
    Changed {
        /// The peer.
        peer: I,
        /// The state last reported.
        from: PeerState,
        /// The state it is in; differs from `from`.
        to: PeerState,
    },
}

/// Which peers are up, suspect or down, as far as this node can tell.
///
/// Its inputs are facts about the connection to each peer: a peer is *connected* while there is at
/// least one, from a handshake that the peer took part in until the last one is gone. Facts about a
/// peer that was not given to [`new`](Self::new) change nothing.
///
/// A peer that was never tried is suspect. A connection makes it up, its loss makes it down at once.
/// A connected peer that falls silent (stopped, or behind a half-open connection) becomes suspect,
/// then down, and is up again as soon as it is heard: a phi accrual detector (Hayashibara et al.,
/// "The φ Accrual Failure Detector", 2004) judges its silence by how regularly it answered pings.
/// When most of the connected peers fall silent together, this node is likelier the one that is cut
/// off, and calls none of them down for a while. This only steers; no promise may rest on it.
#[derive(Clone, Debug)]
pub struct Membership<I> {
    peers: BTreeMap<I, Peer>,
    options: MembershipOptions,
    actions: VecDeque<MembershipAction<I>>,
}

impl<I: Copy + Ord + Debug> Membership<I> {
    /// Starts to watch `peers`, none of them connected. A node does not watch itself.
    ///
    /// # Panics
    /// If `options` are not in their ranges; see [`MembershipOptions::is_valid`].
    pub fn new(
        peers: impl IntoIterator<Item = I>,
        options: MembershipOptions,
        now: Instant,
    ) -> Self {
        assert!(options.is_valid(), "options out of range: {options:?}");
        let peers = peers.into_iter().map(|peer| (peer, Peer::new(&options, now))).collect();
        Self { peers, options, actions: VecDeque::new() }
    }

    /// There is a connection to `peer`, and `peer` took part in its handshake.
    pub fn connected(&mut self, peer: I, now: Instant) {
        self.change(peer, |known, _| known.connect(now));
        self.ping_if_due(peer, now);
    }

    /// The last connection to `peer` is gone, or an attempt to make the first one failed.
    pub fn lost(&mut self, peer: I, _now: Instant) {
        self.change(peer, |known, _| known.lose());
    }

    /// An answer of any kind came from `peer`: the way there and back is open.
    pub fn heard(&mut self, peer: I, now: Instant) {
        self.change(peer, |known, _| known.answer(now));
    }

    /// Something came from `peer` that is no answer: the way from there is open. This shows in its
    /// [`evidence`](Self::evidence) and changes no state.
    pub fn spoke(&mut self, peer: I, now: Instant) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.speak(now);
        }
    }

    /// `peer` answered the ping that was sent at `sent_at`.
    pub fn ponged(&mut self, peer: I, sent_at: Instant, now: Instant) {
        self.change(peer, |known, options| known.pong(sent_at, now, options));
    }

    /// Time has passed. To be called at [`next_wake`](Self::next_wake); oftener is harmless.
    ///
    /// When the call comes more than one [`MembershipOptions::ping_every`] late, this node itself
    /// was stopped or starved. What its peers said meanwhile may still be unread, so that time is not
    /// held against them: one sick observer must not take a healthy cluster for dead.
    pub fn tick(&mut self, now: Instant) {
        let late =
            self.next_wake().map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        let overslept = if late > self.options.ping_every { late } else { Duration::ZERO };
        for known in self.peers.values_mut() {
            known.forgive(overslept, now);
        }
        let silences = self.silences_to_judge(now);
        for (&peer, known) in &mut self.peers {
            let from = known.state;
            let with_most = known.silent_since().is_some_and(|since| {
                is_shared_by_most(since, &silences, self.options.ping_every * 3 / 2)
            });
            known.age(with_most, &self.options, now);
            let to = known.state;
            if from != to {
                self.actions.push_back(MembershipAction::Changed { peer, from, to });
            }
            if known.take_ping(&self.options, now) {
                self.actions.push_back(MembershipAction::Ping { peer });
            }
        }
    }

    /// The next thing to do; `None` until another fact has come in.
    pub fn poll_action(&mut self) -> Option<MembershipAction<I>> {
        self.actions.pop_front()
    }

    /// When to [`tick`](Self::tick) next; may lie in the past. `None` while nothing can change by
    /// time alone.
    pub fn next_wake(&self) -> Option<Instant> {
        self.peers.values().filter_map(|known| known.next_wake(&self.options)).min()
    }

    /// The state of `peer`; `None` if it is not watched.
    pub fn state(&self, peer: I) -> Option<PeerState> {
        self.peers.get(&peer).map(|known| known.state)
    }

    /// Whether `peer` is watched and up.
    pub fn is_up(&self, peer: I) -> bool {
        self.state(peer) == Some(PeerState::Up)
    }

    /// The smoothed round trip time to `peer` (an average that weighs the latest by 1/8, as in
    /// RFC 6298 §2); `None` until a ping was answered.
    pub fn rtt(&self, peer: I) -> Option<Duration> {
        self.peers.get(&peer).and_then(Peer::rtt)
    }

    /// What is known of `peer`, and what its state rests on; `None` if it is not watched.
    ///
    /// All of it is about this node's own link to the peer. Another node may well see it otherwise.
    pub fn evidence(&self, peer: I, now: Instant) -> Option<Evidence> {
        self.peers.get(&peer).map(|known| known.evidence(now))
    }

    /// What `peer` was asked at `sent` has not been answered for longer than usual. If it has said
    /// nothing since, it is not [prompt](Self::is_prompt) until it does.
    pub fn overdue(&mut self, peer: I, sent: Instant) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.owe(sent);
        }
    }

    /// Whether `peer` is up and owes no answer: if there is a choice, the others are asked after
    /// it. This follows the very answers that are waited for, so it notices a peer that stands still
    /// long before that is [suspect](PeerState::Suspect), and changes nothing else.
    pub fn is_prompt(&self, peer: I) -> bool {
        self.peers.get(&peer).is_some_and(Peer::is_prompt)
    }

    /// All watched peers with their states, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (I, PeerState)> + '_ {
        self.peers.iter().map(|(&peer, known)| (peer, known.state))
    }

    /// When the silences of all connected peers began, if one of them lasts long enough for that to
    /// matter.
    fn silences_to_judge(&self, now: Instant) -> Vec<Instant> {
        let given_up =
            |known: &Peer| known.state != PeerState::Down && known.is_given_up(&self.options, now);
        if !self.peers.values().any(given_up) {
            return Vec::new();
        }
        self.peers.values().filter_map(Peer::silent_since).collect()
    }

    fn change(&mut self, peer: I, change: impl FnOnce(&mut Peer, &MembershipOptions)) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        let from = known.state;
        change(known, &self.options);
        let to = known.state;
        if from != to {
            self.actions.push_back(MembershipAction::Changed { peer, from, to });
        }
    }

    fn ping_if_due(&mut self, peer: I, now: Instant) {
        let Some(known) = self.peers.get_mut(&peer) else { return };
        if known.take_ping(&self.options, now) {
            self.actions.push_back(MembershipAction::Ping { peer });
        }
    }
}

/// Whether more than half of the connected peers fell silent at about the same time as one did, not
/// counting those that had been silent long before. Two at least: of one alone nothing can be said.
fn is_shared_by_most(since: Instant, silences: &[Instant], together: Duration) -> bool {
    let recent = silences.iter().filter(|&&other| other + together >= since);
    let (mut count, mut with_it) = (0, 0);
    for &other in recent {
        count += 1;
        with_it += usize::from(other <= since + together);
    }
    with_it >= 2 && with_it * 2 > count
}

#[cfg(test)]
mod tests {
    use super::MembershipAction::{Changed, Ping};
    use super::PeerState::{Down, Suspect, Up};
    use super::*;
    use crate::Reason;

    #[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of a test")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn watch(peers: &[u8]) -> (Membership<u8>, Instant) {
        let start = origin();
        (Membership::new(peers.iter().copied(), MembershipOptions::default(), start), start)
    }

    fn actions(peers: &mut Membership<u8>) -> Vec<MembershipAction<u8>> {
        std::iter::from_fn(|| peers.poll_action()).collect()
    }

    /// Ticks exactly when asked to, until `until`; returns all that was to be done.
    fn run(peers: &mut Membership<u8>, until: Instant) -> Vec<MembershipAction<u8>> {
        while let Some(at) = peers.next_wake().filter(|&at| at <= until) {
            peers.tick(at);
        }
        actions(peers)
    }

    #[test]
    fn a_peer_that_was_never_tried_is_suspect_and_then_down() {
        let (mut peers, start) = watch(&[2]);
        assert_eq!(peers.state(2), Some(Suspect));
        assert_eq!(
            run(&mut peers, start + ms(2000)),
            [Changed { peer: 2, from: Suspect, to: Down }]
        );
        assert_eq!(peers.next_wake(), None);
    }

    #[test]
    fn a_connection_makes_a_peer_up_and_is_pinged_at_once() {
        let (mut peers, start) = watch(&[2]);
        peers.connected(2, start);
        assert_eq!(
            actions(&mut peers),
            [Changed { peer: 2, from: Suspect, to: Up }, Ping { peer: 2 }]
        );
        assert_eq!(peers.evidence(2, start).unwrap().last_answered, Some(start));
    }

    #[test]
    fn a_lost_connection_makes_a_peer_down_at_once() {
        let (mut peers, start) = watch(&[2, 3]);
        peers.connected(2, start);
        actions(&mut peers);
        peers.lost(2, start + ms(1));
        peers.lost(2, start + ms(2));
        peers.lost(3, start + ms(3));
        assert_eq!(
            actions(&mut peers),
            [Changed { peer: 2, from: Up, to: Down }, Changed { peer: 3, from: Suspect, to: Down }]
        );
        assert_eq!(peers.next_wake(), None);
    }

    #[test]
    fn a_connected_peer_that_falls_silent_is_suspect_then_down_and_up_again_when_heard() {
        let (mut peers, start) = watch(&[2]);
        peers.connected(2, start);
        actions(&mut peers);
        let ping = Ping { peer: 2 };
        assert_eq!(
            run(&mut peers, start + ms(1900)),
            [
                ping,
                ping,
                Changed { peer: 2, from: Up, to: Suspect },
                ping,
                Changed { peer: 2, from: Suspect, to: Down },
            ]
        );
        peers.heard(2, start + ms(1900));
        assert_eq!(actions(&mut peers), [Changed { peer: 2, from: Down, to: Up }]);
    }

    #[test]
    fn a_peer_that_speaks_without_answering_pings_stays_up() {
        let (mut peers, start) = watch(&[2]);
        peers.connected(2, start);
        actions(&mut peers);
        for i in 1..20 {
            let now = start + ms(900) * i;
            assert!(run(&mut peers, now).iter().all(|action| *action == Ping { peer: 2 }));
            peers.heard(2, now);
        }
        assert_eq!(peers.state(2), Some(Up));
    }

    #[test]
    fn a_message_that_comes_after_the_loss_does_not_make_a_peer_up() {
        let (mut peers, start) = watch(&[2]);
        peers.connected(2, start);
        peers.lost(2, start + ms(10));
        actions(&mut peers);
        peers.heard(2, start + ms(11));
        peers.ponged(2, start, start + ms(12));
        assert_eq!(actions(&mut peers), []);
        assert_eq!(peers.state(2), Some(Down));
        let evidence = peers.evidence(2, start + ms(13)).unwrap();
        assert_eq!(evidence.last_answered, Some(start + ms(12)));
        assert_eq!((evidence.reason, evidence.phi), (Reason::Disconnected, None));
        assert_eq!(peers.rtt(2), None);
    }

    #[test]
    fn a_silent_peer_changes_nothing_for_the_others() {
        let (mut peers, start) = watch(&[2, 3]);
        peers.connected(2, start);
        peers.connected(3, start);
        for i in 1..=5 {
            let now = start + ms(500) * i;
            run(&mut peers, now);
            peers.ponged(3, now, now + ms(1));
        }
        assert_eq!(peers.iter().collect::<Vec<_>>(), [(2, Down), (3, Up)]);
    }

    #[test]
    fn the_round_trip_is_an_average_that_forgets() {
        let (mut peers, start) = watch(&[2]);
        peers.connected(2, start);
        peers.ponged(2, start, start + ms(8));
        assert_eq!(peers.rtt(2), Some(ms(8)));
        peers.ponged(2, start + ms(500), start + ms(516));
        assert_eq!(peers.rtt(2), Some(ms(9)));
    }

    #[test]
    fn a_pause_of_the_peer_is_not_taken_for_a_long_way() {
        let (mut peers, start) = watch(&[2]);
        peers.connected(2, start);
        peers.ponged(2, start, start + ms(3_600_000));
        assert_eq!(peers.rtt(2), Some(ms(1000)));
    }

    #[test]
    fn a_node_that_was_stopped_itself_does_not_take_its_peers_for_dead() {
        let (mut peers, start) = watch(&[2]);
        peers.connected(2, start);
        actions(&mut peers);
        peers.tick(start + ms(60_000));
        assert_eq!(actions(&mut peers), [Ping { peer: 2 }]);
        assert_eq!(peers.state(2), Some(Up));
        run(&mut peers, start + ms(62_000));
        assert_eq!(peers.state(2), Some(Down));
    }

    #[test]
    fn a_flapping_connection_draws_no_extra_pings() {
        let (mut peers, start) = watch(&[2]);
        for i in 0..100 {
            peers.connected(2, start + ms(i));
            peers.lost(2, start + ms(i));
        }
        let pings = actions(&mut peers).into_iter().filter(|a| *a == Ping { peer: 2 }).count();
        assert_eq!(pings, 1);
    }

    #[test]
    fn a_peer_that_owes_an_answer_is_not_prompt_until_it_speaks() {
        let (mut peers, start) = watch(&[2]);
        assert!(!peers.is_prompt(2), "not connected");
        peers.connected(2, start);
        assert!(peers.is_prompt(2));
        peers.heard(2, start + ms(10));
        peers.overdue(2, start + ms(5));
        assert!(peers.is_prompt(2), "it has spoken since");
        peers.overdue(2, start + ms(11));
        assert!(!peers.is_prompt(2));
        assert_eq!(peers.state(2), Some(Up));
        peers.heard(2, start + ms(12));
        assert!(peers.is_prompt(2));
    }

    /// Answers every ping of `peers` after `way`, until `until`; returns the changes of states.
    fn answer_pings(
        peers: &mut Membership<u8>,
        answering: &[u8],
        way: impl Fn(Instant) -> Duration,
        until: Instant,
    ) -> Vec<MembershipAction<u8>> {
        let mut changes = Vec::new();
        while let Some(at) = peers.next_wake().filter(|&at| at <= until) {
            peers.tick(at);
            for action in actions(peers) {
                match action {
                    Ping { peer } if answering.contains(&peer) => {
                        peers.ponged(peer, at, at + way(at));
                    }
                    Ping { .. } => {}
                    Changed { .. } => changes.push(action),
                }
            }
            changes.extend(actions(peers));
        }
        changes
    }

    #[test]
    fn a_peer_that_is_starved_for_a_while_stays_up() {
        let (mut peers, start) = watch(&[2]);
        peers.connected(2, start);
        actions(&mut peers);
        let starved = |now: Instant| {
            let since = now.saturating_duration_since(start).as_millis();
            if since / 500 % 10 == 9 { ms(300) } else { ms(1) }
        };
        assert_eq!(answer_pings(&mut peers, &[2], starved, start + ms(60_000)), []);
    }

    #[test]
    fn a_peer_that_stands_still_is_down_within_two_seconds() {
        let (mut peers, start) = watch(&[2]);
        peers.connected(2, start);
        actions(&mut peers);
        answer_pings(&mut peers, &[2], |_| ms(1), start + ms(30_000));
        let stopped = peers.evidence(2, start).unwrap().last_answered.unwrap();
        let changes = run(&mut peers, stopped + ms(2_000));
        let last = Changed { peer: 2, from: Suspect, to: Down };
        assert!(changes.contains(&last), "{changes:?}");
    }

    #[test]
    fn a_peer_that_answers_late_is_slow_and_not_down() {
        let (mut peers, start) = watch(&[2]);
        peers.connected(2, start);
        actions(&mut peers);
        answer_pings(&mut peers, &[2], |_| ms(2), start + ms(10_000));
        let reason = |peers: &Membership<u8>| peers.evidence(2, start).unwrap().reason;
        assert_eq!((reason(&peers), peers.is_prompt(2)), (Reason::Answers, true));
        answer_pings(&mut peers, &[2], |_| ms(200), start + ms(20_000));
        assert_eq!(peers.state(2), Some(Up));
        assert_eq!((reason(&peers), peers.is_prompt(2)), (Reason::Slow, false));
        answer_pings(&mut peers, &[2], |_| ms(2), start + ms(40_000));
        assert_eq!((reason(&peers), peers.is_prompt(2)), (Reason::Answers, true));
    }

    #[test]
    fn a_peer_that_speaks_and_does_not_answer_goes_down_and_is_told_from_a_silent_one() {
        let (mut peers, start) = watch(&[2, 3, 4, 5]);
        (2..=5).for_each(|peer| peers.connected(peer, start));
        for i in 1..=20 {
            let now = start + ms(100) * i;
            answer_pings(&mut peers, &[4, 5], |_| ms(1), now);
            peers.spoke(2, now);
            peers.heard(4, now);
            peers.heard(5, now);
        }
        let end = start + ms(2_000);
        let seen = |peer| (peers.state(peer).unwrap(), peers.evidence(peer, end).unwrap().reason);
        assert_eq!(seen(2), (Down, Reason::OneWay));
        assert_eq!(seen(3), (Down, Reason::Silent));
        assert_eq!(seen(4), (Up, Reason::Answers));
        assert!(peers.evidence(2, end).unwrap().phi > peers.evidence(4, end).unwrap().phi);
    }

    #[test]
    fn a_node_that_hears_nobody_doubts_itself_for_a_while() {
        let (mut peers, start) = watch(&[2, 3, 4]);
        (2..=4).for_each(|peer| peers.connected(peer, start));
        answer_pings(&mut peers, &[2, 3, 4], |_| ms(1), start + ms(10_000));
        let options = MembershipOptions::default();

        answer_pings(&mut peers, &[], |_| ms(1), start + ms(10_000) + options.down_after);
        let suspects = [(2, Suspect), (3, Suspect), (4, Suspect)];
        assert_eq!(peers.iter().collect::<Vec<_>>(), suspects);
        assert_eq!(peers.evidence(3, start).unwrap().reason, Reason::SelfDoubt);

        let longest = options.down_after + options.doubt_self_for;
        answer_pings(&mut peers, &[], |_| ms(1), start + ms(10_000) + longest);
        assert_eq!(peers.iter().collect::<Vec<_>>(), [(2, Down), (3, Down), (4, Down)]);
    }

    #[test]
    fn the_doubt_ends_when_most_others_are_heard_again() {
        let (mut peers, start) = watch(&[2, 3, 4]);
        (2..=4).for_each(|peer| peers.connected(peer, start));
        answer_pings(&mut peers, &[2, 3, 4], |_| ms(1), start + ms(10_000));
        answer_pings(&mut peers, &[], |_| ms(1), start + ms(12_000));
        assert_eq!(peers.state(2), Some(Suspect));
        peers.heard(3, start + ms(12_000));
        peers.heard(4, start + ms(12_000));
        answer_pings(&mut peers, &[3, 4], |_| ms(1), start + ms(12_500));
        assert_eq!(peers.iter().collect::<Vec<_>>(), [(2, Down), (3, Up), (4, Up)]);
    }

    #[test]
    fn those_that_were_silent_long_before_are_no_reason_to_doubt() {
        let (mut peers, start) = watch(&[2, 3, 4, 5]);
        (2..=5).for_each(|peer| peers.connected(peer, start));
        answer_pings(&mut peers, &[3, 4, 5], |_| ms(1), start + ms(10_000));
        answer_pings(&mut peers, &[4, 5], |_| ms(1), start + ms(12_000));
        assert_eq!(peers.iter().collect::<Vec<_>>(), [(2, Down), (3, Down), (4, Up), (5, Up)]);
    }

    #[test]
    fn facts_about_strangers_change_nothing() {
        let (mut peers, start) = watch(&[2]);
        peers.connected(9, start);
        peers.heard(9, start);
        peers.ponged(9, start, start);
        peers.lost(9, start);
        assert_eq!(actions(&mut peers), []);
        assert_eq!(peers.state(9), None);
    }

    #[test]
    #[should_panic(expected = "options out of range")]
    fn options_out_of_range_are_refused() {
        let options = MembershipOptions { down_after: ms(1), ..MembershipOptions::default() };
        Membership::new([2], options, origin());
    }
}
