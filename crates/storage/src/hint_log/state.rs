//! What a hint log knows: the durable hints, where in the log each is, and what is on its way.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use quorate_record::{Hint, Key, NodeId, Version};

use crate::completion::Completion;
use crate::frame::frame_bytes;
use crate::in_flight::InFlight;
use crate::queue::{LogError, Progress, Ticket};

/// Whom a hint is for, and its key.
pub(crate) type Slot = (NodeId, Key);

pub(crate) struct State {
    /// Everything up to this sequence number has been taken in.
    pub(crate) settled_seq: u64,
    pub(crate) live_bytes: u64,
    pub(crate) ready: Vec<Completion<()>>,
    held: BTreeMap<Slot, Held>,
    /// The hint that each frame is needed for.
    by_seq: BTreeMap<u64, Slot>,
    in_flight: InFlight<Write>,
    moving: usize,
    /// The removals on their way, in their order. What they remove must not be written again: the new copy would lie
    /// behind the removal in the log, and come back.
    removals: BTreeMap<Slot, VecDeque<Version>>,
}

struct Held {
    hint: Hint,
    /// The frame that it is in, and what that takes up.
    seq: u64,
    bytes: u64,
}

struct Write {
    what: What,
    /// Removals that could not be written, and are to be done in memory after this.
    then: Vec<Removal>,
}

enum What {
    /// An id, a hint and the length of its payload.
    Add(u64, Hint, u64),
    Remove(Removal),
    /// Writes the hint in this slot again that is in the frame with this number.
    Move(Slot, u64),
}

