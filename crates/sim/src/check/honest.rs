use std::collections::BTreeSet;

use quorate_record::{Key, NodeId};

use super::history::{Call, History, Op, Outcome};
use super::violation::{Fault, Violation};

/// Judges whether requests were answered once, and by what the answers say: success names at least
/// as many different nodes as were needed, and nothing was found only where as many looked; strict
/// means that all of them own the key, and a request that forbids fallbacks gets a strict answer. Only
/// owners know that there is nothing: a fallback without a hint has nothing to say. With one it has, and
/// nothing may come of that if an owner has forgotten a later delete; so a fallback is at fault if it can
/// have no hint.
///
/// Every request of the history counts as over: one that was neither answered nor
/// [abandoned](History::abandon) is at fault.
pub fn honest(history: &History, owners: impl Fn(&Key) -> Vec<NodeId>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (key, ops) in history.keys() {
        let owners = owners(key);
        for &id in ops {
            let may_hold_hint = |node| {
                let mut ops = ops.iter().map(|&id| history.op(id));
                ops.any(|write| may_leave_hint(write, node, history.op(id)))
            };
            let faults = faults(history.op(id), &owners, may_hold_hint).into_iter();
            violations.extend(faults.map(|fault| Violation::new(key, [id], fault)));
        }
    }
    violations
}

/// Whether `node` may hold a hint of this write when `read` is answered.
fn may_leave_hint(write: &Op, node: NodeId, read: &Op) -> bool {
    let is_before = read.answers().iter().any(|answer| write.invoke_us < answer.at_us);
    let asks_node = write.request.sloppy || write.request.coordinator == node;
    write.may_exist() && is_before && asks_node
}

fn faults(op: &Op, owners: &[NodeId], may_hold_hint: impl Fn(NodeId) -> bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    match op.answers().len() {
        0 if !op.is_abandoned() => faults.push(Fault::Unanswered),
        0 | 1 => {}
        answers => faults.push(Fault::AnsweredAgain { answers }),
    }
    for answer in op.answers() {
        if !fits(op.request.call, &answer.outcome) {
            faults.push(Fault::WrongAnswer);
        }
        if let Outcome::Acked { strict, acks: nodes, .. }
        | Outcome::Found { strict, from: nodes, .. }
        | Outcome::Absent { strict, from: nodes, .. } = &answer.outcome
        {
            receipt_faults(op, *strict, nodes, owners, &mut faults);
        }
        if let Outcome::Absent { version: None, strict: false, from } = &answer.outcome {
            let others = from.iter().filter(|node| !owners.contains(node));
            let others = others.filter(|node| !may_hold_hint(**node));
            faults.extend(others.map(|&node| Fault::NotAnOwner { node }));
        }
    }
    faults
}

fn fits(call: Call, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Acked { .. } | Outcome::Rejected | Outcome::Indeterminate { .. } => {
            call != Call::Get
        }
        Outcome::Found { .. } | Outcome::Absent { .. } | Outcome::Failed => call == Call::Get,
    }
}

fn receipt_faults(
    op: &Op,
    strict: bool,
    nodes: &[NodeId],
    owners: &[NodeId],
    faults: &mut Vec<Fault>,
) {
    let mut distinct = BTreeSet::new();
    for &node in nodes {
        if !distinct.insert(node) {
            faults.push(Fault::CountedTwice { node });
        } else if strict && !owners.contains(&node) {
            faults.push(Fault::NotAnOwner { node });
        }
    }
    let (counted, needed) = (distinct.len(), op.request.needed);
    if counted < needed {
        faults.push(Fault::TooFew { counted, needed });
    }
    if !strict && !op.request.sloppy {
        faults.push(Fault::Sloppy);
    }
}
