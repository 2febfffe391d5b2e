//! What is held for one target and key.

use quorate_record::{Hint, HintKind, Key, NodeId, Record, Version};

use crate::Offer;

/// What a hint takes beside the bytes of its key and value, about, in memory and on disk.
const OVERHEAD_BYTES: u64 = 128;

/// What a hint counts toward [`HintOptions::max_bytes`](crate::HintOptions::max_bytes).
#[must_use]
pub fn hint_bytes(key: &Key, record: &Record) -> u64 {
    let value = record.value.as_ref().map_or(0, |value| value.len());
    OVERHEAD_BYTES + key.as_bytes().len() as u64 + value as u64
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) record: Record,
    pub(crate) kind: HintKind,
    pub(crate) added_ms: u64,
    pub(crate) bytes: u64,
}

impl Held {
    /// Whether whoever relies on `other` may rely on this instead.
    fn covers(&self, other: &Self) -> bool {
        self.kind >= other.kind && self.record >= other.record
    }

    /// The least that covers both: an owed hint is not less owed because a newer record took its
    /// place, or because the newer one came as a courtesy.
    pub(crate) fn join(self, other: Self) -> Self {
        let kind = self.kind.max(other.kind);
        let record = if self.record >= other.record { self } else { other };
        Self { kind, ..record }
    }

    pub(crate) fn to_hint(&self, target: NodeId, key: &Key) -> Hint {
        let Self { record, kind, added_ms, .. } = self;
        Hint { target, key: key.clone(), record: record.clone(), kind: *kind, added_ms: *added_ms }
    }
}

impl From<&Hint> for Held {
    fn from(hint: &Hint) -> Self {
        Self {
            record: hint.record.clone(),
            kind: hint.kind,
            added_ms: hint.added_ms,
            bytes: hint_bytes(&hint.key, &hint.record),
        }
    }
}

/// One durable hint at most, and those on their way to take its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    durable: Option<Held>,
    pending: Vec<(u64, Held)>, // by the request that makes them durable
}

impl Pair {
    pub(crate) fn is_empty(&self) -> bool {
        self.durable.is_none() && self.pending.is_empty()
    }

    pub(crate) fn durable(&self) -> Option<&Held> {
        self.durable.as_ref()
    }

    /// All records of it, durable or not.
    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        let pending = self.pending.iter().map(|(_, held)| held);
        self.durable.iter().chain(pending).map(|held| &held.record)
    }

    pub(crate) fn durable_bytes(&self) -> u64 {
        self.durable.as_ref().map_or(0, |held| held.bytes)
    }

    pub(crate) fn pending_bytes(&self) -> u64 {
        self.pending.iter().map(|(_, held)| held.bytes).sum()
    }

    /// When the hint was taken on that may be dropped; `None` if none may.
    pub(crate) fn droppable_since(&self) -> Option<u64> {
        let may_go = |held: &&Held| held.kind == HintKind::Courtesy || planted!(OwedHintDropped);
        let held = self.durable.as_ref().filter(may_go)?;
        self.pending.is_empty().then_some(held.added_ms)
    }

    /// The answer to an offer for which nothing need be written.
    pub(crate) fn answer(&self, offered: &Held) -> Option<Offer> {
        let durable = self.durable.iter().map(|held| (None, held));
        let pending = self.pending.iter().map(|(id, held)| (Some(*id), held));
        let (after, held) = durable.chain(pending).find(|(_, held)| held.covers(offered))?;
        Some(if held.record == offered.record {
            Offer::AlreadyHeld { after }
        } else {
            Offer::Superseded { by: held.record.version, after }
        })
    }

    /// What has to be written so that everything held and offered is covered.
    pub(crate) fn joined(&self, offered: Held) -> Held {
        let held = self.durable.iter().chain(self.pending.iter().map(|(_, held)| held));
        held.cloned().fold(offered, |joined, held| held.join(joined))
    }

    pub(crate) fn begin(&mut self, id: u64, held: Held) {
        self.pending.push((id, held));
    }

    pub(crate) fn end(&mut self, id: u64, durable: bool) {
        let Some(at) = self.pending.iter().position(|(pending, _)| *pending == id) else { return };
        let (_, held) = self.pending.remove(at);
        if durable {
            self.restore(held);
        }
    }

    pub(crate) fn restore(&mut self, held: Held) {
        self.durable = Some(match self.durable.take() {
            Some(before) => before.join(held),
            None => held,
        });
    }

    /// Forgets all that the target has now that it has `taken`; returns the version up to which the
    /// durable queue may forget too.
    pub(crate) fn taken(&mut self, taken: &Record) -> Option<Version> {
        let before = self.clone();
        self.durable.take_if(|held| held.record <= *taken);
        self.pending.retain(|(_, held)| held.record > *taken);
        let mut left = self.durable.iter().chain(self.pending.iter().map(|(_, held)| held));
        let queued = left.any(|held| held.record.version <= taken.version);
        (*self != before && !queued).then_some(taken.version)
    }

    pub(crate) fn drop_durable(&mut self) -> Option<Version> {
        self.durable.take().map(|held| held.record.version)
    }
}
