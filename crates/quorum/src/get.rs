//! One read.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::error::GetError;
use crate::quorum::{Quorum, are_distinct};
use crate::receipt::GetReceipt;

/// When stale replicas are mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Repair {
    /// After the client was answered.
    Async,
    /// Before: the client is answered once `r` nodes hold what the read found, so that no later
    /// read of `r` with `2r > n` finds anything older.
    Blocking,
}

/// How patient a read is, and how it mends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetOptions {
    /// When stale replicas are mended.
    pub repair: Repair,
    /// After how long one more replica is asked than needed; `None` for never.
    pub hedge_after: Option<Duration>,
    /// After how long a silent node is taken for failed, though it may still answer.
    pub patience: Duration,
    /// After how long the client is answered, one way or the other.
    pub timeout: Duration,
}

/// Something that happened to a running [`Get`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetEvent<I, P> {
    /// `from` looked and found this.
    Answer {
        /// Who was asked.
        from: I,
        /// What it holds; `None` if it knows of nothing. A tombstone is a payload.
        found: Option<P>,
    },
    /// `from` could not be asked, could not tell, or was given up on.
    Failed {
        /// Who was asked.
        from: I,
    },
    /// `from` has lost its data since it was asked: what it has answered counts for nothing any more.
    Void {
        /// Who.
        from: I,
    },
    /// `from` was not asked, because there have been hedges enough; it may be asked later, when it
    /// is needed, and there will be no other hedge.
    Declined {
        /// Whom a [`GetAction::Send`] with `hedge` named.
        from: I,
    },
    /// `from` holds the payload of its [`GetAction::Repair`] durably, or something greater.
    Repaired {
        /// Who was repaired.
        from: I,
    },
    /// `from` could not be repaired.
    RepairFailed {
        /// Who stays stale.
        from: I,
    },
    /// The time asked for with [`GetAction::SetTimer`] has come.
    TimerFired,
}

/// Something the driver must do; actions are carried out in the order they come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetAction<I, P> {
    /// Ask `to` for the key. Ends in [`GetEvent::Answer`], [`GetEvent::Failed`] or, if it is a
    /// hedge, perhaps in [`GetEvent::Declined`].
    Send {
        /// Whom to ask.
        to: I,
        /// Ask for what `to` keeps as a hint for another; else for what it holds as a replica.
        from_hints: bool,
        /// The read can do without: a budget for such requests may decline it.
        hedge: bool,
    },
    /// Give `to` the payload to merge. Ends in [`GetEvent::Repaired`] or
    /// [`GetEvent::RepairFailed`], for which nobody waits once the read is done.
    Repair {
        /// A replica that answered with less.
        to: I,
        /// The greatest that was found.
        payload: P,
    },
    /// Report [`GetEvent::TimerFired`] at or after `at`; replaces any earlier timer.
    SetTimer {
        /// When.
        at: Instant,
    },
    /// Answer the client. Comes exactly once; stale replicas may be repaired after it.
    Reply(Result<GetReceipt<I, P>, GetError>),
}

/// One read, from the first send until every stale replica that was met has been sent a repair.
///
/// The order of payloads is the merge: the greatest wins, and nothing at all is less than any.
///
/// As few nodes are asked as can answer; one more when the hedge timer fires, and another for each
/// that fails or is late. With a sloppy quorum fallbacks are asked too, for what they keep as hints,
/// after the replicas that are not known to be down. A fallback that has no hint says nothing about
/// the key, so it is not counted: absent means that `r` replicas said so.
///
/// Each replica is repaired at most once a read, and never more than `n - 1` of them.
#[derive(Debug)]
pub struct Get<I, P> {
    quorum: Quorum,
    options: GetOptions,
    replicas: Vec<I>,
    candidates: VecDeque<Candidate<I>>, // whom to ask next
    waiting: Vec<Waiting<I>>,           // whoever answers leaves, so no answer counts twice
    answers: Vec<(I, Option<P>)>,       // in the order they came
    read: Option<Read<I, P>>,
    repairs: BTreeMap<I, RepairState>,
    hedge_at: Option<Instant>,
    deadline: Instant,
    armed: Option<Instant>,
    replied: bool,
    closed: bool, // listening for answers no more; all repairs are sent
    actions: VecDeque<GetAction<I, P>>,
}

