use std::collections::BTreeMap;
use std::fmt;

use quorate_record::{Key, NodeId, Version};

/// What clients asked of a cluster in one run, and what they were told.
///
/// Times are microseconds of one clock that all clients share, as a simulated world has it. Two
/// events at the same microsecond count as concurrent.
#[derive(Clone, Debug)]
pub struct History {
    n: usize,
    ops: Vec<Op>,
    by_key: BTreeMap<Key, Vec<OpId>>,
    by_value: BTreeMap<u64, OpId>,
    by_version: BTreeMap<Version, OpId>,
}

/// One operation of a [`History`]; they are numbered in the order they were invoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(usize);

/// What a client asks of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The key.
    pub key: Key,
    /// The node that is asked, and coordinates.
    pub coordinator: NodeId,
    /// What is to be done with the key.
    pub call: Call,
    /// How many nodes must answer: W of a write, R of a read.
    pub needed: usize,
    /// Whether fallbacks may stand in for replicas.
    pub sloppy: bool,
}

/// What is to be done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// Write a value that names itself.
    Put {
        /// Unlike that of every other write of the history, of whatever key. Where a client writes
        /// a value again, whoever reads it must tell the two writes apart by something else.
        id: u64,
    },
    /// Write a tombstone.
    Delete {
        /// Unlike that of every other write of the history.
        id: u64,
    },
    /// Read.
    Get,
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The write succeeded.
    Acked {
        /// The version it was given.
        version: Version,
        /// Whether only replicas were counted, no fallback.
        strict: bool,
        /// The nodes that were counted.
        acks: Vec<NodeId>,
    },
    /// The write failed, and no node can have it.
    Rejected,
    /// The write failed, or is thought to have, but may appear.
    Indeterminate {
        /// The version it was given, if the client was told.
        version: Option<Version>,
    },
    /// The read found a value.
    Found {
        /// Which value: the `id` of a [`Call::Put`].
        id: u64,
        /// The version it was found under.
        version: Version,
        /// Whether only replicas were counted, no fallback.
        strict: bool,
        /// The nodes that were counted.
        from: Vec<NodeId>,
    },
    /// The read found nothing, or a tombstone.
    Absent {
        /// The version of the tombstone; `None` if there was none.
        version: Option<Version>,
        /// Whether only replicas were counted, no fallback.
        strict: bool,
        /// The nodes that were counted.
        from: Vec<NodeId>,
    },
    /// The read failed.
    Failed,
}

/// One request and its answers.
#[derive(Clone, Debug)]
pub struct Op {
    /// What was asked.
    pub request: Request,
    /// When, in microseconds.
    pub invoke_us: u64,
    answers: Vec<Answer>,
    abandoned: bool,
}

/// One answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it came, in microseconds.
    pub at_us: u64,
    /// What it says.
    pub outcome: Outcome,
}

/// A write that succeeded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ack {
    pub(super) at_us: u64,
    pub(super) version: Version,
    pub(super) strict: bool,
}

/// A read that succeeded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) at_us: u64,
    pub(super) strict: bool,
    pub(super) value: Option<u64>,
    pub(super) version: Option<Version>,
}

impl History {
    /// The empty history of a cluster that keeps `n` replicas of each key.
    #[must_use]
    pub const fn new(n: usize) -> Self {
        Self {
            n,
            ops: Vec::new(),
            by_key: BTreeMap::new(),
            by_value: BTreeMap::new(),
            by_version: BTreeMap::new(),
        }
    }

    /// Notes that a client sent `request`.
    ///
    /// # Panics
    /// If it writes an `id` that an earlier one wrote: then no read could be judged.
    pub fn invoke(&mut self, request: Request, at_us: u64) -> OpId {
        let id = OpId(self.ops.len());
        if let Call::Put { id: value } | Call::Delete { id: value } = request.call {
            let earlier = self.by_value.insert(value, id);
            assert!(earlier.is_none(), "two writes of {value}");
        }
        self.by_key.entry(request.key.clone()).or_default().push(id);
        self.ops.push(Op { request, invoke_us: at_us, answers: Vec::new(), abandoned: false });
        id
    }

    /// Notes that the client was told `outcome`. Every answer belongs in here, a second one too.
    ///
    /// # Panics
    /// If there is no such operation, or it was invoked later than `at_us`.
    pub fn answer(&mut self, op: OpId, at_us: u64, outcome: Outcome) {
        let asked = &mut self.ops[op.0];
        assert!(asked.invoke_us <= at_us, "{op} was answered before it was asked");
        if let Outcome::Acked { version, .. } | Outcome::Indeterminate { version: Some(version) } =
            outcome
            && asked.is_write()
        {
            self.by_version.entry(version).or_insert(op);
        }
        asked.answers.push(Answer { at_us, outcome });
    }

