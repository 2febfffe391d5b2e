//! One write.

mod seat;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::error::{Outcome, PutError};
use crate::quorum::{Quorum, are_distinct};
use crate::receipt::PutReceipt;
use seat::{Answer, Seat};

/// Which sending of a write an answer belongs to; answers to an earlier one do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Round {
    /// An atomic write asks the replicas what they hold, before it has a version.
    Asking,
    /// Under the version that the write began with.
    First,
    /// Under a version above all that the first round was told of: what supersedes it is concurrent.
    Second,
    /// Again, since the version of the second was below what replicas take on.
    Third,
    /// The same, for the last time.
    Fourth,
}

impl Round {
    /// The round of a version that is above all that an earlier round was told of, if there may be another.
    const fn next(self) -> Option<Self> {
        match self {
            Self::Asking | Self::First => Some(Self::Second),
            Self::Second => Some(Self::Third),
            Self::Third => Some(Self::Fourth),
            Self::Fourth => None,
        }
    }
}

/// How an asked node failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// It has certainly not stored the record and will not: it said so, or nothing was sent.
    Refused,
    /// It may have stored the record: something was sent, and no answer came.
    Unknown,
}

/// Something that happened to a running [`Put`].
///
/// Further ways to refuse may be added.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutEvent<I, V> {
    /// `from` holds the record durably, as its own or as the hint it was sent as.
    Stored {
        /// Who was asked.
        from: I,
        /// The round of the [`PutAction::Send`] that this answers.
        round: Round,
    },
    /// `from` holds a greater version instead.
    Superseded {
        /// Who was asked.
        from: I,
        /// The round of the [`PutAction::Send`] that this answers.
        round: Round,
        /// The version it holds.
        by: V,
    },
    /// `from` has not taken the record and will not: its version is below what `from` takes on. It holds nothing as
    /// great for the key, so it has said what a further version must be above, and acknowledged nothing.
    Below {
        /// Who was asked.
        from: I,
        /// The round of the [`PutAction::Send`] that this answers.
        round: Round,
        /// What a version must be above.
        by: V,
    },
    /// `from` did as it was asked, but has lost data and does not count until it has been filled again.
    Uncounted {
        /// Who was asked.
        from: I,
        /// The round of the [`PutAction::Send`] that this answers.
        round: Round,
    },
    /// `from` has lost its data since it was asked: what it has answered counts for nothing any more.
    Void {
        /// Who.
        from: I,
    },
    /// `from` was asked what it holds.
    Told {
        /// Who was asked, in [`Round::Asking`].
        from: I,
        /// The version that it holds durably; `None` if it knows of nothing.
        holds: Option<V>,
    },
    /// `from` gave no answer that helps.
    Failed {
        /// Who was asked.
        from: I,
        /// The round of the [`PutAction::Send`] that this answers.
        round: Round,
        /// Whether it may hold the record all the same.
        failure: Failure,
    },
    /// The record has a new version, as [`PutAction::Restamp`] asked.
    Restamped {
        /// The new version.
        version: V,
    },
    /// The clock may not go as far as [`PutAction::Restamp`] asked. The write can still succeed, if
    /// `w` replicas store it in the first round after all.
    RestampFailed,
    /// The coordinator holds the hint durably, as [`PutAction::KeepHint`] asked.
    HintKept {
        /// Whom the hint is for.
        replica: I,
        /// The round of the [`PutAction::KeepHint`] that this answers.
        round: Round,
    },
    /// The coordinator cannot keep the hint. The replica is left to anti-entropy.
    HintRefused {
        /// Whom the hint was for.
        replica: I,
        /// The round of the [`PutAction::KeepHint`] that this answers.
        round: Round,
    },
    /// The time asked for with [`PutAction::SetTimer`] has come.
    TimerFired,
}