#[derive(Debug)]
struct Candidate<I> {
    node: I,
    from_hints: bool,
    down: bool,
}

#[derive(Debug)]
struct Waiting<I> {
    node: I,
    late_at: Option<Instant>, // `None` once it is late
    hedge: bool,
}

/// What the first `r` answers came to. A blocking read writes back this and nothing later, or it
/// could chase a key that is being written for ever.
#[derive(Debug)]
struct Read<I, P> {
    from: Vec<I>,
    found: Option<P>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RepairState {
    Sent,
    Done,
    Failed,
}

impl<I: Clone + Ord, P: Clone + Ord> Get<I, P> {
    /// Starts a read of a key whose replicas are the first `quorum.n()` of `nodes`, in the order to
    /// ask them, nearest first; the rest are fallbacks in the order of the preference list.
    ///
    /// Nodes that are `down` are asked last. If there are fewer than `quorum.r()` nodes, none is
    /// asked and the read fails.
    ///
    /// # Panics
    /// If `nodes` repeats a node: its answers would count twice. If `now` plus one of the durations
    /// is more than an [`Instant`] can hold.
    pub fn start(
        nodes: &[I],
        down: impl Fn(&I) -> bool,
        quorum: Quorum,
        options: GetOptions,
        now: Instant,
    ) -> Self {
        assert!(are_distinct(nodes), "preference list repeats a node");
        let (replicas, fallbacks) = nodes.split_at(quorum.n().min(nodes.len()));
        let fallbacks = if quorum.sloppy() { fallbacks } else { &[] };
        let asked_from_hints = fallbacks.iter().map(|node| (node, true));
        let all = replicas.iter().map(|node| (node, false)).chain(asked_from_hints);
        let all = all.map(|(node, from_hints)| {
            let down = down(node);
            Candidate { node: node.clone(), from_hints, down }
        });
        let mut candidates: VecDeque<_> = all.collect();
        candidates.make_contiguous().sort_by_key(|candidate| candidate.down);
        if replicas.len() < quorum.r() {
            candidates.clear();
        }
        let mut get = Self {
            quorum,
            options,
            replicas: replicas.to_vec(),
            candidates,
            waiting: Vec::with_capacity(replicas.len()),
            answers: Vec::with_capacity(replicas.len()),
            read: None,
            repairs: BTreeMap::new(),
            hedge_at: options.hedge_after.map(|after| now + after),
            deadline: now + options.timeout,
            armed: None,
            replied: false,
            closed: false,
            actions: VecDeque::new(),
        };
        get.settle(now);
        get
    }

    /// Takes in one event. Late, repeated and unexpected events change nothing.
    pub fn handle(&mut self, event: GetEvent<I, P>, now: Instant) {
        if self.is_done() {
            return;
        }
        match event {
            GetEvent::Answer { from, found } => {
                if self.leave(&from).is_some() {
                    self.answers.push((from, found));
                }
            }
            GetEvent::Failed { from } => {
                self.leave(&from);
            }
            GetEvent::Void { from } => {
                self.answers.retain(|(node, _)| *node != from);
                self.end_repair(&from, RepairState::Failed);
                let was_counted = |read: &mut Read<I, P>| read.from.contains(&from);
                if !self.replied {
                    self.read.take_if(was_counted);
                }
            }
            GetEvent::Declined { from } => {
                if self.waiting.iter().any(|waiting| waiting.hedge && waiting.node == from) {
                    self.leave(&from);
                    let candidate = Candidate { node: from, from_hints: false, down: false };
                    self.candidates.push_front(candidate);
                }
            }
            GetEvent::Repaired { from } => self.end_repair(&from, RepairState::Done),
            GetEvent::RepairFailed { from } => self.end_repair(&from, RepairState::Failed),
            GetEvent::TimerFired => self.tick(now),
        }
        self.settle(now);
    }

