//! What a store knows: the durable records, and the writes that are on their way to becoming so.

use std::collections::BTreeMap;

use quorate_record::{Timestamp, Version};

use super::Applied;
use super::index::{Held, Index, Place};
use crate::completion::Completion;
use crate::in_flight::InFlight;
use crate::queue::{LogError, Progress, Ticket};

pub(crate) struct State {
    /// Durable records only.
    pub(crate) index: Index,
    /// The greatest ceiling that is durable.
    pub(crate) ceiling: Timestamp,
    /// Everything up to this sequence number is in the index.
    pub(crate) applied_seq: u64,
    /// Bytes of keys and values logged since the last snapshot, about.
    pub(crate) bytes_since_snapshot: u64,
    pub(crate) ready: Vec<Completion<Applied>>,
    in_flight: InFlight<Write>,
    /// The greatest record of a key that is in flight.
    greatest: BTreeMap<Place, Ticket>,
}

struct Write {
    id: u64,
    what: What,
    /// Whoever asked for something that this write answers once it is durable.
    waiters: Vec<(u64, Applied)>,
}

enum What {
    Record(Place, Held),
    Ceiling(Timestamp),
}

/// What is to be done with a record that somebody wants to apply.
pub(crate) enum Verdict {
    /// Nothing: this is the answer, and it is durable.
    Answer(Applied),
    /// Nothing but to wait until this write is durable; then this is the answer.
    Wait(Ticket, Applied),
    /// It is greater than everything known.
    Write,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            index: Index::new(),
            ceiling: Timestamp::ZERO,
            applied_seq: 0,
            bytes_since_snapshot: 0,
            ready: Vec::new(),
            in_flight: InFlight::new(),
            greatest: BTreeMap::new(),
        }
    }

    /// Compares a record with what is durable, then with what is on its way: an answer must not rest on a record that
    /// may yet fail to be stored.
    pub(crate) fn judge(&self, place: &Place, held: &Held) -> Verdict {
        if let Some(answer) = self.index.get(place).and_then(|known| answer(known, held)) {
            return Verdict::Answer(answer);
        }
        let in_flight = self.greatest.get(place).copied();
        let known = in_flight.and_then(|ticket| match &self.in_flight.get(ticket)?.what {
            What::Record(_, known) => Some((ticket, answer(known, held)?)),
            What::Ceiling(_) => None,
        });
        match known {
            Some((ticket, answer)) => Verdict::Wait(ticket, answer),
            None => Verdict::Write,
        }
    }

    /// Lets `id` wait for a write that [`Self::judge`] named.
    pub(crate) fn wait(&mut self, ticket: Ticket, id: u64, answer: Applied) {
        let write = self.in_flight.get_mut(ticket).expect("it was found under this lock");
        write.waiters.push((id, answer));
    }

    /// Notes that a record was submitted that [`Self::judge`] found the greatest.
    pub(crate) fn submitted(&mut self, ticket: Ticket, id: u64, place: Place, held: Held) {
        self.greatest.insert(place.clone(), ticket);
        if planted!(ReadsUndurable) {
            self.index.merge(place.clone(), held.clone());
        }
        self.in_flight
            .push(ticket, Write { id, what: What::Record(place, held), waiters: Vec::new() });
    }

    /// Notes that a ceiling was submitted.
    pub(crate) fn submitted_ceiling(&mut self, ticket: Ticket, id: u64, ceiling: Timestamp) {
        self.in_flight
            .push(ticket, Write { id, what: What::Ceiling(ceiling), waiters: Vec::new() });
    }

    /// Takes in what became of submissions.
    pub(crate) fn settle(&mut self, progress: &Progress<'_>) {
        for (ticket, Write { id, what, waiters }) in self.in_flight.settle(&progress.tickets()) {
            if let What::Record(place, _) = &what
                && self.greatest.get(place) == Some(&ticket)
            {
                self.greatest.remove(place);
            }
            match &progress.outcome {
                Ok(_) => {
                    self.keep(what);
                    self.complete(id, Ok(Applied::Stored));
                    waiters.into_iter().for_each(|(id, answer)| self.complete(id, Ok(answer)));
                }
                Err(error) => {
                    let ids = std::iter::once(id).chain(waiters.into_iter().map(|(id, _)| id));
                    ids.for_each(|id| self.complete(id, Err(error.clone())));
                }
            }
        }
        if let Ok(last_seq) = progress.outcome {
            self.applied_seq = last_seq;
        }
    }

    pub(crate) fn complete(&mut self, id: u64, outcome: Result<Applied, LogError>) {
        self.ready.push(Completion { id, outcome });
    }

    fn keep(&mut self, what: What) {
        match what {
            What::Record(place, held) => {
                let value_bytes = held.record.value.as_ref().map_or(0, bytes::Bytes::len);
                self.bytes_since_snapshot += (place.1.as_bytes().len() + value_bytes) as u64;
                self.index.merge(place, held);
            }
            What::Ceiling(ceiling) => self.ceiling = self.ceiling.max(ceiling),
        }
    }
}

/// What `known` says to somebody who brings `held`; `None` if that is the greater one.
fn answer(known: &Held, held: &Held) -> Option<Applied> {
    match known.order().cmp(&held.order()) {
        _ if planted!(StoreOverwritesNewer) => None,
        std::cmp::Ordering::Less => None,
        std::cmp::Ordering::Equal => Some(Applied::Stored),
        std::cmp::Ordering::Greater => Some(Applied::Superseded(version(known))),
    }
}

fn version(held: &Held) -> Version {
    held.record.version
}
