//! What a hint log knows: the durable hints, and what is on its way.

use std::collections::{BTreeMap, VecDeque};

use quorate_record::{Hint, HintSummary, HintsHeld, Key, NodeId, Version};

use super::held::{Held, Share, Spot};
use crate::completion::Completion;
use crate::in_flight::InFlight;
use crate::queue::{Place, Progress, Ticket};

/// Whom a hint is for, and its key.
pub(crate) type Slot = (NodeId, Key);

pub(crate) struct State {
    /// Everything up to this sequence number has been taken in.
    pub(crate) settled_seq: u64,
    pub(crate) held: Held,
    pub(crate) ready: Vec<Completion<()>>,
    /// Hints that were found damaged since somebody asked: for whom, and how long their frames are.
    pub(crate) lost: Vec<(NodeId, u64)>,
    pub(crate) damaged: u64,
    in_flight: InFlight<Write>,
    /// The slots that something is in flight for. What they hold is known without reading it.
    active: BTreeMap<Slot, Active>,
    moving: usize,
}

#[derive(Default)]
struct Active {
    held: Option<(Hint, Spot)>,
    writes: usize,
    /// The removals on their way, in their order. What they remove must not be written again: the new copy would lie
    /// behind the removal in the log, and come back.
    removals: VecDeque<Version>,
}

struct Write {
    what: What,
    /// Removals that could not be written, and are to be done in memory after this.
    then: Vec<Removal>,
}

enum What {
    Add(u64, Hint),
    Remove(Removal),
    /// Writes the hint in this slot again that is at this place.
    Move(Slot, Spot),
}

/// Removes the hint in a slot unless it is newer.
#[derive(Clone, Debug)]
pub(crate) struct Removal {
    pub(crate) slot: Slot,
    pub(crate) version: Version,
}

impl State {
    pub(crate) fn new(secret: [u8; 16]) -> Self {
        Self {
            settled_seq: 0,
            held: Held::new(secret),
            ready: Vec::new(),
            lost: Vec::new(),
            damaged: 0,
            in_flight: InFlight::new(),
            active: BTreeMap::new(),
            moving: 0,
        }
    }

    /// Whether hints are being written again.
    pub(crate) fn is_moving(&self) -> bool {
        self.moving > 0
    }

    /// No frame below this sequence number is needed.
    pub(crate) fn needed_from(&self) -> u64 {
        self.held.needed_from().unwrap_or(self.settled_seq + 1)
    }

    /// What a slot holds, if that need not be read.
    pub(crate) fn known(&self, slot: &Slot) -> Option<Option<&(Hint, Spot)>> {
        self.active.get(slot).map(|active| active.held.as_ref())
    }

    /// Whether there is, or may soon be, something for a removal to remove; `held` is what the slot holds.
    pub(crate) fn concerns(&self, removal: &Removal, held: Option<&(Hint, Spot)>) -> bool {
        self.active.contains_key(&removal.slot)
            || held.is_some_and(|(hint, _)| removal.removes(hint))
    }

    /// `held` is what the slot holds, as it is for the other submissions.
    pub(crate) fn submitted_add(
        &mut self,
        ticket: Ticket,
        id: u64,
        hint: Hint,
        held: Option<(Hint, Spot)>,
    ) {
        self.activate(slot(&hint), held);
        self.push(ticket, What::Add(id, hint));
    }

    pub(crate) fn submitted_removal(
        &mut self,
        ticket: Ticket,
        removal: Removal,
        held: Option<(Hint, Spot)>,
    ) {
        self.activate(removal.slot.clone(), held).removals.push_back(removal.version);
        self.push(ticket, What::Remove(removal));
    }

    pub(crate) fn submitted_move(&mut self, ticket: Ticket, hint: Hint, spot: Spot) {
        self.moving += 1;
        let slot = slot(&hint);
        self.activate(slot.clone(), Some((hint, spot)));
        self.push(ticket, What::Move(slot, spot));
    }

    /// Does a removal that was not submitted, in its turn.
    pub(crate) fn remove_unlogged(&mut self, removal: Removal, held: Option<(Hint, Spot)>) {
        self.activate(removal.slot.clone(), held);
        match self.in_flight.last_mut() {
            Some(write) => write.then.push(removal),
            None => self.remove(&removal),
        }
    }

