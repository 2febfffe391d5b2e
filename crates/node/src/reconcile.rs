//! Anti-entropy: drives one exchange at a time with the peers that share ranges with this node.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use quorate_antientropy::{
    Exchange, ExchangeAction, ExchangeEvent, Limits, Listing, Outcome as Ending, Ranges, Report,
    Rounds, RoundsStats, Summary,
};
use quorate_membership::PeerState;
use quorate_record::{Key, NodeId, Record, Stamp, Timestamp};
use quorate_ring::Ring;

use crate::{
    MAX_BATCH_BYTES, MAX_ITEMS, Node, NodeOptions, Now, PutOutcome, Request, Response,
    StoreRequest,
    call::{Outcome, Waiter},
    serve::{Origin, StoreWaiter},
};

/// A peer that takes longer for one answer of an exchange is given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long after an exchange that was aborted nobody is hurried.
const HELD_FOR: Duration = Duration::from_millis(200);
/// How often exchanges are looked at that nobody begins by himself.
const UNASKED_EVERY: Duration = Duration::from_secs(10);

/// What one message of an exchange weighs besides its keys, values and stamps, in bytes.
const MESSAGE_BYTES: u64 = 32;
/// What a stamp in a list weighs, in bytes.
const ITEM_BYTES: u64 = 40;
/// What a record weighs besides its key and value, in bytes.
const RECORD_BYTES: u64 = 48;

#[derive(Debug)]
pub(crate) struct Reconcile {
    co_owned: BTreeMap<NodeId, Ranges>,
    rounds: Rounds<NodeId>,
    /// Whether peers are compared with by themselves, and not only when somebody waits for it.
    is_on: bool,
    held_until: Option<Instant>,
    limits: Limits,
    running: Option<Running>,
    compared: BTreeMap<NodeId, Comparison>,
}

/// How this node stood with a peer when they were last compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// When, in milliseconds since the Unix epoch.
    pub as_of_ms: u64,
    /// Since when they have been found equal, or different, each time; in the same unit.
    pub since_ms: u64,
    /// Whether nothing differed.
    pub equal: bool,
    /// Records that were found to differ, and moved; more may differ if it was cut short.
    pub differing: u64,
    /// Whether all ranges that the two share were compared.
    pub complete: bool,
}

#[derive(Debug)]
struct Running {
    id: u64,
    peer: NodeId,
    exchange: Exchange<Stamp>,
    step: Step,
    bytes_sent: u64,
    bytes_received: u64,
    error: Option<String>,
    /// The records that are being merged: their keys, and whether they are tombstones.
    in_transit: Vec<(Key, bool)>,
    /// Of this node and of the peer, as they were when it began or less.
    horizons: (Timestamp, Timestamp),
}

/// What the exchange waits for.
#[derive(Debug)]
enum Step {
    Nothing,
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
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Pull,
    Push,
}

/// Which of its questions an exchange has an answer to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Local,
    Remote,
    Fetched,
    Merged { records: usize },
}

impl Reconcile {
    pub(crate) fn new(
        id: NodeId,
        ring: &Ring<NodeId>,
        options: &NodeOptions,
        now: Instant,
    ) -> Self {
        let peers = ring.nodes().iter().map(|node| node.id).filter(|&peer| peer != id);
        let co_owned = peers
            .map(|peer| match planted!(PushToNonOwner) {
                true => (peer, Ranges::new([0..=u64::MAX])),
                false => (peer, Ranges::new(ring.co_owned(&id, &peer))),
            })
            .filter(|(_, ranges)| !ranges.is_empty())
            .collect();
        let limits = Limits { max_records: options.anti_entropy_max_per_tick, ..Limits::default() };
        Self {
            co_owned,
            rounds: Rounds::new(options.anti_entropy_interval.unwrap_or(UNASKED_EVERY), now),
            is_on: options.anti_entropy_interval.is_some(),
            held_until: None,
            limits,
            running: None,
            compared: BTreeMap::new(),
        }
    }

    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.rounds.next_wake()
    }

    /// Who owns something that this node owns too.
    pub(crate) fn co_owners(&self) -> impl Iterator<Item = NodeId> {
        self.co_owned.keys().copied()
    }

    /// The parts of a span that this node and `peer` both own.
    pub(crate) fn shared(
        &self,
        peer: NodeId,
        span: &RangeInclusive<u64>,
    ) -> Vec<RangeInclusive<u64>> {
        self.co_owned.get(&peer).map(|ranges| ranges.within(span).collect()).unwrap_or_default()
    }

    pub(crate) fn shares(&self, peer: NodeId, token: u64) -> bool {
        self.co_owned.get(&peer).is_some_and(|ranges| ranges.contains(token))
    }
}

