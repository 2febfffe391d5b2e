//! Anti-entropy: drives exchanges with the peers that share ranges with this node, one at a time
//! with each.

mod running;
mod serving;

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use quorate_antientropy::{
    Differing, ExchangeAction, Limits, Outcome as Ending, Ranges, Report, Rounds, RoundsStats,
    SKETCH_CELLS, Summary, bucket_span,
};
use quorate_hints::GENTLE_WINDOW;
use quorate_quorum::Failure;
use quorate_record::{Key, NodeId, Record};
use quorate_ring::Ring;

use self::running::{Asked, Running, Step, Way};
use crate::{
    MAX_ITEMS, Node, NodeOptions, Now, PutOutcome, Refusal, Request, Response, StoreRequest,
    call::{Outcome, Waiter},
    serve::StoreWaiter,
};

/// A peer that takes longer for one answer of an exchange is given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long after an exchange that was aborted nobody is hurried.
const HELD_FOR: Duration = Duration::from_millis(200);
/// How often exchanges are looked at that nobody begins by himself.
const UNASKED_EVERY: Duration = Duration::from_secs(10);

/// How long an exchange waits when a side has too much to do, at first and at most.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// After so many waits in a row it is given up.
const MOST_WAITS: u32 = 30;

#[derive(Debug)]
pub(crate) struct Reconcile {
    id: NodeId,
    co_owned: BTreeMap<NodeId, Shared>,
    rounds: Rounds<NodeId>,
    /// Whether peers are compared with by themselves, and not only when somebody waits for it.
    is_on: bool,
    held_until: Option<Instant>,
    limits: Limits,
    running: BTreeMap<NodeId, Running>,
    compared: BTreeMap<NodeId, Comparison>,
}

/// What this node and a peer both own.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Ranges>);

/// How this node stood with a peer when they were last compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// When, in milliseconds since the Unix epoch.
    pub as_of_ms: u64,
    /// Since when they have been found equal, or different, each time; in the same unit.
    pub since_ms: u64,
    /// Whether nothing differed.
    pub equal: bool,
    /// Keys that were found to differ. They move next, or have moved meanwhile.
    pub differing: u64,
    /// Whether that is all of them; if not, more may differ.
    pub complete: bool,
}

/// Which of its questions an exchange has an answer to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    Local,
    Remote,
    Fetched,
    Merged { records: usize },
}

impl Shared {
    fn within(&self, span: &RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        self.0.within(span).collect()
    }

    fn everything(&self) -> Vec<RangeInclusive<u64>> {
        self.within(&(0..=u64::MAX))
    }