/// Removes the hint in a slot unless it is newer.
#[derive(Clone, Debug)]
pub(crate) struct Removal {
    pub(crate) slot: Slot,
    pub(crate) version: Version,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            settled_seq: 0,
            live_bytes: 0,
            ready: Vec::new(),
            held: BTreeMap::new(),
            by_seq: BTreeMap::new(),
            in_flight: InFlight::new(),
            moving: 0,
            removals: BTreeMap::new(),
        }
    }

    pub(crate) fn hints(&self) -> Vec<Hint> {
        self.held.values().map(|held| held.hint.clone()).collect()
    }

    pub(crate) fn len(&self) -> u64 {
        self.held.len() as u64
    }

    /// Whether hints are being written again.
    pub(crate) fn is_moving(&self) -> bool {
        self.moving > 0
    }

    /// No frame below this sequence number is needed.
    pub(crate) fn needed_from(&self) -> u64 {
        self.by_seq.first_key_value().map_or(self.settled_seq + 1, |(seq, _)| *seq)
    }

    /// Whether there is, or may soon be, something for a removal to remove.
    pub(crate) fn concerns(&self, removal: &Removal) -> bool {
        let held = self.held.get(&removal.slot);
        !self.in_flight.is_empty() || held.is_some_and(|held| removal.removes(&held.hint))
    }

    /// The hints whose frames are the oldest, with these frames' numbers, until they have `max_bytes`.
    pub(crate) fn oldest(&self, max_bytes: u64) -> Vec<(Hint, u64)> {
        let mut bytes = 0;
        self.by_seq
            .iter()
            .map(|(seq, slot)| (&self.held[slot], *seq))
            .filter(|(held, _)| !self.is_leaving(&held.hint))
            .take_while(|(held, _)| {
                let go_on = bytes < max_bytes;
                bytes += held.bytes;
                go_on
            })
            .map(|(held, seq)| (held.hint.clone(), seq))
            .collect()
    }

    pub(crate) fn submitted_add(
        &mut self,
        ticket: Ticket,
        id: u64,
        hint: Hint,
        payload_bytes: u64,
    ) {
        self.push(ticket, What::Add(id, hint, payload_bytes));
    }

    pub(crate) fn submitted_removal(&mut self, ticket: Ticket, removal: Removal) {
        self.removals.entry(removal.slot.clone()).or_default().push_back(removal.version);
        self.push(ticket, What::Remove(removal));
    }

    pub(crate) fn submitted_move(&mut self, ticket: Ticket, hint: &Hint, seq: u64) {
        self.moving += 1;
        self.push(ticket, What::Move(slot(hint), seq));
    }

    /// Does a removal that was not submitted, in its turn.
    pub(crate) fn remove_unlogged(&mut self, removal: Removal) {
        match self.in_flight.last_mut() {
            Some(write) => write.then.push(removal),
            None => self.remove(&removal),
        }
    }

    /// Takes in what became of submissions.
    pub(crate) fn settle(&mut self, progress: &Progress<'_>) {
        let tickets = progress.tickets();
        let last = *tickets.end();
        for (Ticket(ticket), Write { what, then }) in self.in_flight.settle(&tickets) {
            let outcome = progress.outcome.clone().map(|last_seq| last_seq - (last - ticket));
            match what {
                What::Add(id, hint, payload_bytes) => {
                    if let Ok(seq) = outcome {
                        self.add(hint, seq, payload_bytes);
                    }
                    self.complete(id, outcome.map(drop));
                }
                // Written or not, nobody needs the hint any more.
                What::Remove(removal) => {
                    self.remove(&removal);
                    self.forget_removal(removal.slot);
                }
                What::Move(slot, from) => {
                    self.moving -= 1;
                    let held = self.held.get_mut(&slot).filter(|held| held.seq == from);
                    if let (Ok(seq), Some(held)) = (outcome, held) {
                        held.seq = seq;
                        self.by_seq.remove(&from);
                        self.by_seq.insert(seq, slot);
                    }
                }
            }
            then.iter().for_each(|removal| self.remove(removal));
        }
        if let Ok(last_seq) = progress.outcome {
            self.settled_seq = last_seq;
        }
    }

    /// Takes in a durable hint.
    pub(crate) fn add(&mut self, hint: Hint, seq: u64, payload_bytes: u64) {
        let slot = slot(&hint);
        if let Some(held) = self.held.get(&slot) {
            // A courtesy may have been written again just when its hint became owed: that must not be undone.
            if (&held.hint.record, held.hint.kind) > (&hint.record, hint.kind) {
                return;
            }
            self.by_seq.remove(&held.seq);
            self.live_bytes -= held.bytes;
        }
        let bytes = frame_bytes(payload_bytes);
        self.live_bytes += bytes;
        self.by_seq.insert(seq, slot.clone());
        self.held.insert(slot, Held { hint, seq, bytes });
    }

    pub(crate) fn remove(&mut self, removal: &Removal) {
        let Some(held) = self.held.get(&removal.slot).filter(|held| removal.removes(&held.hint))
        else {
            return;
        };
        self.live_bytes -= held.bytes;
        self.by_seq.remove(&held.seq);
        self.held.remove(&removal.slot);
    }

    fn is_leaving(&self, hint: &Hint) -> bool {
        let removals = self.removals.get(&slot(hint));
        removals
            .is_some_and(|versions| versions.iter().any(|version| hint.record.version <= *version))
    }

    /// The oldest removal of this slot is done.
    fn forget_removal(&mut self, slot: Slot) {
        if let Entry::Occupied(mut removals) = self.removals.entry(slot) {
            removals.get_mut().pop_front();
            if removals.get().is_empty() {
                removals.remove();
            }
        }
    }

    fn complete(&mut self, id: u64, outcome: Result<(), LogError>) {
        self.ready.push(Completion { id, outcome });
    }

    fn push(&mut self, ticket: Ticket, what: What) {
        self.in_flight.push(ticket, Write { what, then: Vec::new() });
    }
}

impl Removal {
    fn removes(&self, hint: &Hint) -> bool {
        hint.record.version <= self.version
    }
}

pub(crate) fn slot(hint: &Hint) -> Slot {
    (hint.target, hint.key.clone())
}
