use std::{
    collections::HashMap,
    mem::{Discriminant, discriminant},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use quorate_record::NodeId;
use tokio::time::Instant;

use crate::{AcceptError, HandshakeError};

/// How long the same is not said again.
const QUIET_FOR: Duration = Duration::from_secs(60);

/// Who was refused of late, and why, so that nobody fills the log.
///
/// What is remembered of a reason is its kind and not its text, which has in it what somebody said
/// who may be anybody: it could be another one every time. For the same cause strangers share one
/// place, whatever they call themselves; so there are as many places as peers and kinds.
#[derive(Clone, Default)]
pub(crate) struct Refusals(Arc<Mutex<Known>>);

type Known = HashMap<(Option<NodeId>, Kind), Last>;

/// The kind of a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Disagreed(Discriminant<HandshakeError>),
    NotProved(Discriminant<AcceptError>),
}

/// When a reason was last logged, and how often it was left out since.
struct Last {
    at: Instant,
    left_out: u64,
}

impl From<&HandshakeError> for Kind {
    fn from(error: &HandshakeError) -> Self {
        Self::Disagreed(discriminant(error))
    }
}

impl From<&AcceptError> for Kind {
    fn from(error: &AcceptError) -> Self {
        Self::NotProved(discriminant(error))
    }
}

impl Refusals {
    /// Logs why somebody was refused who calls itself `peer`, if it is one; each kind of reason at
    /// most once a minute.
    pub(crate) fn log<E>(&self, peer: Option<NodeId>, error: &E)
    where
        E: std::error::Error,
        for<'a> Kind: From<&'a E>,
    {
        if let Some(left_out) = self.pass(peer, error.into(), Instant::now()) {
            let peer = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
            tracing::warn!(%peer, reason = %error, left_out, "refused a peer's stream");
        }
    }

    /// Whether there may be a line now; if so, how many were left out before it.
    fn pass(&self, peer: Option<NodeId>, kind: Kind, now: Instant) -> Option<u64> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match known.get_mut(&(peer, kind)) {
            Some(last) if now < last.at + QUIET_FOR => {
                last.left_out += 1;
                None
            }
            Some(last) => {
                last.at = now;
                Some(std::mem::take(&mut last.left_out))
            }
            None => {
                known.insert((peer, kind), Last { at: now, left_out: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other_cluster(theirs: u64) -> Kind {
        let (is, of) = (NodeId::new("n1").unwrap(), NodeId::new("n2").unwrap());
        Kind::from(&HandshakeError::OtherCluster { is, theirs, of, ours: 7 })
    }

    #[test]
    fn a_stranger_cannot_fill_the_log_by_saying_something_else_each_time() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let lines = (0..1_000).filter_map(|i| refusals.pass(None, other_cluster(i), now)).count();
        assert_eq!(lines, 1);
        assert_eq!(refusals.pass(None, other_cluster(0), now + QUIET_FOR), Some(999));
        assert_eq!(refusals.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn another_reason_and_another_peer_are_said_at_once() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let peer = NodeId::new("n1").ok();
        assert_eq!(refusals.pass(peer, other_cluster(8), now), Some(0));
        assert_eq!(refusals.pass(peer, Kind::from(&AcceptError::WrongProof), now), Some(0));
        assert_eq!(refusals.pass(None, other_cluster(8), now), Some(0));
        assert_eq!(refusals.pass(peer, other_cluster(9), now), None);
    }
}