    /// The next thing to do; `None` until another event has been handled.
    pub fn poll_action(&mut self) -> Option<GetAction<I, P>> {
        self.actions.pop_front()
    }

    /// Whether the client is answered and no event can matter any more. The driver may then carry
    /// out what [`poll_action`](Self::poll_action) still gives, and drop this.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.replied && self.closed
    }

    fn leave(&mut self, from: &I) -> Option<Waiting<I>> {
        let place = self.waiting.iter().position(|waiting| waiting.node == *from)?;
        Some(self.waiting.remove(place))
    }

    fn tick(&mut self, now: Instant) {
        self.armed = None; // perhaps fired early: spent all the same
        if now >= self.deadline {
            if !self.replied {
                let (needed, answered) = (self.quorum.r(), self.secured());
                self.reply(Err(GetError::TimedOut { needed, answered }));
            }
            self.waiting.clear();
            return;
        }
        for waiting in &mut self.waiting {
            waiting.late_at = waiting.late_at.filter(|at| *at > now);
        }
        if self.hedge_at.is_some_and(|at| at <= now) {
            if self.may_hedge() {
                self.ask_next(true, now);
            }
            self.hedge_at = None;
        }
    }

    fn settle(&mut self, now: Instant) {
        if !self.replied {
            self.decide(now);
        }
        if self.replied && !self.closed && self.waiting.is_empty() {
            self.closed = true;
            let greatest = self.answers.iter().filter_map(|(_, found)| found.as_ref()).max();
            if let Some(greatest) = greatest.cloned().filter(|_| !buggify!(SkipRepair)) {
                self.send_repairs(&greatest);
            }
        }
        self.arm();
    }

    /// Replies as soon as no further answer can change what to say; asks whom it takes to get there.
    fn decide(&mut self, now: Instant) {
        let needed = self.quorum.r();
        if self.read.is_none() && self.counted().count() >= needed {
            let from = self.counted().map(|(node, _)| node.clone()).collect();
            let found = self.counted().map(|(_, found)| found).max().cloned().flatten();
            self.read = Some(Read { from, found });
        }
        if let Some(winner) = self.written_back().cloned() {
            self.send_repairs(&winner);
        }
        let answered = self.secured();
        while answered + self.in_time() < needed && !self.candidates.is_empty() {
            self.ask_next(false, now);
        }
        if answered >= needed {
            let receipt = self.receipt();
            self.reply(Ok(receipt));
        } else if answered + self.waiting.len() + self.repairs_sent() < needed {
            self.reply(Err(GetError::TooFewReplicas { needed, answered }));
        }
    }

    fn ask_next(&mut self, hedge: bool, now: Instant) {
        if let Some(Candidate { node, from_hints, .. }) = self.candidates.pop_front() {
            let late_at = Some(now + self.options.patience);
            self.waiting.push(Waiting { node: node.clone(), late_at, hedge });
            self.actions.push_back(GetAction::Send { to: node, from_hints, hedge });
        }
    }

    /// A hedge is for speed alone, so it goes to a replica that is likely to be quick.
    fn may_hedge(&self) -> bool {
        let next = self.candidates.front();
        self.read.is_none() && !self.replied && next.is_some_and(|c| !c.from_hints && !c.down)
    }

    fn send_repairs(&mut self, payload: &P) {
        for to in self.stale(payload) {
            self.repairs.insert(to.clone(), RepairState::Sent);
            self.actions.push_back(GetAction::Repair { to, payload: payload.clone() });
        }
    }

