//! Nodes that lose data, and tombstones that end.

use std::time::Duration;

use quorate_node::{ClientReply, NodeOptions};
use quorate_record::{Record, Timestamp};

use crate::world::{World, id, key, quorum};

const A_WHILE: Duration = Duration::from_secs(20);

fn is_ok(reply: &ClientReply) -> bool {
    matches!(reply, ClientReply::Written(Ok(_)) | ClientReply::Read(Ok(_)))
}

fn value(reply: ClientReply) -> Option<Vec<u8>> {
    let ClientReply::Read(Ok(receipt)) = reply else { panic!("{reply:?}") };
    receipt.found.and_then(|record| record.value).map(|value| value.to_vec())
}

fn three() -> World {
    World::new(3, NodeOptions::default())
}

/// Takes a node down and lets the others notice.
fn down(world: &mut World, node: usize) {
    world.kill(id(node));
    world.run(Duration::from_secs(3));
}

/// All hold "cat"; then node 2 is taken down, and node 3 loses its disk and is back.
fn one_left_and_one_wiped() -> World {
    let mut world = three();
    assert!(is_ok(&world.put(id(1), "cat", "meow", quorum(false))));
    world.run(A_WHILE);
    down(&mut world, 2);
    down(&mut world, 3);
    world.wipe(id(3));
    world.start(id(3));
    world.run(Duration::from_secs(3));
    assert!(!world.node(id(3)).is_settled());
    world
}

#[test]
fn p1_a_wiped_node_counts_for_nothing_until_it_was_compared_with_both_others() {
    let mut world = one_left_and_one_wiped();
    let recovery = world.node(id(3)).recovery().expect("it lost its data");
    assert_eq!((recovery.done, recovery.away), (vec![id(1)], vec![id(2)]));
    assert!(world.held(id(3), &key("cat")).is_some(), "it is filled from the one that is there");
    assert!(!is_ok(&world.get(id(1), "cat", quorum(false))), "one of the two does not count");
    assert!(!is_ok(&world.put(id(1), "cat", "purr", quorum(false))));
    world.start(id(2));
    world.run(A_WHILE);
    assert!(world.node(id(3)).is_settled());
    assert!(is_ok(&world.get(id(3), "cat", quorum(false))));
}

#[test]
fn a_node_need_not_wait_for_one_that_is_gone_for_good() {
    let mut world = one_left_and_one_wiped();
    world.declare_gone(id(3), id(2));
    world.run(Duration::from_secs(1));
    assert!(world.node(id(3)).is_settled());
    assert_eq!(value(world.get(id(3), "cat", quorum(false))), Some(b"meow".to_vec()));
}

#[test]
fn p1_a_node_that_was_given_an_old_disk_finds_out_and_begins_another_life() {
    let mut world = three();
    assert!(is_ok(&world.put(id(1), "cat", "meow", quorum(false))));
    world.run(A_WHILE);
    let old = world.copy_disk(id(2));
    for number in 0..20 {
        assert!(is_ok(&world.put(id(1), &format!("cat{number}"), "meow", quorum(false))));
    }
    world.run(A_WHILE);
    down(&mut world, 2);
    world.restore_disk(id(2), old);
    world.start(id(2));
    world.run(Duration::from_millis(100));
    assert_eq!(world.renewals().len(), 1, "it is told that it had more");
    assert!(!world.node(id(2)).is_settled());
    down(&mut world, 2);
    world.start(id(2));
    world.run(A_WHILE);
    assert!(world.node(id(2)).is_settled());
    assert!(world.held(id(2), &key("cat19")).is_some());
}

#[test]
fn p3_tombstones_are_forgotten_by_all_when_all_are_well_and_by_nobody_before() {
    let mut world = three();
    for number in 0..20 {
        let name = format!("cat{number}");
        assert!(is_ok(&world.put(id(1), &name, "meow", quorum(false))));
        assert!(is_ok(&world.delete(id(2), &name, quorum(false))));
    }
    down(&mut world, 3);
    world.run(Duration::from_secs(60));
    assert_eq!((world.count(id(1)), world.count(id(2))), (20, 20), "one has not reported");
    assert_eq!(world.node(id(1)).horizon().held_back_by, [id(3)]);
    world.start(id(3));
    world.run(Duration::from_secs(60));
    assert_eq!([1, 2, 3].map(|node| world.count(id(node))), [0; 3]);
    assert!(world.horizon(id(1)) > Timestamp::ZERO);
    let ClientReply::Read(Ok(receipt)) = world.get(id(1), "cat7", quorum(false)) else {
        panic!("nothing is there, and it is known")
    };
    assert_eq!((receipt.found, receipt.repaired), (None, vec![]));
    assert!(is_ok(&world.put(id(1), "cat7", "again", quorum(false))));
    assert_eq!(value(world.get(id(2), "cat7", quorum(false))), Some(b"again".to_vec()));
}

#[test]
fn p3_what_was_deleted_does_not_come_back_with_an_old_disk() {
    let mut world = three();
    assert!(is_ok(&world.put(id(1), "cat", "meow", quorum(false))));
    world.run(A_WHILE);
    let old = world.copy_disk(id(2));
    assert!(is_ok(&world.delete(id(1), "cat", quorum(false))));
    world.run(Duration::from_secs(60));
    assert_eq!([1, 2, 3].map(|node| world.count(id(node))), [0; 3]);
    down(&mut world, 2);
    world.restore_disk(id(2), old);
    world.start(id(2));
    world.run(Duration::from_millis(100));
    down(&mut world, 2);
    world.start(id(2));
    world.run(A_WHILE);
    for node in 1..=3 {
        assert_eq!(value(world.get(id(node), "cat", quorum(false))), None);
        assert!(world.held(id(node), &key("cat")).is_none_or(Record::is_tombstone));
    }
    world.run(Duration::from_secs(60));
    assert_eq!([1, 2, 3].map(|node| world.count(id(node))), [0; 3]);
}

#[test]
fn a_coordinator_whose_clock_is_slow_writes_above_the_floor_of_the_others() {
    let mut world = three();
    assert!(is_ok(&world.put(id(1), "cat", "meow", quorum(false))));
    assert!(is_ok(&world.delete(id(1), "cat", quorum(false))));
    world.run(Duration::from_secs(60));
    assert!(world.horizon(id(1)) > Timestamp::ZERO);
    world.set_clock(id(3), -8_000);
    down(&mut world, 3);
    world.start(id(3));
    world.run(Duration::from_secs(3));
    let reply = world.put(id(3), "dog", "woof", quorum(false));
    assert!(is_ok(&reply), "{reply:?}");
    assert_eq!(value(world.get(id(1), "dog", quorum(false))), Some(b"woof".to_vec()));
}

#[test]
fn p3_a_coordinator_whose_clock_is_an_hour_slow_fails_rather_than_write_what_is_long_gone() {
    let mut world = three();
    assert!(is_ok(&world.put(id(1), "cat", "meow", quorum(false))));
    assert!(is_ok(&world.delete(id(1), "cat", quorum(false))));
    world.run(Duration::from_secs(60));
    world.set_clock(id(3), -3_600_000);
    down(&mut world, 3);
    world.start(id(3));
    world.run(Duration::from_secs(3));
    for name in ["cat", "dog"] {
        let reply = world.put(id(3), name, "woof", quorum(false));
        assert!(!is_ok(&reply), "its clock may not go so far: {reply:?}");
    }
    world.run(Duration::from_secs(60));
    for node in [1, 2] {
        assert_eq!(value(world.get(id(node), "cat", quorum(false))), None);
    }
}
