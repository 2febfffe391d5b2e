//! Client requests that wait to be let in, while as many are at work as the node does in time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{Action, ClientReply, ClientRequest, Node, Now, Refusal, node::Timer};

/// Who has waited longest is next.
///
/// Who is refused comes back, and refusing costs about as much as a small read; who waits for too long
/// waits in vain. So a request is refused at once when whoever is first has waited for five eighths of the
/// time that this one has: its own turn would come late. Once it waits, it waits until there would
/// be no time left to do it.
#[derive(Debug, Default)]
pub(crate) struct Queue(BTreeMap<u64, Queued>);

#[derive(Debug)]
struct Queued {
    request: u64,
    body: ClientRequest,
    came: Instant,
    until: Instant,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// How long whoever is next has waited.
    fn longest_wait(&self, now: Instant) -> Duration {
        let first = self.0.first_key_value();
        first.map_or(Duration::ZERO, |(_, it)| now.saturating_duration_since(it.came))
    }
}

impl Node {
    /// Begins a client's request, now or when it is its turn, or refuses it.
    pub(crate) fn begin(&mut self, request: u64, body: ClientRequest, now: Now) {
        if self.open_requests() >= self.options.max_requests || buggify!(RefuseClient) {
            return self.refuse(request);
        }
        if self.queue.len() == 0 && !buggify!(QueueClient) && self.admission.enter(now.instant) {
            return self.start(request, body, now);
        }
        // A client that allows a minute is not to make others wait for as long.
        let time = body.timeout.min(4 * self.options.target_latency);
        let is_full = self.admission.under_way() + self.queue.len() >= self.options.max_in_flight;
        if is_full || self.queue.longest_wait(now.instant) > time * 5 / 8 {
            return self.refuse(request);
        }
        let (id, came) = (self.fresh_id(), now.instant);
        let until = came + time * 7 / 8;
        self.queue.0.insert(id, Queued { request, body, came, until });
        self.set_timer(until, Timer::Queued(id));
    }

    /// Begins requests that wait, as many as there is room for.
    pub(crate) fn run_queue(&mut self, now: Now) {
        while self.queue.len() > 0 && !buggify!(QueueClient) && self.admission.enter(now.instant) {
            let Some((id, Queued { request, mut body, came, until })) = self.queue.0.pop_first()
            else {
                return;
            };
            self.clear_timer(until, Timer::Queued(id));
            body.timeout = body.timeout.saturating_sub(now.instant.saturating_duration_since(came));
            self.start(request, body, now);
        }
    }

    /// It has waited for as long as it may.
    pub(crate) fn queued_too_long(&mut self, id: u64) {
        if let Some(Queued { request, .. }) = self.queue.0.remove(&id) {
            self.refuse(request);
        }
    }

    fn refuse(&mut self, request: u64) {
        self.counters.refused_overloaded += 1;
        let reply = Box::new(ClientReply::Refused(Refusal::Overloaded));
        self.act(Action::Reply { request, reply });
    }
}
