use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

/// The handshakes of peers that have not proved yet who they are: so many at most.
///
/// One too many takes the place of the oldest. A peer needs its place for one round trip; strangers
/// who hold theirs for as long as they may so do not keep it out.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    most: usize,
    places: Arc<Mutex<Places>>,
}

#[derive(Debug, Default)]
struct Places {
    next: u64,
    taken: BTreeMap<u64, oneshot::Sender<()>>,
}

/// The place of one handshake; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    pending: Pending,
    taken_away: oneshot::Receiver<()>,
}

impl Pending {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, places: Arc::default() }
    }

    pub(crate) fn enter(&self) -> Place {
        let (sender, taken_away) = oneshot::channel();
        let mut places = self.lock();
        let number = places.next;
        places.next += 1;
        places.taken.insert(number, sender);
        if places.taken.len() > self.most {
            places.taken.pop_first();
        }
        Place { number, pending: self.clone(), taken_away }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Comes when the place is needed for another.
    pub(crate) async fn taken_away(&mut self) {
        let _ = (&mut self.taken_away).await; // nothing is ever sent
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pending.lock().taken.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_too_many_takes_the_place_of_the_oldest() {
        let pending = Pending::new(2);
        let mut first = pending.enter();
        let second = pending.enter();
        drop(second);
        let mut third = pending.enter();
        assert_eq!(pending.lock().taken.len(), 2, "a place that was left is free");
        let fourth = pending.enter();
        first.taken_away().await;
        assert!(
            third
                .taken_away
                .try_recv()
                .is_err_and(|error| error == oneshot::error::TryRecvError::Empty)
        );
        drop((first, third, fourth));
        assert!(pending.lock().taken.is_empty());
    }
}
