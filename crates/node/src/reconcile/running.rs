//! One exchange at work.

use std::{collections::VecDeque, time::Instant};

use quorate_antientropy::{
    Differing, Exchange, ExchangeAction, ExchangeEvent, Listing, Overview, Ranges, SketchExchange,
};
use quorate_record::{Digest, NodeId, Stamp, Timestamp};

use super::{Part, Reconcile};
use crate::{Now, Request, Response};

#[derive(Debug)]
pub(super) struct Running {
    pub(super) id: u64,
    pub(super) peer: NodeId,
    pub(super) exchange: Kind,
    /// The same by lists alone, for a peer that knows of no sketches.
    without_sketches: Option<Box<Exchange<Stamp>>>,
    pub(super) step: Step,
    /// The latest question, to be asked again if it is refused for lack of time.
    pub(super) asked: Option<Asked>,
    /// How often in a row it had to wait.
    pub(super) waits: u32,
    pub(super) paused_until: Option<Instant>,
    pub(super) noted: Option<Differing>,
    pub(super) bytes_sent: u64,
    pub(super) bytes_received: u64,
    pub(super) error: Option<String>,
    /// Of this node and of the peer, as they were when it began or less.
    horizons: (Timestamp, Timestamp),
}

#[derive(Debug)]
pub(super) enum Kind {
    Sketches(Box<SketchExchange<Stamp>>),
    Lists(Box<Exchange<Stamp>>),
}

/// A question, and who has it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) to: NodeId,
    pub(super) body: Request,
    pub(super) part: Part,
}

impl Asked {
    /// How many tokens records are asked for of.
    pub(super) fn tokens(&self) -> usize {
        match &self.body {
            Request::Fetch { tokens } => tokens.len(),
            _ => 0,
        }
    }
}

/// What the exchange waits for.
#[derive(Debug)]
pub(super) enum Step {
    Nothing,
    /// The digest of everything here.
    Whole {
        salt: u64,
    },
    /// What the peer says to that.
    Overview {
        whole: Digest,
    },
    /// The digests of the buckets here.
    Buckets {
        remote: Overview,
    },
    /// Both sides' answers to the same question.
    Both {
        local: Option<Response>,
        remote: Option<Response>,
    },
    /// Records on their way from one side to the other.
    Move {
        way: Way,
        tokens: VecDeque<u64>,
        records: usize,
        left: usize,
        /// When the latest batch did.
        began: Instant,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Pull,
    Push,
}

impl Reconcile {
    /// Begins an exchange with a peer; the horizons are of this node and of the peer.
    pub(super) fn start(
        &self,
        id: u64,
        (peer, horizons): (NodeId, (Timestamp, Timestamp)),
        resume_at: Option<u64>,
        now: Now,
    ) -> Running {
        let ranges = Ranges::clone(&self.co_owned[&peer].0);
        // Who fills up from several peers begins with each elsewhere.
        let pair = [self.id.as_str(), peer.as_str()].join(" ");
        let spread = quorate_ring::token(pair.as_bytes());
        let start_at = resume_at.unwrap_or(spread);
        let seed = spread ^ id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ now.wall_ms.rotate_left(40);
        let mut limits = self.limits;
        if buggify!(SmallLeaf) {
            limits.leaf_records = 1;
        }
        let (here, there) = horizons;
        let sketches = SketchExchange::start(ranges.clone(), start_at, seed)
            .leaving_out_forgotten(here.bits(), there.bits());
        let lists = Exchange::start(ranges, limits, start_at);
        Running {
            id,
            peer,
            exchange: Kind::Sketches(Box::new(sketches)),
            without_sketches: Some(Box::new(lists)),
            step: Step::Nothing,
            asked: None,
            waits: 0,
            paused_until: None,
            noted: None,
            bytes_sent: 0,
            bytes_received: 0,
            error: None,
            horizons,
        }
    }
}

impl Kind {
    pub(super) fn poll_action(&mut self) -> Option<ExchangeAction> {
        match self {
            Self::Sketches(exchange) => exchange.poll_action(),
            Self::Lists(exchange) => exchange.poll_action(),
        }
    }

