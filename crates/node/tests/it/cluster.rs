use std::time::Duration;

use quorate_membership::PeerState;
use quorate_node::{ClientReply, NodeOptions, Operation, Refusal};
use quorate_quorum::{GetReceipt, Holder, Outcome, Round};
use quorate_record::{NodeId, Record, Timestamp};

use crate::world::{World, id, key, quorum, without_anti_entropy, written};

#[track_caller]
fn read(reply: ClientReply) -> GetReceipt<NodeId, Record> {
    let ClientReply::Read(Ok(receipt)) = reply else { panic!("{reply:?}") };
    receipt
}

#[track_caller]
fn value(reply: ClientReply) -> Option<String> {
    let value = read(reply).found.and_then(|record| record.value)?;
    Some(String::from_utf8(value.to_vec()).expect("tests write text"))
}

/// The owners of a key, and the nodes that are none.
fn places(world: &World, text: &str) -> (Vec<NodeId>, Vec<NodeId>) {
    let mut nodes: Vec<NodeId> =
        world.ring().preference_of_key(key(text).as_bytes()).copied().collect();
    let others = nodes.split_off(3);
    (nodes, others)
}

#[test]
fn what_one_node_writes_every_node_reads() {
    let mut world = World::new(3, without_anti_entropy());
    let receipt = written(world.put(id(1), "cat", "meow", quorum(true)));
    assert!(receipt.acks.len() >= 2 && !receipt.sloppy);
    for node in 1..=3 {
        assert_eq!(value(world.get(id(node), "cat", quorum(true))), Some("meow".into()));
    }
    world.run(Duration::from_millis(10));
    assert_eq!((1..=3).filter(|&n| world.held(id(n), &key("cat")).is_some()).count(), 3);
    written(world.delete(id(2), "cat", quorum(true)));
    assert_eq!(value(world.get(id(3), "cat", quorum(true))), None);
}

#[test]
fn with_as_many_nodes_as_replicas_the_coordinator_keeps_the_hints() {
    let mut world = World::new(3, without_anti_entropy());
    world.kill(id(2));
    for number in 0..200 {
        written(world.put(id(1), &format!("k{number}"), "v", quorum(true)));
    }
    world.run(Duration::from_secs(2));
    assert_eq!(world.node(id(1)).hints().stats(0).count, 200);
    world.start(id(2));
    world.run(Duration::from_secs(5));
    assert_eq!(world.count(id(2)), 200);
    assert_eq!(world.node(id(1)).hints().stats(0).count, 0);
}

#[test]
fn p9_a_coordinator_that_missed_its_own_write_hands_it_to_itself() {
    let mut world = World::new(3, without_anti_entropy());
    world.fill_store(id(1), true);
    written(world.put(id(1), "cat", "meow", quorum(true)));
    world.run(Duration::from_secs(2));
    assert_eq!(world.node(id(1)).hints().stats(0).count, 1);
    world.fill_store(id(1), false);
    world.run(Duration::from_secs(40));
    assert!(world.held(id(1), &key("cat")).is_some());
    assert_eq!(world.node(id(1)).hints().stats(0).count, 0);
}

#[test]
fn a_replica_that_is_only_slow_gets_a_hint_though_the_quorum_was_met() {
    let mut world = World::new(3, without_anti_entropy());
    world.cut(id(3));
    written(world.put(id(1), "cat", "meow", quorum(true)));
    world.run(Duration::from_secs(4));
    assert_eq!(world.node(id(1)).hints().stats(0).count, 1);
    let state = |world: &World| world.node(id(1)).peers().last().map(|peer| peer.state);
    assert_eq!(state(&world), Some(PeerState::Down));
    world.mend(id(3));
    world.run(Duration::from_secs(60));
    assert_eq!(state(&world), Some(PeerState::Up));
    assert!(world.held(id(3), &key("cat")).is_some());
}

#[test]
fn p3_a_delete_that_a_replica_missed_is_not_undone_by_it() {
    let mut world = World::new(3, NodeOptions::default());
    written(world.put(id(1), "cat", "meow", quorum(true)));
    world.run(Duration::from_millis(100));
    world.kill(id(2));
    written(world.delete(id(1), "cat", quorum(true)));
    world.start(id(2));
    world.run(Duration::from_secs(10));
    for node in 1..=3 {
        assert!(world.held(id(node), &key("cat")).is_none_or(Record::is_tombstone));
        assert_eq!(value(world.get(id(node), "cat", quorum(true))), None);
    }
}

