//! All hints of one node.

mod sweep;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use quorate_record::{
    Hint, HintKind, HintSummary, HintsFound, HintsHeld, Key, NodeId, Record, Timestamp, Version,
};

use self::sweep::Sweep;
use crate::handoff::{GENTLE_WINDOW, Handoff, MAX_BATCH_BYTES, MAX_WINDOW};
use crate::pair::{Held, Pair};
use crate::{Handed, HintAction, HintOptions, HintStats, Offer, Refusal, TargetStats};

/// The most owed offers that wait until courtesies have made room.
const MAX_ROOMLESS: usize = 1024;

/// Decides what is kept for whom, when it is delivered and when it is given up.
///
/// For each target and key the greatest record offered is held. A pair is *owed* as soon as one of
/// the hints offered for it was, and stays so until a record that covers it has been delivered: an
/// acknowledgement given for an owed hint would otherwise rest on a courtesy that took its place.
///
/// The hints themselves are in the durable queue alone. The book knows how many there are and what
/// they take, and of each pair that something is going on with, what is held; so a million hints
/// take no more memory here than a few.
///
/// Targets are independent of each other; one that is dead or refuses delays no other.
#[derive(Clone, Debug)]
pub struct HintBook {
    options: HintOptions,
    targets: BTreeMap<NodeId, Target>,
    looking_up: BTreeMap<u64, (NodeId, Key)>,
    persisting: BTreeMap<u64, (NodeId, Key)>,
    roomless: VecDeque<Roomless>,
    sweep: Sweep,
    oldest: Oldest,
    /// Pairs that changed since the durable queue was asked for hints: what it answers of them may
    /// be out of date.
    changed: BTreeSet<(NodeId, Key)>,
    pause: Duration, // after each batch
    next_id: u64,    // of requests, batches and offers alike
    clock: Option<(Instant, u64)>,
    totals: HintStats,
    actions: VecDeque<HintAction>,
}

#[derive(Clone, Debug)]
struct Target {
    pairs: BTreeMap<Key, Pair>,
    count: u64,
    bytes: u64,
    oldest_added_ms: u64, // at the latest, and only while there are any
    handoff: Handoff,
}

/// An owed offer that waits until courtesies have made room.
#[derive(Clone, Debug)]
struct Roomless {
    offer: u64,
    target: NodeId,
    key: Key,
    held: Held,
    bytes: u64, // that it needs
}

/// What is known of the least version in the durable queue: none there is less.
///
/// What the queue says is as of when it was asked; what became durable since then comes on top.
#[derive(Clone, Debug, Default)]
struct Oldest {
    version: Option<Timestamp>,
    since_asked: Option<Timestamp>,
    asked: usize, // and not answered
}

impl HintBook {
    /// A book without hints; no target is up.
    #[must_use]
    pub fn new(options: HintOptions) -> Self {
        Self {
            options,
            targets: BTreeMap::new(),
            looking_up: BTreeMap::new(),
            persisting: BTreeMap::new(),
            roomless: VecDeque::new(),
            sweep: Sweep::default(),
            oldest: Oldest::default(),
            changed: BTreeSet::new(),
            pause: Duration::ZERO,
            next_id: 0,
            clock: None,
            totals: HintStats::default(),
            actions: VecDeque::new(),
        }
    }

    /// Takes over what the durable queue held at start. It is not bound by the limit on space, as it
    /// is there already; but courtesies above the limit are dropped. `wall_ms` is the time in
    /// milliseconds since the Unix epoch.
    pub fn restore(&mut self, held: &HintSummary, now: Instant, wall_ms: u64) {
        self.clock = Some((now, wall_ms));
        self.oldest.add(held.oldest_version);
        for (&target, &HintsHeld { count, bytes, oldest_added_ms }) in &held.targets {
            let known = self.target(target);
            known.count += count;
            known.bytes += bytes;
            known.oldest_added_ms = known.oldest_added_ms.min(oldest_added_ms);
            self.totals.count += count;
            self.totals.bytes += bytes;
        }
        if let Some(from_ms) = held.courtesies_from_ms {
            self.courtesy_came(from_ms);
            self.sweep.shrinks = self.used_bytes() > self.options.max_bytes;
            self.make_room();
        }
    }

