use std::collections::BTreeMap;

use quorate_record::{Key, Version};

use super::durable::Last;
use super::earlier::Earlier;
use super::history::{History, OpId};
use super::violation::{Fault, Violation};

/// Judges whether deleted keys stay deleted: if a delete was acked, and no write of its key began
/// after that, then nothing older is read afterwards, and the key does not end with it.
///
/// Older is what has a lesser version, and what was acked before the delete began. Only `claimed`
/// operations are judged. A read is, if it is strict and must have met the strict delete
/// (`r + w > n`); from `settled_us` on, when every replica is up to date, every read is. To be older
/// by time both writes must be strict with `2w > n`.
///
/// Takes `m log m` for `m` operations.
pub fn resurrection(
    history: &History,
    last: &BTreeMap<Key, Last>,
    settled_us: Option<u64>,
    claimed: impl Fn(OpId) -> bool,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (key, ops) in history.keys() {
        let deletes = Deletes::new(history, ops, &claimed);
        if let Some(end) = last.get(key)
            && let Some(value) = end.value
            && let Some(delete) = deletes.all.kills(history, end.version, value, u64::MAX, 0)
        {
            let ops: Vec<_> = [delete].into_iter().chain(history.write_of_value(value)).collect();
            violations.push(Violation::new(key, ops, Fault::Resurrected));
        }
        for &read in ops.iter().filter(|&&id| claimed(id)) {
            let op = history.op(read);
            let Some(seen) = op.seen() else { continue };
            let (Some(value), Some(version)) = (seen.value, seen.version) else { continue };
            let weight = (history.n() + 1).saturating_sub(op.request.needed);
            let met = seen
                .strict
                .then(|| deletes.strict.kills(history, version, value, op.invoke_us, weight));
            let settled = settled_us
                .filter(|&settled_us| settled_us <= op.invoke_us)
                .map(|time| deletes.all.kills(history, version, value, time, 0));
            if let Some(delete) = met.flatten().or(settled.flatten()) {
                let write = history.write_of_value(value);
                let ops: Vec<_> = [delete, read].into_iter().chain(write).collect();
                violations.push(Violation::new(key, ops, Fault::Resurrected));
            }
        }
    }
    violations
}

/// The last deletes of a key: those that no write followed.
struct Deletes {
    all: Graves,
    strict: Graves,
}

/// Deletes by when they returned.
struct Graves {
    by_version: Earlier<Version>,
    by_start: Earlier<u64>, // only those that replace every write acked before
}

impl Deletes {
    fn new(history: &History, ops: &[OpId], claimed: impl Fn(OpId) -> bool) -> Self {
        let writes = ops.iter().map(|&id| history.op(id)).filter(|op| op.may_exist());
        let last_start = writes.map(|op| op.invoke_us).max().unwrap_or(0);
        let deletes = ops.iter().copied().filter(|&id| history.op(id).is_delete() && claimed(id));
        let deletes: Vec<_> = deletes
            .filter(|&id| history.op(id).acked().is_some_and(|ack| ack.at_us >= last_start))
            .collect();
        let strict = |id: &OpId| history.op(*id).acked().is_some_and(|ack| ack.strict);
        let strict_ones: Vec<_> = deletes.iter().copied().filter(strict).collect();
        Self { all: Graves::new(history, &deletes), strict: Graves::new(history, &strict_ones) }
    }
}

impl Graves {
    fn new(history: &History, deletes: &[OpId]) -> Self {
        let by_version = deletes.iter().filter_map(|&id| {
            let (op, ack) = (history.op(id), history.op(id).acked()?);
            Some((ack.at_us, op.request.needed, ack.version, id))
        });
        let by_start = deletes.iter().filter_map(|&id| {
            let (op, ack) = (history.op(id), history.op(id).acked()?);
            let orders = ack.strict && 2 * op.request.needed > history.n();
            orders.then_some((ack.at_us, op.request.needed, op.invoke_us, id))
        });
        Self { by_version: Earlier::new(by_version), by_start: Earlier::new(by_start) }
    }

    /// A delete that returned before `time_us`, weighs `weight`, and is newer than the value.
    fn kills(
        &self,
        history: &History,
        version: Version,
        value: u64,
        time_us: u64,
        weight: usize,
    ) -> Option<OpId> {
        let newer = self.by_version.greatest(time_us, weight).filter(|&(grave, _)| version < grave);
        let ended_us = history.write_of_value(value).and_then(|id| {
            let op = history.op(id);
            let orders = 2 * op.request.needed > history.n();
            op.acked().filter(|ack| ack.strict && orders).map(|ack| ack.at_us)
        });
        let later = self.by_start.greatest(time_us, weight);
        let later = later.filter(|&(start_us, _)| ended_us.is_some_and(|end| end < start_us));
        newer.map(|(_, id)| id).or(later.map(|(_, id)| id))
    }
}
