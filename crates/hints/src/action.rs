//! What a book answers and asks for.

use std::fmt;

use quorate_record::{Hint, HintPlace, Key, NodeId, Record, Version};

/// Something that the driver of a [`HintBook`](crate::HintBook) must do. The durable queue must see
/// what is meant for it in the order in which it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HintAction {
    /// Look up what the durable queue holds for this target and key, and report
    /// [`looked_up`](crate::HintBook::looked_up).
    LookUp {
        /// Names this request in the report.
        id: u64,
        /// The replica.
        target: NodeId,
        /// The key.
        key: Key,
    },
    /// Say what becomes of an offer. Comes exactly once for each.
    Answer {
        /// The offer, by its number.
        offer: u64,
        /// What becomes of it.
        answer: Offer,
    },
    /// Add `hint` to the durable queue, in place of any for the same target and key, and report
    /// [`persisted`](crate::HintBook::persisted).
    Persist {
        /// Names this request in the report.
        id: u64,
        /// What to add. Its kind may differ from the one that was offered.
        hint: Hint,
    },
    /// Read hints for `target` from the durable queue, behind a place and then around, and report
    /// [`read`](crate::HintBook::read). If this is no time for it, report
    /// [`postponed`](crate::HintBook::postponed).
    Read {
        /// The replica.
        target: NodeId,
        /// Names this batch in the report.
        batch: u64,
        /// Where to begin; `None` at the start.
        after: Option<HintPlace>,
        /// The most hints.
        max_hints: usize,
        /// The most that they take up; a single larger one is read all the same.
        max_bytes: u64,
    },
    /// Read courtesy hints behind a place that were taken on up to a time, and report
    /// [`swept`](crate::HintBook::swept).
    Sweep {
        /// Where to begin; `None` at the start.
        after: Option<HintPlace>,
        /// In milliseconds since the Unix epoch.
        added_until_ms: u64,
        /// The most hints.
        max_hints: usize,
    },
    /// Send these records to `target`, to be merged there, and report
    /// [`delivered`](crate::HintBook::delivered), [`target_busy`](crate::HintBook::target_busy) or
    /// [`delivery_failed`](crate::HintBook::delivery_failed).
    Deliver {
        /// The replica.
        target: NodeId,
        /// Names this batch in the report.
        batch: u64,
        /// At least one record; no key twice.
        hints: Vec<(Key, Record)>,
    },
    /// Take the hint for this target and key out of the durable queue if it has this version or an
    /// older one. Needs no report: after a crash it is delivered again, which does no harm.
    Forget {
        /// The replica.
        target: NodeId,
        /// The key.
        key: Key,
        /// The version up to which nothing is needed.
        version: Version,
    },
    /// A courtesy hint is gone undelivered, so that only anti-entropy will mend this key at `target`.
    /// The matching [`Forget`](Self::Forget) came just before.
    Dropped {
        /// The replica.
        target: NodeId,
        /// The key.
        key: Key,
        /// Why.
        why: DropReason,
    },
}

/// Why a courtesy hint was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// It was held for as long as such hints are.
    Expired,
    /// Its place was needed for an owed one.
    NoSpace,
}

/// What became of an offered hint.
///
/// Where there is an `id` or an `after`, the offer may be answered only once
/// [`HintAction::Persist`] of that number is done: with success then, with failure if that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It is kept, or one that was held as a courtesy is now owed.
    Keep {
        /// The request that makes it durable.
        id: u64,
    },
    /// The same record is held for this target already.
    AlreadyHeld {
        /// The request that makes it durable; `None` if it is.
        after: Option<u64>,
    },
    /// A greater record is held for this target and key already.
    Superseded {
        /// Its version.
        by: Version,
        /// The request that makes it durable; `None` if it is.
        after: Option<u64>,
    },
    /// It is not kept, and nothing of it remains.
    Refused(Refusal),
}

/// Why an offered hint is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// The space for hints is used up.
    Full,
    /// It is a courtesy, and those are switched off.
    SwitchedOff,
    /// What is held for the target and key cannot be read.
    Unreadable,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the space for hints is used up",
            Self::SwitchedOff => "courtesy hints are switched off",
            Self::Unreadable => "what is held cannot be read",
        })
    }
}

/// What a target did with one delivered record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Handed {
    /// It holds the record, or a greater one, durably.
    Taken,
    /// It does not; to be tried again later.
    Refused,
    /// It does not, and never will: the record is older than what it remembers deletes for. It is
    /// dropped.
    Dead,
}
