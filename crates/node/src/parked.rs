//! Writes that wait for the clock: nothing may be issued above the persisted ceiling.

use std::time::Instant;

use quorate_quorum::PutEvent;
use quorate_record::{Timestamp, Version};

use crate::{
    Action, ClientReply, ClientRequest, Node, Now, Refusal, StoreRequest, node::Timer,
    serve::StoreWaiter,
};

/// What goes on once the clock may be read again.
#[derive(Debug)]
pub(crate) enum Parked {
    /// A write that has not begun.
    Begin { id: u64, request: u64, body: ClientRequest, deadline: Instant },
    /// A write that needs its second version.
    Restamp { write: u64 },
}

impl Node {
    /// A new version; `None` while the ceiling is being raised.
    pub(crate) fn issue(&mut self, now: Now) -> Option<Version> {
        self.reserve_clock(now);
        self.clock.issue(now.wall_ms).ok()
    }

    /// Raises the ceiling ahead of need, so that usually nothing waits for it.
    fn reserve_clock(&mut self, now: Now) {
        if !self.reserving
            && let Some(ceiling) = self.clock.reservation_due(now.wall_ms)
        {
            let ceiling = match () {
                () if buggify!(SmallAllowance) => self.allowance(1, now),
                () if buggify!(LargeAllowance) => self.allowance(3_000, now),
                () => ceiling,
            };
            self.reserving = true;
            self.store(StoreRequest::ReserveClock { ceiling }, StoreWaiter::Clock { ceiling });
        }
    }

    /// A ceiling so far above the next version.
    fn allowance(&self, ahead_ms: u64, now: Now) -> Timestamp {
        let head_ms = self.clock.last().wall_ms().max(now.wall_ms);
        Timestamp::from_wall_ms(head_ms + ahead_ms)
    }

    pub(crate) fn park_write(&mut self, request: u64, body: ClientRequest, deadline: Instant) {
        let id = self.fresh_id();
        self.set_timer(deadline, Timer::Parked(id));
        self.parked.push_back(Parked::Begin { id, request, body, deadline });
    }

    pub(crate) fn parked_too_long(&mut self, timer: u64) {
        let place = self
            .parked
            .iter()
            .position(|parked| matches!(parked, Parked::Begin { id, .. } if *id == timer));
        if let Some(Parked::Begin { request, .. }) = place.and_then(|at| self.parked.remove(at)) {
            self.reply(request, ClientReply::Refused(Refusal::TooLate));
        }
    }

    pub(crate) fn clock_reserved(
        &mut self,
        ceiling: Timestamp,
        outcome: Result<(), Refusal>,
        now: Now,
    ) {
        self.reserving = false;
        let failed = match outcome {
            Ok(()) => {
                self.clock.reserved(ceiling);
                None
            }
            Err(why) => Some(why),
        };
        for parked in std::mem::take(&mut self.parked) {
            match (parked, failed.clone()) {
                (Parked::Begin { id, request, body, deadline }, None) => {
                    self.clear_timer(deadline, Timer::Parked(id));
                    self.begin_write(request, body, deadline, now);
                }
                (Parked::Begin { id, request, deadline, .. }, Some(why)) => {
                    self.clear_timer(deadline, Timer::Parked(id));
                    self.reply(request, ClientReply::Refused(why));
                }
                (Parked::Restamp { write }, None) => self.restamp(write, now),
                (Parked::Restamp { write }, Some(why)) => {
                    self.note_refusal(write, why);
                    self.write_event(write, PutEvent::RestampFailed, now);
                }
            }
        }
    }

    /// Answers a request that was let in.
    pub(crate) fn reply(&mut self, request: u64, reply: ClientReply) {
        self.admission.left();
        self.act(Action::Reply { request, reply: Box::new(reply) });
    }
}
