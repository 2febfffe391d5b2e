use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use quorate_record::{Hint, HintPlace, HintsFound, Key, NodeId, Record, Stamp, Timestamp, Version};

use crate::{ClientReply, ClientRequest, Message, Notes, PutOutcome, Refusal, Request, Response};

/// The time, as the driver sees it when it reports an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Never goes back; for waits and deadlines.
    pub instant: Instant,
    /// Milliseconds since the Unix epoch; may jump. For versions and for the age of hints.
    pub wall_ms: u64,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client asks. Ends in [`Action::Reply`].
    Client {
        /// Chosen by the driver, unique among its open requests.
        request: u64,
        /// What the client wants.
        body: ClientRequest,
    },
    /// Somebody asks this node directly, as a peer would. Ends in [`Action::Answer`].
    Direct {
        /// Chosen by the driver, unique among its open requests.
        request: u64,
        /// What is asked.
        body: Request,
    },
    /// A peer's message came.
    Received {
        /// The peer.
        from: NodeId,
        /// The connection it came over; numbers are never used twice. A response goes back over
        /// the connection of its request or not at all: the peer may have been restarted since,
        /// and take it for the answer to another request.
        via: u64,
        /// What it says.
        message: Message,
    },
    /// A request to a peer could not be sent: nothing of it has left this node.
    Unsent {
        /// The peer.
        to: NodeId,
        /// The request's id.
        id: u64,
    },
    /// A request to a peer could not be sent: the version of the protocol that the two speak does
    /// not have it.
    Unspoken {
        /// The peer.
        to: NodeId,
        /// The request's id.
        id: u64,
    },
    /// A connection to a peer stands.
    Connected {
        /// The peer.
        peer: NodeId,
        /// Which of its lives it is in.
        incarnation: u64,
    },
    /// The connection to a peer is gone, or could not be made. What was asked of it may or may not
    /// have been done.
    Lost {
        /// The peer.
        peer: NodeId,
    },
    /// A node is gone for good, and its data with it, as an operator says: who is being filled again need not wait for it.
    Gone {
        /// The node.
        node: NodeId,
    },
    /// The local store has done what [`Action::Store`] asked.
    Store {
        /// The id given there.
        id: u64,
        /// What came of it.
        reply: StoreReply,
    },
    /// The local store has records with these tokens that it cannot read, as may be found out at any
    /// time. What comes of it is not said: what is still damaged some time later is told again.
    Damaged {
        /// Their tokens.
        tokens: Vec<u64>,
    },
    /// The time given by [`Node::next_wake`](crate::Node::next_wake) has come.
    Woken,
    /// What is ready to be done waits so long for its turn at the driver. To be reported a few times in
    /// a tenth of a second while the node has [much to do](crate::Node::is_busy), so that it takes in
    /// no more than it can look at in time.
    Lagged {
        /// How long something waited that was ready.
        by: Duration,
    },
}

/// Something the driver must do; actions are carried out in the order they come.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send a request to a peer. If that cannot be done at once, it is to be reported as
    /// [`Event::Unsent`] or [`Event::Unspoken`].
    Send {
        /// The peer.
        to: NodeId,
        /// What to ask.
        message: Message,
    },
    /// Send a response over the connection that its request came by; if that is gone, drop it.
    Respond {
        /// The connection.
        via: u64,
        /// The answer.
        message: Message,
    },
    /// Have the local store do something. Ends in [`Event::Store`].
    Store {
        /// To be named in the event.
        id: u64,
        /// What to do.
        request: StoreRequest,
    },
    /// Remove what the hint queue holds for this target and key, unless it is newer than `version`.
    /// Needs no answer: a hint that comes back after a crash is delivered again, harmlessly.
    ForgetHint {
        /// Whom the hint was for.
        target: NodeId,
        /// Its key.
        key: Key,
        /// The version that is no longer needed.
        version: Version,
    },
    /// Begin another life: the data is older than what peers remember of this node. The driver is to write down an
    /// incarnation above this and above its own, and start the node again with it; the node counts for nothing any more.
    Renew {
        /// A lower bound for the incarnation.
        above: u64,
        /// What has been seen, for people.
        why: String,
    },
    /// Answer a client; comes once for each [`Event::Client`].
    Reply {
        /// The client's request.
        request: u64,
        /// The answer.
        reply: Box<ClientReply>,
    },
    /// Answer a direct request; comes once for each [`Event::Direct`].
    Answer {
        /// The request.
        request: u64,
        /// The answer.
        response: Response,
    },
}

