use std::{ops::RangeInclusive, time::Duration};

use quorate_antientropy::{GroupSketch, Overview};
use quorate_record::{Digest, Key, NodeId, Record, Stamp, Timestamp, Version};

/// What one node sends another over their stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Asks for something; every request is answered once, or its connection is lost.
    Request {
        /// Chosen by the asker, unique among its open requests.
        id: u64,
        /// How long the asker still waits; work that comes too late is dropped undone.
        time_left: Duration,
        /// What is asked.
        body: Request,
    },
    /// The answer to a request.
    Response {
        /// The request's id.
        id: u64,
        /// How many [notes](Standing::notes) the answerer had taken when it answered. Who has not heard of all of them
        /// may not know that a node whose answers it counts has lost its data since.
        notes: u32,
        /// The answer.
        body: Response,
    },
}

/// What a node asks of another, or of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// "Are you there?" Answered by [`Response::Pong`].
    Ping {
        /// The asker's wall clock, in milliseconds since the Unix epoch.
        wall_ms: u64,
    },
    /// "Are you there, and how do you stand?" Answered by [`Response::Met`], once the answerer has durably noted in
    /// which life the asker is.
    Meet {
        /// The asker's wall clock, in milliseconds since the Unix epoch.
        wall_ms: u64,
        /// Which of its lives the asker is in.
        incarnation: u64,
        /// How much its log holds durably: the sequence number of its last frame.
        progress: u64,
    },
    /// Take on no version any more below your clock less the grace, and say below which version you hold nothing that
    /// others may not have. Answered by [`Response::Reported`].
    Report,
    /// Take part in a client's write. Answered by [`Response::Put`].
    Put {
        /// The key.
        key: Key,
        /// What to store.
        record: Record,
        /// Keep it as a hint for this replica instead of storing it.
        hint_for: Option<NodeId>,
    },
    /// Take part in a client's read. Answered by [`Response::Found`], or by [`Response::Version`]
    /// with the version of what is `known`, if that is what is held.
    Get {
        /// The key.
        key: Key,
        /// Look among the hints held for others instead of the own records.
        from_hints: bool,
        /// A record that the asker has already. A replica that holds the same need neither read nor
        /// send it.
        known: Option<Stamp>,
    },
    /// Say which version you hold, for an atomic write that needs one above it. Answered by
    /// [`Response::Version`].
    Version {
        /// The key.
        key: Key,
    },
    /// Merge these records, which another owner or a hint holder has. Answered by
    /// [`Response::Merged`].
    Merge {
        /// Together at most about [`MAX_BATCH_BYTES`], or a single record.
        records: Vec<(Key, Record)>,
    },
    /// Summarise what you hold in each of these spans of the token space, as far as you and the
    /// asker both own it. Answered by [`Response::Digests`].
    Digests {
        /// At most [`MAX_SPANS`].
        spans: Vec<RangeInclusive<u64>>,
    },
    /// Give an overview of what you hold in all buckets of the token space, as far as you and the
    /// asker both own them. Answered by [`Response::Overview`].
    Overview {
        /// For the short digests.
        salt: u64,
        /// What the asker holds in all of them. If you hold the same, say just that.
        whole: Digest,
    },
    /// Sum up what you hold in each of these groups of buckets, as far as you and the asker both own
    /// it. Answered by [`Response::Sketches`].
    Sketches {
        /// At most [`MAX_GROUPS`] with at most [`MAX_BUCKETS`] buckets together.
        groups: Vec<Vec<u16>>,
    },
    /// List what you hold in this span of the token space, as far as you and the asker both own
    /// it. Answered by [`Response::Listed`].
    List {
        /// Tokens from first to last.
        span: RangeInclusive<u64>,
    },
    /// Send the records whose keys have these tokens, as far as you and the asker both own them.
    /// Answered by [`Response::Fetched`].
    Fetch {
        /// At most [`MAX_ITEMS`].
        tokens: Vec<u64>,
    },
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// To [`Request::Ping`].
    Pong {
        /// The answerer's wall clock, in milliseconds since the Unix epoch.
        wall_ms: u64,
    },
    /// To [`Request::Meet`].
    Met {
        /// The answerer's wall clock, in milliseconds since the Unix epoch.
        wall_ms: u64,
        /// How it stands.
        standing: Box<Standing>,
    },
    /// To [`Request::Report`]: the answerer takes on no version below this that it does not hold now, and holds no hint
    /// below it.
    Reported(Timestamp),
    /// To a client's write or read: this is what the answerer did or holds, but it has lost data, and counts for nothing
    /// until it has been filled again.
    Uncounted(Box<Response>),
    /// To [`Request::Put`].
    Put(PutOutcome),
    /// To [`Request::Get`]: what is held, tombstones included; [`Record::buried`] if there is nothing and the replica has a
    /// horizon.
    Found(Option<Record>),
    /// To [`Request::Version`]: the version held, tombstones and [`Version::buried`] included. To [`Request::Get`]: the
    /// version known to the asker is held.
    Version(Option<Version>),
    /// To [`Request::Merge`]: one outcome a record, in its order.
    Merged(Vec<PutOutcome>),
    /// To [`Request::Digests`]: one digest a span, in its order.
    Digests(Vec<Digest>),
    /// To [`Request::Overview`].
    Overview(Overview),
    /// To [`Request::Sketches`]: one a group, in its order.
    Sketches(Vec<GroupSketch>),
    /// To [`Request::List`].
    Listed {
        /// Token and stamp of each record, in token order.
        items: Vec<(u64, Stamp)>,
        /// Whether these are all; if not, the rest lies behind the last token.
        complete: bool,
    },
    /// To [`Request::Fetch`]: the records of the first tokens, as many as fit in a batch, without
    /// those that are damaged; none only if there are none to be read.
    Fetched(Vec<(Key, Record)>),
    /// To any request: it was not done and will not be.
    Refused(Refusal),
}

