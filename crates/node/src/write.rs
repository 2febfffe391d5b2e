use std::time::{Duration, Instant};

use quorate_membership::PeerState;
use quorate_quorum::{Failure as Missing, Put, PutAction, PutError, PutEvent, Round};
use quorate_record::{Hint, HintKind, Key, NodeId, Record, Timestamp, Version};

use crate::{
    ClientReply, ClientRequest, Failure, Node, Now, Operation, PutOutcome, Refusal, Request,
    Response,
    call::{Outcome, Waiter},
    handoff::HintWaiter,
    node::Timer,
    parked::Parked,
};

/// A client's write at work.
#[derive(Debug)]
pub(crate) struct Write {
    request: u64,
    key: Key,
    record: Record,
    put: Put<NodeId, Version>,
    timeout: Duration,
    end: Instant, // the machine is done by then
    restamp_above: Timestamp,
    timer: Option<Instant>,
    calls: Vec<u64>,
    reason: Option<Refusal>,
    atomic: bool,
    wait_for_owners: bool,
}

impl Node {
    /// Begins a client's request that was let in.
    pub(crate) fn start(&mut self, request: u64, body: ClientRequest, now: Now) {
        let strict = !body.quorum.sloppy() && body.quorum.orders_writes();
        if body.atomic && !(strict && body.quorum.is_strict()) {
            return self.reply(request, ClientReply::Refused(Refusal::Malformed));
        }
        match body.operation {
            Operation::Get => self.begin_read(request, body, now),
            Operation::Put(_) | Operation::Delete
                if self.is_too_far_ahead(&body.key, body.quorum, now) =>
            {
                self.counters.refused_clock_ahead += 1;
                self.reply(request, ClientReply::Refused(Refusal::ClockAhead));
            }
            Operation::Put(_) | Operation::Delete => {
                let deadline = now.instant + body.timeout;
                self.begin_write(request, body, deadline, now);
            }
        }
    }

    pub(crate) fn begin_write(
        &mut self,
        request: u64,
        body: ClientRequest,
        deadline: Instant,
        now: Now,
    ) {
        // An atomic write gets its version once it has asked.
        let atomic = body.atomic && !planted!(NoFirstPhase);
        let version = match atomic {
            true => self.floor(),
            false => match self.issue(now) {
                Some(version) => version,
                None => return self.park_write(request, body, deadline),
            },
        };
        self.counters.writes += 1;
        let ClientRequest { key, operation, quorum, wait_for_owners, .. } = body;
        let record = match operation {
            Operation::Put(value) => Record::live(version, value),
            Operation::Delete | Operation::Get => Record::tombstone(version),
        };
        let timeout = deadline.saturating_duration_since(now.instant);
        let nodes = self.preference(&key);
        let start = if atomic { Put::start_atomic } else { Put::start };
        let down = |node: &NodeId| self.is_down(*node);
        let put = start(&nodes, down, quorum, version, patience(timeout), timeout, now.instant);
        let write = Write {
            request,
            key,
            record,
            put,
            timeout,
            end: deadline + timeout,
            restamp_above: Timestamp::ZERO,
            timer: None,
            calls: Vec::new(),
            reason: None,
            atomic,
            wait_for_owners,
        };
        let id = self.fresh_id();
        self.run_write(id, Box::new(write), now);
    }

    /// The owners of a key, then fallbacks in ring order: as many as may be needed if all owners and
    /// as many fallbacks fail. To name all nodes of a large cluster costs more than the request.
    pub(crate) fn preference(&self, key: &Key) -> Vec<NodeId> {
        let owners = self.ring.owners();
        let mut nodes = Vec::with_capacity(self.ring.nodes().len().min(3 * owners));
        let mut usable = 0;
        for &node in self.ring.preference_of_key(key.as_bytes()) {
            if usable == 3 * owners {
                break;
            }
            let is_down = self.membership.state(node) == Some(PeerState::Down);
            usable += usize::from(nodes.len() < owners || !is_down);
            nodes.push(node);
        }
        nodes
    }

    pub(crate) fn write_answered(
        &mut self,
        id: u64,
        from: NodeId,
        round: Round,
        outcome: Outcome,
        now: Now,
    ) {
        self.owner_acked(id, from, round, &outcome);
        let event = match outcome {
            Ok(Response::Version(holds)) => PutEvent::Told { from, holds },
            Ok(Response::Put(PutOutcome::Below(by))) => {
                self.told_floor(by, now);
                PutEvent::Below { from, round, by: Version::buried(by) }
            }
            Ok(Response::Uncounted(response)) => match *response {
                Response::Put(PutOutcome::Stored | PutOutcome::Superseded(_))
                | Response::Version(_) => PutEvent::Uncounted { from, round },
                // It has not stored it, whether it counts or not.
                Response::Put(PutOutcome::Below(by)) => {
                    self.told_floor(by, now);
                    PutEvent::Failed { from, round, failure: Missing::Refused }
                }
                Response::Put(PutOutcome::Refused(why)) | Response::Refused(why) => {
                    self.refused(id, from, round, why)
                }
                _ => PutEvent::Failed { from, round, failure: Missing::Unknown },
            },
            Ok(Response::Put(PutOutcome::Stored)) => PutEvent::Stored { from, round },
            Ok(Response::Put(PutOutcome::Superseded(by))) => {
                // An atomic write has one version only.
                let plain = self.writes.get(&id).is_some_and(|write| !write.atomic);
                let again = plain && round > Round::First;
                self.counters.superseded_again += u64::from(again);
                PutEvent::Superseded { from, round, by }
            }
            Ok(Response::Put(PutOutcome::Refused(why)) | Response::Refused(why)) => {
                self.refused(id, from, round, why)
            }
            Ok(_) => PutEvent::Failed { from, round, failure: Missing::Unknown },
            Err(failure) => PutEvent::Failed { from, round, failure },
        };
        self.write_event(id, event, now);
    }

