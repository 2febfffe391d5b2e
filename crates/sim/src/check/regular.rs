use super::earlier::Earlier;
use super::history::{History, Op, OpId, Seen};
use super::origin::{origin, origin_of_tombstone};
use super::violation::{Fault, Violation};

/// Judges whether every key is a regular register: a read returns what some write wrote that was
/// not yet replaced when the read began, or that ran beside it (Lamport, "On Interprocess
/// Communication", 1986, for several writers).
///
/// That is: a read may return what write `w` wrote if `w` began before the read returned, and no
/// other acked write lies wholly between the end of `w` and the start of the read. An unacked write
/// has no end. Nothing at all stands for the initial value, or for any delete.
///
/// A write replaces another only if both are `claimed`, were acked without fallbacks, and have
/// `2w > n`; a read is held against it only if it is claimed, strict, and has `r + w > n`. Of every
/// other read it is still asked that its value was written for this key, before, and not rejected.
///
/// Takes `m log m` for `m` operations.
pub fn regular(history: &History, claimed: impl Fn(OpId) -> bool) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (_, ops) in history.keys() {
        let register = Register::new(history, ops, &claimed);
        for &read in ops {
            let op = history.op(read);
            if let Some(seen) = op.seen() {
                violations.extend(register.judge((read, op), &seen, claimed(read)).err());
            }
        }
    }
    violations
}

/// The writes of one key.
struct Register<'h, F> {
    history: &'h History,
    claimed: F,
    replacing: Earlier<u64>, // by its end: when a write that replaces others began
    loose_delete: Option<u64>, // when the first delete began that nothing replaces
    firm_deletes: Vec<(u64, u64)>, // (began, greatest end up to here) of the others
}

impl<'h, F: Fn(OpId) -> bool> Register<'h, F> {
    fn new(history: &'h History, ops: &[OpId], claimed: F) -> Self {
        let mut replacing = Vec::new();
        let mut loose_delete = None;
        let mut firm_deletes = Vec::new();
        for &id in ops {
            let op = history.op(id);
            let end = claimed(id).then(|| end_us(history, op)).flatten();
            if let Some(end) = end {
                replacing.push((end, op.request.needed, op.invoke_us, id));
            }
            if op.is_delete() && op.may_exist() {
                match end {
                    Some(end) => firm_deletes.push((op.invoke_us, end)),
                    None => loose_delete = earliest(loose_delete, op.invoke_us),
                }
            }
        }
        firm_deletes.sort_unstable();
        for index in 1..firm_deletes.len() {
            firm_deletes[index].1 = firm_deletes[index].1.max(firm_deletes[index - 1].1);
        }
        let replacing = Earlier::new(replacing);
        Self { history, claimed, replacing, loose_delete, firm_deletes }
    }

    fn judge(&self, read: (OpId, &Op), seen: &Seen, claimed: bool) -> Result<(), Violation> {
        let (id, op) = read;
        let key = &op.request.key;
        let write = match seen.value {
            Some(value) => Some(origin(self.history, read, seen, value)?),
            None => origin_of_tombstone(self.history, read, seen)?,
        };
        let weight = (self.history.n() + 1).saturating_sub(op.request.needed);
        let latest = self.replacing.greatest(op.invoke_us, weight);
        let Some((latest_began_us, latest)) = latest.filter(|_| claimed && seen.strict) else {
            return Ok(());
        };
        match write {
            Some(write) => {
                let end = end_us(self.history, self.history.op(write));
                match end.filter(|&end| (self.claimed)(write) && end < latest_began_us) {
                    Some(_) => Err(Violation::new(key, [id, write, latest], Fault::Overridden)),
                    None => Ok(()),
                }
            }
            // Of the deletes it may stand for, the one that ended last is the hardest to replace.
            None if self.loose_delete.is_some_and(|began| began <= seen.at_us) => Ok(()),
            None => {
                let begun = self.firm_deletes.partition_point(|&(began, _)| began <= seen.at_us);
                let last_end = begun.checked_sub(1).map(|last| self.firm_deletes[last].1);
                match last_end {
                    Some(end) if end >= latest_began_us => Ok(()),
                    _ => Err(Violation::new(key, [id, latest], Fault::MissedPut)),
                }
            }
        }
    }
}

/// When a write ended after which nothing that ended before it began should be read; `None` if
/// that is not promised.
fn end_us(history: &History, op: &Op) -> Option<u64> {
    let majority = 2 * op.request.needed > history.n();
    op.acked().filter(|ack| ack.strict && majority).map(|ack| ack.at_us)
}

fn earliest(one: Option<u64>, other: u64) -> Option<u64> {
    Some(one.map_or(other, |one| one.min(other)))
}