impl Node {
    /// What anti-entropy has done so far; `None` if it is switched off.
    #[must_use]
    pub fn anti_entropy(&self) -> Option<&RoundsStats<NodeId>> {
        self.reconcile.is_on.then(|| self.reconcile.rounds.stats())
    }

    /// How this node stood with each peer that shares ranges with it when they were last compared;
    /// `None` if they never were.
    pub fn comparisons(&self) -> impl Iterator<Item = (NodeId, Option<Comparison>)> {
        let compared = &self.reconcile.compared;
        self.reconcile.co_owned.keys().map(|peer| (*peer, compared.get(peer).copied()))
    }

    /// Begins an exchange when one is due, and does what the running one asks for.
    pub(crate) fn run_exchange(&mut self, now: Now) {
        self.begin_exchange(now);
        while let Some(running) = &mut self.reconcile.running
            && matches!(running.step, Step::Nothing)
            && let Some(action) = running.exchange.poll_action()
        {
            match action {
                ExchangeAction::Digests { spans } => {
                    let sets = spans.iter().map(|span| self.shared_with_running(span)).collect();
                    self.ask_both(StoreRequest::Digests { sets }, Request::Digests { spans }, now);
                }
                ExchangeAction::List { span, limit } => {
                    let ranges = self.shared_with_running(&span);
                    let limit = limit.min(MAX_ITEMS);
                    self.ask_both(
                        StoreRequest::List { ranges, limit },
                        Request::List { span },
                        now,
                    );
                }
                ExchangeAction::Pull { tokens } => self.move_records(Way::Pull, tokens, now),
                ExchangeAction::Push { tokens } => self.move_records(Way::Push, tokens, now),
                ExchangeAction::Done(summary) => self.end_exchange(summary, now),
            }
        }
    }

    fn begin_exchange(&mut self, now: Now) {
        let is_up = |peer: &NodeId| self.membership.state(*peer) == Some(PeerState::Up);
        let is_held = self.reconcile.held_until.is_some_and(|until| until > now.instant);
        let mut peers = if is_held { Vec::new() } else { self.wanted_for_rebuild(now) };
        // What is compared later is as good; a client that waits is not.
        if peers.is_empty() && !self.admission.is_pressed(now.instant) {
            if !is_held {
                peers = self.sweep.wanted().filter(is_up).collect();
            }
            if peers.is_empty() && self.reconcile.is_on {
                peers = self.reconcile.co_owners().filter(is_up).collect();
            } else if !peers.is_empty() {
                self.reconcile.rounds.hurry(now.instant);
            }
        } else {
            self.reconcile.rounds.hurry(now.instant);
        }
        let reconcile = &mut self.reconcile;
        let Some((peer, resume_at)) = reconcile.rounds.begin(peers, now.instant) else { return };
        let ranges = reconcile.co_owned[&peer].clone();
        let mut limits = reconcile.limits;
        if buggify!(SmallLeaf) {
            limits.leaf_records = 1;
        }
        let exchange = Exchange::start(ranges, limits, resume_at);
        let theirs = self.lives.standing(peer).map(|standing| standing.horizon);
        let horizons = (self.horizon_in_force(), theirs.unwrap_or_default());
        let id = self.fresh_id();
        self.reconcile.running = Some(Running {
            id,
            peer,
            exchange,
            step: Step::Nothing,
            bytes_sent: 0,
            bytes_received: 0,
            error: None,
            in_transit: Vec::new(),
            horizons,
        });
        self.rebuild_begun(peer, id);
    }

    fn shared_with_running(&self, span: &RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        let running = self.reconcile.running.as_ref();
        running.map(|running| self.reconcile.shared(running.peer, span)).unwrap_or_default()
    }

    fn ask_both(&mut self, local: StoreRequest, remote: Request, now: Now) {
        let Some(running) = &mut self.reconcile.running else { return };
        running.step = Step::Both { local: None, remote: None };
        let (id, peer) = (running.id, running.peer);
        self.store(local, StoreWaiter::Exchange { id });
        self.ask_peer(peer, remote, Waiter::Exchange { id, part: Part::Remote }, now);
    }

    fn ask_peer(&mut self, peer: NodeId, body: Request, waiter: Waiter, now: Now) {
        if let Some(running) = &mut self.reconcile.running {
            running.bytes_sent += request_bytes(&body);
        }
        self.call_within(ANSWER_TIMEOUT, peer, body, waiter, now);
    }

    fn move_records(&mut self, way: Way, tokens: Vec<u64>, now: Now) {
        let Some(running) = &mut self.reconcile.running else { return };
        running.step = Step::Move { way, tokens: tokens.into(), records: 0 };
        self.fetch_next(now);
    }