/// Something the driver must do; actions are carried out in the order they come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutAction<I, V> {
    /// Send the record to `to`, under the version of `round`. Ends in [`PutEvent::Stored`],
    /// [`PutEvent::Superseded`] or [`PutEvent::Failed`]. In [`Round::Asking`] nothing is to be
    /// stored: ask `to` which version it holds, which ends in [`PutEvent::Told`] or `Failed`.
    Send {
        /// Whom to ask.
        to: I,
        /// The replica that `to` shall keep the record for, as a hint; `None` if `to` is one.
        hint_for: Option<I>,
        /// To be named in the answer.
        round: Round,
    },
    /// Give the record a version greater than `above`, for the next round. Ends in
    /// [`PutEvent::Restamped`] or [`PutEvent::RestampFailed`].
    Restamp {
        /// The greatest version that any node named.
        above: V,
    },
    /// Keep the record, under the version of `round`, as a hint for `replica` on this node. Ends in
    /// [`PutEvent::HintKept`] or [`PutEvent::HintRefused`].
    KeepHint {
        /// Whom the hint is for.
        replica: I,
        /// To be named in the answer.
        round: Round,
    },
    /// Report [`PutEvent::TimerFired`] at or after `at`; replaces any earlier timer.
    SetTimer {
        /// When.
        at: Instant,
    },
    /// Answer the client. Comes exactly once; the write may go on after it.
    Reply(Result<PutReceipt<I, V>, PutError>),
}

/// One write, from the first send until every replica has it or a hint of it is held somewhere.
///
/// The client is answered at `w` acks; everything after that is for the replicas that missed the
/// write. A replica that fails or is late is stood in for by the next fallback, which keeps a hint
/// (Dynamo §4.6), and when there is none left the coordinator keeps it.
///
/// **The floor rule.** A write that `w` nodes have answered, but not all of them by storing it, met
/// a greater version: perhaps one that was acknowledged before this write began, by a node with a
/// faster clock. It is sent once more, to all, under a version above all that it was told of. Among
/// the first `w` to answer is one that holds every write acknowledged earlier, if `2w > n` and only
/// replicas count; so whatever still supersedes the new version is concurrent, and in the second
/// round `Superseded` is an ack.
#[derive(Debug)]
pub struct Put<I, V> {
    quorum: Quorum,
    version: V,
    told: V, // the greatest version heard of, our own included
    round: Round,
    atomic: bool, // it has one version: no other once a node may hold it
    restamping: bool,
    floor_met: bool, // `w` replicas, not fallbacks, said what the second version must be above
    clock_stuck: bool, // there will be no second round
    seats: Vec<Seat<I>>,
    waiting: Vec<Waiting<I>>, // whoever answers leaves, so no answer counts twice
    fallbacks: VecDeque<I>,
    perhaps_held: bool, // some node stored the record, or nobody can say that it did not
    patience: Duration,
    deadline: Instant,
    end: Instant,
    armed: Option<Instant>,
    replied: bool,
    actions: VecDeque<PutAction<I, V>>,
}

#[derive(Debug)]
struct Waiting<I> {
    node: I,
    seat: usize,
    late_at: Option<Instant>, // `None` once it is late
}

impl<I: Clone + Ord, V: Clone + Ord> Put<I, V> {
    /// Starts a write of `version` to the first `quorum.n()` nodes of a preference list; the rest
    /// are fallbacks, in the order to try them.
    ///
    /// A replica that is `down` is replaced at once by the next fallback that is not; with none left
    /// it is not asked, and the coordinator keeps its hint. That steers and no more: before a write
    /// fails for want of replicas, those that are down are asked too.
    ///
    /// A node that has not answered after `patience` is stood in for, and may still answer. After
    /// `timeout` the client is answered, and after as long again every replica that is still silent
    /// gets a hint from the coordinator.
    ///
    /// If the list is shorter than `quorum.w()`, nothing is sent and the write is rejected.
    ///
    /// # Panics
    /// If `nodes` repeats a node: its acks would count twice. If `now` plus twice `timeout`, or plus
    /// `patience`, is more than an [`Instant`] can hold.
    pub fn start(
        nodes: &[I],
        down: impl Fn(&I) -> bool,
        quorum: Quorum,
        version: V,
        patience: Duration,
        timeout: Duration,
        now: Instant,
    ) -> Self {
        Self::begin(Round::First, nodes, down, quorum, version, [patience, timeout], now)
    }

