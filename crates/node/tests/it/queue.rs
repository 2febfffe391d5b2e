use std::time::Duration;

use quorate_node::{ClientReply, NodeOptions, Refusal};
use quorate_record::NodeId;

use crate::world::{TIMEOUT, World, id, quorum, without_anti_entropy, written};

const MS: Duration = Duration::from_millis(1);
/// As few as are let in at least.
const LEAST: usize = 64;

/// Three nodes, whose first lets in as few requests at once as it ever does.
fn pressed(options: NodeOptions) -> World {
    let mut world = World::new(3, options);
    for _ in 0..3 {
        written(world.put(id(1), "cat", "meow", quorum(false)));
        world.lag(id(1), MS * 100);
        world.run(MS * 150);
    }
    assert_eq!(world.node(id(1)).admitted(), LEAST);
    world
}

fn begin(world: &mut World, at: NodeId, count: usize) -> Vec<u64> {
    (0..count).map(|i| world.begin_put(at, &format!("key-{i}"))).collect()
}

fn assert_overloaded(world: &mut World, request: u64) {
    assert!(world.is_answered(request));
    let reply = world.answer_to(request);
    assert!(matches!(reply, ClientReply::Refused(Refusal::Overloaded)), "{reply:?}");
}

#[test]
fn p8_what_is_too_much_at_once_waits_and_whoever_has_waited_longest_is_next() {
    let mut world = pressed(without_anti_entropy());
    world.set_link_delay(MS * 50);
    let requests = begin(&mut world, id(1), 164);
    assert_eq!(world.node(id(1)).queued_requests(), 100);
    assert_eq!(world.node(id(1)).open_requests(), 164);
    world.run_open(MS * 250);
    let is_answered = |world: &World, range: &[u64]| {
        range.iter().filter(|request| world.is_answered(**request)).count()
    };
    assert_eq!(is_answered(&world, &requests[..128]), 128);
    assert_eq!(is_answered(&world, &requests[144..]), 0);
    for request in requests {
        written(world.answer_to(request));
    }
    world.run(MS * 3_000);
    assert_eq!(world.node(id(1)).open_requests(), 0);
}

#[test]
fn p8_who_would_wait_in_vain_is_refused_at_once() {
    let mut world = pressed(without_anti_entropy());
    world.set_link_delay(TIMEOUT); // so long that nothing ends in time
    let let_in = begin(&mut world, id(1), LEAST);
    let first = world.begin_put(id(1), "first");
    world.run_open(TIMEOUT * 5 / 8);
    let second = world.begin_put(id(1), "second");
    world.run_open(MS);
    let third = world.begin_put(id(1), "third");
    assert_overloaded(&mut world, third);
    assert!(!world.is_answered(first) && !world.is_answered(second));

    // Nobody waits until there is no time left.
    world.run_open(TIMEOUT / 4);
    assert_overloaded(&mut world, first);
    world.run_open(TIMEOUT);
    let is_failed = |reply| matches!(reply, ClientReply::Written(Err(_)));
    assert!(let_in.into_iter().all(|request| is_failed(world.answer_to(request))));
    assert!(is_failed(world.answer_to(second)), "it had its turn, and what was left of its time");
    world.run(MS * 5_000);
}

#[test]
fn p8_those_who_wait_count_among_those_that_there_may_be() {
    let mut world = pressed(NodeOptions { max_in_flight: 70, ..without_anti_entropy() });
    world.set_link_delay(MS * 50);
    let mut requests = begin(&mut world, id(1), 71);
    assert_overloaded(&mut world, requests.pop().expect("there are some"));
    for request in requests {
        written(world.answer_to(request));
    }
    world.run(MS * 3_000);
}
