//! Whatever is offered, stored, delivered, refused and lost, in whatever order.

use std::time::Duration;

use proptest::prelude::*;
use quorate_record::HintKind;

use crate::world::{World, node};

const TARGETS: u8 = 3;

#[derive(Clone, Debug)]
enum Step {
    Offer { target: u8, key: u8, version: u64, kind: HintKind },
    Persisted { works: bool },
    Delivered { oldest: bool, refused: u16 },
    DeliveryFailed { oldest: bool },
    Up(u8),
    Down(u8),
    Pass(Duration),
}

fn step() -> impl Strategy<Value = Step> {
    let kind = prop_oneof![Just(HintKind::Owed), Just(HintKind::Courtesy)];
    let target = || 1..=TARGETS;
    prop_oneof![
        8 => (target(), 0..12_u8, 0..6_u64, kind).prop_map(|(target, key, version, kind)| {
            Step::Offer { target, key, version, kind }
        }),
        6 => prop::bool::weighted(0.9).prop_map(|works| Step::Persisted { works }),
        3 => (any::<bool>(), prop_oneof![Just(0), any::<u16>()])
            .prop_map(|(oldest, refused)| Step::Delivered { oldest, refused }),
        1 => any::<bool>().prop_map(|oldest| Step::DeliveryFailed { oldest }),
        2 => target().prop_map(Step::Up),
        1 => target().prop_map(Step::Down),
        2 => (0..3000_u64).prop_map(|ms| Step::Pass(Duration::from_millis(ms))),
    ]
}

proptest! {
    #[test]
    fn an_owed_hint_leaves_only_by_delivery_and_all_accounts_agree(
        steps in prop::collection::vec(step(), 0..150),
        max_hints in 1..30_u64,
        ttl_ms in prop_oneof![Just(0), 1..20_000_u64],
        dead in 1..=TARGETS,
    ) {
        let mut world = World::new(max_hints * 104, Duration::from_millis(ttl_ms));
        for step in steps {
            match step {
                Step::Offer { target, key, version, kind } => {
                    world.offer(target, key, version, kind);
                }
                Step::Persisted { works } => {
                    world.persist(works);
                }
                Step::Delivered { oldest, refused } => {
                    world.answer(oldest, Some(&|i| refused >> (i % 16) & 1 == 0));
                }
                Step::DeliveryFailed { oldest } => world.answer(oldest, None),
                Step::Up(target) => world.set_up(target, true),
                Step::Down(target) => world.set_up(target, false),
                Step::Pass(time) => world.pass(time),
            }
            world.drain();
            world.check();
        }
        world.check_restart();
        for target in 1..=TARGETS {
            world.set_up(target, false);
            world.set_up(target, true);
        }
        world.deliver_all_but(node(dead));
        world.drain();
        world.check_restart();
        world.check();
    }
}
