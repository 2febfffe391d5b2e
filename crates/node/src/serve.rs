use quorate_record::{Hint, HintKind, Key, NodeId, Record, Stamp, Timestamp};

use crate::{
    Action, MAX_ITEMS, MAX_SPANS, Message, Node, Now, PutOutcome, Refusal, Request, Response,
    StoreReply, StoreRequest, handoff::HintWaiter, node::Inner, reconcile::Part,
};

/// Who asks this node for something, and so who gets the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin {
    Own { call: u64 },
    Peer { node: NodeId, via: u64, id: u64 },
    Outside { request: u64 },
}

/// Who waits for the local store.
#[derive(Debug)]
pub(crate) enum StoreWaiter {
    Respond(Origin),
    Version(Origin),
    Merge { batch: u64, place: usize },
    Clock { ceiling: Timestamp },
    Hint { id: u64 },
    HintLookUp { id: u64 },
    HintBatch { batch: u64 },
    HintSweep,
    Exchange { id: u64 },
}

/// A [`Request::Merge`] at work.
#[derive(Debug)]
pub(crate) struct MergeBatch {
    origin: Origin,
    outcomes: Vec<PutOutcome>,
    waiting: usize,
}

impl Node {
    /// Does what `origin` asks of this node as a replica.
    pub(crate) fn serve(&mut self, origin: Origin, body: Request, now: Now) {
        match body {
            Request::Ping { .. } => {
                self.respond(origin, Response::Pong { wall_ms: now.wall_ms });
            }
            Request::Put { key, record, hint_for: None } => {
                match self.admit(self.id, &key, &record, now) {
                    Ok(()) => {
                        let request = StoreRequest::Apply { key, record };
                        self.store(request, StoreWaiter::Respond(origin));
                    }
                    Err(why) => self.respond(origin, Response::Put(PutOutcome::Refused(why))),
                }
            }
            Request::Put { key, record, hint_for: Some(target) } => {
                self.take_hint(origin, target, key, record, now);
            }
            Request::Get { key, from_hints: true, .. } => {
                self.store(StoreRequest::FindHint { key }, StoreWaiter::Respond(origin));
            }
            Request::Get { key, from_hints: false, known } => {
                self.look_up(key, known, origin, StoreWaiter::Respond(origin));
            }
            Request::Version { key } => {
                self.look_up(key, None, origin, StoreWaiter::Version(origin));
            }
            Request::Merge { records } => self.merge(origin, records, now),
            Request::Digests { ref spans } if spans.len() > MAX_SPANS => {
                self.respond(origin, Response::Refused(Refusal::Malformed));
            }
            Request::Fetch { ref tokens } if tokens.len() > MAX_ITEMS => {
                self.respond(origin, Response::Refused(Refusal::Malformed));
            }
            Request::Digests { .. } | Request::List { .. } | Request::Fetch { .. }
                if self.admission.is_pressed(now.instant) =>
            {
                self.respond(origin, Response::Refused(Refusal::Overloaded));
            }
            body @ (Request::Digests { .. } | Request::List { .. } | Request::Fetch { .. }) => {
                self.serve_exchange(origin, body);
            }
        }
    }

    fn look_up(&mut self, key: Key, known: Option<Stamp>, origin: Origin, waiter: StoreWaiter) {
        // An "absent" from a node that should not have it would count for nothing.
        let asked_by_coordinator = !matches!(origin, Origin::Outside { .. });
        if asked_by_coordinator && !self.owns(self.id, &key) {
            self.respond(origin, Response::Refused(Refusal::NotOwner));
        } else {
            self.store(StoreRequest::Get { key, known }, waiter);
        }
    }

    pub(crate) fn respond(&mut self, origin: Origin, response: Response) {
        match origin {
            Origin::Own { call } => self.defer(Inner::Answered { call, response }),
            Origin::Peer { via, id, .. } => {
                let message = Message::Response { id, body: response };
                self.act(Action::Respond { via, message });
            }
            Origin::Outside { request } => self.act(Action::Answer { request, response }),
        }
    }

    pub(crate) fn store(&mut self, request: StoreRequest, waiter: StoreWaiter) {
        let id = self.fresh_id();
        self.store_waiters.insert(id, waiter);
        self.act(Action::Store { id, request });
    }

