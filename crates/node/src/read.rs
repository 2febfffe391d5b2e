use std::time::{Duration, Instant};

use quorate_membership::PeerState;
use quorate_quorum::{Get, GetAction, GetEvent, GetOptions, Repair};
use quorate_record::{Key, NodeId, Record};

use crate::{
    ClientReply, ClientRequest, Failure, Node, Now, PutOutcome, Refusal, Request, Response,
    call::{Outcome, Waiter},
    node::Timer,
    write::patience,
};

/// A client's read at work.
#[derive(Debug)]
pub(crate) struct Read {
    request: u64,
    key: Key,
    get: Get<NodeId, Record>,
    deadline: Instant,
    timer: Option<Instant>,
    calls: Vec<u64>,
    reason: Option<Refusal>,
}

impl Node {
    pub(crate) fn begin_read(&mut self, request: u64, body: ClientRequest, now: Now) {
        self.counters.reads += 1;
        let ClientRequest { key, quorum, atomic, timeout, .. } = body;
        let mut nodes = self.preference(&key);
        let replicas = quorum.n().min(nodes.len());
        // This node first, then those that answer, then by distance; a stable sort keeps the ring
        // order among equals.
        nodes[..replicas].sort_by_cached_key(|&node| {
            let distance =
                (self.membership.state(node) != Some(PeerState::Up), self.membership.rtt(node));
            (node != self.id).then_some(distance)
        });
        let repair = match atomic {
            true if planted!(NoWriteBack) => Repair::Async,
            true => Repair::Blocking,
            false => self.options.read_repair,
        };
        let hedge_after = self.hedge.delay(timeout);
        let hedge_after = if buggify!(HedgeAtOnce) { Duration::ZERO } else { hedge_after };
        let options = GetOptions {
            repair,
            hedge_after: Some(hedge_after),
            patience: patience(timeout),
            timeout,
        };
        let get = Get::start(&nodes, |&node| self.is_down(node), quorum, options, now.instant);
        let read = Read {
            request,
            key,
            get,
            deadline: now.instant + timeout,
            timer: None,
            calls: Vec::new(),
            reason: None,
        };
        let id = self.fresh_id();
        self.run_read(id, Box::new(read), now);
    }

    pub(crate) fn read_answered(&mut self, id: u64, from: NodeId, outcome: Outcome, now: Now) {
        let event = match outcome {
            Ok(Response::Found(found)) => {
                if let Some(record) = &found {
                    // A replica holds it, so its clock is no news to be refused; what lies too far
                    // ahead does not move this clock.
                    let _ = self.clock.observe(record.version.timestamp, now.wall_ms);
                }
                GetEvent::Answer { from, found }
            }
            Ok(Response::Refused(why)) => {
                if let Some(read) = self.reads.get_mut(&id) {
                    read.reason = Some(why);
                }
                GetEvent::Failed { from }
            }
            Ok(_) | Err(_) => GetEvent::Failed { from },
        };
        self.read_event(id, event, now);
    }

    pub(crate) fn repair_answered(&mut self, id: u64, from: NodeId, outcome: Outcome, now: Now) {
        let repaired = match outcome {
            Ok(Response::Merged(outcomes)) => {
                matches!(outcomes[..], [PutOutcome::Stored | PutOutcome::Superseded(_)])
            }
            _ => false,
        };
        let event =
            if repaired { GetEvent::Repaired { from } } else { GetEvent::RepairFailed { from } };
        self.read_event(id, event, now);
    }

    pub(crate) fn read_timer_fired(&mut self, id: u64, now: Now) {
        if let Some(read) = self.reads.get_mut(&id) {
            read.timer = None;
        }
        self.read_event(id, GetEvent::TimerFired, now);
    }

    fn read_event(&mut self, id: u64, event: GetEvent<NodeId, Record>, now: Now) {
        if let Some(mut read) = self.reads.remove(&id) {
            read.get.handle(event, now.instant);
            self.run_read(id, read, now);
        }
    }

    fn run_read(&mut self, id: u64, mut read: Box<Read>, now: Now) {
        while let Some(action) = read.get.poll_action() {
            let time_left = read.deadline.saturating_duration_since(now.instant);
            match action {
                GetAction::Send { to, hedge: true, .. } if !self.hedge.spend() => {
                    read.get.handle(GetEvent::Declined { from: to }, now.instant);
                }
                GetAction::Send { to, from_hints, hedge } => {
                    self.counters.hedges += u64::from(hedge);
                    let body = Request::Get { key: read.key.clone(), from_hints };
                    read.calls.push(self.call(time_left, to, body, Waiter::Read { id }, now));
                }
                GetAction::Repair { to, payload } => {
                    self.counters.read_repairs += 1;
                    self.counters.tombstone_repairs += u64::from(payload.is_tombstone());
                    let body = Request::Merge { records: vec![(read.key.clone(), payload)] };
                    // Sent at the deadline too, so it gets a while of its own.
                    let within = time_left.max(REPAIR_TIMEOUT);
                    self.call_within(within, to, body, Waiter::Repair { id }, now);
                }
                GetAction::SetTimer { at } => {
                    let earlier = read.timer.replace(at);
                    self.replace_timer(earlier, at, Timer::Read(id));
                }
                GetAction::Reply(result) => {
                    let reason = read.reason.clone();
                    let result = result.map_err(|error| Failure { error, reason });
                    self.reply(read.request, ClientReply::Read(result));
                }
            }
        }
        if read.get.is_done() {
            self.drop_calls(&read.calls);
            if let Some(at) = read.timer {
                self.clear_timer(at, Timer::Read(id));
            }
        } else {
            self.reads.insert(id, read);
        }
    }
}

const REPAIR_TIMEOUT: Duration = Duration::from_secs(1);
