use std::collections::BTreeMap;

use quorate_record::{Key, Version};

use super::earlier::Earlier;
use super::history::{Call, History, OpId};
use super::origin::may_be_deleted;
use super::violation::{Fault, Violation};

/// Judges whether versions agree with time: a version belongs to one content, a write gets one
/// above those of all writes acked before it began, and a read sees none below them.
///
/// The second holds for `claimed` acked writes without fallbacks and with `2w > n`, the third for
/// claimed strict reads after claimed strict writes with `r + w > n`. A read that found nothing at
/// all may stand for a tombstone that was dropped. The first is asked of all.
///
/// Takes `m log m` for `m` operations.
pub fn order(history: &History, claimed: impl Fn(OpId) -> bool) -> Vec<Violation> {
    let mut violations = shared_versions(history);
    for (key, ops) in history.keys() {
        let acks = || {
            let acked = ops.iter().filter(|&&id| claimed(id)).filter_map(|&id| {
                let op = history.op(id);
                op.acked().filter(|ack| ack.strict).map(|ack| (id, op, ack))
            });
            acked.map(|(id, op, ack)| (id, op.invoke_us, op.request.needed, ack))
        };
        let earlier = Earlier::new(acks().map(|(id, _, w, ack)| (ack.at_us, w, ack.version, id)));
        let majority = history.n() / 2 + 1;
        for (id, invoke_us, w, ack) in acks() {
            if w >= majority
                && let Some((version, before)) = earlier.greatest(invoke_us, majority)
                && version >= ack.version
            {
                let fault = Fault::WriteOrder { earlier: version, later: ack.version };
                violations.push(Violation::new(key, [before, id], fault));
            }
        }
        for &id in ops.iter().filter(|&&id| claimed(id)) {
            let op = history.op(id);
            let Some(seen) = op.seen().filter(|seen| seen.strict) else { continue };
            let weight = (history.n() + 1).saturating_sub(op.request.needed);
            if let Some((acked, write)) = earlier.greatest(op.invoke_us, weight)
                && seen.version < Some(acked)
                && !(seen.version.is_none() && history.op(write).is_delete())
                && !(seen.version.is_none() && may_be_deleted(history, ops, acked, seen.at_us))
            {
                let fault = Fault::StaleVersion { acked, seen: seen.version };
                violations.push(Violation::new(key, [write, id], fault));
            }
        }
    }
    violations
}

/// Judges whether reads of a key never go back: one that began after another returned sees no
/// lesser version. That is promised of `claimed` strict reads that repair before they answer, two
/// of which always meet (`r + r > n`).
///
/// A read that found nothing at all after one that found a tombstone is let pass: tombstones may
/// be dropped. Takes `m log m` for `m` operations.
pub fn read_order(history: &History, claimed: impl Fn(OpId) -> bool) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (key, ops) in history.keys() {
        let reads = || {
            let reads = ops.iter().filter(|&&id| claimed(id)).filter_map(|&id| {
                let op = history.op(id);
                op.seen().filter(|seen| seen.strict).map(|seen| (id, op, seen))
            });
            reads.map(|(id, op, seen)| (id, op.invoke_us, op.request.needed, seen))
        };
        let earlier = Earlier::new(reads().filter_map(|(id, _, r, seen)| {
            Some((seen.at_us, r, (seen.version?, seen.value.is_some()), id))
        }));
        for (id, invoke_us, r, seen) in reads() {
            let weight = (history.n() + 1).saturating_sub(r);
            if let Some(((version, live), before)) = earlier.greatest(invoke_us, weight)
                && seen.version < Some(version)
                && (live || seen.version.is_some())
                && !(seen.version.is_none() && may_be_deleted(history, ops, version, seen.at_us))
            {
                let fault = Fault::ReadOrder { earlier: version, later: seen.version };
                violations.push(Violation::new(key, [before, id], fault));
            }
        }
    }
    violations
}

/// Who was first told of a version, and what it stands for.
struct Content<'h> {
    op: OpId,
    key: &'h Key,
    value: Option<u64>, // `None` for a tombstone
    write: Option<OpId>,
}

fn shared_versions(history: &History) -> Vec<Violation> {
    let mut contents: BTreeMap<Version, Content<'_>> = BTreeMap::new();
    let mut violations = Vec::new();
    for (op_id, op) in history.ops() {
        let (version, value) = match (op.request.call, op.seen()) {
            (Call::Put { id }, _) => (op.version(), Some(id)),
            (Call::Get, Some(seen)) => (seen.version, seen.value),
            (Call::Delete { .. }, _) | (Call::Get, None) => (op.version(), None),
        };
        let Some(version) = version else { continue };
        let key = &op.request.key;
        let write = op.is_write().then_some(op_id);
        let first = contents.entry(version).or_insert(Content { op: op_id, key, value, write });
        let other_write = write.is_some() && first.write.is_some_and(|first| first != op_id);
        if other_write || first.key != key || first.value != value {
            let fault = Fault::SharedVersion { version };
            violations.push(Violation::new(key, [first.op, op_id], fault));
        }
        first.write = first.write.or(write);
    }
    violations
}
