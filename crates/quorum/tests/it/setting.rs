//! What the laws are tried on: quorums, preference lists, and a first instant.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use quorate_quorum::Quorum;

pub(crate) const PATIENCE: Duration = Duration::from_millis(50);
pub(crate) const TIMEOUT: Duration = Duration::from_millis(1000);

/// A node that no preference list has.
pub(crate) const STRANGER: u8 = 99;

/// A quorum, how many nodes the preference list has, and which of them are down.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) quorum: Quorum,
    pub(crate) nodes: Vec<u8>,
    pub(crate) down: Vec<bool>,
}

impl Setting {
    pub(crate) fn replicas(&self) -> &[u8] {
        &self.nodes[..self.quorum.n().min(self.nodes.len())]
    }

    pub(crate) fn is_down(&self, node: u8) -> bool {
        self.down[usize::from(node)]
    }
}

/// Any quorum of up to five replicas, with up to four fallbacks; now and then too few nodes.
pub(crate) fn settings() -> impl Strategy<Value = Setting> {
    let numbers = (1usize..=5).prop_flat_map(|n| (Just(n), 1..=n, 1..=n, any::<bool>()));
    (numbers, 0u8..=4, prop::bool::weighted(0.1), prop::collection::vec(any::<bool>(), 9)).prop_map(
        |((n, r, w, sloppy), fallbacks, short, down)| {
            let replicas = u8::try_from(n).expect("at most five");
            let count = if short { replicas - 1 } else { replicas + fallbacks };
            let quorum = Quorum::new(n, r, w, sloppy).expect("in range");
            Setting { quorum, nodes: (0..count).collect(), down }
        },
    )
}

#[expect(clippy::disallowed_methods, reason = "any instant will do as the first")]
pub(crate) fn first_instant() -> Instant {
    Instant::now()
}
