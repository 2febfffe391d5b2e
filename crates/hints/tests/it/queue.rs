//! A durable queue of hints as a book wants it, in memory.

use std::collections::{BTreeMap, BTreeSet};

use quorate_hints::{HintAction, HintBook, hint_bytes};
use quorate_record::{
    Hint, HintKind, HintPlace, HintSummary, HintsFound, HintsHeld, Key, NodeId, Version,
};

/// By their places; a hint that takes another's place is added anew.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    hints: BTreeMap<u64, Hint>,
    added: u64,
}

impl Queue {
    pub(crate) fn holding(hints: impl IntoIterator<Item = Hint>) -> Self {
        let mut queue = Self::default();
        hints.into_iter().for_each(|hint| queue.add(hint));
        queue
    }

    pub(crate) fn add(&mut self, hint: Hint) {
        let same = |held: &Hint| (held.target, &held.key) == (hint.target, &hint.key);
        if self.hints.values().any(|held| same(held) && held.record > hint.record) {
            return;
        }
        self.hints.retain(|_, held| !same(held));
        self.added += 1;
        self.hints.insert(self.added, hint);
    }

    pub(crate) fn remove(&mut self, target: NodeId, key: &Key, version: Version) {
        self.hints.retain(|_, held| {
            (held.target, &held.key) != (target, key) || held.record.version > version
        });
    }

    pub(crate) fn get(&self, target: NodeId, key: &Key) -> Option<&Hint> {
        self.hints.values().find(|held| (held.target, &held.key) == (target, key))
    }

    /// By target, then key.
    pub(crate) fn hints(&self) -> Vec<Hint> {
        let mut hints: Vec<Hint> = self.hints.values().cloned().collect();
        hints.sort_by_key(|hint| (hint.target, hint.key.clone()));
        hints
    }

    pub(crate) fn summary(&self) -> HintSummary {
        let mut targets = BTreeMap::new();
        for hint in self.hints.values() {
            let held = targets.entry(hint.target).or_insert(HintsHeld {
                count: 0,
                bytes: 0,
                oldest_added_ms: u64::MAX,
            });
            held.count += 1;
            held.bytes += hint_bytes(hint);
            held.oldest_added_ms = held.oldest_added_ms.min(hint.added_ms);
        }
        let courtesies = self.hints.values().filter(|hint| hint.kind == HintKind::Courtesy);
        HintSummary {
            targets,
            oldest_version: self.hints.values().map(|hint| hint.record.version.timestamp).min(),
            courtesies_from_ms: courtesies.map(|hint| hint.added_ms).min(),
        }
    }

    /// Reports to a book what it asks to be looked up or read; any other action is given back.
    pub(crate) fn serve(
        &self,
        action: HintAction,
        book: &mut HintBook,
        now: std::time::Instant,
    ) -> Option<HintAction> {
        match action {
            HintAction::LookUp { id, target, key } => {
                book.looked_up(id, Ok(self.get(target, &key).cloned()));
            }
            HintAction::Read { target, batch, after, max_hints, max_bytes } => {
                book.read(batch, Some(self.next(target, after, max_hints, max_bytes)), now);
            }
            HintAction::Sweep { after, added_until_ms, max_hints } => {
                book.swept(Some(self.courtesies(after, added_until_ms, max_hints)), now);
            }
            other => return Some(other),
        }
        None
    }

    fn next(
        &self,
        target: NodeId,
        after: Option<HintPlace>,
        max_hints: usize,
        max_bytes: u64,
    ) -> HintsFound {
        let after = after.map_or(0, |after| after.offset);
        let around = self.hints.range(after + 1..).chain(self.hints.range(..=after));
        let mut bytes = 0;
        let chosen = around
            .filter(|(_, hint)| hint.target == target)
            .take(max_hints)
            .enumerate()
            .take_while(|(number, (_, hint))| {
                bytes += hint_bytes(hint);
                *number == 0 || bytes <= max_bytes
            });
        self.found(chosen.map(|(_, (place, _))| *place).collect())
    }

    fn courtesies(
        &self,
        after: Option<HintPlace>,
        added_until_ms: u64,
        max_hints: usize,
    ) -> HintsFound {
        let behind = self.hints.range(after.map_or(0, |after| after.offset) + 1..);
        let early = behind
            .filter(|(_, hint)| hint.kind == HintKind::Courtesy && hint.added_ms <= added_until_ms);
        let places: Vec<u64> = early.map(|(place, _)| *place).take(max_hints).collect();
        let more = places.len() == max_hints;
        let found = self.found(places);
        HintsFound { last: found.last.filter(|_| more), ..found }
    }

    fn found(&self, places: Vec<u64>) -> HintsFound {
        let distinct: BTreeSet<u64> = places.iter().copied().collect();
        assert_eq!(distinct.len(), places.len());
        HintsFound {
            hints: places.iter().map(|place| self.hints[place].clone()).collect(),
            last: places.last().map(|&offset| HintPlace { segment: 1, offset }),
            lost: Vec::new(),
            held: self.summary(),
        }
    }
}