    /// Starts an atomic write: it first asks `w` replicas which versions they hold, then sends the
    /// record to all under a version above those.
    ///
    /// With strict majorities, and reads that [mend before they answer](crate::Repair::Blocking)
    /// with the same, each key is a linearizable register: the multi-writer register of Attiya,
    /// Bar-Noy and Dolev (1995) as Lynch and Shvartsman (1997) extended it. The version asked for is
    /// above that of every write that has ended, and the value never lives under two versions, as it
    /// may after a second round of [`start`](Self::start): a read may have returned it under the first
    /// and another write have followed that, and under the second it would come back. A further round
    /// begins only when it is certain that no node holds the record.
    ///
    /// `floor` is any version that the new one will be above in any case, such as the last that the
    /// coordinator has seen. The rest is as in [`start`](Self::start); while it asks, no fallback
    /// stands in for anybody, and a write that fails has reached nobody.
    ///
    /// # Panics
    /// As [`start`](Self::start), and if fallbacks count or `w` replicas are no majority: it would
    /// not be atomic.
    pub fn start_atomic(
        nodes: &[I],
        down: impl Fn(&I) -> bool,
        quorum: Quorum,
        floor: V,
        patience: Duration,
        timeout: Duration,
        now: Instant,
    ) -> Self {
        let strict = !quorum.sloppy() && quorum.orders_writes();
        assert!(strict, "an atomic write needs a strict majority");
        Self::begin(Round::Asking, nodes, down, quorum, floor, [patience, timeout], now)
    }

    fn begin(
        round: Round,
        nodes: &[I],
        down: impl Fn(&I) -> bool,
        quorum: Quorum,
        version: V,
        [patience, timeout]: [Duration; 2],
        now: Instant,
    ) -> Self {
        assert!(are_distinct(nodes), "preference list repeats a node");
        let (replicas, rest) = nodes.split_at(quorum.n().min(nodes.len()));
        let (absent, present): (VecDeque<I>, VecDeque<I>) = rest.iter().cloned().partition(&down);
        let mut put = Self {
            quorum,
            told: version.clone(),
            version,
            round,
            atomic: round == Round::Asking,
            restamping: false,
            floor_met: false,
            clock_stuck: false,
            seats: replicas.iter().cloned().map(Seat::new).collect(),
            waiting: Vec::with_capacity(replicas.len()),
            fallbacks: present,
            perhaps_held: false,
            patience,
            deadline: now + timeout,
            end: now + timeout + timeout,
            armed: None,
            replied: false,
            actions: VecDeque::new(),
        };
        if replicas.len() >= quorum.w() {
            for (seat, replica) in replicas.iter().enumerate() {
                if !down(replica) {
                    put.ask(replica.clone(), seat, now);
                } else if round != Round::Asking
                    && let Some(fallback) = put.fallbacks.pop_front()
                {
                    put.ask(fallback, seat, now);
                }
            }
        }
        put.fallbacks.extend(absent);
        put.settle(now);
        put
    }

    /// Takes in one event. Late, repeated and unexpected events change nothing.
    ///
    /// # Panics
    /// If a [`PutEvent::Restamped`] that was asked for brings a version that is not above
    /// the one named: the second round would prove nothing.
    pub fn handle(&mut self, event: PutEvent<I, V>, now: Instant) {
        if self.is_done() {
            return;
        }
        match event {
            PutEvent::Stored { from, round } => {
                if let Some(seat) = self.leave(&from, round) {
                    self.perhaps_held = true;
                    self.seats[seat].answered(from, Answer::Stored);
                }
            }
            PutEvent::Superseded { from, round, by } => {
                if let Some(seat) = self.leave(&from, round) {
                    // Once the new version is asked for, what it must be above is settled.
                    if !self.restamping {
                        self.told = self.told.clone().max(by);
                    }
                    self.seats[seat].answered(from, Answer::Superseded);
                }
            }
            PutEvent::Below { from, round, by } => {
                if let Some(seat) = self.leave(&from, round) {
                    if !self.restamping {
                        self.told = self.told.clone().max(by);
                    }
                    self.seats[seat].answered(from, Answer::Below);
                }
            }
            PutEvent::Uncounted { from, round } => {
                if let Some(seat) = self.leave(&from, round) {
                    self.perhaps_held |= self.round != Round::Asking;
                    self.seats[seat].answered(from, Answer::Uncounted);
                }
            }
            PutEvent::Void { from } => {
                for seat in 0..self.seats.len() {
                    if self.seats[seat].void(&from) {
                        self.replace(seat, now);
                    }
                }
            }
            PutEvent::Told { from, holds } => {
                if let Some(seat) = self.leave(&from, Round::Asking) {
                    if let Some(version) = holds.filter(|_| !self.restamping) {
                        self.told = self.told.clone().max(version);
                    }
                    self.seats[seat].answered(from, Answer::Told);
                }
            }
            PutEvent::Failed { from, round, failure } => {
                if let Some(seat) = self.leave(&from, round) {
                    let stored = failure == Failure::Unknown && self.round != Round::Asking;
                    self.perhaps_held |= stored;
                    self.seats[seat].failed(&from);
                    if planted!(HintDroppedWithFallback) && from != self.seats[seat].replica {
                        self.seats[seat].keep_asked();
                        self.seats[seat].keep_ended(false);
                    }
                    self.replace(seat, now);
                }
            }
            PutEvent::Restamped { version } => self.start_next_round(version, now),
            PutEvent::RestampFailed => {
                self.clock_stuck |= self.restamping;
                self.restamping = false;
            }
            PutEvent::HintKept { replica, round } => self.end_keeping(&replica, round, true),
            PutEvent::HintRefused { replica, round } => self.end_keeping(&replica, round, false),
            PutEvent::TimerFired => self.tick(now),
        }
        self.settle(now);
    }

