use std::collections::BTreeMap;

use quorate_record::Key;

use super::durable::Last;
use super::earlier::Earlier;
use super::history::{History, Op, OpId, Seen};
use super::violation::{Fault, Violation};

/// Judges whether unacked writes lose to acked ones that began later by more than `bound_us`.
///
/// What bounds them is the clocks: an unacked write was given its version within the timeout of its
/// request, and two clocks differ by at most twice the greatest offset. So the bound is the
/// timeout plus twice that; it means nothing where clocks may be further off.
///
/// An unacked write wins if its key ends with it, or if a strict read finds it that began after the
/// acked write returned and must have met it (`r + w > n`). Only `claimed` operations are judged,
/// and of acked writes the strict ones. Takes `m log m` for `m` operations.
pub fn ghosts(
    history: &History,
    last: &BTreeMap<Key, Last>,
    bound_us: u64,
    claimed: impl Fn(OpId) -> bool,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (key, ops) in history.keys() {
        let acked = ops.iter().filter(|&&id| claimed(id)).filter_map(|&id| {
            let op = history.op(id);
            let ack = op.acked().filter(|ack| ack.strict)?;
            Some((ack.at_us, op.request.needed, op.invoke_us, id))
        });
        let acked = Earlier::new(acked);
        let mut judge = |ghost: Option<OpId>, time_us, weight, read: Option<OpId>| {
            let ghost = ghost.filter(|&it| claimed(it) && is_ghost(history.op(it)));
            let Some((ghost, (began_us, write))) = ghost.zip(acked.greatest(time_us, weight))
            else {
                return;
            };
            let later_us = began_us.saturating_sub(history.op(ghost).invoke_us);
            if later_us > bound_us {
                let ops: Vec<_> = [ghost, write].into_iter().chain(read).collect();
                violations.push(Violation::new(key, ops, Fault::LateGhost { later_us, bound_us }));
            }
        };
        if let Some(&Last { version, value }) = last.get(key) {
            let end = Seen { at_us: u64::MAX, strict: true, value, version: Some(version) };
            judge(origin(history, &end), u64::MAX, 0, None);
        }
        for &read in ops.iter().filter(|&&id| claimed(id)) {
            let op = history.op(read);
            if let Some(seen) = op.seen().filter(|seen| seen.strict) {
                let weight = (history.n() + 1).saturating_sub(op.request.needed);
                judge(origin(history, &seen), op.invoke_us, weight, Some(read));
            }
        }
    }
    violations
}

/// The write of a value, or of a tombstone if its version is known.
fn origin(history: &History, seen: &Seen) -> Option<OpId> {
    match (seen.value, seen.version) {
        (Some(value), _) => history.write_of_value(value),
        (None, version) => {
            let write = version.and_then(|version| history.write_of_version(&version));
            write.filter(|&id| history.op(id).is_delete())
        }
    }
}

fn is_ghost(op: &Op) -> bool {
    op.may_exist() && op.acked().is_none()
}