    /// Fetches the next batch of what is to move, or reports that all of it has.
    fn fetch_next(&mut self, now: Now) {
        let own = self.id;
        let Some(running) = &mut self.reconcile.running else { return };
        let Step::Move { way, tokens, records } = &running.step else { return };
        let (way, records) = (*way, *records);
        if tokens.is_empty() {
            running.step = Step::Nothing;
            return running.exchange.handle(match way {
                Way::Pull => ExchangeEvent::Pulled { records },
                Way::Push => ExchangeEvent::Pushed { records },
            });
        }
        let body = Request::Fetch { tokens: tokens.iter().copied().take(MAX_ITEMS).collect() };
        let (id, peer) = (running.id, running.peer);
        let waiter = Waiter::Exchange { id, part: Part::Fetched };
        match way {
            Way::Pull => self.ask_peer(peer, body, waiter, now),
            Way::Push => self.call_within(ANSWER_TIMEOUT, own, body, waiter, now),
        }
    }

    /// A peer, or this node by a call to itself, has answered the running exchange.
    pub(crate) fn exchange_answered(&mut self, id: u64, part: Part, outcome: Outcome, now: Now) {
        let Some(running) = self.reconcile.running.as_mut().filter(|it| it.id == id) else {
            return;
        };
        let response = match outcome {
            Ok(Response::Refused(why)) => return running.abort(&format!("refused: {why}")),
            Ok(response) => response,
            Err(_) => return running.abort("no answer"),
        };
        match (part, response) {
            (Part::Local, response) => running.answered_here(response),
            (Part::Remote, response) => {
                running.bytes_received += response_bytes(&response);
                running.answered_there(response);
            }
            (Part::Fetched, Response::Fetched(records)) => self.forward(records, now),
            (Part::Merged { records }, Response::Merged(outcomes)) => {
                self.moved(records, &outcomes, now);
            }
            _ => running.abort("an answer to something else"),
        }
    }

    /// Passes records that were fetched from one side on to the other.
    fn forward(&mut self, records: Vec<(Key, Record)>, now: Now) {
        let own = self.id;
        let Some(running) = &mut self.reconcile.running else { return };
        let Step::Move { way, tokens, .. } = &mut running.step else { return };
        let way = *way;
        match records.last() {
            Some((key, _)) => {
                let last = quorate_ring::token(key.as_bytes());
                while tokens.pop_front().is_some_and(|token| token != last) {}
            }
            None => tokens.clear(),
        }
        if records.is_empty() {
            return self.fetch_next(now);
        }
        running.in_transit =
            records.iter().map(|(key, record)| (key.clone(), record.is_tombstone())).collect();
        let (id, peer) = (running.id, running.peer);
        let part = Part::Merged { records: records.len() };
        let waiter = Waiter::Exchange { id, part };
        match way {
            Way::Pull => {
                running.bytes_received += records_bytes(&records);
                self.call_within(ANSWER_TIMEOUT, own, Request::Merge { records }, waiter, now);
            }
            Way::Push => self.ask_peer(peer, Request::Merge { records }, waiter, now),
        }
    }

    fn moved(&mut self, count: usize, outcomes: &[PutOutcome], now: Now) {
        let Some(running) = &mut self.reconcile.running else { return };
        let refused = outcomes.iter().find_map(|outcome| match outcome {
            PutOutcome::Refused(why) => Some(why),
            PutOutcome::Stored | PutOutcome::Superseded(_) | PutOutcome::Below(_) => None,
        });
        if outcomes.len() != count {
            return running.abort("an answer to something else");
        }
        if let Some(why) = refused {
            return running.abort(&format!("a record was refused: {why}"));
        }
        let Step::Move { records, way, .. } = &mut running.step else { return };
        *records += count;
        let source = if *way == Way::Pull { running.peer } else { self.id };
        let dead =
            running.in_transit.drain(..).zip(outcomes).filter_map(|(sent, outcome)| {
                match (sent, outcome) {
                    ((key, false), PutOutcome::Below(horizon)) => {
                        Some((key, Record::buried(*horizon)))
                    }
                    _ => None,
                }
            });
        let dead: Vec<(Key, Record)> = dead.collect();
        self.bury(source, dead, now);
        self.fetch_next(now);
    }

    /// Has live records replaced by tombstones: another owner has none of them, and holds everything acknowledged below
    /// its horizon, so they were deleted, or never acknowledged.
    fn bury(&mut self, at: NodeId, records: Vec<(Key, Record)>, now: Now) {
        if !records.is_empty() && !planted!(DeadIsKept) {
            self.counters.buried += records.len() as u64;
            let body = Request::Merge { records };
            self.call_within(ANSWER_TIMEOUT, at, body, Waiter::Burial, now);
        }
    }

