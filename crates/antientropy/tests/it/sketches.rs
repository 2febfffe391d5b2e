//! Exchanges by sketches end, mend everything, and ask for as much as differs.

use proptest::prelude::*;
use quorate_antientropy::{Outcome, Ranges};

use crate::replica::{Replica, run_by_sketches};

/// Tokens spread like hashes are.
fn token(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn full(records: u64) -> Replica {
    let mut replica = Replica::default();
    (1..=records).for_each(|number| replica.merge((token(number), 0), number));
    replica
}

fn everything() -> Ranges {
    Ranges::new([0..=u64::MAX])
}

#[test]
fn a_thousand_stale_records_take_overviews_and_a_few_cells_each() {
    let mut local = full(20_000);
    let mut remote = local.clone();
    (1..=1_000).for_each(|i| remote.merge((token(20 * i), 0), 1_000_000 + i));
    let ranges = everything();
    let (summary, traffic) =
        run_by_sketches((&mut local, &mut remote), &ranges, 0, None, &mut |_| {});
    assert_eq!((summary.outcome, summary.pulled, summary.pushed), (Outcome::Complete, 1_000, 0));
    // Two symbols of one key may be in the very same cells, whatever else is: their bucket is listed.
    assert!(traffic.overviews <= 2 && traffic.listed <= 30, "{traffic:?}");
    assert!(traffic.sketches * 64 <= 7_000, "{} sketches", traffic.sketches);
    assert_eq!(local, remote);
}

#[test]
fn an_empty_replica_is_filled_in_one_exchange() {
    let mut remote = full(60_000);
    let mut local = Replica::default();
    let ranges = everything();
    let (summary, traffic) =
        run_by_sketches((&mut local, &mut remote), &ranges, token(77), None, &mut |_| {});
    assert_eq!((summary.outcome, summary.pulled), (Outcome::Complete, 60_000));
    assert!(traffic.sketches <= 5_000, "{} sketches", traffic.sketches);
    assert_eq!(local, remote);
}

#[test]
fn an_exchange_among_writes_ends_and_mends_what_differed_before() {
    let mut local = full(20_000);
    let mut remote = local.clone();
    (1..=500).for_each(|i| remote.merge((token(40 * i), 0), 1_000_000 + i));
    let expected = remote.clone();
    let mut number = 2_000_000;
    let (summary, traffic) =
        run_by_sketches((&mut local, &mut remote), &everything(), 0, None, &mut |(_, remote)| {
            // Each comes to one side only for now, as on its way.
            for _ in 0..20 {
                number += 1;
                remote.merge((token(number % 20_000 + 1), 0), number);
            }
        });
    assert_eq!(summary.outcome, Outcome::Complete);
    assert!(traffic.overviews <= 4, "{traffic:?}");
    let missed = expected.0.iter().filter(|(place, stamp)| local.0[place] < **stamp);
    assert_eq!(missed.count(), 0);
}

fn replicas() -> impl Strategy<Value = (Replica, Replica)> {
    // Few tokens, so that some are shared by several keys; and most of them in the same bucket.
    let places = || prop::collection::vec(((0..60_u64, 0..3_u8), 1..50_u64, any::<bool>()), 0..200);
    (places(), places()).prop_map(|(one, other)| {
        let replica = |entries: Vec<((u64, u8), u64, bool)>| {
            let mut replica = Replica::default();
            for ((at, key), stamp, near) in entries {
                let token = if near { at } else { token(at) };
                // A stamp belongs to one key only, as versions do.
                replica.merge((token, key), stamp * 1_000 + at * 10 + u64::from(key));
            }
            replica
        };
        (replica(one), replica(other))
    })
}

proptest! {
    // Each looks at all buckets some times, one by one.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_differs_is_mended_in_a_few_exchanges(
        (mut local, mut remote) in replicas(),
        part in any::<bool>(),
        resume_at in any::<u64>(),
        aborts in prop::collection::vec(prop::option::of(0..10_usize), 0..4),
    ) {
        let ranges = if part { Ranges::new([0..=20, token(3)..=u64::MAX]) } else { everything() };
        let mut merged = local.clone();
        remote.0.iter().for_each(|(&place, &stamp)| merged.merge(place, stamp));
        let before = (local.clone(), remote.clone());

        let mut aborts = aborts.into_iter();
        let mut resume_at = resume_at;
        // A record that shares its token with others may take three goes.
        for exchange in 0.. {
            prop_assert!(exchange <= 8, "no end");
            let abort_at = aborts.next().flatten();
            let replicas = (&mut local, &mut remote);
            let (summary, traffic) =
                run_by_sketches(replicas, &ranges, resume_at, abort_at, &mut |_| {});
            prop_assert_eq!(summary.pulled + summary.pushed, traffic.moved);
            resume_at = summary.resume_at;
            match summary.outcome {
                Outcome::Complete if traffic.moved == 0 => break,
                Outcome::Complete => {}
                Outcome::Aborted => prop_assert!(abort_at.is_some()),
                other => prop_assert!(false, "{other:?}"),
            }
        }
        for (replica, before) in [(&local, &before.0), (&remote, &before.1)] {
            for (place, stamp) in &merged.0 {
                let expected = if ranges.contains(place.0) { Some(stamp) } else { before.0.get(place) };
                prop_assert_eq!(replica.0.get(place), expected);
            }
        }
    }
}

#[test]
fn a_difference_that_is_all_in_some_buckets_is_listed_and_mended_both_ways() {
    let ranges = everything();
    let mut local = full(2_000);
    for bucket in 0..300_u64 {
        (0..50).for_each(|i| local.merge(((bucket * 13) << 52 | i << 20, 0), i + 1));
    }
    let mut remote = local.clone();
    for bucket in 0..300_u64 {
        for i in 0..50 {
            let stale = if i % 3 == 0 { &mut remote } else { &mut local };
            stale.merge(((bucket * 13) << 52 | i << 20, 0), 5_000 + i);
        }
    }
    let (summary, traffic) =
        run_by_sketches((&mut local, &mut remote), &ranges, token(9), None, &mut |_| {});
    assert_eq!((summary.outcome, traffic.moved), (Outcome::Complete, 15_000));
    assert!(traffic.listed > 0, "{traffic:?}");
    assert_eq!(local, remote);
}
