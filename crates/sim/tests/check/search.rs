//! Trying all orders of a few operations, which is slow and plainly right.

use std::collections::BTreeMap;

use quorate_record::Version;
use quorate_simulator::check::{Call, History, OpId, Outcome};

const NEVER: u64 = u64::MAX;

/// Whether some order of the operations agrees with time and explains every read.
pub(crate) fn is_linearizable(history: &History) -> bool {
    let steps: Vec<_> = history.ops().filter_map(|(id, _)| Step::new(history, id)).collect();
    Search { steps, one_tombstone: false }.explains_all()
}

/// The reads that no order of all writes and that one read explains.
pub(crate) fn irregular_reads(history: &History) -> Vec<OpId> {
    let step = |id| Step::new(history, id);
    let writes: Vec<_> =
        history.ops().filter_map(|(id, _)| step(id)).filter(Step::is_write).collect();
    let reads = history.ops().filter_map(|(id, _)| step(id)).filter(|it| !it.is_write());
    let explained = |read: &Step| {
        let steps = writes.iter().chain([read]).cloned().collect();
        Search { steps, one_tombstone: true }.explains_all()
    };
    reads.filter(|read| !explained(read)).map(|read| read.op).collect()
}

#[derive(Clone)]
struct Step {
    op: OpId,
    invoke_us: u64,
    return_us: u64,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Put(u64),
    Delete(Option<Version>),
    Found(u64),
    Absent(Option<Version>),
    /// Absent, with the version of a write that is known.
    AbsentAfter(OpId),
}

/// What the register holds: the initial value, or what this step wrote.
type State = Option<usize>;

struct Search {
    steps: Vec<Step>,
    /// Absence without the version of a known delete stands for any delete.
    one_tombstone: bool,
}

impl Step {
    fn new(history: &History, id: OpId) -> Option<Self> {
        let op = history.op(id);
        let answered_us = op.answers().first().map(|answer| answer.at_us);
        let (return_us, what) = match (op.request.call, op.outcome()) {
            (_, Some(Outcome::Rejected | Outcome::Failed)) => return None,
            (Call::Put { id }, Some(Outcome::Acked { .. })) => (answered_us?, What::Put(id)),
            (Call::Put { id }, _) => (NEVER, What::Put(id)),
            (Call::Delete { .. }, Some(Outcome::Acked { version, .. })) => {
                (answered_us?, What::Delete(Some(*version)))
            }
            (Call::Delete { .. }, Some(Outcome::Indeterminate { version })) => {
                (NEVER, What::Delete(*version))
            }
            (Call::Delete { .. }, _) => (NEVER, What::Delete(None)),
            (Call::Get, Some(Outcome::Found { id, .. })) => (answered_us?, What::Found(*id)),
            (Call::Get, Some(Outcome::Absent { version, .. })) => {
                let known = version.and_then(|version| history.write_of_version(&version));
                (answered_us?, known.map_or(What::Absent(*version), What::AbsentAfter))
            }
            (Call::Get, _) => return None,
        };
        Some(Self { op: id, invoke_us: op.invoke_us, return_us, what })
    }

    fn is_write(&self) -> bool {
        matches!(self.what, What::Put(_) | What::Delete(_))
    }
}

impl Search {
    fn explains_all(&self) -> bool {
        self.go_on(&mut vec![false; self.steps.len()], None, &BTreeMap::new())
    }

    /// `named` has the delete that each tombstone of unknown origin was taken for.
    fn go_on(&self, done: &mut [bool], state: State, named: &BTreeMap<Version, usize>) -> bool {
        let left = || self.steps.iter().zip(&*done).filter(|(_, done)| !**done);
        let first_return_us = left().map(|(step, _)| step.return_us).min().unwrap_or(NEVER);
        if first_return_us == NEVER {
            return true; // unacked writes need not have been done
        }
        for next in 0..self.steps.len() {
            if done[next] || self.steps[next].invoke_us > first_return_us {
                continue;
            }
            let after = match self.steps[next].what {
                What::Put(_) | What::Delete(_) => Some((Some(next), named.clone())),
                _ => self.explain(next, state, named).map(|named| (state, named)),
            };
            if let Some((state, named)) = after {
                done[next] = true;
                let explained = self.go_on(done, state, &named);
                done[next] = false;
                if explained {
                    return true;
                }
            }
        }
        false
    }

    fn explain(
        &self,
        read: usize,
        state: State,
        named: &BTreeMap<Version, usize>,
    ) -> Option<BTreeMap<Version, usize>> {
        let mut named = named.clone();
        let held = state.map(|write| (write, &self.steps[write]));
        let explained = match (self.steps[read].what, held.map(|(_, step)| step.what)) {
            (What::Found(read), Some(What::Put(written))) => read == written,
            (What::Absent(_), None | Some(What::Delete(_))) if self.one_tombstone => true,
            (What::Absent(None), None) => true,
            (What::Absent(Some(version)), Some(What::Delete(None))) => {
                let (write, _) = held?;
                let taken = named.iter().any(|(&other, &it)| it == write && other != version);
                !taken && *named.entry(version).or_insert(write) == write
            }
            (What::AbsentAfter(write), held_what) => {
                let known = self.steps.iter().find(|step| step.op == write);
                match known.map(|step| step.what) {
                    Some(What::Delete(_)) => held.is_some_and(|(_, step)| step.op == write),
                    // A put's version: to a regular register it is as good as unknown.
                    _ => self.one_tombstone && !matches!(held_what, Some(What::Put(_))),
                }
            }
            _ => false,
        };
        explained.then_some(named)
    }
}