impl Message {
    /// How many bytes of values it carries.
    #[must_use]
    pub fn value_bytes(&self) -> usize {
        match self {
            Self::Request { body, .. } => body.value_bytes(),
            Self::Response { body: Response::Found(Some(record)), .. } => value_bytes(record),
            Self::Response { body: Response::Fetched(records), .. } => all_value_bytes(records),
            Self::Response { .. } => 0,
        }
    }
}

impl Request {
    /// How many bytes of values it carries.
    pub(crate) fn value_bytes(&self) -> usize {
        match self {
            Self::Put { record, .. } => value_bytes(record),
            Self::Merge { records } => all_value_bytes(records),
            _ => 0,
        }
    }
}

fn value_bytes(record: &Record) -> usize {
    record.value.as_ref().map_or(0, |value| value.len())
}

fn all_value_bytes(records: &[(Key, Record)]) -> usize {
    records.iter().map(|(_, record)| value_bytes(record)).sum()
}

/// How a node stands, as it tells a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The latest life of the asker that the answerer has durably noted; zero if none.
    pub noted: u64,
    /// The greatest progress that the asker has told in that life, as far as the answerer remembers.
    pub remembered: u64,
    /// How many notes the answerer has taken since it started, and one for those that it found.
    pub notes: u32,
    /// The latest life of each node that it has noted; at most [`MAX_ITEMS`].
    pub lives: Vec<(NodeId, u64)>,
    /// Whether it has lost data and is not filled again yet.
    pub is_recovering: bool,
    /// It takes on no new version below this.
    pub floor: Timestamp,
    /// It holds every acknowledged write below this; zero while it is being filled.
    pub horizon: Timestamp,
}

/// What became of one record at one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The node holds exactly this record, durably.
    Stored,
    /// The node holds a greater one, durably.
    Superseded(Version),
    /// The node has not taken it and will not: it is below this, and too old to be taken on.
    Below(Timestamp),
    /// The node has not taken it and will not.
    Refused(Refusal),
}

/// Why a node did not do what it was asked. Nothing has been changed, except perhaps where the log
/// has failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no space for it on the disk.
    #[error("the disk is full")]
    DiskFull,
    /// The log failed and takes no more writes until the node is restarted. A record that was being
    /// written then may or may not be found after that.
    #[error("the log has failed; the node takes no writes until it is restarted")]
    LogFailed,
    /// Too much is waiting already.
    #[error("overloaded")]
    Overloaded,
    /// The space for hints is used up, or hints are switched off.
    #[error("no room for hints")]
    NoHintRoom,
    /// The node is no owner of the key.
    #[error("not an owner of the key")]
    NotOwner,
    /// The version is further ahead of the node's clock than clocks may differ.
    #[error("the version lies too far ahead of this node's clock")]
    TooFarAhead,
    /// The node's clock is further ahead of its peers' than clocks may differ. Too few of them would
    /// take what it writes, and it alone would hold it.
    #[error("this node's clock is too far ahead of its peers' clocks")]
    ClockAhead,
    /// The asker's time was over before the work began.
    #[error("the deadline had passed")]
    TooLate,
    /// The request breaks a limit or contradicts itself.
    #[error("malformed request")]
    Malformed,
    /// The node has, or had, what was asked for and cannot read it. It is not to be taken for
    /// absent; another replica may have it.
    #[error("damaged here")]
    Damaged,
}

/// Most bytes of records in a [`Request::Merge`] or [`Response::Fetched`], unless a single record
/// is larger.
pub const MAX_BATCH_BYTES: usize = 1024 * 1024;

/// Most spans in a [`Request::Digests`].
pub const MAX_SPANS: usize = quorate_antientropy::MAX_SPANS;

/// Most groups in a [`Request::Sketches`].
pub const MAX_GROUPS: usize = quorate_antientropy::MAX_GROUPS;

/// Most buckets in a [`Request::Sketches`] or [`Response::Overview`]: all there are.
pub const MAX_BUCKETS: usize = quorate_antientropy::BUCKETS;

/// Most cells in a sketch of a [`Response::Sketches`].
pub const MAX_CELLS: usize = quorate_antientropy::SKETCH_CELLS;

/// Most items in a list of tokens, stamps or records.
pub const MAX_ITEMS: usize = 1024;
