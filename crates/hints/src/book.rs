//! All hints of one node.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::time::{Duration, Instant};

use quorate_record::{Hint, HintKind, Key, NodeId, Record, Timestamp};

use crate::handoff::{Handoff, MAX_BATCH_BYTES};
use crate::pair::{Held, Pair};
use crate::{DropReason, Handed, HintAction, HintOptions, HintStats, Offer, Refusal, TargetStats};

/// Decides what is kept for whom, when it is delivered and when it is given up.
///
/// For each target and key it holds the greatest record offered. A pair is *owed* as soon as one of
/// the hints offered for it was, and stays so until a record that covers it has been delivered: an
/// acknowledgement given for an owed hint would otherwise rest on a courtesy that took its place.
///
/// Targets are independent of each other; one that is dead or refuses delays no other.
#[derive(Clone, Debug)]
pub struct HintBook {
    options: HintOptions,
    targets: BTreeMap<NodeId, Target>,
    droppable: BTreeSet<(u64, NodeId, Key)>, // durable courtesies, oldest first
    persisting: BTreeMap<u64, (NodeId, Key)>,
    next_id: u64, // of requests and batches alike
    clock: Option<(Instant, u64)>,
    totals: HintStats,
    actions: VecDeque<HintAction>,
}

#[derive(Clone, Debug)]
struct Target {
    hints: BTreeMap<Key, Pair>,
    count: u64,
    bytes: u64,
    handoff: Handoff,
}

impl HintBook {
    /// A book without hints; no target is up.
    #[must_use]
    pub fn new(options: HintOptions) -> Self {
        Self {
            options,
            targets: BTreeMap::new(),
            droppable: BTreeSet::new(),
            persisting: BTreeMap::new(),
            next_id: 0,
            clock: None,
            totals: HintStats::default(),
            actions: VecDeque::new(),
        }
    }

    /// Takes over what the durable queue held at start. It is not bound by the limit on space, as it
    /// is there already; but courtesies above the limit are dropped. `wall_ms` is the time in
    /// milliseconds since the Unix epoch.
    pub fn restore(&mut self, hints: Vec<Hint>, now: Instant, wall_ms: u64) {
        self.clock = Some((now, wall_ms));
        for hint in hints {
            let held = Held::from(&hint);
            self.change(hint.target, &hint.key, |pair| pair.restore(held));
        }
        while self.used_bytes() > self.options.max_bytes {
            let Some((_, target, key)) = self.droppable.first().cloned() else { break };
            self.give_up(target, &key, DropReason::NoSpace);
        }
    }

    /// Offers a hint; its `added_ms` is the time now. See [`Offer`] for when it may be answered.
    ///
    /// An owed hint that does not fit takes the place of the oldest courtesies; a courtesy that does
    /// not fit is refused.
    pub fn offer(&mut self, hint: Hint, now: Instant) -> Offer {
        self.clock = Some((now, hint.added_ms));
        let offered = Held::from(&hint);
        let Hint { target, key, .. } = hint;
        let pair = self.targets.get(&target).and_then(|known| known.hints.get(&key));
        if let Some(answer) = pair.and_then(|pair| pair.answer(&offered)) {
            return answer;
        }
        if offered.kind == HintKind::Courtesy && self.options.ttl.is_zero() {
            return self.refuse(Refusal::SwitchedOff);
        }
        let (kind, record) = (offered.kind, offered.record.clone());
        let joined = match pair {
            Some(pair) => pair.joined(offered),
            None => offered,
        };
        let room = match kind {
            HintKind::Owed => self.make_room(joined.bytes, target, &key),
            HintKind::Courtesy => self.has_room(joined.bytes),
        };
        if !room || buggify!(RefuseHint) {
            return self.refuse(Refusal::Full);
        }
        let id = self.take_id();
        let hint = joined.to_hint(target, &key);
        self.actions.push_back(HintAction::Persist { id, hint });
        let by = joined.record.version;
        let superseded = joined.record > record;
        self.change(target, &key, |pair| pair.begin(id, joined));
        self.persisting.insert(id, (target, key));
        if superseded { Offer::Superseded { by, after: Some(id) } } else { Offer::Keep { id } }
    }

    /// The durable queue has done [`HintAction::Persist`] number `id`, or failed to.
    pub fn persisted(&mut self, id: u64, durable: bool, now: Instant) {
        let Some((target, key)) = self.persisting.remove(&id) else { return };
        self.change(target, &key, |pair| pair.end(id, durable));
        self.deliver(target, now);
    }

    /// `target` can be reached: what is held for it is delivered.
    pub fn target_up(&mut self, target: NodeId, now: Instant) {
        self.target(target).handoff.up();
        self.deliver(target, now);
    }

