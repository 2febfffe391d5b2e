//! The failure detector.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::time::{Duration, Instant};

use crate::peer::Peer;
use crate::{MembershipOptions, PeerState};

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
/// then down, and is up again as soon as it is heard. This only steers; no promise may rest on it.
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
    /// If the spans of `options` are not in order; see [`MembershipOptions::is_valid`].
    pub fn new(
        peers: impl IntoIterator<Item = I>,
        options: MembershipOptions,
        now: Instant,
    ) -> Self {
        assert!(options.is_valid(), "spans out of order: {options:?}");
        let peers = peers.into_iter().map(|peer| (peer, Peer::new(now))).collect();
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

    /// A message of any kind came from `peer`.
    pub fn heard(&mut self, peer: I, now: Instant) {
        self.change(peer, |known, _| known.hear(now));
    }

    /// `peer` answered the ping that was sent at `sent_at`.
    pub fn ponged(&mut self, peer: I, sent_at: Instant, now: Instant) {
        self.change(peer, |known, options| known.pong(sent_at, now, options.suspect_after));
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
        for (&peer, known) in &mut self.peers {
            let from = known.state;
            known.forgive(overslept, now);
            known.age(&self.options, now);
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

    /// The smoothed round trip time to `peer` (an average that weighs the latest by 1/8, as in
    /// RFC 6298 §2); `None` until a ping was answered.
    pub fn rtt(&self, peer: I) -> Option<Duration> {
        self.peers.get(&peer).and_then(Peer::rtt)
    }

    /// When the latest message of `peer` came; `None` if there was none.
    pub fn last_heard(&self, peer: I) -> Option<Instant> {
        self.peers.get(&peer).and_then(Peer::last_heard)
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

#[cfg(test)]
mod tests {
    use super::MembershipAction::{Changed, Ping};
    use super::PeerState::{Down, Suspect, Up};
    use super::*;

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
        assert_eq!(peers.last_heard(2), Some(start));
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
            run(&mut peers, start + ms(2400)),
            [
                ping,
                Changed { peer: 2, from: Up, to: Suspect },
                ping,
                ping,
                Changed { peer: 2, from: Suspect, to: Down },
                ping
            ]
        );
        peers.heard(2, start + ms(2400));
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
        assert_eq!(peers.last_heard(2), Some(start + ms(12)));
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
    #[should_panic(expected = "spans out of order")]
    fn spans_out_of_order_are_refused() {
        let options = MembershipOptions { down_after: ms(1), ..MembershipOptions::default() };
        Membership::new([2], options, origin());
    }
}
