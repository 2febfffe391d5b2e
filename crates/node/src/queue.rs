//! Client requests that wait to be let in, while as many are at work as the node does in time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use quorate_membership::PeerState;
use quorate_record::NodeId;

use crate::{
    Action, ClientReply, ClientRequest, Node, Now, Operation, Refusal, admission::Admission,
    node::Timer,
};

/// Most bytes of values that wait: of clients that have hung up, too, whose part in the budget for
/// bodies is free again.
const MAX_QUEUED_BYTES: usize = 32 << 20;
/// Whoever would wait for more of his time than this is refused at once.
const JOINS_UP_TO: Part = Part(5, 8);
/// Whose turn has not come by then is refused: what is left must be enough for the request itself.
const WAITS_UP_TO: Part = Part(6, 8);
/// Requests have a quarter of the usual time to end well in.
const TARGETS_OF_TIME: u32 = 4;

const _: () = assert!(JOINS_UP_TO.0 * WAITS_UP_TO.1 < WAITS_UP_TO.0 * JOINS_UP_TO.1);
const _: () = assert!(WAITS_UP_TO.0 * TARGETS_OF_TIME <= WAITS_UP_TO.1 * (TARGETS_OF_TIME - 1));

/// Numerator and denominator of a part of a request's time.
#[derive(Clone, Copy)]
struct Part(u32, u32);

impl Part {
    fn of(self, time: Duration) -> Duration {
        time * self.0 / self.1
    }
}

/// A line of requests: whoever has waited longest is next.
///
/// A refusal costs about as much as a small read, and whoever is refused asks again. So what can be
/// done in time waits, and only what would wait in vain is refused.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: BTreeMap<u64, Queued>,
    bytes: usize,
}

#[derive(Debug)]
struct Queued {
    request: u64,
    body: ClientRequest,
    came: Instant,
    until: Instant,
}

impl Queued {
    fn bytes(&self) -> usize {
        match &self.body.operation {
            Operation::Put(value) => value.len(),
            Operation::Get | Operation::Delete => 0,
        }
    }
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// How long a newcomer would wait: as long as whoever is next has, or longer where the line has
    /// become longer since.
    fn expected_wait(&self, admission: &Admission, now: Instant) -> Duration {
        let first = self.waiting.first_key_value();
        let waited = first.map(|(_, it)| now.saturating_duration_since(it.came));
        waited.unwrap_or_default().max(admission.time_for(self.len()))
    }

    fn push(&mut self, id: u64, queued: Queued) {
        self.bytes += queued.bytes();
        self.waiting.insert(id, queued);
    }

    fn remove(&mut self, id: u64) -> Option<Queued> {
        let queued = self.waiting.remove(&id)?;
        self.bytes -= queued.bytes();
        Some(queued)
    }
}

impl Node {
    /// Begins a client's request, now or when it is its turn, or refuses it.
    pub(crate) fn begin(&mut self, request: u64, body: ClientRequest, now: Now) {
        if self.open_requests() >= self.options.max_requests || buggify!(RefuseClient) {
            return self.refuse(request);
        }
        let is_let_in =
            self.queue.len() == 0 && !buggify!(QueueClient) && self.admission.enter(now.instant);
        if is_let_in {
            return self.start(request, body, now);
        }
        // A client that allows a minute is not to make others wait for as long.
        let time = body.timeout.min(TARGETS_OF_TIME * self.options.target_latency);
        let (came, until) = (now.instant, now.instant + WAITS_UP_TO.of(time));
        let queued = Queued { request, body, came, until };
        let is_full = self.admission.under_way() + self.queue.len() >= self.options.max_in_flight
            || self.queue.bytes + queued.bytes() > MAX_QUEUED_BYTES;
        let wait = self.queue.expected_wait(&self.admission, now.instant);
        if is_full || wait > JOINS_UP_TO.of(time) {
            return self.refuse(request);
        }
        let id = self.fresh_id();
        self.queue.push(id, queued);
        self.set_timer(until, Timer::Queued(id));
    }

    /// Begins requests that wait, as many as there is room for.
    pub(crate) fn run_queue(&mut self, now: Now) {
        while let Some((&id, first)) = self.queue.waiting.first_key_value() {
            let until = first.until;
            let is_late = until <= now.instant;
            if !is_late && (buggify!(QueueClient) || !self.admission.enter(now.instant)) {
                return;
            }
            self.clear_timer(until, Timer::Queued(id));
            if is_late {
                self.queued_too_long(id);
                continue;
            }
            let Some(Queued { request, mut body, came, .. }) = self.queue.remove(id) else {
                return;
            };
            body.timeout -= now.instant.saturating_duration_since(came);
            self.start(request, body, now);
        }
    }

    /// It has waited for as long as it may.
    pub(crate) fn queued_too_long(&mut self, id: u64) {
        if let Some(Queued { request, .. }) = self.queue.remove(id) {
            self.refuse(request);
        }
    }

    /// A request that was let in had not enough time. While others wait and no peer is silent that is for
    /// those at work with it: they are too many. Successes alone would tell nothing of it, as those that
    /// waited succeed only if they are quick.
    pub(crate) fn ran_out_of_time(&mut self) {
        let is_up = |(_, state): (NodeId, PeerState)| state == PeerState::Up;
        if self.queue.len() > 0 && self.membership.iter().all(is_up) {
            self.admission.ran_out_of_time();
        }
    }

    fn refuse(&mut self, request: u64) {
        self.counters.refused_overloaded += 1;
        let reply = Box::new(ClientReply::Refused(Refusal::Overloaded));
        self.act(Action::Reply { request, reply });
    }
}