    /// `target` cannot be reached. An answer to a batch on its way to it counts no longer.
    pub fn target_down(&mut self, target: NodeId) {
        self.target(target).handoff.down();
    }

    /// The target of `batch` answered: one outcome per record, in their order. An answer to any batch
    /// but the present one of a target changes nothing.
    pub fn delivered(&mut self, batch: u64, outcomes: &[Handed], now: Instant) {
        let Some((target, known)) = self.delivering(batch) else { return };
        let sent = known.handoff.end();
        if outcomes.len() != sent.len() {
            let error = format!("answered {} of {} records", outcomes.len(), sent.len());
            known.handoff.failed(target, error, false, now);
            return;
        }
        let refused = outcomes.iter().filter(|&&outcome| outcome == Handed::Refused).count();
        if refused == 0 {
            known.handoff.succeeded();
        } else {
            let error = format!("refused {refused} of {} records", sent.len());
            known.handoff.failed(target, error, refused < sent.len(), now);
        }
        for ((key, record), outcome) in sent.into_iter().zip(outcomes) {
            if *outcome == Handed::Taken && !buggify!(HintTwice) {
                self.taken(target, key, &record);
            }
        }
        self.deliver(target, now);
    }

    /// `batch` was not answered, for the reason given.
    pub fn delivery_failed(&mut self, batch: u64, error: impl Into<String>, now: Instant) {
        let Some((target, known)) = self.delivering(batch) else { return };
        known.handoff.end();
        known.handoff.failed(target, error.into(), false, now);
    }

    /// Time has passed: drops courtesies that are too old, and delivers after pauses that are over.
    /// `wall_ms` is the time in milliseconds since the Unix epoch. To be called at
    /// [`next_wake`](Self::next_wake); oftener is harmless.
    pub fn tick(&mut self, now: Instant, wall_ms: u64) {
        self.clock = Some((now, wall_ms));
        while let Some((added_ms, target, key)) = self.droppable.first().cloned() {
            if self.expires_ms(added_ms) > wall_ms {
                break;
            }
            self.give_up(target, &key, DropReason::Expired);
        }
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
        let oldest = self.droppable.first();
        let expiry = oldest.zip(self.clock).and_then(|(&(added_ms, ..), (now, wall_ms))| {
            let left_ms = self.expires_ms(added_ms).saturating_sub(wall_ms);
            now.checked_add(Duration::from_millis(left_ms))
        });
        [retry, expiry].into_iter().flatten().min()
    }

    /// The next thing to do; `None` until something else has happened.
    pub fn poll_action(&mut self) -> Option<HintAction> {
        self.actions.pop_front()
    }

    /// The greatest durable record held for `key`, for whichever target.
    #[must_use]
    pub fn find(&self, key: &Key) -> Option<&Record> {
        let pairs = self.targets.values().filter_map(|known| known.hints.get(key));
        pairs.filter_map(Pair::durable).map(|held| &held.record).max()
    }

