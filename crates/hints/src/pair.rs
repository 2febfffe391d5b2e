//! What is held for one target and key.

use quorate_record::{Hint, HintKind, Key, NodeId, Record, Version};

use crate::Offer;

/// What a hint counts toward [`HintOptions::max_bytes`](crate::HintOptions::max_bytes): what its
/// frame takes up in the hint log of `quorate-storage`.
#[must_use]
pub fn hint_bytes(hint: &Hint) -> u64 {
    const FRAME_HEADER_BYTES: usize = 24;
    /// The numbers, lengths and flags of a hint without expiry and value.
    const FIXED_BYTES: usize = 8 + 1 + 1 + (8 + 8 + 1) + 2 + 1 + 1;
    let Record { version, expires_ms, value } = &hint.record;
    let names = hint.target.as_str().len() + version.writer.node.as_str().len();
    let value = value.as_ref().map_or(0, |value| 4 + value.len());
    let expiry = if expires_ms.is_some() { 8 } else { 0 };
    let len = FRAME_HEADER_BYTES + FIXED_BYTES + names + hint.key.as_bytes().len() + expiry + value;
    len.next_multiple_of(8) as u64
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
            bytes: hint_bytes(hint),
        }
    }
}

/// One durable hint at most, and those on their way to take its place. Only of pairs that something
/// is going on with: what the others hold is known to the durable queue alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    /// Offers that wait until it is known what is held; `None` once it is.
    pub(crate) asking: Option<Vec<(u64, Held)>>,
    /// Whether what is held is on its way to the target.
    pub(crate) delivering: bool,
    /// Offers that wait for room.
    pub(crate) roomless: usize,
    durable: Option<Held>,
    pending: Vec<(u64, Held)>, // by the request that makes them durable
}

impl Pair {
    /// A pair of which it is not known what is held.
    pub(crate) fn unknown() -> Self {
        Self { asking: Some(Vec::new()), ..Self::default() }
    }

    /// A pair of which this is held.
    pub(crate) fn holding(durable: Option<Held>) -> Self {
        Self { durable, ..Self::default() }
    }

    /// Whether nothing is going on.
    pub(crate) fn is_idle(&self) -> bool {
        let waits = self.asking.is_some() || self.roomless > 0 || self.delivering;
        !waits && self.pending.is_empty()
    }

    pub(crate) fn durable(&self) -> Option<&Held> {
        self.durable.as_ref()
    }

    pub(crate) fn durable_bytes(&self) -> u64 {
        self.durable.as_ref().map_or(0, |held| held.bytes)
    }

    pub(crate) fn pending_bytes(&self) -> u64 {
        self.pending.iter().map(|(_, held)| held.bytes).sum()
    }

    /// Everything held, on its way or offered, that is known.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Held> {
        let asking = self.asking.iter().flatten();
        self.durable.iter().chain(self.pending.iter().chain(asking).map(|(_, held)| held))
    }

    /// Whether what is durable may be dropped.
    pub(crate) fn is_droppable(&self) -> bool {
        let may_go = |held: &Held| held.kind == HintKind::Courtesy || planted!(OwedHintDropped);
        let is_needed = self.roomless > 0 || !self.pending.is_empty();
        !is_needed && self.durable.as_ref().is_some_and(may_go)
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

    /// A request has ended; returns what it was to make durable.
    pub(crate) fn end(&mut self, id: u64, durable: bool) -> Option<Held> {
        let at = self.pending.iter().position(|(pending, _)| *pending == id)?;
        let (_, held) = self.pending.remove(at);
        if durable {
            self.durable = Some(match self.durable.take() {
                Some(before) => before.join(held.clone()),
                None => held.clone(),
            });
        }
        Some(held)
    }

    /// Forgets all that the target has now that it has `taken`; returns the version up to which the
    /// durable queue may forget too.
    pub(crate) fn taken(&mut self, taken: &Record) -> Option<Version> {
        let pending = self.pending.len();
        let was_durable = self.durable.take_if(|held| held.record <= *taken).is_some();
        self.pending.retain(|(_, held)| held.record > *taken);
        let mut left = self.durable.iter().chain(self.pending.iter().map(|(_, held)| held));
        let queued = left.any(|held| held.record.version <= taken.version);
        let changed = was_durable || self.pending.len() < pending;
        (changed && !queued).then_some(taken.version)
    }

    pub(crate) fn drop_durable(&mut self) -> Option<Version> {
        self.durable.take().map(|held| held.record.version)
    }
}

#[cfg(test)]
mod tests {
    use quorate_record::{Timestamp, Writer, encode_hint};

    use super::*;

    #[test]
    fn a_hint_counts_as_much_as_its_frame_takes() {
        let writer = Writer { node: NodeId::new("node-1").unwrap(), incarnation: 1 };
        let version = Version { timestamp: Timestamp::from_wall_ms(1), writer };
        let mut record = Record::live(version, "meow");
        for value in [Some("meow".into()), Some("".into()), None] {
            for expires_ms in [None, Some(7)] {
                (record.value, record.expires_ms) = (value.clone(), expires_ms);
                let (target, key) = (NodeId::new("n2").unwrap(), Key::new("cat").unwrap());
                let (record, kind) = (record.clone(), HintKind::Owed);
                let hint = Hint { target, key, record, kind, added_ms: 1 };
                let mut bytes = vec![0; 24];
                encode_hint(&hint, &mut bytes);
                assert_eq!(hint_bytes(&hint), bytes.len().next_multiple_of(8) as u64);
            }
        }
    }
}
