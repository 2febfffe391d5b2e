use std::time::Duration;

use bytes::Bytes;
use quorate_quorum::{GetError, GetReceipt, PutError, PutReceipt, Quorum};
use quorate_record::{Key, NodeId, Record, Version};

use crate::Refusal;

/// A client's request, checked and with all defaults filled in.
#[derive(Clone, Debug)]
pub struct ClientRequest {
    /// The key.
    pub key: Key,
    /// What to do with it.
    pub operation: Operation,
    /// How many replicas must take part, and whether fallbacks may stand in.
    pub quorum: Quorum,
    /// Whether reads and writes of the key are to be linearizable. The quorum must then be a strict
    /// majority both ways.
    pub atomic: bool,
    /// Whether the answer to a write waits, once its quorum is met, until all owners of the key hold
    /// it or something newer. At the deadline the receipt names those that
    /// [lack](PutReceipt::lacking) it.
    pub wait_for_owners: bool,
    /// The client's deadline, from now.
    pub timeout: Duration,
}

/// What a client wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Store a value.
    Put(Bytes),
    /// Store a tombstone.
    Delete,
    /// Read.
    Get,
}

/// The one answer to a [`ClientRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientReply {
    /// To [`Operation::Put`] and [`Operation::Delete`].
    Written(Result<PutReceipt<NodeId, Version>, Failure<PutError>>),
    /// To [`Operation::Get`]; the record found may be a tombstone.
    Read(Result<GetReceipt<NodeId, Record>, Failure<GetError>>),
    /// Nothing was begun: no replica has or will have anything of it.
    Refused(Refusal),
}

/// Why a request got no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure<E> {
    /// What the coordinator saw.
    pub error: E,
    /// The last reason that a replica gave for refusing its part, if one did.
    pub reason: Option<Refusal>,
}
