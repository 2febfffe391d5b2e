use std::collections::BTreeMap;

use quorate_record::{Key, Version};

use super::history::{Call, History, OpId};
use super::origin::may_be_deleted;
use super::violation::{Fault, Violation};

/// What a key ends with, once all faults are over and the replicas agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// The version.
    pub version: Version,
    /// The `id` of the [`Call::Put`]; `None` for a tombstone.
    pub value: Option<u64>,
}

/// Judges whether no acked write was lost: what a key ends with is not older, by version, than any
/// `claimed` write that was acked, with fallbacks or without; and some client wrote it.
///
/// A key that is not among `last` ends with nothing, which is as good as a tombstone that was
/// dropped. Linear, but for the look-ups.
pub fn durable(
    history: &History,
    last: &BTreeMap<Key, Last>,
    claimed: impl Fn(OpId) -> bool,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (key, ops) in history.keys() {
        let acked = ops.iter().filter(|&&id| claimed(id));
        let acked = acked.filter_map(|&id| Some((history.op(id).acked()?.version, id)));
        if let Some((acked, write)) = acked.max() {
            let end = last.get(key);
            let deleted = history.op(write).is_delete();
            if let Some(end) = end.filter(|end| end.version == acked)
                && end.value != put_value(history, write)
            {
                let there = end.value.and_then(|value| history.write_of_value(value));
                let ops: Vec<_> = [write].into_iter().chain(there).collect();
                violations.push(Violation::new(key, ops, Fault::Altered { version: acked }));
            }
            let older = end.is_some_and(|end| end.version < acked);
            // Another delete, unclaimed or of unknown outcome, may have won and be forgotten since.
            let perhaps = || may_be_deleted(history, ops, acked, u64::MAX);
            if older || (end.is_none() && !deleted && !perhaps()) {
                let fault = Fault::Lost { acked, last: end.map(|end| end.version) };
                violations.push(Violation::new(key, [write], fault));
            }
        }
    }
    for (key, end) in last {
        let Some(value) = end.value else { continue };
        let write = history.write_of_value(value);
        let genuine = write
            .map(|id| history.op(id))
            .is_some_and(|op| op.request.key == *key && op.may_exist() && !op.is_delete());
        if !genuine {
            let ops: Vec<_> = write.into_iter().collect();
            violations.push(Violation::new(key, ops, Fault::InventedEnd { value }));
        }
    }
    violations
}

fn put_value(history: &History, write: OpId) -> Option<u64> {
    match history.op(write).request.call {
        Call::Put { id } => Some(id),
        Call::Delete { .. } | Call::Get => None,
    }
}
