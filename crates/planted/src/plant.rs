//! Which bug is planted on this thread.

use std::{cell::Cell, marker::PhantomData};

use crate::Bug;

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Keeps a bug planted on this thread; what was planted before comes back when it is dropped.
#[derive(Debug)]
#[must_use = "the bug is gone as soon as this is dropped"]
pub struct Planted {
    before: Option<Bug>,
    /// It speaks of the thread that it was made on.
    here: PhantomData<*const ()>,
}

/// Plants a bug on this thread, or none, in place of what is planted.
pub fn plant(bug: Option<Bug>) -> Planted {
    Planted { before: PLANTED.replace(bug), here: PhantomData }
}

/// Whether this bug is planted on this thread.
#[must_use]
pub fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

impl Drop for Planted {
    fn drop(&mut self) {
        PLANTED.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_planted_on_one_thread_until_its_guard_is_dropped() {
        let [one, other] = [Bug::SyncRetried, Bug::TimerLost];
        let outer = plant(Some(one));
        {
            let _inner = plant(Some(other));
            assert!(is_planted(other) && !is_planted(one));
            let elsewhere = std::thread::spawn(move || is_planted(other));
            assert!(!elsewhere.join().expect("it only looks"));
            let _none = plant(None);
            assert!(!is_planted(other));
        }
        assert!(is_planted(one));
        drop(outer);
        assert!(!is_planted(one));
    }
}
