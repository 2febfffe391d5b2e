//! Replicas that are compared often enough become the pointwise greatest of both.

use proptest::prelude::*;
use quorate_antientropy::{Limits, Outcome, Ranges};

use crate::replica::{Replica, run};

/// Few tokens, so that keys share them; some at both ends of the token space.
fn token() -> impl Strategy<Value = u64> {
    prop_oneof![0..60_u64, (0..60_u64).prop_map(|t| u64::MAX - t), any::<u64>()]
}

fn ranges() -> impl Strategy<Value = Ranges> {
    let range = prop_oneof![
        (token(), token()).prop_map(|(a, b)| a.min(b)..=a.max(b)),
        (token(), 0..9_u64).prop_map(|(first, len)| first..=first.saturating_add(len)),
    ];
    prop_oneof![
        1 => Just(Ranges::new([0..=u64::MAX])),
        3 => prop::collection::vec(range, 0..12).prop_map(Ranges::new),
    ]
}

/// Records of two replicas: held by one, by the other, or by both with possibly different stamps.
fn replicas() -> impl Strategy<Value = (Replica, Replica)> {
    let record = (token(), 0..4_u8, prop::option::of(0..9_u64), prop::option::of(0..9_u64));
    prop::collection::vec(record, 0..150).prop_map(|records| {
        let (mut local, mut remote) = (Replica::default(), Replica::default());
        for (token, key, here, there) in records {
            for (replica, version) in [(&mut local, here), (&mut remote, there)] {
                if let Some(version) = version {
                    replica.merge((token, key), version * 4 + u64::from(key));
                }
            }
        }
        (local, remote)
    })
}

fn limits() -> impl Strategy<Value = Limits> {
    (1..20_u64, prop_oneof![1..5_usize, 1..300_usize])
        .prop_map(|(leaf_records, max_records)| Limits { leaf_records, max_records })
}

proptest! {
    #[test]
    fn repeated_exchanges_converge_to_the_greatest_whatever_the_bound(
        (mut local, mut remote) in replicas(),
        ranges in ranges(),
        limits in limits(),
        resume_at in token(),
        aborts in prop::collection::vec(prop::option::of(0..12_usize), 0..6),
    ) {
        let before = (local.clone(), remote.clone());
        let mut merged = local.clone();
        remote.0.iter().for_each(|(&place, &stamp)| merged.merge(place, stamp));
        let largest_group = 2 * merged.0.keys().fold(0, |most, &(token, _)| {
            most.max(merged.0.range((token, 0)..=(token, u8::MAX)).count())
        });

        // Each exchange that is not aborted moves something, and a record that shares its token
        // with others may take three goes.
        let most = aborts.len() + 6 * merged.0.len() + 1;
        let mut aborts = aborts.into_iter();
        let mut resume_at = resume_at;
        let mut exchanges = 0;
        loop {
            let abort_at = aborts.next().flatten();
            let (summary, traffic) =
                run((&mut local, &mut remote), &ranges, limits, resume_at, abort_at);
            prop_assert_eq!(summary.pulled + summary.pushed, traffic.moved);
            prop_assert!(traffic.moved <= limits.max_records.max(largest_group));
            prop_assert_eq!(summary.unexplained, 0);
            resume_at = summary.resume_at;
            exchanges += 1;
            prop_assert!(exchanges <= most, "no end");
            match summary.outcome {
                Outcome::Complete if traffic.moved == 0 => break,
                Outcome::Complete => {}
                Outcome::Aborted => prop_assert!(abort_at.is_some()),
                Outcome::Truncated => prop_assert!(traffic.moved > 0),
                Outcome::Partial => prop_assert!(false, "all can be moved"),
            }
        }

        for (replica, before) in [(&local, &before.0), (&remote, &before.1)] {
            let inside = |&&(token, _): &&(u64, u8)| ranges.contains(token);
            for place in merged.0.keys().filter(inside) {
                prop_assert_eq!(replica.0.get(place), merged.0.get(place));
            }
            let outside = |replica: &Replica| {
                let mut rest = replica.clone();
                rest.0.retain(|&(token, _), _| !ranges.contains(token));
                rest
            };
            prop_assert_eq!(outside(replica), outside(before));
        }
        let (summary, traffic) = run((&mut local, &mut remote), &ranges, limits, resume_at, None);
        prop_assert_eq!(summary.outcome, Outcome::Complete);
        prop_assert_eq!(traffic.digests, usize::from(!ranges.is_empty()));
        prop_assert_eq!((traffic.listed, traffic.moved), (0, 0));
    }

    #[test]
    fn without_shared_tokens_one_unbounded_exchange_is_enough(
        (mut local, mut remote) in replicas(),
        ranges in ranges(),
        leaf_records in 1..20_u64,
    ) {
        for replica in [&mut local, &mut remote] {
            replica.0.retain(|&(_, key), _| key == 0);
        }
        let limits = Limits { leaf_records, max_records: usize::MAX };
        let (first, _) = run((&mut local, &mut remote), &ranges, limits, 0, None);
        prop_assert_eq!(first.outcome, Outcome::Complete);
        let (_, again) = run((&mut local, &mut remote), &ranges, limits, 0, None);
        prop_assert_eq!((again.digest_messages, again.moved), (usize::from(!ranges.is_empty()), 0));
    }
}
