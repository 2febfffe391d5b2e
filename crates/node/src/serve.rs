use quorate_record::{Digest, Hint, HintKind, Key, NodeId, Record, Stamp, Timestamp};

use crate::{
    Action, MAX_BUCKETS, MAX_GROUPS, MAX_ITEMS, MAX_SPANS, Message, Node, Notes, Now, PutOutcome,
    Refusal, Request, Response, StoreReply, StoreRequest, handoff::HintWaiter, lives::KeptFor,
    node::Inner, reconcile::Part,
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
    Look { origin: Origin, token: u64, counts: bool },
    Version { origin: Origin, token: u64, counts: bool },
    Merge { batch: u64, place: usize },
    Applied { origin: Origin, counts: bool },
    Clock { ceiling: Timestamp },
    Notes { notes: Box<Notes>, kept_for: KeptFor },
    Progress { peer: NodeId },
    Tombstones,
    Dropped,
    Hint { id: u64 },
    HintLookUp { id: u64 },
    HintBatch { batch: u64 },
    HintSweep,
    Exchange { id: u64 },
    Whole { origin: Origin, salt: u64, asked: Digest },
    Short { origin: Origin, salt: u64 },
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
        let is_of_client =
            matches!(body, Request::Put { .. } | Request::Get { .. } | Request::Version { .. });
        if is_of_client && !matches!(origin, Origin::Outside { .. }) {
            self.admission.serves(now.instant);
        }
        match body {
            Request::Ping { .. } => {
                self.respond(origin, Response::Pong { wall_ms: now.wall_ms });
            }
            Request::Meet { incarnation, progress, .. } => {
                self.meet(origin, incarnation, progress, now);
            }
            Request::Report => self.report(origin, now),
            Request::Put { key, record, hint_for: None } => {
                match self.admit(self.id, &key, &record, now) {
                    Ok(()) => {
                        let counts = self.counts_for(&key);
                        let waiter = StoreWaiter::Applied { origin, counts };
                        let floor = match planted!(FloorIgnored) {
                            true => Timestamp::ZERO,
                            false => self.keeper.latest.floor,
                        };
                        let horizon = self.horizon_in_force();
                        self.store(StoreRequest::Apply { key, record, floor, horizon }, waiter);
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
                let (token, counts) = (quorate_ring::token(key.as_bytes()), self.counts_for(&key));
                self.look_up(key, known, origin, StoreWaiter::Look { origin, token, counts });
            }
            Request::Version { key } => {
                let (token, counts) = (quorate_ring::token(key.as_bytes()), self.counts_for(&key));
                self.look_up(key, None, origin, StoreWaiter::Version { origin, token, counts });
            }
            Request::Merge { records } => self.merge(origin, records, now),
            Request::Digests { ref spans } if spans.len() > MAX_SPANS => {
                self.respond(origin, Response::Refused(Refusal::Malformed));
            }
            Request::Fetch { ref tokens } if tokens.len() > MAX_ITEMS => {
                self.respond(origin, Response::Refused(Refusal::Malformed));
            }
            Request::Sketches { ref groups } if !is_within_limits(groups) => {
                self.respond(origin, Response::Refused(Refusal::Malformed));
            }
            Request::Overview { .. }
            | Request::Sketches { .. }
            | Request::Digests { .. }
            | Request::List { .. }
            | Request::Fetch { .. }
                if self.admission.is_pressed(now.instant) =>
            {
                self.respond(origin, Response::Refused(Refusal::Overloaded));
            }
            body @ (Request::Overview { .. }
            | Request::Sketches { .. }
            | Request::Digests { .. }
            | Request::List { .. }
            | Request::Fetch { .. }) => {
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
                let notes = self.lives.notes();
                let message = Message::Response { id, notes, body: response };
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
            (StoreWaiter::Applied { origin, counts }, StoreReply::Applied(outcome)) => {
                self.respond_if(counts, origin, Response::Put(outcome));
            }
            (StoreWaiter::Respond(origin), StoreReply::Read(mut response)) => {
                // More only if somebody has made up keys that share a token.
                if let Response::Fetched(records) = &mut response {
                    records.truncate(MAX_ITEMS);
                }
                self.respond(origin, response);
            }
            (
                StoreWaiter::Look { origin, token, .. }
                | StoreWaiter::Version { origin, token, .. },
                StoreReply::Read(response @ Response::Refused(Refusal::Damaged)),
            ) => {
                self.note_damaged([token], now);
                self.respond(origin, response);
            }
            (StoreWaiter::Look { origin, counts, .. }, StoreReply::Read(response)) => {
                let response = self.found(origin, response);
                self.respond_if(counts, origin, response);
            }
            (StoreWaiter::Version { origin, counts, .. }, StoreReply::Read(response)) => {
                let version = version_of(self.found(origin, response));
                self.respond_if(counts, origin, version);
            }
            (StoreWaiter::Notes { notes, kept_for }, StoreReply::Persisted(outcome)) => {
                self.notes_kept(*notes, kept_for, outcome, now);
            }
            (StoreWaiter::Progress { peer }, StoreReply::Counted(progress)) => {
                self.told_progress(peer, progress, now);
            }
            (StoreWaiter::Tombstones, StoreReply::Counted(count)) => {
                self.tombstones_counted(count, now);
            }
            (StoreWaiter::Dropped, StoreReply::Dropped { next }) => {
                self.tombstones_dropped(next, now);
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
            (StoreWaiter::Whole { origin, salt, asked }, StoreReply::Read(response)) => {
                self.whole_digested((origin, salt), asked, response);
            }
            (StoreWaiter::Short { origin, salt }, StoreReply::Read(response)) => {
                self.buckets_digested(origin, salt, response);
            }
            (waiter, reply) => panic!("the store answered {waiter:?} with {reply:?}"),
        }
    }

    /// What this node holds of a key that it owns, as it is to be answered.
    fn found(&self, origin: Origin, response: Response) -> Response {
        let horizon = self.horizon_in_force();
        match response {
            Response::Found(None)
                if horizon > Timestamp::ZERO && !matches!(origin, Origin::Outside { .. }) =>
            {
                Response::Found(Some(Record::buried(horizon)))
            }
            response => response,
        }
    }

    /// Answers; unless it `counts`, this node has lost data and says so.
    pub(crate) fn respond_if(&mut self, counts: bool, origin: Origin, response: Response) {
        let is_asked_by_coordinator = !matches!(origin, Origin::Outside { .. });
        let response = match is_asked_by_coordinator && !counts {
            true => Response::Uncounted(Box::new(response)),
            false => response,
        };
        self.respond(origin, response);
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
        let floor = self.keeper.latest.floor;
        if record.version.timestamp < floor && !planted!(FloorIgnored) {
            return self.respond(origin, Response::Put(PutOutcome::Below(floor)));
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
        for (place, (key, mut record)) in records.into_iter().enumerate() {
            if planted!(DeadHintRestamped)
                && record.version.timestamp < self.horizon_in_force()
                && let Some(version) = self.issue(now)
            {
                record.version = version;
            }
            match self.admit(self.id, &key, &record, now) {
                Ok(()) => {
                    waiting += 1;
                    outcomes.push(PutOutcome::Stored); // until the store says what it was
                    let waiter = StoreWaiter::Merge { batch, place };
                    let floor = Timestamp::ZERO; // others hold it already
                    let horizon = self.horizon_in_force();
                    self.store(StoreRequest::Apply { key, record, floor, horizon }, waiter);
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

/// The version of what was found.
fn version_of(response: Response) -> Response {
    match response {
        Response::Found(found) => Response::Version(found.map(|record| record.version)),
        response => response,
    }
}

/// Whether a peer may ask for sketches of these groups of buckets.
fn is_within_limits(groups: &[Vec<u16>]) -> bool {
    let exists = |bucket: &u16| usize::from(*bucket) < MAX_BUCKETS;
    groups.len() <= MAX_GROUPS
        && groups.iter().map(Vec::len).sum::<usize>() <= MAX_BUCKETS
        && groups.iter().flatten().all(exists)
}
