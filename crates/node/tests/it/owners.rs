use std::time::Duration;

use quorate_node::ClientReply;
use quorate_record::NodeId;

use crate::world::{TIMEOUT, World, id, key, quorum, without_anti_entropy, written};

#[test]
fn an_answer_that_waits_for_all_owners_comes_when_the_last_of_them_holds_the_write() {
    let mut world = World::new(3, without_anti_entropy());
    let request = world.begin_put_to_owners(id(1), "cat", "meow");
    let receipt = written(world.answer_to(request));
    assert_eq!(receipt.lacking, []);
    assert!((1..=3).all(|number| world.held(id(number), &key("cat")).is_some()));
    // Any other write is answered once enough hold it, and says who was not known to.
    world.set_link_delay(Duration::from_millis(1));
    let receipt = written(world.put(id(1), "dog", "woof", quorum(true)));
    assert_eq!((receipt.acks.len(), receipt.lacking.len()), (2, 1));
    world.run(Duration::from_secs(1));
}

#[test]
fn at_the_deadline_the_answer_says_who_lacks_the_write() {
    let mut world = World::new(3, without_anti_entropy());
    world.kill(id(3));
    let request = world.begin_put_to_owners(id(1), "cat", "meow");
    world.run_open(TIMEOUT - Duration::from_millis(1));
    assert!(!world.is_answered(request));
    assert_eq!(world.node(id(1)).open_requests(), 1);
    let receipt = written(world.answer_to(request));
    assert_eq!((receipt.acks, receipt.lacking), (vec![id(1), id(2)], vec![id(3)]));
    world.run(Duration::from_secs(1));
    assert_eq!(world.node(id(1)).open_requests(), 0);
}

#[test]
fn an_owner_that_gets_the_write_as_a_hint_is_no_longer_waited_for() {
    for nodes in [3, 5] {
        let mut world = World::new(nodes, without_anti_entropy());
        let owners: Vec<NodeId> =
            world.ring().preference_of_key(key("cat").as_bytes()).copied().take(3).collect();
        world.kill(owners[2]);
        let request = world.begin_put_to_owners(owners[0], "cat", "meow");
        world.run_open(Duration::from_millis(50));
        assert!(!world.is_answered(request));
        world.start(owners[2]);
        world.run_open(Duration::from_millis(500));
        assert!(world.is_answered(request), "the hint is delivered, and that is noticed");
        assert_eq!(written(world.answer_to(request)).lacking, []);
        assert!(world.held(owners[2], &key("cat")).is_some());
        world.run(Duration::from_secs(1));
    }
}

#[test]
fn an_owner_that_holds_something_newer_lacks_nothing() {
    let mut world = World::new(3, without_anti_entropy());
    world.kill(id(3));
    let request = world.begin_put_to_owners(id(1), "cat", "meow");
    world.run_open(Duration::from_millis(50));
    world.set_clock(id(2), 1_000);
    let newer = written(world.put(id(2), "cat", "purr", quorum(false)));
    world.start(id(3));
    world.run_open(Duration::from_millis(500));
    let receipt = written(world.answer_to(request));
    assert!(receipt.version < newer.version && receipt.lacking.is_empty());
    world.run(Duration::from_secs(1));
}

#[test]
fn a_write_that_fails_is_answered_as_ever() {
    let mut world = World::new(3, without_anti_entropy());
    world.kill(id(2));
    world.kill(id(3));
    let request = world.begin_put_to_owners(id(1), "cat", "meow");
    assert!(matches!(world.answer_to(request), ClientReply::Written(Err(_))));
    world.run(Duration::from_secs(2));
    assert_eq!(world.node(id(1)).open_requests(), 0);
}