    pub(crate) fn store_replied(&mut self, id: u64, reply: StoreReply, now: Now) {
        let Some(waiter) = self.store_waiters.remove(&id) else { return };
        match (waiter, reply) {
            (StoreWaiter::Respond(origin), StoreReply::Applied(outcome)) => {
                self.respond(origin, Response::Put(outcome));
            }
            (StoreWaiter::Respond(origin), StoreReply::Read(mut response)) => {
                // More only if somebody has made up keys that share a token.
                if let Response::Fetched(records) = &mut response {
                    records.truncate(MAX_ITEMS);
                }
                self.respond(origin, response);
            }
            (StoreWaiter::Version(origin), StoreReply::Read(Response::Found(found))) => {
                let version = found.map(|record| record.version);
                self.respond(origin, Response::Version(version));
            }
            (StoreWaiter::Version(origin), StoreReply::Read(response)) => {
                self.respond(origin, response);
            }
            (StoreWaiter::Merge { batch, place }, StoreReply::Applied(outcome)) => {
                self.merged(batch, place, outcome);
            }
            (StoreWaiter::Clock { ceiling }, StoreReply::Persisted(outcome)) => {
                self.clock_reserved(ceiling, outcome, now);
            }
            (StoreWaiter::Hint { id }, StoreReply::Persisted(outcome)) => {
                self.hint_persisted(id, outcome, now);
            }
            (StoreWaiter::HintLookUp { id }, StoreReply::Hint(held)) => {
                self.hints.looked_up(id, held.map_err(drop));
            }
            (StoreWaiter::HintBatch { batch }, StoreReply::Hints(found)) => {
                self.hints.read(batch, found.ok(), now.instant);
            }
            (StoreWaiter::HintSweep, StoreReply::Hints(found)) => {
                self.hints.swept(found.ok(), now.instant);
            }
            (StoreWaiter::Exchange { id }, StoreReply::Read(response)) => {
                self.exchange_answered(id, Part::Local, Ok(response), now);
            }
            (waiter, reply) => panic!("the store answered {waiter:?} with {reply:?}"),
        }
    }

    pub(crate) fn owns(&self, node: NodeId, key: &Key) -> bool {
        self.ring.owns(&node, quorate_ring::token(key.as_bytes()))
    }

    /// Whether `owner` should have this record, and whether its version can be right.
    fn admit(
        &mut self,
        owner: NodeId,
        key: &Key,
        record: &Record,
        now: Now,
    ) -> Result<(), Refusal> {
        if !self.owns(owner, key) && !planted!(PushToNonOwner) {
            return Err(Refusal::NotOwner);
        }
        self.clock.observe(record.version.timestamp, now.wall_ms).map_err(|_| {
            self.counters.refused_too_far_ahead += 1;
            Refusal::TooFarAhead
        })
    }

    fn take_hint(&mut self, origin: Origin, target: NodeId, key: Key, record: Record, now: Now) {
        let refusal = if target == self.id {
            Some(Refusal::Malformed)
        } else {
            self.admit(target, &key, &record, now).err()
        };
        if let Some(why) = refusal {
            return self.respond(origin, Response::Put(PutOutcome::Refused(why)));
        }
        let hint = Hint { target, key, record, kind: HintKind::Owed, added_ms: now.wall_ms };
        self.offer_hint(hint, HintWaiter::Respond(origin), now);
    }

    fn merge(&mut self, origin: Origin, records: Vec<(Key, Record)>, now: Now) {
        if records.len() > MAX_ITEMS {
            return self.respond(origin, Response::Refused(Refusal::Malformed));
        }
        // One is the repair of a read; more come from hints and comparisons, which can wait.
        let is_bad_time =
            self.admission.is_pressed(now.instant) || self.is_bulk_full(records.len());
        if records.len() > 1 && is_bad_time {
            return self.respond(origin, Response::Refused(Refusal::Overloaded));
        }
        let batch = self.fresh_id();
        let mut outcomes = Vec::with_capacity(records.len());
        let mut waiting = 0;
        for (place, (key, record)) in records.into_iter().enumerate() {
            match self.admit(self.id, &key, &record, now) {
                Ok(()) => {
                    waiting += 1;
                    outcomes.push(PutOutcome::Stored); // until the store says what it was
                    let waiter = StoreWaiter::Merge { batch, place };
                    self.store(StoreRequest::Apply { key, record }, waiter);
                }
                Err(why) => outcomes.push(PutOutcome::Refused(why)),
            }
        }
        if waiting == 0 {
            self.respond(origin, Response::Merged(outcomes));
        } else {
            self.merges.insert(batch, MergeBatch { origin, outcomes, waiting });
        }
    }

    /// Whether so many records more, of hints or comparisons, would be more than a tenth of what is
    /// let in from clients. One batch is always let in.
    fn is_bulk_full(&self, more: usize) -> bool {
        let under_way: usize = self.merges.values().map(|merge| merge.waiting).sum();
        under_way > 0 && under_way + more > self.admission.limit() / 10
    }

    fn merged(&mut self, batch: u64, place: usize, outcome: PutOutcome) {
        let Some(merge) = self.merges.get_mut(&batch) else { return };
        merge.outcomes[place] = outcome;
        merge.waiting -= 1;
        if merge.waiting == 0
            && let Some(MergeBatch { origin, outcomes, .. }) = self.merges.remove(&batch)
        {
            self.respond(origin, Response::Merged(outcomes));
        }
    }
}
