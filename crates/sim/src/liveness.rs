//! Whether a part of the cluster that holds a quorum goes on by itself.

use std::time::Duration;

use quorate_node::{ClientReply, ClientRequest, Failure, Operation, Refusal};
use quorate_quorum::Quorum;
use quorate_record::Key;

use crate::{
    Answer, Loss, Random, Report, Scenario, World, describe::describe_request, name, run::Run,
};

/// How long a core may take to notice what its world has become: a link that is dead, or a pause, once that is over.
const TO_SETTLE: Duration = Duration::from_secs(15);

/// Requests that are made of the core.
const REQUESTS: usize = 60;

/// Runs the troubles of a scenario, heals a random core that holds a quorum of some keys, makes all other faults
/// permanent, and demands that every request to the core succeeds within twice its timeout. If one of the core has lost
/// data, or the nodes of a new cluster have not all met, all nodes are well until the core counts.
#[must_use]
pub fn run_liveness(scenario: &Scenario, with_log: bool) -> Report {
    let mut run = Run::new(scenario, with_log);
    run.trouble();
    run.disarm();
    let mut random = Random::stream(scenario.seed, "core");
    let keys = (0..scenario.keys).map(|it| Key::new(format!("key{it}")).expect("a short key"));
    let keys: Vec<Key> = keys.collect();
    let core = choose(&run.world, &keys, &scenario.quorum, &mut random);
    let members: Vec<String> = core.members.iter().map(|&node| name(node).to_string()).collect();
    run.nemesis.heal_core(&mut run.world, &core.members);
    let counts = |world: &World| core.members.iter().all(|&node| world.counts(node));
    if !counts(&run.world) {
        // They wait for nodes outside of the core, with which nobody else can fill them.
        run.world.remark(|| "all are well until those count that stay so".to_owned());
        let all: Vec<usize> = (0..run.world.nodes()).collect();
        run.nemesis.heal_core(&mut run.world, &all);
        run.world.run_for(longest_pause(&run.world, &all) + TO_SETTLE);
        if !counts(&run.world) {
            run.world.breaks("a core is not filled although all nodes are well".to_owned());
        }
    }
    run.world.remark(|| format!("only {} are well from now on", members.join(", ")));
    break_for_good(&mut run.world, &core.members, &mut random);
    run.world.run_for(longest_pause(&run.world, &core.members) + TO_SETTLE);
    run.hear();
    for number in 0..REQUESTS {
        let request = request(number, scenario, &core, &mut random);
        let node = *random.pick(&core.members);
        demand(&mut run.world, node, &request);
    }
    run.report(Vec::new(), Vec::new())
}

/// Nodes that hold a quorum of some keys among them.
struct Core {
    members: Vec<usize>,
    keys: Vec<Key>,
}

fn choose(world: &World, keys: &[Key], quorum: &Quorum, random: &mut Random) -> Core {
    let mut nodes: Vec<usize> = (0..world.nodes()).collect();
    random.shuffle(&mut nodes);
    let needed = quorum.r().max(quorum.w());
    for size in needed..=nodes.len() {
        let members = nodes[..size].to_vec();
        let served = |key: &&Key| {
            let owners = world.owners_of(key);
            owners.iter().filter(|owner| members.contains(owner)).count() >= needed
        };
        let keys: Vec<Key> = keys.iter().filter(served).cloned().collect();
        if !keys.is_empty() {
            return Core { members, keys };
        }
    }
    unreachable!("all nodes together hold every quorum")
}

fn longest_pause(world: &World, nodes: &[usize]) -> Duration {
    nodes.iter().map(|&node| world.paused_for(node)).max().unwrap_or_default()
}

fn break_for_good(world: &mut World, core: &[usize], random: &mut Random) {
    let outsiders: Vec<usize> = (0..world.nodes()).filter(|node| !core.contains(node)).collect();
    for node in outsiders {
        match random.below(6) {
            0 => world.end(node, Loss::Process),
            1 => world.pause(node, Duration::from_secs(1_000_000)),
            2 => (0..world.nodes()).filter(|&other| other != node).for_each(|other| {
                world.cut(node, other);
                world.cut(other, node);
            }),
            3 => core.iter().for_each(|&member| world.cut(node, member)),
            4 => core.iter().for_each(|&member| world.cut(member, node)),
            _ => world.slow_down(node, 100),
        }
    }
}

fn request(number: usize, scenario: &Scenario, core: &Core, random: &mut Random) -> ClientRequest {
    let operation = match random.below(4) {
        0 | 1 => Operation::Get,
        2 => Operation::Put(format!("to the core, {number}").into()),
        _ => Operation::Delete,
    };
    let (n, r, w) = (scenario.quorum.n(), scenario.quorum.r(), scenario.quorum.w());
    let sloppy = random.chance(scenario.sloppy);
    let quorum = Quorum::new(n, r, w, sloppy).expect("as the scenario's");
    let (atomic, timeout) = (scenario.atomic, scenario.timeout);
    let key = random.pick(&core.keys).clone();
    ClientRequest { key, operation, quorum, atomic, wait_for_owners: false, timeout }
}

/// Asks until it is granted, for twice the timeout.
fn demand(world: &mut World, node: usize, body: &ClientRequest) {
    let end = world.now() + 2 * body.timeout;
    let mut last = "no answer".to_owned();
    while world.now() < end {
        let request = world.ask(node, body.clone());
        let answer = loop {
            let answered = world.take_answered();
            if let Some(answered) = answered.into_iter().find(|it| it.request == request) {
                break Some(answered.answer);
            }
            if world.now() >= end {
                break None;
            }
            world.step();
        };
        match answer {
            Some(Answer::Reply(ClientReply::Written(Ok(_)) | ClientReply::Read(Ok(_)))) => return,
            // The device of a replica has lost the record, and whoever could bring it again may be away for good.
            Some(Answer::Reply(ClientReply::Read(Err(Failure {
                reason: Some(Refusal::Damaged),
                ..
            })))) => return,
            Some(other) => last = format!("{other:?}"),
            None => {}
        }
    }
    world.breaks(failed(node, body, &last));
}

fn failed(node: usize, body: &ClientRequest, last: &str) -> String {
    let (what, node) = (describe_request(body), name(node));
    format!("a core with a quorum fails {what} at {node} for {:?}: {last}", 2 * body.timeout)
}