#[test]
fn without_hints_anti_entropy_fills_a_replica_that_was_away() {
    let options = NodeOptions { hint_ttl: Duration::ZERO, ..NodeOptions::default() };
    let mut world = World::new(3, options);
    world.kill(id(3));
    for number in 0..500 {
        written(world.put(id(1), &format!("k{number}"), "v", quorum(true)));
    }
    world.start(id(3));
    world.run(Duration::from_secs(30));
    assert_eq!(world.count(id(3)), 500);
    world.run(Duration::from_secs(10));
    let stats = world.node(id(3)).anti_entropy().expect("it is on");
    assert_eq!((stats.last_pulled, stats.last_pushed, stats.total_errors), (0, 0, 0));
    assert!(world.node(id(1)).comparisons().all(|(_, c)| c.is_some_and(|c| c.equal)));
}

#[test]
fn an_exchange_goes_on_in_steps_until_all_has_moved() {
    let options = NodeOptions { anti_entropy_max_per_tick: 20, ..NodeOptions::default() };
    let mut world = World::new(3, options);
    world.run(Duration::from_secs(10));
    let exchanges = |world: &World| world.node(id(1)).anti_entropy().expect("it is on").exchanges;
    let before = exchanges(&world);
    let receipt = written(world.put(id(1), "seed", "x", quorum(true)));
    for number in 0..500 {
        let record = Record::live(receipt.version, format!("value {number}"));
        world.plant(id(1), key(&format!("k{number}")), record);
    }
    world.run(Duration::from_secs(10));
    assert!((1..=3).all(|node| world.count(id(node)) == 501));
    assert!(exchanges(&world) - before < 10, "not one for each twenty records");
}

#[test]
fn a_peer_that_knows_no_sketches_is_compared_by_lists() {
    let mut world = World::new(3, NodeOptions::default());
    world.make_old(id(3));
    let receipt = written(world.put(id(1), "seed", "x", quorum(true)));
    for number in 0..500 {
        let record = Record::live(receipt.version, format!("value {number}"));
        world.plant(id(3), key(&format!("k{number}")), record);
    }
    world.run(Duration::from_secs(30));
    assert!((1..=3).all(|node| world.count(id(node)) == 501));
    let errors = |node| world.node(id(node)).anti_entropy().expect("it is on").total_errors;
    assert_eq!((1..=3).map(errors).sum::<u64>(), 0);
}

#[test]
fn a_record_that_is_refused_does_not_hold_the_others_up() {
    let mut world = World::new(3, NodeOptions::default());
    world.run(Duration::from_secs(10));
    let version = written(world.put(id(1), "seed", "x", quorum(true))).version;
    let mut far = version;
    far.timestamp = Timestamp::from_wall_ms(far.timestamp.wall_ms() + 3_600_000);
    world.plant(id(1), key("far"), Record::live(far, "from the future"));
    for number in 0..50 {
        let record = Record::live(version, format!("value {number}"));
        world.plant(id(1), key(&format!("k{number}")), record);
    }
    world.run(Duration::from_secs(10));
    assert_eq!([2, 3].map(|node| world.count(id(node))), [51, 51]);
    let compared: Vec<_> = world.node(id(2)).comparisons().map(|(_, it)| it).collect();
    let differing = compared.iter().flatten().map(|it| (it.equal, it.differing, it.complete));
    assert_eq!(differing.collect::<Vec<_>>(), [(false, 1, true), (true, 0, true)]);
    let [with_n1, with_n3] = [compared[0], compared[1]].map(|it| it.expect("they were compared"));
    assert!(with_n1.since_ms > with_n3.since_ms, "it was equal all the time");
    assert!(with_n1.as_of_ms > with_n1.since_ms);
}

