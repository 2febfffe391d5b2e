//! Giving up courtesies: those that are too old, and those whose place is needed.

use std::time::{Duration, Instant};

use quorate_record::{Hint, HintKind, HintPlace, HintsFound};

use super::HintBook;
use crate::{DropReason, HintAction, Refusal, hint_bytes};

/// How many courtesies are looked at together.
const MAX_SWEEP: usize = 256;
/// The pause between two looks while there are more that may be too old.
const SHORT_PAUSE: Duration = Duration::from_millis(10);
/// The least pause between two searches for those that are too old.
const LONG_PAUSE: Duration = Duration::from_secs(1);

/// The search for courtesies to give up. The durable queue is asked for one thing at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Sweep {
    asked: Option<DropReason>,
    /// Where to look on for those that are too old.
    after: Option<HintPlace>,
    /// Where to look on for those whose place is needed.
    room_after: Option<HintPlace>,
    /// When to look for those that are too old.
    at: Option<Instant>,
    /// Whether there may be any at all.
    may_find: bool,
    /// Whether more is held than allowed.
    pub(super) shrinks: bool,
}

impl Sweep {
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.at.filter(|_| self.asked.is_none())
    }

    /// Whether there may be a courtesy that could give its place.
    pub(super) fn may_find(&self) -> bool {
        self.may_find
    }
}

impl HintBook {
    /// The durable queue has read what [`HintAction::Sweep`] asked for, or could not.
    pub fn swept(&mut self, found: Option<HintsFound>, now: Instant) {
        let Some(why) = self.sweep.asked.take() else { return };
        self.learn(found.as_ref());
        let Some(HintsFound { hints, last, held, .. }) = found else {
            (self.sweep.after, self.sweep.room_after) = (None, None);
            self.sweep.at = self.sweep.at.map(|_| now + LONG_PAUSE);
            return self.no_room();
        };
        self.sweep.may_find = held.courtesies_from_ms.is_some();
        for hint in &hints {
            match why {
                DropReason::NoSpace if !self.lacks_room() => break,
                DropReason::Expired if !self.is_too_old(hint) => {}
                DropReason::NoSpace | DropReason::Expired => self.give_up(hint, why),
            }
            self.admit_roomless();
        }
        match why {
            DropReason::Expired => {
                self.sweep.after = last;
                let from = held.courtesies_from_ms.and_then(|from_ms| self.expiry(from_ms));
                self.sweep.at = match last {
                    Some(_) => Some(now + SHORT_PAUSE),
                    None => from.map(|at| at.max(now + LONG_PAUSE)),
                };
            }
            DropReason::NoSpace => {
                self.sweep.room_after = last.filter(|_| self.lacks_room());
                if last.is_none() && self.lacks_room() {
                    self.no_room();
                }
            }
        }
        self.make_room();
    }

    /// A courtesy is durable that was taken on at this time.
    pub(super) fn courtesy_came(&mut self, added_ms: u64) {
        self.sweep.may_find = true;
        let expiry = self.expiry(added_ms);
        self.sweep.at = [self.sweep.at, expiry].into_iter().flatten().min();
    }

    /// Looks for courtesies that are too old, if it is time.
    pub(super) fn expire(&mut self, now: Instant, wall_ms: u64) {
        let is_due = self.sweep.next_wake().is_some_and(|at| at <= now);
        if is_due && let Some(until_ms) = wall_ms.checked_sub(self.ttl_ms()) {
            self.search(DropReason::Expired, until_ms);
        } else if is_due {
            self.sweep.at = Some(now + LONG_PAUSE); // the clock has gone back
        }
    }

    /// Admits the offers that there is room for now, and looks for room for the others.
    pub(super) fn make_room(&mut self) {
        self.admit_roomless();
        self.sweep.shrinks &= self.used_bytes() > self.options.max_bytes;
        if self.lacks_room() && self.sweep.asked.is_none() {
            self.search(DropReason::NoSpace, u64::MAX);
        }
    }

    fn search(&mut self, why: DropReason, added_until_ms: u64) {
        self.sweep.asked = Some(why);
        self.ask();
        let max_hints = MAX_SWEEP;
        let after = match why {
            DropReason::Expired => self.sweep.after,
            DropReason::NoSpace => self.sweep.room_after,
        };
        self.actions.push_back(HintAction::Sweep { after, added_until_ms, max_hints });
    }

    /// Whether more is held than allowed, or an offer waits that there is no room for.
    fn lacks_room(&self) -> bool {
        let first = self.roomless.front();
        self.sweep.shrinks && self.used_bytes() > self.options.max_bytes
            || first.is_some_and(|first| !self.has_room(first.bytes))
    }

    fn admit_roomless(&mut self) {
        while self.roomless.front().is_some_and(|first| self.has_room(first.bytes))
            && let Some(first) = self.roomless.pop_front()
        {
            self.decide(first.offer, first.target, &first.key, first.held);
            self.change(first.target, &first.key, |pair| pair.roomless -= 1);
        }
    }

    /// No courtesy is left that could give its place.
    fn no_room(&mut self) {
        self.sweep.shrinks = false;
        for waiting in std::mem::take(&mut self.roomless) {
            self.change(waiting.target, &waiting.key, |pair| pair.roomless -= 1);
            self.refuse(waiting.offer, Refusal::Full);
        }
    }

    /// Drops a courtesy that was read, unless it has become something else meanwhile.
    fn give_up(&mut self, hint: &Hint, why: DropReason) {
        let (target, key) = (hint.target, hint.key.clone());
        if self.changed.contains(&(target, key.clone())) {
            return;
        }
        let version = match self.target(target).pairs.get(&key) {
            Some(pair) if !pair.is_droppable() => return,
            Some(_) => self.change(target, &key, |pair| pair.drop_durable()),
            None if hint.kind == HintKind::Owed && !planted!(OwedHintDropped) => return,
            None => {
                self.count_out(target, hint_bytes(hint));
                Some(hint.record.version)
            }
        };
        let Some(version) = version else { return };
        match why {
            DropReason::Expired => self.totals.expired += 1,
            DropReason::NoSpace => self.totals.evicted += 1,
        }
        self.forget(target, &key, version);
        self.actions.push_back(HintAction::Dropped { target, key, why });
    }

    fn is_too_old(&self, hint: &Hint) -> bool {
        let expires_ms = hint.added_ms.saturating_add(self.ttl_ms());
        self.clock.is_some_and(|(_, wall_ms)| expires_ms <= wall_ms)
    }

    /// When a courtesy that was taken on at this time is too old.
    fn expiry(&self, added_ms: u64) -> Option<Instant> {
        let (now, wall_ms) = self.clock?;
        let left_ms = added_ms.saturating_add(self.ttl_ms()).saturating_sub(wall_ms);
        now.checked_add(Duration::from_millis(left_ms))
    }

    fn ttl_ms(&self) -> u64 {
        u64::try_from(self.options.ttl.as_millis()).unwrap_or(u64::MAX)
    }
}