    /// Offers a hint; its `added_ms` is the time now. Ends in [`HintAction::Answer`] with the number
    /// that is returned.
    ///
    /// An owed hint that does not fit takes the place of the oldest courtesies; a courtesy that does
    /// not fit is refused.
    pub fn offer(&mut self, hint: Hint, now: Instant) -> u64 {
        self.clock = Some((now, hint.added_ms));
        let offer = self.take_id();
        let held = Held::from(&hint);
        let Hint { target, key, .. } = hint;
        let known = self.target(target);
        let is_new = !known.pairs.contains_key(&key);
        let pair = known.pairs.entry(key.clone()).or_insert_with(Pair::unknown);
        match &mut pair.asking {
            Some(asking) => asking.push((offer, held)),
            None => self.decide(offer, target, &key, held),
        }
        if is_new {
            let id = self.take_id();
            self.looking_up.insert(id, (target, key.clone()));
            self.actions.push_back(HintAction::LookUp { id, target, key });
        }
        self.make_room();
        offer
    }

    /// The durable queue holds this for what [`HintAction::LookUp`] number `id` asked for; `Err` if
    /// that cannot be read.
    pub fn looked_up(&mut self, id: u64, held: Result<Option<Hint>, ()>) {
        let Some((target, key)) = self.looking_up.remove(&id) else { return };
        let known = self.target(target);
        let Some(pair) = known.pairs.get_mut(&key) else { return };
        let offers = pair.asking.take().unwrap_or_default();
        match held {
            Ok(hint) => {
                *pair = Pair::holding(hint.as_ref().map(Held::from));
                pair.roomless += 1; // keeps it until all are decided
                for (offer, held) in offers {
                    self.decide(offer, target, &key, held);
                }
                self.change(target, &key, |pair| pair.roomless -= 1);
            }
            Err(()) => {
                known.pairs.remove(&key);
                for (offer, _) in offers {
                    self.refuse(offer, Refusal::Unreadable);
                }
            }
        }
        self.make_room();
    }

    /// The durable queue has done [`HintAction::Persist`] number `id`, or failed to.
    pub fn persisted(&mut self, id: u64, durable: bool, now: Instant) {
        let Some((target, key)) = self.persisting.remove(&id) else { return };
        if let Some(held) = self.change(target, &key, |pair| pair.end(id, durable))
            && durable
        {
            self.changes(target, &key);
            self.oldest.add(Some(held.record.version.timestamp));
            let known = self.target(target);
            known.oldest_added_ms = known.oldest_added_ms.min(held.added_ms);
            if held.kind == HintKind::Courtesy || planted!(OwedHintDropped) {
                self.courtesy_came(held.added_ms);
            }
        }
        self.make_room();
        self.deliver(target, now);
    }

    /// `target` can be reached: what is held for it is delivered.
    pub fn target_up(&mut self, target: NodeId, now: Instant) {
        self.target(target).handoff.up();
        self.deliver(target, now);
    }

    /// `target` cannot be reached. An answer to a batch on its way to it counts no longer.
    pub fn target_down(&mut self, target: NodeId) {
        let sent = self.target(target).handoff.down();
        self.came_back(target, &sent);
    }

    /// How long each delivery to a target leaves the time to what is more urgent, after each batch and until this is
    /// said again; batches have no more than [`GENTLE_WINDOW`](crate::GENTLE_WINDOW) records meanwhile. No time at first.
    pub fn set_pause(&mut self, pause: Duration) {
        self.pause = pause;
    }

    /// The durable queue has read what [`HintAction::Read`] number `batch` asked for, or could not.
    pub fn read(&mut self, batch: u64, found: Option<HintsFound>, now: Instant) {
        self.learn(found.as_ref());
        let Some((target, known)) = reading(&mut self.targets, batch) else { return };
        let Some(HintsFound { hints, last, .. }) = found else {
            known.handoff.end();
            let error = "the hints cannot be read".to_owned();
            return known.handoff.failed(target, error, false, now);
        };
        let mut records = Vec::with_capacity(hints.len());
        for hint in hints {
            if self.changed.contains(&(target, hint.key.clone())) {
                continue; // it has its turn later
            }
            let pair = known.pairs.entry(hint.key.clone());
            let pair = pair.or_insert_with(|| Pair::holding(Some(Held::from(&hint))));
            // What the book knows is newer than what was read. Of a pair that is being looked up it
            // knows nothing yet; that has its turn later.
            if let Some(held) = pair.durable() {
                records.push((hint.key, held.record.clone()));
                pair.delivering = true;
            }
        }
        if records.is_empty() {
            known.handoff.end();
            return known.handoff.postpone(now);
        }
        known.handoff.begin(batch, records.clone(), last);
        if planted!(HintForgottenEarly) {
            records.iter().for_each(|(key, record)| self.taken(target, key, record));
        }
        self.actions.push_back(HintAction::Deliver { target, batch, hints: records });
    }

