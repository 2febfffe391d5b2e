use std::time::{Duration, Instant};

use quorate_quorum::{Failure, Round};
use quorate_record::NodeId;

use crate::{
    Action, Message, Node, NodeOptions, Now, Refusal, Request, Response,
    node::{Inner, Timer},
    peers::InFlight,
    reconcile::Part,
    serve::Origin,
};

/// A request that this node has made of another, or of itself, and that is not answered yet.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) to: NodeId,
    waiter: Waiter,
    sent: Instant,
    bytes: usize, // of values
}

/// Who is to hear of the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Waiter {
    Write { id: u64, round: Round },
    Read { id: u64 },
    Repair { id: u64 },
    Owner { id: u64 },
    Handoff { batch: u64 },
    Exchange { id: u64, part: Part },
    Report { id: u64 },
    Burial,
    Heal { token: u64 },
    Ping,
}

/// What came of a call: the answer, or why there is none.
pub(crate) type Outcome = Result<Response, Failure>;

impl Node {
    /// Asks `to`. The caller forgets the call itself when it no longer wants the answer.
    pub(crate) fn call(
        &mut self,
        time_left: Duration,
        to: NodeId,
        body: Request,
        waiter: Waiter,
        now: Now,
    ) -> u64 {
        let id = if planted!(CallIdReused) { self.fresh_id() % 64 } else { self.fresh_id() };
        let bytes = body.value_bytes();
        self.calls.insert(id, Call { to, waiter, sent: now.instant, bytes });
        if to == self.id {
            self.defer(Inner::Asked { call: id, body });
        } else if !self.make_room_at(to, bytes) && !matches!(waiter, Waiter::Ping) {
            self.counters.peer_overloads += 1;
            self.defer(Inner::Unsent { call: id });
        } else {
            let message = Message::Request { id, time_left, body };
            self.act(Action::Send { to, message });
        }
        id
    }

    /// Counts a request to a peer, and says whether there is room for it.
    fn make_room_at(&mut self, peer: NodeId, bytes: usize) -> bool {
        let in_flight = &mut self.peers.entry(peer).or_default().in_flight;
        let before = *in_flight;
        *in_flight = InFlight { requests: before.requests + 1, bytes: before.bytes + bytes };
        let NodeOptions { max_peer_requests, max_peer_bytes, .. } = self.options;
        let fits = in_flight.bytes <= max_peer_bytes || before.bytes == 0 || bytes == 0;
        before.requests < max_peer_requests && fits
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn forget_call(&mut self, id: u64) -> Option<Call> {
        let call = self.calls.remove(&id)?;
        if call.to != self.id
            && let Some(facts) = self.peers.get_mut(&call.to)
        {
            facts.in_flight.requests -= 1;
            facts.in_flight.bytes -= call.bytes;
        }
        Some(call)
    }

    /// Of these calls, those that are not answered yet have taken so long that their peers are
    /// asked last, until they say something.
    pub(crate) fn note_overdue(&mut self, calls: &[u64]) {
        for call in calls.iter().filter_map(|id| self.calls.get(id)) {
            self.membership.overdue(call.to, call.sent);
        }
    }

    /// Asks `to`, and takes it for failed when there is no answer `within` that time.
    pub(crate) fn call_within(
        &mut self,
        within: Duration,
        to: NodeId,
        body: Request,
        waiter: Waiter,
        now: Now,
    ) {
        let id = self.call(within, to, body, waiter, now);
        let within = if buggify!(CallTimesOut) { Duration::from_millis(1) } else { within };
        self.set_timer(now.instant + within, Timer::Call(id));
    }

    pub(crate) fn received(&mut self, from: NodeId, via: u64, message: Message, now: Now) {
        match message {
            Message::Request { id, time_left, body } => {
                let origin = Origin::Peer { node: from, via, id };
                if time_left.is_zero() || buggify!(RefusePeer) {
                    self.respond(origin, Response::Refused(Refusal::TooLate));
                } else {
                    self.serve(origin, body, now);
                }
            }
            // Only an answer shows that the way there and back is open.
            Message::Response { id, notes, body } => {
                self.membership.heard(from, now.instant);
                self.answered_with(from, id, notes, body, now);
            }
        }
    }

    /// `from` has answered a call. Late and unexpected answers change nothing.
    pub(crate) fn answered(&mut self, from: NodeId, id: u64, response: Response, now: Now) {
        if self.calls.get(&id).is_some_and(|call| call.to == from) {
            let is_past = from != self.id && self.is_from_the_past(from);
            let outcome = if is_past { Err(Failure::Unknown) } else { Ok(response) };
            self.end_call(id, outcome, now);
        }
    }

    pub(crate) fn unsent(&mut self, to: NodeId, id: u64, now: Now) {
        if self.calls.get(&id).is_some_and(|call| call.to == to) {
            self.call_failed(id, Some(Failure::Refused), now);
        }
    }

    /// The connection to `peer` is gone: nothing asked of it will be answered any more.
    pub(crate) fn lost(&mut self, peer: NodeId, now: Now) {
        self.membership.lost(peer, now.instant);
        self.parted(peer);
        let lost = self.calls.iter().filter(|(_, call)| call.to == peer).map(|(&id, _)| id);
        let mut lost: Vec<u64> = lost.collect();
        lost.sort_unstable();
        for id in lost {
            self.call_failed(id, None, now);
        }
    }

    /// There will be no answer; unless `failure` says more, what was asked may have been done.
    pub(crate) fn call_failed(&mut self, id: u64, failure: Option<Failure>, now: Now) {
        self.end_call(id, Err(failure.unwrap_or(Failure::Unknown)), now);
    }

    fn end_call(&mut self, id: u64, outcome: Outcome, now: Now) {
        let Some(Call { to, waiter, sent, .. }) = self.forget_call(id) else { return };
        match waiter {
            Waiter::Write { id, round } => self.write_answered(id, to, round, outcome, now),
            Waiter::Read { id } => {
                if outcome.is_ok() && to != self.id {
                    self.hedge.answered(now.instant.saturating_duration_since(sent));
                }
                self.read_answered(id, to, outcome, now);
            }
            Waiter::Repair { id } => self.repair_answered(id, to, outcome, now),
            Waiter::Owner { id } => self.owner_told(id, to, &outcome),
            Waiter::Handoff { batch } => self.handoff_answered(batch, outcome, now),
            Waiter::Exchange { id, part } => self.exchange_answered(id, part, outcome, now),
            Waiter::Report { id } => self.reported(id, to, outcome, now),
            // If it came to nothing, the next comparison finds what is left.
            Waiter::Burial => {}
            Waiter::Heal { token } => self.heal_answered(token, outcome, now),
            Waiter::Ping => {
                let (wall_ms, standing) = match outcome {
                    Ok(Response::Met { wall_ms, standing }) => (Some(wall_ms), Some(*standing)),
                    Ok(Response::Pong { wall_ms }) => (Some(wall_ms), None),
                    _ => (None, None),
                };
                if let Some(wall_ms) = wall_ms {
                    self.membership.ponged(to, sent, now.instant);
                    self.note_clock(to, wall_ms, sent, now);
                }
                self.standing_told(to, standing, now);
            }
        }
    }
}
