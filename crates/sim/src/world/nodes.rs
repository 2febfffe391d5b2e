//! Events for nodes, and what the nodes ask for.

use std::time::Duration;

use quorate_node::{
    Action, ClientReply, ClientRequest, Event, Message, PutOutcome, StoreReply, StoreRequest,
};
use quorate_storage::{
    ReadError,
    fault::{Fault, FaultKind},
};

use super::{Answer, Answered, Open, World, agenda::Happening, name};
use crate::{
    Loss,
    describe::{describe_reply, describe_request},
    network::{Way, micros},
    process::Which,
};

/// How much later than its deadline an answer may come: the node is woken in time, but not before it.
const LATENESS_US: u64 = 1_000;

impl World {
    pub(super) fn take_request(&mut self, node: usize, request: u64, body: ClientRequest) {
        if self.machines[node].process.is_none() {
            return self.answer(request, Answer::Unreachable);
        }
        self.trace.note(&[self.now_us, 5, node as u64, request]);
        self.remark(|| format!("client → {} #{request} {}", name(node), describe_request(&body)));
        let due_us = self.now_us + micros(body.timeout) + LATENESS_US;
        self.open.insert(request, Open { node, due_us });
        self.report(node, Event::Client { request, body });
    }

    pub(super) fn answer(&mut self, request: u64, answer: Answer) {
        self.answered.push(Answered { request, at: self.now(), answer });
    }

    /// Reports an event to a node and carries out what it asks for.
    pub(super) fn report(&mut self, node: usize, event: Event) {
        let now = self.now_at(node);
        // Out of its place meanwhile, so that everything else can be used.
        let Some(mut process) = self.machines[node].process.take() else { return };
        self.note_request(node, &event);
        process.node.handle(event, now);
        let mut ends = None;
        let mut renewal = None;
        while let Some(action) = process.node.poll_action() {
            if let Some((left, loss)) = &mut self.machines[node].ends_after_actions {
                if *left == 0 {
                    ends = Some(*loss);
                    break;
                }
                *left -= 1;
            }
            match action {
                Action::Send { to, message } => {
                    if !self.send(node, to, &message)
                        && let Message::Request { id, .. } = message
                    {
                        process.node.handle(Event::Unsent { to, id }, now);
                    }
                }
                Action::Respond { via, message } => {
                    self.note_response(node, via, &message);
                    self.transmit(via, Way::ToDialer, &message);
                }
                Action::Store { id, request } => {
                    let which = match &request {
                        StoreRequest::PersistHint { .. } => Which::Hints,
                        _ => Which::Store,
                    };
                    if let StoreRequest::Apply { key, record, .. } = &request {
                        self.check_skew(node, record);
                        self.machines[node].applying.insert(id, (key.clone(), record.version));
                    }
                    match process.local.submit(id, request) {
                        Some(reply) => {
                            self.count_refusal(&reply);
                            self.machines[node].applying.remove(&id);
                            process.node.handle(Event::Store { id, reply }, now);
                        }
                        None => self.plan_turn_of(node, &mut process.turns, which),
                    }
                }
                Action::ForgetHint { target, key, version } => {
                    self.note_forgotten(node, target, &key, version);
                    process.local.forget_hint(target, &key, &version);
                    self.plan_turn_of(node, &mut process.turns, Which::Hints);
                }
                Action::Reply { request, reply } => self.replied(node, request, *reply),
                Action::Renew { above, why } => {
                    self.remark(|| format!("{} begins another life: {why}", name(node)));
                    renewal = Some(above);
                }
                Action::Answer { .. } => {
                    self.breaks(format!("{} answers what nobody asked", name(node)));
                }
            }
        }
        let (used, most) = (process.node.hints().used_bytes(), process.max_hint_bytes);
        process.max_hint_bytes = most.min(used.max(self.machines[node].options.hint_max_bytes));
        self.machines[node].process = Some(process);
        if used > most {
            let node = name(node);
            self.breaks(format!("[bounds] {node} has {used} bytes of hints, and {most} at most"));
        }
        if let Some(above) = renewal {
            return self.begin_another_life(node, above);
        }
        match ends {
            Some(loss) => {
                self.coverage.count("state: crash between two actions");
                self.end(node, loss);
            }
            None => self.plan_wake(node),
        }
    }

    pub(super) fn replied(&mut self, node: usize, request: u64, reply: ClientReply) {
        self.trace.note(&[self.now_us, 9, node as u64, request]);
        self.remark(|| format!("client ← {} #{request} {}", name(node), describe_reply(&reply)));
        let Some(open) = self.open.remove(&request) else {
            return self
                .breaks(format!("[answers] {} answers request #{request} twice", name(node)));
        };
        if self.now_us > open.due_us {
            let late_us = self.now_us - open.due_us + LATENESS_US;
            self.breaks(format!(
                "[answers] {} answers request #{request} {late_us} µs late",
                name(node)
            ));
        }
        self.count_reply(&reply);
        self.answer(request, Answer::Reply(reply));
    }