    /// There is something more urgent to do than reading for `batch`: it is tried again soon.
    pub fn postponed(&mut self, batch: u64, now: Instant) {
        self.learn(None);
        if let Some((_, known)) = reading(&mut self.targets, batch) {
            known.handoff.end();
            known.handoff.postpone(now);
        }
    }

    /// The target of `batch` answered: one outcome per record, in their order. An answer to any batch
    /// but the present one of a target changes nothing.
    pub fn delivered(&mut self, batch: u64, outcomes: &[Handed], now: Instant) {
        let pause = self.pause;
        let Some((target, known)) = self.delivering(batch) else { return };
        let sent = known.handoff.end();
        if outcomes.len() != sent.len() {
            let error = format!("answered {} of {} records", outcomes.len(), sent.len());
            known.handoff.failed(target, error, false, now);
            return self.came_back(target, &sent);
        }
        let refused = outcomes.iter().filter(|&&outcome| outcome == Handed::Refused).count();
        if refused == 0 {
            known.handoff.succeeded(pause, now);
        } else {
            let error = format!("refused {refused} of {} records", sent.len());
            known.handoff.failed(target, error, refused < sent.len(), now);
        }
        for ((key, record), outcome) in sent.iter().zip(outcomes) {
            match outcome {
                Handed::Refused => {}
                Handed::Taken | Handed::Dead if buggify!(HintTwice) => {}
                Handed::Taken => {
                    self.totals.delivered += 1;
                    self.taken(target, key, record);
                }
                Handed::Dead => {
                    self.totals.dead += 1;
                    self.taken(target, key, record);
                }
            }
        }
        self.came_back(target, &sent);
        self.make_room();
        self.deliver(target, now);
    }

    /// The target of `batch` has more urgent things to do, or so the reason says: it is tried again
    /// soon, with fewer records.
    pub fn target_busy(&mut self, batch: u64, error: impl Into<String>, now: Instant) {
        let Some((target, known)) = self.delivering(batch) else { return };
        let sent = known.handoff.end();
        known.handoff.yields(error.into(), now);
        self.came_back(target, &sent);
    }

    /// `batch` was not answered, for the reason given.
    pub fn delivery_failed(&mut self, batch: u64, error: impl Into<String>, now: Instant) {
        let Some((target, known)) = self.delivering(batch) else { return };
        let sent = known.handoff.end();
        known.handoff.failed(target, error.into(), false, now);
        self.came_back(target, &sent);
    }

    /// Time has passed: drops courtesies that are too old, and delivers after pauses that are over.
    /// `wall_ms` is the time in milliseconds since the Unix epoch. To be called at
    /// [`next_wake`](Self::next_wake); oftener is harmless.
    pub fn tick(&mut self, now: Instant, wall_ms: u64) {
        self.clock = Some((now, wall_ms));
        self.expire(now, wall_ms);
        let due: Vec<NodeId> = self
            .targets
            .iter()
            .filter(|(_, known)| known.handoff.may_begin(now))
            .map(|(&target, _)| target)
            .collect();
        for target in due {
            self.deliver(target, now);
        }
    }