    /// The replicas to repair: those that hold less than `payload` and were not repaired before.
    fn stale(&self, payload: &P) -> Vec<I> {
        let holds_less = |(node, found): &&(I, Option<P>)| {
            self.replicas.contains(node) && found.as_ref() < Some(payload)
        };
        let stale = self.answers.iter().filter(holds_less).map(|(node, _)| node);
        let stale = stale.filter(|node| !self.repairs.contains_key(node)).cloned();
        // All n are stale only if a fallback has it, and the hint there mends the last one.
        stale.take((self.quorum.n() - 1).saturating_sub(self.repairs.len())).collect()
    }

    fn end_repair(&mut self, from: &I, state: RepairState) {
        if let Some(repair) = self.repairs.get_mut(from).filter(|r| **r == RepairState::Sent) {
            *repair = state;
        }
    }

    fn arm(&mut self) {
        if self.is_done() {
            return;
        }
        let hedge = self.hedge_at.filter(|_| self.may_hedge());
        let replaceable = !self.replied && !self.candidates.is_empty();
        let late = self.waiting.iter().filter(|_| replaceable).filter_map(|w| w.late_at).min();
        let next = [Some(self.deadline), hedge, late].into_iter().flatten().min();
        // A timer that is set too early only costs a look when it fires.
        if let Some(at) = next.filter(|next| self.armed.is_none_or(|armed| *next < armed)) {
            self.armed = Some(at);
            self.actions.push_back(GetAction::SetTimer { at });
        }
    }

    fn counted(&self) -> impl Iterator<Item = &(I, Option<P>)> {
        let counts = |node| self.replicas.contains(node) || planted!(AbsentFromFallback);
        self.answers.iter().filter(move |(node, found)| found.is_some() || counts(node))
    }

    /// How many nodes count so far: by their answer, or, once a blocking read knows what it has
    /// found, by holding that.
    fn secured(&self) -> usize {
        let Some(winner) = self.written_back() else { return self.counted().count() };
        let holders = self.answers.iter().filter(|(_, found)| found.as_ref() >= Some(winner));
        let done =
            |state: &&RepairState| **state == RepairState::Done || planted!(RepairNotAwaited);
        holders.count() + self.repairs.values().filter(done).count()
    }

    /// What `r` nodes must hold before the reply, if anything.
    fn written_back(&self) -> Option<&P> {
        let read = self.read.as_ref().filter(|_| self.options.repair == Repair::Blocking)?;
        read.found.as_ref()
    }

    fn in_time(&self) -> usize {
        let in_time = self.waiting.iter().filter(|waiting| waiting.late_at.is_some()).count();
        in_time + self.repairs_sent()
    }

    fn repairs_sent(&self) -> usize {
        self.repairs.values().filter(|state| **state == RepairState::Sent).count()
    }

    fn receipt(&self) -> GetReceipt<I, P> {
        let read = self.read.as_ref().expect("a read that has its answers is settled first");
        let is_fallback = |node: &I| !self.replicas.contains(node);
        let (repaired, sloppy) = if let Some(winner) = self.written_back() {
            let done = self.repairs.iter().filter(|(_, state)| **state == RepairState::Done);
            let holds = |(node, found): &(I, Option<P>)| {
                is_fallback(node) && found.as_ref() >= Some(winner)
            };
            (done.map(|(node, _)| node.clone()).collect(), self.answers.iter().any(holds))
        } else {
            (read.found.as_ref().map(|found| self.stale(found)).unwrap_or_default(), false)
        };
        GetReceipt {
            found: read.found.clone(),
            r: self.quorum.r(),
            n: self.quorum.n(),
            sloppy: sloppy || read.from.iter().any(is_fallback),
            from: read.from.clone(),
            repaired,
        }
    }

    fn reply(&mut self, result: Result<GetReceipt<I, P>, GetError>) {
        assert!(!self.replied, "a client is answered once");
        self.replied = true;
        self.actions.push_back(GetAction::Reply(result));
    }
}
