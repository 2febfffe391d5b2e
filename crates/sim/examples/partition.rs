//! Three nodes, one of them cut off while a client writes, and what it has when it is back.

use std::time::Duration;

use quorate_node::{ClientRequest, Operation};
use quorate_quorum::Quorum;
use quorate_record::Key;
use quorate_simulator::{World, WorldOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut world = World::new(WorldOptions { seed: 42, nodes: 3, ..WorldOptions::default() });
    world.run_for(Duration::from_secs(1));

    for other in [0, 1] {
        world.cut(2, other);
        world.cut(other, 2);
    }
    let key = Key::new("cat")?;
    let body = ClientRequest {
        key: key.clone(),
        operation: Operation::Put("meow".into()),
        quorum: Quorum::new(3, 2, 2, true)?,
        atomic: false,
        wait_for_owners: false,
        timeout: Duration::from_millis(800),
    };
    let request = world.ask(0, body);
    world.run_for(Duration::from_secs(2));
    println!("#{request}: {:?}", world.take_answered());
    assert!(world.record(2, &key).is_none(), "n3 cannot have heard of it");

    world.join_all();
    world.run_for(Duration::from_secs(10));
    println!("n3 has {:?}", world.record(2, &key));
    assert_eq!(world.record(2, &key), world.record(0, &key));
    assert!(world.broken().is_empty(), "{:?}", world.broken());
    Ok(())
}
