use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::oneshot;

/// The handshakes of peers that have not proved yet who they are: so many at most.
///
/// One too many takes the place of another, whichever chance says. A peer needs its place for one
/// round trip; strangers who hold theirs for as long as they may do not keep it out, and those who
/// begin one handshake after the other cannot know whose place they take.
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
        if places.taken.len() >= self.most {
            let chosen = random_below(places.taken.len());
            let number = places.taken.keys().nth(chosen).copied();
            number.map(|number| places.taken.remove(&number));
        }
        places.taken.insert(number, sender);
        Place { number, pending: self.clone(), taken_away }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the numbers below `end`, which is small, with almost equal chances.
fn random_below(end: usize) -> usize {
    let mut bytes = [0; 4];
    SystemRandom::new().fill(&mut bytes).expect("the system gives random bytes");
    u32::from_le_bytes(bytes) as usize % end
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

    fn is_taken_away(place: &mut Place) -> bool {
        place.taken_away.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn one_too_many_takes_the_place_of_one_other() {
        let pending = Pending::new(4);
        let mut first: Vec<Place> = (0..4).map(|_| pending.enter()).collect();
        assert!(first.iter_mut().all(|place| !is_taken_away(place)));
        let mut fifth = pending.enter();
        assert!(!is_taken_away(&mut fifth));
        assert_eq!(
            first.iter_mut().filter_map(|place| is_taken_away(place).then_some(())).count(),
            1
        );
        assert_eq!(pending.lock().taken.len(), 4);
        drop((first, fifth));
        assert!(pending.lock().taken.is_empty(), "a place that was left is free");
    }

    #[test]
    fn nobody_can_say_whose_place_is_taken() {
        let oldest_gave_way = |_| {
            let pending = Pending::new(4);
            let mut first: Vec<Place> = (0..4).map(|_| pending.enter()).collect();
            let _fifth = pending.enter();
            is_taken_away(&mut first[0])
        };
        let times = (0..200).filter(|&i| oldest_gave_way(i)).count();
        assert!((1..200).contains(&times), "{times} of 200 times");
    }
}
