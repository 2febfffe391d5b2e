//! What is asked for is in proportion to what differs.

use quorate_antientropy::{Limits, Outcome, Ranges};

use crate::replica::{Replica, run};

/// Tokens spread like hashes are.
fn full(records: u64) -> Replica {
    let mut replica = Replica::default();
    for i in 1..=records {
        replica.merge((i.wrapping_mul(0x9e37_79b9_7f4a_7c15), 0), i);
    }
    replica
}

#[test]
fn one_record_among_many_is_found_by_a_few_digests_and_one_list() {
    let mut local = full(20_000);
    let mut remote = local.clone();
    remote.merge((12_345, 0), 99_999);
    let ranges = Ranges::new([0..=u64::MAX]);
    let (summary, traffic) = run((&mut local, &mut remote), &ranges, Limits::default(), 0, None);
    assert_eq!((summary.outcome, summary.pulled, summary.pushed), (Outcome::Complete, 1, 0));
    assert_eq!((traffic.digest_messages, traffic.digests), (3, 33));
    assert!(traffic.listed <= 512, "{} records listed", traffic.listed);
    assert_eq!(local, remote);
}

#[test]
fn an_empty_replica_is_filled_by_bounded_exchanges_that_each_go_on() {
    let mut remote = full(3000);
    let mut local = Replica::default();
    let ranges = Ranges::new([0..=u64::MAX]);
    let mut resume_at = 0;
    for exchange in 1..=15 {
        let (summary, traffic) =
            run((&mut local, &mut remote), &ranges, Limits::default(), resume_at, None);
        assert_eq!(summary.pulled, 200);
        assert!(traffic.listed <= 3 * 512, "exchange {exchange} listed {}", traffic.listed);
        resume_at = summary.resume_at;
    }
    assert_eq!(local, remote);
}

#[test]
fn a_record_that_cannot_be_read_does_not_hide_the_rest() {
    let mut remote = full(3000);
    let mut local = Replica::default();
    let ranges = Ranges::new([0..=u64::MAX]);
    // The first pull fails (root, first parts and a list come before it), the next exchange passes.
    let (aborted, _) = run((&mut local, &mut remote), &ranges, Limits::default(), 0, Some(3));
    assert_eq!((aborted.outcome, aborted.pulled), (Outcome::Aborted, 0));
    let limits = Limits::default();
    let (next, _) = run((&mut local, &mut remote), &ranges, limits, aborted.resume_at, None);
    assert_eq!(next.pulled, 200);
    assert!(local.0.keys().all(|&(token, _)| token >= aborted.resume_at));
}