#[test]
fn p10_records_that_tie_converge_on_one_of_them() {
    let mut world = World::new(3, NodeOptions::default());
    let version = written(world.put(id(1), "seed", "x", quorum(true))).version;
    for node in 1..=3 {
        world.plant(id(node), key("tie"), Record::live(version, format!("value {node}")));
    }
    world.run(Duration::from_secs(20));
    let held: Vec<_> = (1..=3).map(|node| world.held(id(node), &key("tie"))).collect();
    assert!(held[0].is_some() && held.iter().all(|record| *record == held[0]), "{held:?}");
}

#[test]
fn each_key_ends_on_its_owners_and_nowhere_else() {
    let mut world = World::new(5, NodeOptions::default());
    for number in 0..200 {
        written(world.put(id(1 + number % 5), &format!("k{number}"), "v", quorum(true)));
    }
    world.run(Duration::from_secs(30));
    for number in 0..200 {
        let text = format!("k{number}");
        let (owners, others) = places(&world, &text);
        assert!(owners.iter().all(|&node| world.held(node, &key(&text)).is_some()));
        assert!(others.iter().all(|&node| world.held(node, &key(&text)).is_none()));
    }
}

#[test]
fn a_sloppy_write_is_found_by_a_sloppy_read_and_handed_over() {
    let mut world = World::new(5, without_anti_entropy());
    let (owners, others) = places(&world, "cat");
    world.kill(owners[1]);
    world.kill(owners[2]);
    let receipt = written(world.put(others[0], "cat", "meow", quorum(true)));
    assert!(receipt.sloppy);
    assert!(receipt.hinted.iter().all(|(_, holder)| matches!(holder, Holder::Fallback(_))));
    let read = read(world.get(others[1], "cat", quorum(true)));
    assert!(read.sloppy && read.found.is_some());

    let ClientReply::Written(Err(failure)) = world.put(others[0], "cat", "purr", quorum(false))
    else {
        panic!("too few owners are up")
    };
    assert_eq!(failure.error.outcome(), Outcome::Indeterminate);
    assert!(matches!(world.get(others[0], "cat", quorum(false)), ClientReply::Read(Err(_))));

    world.start(owners[1]);
    world.start(owners[2]);
    world.run(Duration::from_secs(5));
    for &owner in &owners {
        assert!(world.held(owner, &key("cat")).is_some());
    }
    for &other in &others {
        assert_eq!(world.node(other).hints().stats(0).count, 0);
        assert!(world.held(other, &key("cat")).is_none());
    }
}

#[test]
fn absent_needs_a_quorum_of_replicas_that_say_so() {
    let mut world = World::new(5, without_anti_entropy());
    let (owners, others) = places(&world, "cat");
    assert_eq!(value(world.get(others[0], "cat", quorum(true))), None);
    world.kill(owners[0]);
    world.kill(owners[1]);
    assert!(matches!(world.get(others[0], "cat", quorum(true)), ClientReply::Read(Err(_))));
}

#[test]
fn a_dead_target_holds_up_no_other() {
    let mut world = World::new(5, without_anti_entropy());
    world.kill(id(4));
    world.kill(id(5));
    let mut accepted = 0;
    for number in 0..100 {
        let reply = world.put(id(1), &format!("k{number}"), "v", quorum(true));
        accepted += usize::from(matches!(reply, ClientReply::Written(Ok(_))));
    }
    assert_eq!(accepted, 100);
    world.run(Duration::from_secs(3));
    world.start(id(5));
    world.run(Duration::from_secs(5));
    for number in 0..100 {
        let text = format!("k{number}");
        let (owners, _) = places(&world, &text);
        assert_eq!(owners.contains(&id(5)), world.held(id(5), &key(&text)).is_some());
    }
}

#[test]
fn p4_a_slow_clock_loses_no_acknowledged_write() {
    let mut world = World::new(3, without_anti_entropy());
    world.set_clock(id(1), 5_000);
    world.set_clock(id(3), -5_000);
    world.cut(id(3));
    let first = written(world.put(id(1), "cat", "old", quorum(false)));
    world.kill(id(1));
    world.mend(id(3));
    let second = written(world.put(id(3), "cat", "new", quorum(false)));
    assert!(second.version > first.version, "{first:?} {second:?}");
    assert_eq!(second.round, Round::Second);
    assert_eq!(value(world.get(id(2), "cat", quorum(false))), Some("new".into()));
}