/// What a node asks of its local store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreRequest {
    /// Merge a record into what is held for its key, unless it is below the floor, or nothing is held and it is below the
    /// horizon. Ends in [`StoreReply::Applied`].
    Apply {
        /// The key.
        key: Key,
        /// What to merge.
        record: Record,
        /// Nothing is taken on below it.
        floor: Timestamp,
        /// Nothing is taken on below it for a key of which nothing is held.
        horizon: Timestamp,
    },
    /// Look a key up. Ends in [`Response::Found`], or in [`Refusal::Damaged`] if there is or was a
    /// record that cannot be read: it may be greater than what others hold, so it is not absent.
    /// Ends in [`Response::Version`] if what is held is `known`.
    Get {
        /// The key.
        key: Key,
        /// A record that need not be read.
        known: Option<Stamp>,
    },
    /// Summarise sets of token ranges, without what is known to be damaged, so that peers send it
    /// again. Ends in [`Response::Digests`].
    Digests {
        /// Each gets one digest; the ranges of a set are disjoint.
        sets: Vec<Vec<RangeInclusive<u64>>>,
    },
    /// Summarise each bucket of the token space that has tokens in these ranges, as far as it has, in
    /// the same way. Ends in [`Response::Digests`].
    Buckets {
        /// Disjoint and in order.
        ranges: Vec<RangeInclusive<u64>>,
    },
    /// Sum sets of token ranges up in sketches, without what is known to be damaged. Ends in
    /// [`Response::Sketches`].
    Sketches {
        /// Each gets one digest and one sketch; the ranges of a set are disjoint.
        sets: Vec<Vec<RangeInclusive<u64>>>,
        /// How many cells each sketch has.
        cells: usize,
    },
    /// List token ranges, at most `limit` records, without what is known to be damaged. Ends in
    /// [`Response::Listed`].
    List {
        /// Disjoint and in order.
        ranges: Vec<RangeInclusive<u64>>,
        /// Most items of the answer.
        limit: usize,
    },
    /// Read the records with these tokens, in order, until `max_bytes` are reached; at least one
    /// record if there is any. Ends in [`Response::Fetched`]; those that cannot be read are left
    /// out, or if that leaves nothing, perhaps in [`Refusal::Damaged`].
    Fetch {
        /// The tokens.
        tokens: Vec<u64>,
        /// Most bytes of keys and values.
        max_bytes: usize,
    },
    /// Persist a clock ceiling. Ends in [`StoreReply::Persisted`].
    ReserveClock {
        /// No version up to here may be issued after a restart.
        ceiling: Timestamp,
    },
    /// Persist these in place of the notes before, behind everything that was asked before. Ends in
    /// [`StoreReply::Persisted`].
    KeepNotes {
        /// All of them.
        notes: Notes,
    },
    /// Forget tombstones below the durable horizon, a bounded number of them. Ends in [`StoreReply::Dropped`].
    DropTombstones {
        /// Where to begin; `None` for the beginning.
        from: Option<u64>,
    },
    /// Count the tombstones. Ends in [`StoreReply::Counted`].
    CountTombstones,
    /// Tell the sequence number of the last durable frame of the log. Ends in [`StoreReply::Counted`].
    Progress,
    /// Persist a hint in the hint queue. Ends in [`StoreReply::Persisted`].
    PersistHint {
        /// The hint.
        hint: Hint,
    },
    /// Look up the durable hint for a target and key. Ends in [`StoreReply::Hint`].
    LookUpHint {
        /// Whom it is for.
        target: NodeId,
        /// Its key.
        key: Key,
    },
    /// Look for the greatest durable hint for a key, for whichever target. Ends in
    /// [`Response::Found`].
    FindHint {
        /// The key.
        key: Key,
    },
    /// Read durable hints for a target, in the order of the queue: those behind a place, then those
    /// up to there. Ends in [`StoreReply::Hints`].
    ReadHints {
        /// Whom they are for.
        target: NodeId,
        /// Where to begin; `None` at the start.
        after: Option<HintPlace>,
        /// The most hints.
        max_hints: usize,
        /// The most that they take up in the queue; a single larger one is read all the same.
        max_bytes: u64,
    },
    /// Read durable courtesy hints behind a place that were taken on up to a time, in the order of
    /// the queue. Ends in [`StoreReply::Hints`], which says where to go on only if there may be more.
    ReadCourtesies {
        /// Where to begin; `None` at the start.
        after: Option<HintPlace>,
        /// In milliseconds since the Unix epoch.
        added_until_ms: u64,
        /// The most hints.
        max_hints: usize,
    },
}

/// What came of a [`StoreRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreReply {
    /// To [`StoreRequest::Apply`]; what it says is durable, as far as the sync policy goes.
    Applied(PutOutcome),
    /// To [`StoreRequest::ReserveClock`], [`StoreRequest::KeepNotes`] and [`StoreRequest::PersistHint`].
    Persisted(Result<(), Refusal>),
    /// To [`StoreRequest::DropTombstones`].
    Dropped {
        /// Where to go on; `None` if that was all.
        next: Option<u64>,
    },
    /// To [`StoreRequest::CountTombstones`] and [`StoreRequest::Progress`].
    Counted(u64),
    /// To [`StoreRequest::LookUpHint`].
    Hint(Result<Option<Hint>, Refusal>),
    /// To [`StoreRequest::ReadHints`] and [`StoreRequest::ReadCourtesies`].
    Hints(Result<HintsFound, Refusal>),
    /// To the others: the same as to the peer request of that name, or [`Response::Refused`].
    Read(Response),
}
