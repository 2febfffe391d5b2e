use std::time::Duration;

use quorate_node::{ClientReply, NodeOptions, Refusal};

use crate::world::{TIMEOUT, World, id, key, quorum, without_anti_entropy, written};

const MS: Duration = Duration::from_millis(1);
/// As few as are let in at least.
const LEAST: usize = 64;

/// Three nodes, whose first lets in as few requests at once as it ever does.
fn pressed(options: NodeOptions) -> World {
    let mut world = World::new(3, options);
    for _ in 0..2 {
        written(world.put(id(1), "cat", "meow", quorum(false)));
        world.lag(id(1), MS * 100);
        world.run(MS * 150); // a new window begins with the next request
    }
    assert_eq!(world.node(id(1)).admitted(), LEAST);
    world
}

fn begin(world: &mut World, count: usize) -> Vec<u64> {
    (0..count).map(|i| world.begin_put(id(1), &format!("key-{i}"), 4, TIMEOUT)).collect()
}

#[track_caller]
fn assert_overloaded(world: &mut World, request: u64) {
    assert!(world.is_answered(request));
    let reply = world.answer_to(request);
    assert!(matches!(reply, ClientReply::Refused(Refusal::Overloaded)), "{reply:?}");
}

#[test]
fn p8_what_is_too_much_at_once_waits_and_whoever_has_waited_longest_is_next() {
    let mut world = pressed(without_anti_entropy());
    world.set_link_delay(MS * 50);
    let requests = begin(&mut world, 164);
    assert_eq!(world.node(id(1)).queued_requests(), 100);
    assert_eq!(world.node(id(1)).open_requests(), 164);
    world.run_open(MS * 250);
    let are_answered = |world: &World, range: &[u64]| {
        range.iter().filter(|request| world.is_answered(**request)).count()
    };
    assert_eq!(are_answered(&world, &requests[..128]), 128);
    assert_eq!(are_answered(&world, &requests[144..]), 0);
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
    let let_in = begin(&mut world, LEAST);
    let first = world.begin_put(id(1), "first", 4, TIMEOUT);
    let hasty = world.begin_put(id(1), "hasty", 4, MS * 80);
    let patient = world.begin_put(id(1), "patient", 4, TIMEOUT * 60);
    world.run_open(MS * 59);
    assert!(!world.is_answered(hasty));
    world.run_open(MS);
    assert_overloaded(&mut world, hasty);
    let late = world.begin_put(id(1), "late", 4, MS * 80);
    assert_overloaded(&mut world, late);

    world.run_open(MS * 440);
    let last = world.begin_put(id(1), "last", 4, TIMEOUT);
    world.run_open(MS);
    let late = world.begin_put(id(1), "late", 4, TIMEOUT);
    assert_overloaded(&mut world, late);

    // Nobody waits for longer than leaves enough time, whatever he would allow.
    world.run_open(MS * 98);
    assert!(!world.is_answered(first) && !world.is_answered(patient));
    world.run_open(MS);
    assert_overloaded(&mut world, first);
    assert_overloaded(&mut world, patient);

    // The last has its turn after 300 ms, and what is left of its time.
    world.run_open(MS * 699);
    assert!(!world.is_answered(last));
    world.run_open(MS);
    let is_failed = |reply| matches!(reply, ClientReply::Written(Err(_)));
    assert!(world.is_answered(last) && is_failed(world.answer_to(last)));
    assert!(let_in.into_iter().all(|request| is_failed(world.answer_to(request))));
    world.run(MS * 5_000);
}

#[test]
fn p8_who_is_late_is_not_begun_though_there_is_room() {
    let mut world = pressed(without_anti_entropy());
    world.set_link_delay(MS * 50);
    let let_in = begin(&mut world, LEAST);
    let brief = world.begin_put(id(1), "brief", 4, MS * 132); // its turn would come when it must go
    world.run_open(MS * 100);
    assert_overloaded(&mut world, brief);
    for request in let_in {
        written(world.answer_to(request));
    }
    world.run(MS * 3_000);
    assert!((1..=3).all(|node| world.held(id(node), &key("brief")).is_none()));
}

#[test]
fn p8_requests_that_wait_and_run_out_of_time_let_in_fewer() {
    let mut world = pressed(without_anti_entropy());
    while world.node(id(1)).admitted() < 3 * LEAST {
        written(world.put(id(1), "cat", "meow", quorum(false)));
        world.run(MS * 101);
    }
    world.set_link_delay(MS * 50);
    let admitted = world.node(id(1)).admitted();
    let quick = begin(&mut world, admitted);
    let slow = begin(&mut world, LEAST);
    world.run_open(MS * 99);
    world.set_link_delay(MS * 380);
    world.run_open(MS * 600);
    let more = begin(&mut world, admitted + LEAST); // so that there is a line
    assert!(world.node(id(1)).queued_requests() > 0);
    let before = world.node(id(1)).admitted();
    world.set_link_delay(MS);
    let failed = slow
        .into_iter()
        .filter(|request| matches!(world.answer_to(*request), ClientReply::Written(Err(_))));
    assert!(failed.count() > LEAST / 2);
    quick.into_iter().for_each(|request| drop(written(world.answer_to(request))));
    world.run_open(MS * 101);
    let one_more = world.begin_put(id(1), "one-more", 4, TIMEOUT);
    assert!(world.node(id(1)).admitted() < before);
    more.into_iter().chain([one_more]).for_each(|request| drop(world.answer_to(request)));
    world.run(MS * 3_000);
}

#[test]
fn p8_a_line_that_is_too_long_for_its_pace_takes_nobody_more() {
    let mut world = pressed(without_anti_entropy());
    world.set_link_delay(MS * 50);
    // A window of a tenth of a second sees the end of some 64.
    for request in begin(&mut world, LEAST * 4) {
        written(world.answer_to(request));
    }
    let requests = begin(&mut world, LEAST * 8);
    let refused = requests.iter().filter(|request| world.is_answered(**request)).count();
    assert!((LEAST * 2..LEAST * 4).contains(&refused), "{refused}");
    for request in requests {
        match world.answer_to(request) {
            ClientReply::Refused(Refusal::Overloaded) => {}
            reply => drop(written(reply)),
        }
    }
    world.run(MS * 3_000);
}

#[test]
fn p8_those_who_wait_count_among_those_that_there_may_be_and_so_do_their_bytes() {
    let mut world = pressed(NodeOptions { max_in_flight: 70, ..without_anti_entropy() });
    world.set_link_delay(MS * 50);
    let mut requests = begin(&mut world, LEAST);
    requests.push(world.begin_put(id(1), "large", 31 << 20, TIMEOUT));
    let larger = world.begin_put(id(1), "larger", 2 << 20, TIMEOUT);
    assert_overloaded(&mut world, larger);
    requests.extend(begin(&mut world, 5));
    let one_more = world.begin_put(id(1), "one-more", 4, TIMEOUT);
    assert_overloaded(&mut world, one_more);
    for request in requests {
        written(world.answer_to(request));
    }
    world.run(MS * 3_000);
}
