use std::{
    mem,
    time::{Duration, Instant},
};

use quorate_quorum::{Failure as Missing, Get, GetAction, GetError, GetEvent, GetOptions, Repair};
use quorate_record::{Key, NodeId, Record, Version};

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
    timeout: Duration,
    deadline: Instant,
    timer: Option<Instant>,
    /// The peers are given so long from `asked`; see [`Own`].
    hedge_after: Duration,
    asked: Instant,
    calls: Vec<u64>,
    reason: Option<Refusal>,
    own: Own,
    /// Replicas that hold nothing and have a horizon.
    absent: Vec<NodeId>,
}

/// What this node itself holds of a key that it reads.
///
/// It is known at once, since reading it does not leave the machine. So the others are asked only
/// then, and told which version need not be sent again: usually they all hold the same.
#[derive(Debug, Default)]
enum Own {
    /// Nothing, or not asked for.
    #[default]
    Unknown,
    Awaited {
        /// Whom to ask then.
        held_back: Vec<NodeId>,
    },
    Known(Record),
}

impl Own {
    /// The record that a replica holds which says that it has `version`.
    fn with_version(&self, version: Version) -> Option<&Record> {
        match self {
            Self::Known(record) if record.version == version => Some(record),
            _ => None,
        }
    }
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
            let distance = (!self.membership.is_prompt(node), self.membership.rtt(node));
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
            timeout,
            deadline: now.instant + timeout,
            timer: None,
            hedge_after,
            asked: now.instant,
            calls: Vec::new(),
            reason: None,
            own: Own::default(),
            absent: Vec::new(),
        };
        let id = self.fresh_id();
        self.run_read(id, Box::new(read), now);
    }

    pub(crate) fn read_answered(&mut self, id: u64, from: NodeId, outcome: Outcome, now: Now) {
        if from == self.id {
            let own = match &outcome {
                Ok(Response::Found(Some(record))) if !record.version.is_buried() => {
                    Own::Known(record.clone())
                }
                _ => Own::Unknown,
            };
            self.own_known(id, own, now);
        }
        let outcome = match outcome {
            Ok(Response::Version(Some(version))) => {
                let same = self.reads.get(&id).and_then(|read| read.own.with_version(version));
                same.cloned().map(|record| Response::Found(Some(record))).ok_or(Missing::Unknown)
            }
            outcome => outcome,
        };
        let event = match outcome {
            Ok(Response::Found(found)) => {
                if let Some(record) = &found {
                    // A replica holds it, so its clock is no news to be refused; what lies too far
                    // ahead does not move this clock.
                    let _ = self.clock.observe(record.version.timestamp, now.wall_ms);
                    if record.version.is_buried()
                        && let Some(read) = self.reads.get_mut(&id)
                    {
                        read.absent.push(from);
                    }
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

    /// Asks the replicas that were held back until it was known what this node itself holds.
    fn own_known(&mut self, id: u64, own: Own, now: Now) {
        let Some(read) = self.reads.get_mut(&id) else { return };
        let Own::Awaited { held_back } = &mut read.own else { return };
        let held_back = mem::take(held_back);
        read.own = own;
        read.asked = now.instant;
        if let Some(mut read) = self.reads.remove(&id) {
            for to in held_back {
                self.ask_for(id, &mut read, to, false, now);
            }
            self.reads.insert(id, read);
        }
    }

    fn ask_for(&mut self, id: u64, read: &mut Read, to: NodeId, from_hints: bool, now: Now) {
        let known = match &read.own {
            Own::Known(record) if !from_hints && to != self.id => Some(record.stamp()),
            _ => None,
        };
        let time_left = read.deadline.saturating_duration_since(now.instant);
        let body = Request::Get { key: read.key.clone(), from_hints, known };
        read.calls.push(self.call(time_left, to, body, Waiter::Read { id }, now));
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
        // If the own answer is still out, nobody is held back for it any more.
        self.own_known(id, Own::Unknown, now);
        // Peers that were held back are not late yet: they have been asked only since.
        if let Some(read) = self.reads.get_mut(&id) {
            let late_at = (read.asked + read.hedge_after).min(read.deadline);
            if now.instant < late_at {
                read.timer = Some(late_at);
                return self.set_timer(late_at, Timer::Read(id));
            }
        }
        self.read_event(id, GetEvent::TimerFired, now);
    }

    pub(crate) fn read_event(&mut self, id: u64, event: GetEvent<NodeId, Record>, now: Now) {
        if let Some(mut read) = self.reads.remove(&id) {
            read.get.handle(event, now.instant);
            self.run_read(id, read, now);
        }
    }

    fn run_read(&mut self, id: u64, mut read: Box<Read>, now: Now) {
        while let Some(action) = read.get.poll_action() {
            match action {
                GetAction::Send { to, hedge: true, .. } if !self.hedge.spend() => {
                    self.note_overdue(&read.calls);
                    read.get.handle(GetEvent::Declined { from: to }, now.instant);
                }
                GetAction::Send { to, from_hints, hedge } => {
                    if hedge {
                        self.counters.hedges += 1;
                        self.note_overdue(&read.calls);
                    }
                    match &mut read.own {
                        Own::Unknown if to == self.id && !from_hints => {
                            read.own = Own::Awaited { held_back: Vec::new() };
                        }
                        Own::Awaited { held_back } if !from_hints && !hedge => {
                            held_back.push(to);
                            continue;
                        }
                        _ => {}
                    }
                    self.ask_for(id, &mut read, to, from_hints, now);
                }
                // A tombstone that nobody has written need not be where there is nothing.
                GetAction::Repair { to, payload }
                    if payload.version.is_buried() && read.absent.contains(&to) =>
                {
                    read.get.handle(GetEvent::Repaired { from: to }, now.instant);
                }
                GetAction::Repair { to, payload } => {
                    self.counters.read_repairs += 1;
                    self.counters.tombstone_repairs += u64::from(payload.is_tombstone());
                    let body = Request::Merge { records: vec![(read.key.clone(), payload)] };
                    // Sent at the deadline too, so it gets a while of its own.
                    let time_left = read.deadline.saturating_duration_since(now.instant);
                    let within = time_left.max(REPAIR_TIMEOUT);
                    self.call_within(within, to, body, Waiter::Repair { id }, now);
                }
                GetAction::SetTimer { at } => {
                    let earlier = read.timer.replace(at);
                    self.replace_timer(earlier, at, Timer::Read(id));
                }
                GetAction::Reply(result) => {
                    match &result {
                        Ok(_) => {
                            let began = read.deadline - read.timeout;
                            self.admission.succeeded(now.instant.saturating_duration_since(began));
                        }
                        Err(GetError::TimedOut { .. }) => self.ran_out_of_time(),
                        Err(_) => {}
                    }
                    let reason = read.reason.clone();
                    let result = match result {
                        Ok(mut receipt) => {
                            let is_buried = |found: &mut Record| found.version.is_buried();
                            if receipt.found.take_if(is_buried).is_some() {
                                receipt.repaired.retain(|node| !read.absent.contains(node));
                            }
                            Ok(receipt)
                        }
                        Err(error) => Err(Failure { error, reason }),
                    };
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
