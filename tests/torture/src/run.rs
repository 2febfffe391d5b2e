//! One run: clients and faults, then peace, then judgement.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use quorate_record::NodeId;
use quorate_simulator::{
    Random,
    check::{Call, Request},
};
use quorate_tests::{Cluster, now};

use crate::{
    Kind, Report,
    clients::{Asked, Crowd},
    held::{self, Dumps, OWNERS, Places, Scope, VNODES},
    judge::{self, Ended},
    nemesis::Nemesis,
    network::Network,
    weather::Weather,
};

const NODES: usize = 5;
const CLIENTS: usize = 20;

/// How often the nemesis looks whether something is due.
const TICK: Duration = Duration::from_millis(50);

/// How often it is seen whether replicas are equal.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long replicas are waited for in the end. Longer than they may take, to tell late from never.
const EQUAL_WITHIN: Duration = Duration::from_secs(120);

/// What is to happen.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which faults there are.
    pub kind: Kind,
    /// For how long.
    pub time: Duration,
    /// What is drawn: the same faults in the same order, though not at the same moments.
    pub seed: u64,
    /// How many keys there are besides those that clients ask for.
    pub keys: u64,
    /// Whether each node has a network of its own, instead of proxies to its peers.
    pub namespaces: bool,
    /// Once this is true, faults end early.
    pub stop: Arc<AtomicBool>,
}

impl Default for Options {
    /// Three minutes of everything.
    fn default() -> Self {
        let time = Duration::from_secs(180);
        Self { kind: Kind::All, time, seed: 1, keys: 0, namespaces: false, stop: Arc::default() }
    }
}

/// Starts a cluster, brings faults over it while clients use it, and judges what they were told.
///
/// # Panics
/// If the cluster does not start, or the system does not let faults happen.
#[must_use]
pub fn run(options: &Options) -> Report {
    let builder = Cluster::of(NODES).field("n", OWNERS).field("vnodes", VNODES);
    let (mut cluster, network) = Network::lay_out(&builder, NODES, options.namespaces);
    let addrs: Vec<_> = cluster.nodes().iter().map(quorate_tests::Node::addr).collect();
    cluster.start_all();
    held::fill(&cluster, options.keys);

    let ids = cluster.nodes().iter().map(|node| NodeId::new(node.id()).expect("nodes have ids"));
    let ids: Vec<NodeId> = ids.collect();
    let places = Places::new(ids.iter().copied());
    let crowd = Crowd::new(ids.into_iter().zip(addrs).collect());
    let mut weather = Weather::new(NODES);
    let random = Random::stream(options.seed, "nemesis");
    let scope = if options.keys == 0 { Scope::All } else { Scope::Asked(&crowd) };
    let plan = options.kind.plan();
    let mut nemesis = Nemesis::new(&mut cluster, &network, &places, scope, plan, random);
    let (mut asked, end_us, healed) = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let random = Random::stream(options.seed, &format!("client {client}"));
                let crowd = &crowd;
                scope.spawn(move || crowd.ask_on(random))
            })
            .collect();
        // A nemesis that fails must not leave clients behind that nobody stops.
        let stop = StopOnDrop(&crowd.stop);
        let end = crowd.start + options.time;
        while now() < end && !options.stop.load(Ordering::Relaxed) {
            nemesis.act();
            let sky = nemesis.sky();
            weather.note(crowd.now_us(), &sky);
            crowd.set_sky(&sky);
            thread::sleep(TICK);
        }
        nemesis.heal();
        let (end_us, healed) = (crowd.now_us(), now());
        drop(stop);
        let asked: Vec<Vec<Asked>> =
            clients.into_iter().map(|client| client.join().expect("clients do not fail")).collect();
        (asked.concat(), end_us, healed)
    });
    let story = nemesis.into_story(crowd.start);

    let wait = |what: &dyn Fn() -> bool| {
        while now() - healed < EQUAL_WITHIN {
            if what() {
                return Some(now() - healed);
            }
            thread::sleep(LOOK_EVERY);
        }
        None
    };
    let equal_after = wait(&|| {
        Dumps::take(&cluster, scope).is_ok_and(|dumps| {
            cluster.nodes().iter().all(held::counts)
                && dumps.differing(&places).is_empty()
                && held::others(&cluster, &dumps) == Ok(OWNERS as u64 * options.keys)
        })
    });
    let hintless_after =
        wait(&|| cluster.nodes().iter().all(|node| node.try_hints().is_ok_and(|count| count == 0)));
    let settled_us = crowd.now_us();
    asked.extend(read_all(&crowd, &asked, options.seed));
    let ended = Ended { end_us, settled_us, equal_after, hintless_after, story };
    let dumps = Dumps::take(&cluster, scope);
    judge::judge(options, &cluster, &places, dumps, &weather, asked, ended)
}

/// Reads every key, as clients may when all is over: from a quorum, and from a single node.
fn read_all(crowd: &Crowd, asked: &[Asked], seed: u64) -> Vec<Asked> {
    let keys: std::collections::BTreeSet<_> =
        asked.iter().map(|asked| asked.request.key.clone()).collect();
    let mut random = Random::stream(seed, "reads in the end");
    let mut reads = Vec::new();
    for key in keys {
        for needed in [2, 1] {
            let node = random.index(NODES);
            let (key, coordinator) = (key.clone(), crowd.nodes[node].0);
            let request = Request { key, coordinator, call: Call::Get, needed, sloppy: false };
            reads.push(crowd.ask(node, request));
        }
    }
    reads
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