    /// All durable hints, by target, then key.
    pub fn iter(&self) -> impl Iterator<Item = Hint> + '_ {
        self.targets.iter().flat_map(|(&target, known)| {
            known
                .hints
                .iter()
                .filter_map(move |(key, pair)| pair.durable().map(|held| held.to_hint(target, key)))
        })
    }

    /// The least timestamp among all hints, those included that are not durable yet; `None` if there are none.
    #[must_use]
    pub fn oldest_version(&self) -> Option<Timestamp> {
        let pairs = self.targets.values().flat_map(|known| known.hints.values());
        pairs.flat_map(Pair::records).map(|record| record.version.timestamp).min()
    }

    /// What hints take up, those included that are on their way to the durable queue. Above
    /// [`HintOptions::max_bytes`] only as long as what was [restored](Self::restore) is.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.totals.bytes + self.totals.pending_bytes
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

    fn taken(&mut self, target: NodeId, key: Key, record: &Record) {
        self.totals.delivered += 1;
        let version = self.change(target, &key, |pair| pair.taken(record));
        if let Some(version) = version {
            self.actions.push_back(HintAction::Forget { target, key, version });
        }
    }

    fn give_up(&mut self, target: NodeId, key: &Key, why: DropReason) {
        let version = self.change(target, key, Pair::drop_durable);
        let version = version.expect("only durable hints are droppable");
        match why {
            DropReason::Expired => self.totals.expired += 1,
            DropReason::NoSpace => self.totals.evicted += 1,
        }
        let key = key.clone();
        self.actions.push_back(HintAction::Forget { target, key: key.clone(), version });
        self.actions.push_back(HintAction::Dropped { target, key, why });
    }

    fn refuse(&mut self, why: Refusal) -> Offer {
        self.totals.refused += 1;
        Offer::Refused(why)
    }

    /// Starts a batch to `target` if there is something for it and the time has come.
    fn deliver(&mut self, target: NodeId, now: Instant) {
        let Some(known) = self.targets.get_mut(&target) else { return };
        if !known.handoff.may_begin(now) {
            return;
        }
        let hints = known.next_batch();
        if hints.is_empty() {
            known.handoff.end(); // a pause that is over, with nothing left to deliver
            return;
        }
        let batch = self.take_id();
        self.target(target).handoff.begin(batch, hints.clone());
        if planted!(HintForgottenEarly) {
            hints.iter().for_each(|(key, record)| self.taken(target, key.clone(), record));
        }
        self.actions.push_back(HintAction::Deliver { target, batch, hints });
    }

    fn delivering(&mut self, batch: u64) -> Option<(NodeId, &mut Target)> {
        let mut targets = self.targets.iter_mut();
        targets
            .find(|(_, known)| known.handoff.is_delivering(batch))
            .map(|(&target, known)| (target, known))
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.used_bytes().saturating_add(bytes) <= self.options.max_bytes
    }

    /// Drops the oldest courtesies until there is room, but not the pair that the room is for, and
    /// none at all if that would not be enough.
    fn make_room(&mut self, bytes: u64, target: NodeId, key: &Key) -> bool {
        let excess = self.used_bytes().saturating_add(bytes).saturating_sub(self.options.max_bytes);
        let mut freed = 0;
        let mut dropped = Vec::new();
        for (_, other, held) in &self.droppable {
            if freed >= excess {
                break;
            }
            if (*other, held) != (target, key) {
                freed += self.targets[other].hints[held].durable_bytes();
                dropped.push((*other, held.clone()));
            }
        }
        if freed < excess {
            return false;
        }
        for (other, held) in dropped {
            self.give_up(other, &held, DropReason::NoSpace);
        }
        true
    }

    /// Changes one pair and keeps everything that is derived from the pairs in step with it.
    fn change<T>(&mut self, target: NodeId, key: &Key, change: impl FnOnce(&mut Pair) -> T) -> T {
        let mut pair = self.target(target).hints.remove(key).unwrap_or_default();
        if let Some(added_ms) = pair.droppable_since() {
            self.droppable.remove(&(added_ms, target, key.clone()));
        }
        self.totals.pending_bytes -= pair.pending_bytes();
        let (count, bytes) = (u64::from(pair.durable().is_some()), pair.durable_bytes());
        let changed = change(&mut pair);
        let (new_count, new_bytes) = (u64::from(pair.durable().is_some()), pair.durable_bytes());
        self.totals.pending_bytes += pair.pending_bytes();
        self.totals.count = self.totals.count - count + new_count;
        self.totals.bytes = self.totals.bytes - bytes + new_bytes;
        if let Some(added_ms) = pair.droppable_since() {
            self.droppable.insert((added_ms, target, key.clone()));
        }
        let known = self.target(target);
        known.count = known.count - count + new_count;
        known.bytes = known.bytes - bytes + new_bytes;
        if !pair.is_empty() {
            known.hints.insert(key.clone(), pair);
        }
        changed
    }

    fn target(&mut self, target: NodeId) -> &mut Target {
        self.targets.entry(target).or_insert_with(|| Target {
            hints: BTreeMap::new(),
            count: 0,
            bytes: 0,
            handoff: Handoff::new(),
        })
    }

    fn expires_ms(&self, added_ms: u64) -> u64 {
        let ttl_ms = u64::try_from(self.options.ttl.as_millis()).unwrap_or(u64::MAX);
        added_ms.saturating_add(ttl_ms)
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

impl Target {
    /// As many durable hints as the window allows, going on behind the last batch and around.
    fn next_batch(&self) -> Vec<(Key, Record)> {
        let last_key = self.handoff.last_key();
        let behind = (last_key.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let rest = self.hints.range::<Key, _>(behind);
        let around = last_key.into_iter().flat_map(|last_key| self.hints.range(..=last_key));
        let mut bytes = 0;
        rest.chain(around)
            .filter_map(|(key, pair)| pair.durable().map(|held| (key, held)))
            .take(if buggify!(OneHintABatch) { 1 } else { self.handoff.window() })
            .enumerate()
            .take_while(|(place, (_, held))| {
                bytes += held.bytes;
                *place == 0 || bytes <= MAX_BATCH_BYTES
            })
            .map(|(_, (key, held))| (key.clone(), held.record.clone()))
            .collect()
    }

    fn oldest_age_ms(&self, wall_ms: u64) -> u64 {
        let held = self.hints.values().filter_map(Pair::durable);
        let oldest = held.map(|held| held.added_ms).min();
        oldest.map_or(0, |added_ms| wall_ms.saturating_sub(added_ms))
    }
}

#[cfg(test)]
mod tests;