    /// Takes in what became of submissions.
    pub(crate) fn settle(&mut self, progress: &Progress<'_>) {
        let tickets = progress.tickets();
        let last = *tickets.end();
        let settled = self.in_flight.settle(&tickets);
        for ((Ticket(ticket), Write { what, then }), frame) in
            settled.into_iter().zip(progress.frames)
        {
            let outcome = progress.outcome.clone().map(|last_seq| last_seq - (last - ticket));
            let spot = Spot { place: frame.place, bytes: frame.bytes };
            match what {
                What::Add(id, hint) => {
                    if let Ok(seq) = outcome {
                        self.add(hint, seq, spot);
                    } else {
                        self.ended(slot(&hint));
                    }
                    self.ready.push(Completion { id, outcome: outcome.map(drop) });
                }
                // Written or not, nobody needs the hint any more.
                What::Remove(removal) => {
                    if let Some(active) = self.active.get_mut(&removal.slot) {
                        active.removals.pop_front();
                    }
                    self.remove(&removal);
                }
                What::Move(slot, from) => {
                    self.moving -= 1;
                    let held = self.active.get_mut(&slot).and_then(|active| active.held.as_mut());
                    if let (Ok(seq), Some((hint, at))) =
                        (outcome, held.filter(|(_, at)| at.place == from.place))
                    {
                        *at = spot;
                        self.held.remove(&hint.key, from.place);
                        self.held.insert(hint, seq, spot);
                    }
                    self.ended(slot);
                }
            }
            then.iter().for_each(|removal| self.remove(removal));
        }
        if let Ok(last_seq) = progress.outcome {
            self.settled_seq = last_seq;
        }
    }

    /// Forgets a hint whose frame cannot be read any more, unless it is gone already.
    pub(crate) fn lose(&mut self, spot: Spot) {
        if let Some(target) = self.held.lose(spot.place) {
            self.lost.push((target, spot.bytes.into()));
            self.damaged += 1;
        }
    }

    /// Whether a hint at this place is there, and is not about to be removed.
    pub(crate) fn stays(&self, hint: &Hint, place: Place) -> bool {
        let active = self.active.get(&slot(hint));
        let leaves = active.is_some_and(|active| {
            active.removals.iter().any(|version| hint.record.version <= *version)
        });
        !leaves && self.held.is_live(place)
    }

    pub(crate) fn summary(&self) -> HintSummary {
        let shares = self.held.shares();
        let held = |share: &Share| HintsHeld {
            count: share.count,
            bytes: share.bytes,
            oldest_added_ms: share.oldest_added_ms,
        };
        HintSummary {
            targets: shares.iter().map(|(&target, share)| (target, held(share))).collect(),
            oldest_version: shares.values().map(|share| share.oldest_version).min(),
            courtesies_from_ms: self.held.courtesies_from_ms(),
        }
    }

    fn add(&mut self, hint: Hint, seq: u64, spot: Spot) {
        let slot = slot(&hint);
        if let Some(active) = self.active.get_mut(&slot) {
            let held = active.held.as_ref();
            if held.is_none_or(|(held, _)| !supersedes(held, &hint)) {
                if let Some((held, at)) = held {
                    self.held.remove(&held.key, at.place);
                }
                self.held.insert(&hint, seq, spot);
                active.held = Some((hint, spot));
            }
        }
        self.ended(slot);
    }

    fn remove(&mut self, removal: &Removal) {
        if let Some(active) = self.active.get_mut(&removal.slot)
            && let Some((hint, spot)) = active.held.take_if(|(hint, _)| removal.removes(hint))
        {
            self.held.remove(&hint.key, spot.place);
        }
        self.ended(removal.slot.clone());
    }

    fn activate(&mut self, slot: Slot, held: Option<(Hint, Spot)>) -> &mut Active {
        let active =
            self.active.entry(slot).or_insert_with(|| Active { held, ..Active::default() });
        active.writes += 1;
        active
    }

    /// One thing less is in flight for this slot.
    fn ended(&mut self, slot: Slot) {
        if let std::collections::btree_map::Entry::Occupied(mut active) = self.active.entry(slot) {
            active.get_mut().writes -= 1;
            if active.get().writes == 0 {
                active.remove();
            }
        }
    }

    fn push(&mut self, ticket: Ticket, what: What) {
        self.in_flight.push(ticket, Write { what, then: Vec::new() });
    }
}

impl Removal {
    pub(crate) fn removes(&self, hint: &Hint) -> bool {
        hint.record.version <= self.version
    }
}

/// Whether a hint stays although `added` comes. A courtesy may have been written again just when its hint became owed:
/// that must not be undone.
pub(crate) fn supersedes(held: &Hint, added: &Hint) -> bool {
    (&held.record, held.kind) > (&added.record, added.kind)
}

pub(crate) fn slot(hint: &Hint) -> Slot {
    (hint.target, hint.key.clone())
}
