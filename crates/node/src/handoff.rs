//! Hints: takes them on, has them made durable, and hands them to their replicas.

use std::time::Duration;

use quorate_hints::{Handed, HintAction, HintBook, HintOptions, Offer, Refusal as Why};
use quorate_quorum::{PutEvent, Round};
use quorate_record::{Hint, HintSummary, NodeId, Timestamp};

use crate::{
    Action, Node, NodeOptions, Now, PutOutcome, Refusal, Request, Response, StoreRequest,
    call::{Outcome, Waiter},
    node::Inner,
    serve::{Origin, StoreWaiter},
};

/// A target that takes longer to answer a batch is left alone for a while.
const BATCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Who waits for a hint to be durable.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HintWaiter {
    /// Who asked this node, as a fallback, to keep it.
    Respond(Origin),
    /// A write of this node's own.
    Kept { write: u64, replica: NodeId, round: Round },
}

pub(crate) fn book(own: NodeId, options: &NodeOptions, hints: &HintSummary, now: Now) -> HintBook {
    let limits = HintOptions { max_bytes: options.hint_max_bytes, ttl: options.hint_ttl };
    let mut book = HintBook::new(limits);
    // A coordinator whose own store was late or full keeps a hint for itself like for any other
    // replica, and nobody else tells that this one can be reached.
    book.target_up(own, now.instant);
    book.restore(hints, now.instant, now.wall_ms);
    book
}

impl Node {
    /// The hints that this node holds.
    #[must_use]
    pub fn hints(&self) -> &HintBook {
        &self.hints
    }

    pub(crate) fn offer_hint(&mut self, mut hint: Hint, waiter: HintWaiter, now: Now) {
        // It may be held for hours, and must not hold a receive buffer along with it.
        hint.key = hint.key.detached();
        hint.record = hint.record.detached();
        let offer = self.hints.offer(hint, now.instant);
        self.hint_offers.insert(offer, waiter);
    }

    fn hint_answered(&mut self, offer: u64, answer: Offer) {
        let Some(waiter) = self.hint_offers.remove(&offer) else { return };
        let (after, outcome) = match answer {
            Offer::Keep { id } => (Some(id), PutOutcome::Stored),
            Offer::AlreadyHeld { after } => (after, PutOutcome::Stored),
            Offer::Superseded { by, after } => (after, PutOutcome::Superseded(by)),
            Offer::Refused(Why::Full | Why::SwitchedOff) => {
                (None, PutOutcome::Refused(Refusal::NoHintRoom))
            }
            Offer::Refused(Why::Unreadable) => (None, PutOutcome::Refused(Refusal::Damaged)),
        };
        match after {
            Some(id) if !planted!(HintAckedEarly) => {
                self.hint_waiters.entry(id).or_default().push((waiter, outcome))
            }
            _ => self.defer(Inner::Hinted { waiter, outcome }),
        }
    }

    pub(crate) fn hint_persisted(&mut self, id: u64, outcome: Result<(), Refusal>, now: Now) {
        self.hints.persisted(id, outcome.is_ok(), now.instant);
        for (waiter, success) in self.hint_waiters.remove(&id).unwrap_or_default() {
            let outcome = match &outcome {
                Ok(()) => success,
                Err(why) => PutOutcome::Refused(why.clone()),
            };
            self.defer(Inner::Hinted { waiter, outcome });
        }
    }

    pub(crate) fn hinted(&mut self, waiter: HintWaiter, outcome: PutOutcome, now: Now) {
        match waiter {
            HintWaiter::Respond(origin) => {
                self.respond_if(self.is_settled(), origin, Response::Put(outcome));
            }
            HintWaiter::Kept { write, replica, round } => {
                let event = match outcome {
                    PutOutcome::Stored | PutOutcome::Superseded(_) => {
                        PutEvent::HintKept { replica, round }
                    }
                    PutOutcome::Refused(_) | PutOutcome::Below(_) => {
                        PutEvent::HintRefused { replica, round }
                    }
                };
                self.write_event(write, event, now);
            }
        }
    }

    /// The least timestamp among the hints that this node holds or is about to.
    pub(crate) fn oldest_hint(&self) -> Option<Timestamp> {
        self.hints.oldest_version()
    }

    pub(crate) fn run_hints(&mut self, now: Now) {
        self.hints.set_pause(self.admission.pause(now.instant));
        while let Some(action) = self.hints.poll_action() {
            match action {
                HintAction::Persist { id, hint } => {
                    self.store(StoreRequest::PersistHint { hint }, StoreWaiter::Hint { id });
                }
                HintAction::LookUp { id, target, key } => {
                    let request = StoreRequest::LookUpHint { target, key };
                    self.store(request, StoreWaiter::HintLookUp { id });
                }
                HintAction::Answer { offer, answer } => self.hint_answered(offer, answer),
                // Clients first; what waits here is in nobody's way.
                HintAction::Read { batch, .. } if self.admission.is_pressed(now.instant) => {
                    self.hints.postponed(batch, now.instant);
                }
                HintAction::Read { target, batch, after, max_hints, max_bytes } => {
                    let request = StoreRequest::ReadHints { target, after, max_hints, max_bytes };
                    self.store(request, StoreWaiter::HintBatch { batch });
                }
                HintAction::Sweep { after, added_until_ms, max_hints } => {
                    let request = StoreRequest::ReadCourtesies { after, added_until_ms, max_hints };
                    self.store(request, StoreWaiter::HintSweep);
                }
                HintAction::Deliver { target, batch, hints } => {
                    let body = Request::Merge { records: hints };
                    let waiter = Waiter::Handoff { batch };
                    self.call_within(BATCH_TIMEOUT, target, body, waiter, now);
                }
                HintAction::Forget { target, key, version } => {
                    self.act(Action::ForgetHint { target, key, version });
                }
                // The book counts it; a comparison brings what it would have.
                HintAction::Dropped { target, .. } => self.compare_soon(target, now),
            }
        }
    }

    pub(crate) fn handoff_answered(&mut self, batch: u64, outcome: Outcome, now: Now) {
        let error = match outcome {
            Ok(Response::Merged(outcomes)) => {
                let newer = |outcome: &&PutOutcome| matches!(outcome, PutOutcome::Superseded(_));
                self.counters.hints_superseded += outcomes.iter().filter(newer).count() as u64;
                let handed: Vec<Handed> = outcomes.iter().map(handed).collect();
                return self.hints.delivered(batch, &handed, now.instant);
            }
            Ok(Response::Refused(why @ Refusal::Overloaded)) => {
                return self.hints.target_busy(batch, why.to_string(), now.instant);
            }
            Ok(Response::Refused(why)) => why.to_string(),
            Ok(_) => "an answer to something else".to_owned(),
            Err(_) => "no answer".to_owned(),
        };
        self.hints.delivery_failed(batch, error, now.instant);
    }
}

fn handed(outcome: &PutOutcome) -> Handed {
    match outcome {
        PutOutcome::Stored | PutOutcome::Superseded(_) => Handed::Taken,
        // Below the target's horizon: it was deleted, or never acknowledged.
        PutOutcome::Below(_) => Handed::Dead,
        PutOutcome::Refused(_) => Handed::Refused,
    }
}
