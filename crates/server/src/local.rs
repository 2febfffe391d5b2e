//! Opens the files of a node and carries out what it asks of them.

mod open;

use quorate_node::{GroupSketch, PutOutcome, Refusal, Response, StoreReply, StoreRequest};
use quorate_record::{Key, NodeId, Version};
use quorate_storage::{Applied, Bounds, Completion, HintLog, LogError, ReadError, Store};

pub use open::{HINTS_DIR, LocalOptions, OpenError, Opened};

/// The records and the hint queue of a node.
///
/// It does what every driver of a node must do for its files, so it is public: a simulator runs the
/// same over files of its own.
pub struct Local {
    /// The records that the node holds as a replica.
    pub store: Store,
    /// The hints that it holds for others.
    pub hints: HintLog,
}

// What the store says of its buckets is taken for what comparisons ask of theirs.
const _: () = assert!(quorate_storage::BUCKETS == quorate_antientropy::BUCKETS);

/// Requests to the store that end later carry the node's id, and one bit to tell which kind of
/// reply is expected.
const PERSISTS: u64 = 1 << 63;

/// Tombstones that are forgotten in one go.
const DROPPED_AT_ONCE: usize = 4_096;

impl Local {
    /// Does what can be done at once, and begins the rest; that ends in
    /// [`take_replies`](Self::take_replies).
    #[must_use]
    pub fn submit(&self, id: u64, request: StoreRequest) -> Option<StoreReply> {
        let read = match request {
            StoreRequest::Apply { key, record, floor, horizon } => {
                let bounds = Bounds { floor, horizon };
                let error = self.store.apply_within(bounds, id, key, record).err()?;
                return Some(StoreReply::Applied(PutOutcome::Refused(refusal(&error))));
            }
            StoreRequest::ReserveClock { ceiling } => {
                let error = self.store.reserve_clock(id | PERSISTS, ceiling).err()?;
                return Some(StoreReply::Persisted(Err(refusal(&error))));
            }
            StoreRequest::KeepNotes { notes } => {
                let text = notes.encode();
                let error = self.store.keep_notes(id | PERSISTS, notes.horizon, &text).err()?;
                return Some(StoreReply::Persisted(Err(refusal(&error))));
            }
            StoreRequest::DropTombstones { from } => {
                let (_, next) = self.store.drop_tombstones(from, DROPPED_AT_ONCE);
                return Some(StoreReply::Dropped { next });
            }
            StoreRequest::CountTombstones => {
                return Some(StoreReply::Counted(self.store.tombstones()));
            }
            StoreRequest::Progress => return Some(StoreReply::Counted(self.store.last_seq())),
            StoreRequest::PersistHint { hint } => {
                let error = self.hints.add(id, &hint).err()?;
                return Some(StoreReply::Persisted(Err(refusal(&error))));
            }
            StoreRequest::LookUpHint { target, key } => {
                return Some(StoreReply::Hint(self.hints.get(target, &key).map_err(hint_unread)));
            }
            StoreRequest::ReadHints { target, after, max_hints, max_bytes } => {
                let found = self.hints.next(target, after, max_hints, max_bytes);
                return Some(StoreReply::Hints(found.map_err(hint_unread)));
            }
            StoreRequest::ReadCourtesies { after, added_until_ms, max_hints } => {
                let found = self.hints.courtesies(after, added_until_ms, max_hints);
                return Some(StoreReply::Hints(found.map_err(hint_unread)));
            }
            StoreRequest::FindHint { key } => match self.hints.find(&key) {
                Ok(found) => Response::Found(found),
                Err(error) => unread(&error),
            },
            StoreRequest::Get { key, known: Some(stamp) } if self.store.holds(&key, &stamp) => {
                Response::Version(Some(stamp.version))
            }
            StoreRequest::Get { key, .. } => match self.store.get(&key) {
                Ok(found) => Response::Found(found),
                Err(error) => unread(&error),
            },
            StoreRequest::Digests { sets } => Response::Digests(self.store.digests(&sets)),
            StoreRequest::Buckets { ranges } => {
                Response::Digests(self.store.bucket_digests(&ranges))
            }
            StoreRequest::Sketches { sets, cells } => {
                let sketches = self.store.sketches(&sets, cells).into_iter();
                let digests = self.store.digests(&sets).into_iter();
                let group = |(digest, sketch)| GroupSketch { digest, sketch };
                Response::Sketches(digests.zip(sketches).map(group).collect())
            }
            StoreRequest::List { ranges, limit } => {
                let (items, complete) = self.store.list(&ranges, limit);
                Response::Listed { items, complete }
            }
            StoreRequest::Fetch { tokens, max_bytes } => {
                match self.store.records_at(&tokens, max_bytes) {
                    // What is damaged is in no list any more, so nobody asks for it again.
                    Ok(scanned) => Response::Fetched(scanned.records),
                    Err(error) => unread(&error),
                }
            }
        };
        Some(StoreReply::Read(read))
    }

    /// Removes a hint that is no longer needed.
    pub fn forget_hint(&self, target: NodeId, key: &Key, version: &Version) {
        self.hints.remove(target, key, *version);
    }

    /// The replies that have become ready.
    #[must_use]
    pub fn take_replies(&self) -> Vec<(u64, StoreReply)> {
        let mut applied: Vec<Completion<Applied>> = Vec::new();
        self.store.take_completions(&mut applied);
        let mut hinted: Vec<Completion<()>> = Vec::new();
        self.hints.take_completions(&mut hinted);
        let hinted = hinted.into_iter().map(|Completion { id, outcome }| {
            (id, StoreReply::Persisted(outcome.map_err(|error| refusal(&error))))
        });
        applied.into_iter().map(store_reply).chain(hinted).collect()
    }
}

fn store_reply(Completion { id, outcome }: Completion<Applied>) -> (u64, StoreReply) {
    if id & PERSISTS != 0 {
        let outcome = outcome.map(|_| ()).map_err(|error| refusal(&error));
        return (id & !PERSISTS, StoreReply::Persisted(outcome));
    }
    let outcome = match outcome {
        Ok(Applied::Stored) => PutOutcome::Stored,
        Ok(Applied::Superseded(version)) => PutOutcome::Superseded(version),
        Ok(Applied::Below(least)) => PutOutcome::Below(least),
        Err(_) if planted!(FailedWriteAcked) => PutOutcome::Stored,
        Err(error) => PutOutcome::Refused(refusal(&error)),
    };
    (id, StoreReply::Applied(outcome))
}

/// A replica that cannot read a record must not say that there is none.
fn unread(error: &ReadError) -> Response {
    tracing::warn!(%error, "a record was not read");
    Response::Refused(Refusal::Damaged)
}

fn hint_unread(error: ReadError) -> Refusal {
    tracing::warn!(%error, "hints were not read");
    Refusal::Damaged
}

fn refusal(error: &LogError) -> Refusal {
    match error {
        LogError::NoSpace => Refusal::DiskFull,
        LogError::Busy { .. } | LogError::Exhausted { .. } => Refusal::Overloaded,
        LogError::TooLarge { .. } => Refusal::Malformed,
        LogError::Poisoned { .. } | LogError::Closed => Refusal::LogFailed,
    }
}