    pub(super) fn differing(&self) -> Option<Differing> {
        match self {
            Self::Sketches(exchange) => exchange.differing(),
            Self::Lists(_) => None,
        }
    }

    fn handle(&mut self, event: ExchangeEvent<Stamp>) {
        match self {
            Self::Sketches(exchange) => exchange.handle(event),
            Self::Lists(exchange) => exchange.handle(event),
        }
    }
}

impl Running {
    pub(super) fn abort(&mut self, why: &str) {
        self.error = Some(format!("{}: {why}", self.peer));
        self.report(ExchangeEvent::Aborted);
    }

    /// The peer does not know what a sketch is.
    pub(super) fn go_without_sketches(&mut self) {
        match self.without_sketches.take() {
            Some(lists) => {
                self.exchange = Kind::Lists(lists);
                self.step = Step::Nothing;
                self.asked = None;
            }
            None => self.abort("an answer to something else"),
        }
    }

    pub(super) fn looked(&mut self, local: Vec<Digest>, remote: Overview) {
        self.report(ExchangeEvent::Overview { local, remote });
    }

    pub(super) fn moved_all(&mut self) {
        let Step::Move { way, records, left, .. } = self.step else { return };
        self.report(match way {
            Way::Pull => ExchangeEvent::Pulled { records, left },
            Way::Push => ExchangeEvent::Pushed { records, left },
        });
    }

    pub(super) fn answered_here(&mut self, response: Response) {
        match (&mut self.step, response) {
            (_, Response::Refused(why)) => self.abort(&format!("here: {why}")),
            (Step::Buckets { remote }, Response::Digests(local)) => {
                let remote = remote.clone();
                self.looked(local, remote);
            }
            (Step::Both { local, .. }, response) => {
                *local = Some(response);
                self.compare_when_both_answered();
            }
            _ => self.abort("an answer to something else"),
        }
    }

    pub(super) fn answered_there(&mut self, response: Response) {
        if let Step::Both { remote, .. } = &mut self.step {
            *remote = Some(response);
        }
        self.compare_when_both_answered();
    }

    fn compare_when_both_answered(&mut self) {
        let Step::Both { local, remote } = &mut self.step else { return };
        if local.is_none() || remote.is_none() {
            return;
        }
        let (here, there) = self.horizons;
        let event = match (local.take(), remote.take()) {
            (Some(Response::Digests(local)), Some(Response::Digests(remote))) => {
                ExchangeEvent::Digests { local, remote }
            }
            (Some(Response::Sketches(local)), Some(Response::Sketches(remote))) => {
                ExchangeEvent::Sketches { local, remote }
            }
            (
                Some(Response::Listed { items: mut local, complete: all_local }),
                Some(Response::Listed { items: mut remote, complete: all_remote }),
            ) => {
                let before = (local.clone(), remote.clone());
                leave_out_forgotten(&mut local, &before.1, there);
                leave_out_forgotten(&mut remote, &before.0, here);
                ExchangeEvent::Listed {
                    local: Listing { items: local, complete: all_local },
                    remote: Listing { items: remote, complete: all_remote },
                }
            }
            _ => return self.abort("an answer to something else"),
        };
        self.report(event);
    }

    /// Tells the exchange what it waited for.
    fn report(&mut self, event: ExchangeEvent<Stamp>) {
        self.step = Step::Nothing;
        self.asked = None;
        self.paused_until = None;
        self.exchange.handle(event);
    }
}

/// Leaves out tombstones that the other side has forgotten: below its horizon, "nothing" says the same.
fn leave_out_forgotten(
    items: &mut Vec<(u64, Stamp)>,
    others: &[(u64, Stamp)],
    others_horizon: Timestamp,
) {
    items.retain(|(token, stamp)| {
        let is_forgotten = stamp.is_tombstone() && stamp.version.timestamp < others_horizon;
        !is_forgotten || others.binary_search_by_key(token, |(token, _)| *token).is_ok()
    });
}