    /// When to [`tick`](Self::tick) next; may lie in the past. `None` while nothing changes by time.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let retry = self.targets.values().filter_map(|known| known.handoff.next_wake()).min();
        [retry, self.sweep.next_wake()].into_iter().flatten().min()
    }

    /// The next thing to do; `None` until something else has happened.
    pub fn poll_action(&mut self) -> Option<HintAction> {
        self.actions.pop_front()
    }

    /// What hints take up, those included that are on their way to the durable queue. Above
    /// [`HintOptions::max_bytes`] only as long as what was [restored](Self::restore) is.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.totals.bytes + self.totals.pending_bytes
    }

    /// No hint that is held, on its way to the durable queue or offered has a version with a lesser
    /// timestamp; it may be that none has so little a one. `None` if there are no hints.
    #[must_use]
    pub fn oldest_version(&self) -> Option<Timestamp> {
        let queued = self.oldest.version.filter(|_| self.totals.count > 0);
        let pairs = self.targets.values().flat_map(|known| known.pairs.values());
        let active = pairs.flat_map(Pair::all).map(|held| held.record.version.timestamp);
        let roomless = self.roomless.iter().map(|waiting| waiting.held.record.version.timestamp);
        active.chain(roomless).chain(queued).min()
    }

    /// What is held and was done. `wall_ms` is the time in milliseconds since the Unix epoch.
    #[must_use]
    pub fn stats(&self, wall_ms: u64) -> HintStats {
        let oldest_age_ms = self.targets.values().map(|known| known.oldest_age_ms(wall_ms)).max();
        HintStats { oldest_age_ms: oldest_age_ms.unwrap_or(0), ..self.totals }
    }

    /// Each target that was ever told of or has hints, in the order of their ids.
    pub fn targets(&self, wall_ms: u64) -> impl Iterator<Item = TargetStats> + '_ {
        self.targets.iter().map(move |(&target, known)| TargetStats {
            target,
            count: known.count,
            bytes: known.bytes,
            oldest_age_ms: known.oldest_age_ms(wall_ms),
            state: known.handoff.state(),
            window: known.handoff.window(),
            last_error: known.handoff.last_error().map(str::to_owned),
        })
    }

    /// Answers an offer for a pair of which it is known what is held, or lets it wait for room.
    fn decide(&mut self, offer: u64, target: NodeId, key: &Key, held: Held) {
        let known = self.targets.get(&target).and_then(|known| known.pairs.get(key));
        let Some(pair) = known else { return };
        if let Some(answer) = pair.answer(&held) {
            return self.actions.push_back(HintAction::Answer { offer, answer });
        }
        if held.kind == HintKind::Courtesy && self.options.ttl.is_zero() {
            return self.refuse(offer, Refusal::SwitchedOff);
        }
        let joined = pair.joined(held.clone());
        if !self.has_room(joined.bytes) {
            let may_wait = held.kind == HintKind::Owed && self.roomless.len() < MAX_ROOMLESS;
            if !may_wait || !self.sweep.may_find() {
                return self.refuse(offer, Refusal::Full);
            }
            self.change(target, key, |pair| pair.roomless += 1);
            let (key, bytes) = (key.clone(), joined.bytes);
            return self.roomless.push_back(Roomless { offer, target, key, held, bytes });
        }
        if buggify!(RefuseHint) {
            return self.refuse(offer, Refusal::Full);
        }
        let id = self.take_id();
        let by = joined.record.version;
        let superseded = joined.record > held.record;
        let hint = joined.to_hint(target, key);
        self.change(target, key, |pair| pair.begin(id, joined));
        self.persisting.insert(id, (target, key.clone()));
        self.actions.push_back(HintAction::Persist { id, hint });
        let answer =
            if superseded { Offer::Superseded { by, after: Some(id) } } else { Offer::Keep { id } };
        self.actions.push_back(HintAction::Answer { offer, answer });
    }

    fn refuse(&mut self, offer: u64, why: Refusal) {
        self.totals.refused += 1;
        self.actions.push_back(HintAction::Answer { offer, answer: Offer::Refused(why) });
    }

    /// The target has this record, or wants it no more.
    fn taken(&mut self, target: NodeId, key: &Key, record: &Record) {
        let version = self.change(target, key, |pair| pair.taken(record));
        if let Some(version) = version {
            self.forget(target, key, version);
        }
    }

    fn forget(&mut self, target: NodeId, key: &Key, version: Version) {
        self.changes(target, key);
        self.actions.push_back(HintAction::Forget { target, key: key.clone(), version });
    }

    /// What the durable queue holds of a pair changes.
    fn changes(&mut self, target: NodeId, key: &Key) {
        if self.oldest.asked > 0 {
            self.changed.insert((target, key.clone()));
        }
    }

    /// A batch is no longer on its way.
    fn came_back(&mut self, target: NodeId, sent: &[(Key, Record)]) {
        for (key, _) in sent {
            self.change(target, key, |pair| pair.delivering = false);
        }
    }

    /// Has a batch read for `target` if there is something for it and the time has come.
    fn deliver(&mut self, target: NodeId, now: Instant) {
        let Some(known) = self.targets.get_mut(&target) else { return };
        if !known.handoff.may_begin(now) {
            return;
        }
        if known.count == 0 {
            known.handoff.end(); // a pause that is over, with nothing left to deliver
            return;
        }
        self.ask();
        let (batch, is_gentle) = (self.take_id(), !self.pause.is_zero());
        let handoff = &mut self.target(target).handoff;
        handoff.begin_reading(batch, if is_gentle { GENTLE_WINDOW } else { MAX_WINDOW });
        let max_hints = if buggify!(OneHintABatch) { 1 } else { handoff.window() };
        let after = handoff.last_place();
        let max_bytes = MAX_BATCH_BYTES;
        self.actions.push_back(HintAction::Read { target, batch, after, max_hints, max_bytes });
    }

    fn delivering(&mut self, batch: u64) -> Option<(NodeId, &mut Target)> {
        let mut targets = self.targets.iter_mut();
        targets
            .find(|(_, known)| known.handoff.is_delivering(batch))
            .map(|(&target, known)| (target, known))
    }

    /// The durable queue is about to be asked for hints.
    fn ask(&mut self) {
        if self.oldest.asked == 0 {
            self.changed.clear();
        }
        self.oldest.ask();
    }

    /// Takes in what the durable queue says of itself.
    fn learn(&mut self, found: Option<&HintsFound>) {
        self.oldest.answered(found.map(|found| found.held.oldest_version));
        let Some(found) = found else { return };
        for (target, bytes) in &found.lost {
            self.count_out(*target, *bytes);
            self.totals.damaged += 1;
        }
        for (target, held) in &found.held.targets {
            if let Some(known) = self.targets.get_mut(target) {
                known.oldest_added_ms = held.oldest_added_ms;
            }
        }
    }

    /// A hint that the book has no pair for is gone from the durable queue.
    fn count_out(&mut self, target: NodeId, bytes: u64) {
        let known = self.target(target);
        known.count = known.count.saturating_sub(1);
        known.bytes = known.bytes.saturating_sub(bytes);
        self.totals.count = self.totals.count.saturating_sub(1);
        self.totals.bytes = self.totals.bytes.saturating_sub(bytes);
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.used_bytes().saturating_add(bytes) <= self.options.max_bytes
    }

    /// Changes a pair that is known, keeps everything that is derived from the pairs in step with it,
    /// and forgets it if nothing is going on with it any more.
    fn change<T: Default>(
        &mut self,
        target: NodeId,
        key: &Key,
        change: impl FnOnce(&mut Pair) -> T,
    ) -> T {
        let Some(known) = self.targets.get_mut(&target) else { return T::default() };
        let Some(pair) = known.pairs.get_mut(key) else { return T::default() };
        self.totals.pending_bytes -= pair.pending_bytes();
        let (count, bytes) = (u64::from(pair.durable().is_some()), pair.durable_bytes());
        let changed = change(pair);
        let (new_count, new_bytes) = (u64::from(pair.durable().is_some()), pair.durable_bytes());
        self.totals.pending_bytes += pair.pending_bytes();
        if pair.is_idle() {
            known.pairs.remove(key);
        }
        // A damaged hint may have been counted out although the book still knew it.
        let step = |now: u64, before: u64, after: u64| (now + after).saturating_sub(before);
        self.totals.count = step(self.totals.count, count, new_count);
        self.totals.bytes = step(self.totals.bytes, bytes, new_bytes);
        known.count = step(known.count, count, new_count);
        known.bytes = step(known.bytes, bytes, new_bytes);
        if known.count == 0 {
            known.oldest_added_ms = u64::MAX;
        }
        changed
    }

    fn target(&mut self, target: NodeId) -> &mut Target {
        self.targets.entry(target).or_insert_with(|| Target {
            pairs: BTreeMap::new(),
            count: 0,
            bytes: 0,
            oldest_added_ms: u64::MAX,
            handoff: Handoff::new(),
        })
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

impl Target {
    fn oldest_age_ms(&self, wall_ms: u64) -> u64 {
        if self.count == 0 { 0 } else { wall_ms.saturating_sub(self.oldest_added_ms) }
    }
}

impl Oldest {
    /// Something is, or has become, durable.
    fn add(&mut self, version: Option<Timestamp>) {
        self.version = least(self.version, version);
        self.since_asked = least(self.since_asked, version);
    }

    /// The queue is about to be asked.
    fn ask(&mut self) {
        if self.asked == 0 {
            self.since_asked = None;
        }
        self.asked += 1;
    }

    /// The queue has answered, or will not.
    fn answered(&mut self, version: Option<Option<Timestamp>>) {
        self.asked = self.asked.saturating_sub(1);
        if let Some(version) = version {
            self.version = least(version, self.since_asked);
        }
    }
}

/// The target that `batch` is being read for. Of the targets alone, so that the rest of the book can be used meanwhile.
fn reading(targets: &mut BTreeMap<NodeId, Target>, batch: u64) -> Option<(NodeId, &mut Target)> {
    let mut targets = targets.iter_mut();
    let reading = targets.find(|(_, known)| known.handoff.is_reading(batch));
    reading.map(|(&target, known)| (target, known))
}

fn least(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    [one, other].into_iter().flatten().min()
}