#[test]
fn a_clock_that_is_far_ahead_drags_nobody_along() {
    let mut world = World::new(3, without_anti_entropy());
    world.set_clock(id(1), 3_600_000);
    let ClientReply::Written(Err(failure)) = world.put(id(1), "cat", "future", quorum(false))
    else {
        panic!("the others refuse it")
    };
    assert_eq!(failure.reason, Some(Refusal::TooFarAhead));
    assert!(world.held(id(2), &key("cat")).is_none());
    assert!(world.node(id(2)).counters().refused_too_far_ahead > 0);
    written(world.put(id(2), "cat", "now", quorum(false)));
}

#[test]
fn a_node_whose_clock_is_far_ahead_of_the_others_takes_no_writes() {
    let mut world = World::new(3, without_anti_entropy());
    world.set_clock(id(2), 3_600_000);
    world.run(Duration::from_secs(2));
    let reply = world.put(id(2), "cat", "future", quorum(true));
    assert_eq!(reply, ClientReply::Refused(Refusal::ClockAhead));
    written(world.put(id(1), "cat", "now", quorum(true)));
    assert_eq!(value(world.get(id(2), "cat", quorum(true))), Some("now".into()));
    world.set_clock(id(2), 0);
    world.run(Duration::from_secs(2));
    written(world.put(id(2), "dog", "back", quorum(true)));
}

#[test]
fn a_replica_that_is_only_suspected_is_asked_last() {
    let mut world = World::new(3, without_anti_entropy());
    written(world.put(id(1), "cat", "meow", quorum(true)));
    world.cut(id(2));
    world.run(Duration::from_millis(1_500));
    let receipt = read(world.get(id(1), "cat", quorum(true)));
    assert_eq!(receipt.from, [id(1), id(3)]);
    assert_eq!(world.node(id(1)).counters().hedges, 0);
}

#[test]
fn peers_are_not_late_before_they_have_been_asked() {
    // Nothing is known of how long answers take, so a read hedges after 20 ms.
    for own_disk_ms in [18, 28] {
        let mut world = World::new(3, without_anti_entropy());
        written(world.put(id(1), "cat", "meow", quorum(true)));
        world.run(Duration::from_millis(100));
        world.set_link_delay(Duration::from_millis(5));
        world.set_read_delay(id(1), Duration::from_millis(own_disk_ms));
        assert_eq!(value(world.get(id(1), "cat", quorum(true))), Some("meow".into()));
        assert_eq!(world.node(id(1)).counters().hedges, 0, "{own_disk_ms}");
    }
}

#[test]
fn a_full_disk_is_told_and_service_goes_on_elsewhere_and_afterwards() {
    let mut world = World::new(3, without_anti_entropy());
    written(world.put(id(1), "cat", "meow", quorum(true)));
    world.fill_disk(id(2), true);
    written(world.put(id(1), "cat", "purr", quorum(true)));
    world.fill_disk(id(1), true);
    let ClientReply::Written(Err(failure)) = world.put(id(3), "cat", "hiss", quorum(true)) else {
        panic!("two of three disks are full")
    };
    assert_eq!(failure.reason, Some(Refusal::DiskFull));
    assert!(value(world.get(id(1), "cat", quorum(true))).is_some());
    world.fill_disk(id(1), false);
    world.fill_disk(id(2), false);
    written(world.put(id(1), "cat", "yawn", quorum(true)));
}

#[test]
fn a_node_that_cannot_persist_its_clock_rejects_writes_and_serves_reads() {
    let mut world = World::new(3, without_anti_entropy());
    written(world.put(id(1), "cat", "meow", quorum(true)));
    world.fill_disk(id(2), true);
    let reply = world.put(id(2), "cat", "purr", quorum(true));
    assert_eq!(reply, ClientReply::Refused(Refusal::DiskFull));
    assert_eq!(value(world.get(id(2), "cat", quorum(true))), Some("meow".into()));
}

#[test]
fn a_read_mends_the_stale_replica_it_met() {
    let mut world = World::new(3, without_anti_entropy());
    let receipt = written(world.put(id(1), "cat", "meow", quorum(true)));
    world.run(Duration::from_millis(100));
    let mut newer = Record::live(receipt.version, "newer");
    newer.version.timestamp = newer.version.timestamp.next();
    world.plant(id(2), key("cat"), newer.clone());
    for node in 1..=3 {
        world.get(id(node), "cat", quorum(true));
        world.run(Duration::from_secs(1));
    }
    for node in 1..=3 {
        assert_eq!(value(world.get(id(node), "cat", quorum(true))), Some("newer".into()));
    }
}

