use std::time::Duration;

use quorate_node::{ClientReply, ClientRequest, Operation};
use quorate_quorum::Quorum;
use quorate_record::Key;
use quorate_simulator::{Answer, Loss, World, WorldOptions};
use quorate_storage::fault::Crash;

fn cat() -> Key {
    Key::new("cat").expect("a short key")
}

fn write(w: usize) -> ClientRequest {
    ClientRequest {
        key: cat(),
        operation: Operation::Put("meow".into()),
        quorum: Quorum::new(3, 1, w, false).expect("up to 3"),
        atomic: false,
        wait_for_owners: false,
        timeout: Duration::from_millis(800),
    }
}

fn world() -> World {
    let mut world = World::new(WorldOptions::default());
    world.run_for(Duration::from_secs(1));
    world
}

fn ask(world: &mut World, node: usize, body: ClientRequest) -> Answer {
    world.ask(node, body);
    world.run_until_answered();
    let mut answered = world.take_answered();
    assert_eq!(answered.len(), 1);
    answered.swap_remove(0).answer
}

fn succeeds(answer: &Answer) -> bool {
    matches!(answer, Answer::Reply(ClientReply::Written(Ok(_))))
}

#[test]
fn what_was_acknowledged_survives_the_loss_of_power_everywhere() {
    for crash in [Crash::Nothing, Crash::Everything, Crash::Prefix(1), Crash::Random(7)] {
        let mut world = world();
        assert!(succeeds(&ask(&mut world, 0, write(3))));
        (0..3).for_each(|node| world.end(node, Loss::Power(crash)));
        (0..3).for_each(|node| world.start(node).unwrap());
        assert!((0..3).all(|node| world.record(node, &cat()).is_some()), "{crash:?}");
        assert_eq!(world.broken(), [""; 0]);
    }
}

#[test]
fn a_node_that_is_down_takes_no_requests_and_one_that_dies_gives_no_answer() {
    let mut world = world();
    world.end(0, Loss::Process);
    assert_eq!(ask(&mut world, 0, write(1)), Answer::Unreachable);
    world.end_after_actions(1, 1, Loss::Process);
    assert_eq!(ask(&mut world, 1, write(3)), Answer::Lost);
    assert!(!world.is_running(1));
}

#[test]
fn power_may_fail_at_every_operation_of_a_start() {
    let mut world = world();
    assert!(succeeds(&ask(&mut world, 0, write(3))));
    world.end(0, Loss::Process);
    let mut failures = 0;
    while world.start_with_power_failing(0, failures, Crash::Random(failures)).unwrap() {
        failures += 1;
    }
    assert!(failures > 10, "a start takes more than {failures} operations");
    assert!(world.record(0, &cat()).is_some());
}

#[test]
fn a_paused_node_goes_on_where_it_was() {
    let mut world = world();
    world.pause(0, Duration::from_secs(3));
    world.ask(0, write(1));
    world.run_for(Duration::from_secs(2));
    assert!(world.take_answered().is_empty());
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.take_answered().len(), 1);
}

#[test]
fn one_way_is_enough_to_fail_a_write() {
    let mut world = world();
    world.cut(0, 1);
    world.cut(2, 0);
    assert!(!succeeds(&ask(&mut world, 0, write(3))));
    world.join_all();
    world.run_for(Duration::from_secs(10));
    assert!(succeeds(&ask(&mut world, 0, write(3))));
}

#[test]
fn a_full_disk_refuses_and_takes_writes_again_when_there_is_room() {
    let mut world = world();
    for node in 0..3 {
        let used = world.files(node).used_bytes();
        world.files(node).set_capacity(Some(used));
    }
    let huge = Operation::Put(vec![7; 100 << 10].into());
    let body = ClientRequest { operation: huge, ..write(3) };
    assert!(!succeeds(&ask(&mut world, 0, body.clone())));
    (0..3).for_each(|node| world.files(node).set_capacity(None));
    world.run_for(Duration::from_secs(1));
    assert!(succeeds(&ask(&mut world, 0, body)));
}