    /// Notes that no answer is owed: the client went away, or the coordinator crashed.
    ///
    /// # Panics
    /// If there is no such operation.
    pub fn abandon(&mut self, op: OpId) {
        self.ops[op.0].abandoned = true;
    }

    /// How many replicas each key has.
    #[must_use]
    pub const fn n(&self) -> usize {
        self.n
    }

    /// One operation.
    ///
    /// # Panics
    /// If there is none of this number.
    #[must_use]
    pub fn op(&self, id: OpId) -> &Op {
        &self.ops[id.0]
    }

    /// All operations in the order they were invoked.
    pub fn ops(&self) -> impl Iterator<Item = (OpId, &Op)> {
        self.ops.iter().enumerate().map(|(index, op)| (OpId(index), op))
    }

    /// The operations on one key, in the order they were invoked.
    #[must_use]
    pub fn of_key(&self, key: &Key) -> &[OpId] {
        self.by_key.get(key).map_or(&[], Vec::as_slice)
    }

    /// Each key with its operations, in the order of the keys.
    pub fn keys(&self) -> impl Iterator<Item = (&Key, &[OpId])> {
        self.by_key.iter().map(|(key, ops)| (key, ops.as_slice()))
    }

    /// The write of this value or tombstone.
    #[must_use]
    pub fn write_of_value(&self, id: u64) -> Option<OpId> {
        self.by_value.get(&id).copied()
    }

    /// The first write that a client was told has this version.
    #[must_use]
    pub fn write_of_version(&self, version: &Version) -> Option<OpId> {
        self.by_version.get(version).copied()
    }
}

impl Op {
    /// What the client was told first; `None` if nothing.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.answers.first().map(|answer| &answer.outcome)
    }

    /// All answers, of which there should be one.
    #[must_use]
    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }

    /// Whether no answer is owed.
    #[must_use]
    pub const fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// Whether it is a put or a delete.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        matches!(self.request.call, Call::Put { .. } | Call::Delete { .. })
    }

    /// Whether it is a delete.
    #[must_use]
    pub const fn is_delete(&self) -> bool {
        matches!(self.request.call, Call::Delete { .. })
    }

    /// Whether it is a write that no node can have.
    pub(super) fn is_rejected(&self) -> bool {
        self.is_write() && matches!(self.outcome(), Some(Outcome::Rejected))
    }

    /// Whether it is a write that somebody may have.
    pub(super) fn may_exist(&self) -> bool {
        self.is_write() && !self.is_rejected()
    }

    pub(super) fn acked(&self) -> Option<Ack> {
        let answer = self.answers.first().filter(|_| self.is_write())?;
        match answer.outcome {
            Outcome::Acked { version, strict, .. } => {
                Some(Ack { at_us: answer.at_us, version, strict })
            }
            _ => None,
        }
    }

    /// The version of a write, as far as its client was told.
    pub(super) fn version(&self) -> Option<Version> {
        match self.outcome().filter(|_| self.is_write())? {
            Outcome::Acked { version, .. } => Some(*version),
            Outcome::Indeterminate { version } => *version,
            _ => None,
        }
    }

    pub(super) fn seen(&self) -> Option<Seen> {
        let answer = self.answers.first().filter(|_| !self.is_write())?;
        let at_us = answer.at_us;
        match answer.outcome {
            Outcome::Found { id, version, strict, .. } => {
                Some(Seen { at_us, strict, value: Some(id), version: Some(version) })
            }
            Outcome::Absent { version, strict, .. } => {
                Some(Seen { at_us, strict, value: None, version })
            }
            _ => None,
        }
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(id: u64) -> Request {
        Request {
            key: Key::new("k").unwrap(),
            coordinator: NodeId::new("n1").unwrap(),
            call: Call::Put { id },
            needed: 2,
            sloppy: false,
        }
    }

    #[test]
    #[should_panic(expected = "two writes of 7")]
    fn values_name_themselves() {
        let mut history = History::new(3);
        history.invoke(put(7), 0);
        history.invoke(put(7), 1);
    }

    #[test]
    fn the_first_answer_counts_and_later_ones_are_kept() {
        let mut history = History::new(3);
        let op = history.invoke(put(7), 0);
        history.answer(op, 5, Outcome::Rejected);
        history.answer(op, 6, Outcome::Indeterminate { version: None });
        assert_eq!(history.op(op).outcome(), Some(&Outcome::Rejected));
        assert_eq!(history.op(op).answers().len(), 2);
        assert_eq!(history.write_of_value(7), Some(op));
    }
}
