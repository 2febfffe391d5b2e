use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::sync::Notify;

/// The connections of a listener: which of them wait for their next request, or the rest of its head,
/// and since when, so that one of those can give way when there are too many. Else whoever begins
/// requests and does not go on would keep everybody out, peers as well.
///
/// A request costs a few relaxed atomics; only when there are as many as there may be has the next one
/// to look for somebody who leaves. Guests are queued under a moment that is not later than when they became idle, and put right
/// only when they come to the front: each step of a search is paid for by a request since the last
/// one, or by the end of a connection.
pub(super) struct Guests {
    room: Arc<Room>,
    queue: BTreeMap<u64, Arc<Guest>>,
    most: usize,
}

/// What all guests share.
#[derive(Debug, Default)]
struct Room {
    moments: AtomicU64,
    idle: AtomicUsize,
    leaving: AtomicUsize,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Guest {
    room: Arc<Room>,
    idle_since: AtomicU64, // a moment, or one of those below
    asked_to_leave: Notify,
}

const BUSY: u64 = u64::MAX;
const LEAVING: u64 = u64::MAX - 1;
const GONE: u64 = u64::MAX - 2;

/// A [`Guest`] for as long as its connection lasts.
pub(super) struct Present(pub(super) Arc<Guest>);

impl Guests {
    /// For about `most` connections at once; with more it only takes more memory.
    pub(super) fn new(most: usize) -> Self {
        Self { room: Arc::default(), queue: BTreeMap::new(), most }
    }

    /// Lets a new connection in, which is idle until a whole head has come.
    pub(super) fn welcome(&mut self) -> Present {
        if self.queue.len() > 2 * self.most {
            self.queue.retain(|_, guest| guest.idle_since.load(Relaxed) != GONE);
        }
        let (room, now) = (Arc::clone(&self.room), self.room.moment());
        room.idle.fetch_add(1, Relaxed);
        let idle_since = AtomicU64::new(now);
        let guest = Arc::new(Guest { room, idle_since, asked_to_leave: Notify::new() });
        self.queue.insert(now, Arc::clone(&guest));
        Present(guest)
    }

    /// How many were asked to leave and have not gone yet.
    pub(super) fn leaving(&self) -> usize {
        self.room.leaving.load(Relaxed)
    }

    /// Asks the connection that has been idle the longest to leave; `false` if none is idle.
    pub(super) fn vacate(&mut self) -> bool {
        // Each is met once where it was queued and once where it belongs.
        for _ in 0..2 * self.queue.len() {
            if self.room.idle.load(Relaxed) == 0 {
                return false;
            }
            let Some((queued, guest)) = self.queue.pop_first() else { return false };
            match guest.idle_since.load(Relaxed) {
                GONE | LEAVING => {}
                since if since <= queued && guest.leave(since) => return true,
                since if queued < since && since < GONE => drop(self.queue.insert(since, guest)),
                // At work: whenever it becomes idle will be later than now.
                _ => drop(self.queue.insert(self.room.moment(), guest)),
            }
        }
        false
    }
}

impl Room {
    /// Greater than all before.
    fn moment(&self) -> u64 {
        self.moments.fetch_add(1, Relaxed)
    }
}

impl Guest {
    /// The connection waits for a request, of which nothing whole has come.
    pub(super) fn rest(&self) {
        if self.change(BUSY, self.room.moment()) {
            self.room.idle.fetch_add(1, Relaxed);
        }
    }

    /// The head of a request has come.
    pub(super) fn work(&self) {
        let since = self.idle_since.load(Relaxed);
        if since < GONE && self.change(since, BUSY) {
            self.room.idle.fetch_sub(1, Relaxed);
        }
    }

    /// Comes when the connection is to give way to another.
    pub(super) async fn asked_to_leave(&self) {
        self.asked_to_leave.notified().await;
    }

    /// Asks the connection to leave, unless it has just begun to work.
    fn leave(&self, since: u64) -> bool {
        let leaves = self.change(since, LEAVING);
        if leaves {
            self.room.idle.fetch_sub(1, Relaxed);
            self.room.leaving.fetch_add(1, Relaxed);
            self.asked_to_leave.notify_one();
        }
        leaves
    }

    /// Only the numbers matter, nothing else is published by them: relaxed is enough.
    fn change(&self, from: u64, to: u64) -> bool {
        self.idle_since.compare_exchange(from, to, Relaxed, Relaxed).is_ok()
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let Guest { room, idle_since, .. } = &*self.0;
        match idle_since.swap(GONE, Relaxed) {
            BUSY | GONE => {}
            LEAVING => drop(room.leaving.fetch_sub(1, Relaxed)),
            _ => drop(room.idle.fetch_sub(1, Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_asked_to_leave(present: &Present) -> bool {
        let leaving = pin!(present.0.asked_to_leave());
        leaving.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_one_that_has_been_idle_the_longest_leaves_first() {
        let mut guests = Guests::new(3);
        let present: Vec<_> = (0..3).map(|_| guests.welcome()).collect();
        present[0].0.work();
        present[0].0.rest();
        for at in [1, 2, 0] {
            assert!(guests.vacate());
            assert!(is_asked_to_leave(&present[at]), "{at}");
        }
        assert_eq!(guests.leaving(), 3);
        assert!(!guests.vacate());
        drop(present);
        assert_eq!(guests.leaving(), 0);
    }

    #[test]
    fn who_works_or_has_gone_is_not_asked() {
        let mut guests = Guests::new(2);
        let (working, gone) = (guests.welcome(), guests.welcome());
        working.0.work();
        drop(gone);
        assert!(!guests.vacate());
        working.0.rest();
        assert!(guests.vacate());
        working.0.work();
        assert!(is_asked_to_leave(&working), "what came since does not change that");
    }

    #[test]
    fn the_gone_are_forgotten() {
        let mut guests = Guests::new(2);
        for _ in 0..100 {
            drop(guests.welcome());
            assert!(guests.queue.len() <= 2 * 2 + 1);
        }
    }

    #[test]
    fn looking_again_and_again_while_all_work_is_cheap_and_finds_who_rests_later() {
        let mut guests = Guests::new(4);
        let present: Vec<_> = (0..4).map(|_| guests.welcome()).collect();
        present.iter().for_each(|present| present.0.work());
        assert!((0..10).all(|_| !guests.vacate()));
        present[3].0.rest();
        assert!(guests.vacate() && is_asked_to_leave(&present[3]));
    }
}
