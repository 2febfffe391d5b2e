use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Something that there is only so much of: requests at once, bytes at once.
///
/// Nobody waits for it. Whoever gets none is to answer so at once, while that still helps.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    most: usize,
}

/// A part of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub(super) struct Share<B: Deref<Target = Budget>> {
    budget: B,
    amount: usize,
}

/// One that may outlive whoever has the budget.
pub(super) type Held = Share<Arc<Budget>>;

impl Budget {
    pub(super) fn new(most: usize) -> Self {
        Self { used: AtomicUsize::new(0), most }
    }

    /// A share of `amount`; `None` if that much is not left.
    pub(super) fn take(&self, amount: usize) -> Option<Share<&Self>> {
        Share::of(self, amount)
    }

    /// The same, to be kept where the budget may not outlive it.
    pub(super) fn hold(self: &Arc<Self>, amount: usize) -> Option<Held> {
        Share::of(Arc::clone(self), amount)
    }

    /// Whether `amount` is left now.
    pub(super) fn has(&self, amount: usize) -> bool {
        self.add(self.used.load(Ordering::Relaxed), amount).is_some()
    }

    fn add(&self, used: usize, amount: usize) -> Option<usize> {
        used.checked_add(amount).filter(|&sum| sum <= self.most)
    }
}

impl<B: Deref<Target = Budget>> Share<B> {
    fn of(budget: B, amount: usize) -> Option<Self> {
        let mut share = Self { budget, amount: 0 };
        share.grow(amount).then_some(share)
    }

    /// Takes `amount` more; `false`, and nothing has changed, if that much is not left.
    pub(super) fn grow(&mut self, amount: usize) -> bool {
        // Only the sum matters, nothing else is published by it: relaxed is enough.
        let took = self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            self.budget.add(used, amount)
        });
        if took.is_ok() {
            self.amount += amount;
        }
        took.is_ok()
    }
}

impl<B: Deref<Target = Budget>> Drop for Share<B> {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_refused_beyond_the_limit_and_given_back_when_dropped() {
        let budget = Budget::new(10);
        let mut share = budget.take(6).unwrap();
        assert!(budget.take(5).is_none());
        assert!(share.grow(4));
        assert!(!share.grow(1));
        assert!(!budget.has(1));
        drop(share);
        assert!(budget.has(10) && !budget.has(11) && !budget.has(usize::MAX));
    }
}
