use quorate_record::Version;

use super::history::{History, Op, OpId, Seen};
use super::violation::{Fault, Violation};

/// The write of the `value` that a read of the same key found.
///
/// No promise about quorums is needed for this: a value was written for this key, by a write that
/// was not called rejected, and that began before the read returned.
pub(super) fn origin(
    history: &History,
    (read, op): (OpId, &Op),
    seen: &Seen,
    value: u64,
) -> Result<OpId, Violation> {
    let key = &op.request.key;
    let Some(write) = history.write_of_value(value).filter(|&it| !history.op(it).is_delete())
    else {
        return Err(Violation::new(key, [read], Fault::Invented { value }));
    };
    let written = history.op(write);
    let fault = if written.request.key != *key {
        Fault::OtherKey { value, written_for: written.request.key.clone() }
    } else if written.is_rejected() {
        Fault::RejectedSeen
    } else if seen.at_us < written.invoke_us {
        Fault::FromTheFuture
    } else {
        return Ok(write);
    };
    Err(Violation::new(key, [read, write], fault))
}

/// Whether "nothing" may stand for a tombstone, above this version, that is forgotten: whether one of
/// `ops` is a delete that began by then and can have written it.
pub(super) fn may_be_deleted(
    history: &History,
    ops: &[OpId],
    version: Version,
    by_us: u64,
) -> bool {
    let deletes = ops.iter().map(|&id| history.op(id)).filter(|op| op.is_delete());
    let mut begun = deletes.filter(|op| op.may_exist() && op.invoke_us <= by_us);
    begun.any(|op| op.version().is_none_or(|deleted| deleted > version))
}

/// The delete of the same key whose tombstone a read was told of; `None` if that is not known.
pub(super) fn origin_of_tombstone(
    history: &History,
    (read, op): (OpId, &Op),
    seen: &Seen,
) -> Result<Option<OpId>, Violation> {
    let key = &op.request.key;
    let write = seen.version.and_then(|version| history.write_of_version(&version));
    let write = write.map(|write| (write, history.op(write)));
    match write.filter(|(_, written)| written.is_delete() && written.request.key == *key) {
        Some((write, written)) if seen.at_us < written.invoke_us => {
            Err(Violation::new(key, [read, write], Fault::FromTheFuture))
        }
        delete => Ok(delete.map(|(write, _)| write)),
    }
}
