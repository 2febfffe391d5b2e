//! A failure detector driven by a made-up clock: peer 3 is stopped for a while, peer 2 is not.

use std::time::{Duration, Instant};

use quorate_membership::{Membership, MembershipAction, MembershipOptions};

#[expect(clippy::disallowed_methods, reason = "a driver owns the clock; here it is read once")]
fn origin() -> Instant {
    Instant::now()
}

fn main() {
    let start = origin();
    let way = Duration::from_millis(3);
    let stopped = Duration::from_secs(1)..Duration::from_secs(4);

    let mut peers = Membership::new([2, 3], MembershipOptions::default(), start);
    peers.connected(2, start);
    peers.connected(3, start);

    let mut now = start;
    while now < start + Duration::from_secs(6) {
        while let Some(action) = peers.poll_action() {
            match action {
                MembershipAction::Changed { peer, from, to } => {
                    println!("{:>5} ms: peer {peer} {from} -> {to}", (now - start).as_millis());
                }
                MembershipAction::Ping { peer: 3 } if stopped.contains(&(now - start)) => {}
                MembershipAction::Ping { peer } => peers.ponged(peer, now, now + way),
            }
        }
        now = peers.next_wake().expect("connected peers are watched");
        peers.tick(now);
    }
    for (peer, state) in peers.iter() {
        println!("peer {peer}: {state}, round trip {:?}", peers.rtt(peer));
    }
}