    fn end_exchange(&mut self, summary: Summary, now: Now) {
        let Some(running) = self.reconcile.running.take() else { return };
        let (peer, id) = (running.peer, running.id);
        let is_complete = summary.outcome == Ending::Complete;
        if summary.outcome == Ending::Aborted {
            self.reconcile.held_until = Some(now.instant + HELD_FOR);
            self.rebuild_failed(now);
        }
        let differing = (summary.pulled + summary.pushed) as u64;
        if summary.outcome != Ending::Aborted {
            let equal = differing == 0 && summary.outcome == Ending::Complete;
            let before = self.reconcile.compared.get(&running.peer).filter(|it| it.equal == equal);
            let comparison = Comparison {
                as_of_ms: now.wall_ms,
                since_ms: before.map_or(now.wall_ms, |before| before.since_ms),
                equal,
                differing,
                complete: summary.outcome == Ending::Complete,
            };
            self.reconcile.compared.insert(running.peer, comparison);
            if comparison.complete {
                self.heal.compared(running.peer);
            }
        }
        let Running { bytes_sent, bytes_received, error, .. } = running;
        let report = Report { summary, bytes_sent, bytes_received, error };
        self.reconcile.rounds.finish(report, now.instant, now.wall_ms);
        self.exchange_ended(peer, id, is_complete, now);
    }

    /// An exchange with `peer` has ended, completely or not, that had begun when ids were at `begun`.
    fn exchange_ended(&mut self, peer: NodeId, begun: u64, is_complete: bool, now: Now) {
        self.rebuild_ended(peer, begun, is_complete, now);
        if is_complete {
            self.sweep_compared(peer, begun);
        }
    }

    /// Serves a peer's exchange: whatever it asks about, it gets only what both own.
    pub(crate) fn serve_exchange(&mut self, origin: Origin, body: Request) {
        let reconcile = &self.reconcile;
        let shared = |span: &RangeInclusive<u64>| match origin {
            Origin::Peer { node, .. } => reconcile.shared(node, span),
            Origin::Own { .. } | Origin::Outside { .. } => vec![span.clone()],
        };
        let request = match body {
            Request::Digests { spans } => {
                StoreRequest::Digests { sets: spans.iter().map(shared).collect() }
            }
            Request::List { span } => {
                let limit = if buggify!(OneRecordListed) { 1 } else { MAX_ITEMS };
                StoreRequest::List { ranges: shared(&span), limit }
            }
            Request::Fetch { mut tokens } => {
                if let Origin::Peer { node, .. } = origin {
                    tokens.retain(|&token| reconcile.shares(node, token));
                }
                let max_bytes = if buggify!(OneRecordFetched) { 1 } else { MAX_BATCH_BYTES };
                StoreRequest::Fetch { tokens, max_bytes }
            }
            other => unreachable!("{other:?} is no part of an exchange"),
        };
        self.store(request, StoreWaiter::Respond(origin));
    }
}

impl Running {
    fn abort(&mut self, why: &str) {
        self.step = Step::Nothing;
        self.error = Some(format!("{}: {why}", self.peer));
        self.exchange.handle(ExchangeEvent::Aborted);
    }

    fn answered_here(&mut self, response: Response) {
        if let Step::Both { local, .. } = &mut self.step {
            *local = Some(response);
        }
        self.compare_when_both_answered();
    }

    fn answered_there(&mut self, response: Response) {
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
            (Some(Response::Refused(why)), _) => return self.abort(&format!("here: {why}")),
            _ => return self.abort("an answer to something else"),
        };
        self.step = Step::Nothing;
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

fn request_bytes(body: &Request) -> u64 {
    MESSAGE_BYTES
        + match body {
            Request::Digests { spans } => 16 * spans.len() as u64,
            Request::Fetch { tokens } => 8 * tokens.len() as u64,
            Request::Merge { records } => records_bytes(records),
            _ => 16,
        }
}

fn response_bytes(response: &Response) -> u64 {
    MESSAGE_BYTES
        + match response {
            Response::Digests(digests) => 16 * digests.len() as u64,
            Response::Listed { items, .. } => ITEM_BYTES * items.len() as u64,
            _ => 16,
        }
}

fn records_bytes(records: &[(Key, Record)]) -> u64 {
    let weigh = |(key, record): &(Key, Record)| {
        let value = record.value.as_ref().map_or(0, |value| value.len());
        RECORD_BYTES + (key.as_bytes().len() + value) as u64
    };
    records.iter().map(weigh).sum()
}
