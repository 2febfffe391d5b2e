//! Which sites are armed on this thread, and what they did.

use std::{cell::RefCell, collections::BTreeMap, marker::PhantomData};

use crate::Site;

thread_local! {
    static ARMED: RefCell<Option<Arms>> = const { RefCell::new(None) };
}

/// Sites that are armed: each draws from numbers of its own, so that a visit of one does not shift the others.
#[derive(Debug)]
struct Arms(BTreeMap<Site, Arm>);

#[derive(Debug)]
struct Arm {
    state: u64,
    fired: u64,
}

/// Keeps sites armed on this thread; what was armed before comes back when it is dropped.
#[derive(Debug)]
#[must_use = "the sites are disarmed as soon as this is dropped"]
pub struct Armed {
    before: Option<Arms>,
    /// It speaks of the thread that it was made on.
    here: PhantomData<*const ()>,
}

/// Arms these sites on this thread in place of what is armed. What they do at which visit hangs on the seed.
pub fn arm(sites: impl IntoIterator<Item = Site>, seed: u64) -> Armed {
    let arm = |site: Site| (site, Arm { state: seed ^ hash(site.name()), fired: 0 });
    let arms = Arms(sites.into_iter().map(arm).collect());
    Armed { before: ARMED.replace(Some(arms)), here: PhantomData }
}

/// Whether this site is armed on this thread and does what it is for at this visit.
#[must_use]
pub fn fires(site: Site) -> bool {
    ARMED.with_borrow_mut(|armed| {
        let Some(arm) = armed.as_mut().and_then(|arms| arms.0.get_mut(&site)) else { return false };
        let fires = arm.fraction() < site.chance();
        arm.fired += u64::from(fires);
        fires
    })
}

impl Armed {
    /// How often each site has fired since it was armed.
    ///
    /// # Panics
    /// If others were armed since, and still are.
    #[must_use]
    pub fn fired(&self) -> Vec<(Site, u64)> {
        ARMED.with_borrow(|armed| {
            let arms = armed.as_ref().expect("they are armed as long as this lives");
            arms.0.iter().map(|(site, arm)| (*site, arm.fired)).collect()
        })
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        ARMED.set(self.before.take());
    }
}

impl Arm {
    /// SplitMix64 (Steele et al. 2014), from 0 on and below 1.
    fn fraction(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        const BITS: u32 = 53;
        ((mixed ^ (mixed >> 31)) >> (64 - BITS)) as f64 / (1u64 << BITS) as f64
    }
}

/// FNV-1a.
fn hash(name: &str) -> u64 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, fnv)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visits(site: Site) -> Vec<bool> {
        (0..1_000).map(|_| fires(site)).collect()
    }

    #[test]
    fn nothing_fires_unless_it_is_armed_on_this_thread() {
        assert!(!visits(Site::HedgeAtOnce).contains(&true));
        let armed = arm([Site::HedgeAtOnce], 1);
        let elsewhere = std::thread::spawn(|| visits(Site::HedgeAtOnce).contains(&true));
        assert!(!elsewhere.join().expect("it only looks"));
        assert!(!visits(Site::LogBusy).contains(&true));
        let times = visits(Site::HedgeAtOnce).iter().filter(|fired| **fired).count();
        assert!((200..300).contains(&times), "{times} of 1,000");
        assert_eq!(armed.fired(), [(Site::HedgeAtOnce, times as u64)]);
        drop(armed);
        assert!(!visits(Site::HedgeAtOnce).contains(&true));
    }

    #[test]
    fn what_fires_hangs_on_the_seed_and_on_nothing_else() {
        let run = |seed, sites: &[Site]| {
            let _armed = arm(sites.iter().copied(), seed);
            visits(Site::OneHintABatch); // of another site, or of one that is not armed
            visits(Site::HedgeAtOnce)
        };
        let alone = run(1, &[Site::HedgeAtOnce]);
        assert_eq!(alone, run(1, Site::ALL));
        assert_ne!(alone, run(2, Site::ALL));
    }

    #[test]
    fn what_was_armed_before_comes_back() {
        let _outer = arm([Site::HedgeAtOnce], 1);
        drop(arm([], 2));
        assert!(visits(Site::HedgeAtOnce).contains(&true));
    }
}
