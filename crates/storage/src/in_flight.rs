//! What was submitted to a log and has no outcome yet, in the order of the tickets.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use crate::queue::Ticket;

/// One item for each ticket that is not settled. Tickets have no gaps, so a ticket is an index.
pub(crate) struct InFlight<T> {
    first: u64,
    items: VecDeque<T>,
}

impl<T> InFlight<T> {
    pub(crate) fn new() -> Self {
        Self { first: 1, items: VecDeque::new() }
    }

    pub(crate) fn push(&mut self, Ticket(ticket): Ticket, item: T) {
        assert_eq!(
            ticket,
            self.first + self.items.len() as u64,
            "somebody else submits to this log"
        );
        self.items.push_back(item);
    }

    pub(crate) fn last_mut(&mut self) -> Option<&mut T> {
        self.items.back_mut()
    }

    /// Takes out the items of these tickets, which are the oldest.
    pub(crate) fn settle(&mut self, tickets: &RangeInclusive<u64>) -> Vec<(Ticket, T)> {
        assert_eq!(*tickets.start(), self.first, "outcomes come in the order of the tickets");
        self.first = tickets.end() + 1;
        tickets.clone().map(Ticket).zip(self.items.drain(..=count(tickets))).collect()
    }
}

/// One less than how many tickets there are.
fn count(tickets: &RangeInclusive<u64>) -> usize {
    usize::try_from(tickets.end() - tickets.start()).expect("each has an item in memory")
}
