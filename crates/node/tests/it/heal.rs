use std::time::Duration;

use quorate_node::{ClientReply, NodeOptions, Refusal};
use quorate_record::{Record, Timestamp, Version, Writer};

use crate::world::{World, id, key, quorum, without_anti_entropy};

fn record(ms: u64, value: &str) -> Record {
    let writer = Writer { node: id(9), incarnation: 1 };
    let timestamp = Timestamp::from_wall_ms(1_600_000_000_000 + ms);
    Record::live(Version { timestamp, writer }, value.to_owned())
}

fn heals(world: &World, number: usize) -> u64 {
    world.node(id(number)).counters().heals
}

#[test]
fn p7_a_damaged_record_that_is_read_comes_back_at_once() {
    let mut world = World::new(3, without_anti_entropy());
    world.put(id(1), "cat", "meow", quorum(false));
    world.run(Duration::from_millis(10));
    world.damage(id(2), key("cat"));
    // The coordinator asks the others; the replica sees to itself.
    let reply = world.get(id(2), "cat", quorum(false));
    assert!(matches!(reply, ClientReply::Read(Ok(receipt)) if receipt.found.is_some()));
    world.run(Duration::from_millis(20));
    assert!(!world.is_damaged(id(2), &key("cat")));
    assert_eq!((heals(&world, 1), heals(&world, 2), heals(&world, 3)), (0, 1, 0));
}

#[test]
fn p7_what_was_found_otherwise_comes_back_however_much_it_is() {
    let mut world = World::new(5, without_anti_entropy());
    for number in 0..300 {
        world.put(id(1), &format!("k{number}"), "v", quorum(false));
    }
    world.run(Duration::from_millis(10));
    let keys: Vec<_> = (0..300).map(|number| key(&format!("k{number}"))).collect();
    let held: Vec<_> =
        keys.iter().filter(|key| world.held(id(3), key).is_some()).cloned().collect();
    held.iter().for_each(|key| world.damage(id(3), key.clone()));
    world.report_damage(id(3));
    world.report_damage(id(3));
    assert_eq!(world.node(id(3)).healing(), held.len());
    world.run(Duration::from_secs(1));
    assert!(held.len() > 100 && held.iter().all(|key| !world.is_damaged(id(3), key)));
    assert_eq!((heals(&world, 3), world.node(id(3)).healing()), (held.len() as u64, 0));
}

#[test]
fn p7_an_older_record_does_not_pass_for_the_one_that_is_damaged() {
    let mut world = World::new(3, without_anti_entropy());
    for (number, ms) in [(1, 1), (2, 2), (3, 1)] {
        world.plant(id(number), key("cat"), record(ms, "meow"));
    }
    world.damage(id(2), key("cat"));
    world.report_damage(id(2));
    world.run(Duration::from_secs(1));
    assert!(world.is_damaged(id(2), &key("cat")));
    assert_eq!(world.node(id(2)).healing(), 0);
    // Nobody is asked again right away, and no answer calls it absent.
    world.report_damage(id(2));
    world.run(Duration::from_secs(1));
    assert_eq!(heals(&world, 2), 1);
    let all = quorate_quorum::Quorum::new(3, 3, 2, false).expect("a good quorum");
    let ClientReply::Read(Err(failure)) = world.get(id(2), "cat", all) else {
        panic!("it is not known")
    };
    assert_eq!(failure.reason, Some(Refusal::Damaged));
    // One that has it after all is asked when it was left alone for long enough.
    world.plant(id(3), key("cat"), record(2, "meow"));
    world.run(Duration::from_secs(10));
    world.report_damage(id(2));
    world.run(Duration::from_secs(1));
    assert!(!world.is_damaged(id(2), &key("cat")));
}

#[test]
fn p7_who_is_away_is_not_waited_for() {
    let mut world = World::new(3, without_anti_entropy());
    world.put(id(1), "cat", "meow", quorum(false));
    world.run(Duration::from_millis(10));
    world.kill(id(3));
    world.damage(id(2), key("cat"));
    world.report_damage(id(2));
    world.run(Duration::from_millis(20));
    assert!(!world.is_damaged(id(2), &key("cat")));
}

#[test]
fn p7_segments_are_full_again_when_all_co_owners_were_compared_with() {
    let mut world = World::new(3, NodeOptions::default());
    world.expect_refill(id(2), 2);
    assert_eq!(world.node(id(2)).refilled_segments(), 0);
    world.kill(id(3));
    world.run(Duration::from_secs(10));
    assert_eq!(world.node(id(2)).refilled_segments(), 0, "n3 may have what n1 has not");
    world.start(id(3));
    world.run(Duration::from_secs(10));
    assert_eq!(world.node(id(2)).refilled_segments(), 2);
}