    /// A replica has found a write below its floor.
    fn told_floor(&mut self, floor: Timestamp, now: Now) {
        self.counters.below += 1;
        // What follows will be above it, even if this write may not be sent again. A floor too far ahead moves nothing.
        let _ = self.clock.observe(floor, now.wall_ms);
    }

    fn refused(
        &mut self,
        id: u64,
        from: NodeId,
        round: Round,
        why: Refusal,
    ) -> PutEvent<NodeId, Version> {
        let failure = certainty(&why);
        self.note_refusal(id, why);
        PutEvent::Failed { from, round, failure }
    }

    pub(crate) fn write_timer_fired(&mut self, id: u64, now: Now) {
        if let Some(write) = self.writes.get_mut(&id) {
            write.timer = None;
        }
        self.write_event(id, PutEvent::TimerFired, now);
    }

    pub(crate) fn note_refusal(&mut self, id: u64, why: Refusal) {
        if let Some(write) = self.writes.get_mut(&id) {
            write.reason = Some(why);
        }
    }

    pub(crate) fn write_event(&mut self, id: u64, event: PutEvent<NodeId, Version>, now: Now) {
        if let Some(mut write) = self.writes.remove(&id) {
            write.put.handle(event, now.instant);
            self.run_write(id, write, now);
        }
    }

    /// The greatest version that this node can have issued or seen.
    fn floor(&self) -> Version {
        Version { timestamp: self.clock.last(), writer: self.clock.writer() }
    }

    /// Gives the write its next version, above all that it was told of.
    pub(crate) fn restamp(&mut self, id: u64, now: Now) {
        let Some(above) = self.writes.get(&id).map(|write| write.restamp_above) else { return };
        if self.clock.observe(above, now.wall_ms).is_err() {
            return self.write_event(id, PutEvent::RestampFailed, now);
        }
        let Some(version) = self.issue(now) else {
            return self.parked.push_back(Parked::Restamp { write: id });
        };
        if let Some(write) = self.writes.get_mut(&id) {
            self.counters.second_rounds += u64::from(!write.atomic);
            write.record.version = version;
        }
        self.write_event(id, PutEvent::Restamped { version }, now);
    }

    fn run_write(&mut self, id: u64, mut write: Box<Write>, now: Now) {
        let mut restamp = false;
        while let Some(action) = write.put.poll_action() {
            match action {
                PutAction::Send { to, hint_for, round } => {
                    let (key, record) = (write.key.clone(), write.record.clone());
                    let body = match round {
                        Round::Asking => Request::Version { key },
                        _ => Request::Put { key, record, hint_for },
                    };
                    let time_left = write.end.saturating_duration_since(now.instant);
                    let waiter = Waiter::Write { id, round };
                    write.calls.push(self.call(time_left, to, body, waiter, now));
                }
                PutAction::Restamp { above } => {
                    write.restamp_above = above.timestamp;
                    restamp = true;
                }
                PutAction::KeepHint { replica, round } => {
                    let hint = Hint {
                        target: replica,
                        key: write.key.clone(),
                        record: write.record.clone(),
                        kind: HintKind::Courtesy,
                        added_ms: now.wall_ms,
                    };
                    self.offer_hint(hint, HintWaiter::Kept { write: id, replica, round }, now);
                }
                PutAction::SetTimer { at } => {
                    let earlier = write.timer.replace(at);
                    self.replace_timer(earlier, at, Timer::Write(id));
                }
                PutAction::Reply(result) => {
                    match &result {
                        Ok(_) => {
                            let began = write.end - 2 * write.timeout;
                            self.admission.succeeded(now.instant.saturating_duration_since(began));
                        }
                        Err(PutError::TimedOut { .. }) => self.ran_out_of_time(),
                        Err(_) => {}
                    }
                    if let Ok(receipt) = &result
                        && write.wait_for_owners
                        && !receipt.lacking.is_empty()
                    {
                        let (key, receipt) = (write.key.clone(), receipt.clone());
                        let deadline = write.end - write.timeout;
                        self.wait_for_owners(id, write.request, key, receipt, deadline, now);
                        continue;
                    }
                    let reason = write.reason.clone();
                    let result = result.map_err(|error| Failure { error, reason });
                    self.reply(write.request, ClientReply::Written(result));
                }
            }
        }
        if write.put.is_done() {
            self.drop_calls(&write.calls);
            if let Some(at) = write.timer {
                self.clear_timer(at, Timer::Write(id));
            }
            return;
        }
        self.writes.insert(id, write);
        if restamp {
            self.restamp(id, now);
        }
    }

    pub(crate) fn replace_timer(&mut self, earlier: Option<Instant>, at: Instant, timer: Timer) {
        if let Some(earlier) = earlier {
            self.clear_timer(earlier, timer);
        }
        self.set_timer(at, timer);
    }

    /// Nobody waits for these any more.
    pub(crate) fn drop_calls(&mut self, calls: &[u64]) {
        for call in calls {
            self.forget_call(*call);
        }
    }
}

/// Whether a node that refused a record for this reason certainly does not hold it.
fn certainty(why: &Refusal) -> Missing {
    match why {
        Refusal::LogFailed => Missing::Unknown,
        _ => Missing::Refused,
    }
}

/// How long a node may be silent before another stands in for it: late enough that this is rare,
/// early enough that the stand-in can still answer in time.
pub(crate) fn patience(timeout: Duration) -> Duration {
    if buggify!(NoPatience) { Duration::from_millis(1) } else { timeout / 2 }
}