    /// The next thing to do; `None` until another event has been handled.
    pub fn poll_action(&mut self) -> Option<PutAction<I, V>> {
        self.actions.pop_front()
    }

    /// Whether the client is answered and no event can matter any more: every replica has the
    /// write or a hint of it is held, or it is certain that no node holds the record. The driver
    /// may then carry out what [`poll_action`](Self::poll_action) still gives, and drop this.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.replied && (self.nobody_holds_it() || self.seats.iter().all(Seat::is_covered))
    }

    /// The replicas that have not said that they hold the write or something newer.
    fn lacking(&self) -> impl Iterator<Item = &I> {
        self.seats.iter().filter(|seat| !seat.is_held()).map(|seat| &seat.replica)
    }

    /// Whether it is certain that no node has stored the record, or will.
    fn nobody_holds_it(&self) -> bool {
        let may_be_stored = self.perhaps_held || !self.waiting.is_empty();
        self.round == Round::Asking || !may_be_stored
    }

    /// The version of the round that the write is in.
    pub const fn version(&self) -> &V {
        &self.version
    }

    fn ask(&mut self, node: I, seat: usize, now: Instant) {
        let place = &mut self.seats[seat];
        let hint_for = (node != place.replica).then(|| place.replica.clone());
        place.asked(node.clone());
        let late_at = Some(now + self.patience);
        self.waiting.push(Waiting { node: node.clone(), seat, late_at });
        self.actions.push_back(PutAction::Send { to: node, hint_for, round: self.round });
    }

    fn leave(&mut self, from: &I, round: Round) -> Option<usize> {
        let late = round != self.round;
        if late && !(self.round > Round::First && planted!(OldRoundCounts)) {
            return None;
        }
        let place = self.waiting.iter().position(|waiting| waiting.node == *from)?;
        Some(self.waiting.remove(place).seat)
    }

    /// Finds a stand-in for a seat in which somebody failed or is late, unless one is on the way.
    fn replace(&mut self, seat: usize, now: Instant) {
        let in_time =
            self.waiting.iter().any(|waiting| waiting.seat == seat && waiting.late_at.is_some());
        // While an atomic write awaits its version, nobody may be given another.
        let is_unversioned = self.atomic && (self.round == Round::Asking || self.restamping);
        if !in_time && !self.seats[seat].is_covered() && !is_unversioned {
            self.ask_stand_in(seat, now);
        }
    }

    /// Asks the next fallback for a seat or, if none is left, the replica unless it was.
    fn ask_stand_in(&mut self, seat: usize, now: Instant) {
        if let Some(fallback) = self.fallbacks.pop_front() {
            self.ask(fallback, seat, now);
        } else if !self.seats[seat].replica_asked {
            self.ask(self.seats[seat].replica.clone(), seat, now);
        }
    }

    fn start_next_round(&mut self, version: V, now: Instant) {
        if !self.restamping {
            return;
        }
        let Some(next) = self.round.next() else { return };
        assert!(version > self.told, "the new version is not above what the write was told of");
        // Nobody will listen for the answers that are still out.
        self.perhaps_held = !self.nobody_holds_it();
        self.restamping = false;
        self.version = version;
        self.round = next;
        self.waiting.clear();
        for seat in 0..self.seats.len() {
            let members = self.seats[seat].restart();
            if members.is_empty() {
                self.ask_stand_in(seat, now);
            }
            for node in members {
                self.ask(node, seat, now);
            }
        }
    }

    fn end_keeping(&mut self, replica: &I, round: Round, kept: bool) {
        if round == self.round {
            for seat in self.seats.iter_mut().filter(|seat| seat.replica == *replica) {
                seat.keep_ended(kept);
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        self.armed = None; // perhaps fired early: spent all the same
        if now >= self.deadline && !self.replied {
            let (needed, acked, outcome) = self.shortfall();
            self.reply(Err(PutError::TimedOut { needed, acked, outcome }));
        }
        if now >= self.end {
            self.perhaps_held = !self.nobody_holds_it();
            self.waiting.clear();
            return;
        }
        let mut late = BTreeSet::new();
        for waiting in &mut self.waiting {
            if waiting.late_at.is_some_and(|at| at <= now) {
                waiting.late_at = None;
                late.insert(waiting.seat);
            }
        }
        for seat in late {
            self.replace(seat, now);
        }
    }

    fn settle(&mut self, now: Instant) {
        self.decide(now);
        self.keep_hints();
        self.arm();
    }

    /// Replies, or begins the second round, as soon as no further answer can change that.
    fn decide(&mut self, now: Instant) {
        if self.replied || self.restamping {
            return;
        }
        let (needed, acked, answered) = (self.quorum.w(), self.acks().count(), self.answered());
        let acked = if planted!(AckCountedTwice) { acked + acked.min(1) } else { acked };
        if acked >= needed {
            self.reply(Ok(self.receipt()));
        } else if answered >= needed && self.may_restamp() {
            self.restamping = true;
            let replicas = self.seats.iter().filter(|seat| seat.counted(false).is_some());
            self.floor_met |= replicas.count() >= needed;
            self.actions.push_back(PutAction::Restamp { above: self.told.clone() });
        } else {
            // Without a second round only those count that have stored the record.
            let hopeful = if self.is_last_round() { acked } else { answered } + self.pending();
            if hopeful < needed {
                self.ask_skipped(needed - hopeful, now);
            }
        }
    }

    /// Asks the replicas skipped so far, unless fewer than `missing` of them are left.
    fn ask_skipped(&mut self, missing: usize, now: Instant) {
        let skipped = self.skipped();
        let stand_ins = self.uncounted();
        if skipped.len() + stand_ins.len() < missing {
            let (needed, acked, outcome) = self.shortfall();
            return self.reply(Err(if self.clock_stuck {
                PutError::ClockTooFar { needed, acked, outcome }
            } else {
                PutError::TooFewReplicas { needed, acked, outcome }
            }));
        }
        let still_missing = missing.saturating_sub(skipped.len());
        for seat in skipped {
            self.ask(self.seats[seat].replica.clone(), seat, now);
        }
        for seat in stand_ins.into_iter().take(still_missing) {
            if let Some(fallback) = self.fallbacks.pop_front() {
                self.ask(fallback, seat, now);
            }
        }
    }

    /// Whether another round can begin on what has been answered so far.
    fn may_restamp(&self) -> bool {
        !self.is_last_round() && (!self.has_one_version() || self.nobody_holds_it())
    }

    /// Whether no answer can bring about another round.
    fn is_last_round(&self) -> bool {
        let is_settled = self.has_one_version() && self.perhaps_held;
        self.clock_stuck || self.round.next().is_none() || is_settled
    }

    fn has_one_version(&self) -> bool {
        self.atomic && !planted!(AtomicHasManyVersions)
    }

    /// Seats whose replica has the record but does not count, and for which a fallback can be asked that does.
    fn uncounted(&self) -> Vec<usize> {
        let fallbacks = if self.quorum.sloppy() && self.round != Round::Asking {
            self.fallbacks.len()
        } else {
            0
        };
        let awaited = |index| self.waiting.iter().any(|waiting| waiting.seat == index);
        let seats = self.seats.iter().enumerate();
        let open = seats.filter(|&(i, seat)| seat.lacks_stand_in() && !awaited(i));
        open.map(|(i, _)| i).take(fallbacks).collect()
    }

    /// Keeps hints for replicas that nobody else can be asked for, once some node may hold the
    /// record. Until then the write may yet turn out rejected, and a hint would make that a lie.
    /// While a new version is awaited, a hint of the old one would be kept for nothing.
    fn keep_hints(&mut self) {
        if !self.perhaps_held || self.restamping || (self.replied && planted!(NoHintOnceAcked)) {
            return;
        }
        for (index, seat) in self.seats.iter_mut().enumerate() {
            let is_awaited = || self.waiting.iter().any(|waiting| waiting.seat == index);
            if seat.needs_keeping(self.replied) && !is_awaited() {
                seat.keep_asked();
                let replica = seat.replica.clone();
                self.actions.push_back(PutAction::KeepHint { replica, round: self.round });
            }
        }
    }

    fn arm(&mut self) {
        if self.is_done() {
            return;
        }
        let replaceable = |waiting: &&Waiting<I>| {
            let seat = &self.seats[waiting.seat];
            !seat.is_covered() && (!self.fallbacks.is_empty() || !seat.replica_asked)
        };
        let late = self.waiting.iter().filter(replaceable).filter_map(|w| w.late_at).min();
        let deadline = (!self.replied).then_some(self.deadline);
        let end = (!self.waiting.is_empty()).then_some(self.end);
        let next = [late, deadline, end].into_iter().flatten().min();
        // A timer that is set too early only costs a look when it fires.
        if let Some(at) = next.filter(|next| self.armed.is_none_or(|armed| *next < armed)) {
            self.armed = Some(at);
            self.actions.push_back(PutAction::SetTimer { at });
        }
    }

    fn acks(&self) -> impl Iterator<Item = &I> {
        let sloppy = self.quorum.sloppy();
        let any = match self.round {
            Round::Asking => false,
            Round::First => planted!(NoSecondRound),
            Round::Second | Round::Third | Round::Fourth => true,
        };
        let counts = move |answer| match answer {
            Answer::Stored => true,
            Answer::Superseded | Answer::Told => any,
            Answer::Below => any && planted!(BelowIsAnAck),
            Answer::Uncounted => false,
        };
        let counted = self.seats.iter().filter_map(move |seat| seat.counted(sloppy));
        counted.filter(move |&(_, answer)| counts(answer)).map(|(node, _)| node)
    }

    fn answered(&self) -> usize {
        self.seats.iter().filter(|seat| seat.counted(self.quorum.sloppy()).is_some()).count()
    }

    /// How many seats have no answer that counts, but somebody who may give one.
    fn pending(&self) -> usize {
        let sloppy = self.quorum.sloppy();
        let is_pending = |(index, seat): &(usize, &Seat<I>)| {
            let mut awaited = self.waiting.iter().filter(|waiting| waiting.seat == *index);
            seat.counted(sloppy).is_none()
                && awaited.any(|waiting| sloppy || waiting.node == seat.replica)
        };
        self.seats.iter().enumerate().filter(is_pending).count()
    }

    /// Seats that could count more if their replica were asked, which it has not been so far.
    fn skipped(&self) -> Vec<usize> {
        let sloppy = self.quorum.sloppy();
        let open = |seat: &Seat<I>| !seat.replica_asked && seat.counted(sloppy).is_none();
        let pending = |index| sloppy && self.waiting.iter().any(|waiting| waiting.seat == index);
        let seats = self.seats.iter().enumerate();
        seats.filter(|&(i, seat)| open(seat) && !pending(i)).map(|(i, _)| i).collect()
    }

    fn shortfall(&self) -> (usize, usize, Outcome) {
        let acked = self.acks().count();
        let rejected = self.nobody_holds_it() || (acked == 0 && planted!(NoAckIsRejected));
        let outcome = if rejected { Outcome::Rejected } else { Outcome::Indeterminate };
        (self.quorum.w(), acked, outcome)
    }

    fn receipt(&self) -> PutReceipt<I, V> {
        let acks: Vec<I> = self.acks().cloned().collect();
        let hint = |seat: &Seat<I>| Some((seat.replica.clone(), seat.holder()?));
        let by_fallback = acks.iter().any(|node| self.seats.iter().all(|it| it.replica != *node));
        // Whoever supersedes a version that fallbacks let pass may have done so before the write.
        let mut counted = self.seats.iter().filter_map(|it| it.counted(self.quorum.sloppy()));
        let superseded =
            counted.any(|(_, answer)| answer == Answer::Superseded) && self.round > Round::First;
        PutReceipt {
            version: self.version.clone(),
            w: self.quorum.w(),
            n: self.quorum.n(),
            hinted: self.seats.iter().filter_map(hint).collect(),
            sloppy: by_fallback || (superseded && !self.floor_met),
            acks,
            lacking: self.lacking().cloned().collect(),
            round: self.round,
        }
    }

    fn reply(&mut self, result: Result<PutReceipt<I, V>, PutError>) {
        assert!(!self.replied, "a client is answered once");
        self.replied = true;
        self.restamping = false;
        self.actions.push_back(PutAction::Reply(result));
    }
}