#[test]
fn in_a_large_cluster_fallbacks_are_found_past_many_that_are_down() {
    let mut world = World::new(30, without_anti_entropy());
    let preference: Vec<NodeId> =
        world.ring().preference_of_key(key("cat").as_bytes()).copied().collect();
    // All owners and the next dozen; the last node coordinates.
    for &node in &preference[..15] {
        world.kill(node);
    }
    world.run(Duration::from_secs(5));
    let receipt = written(world.put(preference[29], "cat", "meow", quorum(true)));
    assert!(receipt.sloppy);
    assert_eq!(receipt.acks, preference[15..17].to_vec());
}

#[test]
fn replicas_that_hold_what_the_coordinator_holds_do_not_send_it() {
    let mut world = World::new(3, without_anti_entropy());
    let receipt = written(world.put(id(1), "cat", "meow", quorum(true)));
    world.run(Duration::from_millis(100));
    for node in 1..=3 {
        let receipt = read(world.get(id(node), "cat", quorum(true)));
        assert_eq!(receipt.found.expect("all hold it").value.expect("a value"), "meow");
        assert!(receipt.from.len() >= 2 && receipt.from.contains(&id(node)));
    }
    assert_eq!(world.records_found(), 0);
    let mut newer = Record::live(receipt.version, "newer");
    newer.version.timestamp = newer.version.timestamp.next();
    for holder in [2, 3] {
        world.plant(id(holder), key("cat"), newer.clone());
    }
    assert_eq!(value(world.get(id(1), "cat", quorum(true))), Some("newer".into()));
    assert_eq!(world.records_found(), 1);
}

#[test]
fn answers_of_replicas_that_hold_the_same_count_after_a_hedge_too() {
    let mut world = World::new(3, without_anti_entropy());
    written(world.put(id(1), "cat", "meow", quorum(true)));
    world.run(Duration::from_millis(100));
    world.set_link_delay(Duration::from_millis(100)); // longer than any read waits before it hedges
    for node in 1..=3 {
        assert_eq!(value(world.get(id(node), "cat", quorum(true))), Some("meow".into()));
    }
    assert_eq!(world.records_found(), 0);
}

#[test]
fn p7_what_is_damaged_here_is_read_from_another_replica() {
    let mut world = World::new(3, without_anti_entropy());
    written(world.put(id(1), "cat", "meow", quorum(true)));
    world.run(Duration::from_millis(10));
    for coordinator in 1..=3 {
        world.damage(id(1), key("cat")); // it is brought back as soon as it was read
        let receipt = read(world.get(id(coordinator), "cat", quorum(false)));
        assert_eq!(receipt.found.expect("two hold it").value.expect("a value"), "meow");
        assert!(!receipt.from.contains(&id(1)), "{:?}", receipt.from);
    }
    let receipt = written(world.atomically(id(1), "cat", Operation::Put("purr".into())));
    assert!(receipt.acks.len() >= 2);
    assert_eq!(value(world.atomically(id(1), "cat", Operation::Get)), Some("purr".into()));
}

#[test]
fn p7_what_too_few_can_read_is_damaged_and_not_absent() {
    let mut world = World::new(3, without_anti_entropy());
    written(world.put(id(1), "cat", "meow", quorum(true)));
    world.run(Duration::from_millis(10));
    for coordinator in 1..=3 {
        world.damage(id(1), key("cat"));
        world.damage(id(2), key("cat"));
        let reply = world.get(id(coordinator), "cat", quorum(false));
        let ClientReply::Read(Err(failure)) = reply else { panic!("{reply:?}") };
        assert_eq!(failure.reason, Some(Refusal::Damaged));
        world.run(Duration::from_millis(20)); // both are brought back
    }
    world.damage(id(1), key("cat"));
    world.damage(id(2), key("cat"));
    assert!(matches!(
        world.atomically(id(3), "cat", Operation::Put("purr".into())),
        ClientReply::Written(Err(failure)) if failure.reason == Some(Refusal::Damaged)
    ));
    written(world.put(id(3), "cat", "purr", quorum(false)));
    assert_eq!(value(world.get(id(1), "cat", quorum(false))), Some("purr".into()));
}

