//! What it costs to find out what differs, as far as it can be counted.

use crate::pair::Pair;

/// Most bytes that a round over equal replicas has.
const IDLE_BYTES: usize = 4 * 1024;

fn spread(count: u64, among: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |at| at * among / count)
}

/// Lets `differing` keys differ in three ways, and mends them. Prints what it took, which must be
/// within the bounds.
fn mends_within_bounds(pair: &mut Pair, keys: u64, differing: u64, time_ms: u64) {
    let both_ways = |at: u64| usize::from(at.is_multiple_of(3));
    for side in 0..2 {
        let stale = spread(differing, keys).filter(|at| both_ways(*at) != side);
        pair.fill(side, stale, time_ms);
    }
    assert!(!pair.is_equal());
    let cost = pair.exchange();
    println!("{keys} keys, {differing} differ: {cost:?}");
    assert!(pair.is_equal(), "one exchange is enough: {}", pair.stats());
    let most = 160 * usize::try_from(differing).expect("few") + 16 * 1024;
    assert!(cost.metadata_bytes <= most, "{cost:?}, and {most} bytes at most");
    if differing <= 1_000 {
        assert!(cost.round_trips <= 3, "{cost:?}");
    }
}

fn costs_what_differs(keys: u64) {
    let mut pair = Pair::with_keys(keys);
    let idle = pair.exchange();
    println!("{keys} keys, equal: {idle:?}");
    assert!(idle.metadata_bytes <= IDLE_BYTES && idle.round_trips == 1, "{idle:?}");
    assert_eq!(idle.record_bytes, 0);
    for (step, differing) in (1..).zip([1, 10, 100, 1_000, 10_000]) {
        mends_within_bounds(&mut pair, keys, differing, step * 1_000);
    }
}

#[test]
fn metadata_is_in_proportion_to_what_differs_among_a_hundred_thousand_keys() {
    costs_what_differs(100_000);
}

#[test]
#[ignore = "takes a minute; run with --ignored --nocapture for the figures of a million keys"]
fn metadata_is_in_proportion_to_what_differs_among_a_million_keys() {
    costs_what_differs(1_000_000);
}

#[test]
fn where_everything_differs_one_exchange_is_enough_too() {
    const KEYS: u64 = 40_000;
    let mut pair = Pair::with_keys(KEYS);
    pair.fill(0, 0..KEYS / 2, 1_000);
    pair.fill(1, KEYS / 2..2 * KEYS, 1_000);
    let cost = pair.exchange();
    println!("everything differs: {cost:?}");
    assert!(pair.is_equal(), "{}", pair.stats());
}
