//! Whatever happens to the connections, in whatever order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use quorate_membership::{Membership, MembershipAction, MembershipOptions, PeerState};

const PEERS: [u8; 3] = [1, 2, 3];

#[derive(Clone, Debug)]
enum Fact {
    Connected(u8),
    Lost(u8),
    Heard(u8),
    Spoke(u8),
    Ponged(u8, Duration),
    Nothing,
}

fn fact() -> impl Strategy<Value = Fact> {
    let peer = || 1..=4_u8;
    prop_oneof![
        2 => peer().prop_map(Fact::Connected),
        1 => peer().prop_map(Fact::Lost),
        4 => peer().prop_map(Fact::Heard),
        1 => peer().prop_map(Fact::Spoke),
        2 => (peer(), 0..3000_u64).prop_map(|(p, ms)| Fact::Ponged(p, Duration::from_millis(ms))),
        3 => Just(Fact::Nothing),
    ]
}

fn facts() -> impl Strategy<Value = Vec<(Duration, Fact)>> {
    let step = prop_oneof![0..100_u64, 0..1200_u64, 0..5000_u64].prop_map(Duration::from_millis);
    prop::collection::vec((step, fact()), 0..80)
}

#[expect(clippy::disallowed_methods, reason = "any instant will do as the origin of a test")]
fn origin() -> Instant {
    Instant::now()
}

fn feed(peers: &mut Membership<u8>, fact: &Fact, now: Instant) {
    match *fact {
        Fact::Connected(peer) => peers.connected(peer, now),
        Fact::Lost(peer) => peers.lost(peer, now),
        Fact::Heard(peer) => peers.heard(peer, now),
        Fact::Spoke(peer) => peers.spoke(peer, now),
        Fact::Ponged(peer, rtt) => peers.ponged(peer, now.checked_sub(rtt).unwrap_or(now), now),
        Fact::Nothing => {}
    }
}

/// What a peer's state means, written down without a machine.
#[derive(Clone, Copy)]
struct Meaning {
    connected: bool,
    tried: bool,
    heard: Instant,
}

impl Meaning {
    fn take(&mut self, fact: &Fact, me: u8, now: Instant) {
        match *fact {
            Fact::Connected(peer) if peer == me => {
                *self = Self { connected: true, tried: true, heard: now };
            }
            Fact::Lost(peer) if peer == me => {
                self.connected = false;
                self.tried = true;
            }
            Fact::Heard(peer) | Fact::Ponged(peer, _) if peer == me && self.connected => {
                self.heard = now;
            }
            _ => {}
        }
    }

    /// The states that a peer may be in, given how long each may take.
    fn allows(&self, state: PeerState, options: &MembershipOptions, now: Instant) -> bool {
        let silence = now - self.heard;
        match (self.tried, self.connected) {
            (true, false) => state == PeerState::Down,
            (false, _) if silence < options.down_after => state == PeerState::Suspect,
            (false, _) => state == PeerState::Down,
            _ if silence < options.acceptable_pause => state == PeerState::Up,
            _ if silence < options.down_after * 3 / 4 => true,
            _ if silence < options.down_after + options.doubt_self_for => state != PeerState::Up,
            _ => state == PeerState::Down,
        }
    }
}

proptest! {
    /// A driver that ticks when asked to sees what the facts mean, and nothing else.
    #[test]
    fn the_state_is_what_the_facts_allow(steps in facts()) {
        let options = MembershipOptions::default();
        let mut now = origin();
        let mut peers = Membership::new(PEERS, options, now);
        let mut meanings = PEERS.map(|p| (p, Meaning { connected: false, tried: false, heard: now }));
        let mut reported: BTreeMap<u8, PeerState> = peers.iter().collect();
        for (step, fact) in &steps {
            let then = now + *step;
            while let Some(at) = peers.next_wake().filter(|&at| at <= then) {
                now = now.max(at);
                peers.tick(now);
            }
            now = then;
            feed(&mut peers, fact, now);
            for (peer, meaning) in &mut meanings {
                meaning.take(fact, *peer, now);
                let state = peers.state(*peer).unwrap();
                prop_assert!(meaning.allows(state, &options, now), "{peer}: {state}");
                let phi = peers.evidence(*peer, now).unwrap().phi;
                prop_assert_eq!(phi.is_some(), meaning.connected);
                prop_assert!(phi.is_none_or(|phi| (0.0..=1_000.0).contains(&phi)));
            }
            while let Some(action) = peers.poll_action() {
                if let MembershipAction::Changed { peer, from, to } = action {
                    prop_assert_ne!(from, to);
                    prop_assert_eq!(reported.insert(peer, to), Some(from));
                }
            }
            prop_assert_eq!(&reported, &peers.iter().collect());
        }
    }

    /// However late or early the ticks are: pings are an interval apart, and up means heard.
    #[test]
    fn a_peer_is_pinged_at_most_once_an_interval_and_up_only_if_heard(steps in facts()) {
        let options = MembershipOptions::default();
        let mut now = origin();
        let mut peers = Membership::new(PEERS, options, now);
        let mut connected = BTreeMap::new();
        let mut heard_since_loss = BTreeMap::new();
        let mut pinged: BTreeMap<u8, Instant> = BTreeMap::new();
        for (step, fact) in &steps {
            now += *step;
            feed(&mut peers, fact, now);
            match *fact {
                Fact::Connected(peer) => {
                    connected.insert(peer, true);
                    heard_since_loss.insert(peer, true);
                }
                Fact::Lost(peer) => {
                    connected.insert(peer, false);
                    heard_since_loss.insert(peer, false);
                }
                Fact::Heard(peer) | Fact::Ponged(peer, _) => {
                    heard_since_loss.insert(peer, true);
                }
                Fact::Spoke(_) => {}
                Fact::Nothing => peers.tick(now),
            }
            while let Some(action) = peers.poll_action() {
                if let MembershipAction::Ping { peer } = action {
                    prop_assert_eq!(connected.get(&peer), Some(&true));
                    if let Some(before) = pinged.insert(peer, now) {
                        prop_assert!(now - before >= options.ping_every);
                    }
                }
            }
            for (peer, state) in peers.iter() {
                if state == PeerState::Up {
                    prop_assert_eq!(connected.get(&peer), Some(&true));
                    prop_assert_eq!(heard_since_loss.get(&peer), Some(&true));
                }
            }
        }
    }
}