#[test]
fn p7_anti_entropy_brings_back_what_is_damaged() {
    let mut world = World::new(3, NodeOptions::default());
    for number in 0..20 {
        written(world.put(id(1), &format!("k{number}"), "v", quorum(true)));
    }
    world.run(Duration::from_millis(10));
    for number in 0..20 {
        world.damage(id(1 + number % 3), key(&format!("k{number}")));
    }
    world.run(Duration::from_secs(120));
    for number in 0..20 {
        assert!(!world.is_damaged(id(1 + number % 3), &key(&format!("k{number}"))), "{number}");
    }
}

#[test]
fn a_killed_node_starts_again_above_every_version_it_has_issued() {
    let mut world = World::new(3, without_anti_entropy());
    let before = written(world.put(id(1), "cat", "meow", quorum(true))).version;
    world.kill(id(1));
    world.set_clock(id(1), -3_600_000);
    world.start(id(1));
    world.run(Duration::from_millis(50));
    let after = written(world.put(id(1), "dog", "woof", quorum(true))).version;
    assert!(after > before);
}

#[test]
fn p6_an_atomic_write_goes_above_a_faster_clock_in_one_version() {
    let mut world = World::new(3, without_anti_entropy());
    world.set_clock(id(1), 5_000);
    let put = |value: &'static str| Operation::Put(value.into());
    let first = written(world.atomically(id(1), "cat", put("old")));
    let second = written(world.atomically(id(3), "cat", put("new")));
    assert!(second.version > first.version);
    assert_eq!(world.node(id(3)).counters().second_rounds, 0);
    assert_eq!(value(world.atomically(id(2), "cat", Operation::Get)), Some("new".into()));
    written(world.atomically(id(2), "cat", Operation::Delete));
    assert_eq!(value(world.atomically(id(1), "cat", Operation::Get)), None);
}

#[test]
fn p6_an_atomic_read_leaves_what_it_found_with_a_majority() {
    let mut world = World::new(3, without_anti_entropy());
    let receipt = written(world.put(id(1), "cat", "meow", quorum(false)));
    world.run(Duration::from_millis(100));
    let mut newer = Record::live(receipt.version, "half written");
    newer.version.timestamp = newer.version.timestamp.next();
    world.plant(id(2), key("cat"), newer);
    assert_eq!(value(world.atomically(id(2), "cat", Operation::Get)), Some("half written".into()));
    world.kill(id(2));
    assert_eq!(value(world.atomically(id(1), "cat", Operation::Get)), Some("half written".into()));
}

#[test]
fn without_a_majority_an_atomic_write_is_rejected() {
    let mut world = World::new(3, without_anti_entropy());
    world.kill(id(2));
    world.kill(id(3));
    let reply = world.atomically(id(1), "cat", Operation::Put("meow".into()));
    let ClientReply::Written(Err(failure)) = reply else { panic!("{reply:?}") };
    assert_eq!(failure.error.outcome(), Outcome::Rejected);
    assert!(world.held(id(1), &key("cat")).is_none());
}

#[test]
fn a_clock_that_was_set_right_writes_nothing_that_others_refuse() {
    let mut world = World::new(3, NodeOptions::default());
    world.set_clock(id(1), 3_600_000);
    // Before it was told the others' clocks.
    world.put(id(1), "cat", "from the future", quorum(false));
    // Its ceiling is an hour ahead now, and so is what it issues after a restart.
    world.kill(id(1));
    world.set_clock(id(1), 0);
    world.start(id(1));
    world.run(Duration::from_secs(3));
    let reply = world.put(id(1), "dog", "woof", quorum(false));
    assert!(
        matches!(reply, ClientReply::Refused(Refusal::ClockAhead)),
        "nobody would take it: {reply:?}"
    );
    for node in 1..=3 {
        assert!(world.held(id(node), &key("dog")).is_none(), "n{node} holds what others refuse");
    }
    written(world.put(id(2), "dog", "woof", quorum(false)));
}