    pub(super) fn turn(&mut self, node: usize, life: u64, which: Which) {
        let machine = &mut self.machines[node];
        if machine.life != life {
            return;
        }
        let Some(process) = &mut machine.process else { return };
        process.turns[which as usize] = false;
        let power = machine.power_fails_after_operations;
        let at = machine.fs.operations() + power.map_or(0, |(operations, _)| operations);
        if power.is_some() {
            machine.fs.set_fault(Some(Fault { at, kind: FaultKind::Io, sticky: true, seed: at }));
        }
        let time = Duration::from_micros(self.now_us);
        let again = match which {
            Which::Store => process.local.store.turn(time),
            Which::Hints => process.local.hints.turn(time),
        };
        if let Some((_, crash)) = power {
            if machine.fs.operations() > at {
                self.coverage.count("state: power lost within a turn");
                return self.end(node, Loss::Power(crash));
            }
            machine.fs.set_fault(None);
            machine.power_fails_after_operations = Some((at - machine.fs.operations(), crash));
        }
        let replies = process.local.take_replies();
        if let Some(again) = again {
            self.plan(micros(again).max(self.now_us), Happening::Turn { node, life, which });
        }
        self.trace.note(&[self.now_us, 10, node as u64, which as u64, replies.len() as u64]);
        for (id, reply) in replies {
            if self.machines[node].life != life {
                return; // it has ended over one of the replies before
            }
            self.count_refusal(&reply);
            self.applied(node, id, &reply);
            self.report(node, Event::Store { id, reply });
        }
    }

    /// A replica that has answered for a version holds it or a greater one from then on.
    pub(super) fn applied(&mut self, node: usize, id: u64, reply: &StoreReply) {
        let machine = &mut self.machines[node];
        let Some((key, applied)) = machine.applying.remove(&id) else { return };
        let answered = match reply {
            StoreReply::Applied(PutOutcome::Stored) => applied,
            StoreReply::Applied(PutOutcome::Superseded(version)) => *version,
            _ => return,
        };
        let Some(process) = machine.process.as_ref() else { return };
        let before = machine.answered_for.get(&key).copied();
        let held = match process.local.store.get(&key) {
            Ok(record) => record.map(|record| record.version),
            // The device does not work, or nobody had read the record since its frame was damaged.
            Err(ReadError::Io(_)) => before.max(Some(answered)),
            Err(_) if machine.damaged => before.max(Some(answered)),
            Err(_) => None,
        };
        let before = machine.answered_for.get(&key).copied();
        let horizon = process.local.store.horizon();
        let is_forgotten = before.max(Some(answered)).is_some_and(|it| it.timestamp < horizon);
        if held.is_none() && is_forgotten {
            machine.answered_for.remove(&key);
            return;
        }
        if held < before || held.is_none() {
            let node = name(node);
            let what = format!("[held] {node} held {before:?} of {key:?} and now {held:?}");
            return self.breaks_about(&key, what);
        }
        if let Some(held) = held {
            machine.answered_for.insert(key, held);
        }
    }

    pub(super) fn plan_turn(&mut self, node: usize, which: Which) {
        let Some(mut process) = self.machines[node].process.take() else { return };
        self.plan_turn_of(node, &mut process.turns, which);
        self.machines[node].process = Some(process);
    }

    pub(super) fn plan_turn_of(&mut self, node: usize, turns: &mut [bool; 2], which: Which) {
        if std::mem::replace(&mut turns[which as usize], true) {
            return;
        }
        let mut takes = self.disk.span(self.options.sync_time) * self.machines[node].slowness;
        if self.disk.chance(self.options.slow_turn) {
            self.coverage.count("fault: slow disk");
            takes += self.disk.span(Duration::from_secs(1)).min(Duration::from_secs(5));
        }
        let life = self.machines[node].life;
        let at_us = self.now_us + 20 + micros(takes);
        self.plan(at_us, Happening::Turn { node, life, which });
    }

    pub(super) fn plan_wake(&mut self, node: usize) {
        let (origin, now_us) = (self.origin, self.now_us);
        let machine = &mut self.machines[node];
        let life = machine.life;
        let Some(process) = &mut machine.process else { return };
        let Some(wake) = process.node.next_wake() else { return };
        let at_us = rounded_up(wake.saturating_duration_since(origin)).max(now_us);
        if process.wake_us.is_none_or(|planned_us| at_us < planned_us) {
            process.wake_us = Some(at_us);
            self.plan(at_us, Happening::Wake { node, life });
        }
    }
}

/// Nobody is woken too early: a timer that is found not to be due would be waited for again at once.
fn rounded_up(span: Duration) -> u64 {
    micros(span) + u64::from(!span.subsec_nanos().is_multiple_of(1000))
}
