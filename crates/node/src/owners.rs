//! Writes whose clients wait until all owners hold them.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use quorate_quorum::{Failure, PutReceipt, Round};
use quorate_record::{Key, NodeId, Version};

use crate::{
    Action, ClientReply, Node, Now, PutOutcome, Request, Response,
    call::{Outcome, Waiter},
    node::Timer,
};

/// How often owners that may have got it otherwise, by a hint or a comparison, are asked.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// An owner that takes longer to say what it holds is asked again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// A write that has met its quorum and whose client waits for more.
#[derive(Debug)]
pub(crate) struct OwnersWait {
    request: u64,
    key: Key,
    receipt: PutReceipt<NodeId, Version>,
    deadline: Instant,
    asked: BTreeSet<NodeId>,
}

/// What was answered. An owner that is being filled again has what it says it has, too.
fn whether_it_counts_or_not(outcome: &Outcome) -> Result<&Response, &Failure> {
    outcome.as_ref().map(|response| match response {
        Response::Uncounted(response) => &**response,
        response => response,
    })
}

impl Node {
    /// Answers once no owner is lacking, or at the deadline with those that are.
    pub(crate) fn wait_for_owners(
        &mut self,
        id: u64,
        request: u64,
        key: Key,
        receipt: PutReceipt<NodeId, Version>,
        deadline: Instant,
        now: Now,
    ) {
        // It takes nothing from the others but its place among the requests that are open.
        self.admission.left();
        let wait = OwnersWait { request, key, receipt, deadline, asked: BTreeSet::new() };
        self.owners_waits.insert(id, wait);
        self.set_timer(deadline.min(now.instant + ASK_EVERY), Timer::Owners(id));
    }

    /// A node has answered the write itself.
    pub(crate) fn owner_acked(&mut self, id: u64, from: NodeId, round: Round, outcome: &Outcome) {
        let Some(wait) = self.owners_waits.get(&id) else { return };
        let holds = match whether_it_counts_or_not(outcome) {
            Ok(Response::Put(PutOutcome::Stored)) => round == wait.receipt.round,
            Ok(Response::Put(PutOutcome::Superseded(by))) => *by >= wait.receipt.version,
            _ => false,
        };
        if holds {
            self.owner_holds_it(id, from);
        }
    }

    /// An owner has said which version it holds.
    pub(crate) fn owner_told(&mut self, id: u64, from: NodeId, outcome: &Outcome) {
        let Some(wait) = self.owners_waits.get_mut(&id) else { return };
        wait.asked.remove(&from);
        let outcome = whether_it_counts_or_not(outcome);
        if matches!(outcome, Ok(Response::Version(held)) if *held >= Some(wait.receipt.version)) {
            self.owner_holds_it(id, from);
        }
    }

    pub(crate) fn owners_timer_fired(&mut self, id: u64, now: Now) {
        let Some(wait) = self.owners_waits.get(&id) else { return };
        if now.instant >= wait.deadline {
            return self.end_wait(id);
        }
        let (next, key) = (wait.deadline.min(now.instant + ASK_EVERY), wait.key.clone());
        let unasked = wait.receipt.lacking.iter().filter(|owner| !wait.asked.contains(owner));
        for owner in unasked.copied().collect::<Vec<_>>() {
            if self.is_down(owner) {
                continue;
            }
            if let Some(wait) = self.owners_waits.get_mut(&id) {
                wait.asked.insert(owner);
            }
            let body = Request::Version { key: key.clone() };
            self.call_within(ANSWER_TIMEOUT, owner, body, Waiter::Owner { id }, now);
        }
        self.set_timer(next, Timer::Owners(id));
    }

    fn owner_holds_it(&mut self, id: u64, owner: NodeId) {
        let Some(wait) = self.owners_waits.get_mut(&id) else { return };
        wait.receipt.lacking.retain(|lacking| *lacking != owner);
        if wait.receipt.lacking.is_empty() {
            self.end_wait(id);
        }
    }

    /// A timer that is still set finds nothing to do.
    fn end_wait(&mut self, id: u64) {
        if let Some(OwnersWait { request, receipt, .. }) = self.owners_waits.remove(&id) {
            let reply = Box::new(ClientReply::Written(Ok(receipt)));
            self.act(Action::Reply { request, reply });
        }
    }
}