    fn of_buckets(&self, buckets: &[u16]) -> Vec<RangeInclusive<u64>> {
        buckets.iter().flat_map(|bucket| self.within(&bucket_span(*bucket))).collect()
    }
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
            .map(|(peer, ranges)| (peer, Shared(Arc::new(ranges))))
            .collect();
        let limits = Limits { max_records: options.anti_entropy_max_per_tick, ..Limits::default() };
        Self {
            id,
            co_owned,
            rounds: Rounds::new(options.anti_entropy_interval.unwrap_or(UNASKED_EVERY), now),
            is_on: options.anti_entropy_interval.is_some(),
            held_until: None,
            limits,
            running: BTreeMap::new(),
            compared: BTreeMap::new(),
        }
    }

    /// Has the next exchange with `peer` begin as soon as can be, and not only when it is its turn.
    pub(crate) fn hurry(&mut self, peer: NodeId, now: Instant) {
        if self.co_owned.contains_key(&peer) {
            self.rounds.hurry(peer, now);
        }
    }

    /// Who owns something that this node owns too.
    pub(crate) fn co_owners(&self) -> impl Iterator<Item = NodeId> {
        self.co_owned.keys().copied()
    }

    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let begin = self.rounds.next_wake();
        let go_on = self.running.values().filter_map(|running| running.paused_until);
        go_on.chain(begin).min()
    }

    fn with_id(&mut self, id: u64) -> Option<&mut Running> {
        self.running.values_mut().find(|running| running.id == id)
    }

    /// Notes how two replicas stand, as far as it is known.
    fn note(&mut self, peer: NodeId, differing: Differing, wall_ms: u64) {
        let equal = differing.keys == 0 && differing.counted;
        let before = self.compared.get(&peer).filter(|before| before.equal == equal);
        let comparison = Comparison {
            as_of_ms: wall_ms,
            since_ms: before.map_or(wall_ms, |before| before.since_ms),
            equal,
            differing: differing.keys,
            complete: differing.counted,
        };
        self.compared.insert(peer, comparison);
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

    /// Has this node be compared with `peer` as soon as can be, since one of them may lack something.
    pub(crate) fn compare_soon(&mut self, peer: NodeId, now: Now) {
        if self.reconcile.is_on {
            self.reconcile.hurry(peer, now.instant);
        }
    }

    /// Begins exchanges that are due, and does what the running ones ask for.
    pub(crate) fn run_exchanges(&mut self, now: Now) {
        self.begin_exchanges(now);
        let can_go_on = |running: &Running| match running.paused_until {
            Some(until) => until <= now.instant,
            None => matches!(running.step, Step::Nothing),
        };
        while let Some((&peer, _)) = self.reconcile.running.iter().find(|(_, it)| can_go_on(it)) {
            self.go_on(peer, now);
        }
    }

    fn begin_exchanges(&mut self, now: Now) {
        let wanted = self.wanted(now);
        for &peer in &wanted {
            self.reconcile.hurry(peer, now.instant);
        }
        if self.reconcile.rounds.next_wake().is_none_or(|at| at > now.instant) {
            return;
        }
        let up = |peer: &NodeId| self.membership.is_up(*peer);
        // What is compared later is as good; a client that waits is not.
        let peers: Vec<NodeId> = match self.admission.is_pressed(now.instant) {
            true => self.wanted_for_rebuild(now),
            false if self.reconcile.is_on => self.reconcile.co_owners().filter(up).collect(),
            false => wanted,
        };
        while let Some((peer, resume_at)) =
            self.reconcile.rounds.begin(peers.iter().copied(), now.instant)
        {
            let id = self.fresh_id();
            let theirs = self.lives.standing(peer).map(|standing| standing.horizon);
            let horizons = (self.horizon_in_force(), theirs.unwrap_or_default());
            let running = self.reconcile.start(id, (peer, horizons), resume_at, now);
            self.reconcile.running.insert(peer, running);
            self.rebuild_begun(peer, id);
        }
    }

    /// With whom somebody waits for a comparison that has not begun.
    fn wanted(&self, now: Now) -> Vec<NodeId> {
        if self.reconcile.held_until.is_some_and(|until| until > now.instant) {
            return Vec::new();
        }
        let up = |peer: &NodeId| self.membership.is_up(*peer);
        let mut wanted = self.wanted_for_rebuild(now);
        wanted.extend(self.sweep.wanted().filter(up));
        wanted.retain(|peer| !self.reconcile.running.contains_key(peer));
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// Does the next thing for the exchange with `peer`, which is not waiting for an answer.
    fn go_on(&mut self, peer: NodeId, now: Now) {
        let pressed = self.admission.is_pressed(now.instant);
        let Some(running) = self.reconcile.running.get_mut(&peer) else { return };
        if running.paused_until.take().is_some() {
            if let Some(asked) = running.asked.take() {
                return self.ask(peer, asked, now);
            }
            if let Step::Move { .. } = running.step {
                return self.fetch_next(peer, now);
            }
        }
        let Some(running) = self.reconcile.running.get_mut(&peer) else { return };
        if pressed && running.error.is_none() {
            return self.wait(peer, now);
        }
        let Some(action) = running.exchange.poll_action() else {
            debug_assert!(false, "an exchange that waits for nothing asks for something");
            return running.abort("it asks for nothing");
        };
        let shared = &self.reconcile.co_owned[&peer];
        match action {
            ExchangeAction::Overview { salt } => {
                running.step = Step::Whole { salt };
                let sets = vec![shared.everything()];
                let id = running.id;
                self.store(StoreRequest::Digests { sets }, StoreWaiter::Exchange { id });
            }
            ExchangeAction::Sketches { groups } => {
                let sets = groups.iter().map(|group| shared.of_buckets(group)).collect();
                let local = StoreRequest::Sketches { sets, cells: SKETCH_CELLS };
                self.ask_both(peer, local, Request::Sketches { groups }, now);
            }
            ExchangeAction::Digests { spans } => {
                let sets = spans.iter().map(|span| shared.within(span)).collect();
                let local = StoreRequest::Digests { sets };
                self.ask_both(peer, local, Request::Digests { spans }, now);
            }
            ExchangeAction::List { span, limit } => {
                let ranges = shared.within(&span);
                let local = StoreRequest::List { ranges, limit: limit.min(MAX_ITEMS) };
                self.ask_both(peer, local, Request::List { span }, now);
            }
            ExchangeAction::Pull { tokens } => self.move_records(peer, Way::Pull, tokens, now),
            ExchangeAction::Push { tokens } => self.move_records(peer, Way::Push, tokens, now),
            ExchangeAction::Done(summary) => self.end_exchange(peer, summary, now),
        }
    }

    fn ask_both(&mut self, peer: NodeId, local: StoreRequest, remote: Request, now: Now) {
        let Some(running) = self.reconcile.running.get_mut(&peer) else { return };
        running.step = Step::Both { local: None, remote: None };
        let id = running.id;
        self.store(local, StoreWaiter::Exchange { id });
        self.ask(peer, Asked { to: peer, body: remote, part: Part::Remote }, now);
    }

    /// Asks something for the exchange with `peer`, of it or of this node. It is kept to be asked
    /// again.
    fn ask(&mut self, peer: NodeId, asked: Asked, now: Now) {
        let Some(running) = self.reconcile.running.get_mut(&peer) else { return };
        if asked.to == peer {
            running.bytes_sent += asked.body.exchange_bytes();
        }
        let waiter = Waiter::Exchange { id: running.id, part: asked.part };
        let (to, body) = (asked.to, asked.body.clone());
        running.asked = Some(asked);
        self.call_within(ANSWER_TIMEOUT, to, body, waiter, now);
    }

    fn move_records(&mut self, peer: NodeId, way: Way, mut tokens: Vec<u64>, now: Now) {
        tokens.sort_unstable(); // as answers are
        let Some(running) = self.reconcile.running.get_mut(&peer) else { return };
        let (tokens, records, left) = (tokens.into(), 0, 0);
        running.step = Step::Move { way, tokens, records, left, began: now.instant };
        self.fetch_next(peer, now);
    }

    /// Fetches the next batch of what is to move, or reports that all of it has.
    fn fetch_next(&mut self, peer: NodeId, now: Now) {
        let is_gentle = self.is_settled() && !self.admission.pause(now.instant).is_zero();
        let most = if is_gentle { GENTLE_WINDOW } else { MAX_ITEMS };
        let most = self.reconcile.limits.max_records.min(most);
        let Some(running) = self.reconcile.running.get_mut(&peer) else { return };
        let Step::Move { way, tokens, began, .. } = &mut running.step else { return };
        *began = now.instant;
        if tokens.is_empty() {
            return running.moved_all();
        }
        let to = if *way == Way::Pull { peer } else { self.id };
        let body = Request::Fetch { tokens: tokens.iter().copied().take(most).collect() };
        self.ask(peer, Asked { to, body, part: Part::Fetched }, now);
    }

    /// A peer, or this node by a call to itself or by its store, has answered an exchange.
    pub(crate) fn exchange_answered(&mut self, id: u64, part: Part, outcome: Outcome, now: Now) {
        let Some(running) = self.reconcile.with_id(id) else { return };
        let peer = running.peer;
        let response = match outcome {
            Ok(Response::Refused(Refusal::Malformed))
                if matches!(running.step, Step::Overview { .. }) =>
            {
                return running.go_without_sketches();
            }
            Ok(Response::Refused(Refusal::Overloaded)) if !matches!(part, Part::Local) => {
                return self.wait(peer, now);
            }
            Ok(Response::Refused(why)) if !matches!(part, Part::Local) => {
                return running.abort(&format!("refused: {why}"));
            }
            Ok(response) => response,
            Err(Failure::Refused) if self.membership.is_up(peer) => {
                return self.wait(peer, now);
            }
            Err(_) => return running.abort("no answer"),
        };
        running.waits = 0;
        if let Part::Remote = part {
            running.bytes_received += response.exchange_bytes();
        }
        match (part, response) {
            (Part::Local, response) => self.answered_here(peer, response, now),
            (Part::Remote, Response::Overview(overview)) => {
                self.overview_came(peer, overview);
            }
            (Part::Remote, response) => running.answered_there(response),
            (Part::Fetched, Response::Fetched(records)) => self.forward(peer, records, now),
            (Part::Merged { records }, Response::Merged(outcomes)) => {
                self.moved(peer, records, &outcomes, now);
            }
            _ => running.abort("an answer to something else"),
        }
        self.note_differing(peer, now);
    }

    fn note_differing(&mut self, peer: NodeId, now: Now) {
        let Some(running) = self.reconcile.running.get_mut(&peer) else { return };
        let differing = running.exchange.differing();
        if differing != running.noted {
            running.noted = differing;
            if let Some(differing) = differing {
                self.reconcile.note(peer, differing, now.wall_ms);
            }
        }
    }

    fn answered_here(&mut self, peer: NodeId, response: Response, now: Now) {
        let Some(running) = self.reconcile.running.get_mut(&peer) else { return };
        match (&mut running.step, response) {
            (Step::Whole { salt }, Response::Digests(digests)) if digests.len() == 1 => {
                let salt = *salt;
                running.step = Step::Overview { whole: digests[0] };
                let body = Request::Overview { salt, whole: digests[0] };
                self.ask(peer, Asked { to: peer, body, part: Part::Remote }, now);
            }
            (_, response) => running.answered_here(response),
        }
    }

    fn overview_came(&mut self, peer: NodeId, remote: quorate_antientropy::Overview) {
        let Some(running) = self.reconcile.running.get_mut(&peer) else { return };
        let Step::Overview { whole } = running.step else {
            return running.abort("an answer to something else");
        };
        if remote.short.is_empty() && remote.whole != whole {
            return running.abort("other ranges than these are compared there");
        }
        if remote.short.is_empty() {
            return running.looked(Vec::new(), remote);
        }
        let id = running.id;
        running.step = Step::Buckets { remote };
        let ranges = self.reconcile.co_owned[&peer].everything();
        self.store(StoreRequest::Buckets { ranges }, StoreWaiter::Exchange { id });
    }

    /// Passes records that were fetched from one side on to the other.
    fn forward(&mut self, peer: NodeId, fetched: Vec<(Key, Record)>, now: Now) {
        let own = self.id;
        let Some(running) = self.reconcile.running.get_mut(&peer) else { return };
        let asked = running.asked.as_ref().map_or(0, Asked::tokens);
        let Step::Move { way, tokens, left, .. } = &mut running.step else { return };
        let token = |(key, _): &(Key, Record)| quorate_ring::token(key.as_bytes());
        let answered = match fetched.last().map(token) {
            Some(last) => tokens.partition_point(|token| *token <= last),
            None => asked.min(tokens.len()),
        };
        let mut found: Vec<u64> = fetched.iter().map(token).collect();
        found.dedup();
        // Those in between that did not come cannot be read.
        *left += answered.saturating_sub(found.len());
        tokens.drain(..answered);
        if fetched.is_empty() {
            return self.fetch_next(peer, now);
        }
        let to = match way {
            Way::Pull => own,
            Way::Push => peer,
        };
        if to == own {
            running.bytes_received += serving::records_bytes(&fetched);
        }
        let part = Part::Merged { records: fetched.len() };
        self.ask(peer, Asked { to, body: Request::Merge { records: fetched }, part }, now);
    }

    fn moved(&mut self, peer: NodeId, count: usize, outcomes: &[PutOutcome], now: Now) {
        let (pause, is_settled) = (self.admission.pause(now.instant), self.is_settled());
        let Some(running) = self.reconcile.running.get_mut(&peer) else { return };
        if outcomes.len() != count {
            return running.abort("an answer to something else");
        }
        let refusals = || {
            outcomes.iter().filter_map(|outcome| match outcome {
                PutOutcome::Refused(why) => Some(why),
                _ => None,
            })
        };
        let whole = |why: &&Refusal| matches!(why, Refusal::DiskFull | Refusal::LogFailed);
        if let Some(why) = refusals().find(whole) {
            return running.abort(&format!("a record was refused: {why}"));
        }
        if refusals().any(|why| *why == Refusal::Overloaded) {
            return self.wait(peer, now);
        }
        let dead = dead(running.asked.as_ref(), outcomes);
        let refused = refusals().count();
        if let Some(why) = refusals().next() {
            running.error = Some(format!("{peer}: a record was refused: {why}"));
        }
        running.asked = None;
        let Step::Move { way, records, left, began, .. } = &mut running.step else { return };
        *records += count - refused;
        *left += refused;
        let source = if *way == Way::Pull { peer } else { self.id };
        let took = now.instant.saturating_duration_since(*began);
        // A node that does not count yet is in a hurry: it leaves clients half of the time.
        let pause = if is_settled { pause } else { pause.min(took) };
        if !pause.is_zero() {
            running.paused_until = Some(now.instant + pause);
        } else {
            self.fetch_next(peer, now);
        }
        self.bury(source, dead, now);
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

    /// Asks again later: a side has too much to do.
    fn wait(&mut self, peer: NodeId, now: Now) {
        let Some(running) = self.reconcile.running.get_mut(&peer) else { return };
        if running.waits >= MOST_WAITS {
            return running.abort("overloaded");
        }
        let wait = (FIRST_WAIT * (1 << running.waits.min(8))).min(LONGEST_WAIT);
        running.waits += 1;
        running.paused_until = Some(now.instant + wait);
    }

    fn end_exchange(&mut self, peer: NodeId, summary: Summary, now: Now) {
        let Some(running) = self.reconcile.running.remove(&peer) else { return };
        let complete = summary.outcome == Ending::Complete;
        if summary.outcome != Ending::Aborted {
            let moved = (summary.pulled + summary.pushed).max(summary.left) as u64;
            let keys = running.noted.filter(|it| it.counted).map_or(moved, |it| it.keys);
            let counted = summary.outcome != Ending::Truncated;
            if counted {
                self.heal.compared(peer);
            }
            self.reconcile.note(peer, Differing { keys, counted }, now.wall_ms);
        }
        let goes_on = summary.outcome == Ending::Truncated;
        let Running { id, bytes_sent, bytes_received, error, .. } = running;
        let nonsense = || format!("{peer}: an answer that cannot be");
        let error = error.or_else(|| (summary.outcome == Ending::Aborted).then(nonsense));
        let report = Report { summary, bytes_sent, bytes_received, error };
        let is_aborted = summary.outcome == Ending::Aborted;
        self.reconcile.rounds.finish(peer, report, now.instant, now.wall_ms);
        if goes_on {
            self.reconcile.hurry(peer, now.instant + FIRST_WAIT);
        }
        if is_aborted {
            self.reconcile.held_until = Some(now.instant + HELD_FOR);
            self.rebuild_failed(now);
        }
        self.exchange_ended(peer, id, complete, now);
    }

    /// An exchange with `peer` has ended, completely or not, that had begun when ids were at `begun`.
    fn exchange_ended(&mut self, peer: NodeId, begun: u64, is_complete: bool, now: Now) {
        self.rebuild_ended(peer, begun, is_complete, now);
        if is_complete {
            self.sweep_compared(peer, begun);
        }
    }
}

/// What is to be put in the place of live records that were sent and refused as dead.
fn dead(sent: Option<&Asked>, outcomes: &[PutOutcome]) -> Vec<(Key, Record)> {
    let Some(Asked { body: Request::Merge { records }, .. }) = sent else { return Vec::new() };
    let dead = records.iter().zip(outcomes).filter_map(|((key, record), outcome)| match outcome {
        PutOutcome::Below(horizon) if !record.is_tombstone() => {
            Some((key.clone(), Record::buried(*horizon)))
        }
        _ => None,
    });
    dead.collect()
}
