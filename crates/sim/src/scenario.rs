//! What one seed stands for: a cluster, a load, and the faults that come over it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use quorate_membership::MembershipOptions;
use quorate_node::NodeOptions;
use quorate_planted::Site;
use quorate_quorum::{Quorum, Repair};
use quorate_storage::SyncPolicy;

use crate::{Family, Fault, FileOptions, NetworkOptions, Profile, Random, WorldOptions};

/// One run, fully described: the same scenario does the same on every machine.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What everything random in the run hangs on.
    pub seed: u64,
    /// How many nodes there are.
    pub nodes: usize,
    /// How many of them own each key.
    pub owners: usize,
    /// What most reads and writes ask for. If these meet each other, the run is judged as a register.
    pub quorum: Quorum,
    /// The share of requests that may count fallbacks.
    pub sloppy: f64,
    /// The share of requests that ask for some other quorum.
    pub odd_quorums: f64,
    /// Whether all requests are atomic.
    pub atomic: bool,
    /// How many clients there are, each with one request at a time.
    pub clients: usize,
    /// How many requests all clients together make.
    pub operations: u64,
    /// How many keys they use.
    pub keys: u64,
    /// The share of requests that go to one hot key.
    pub hot: f64,
    /// The shares of reads and of deletes.
    pub reads: f64,
    /// See `reads`.
    pub deletes: f64,
    /// The share of values of 100 KiB.
    pub huge: f64,
    /// The mean time that a client waits between two requests.
    pub think: Duration,
    /// How long requests may take.
    pub timeout: Duration,
    /// How nodes behave.
    pub node: NodeOptions,
    /// How files behave.
    pub files: FileOptions,
    /// Whether all tombstones are to be forgotten in the end.
    pub forgets: bool,
    /// The number of each fault that happens; see [`Fault`].
    pub faults: BTreeMap<Fault, f64>,
    /// The files of how many nodes may rot. Writes that fewer or as many nodes acknowledged may then be lost.
    pub rotten: usize,
    /// Where rare behaviour is made to happen now and then.
    pub sites: BTreeSet<Site>,
}

impl Scenario {
    /// What `seed` stands for under `profile`.
    #[must_use]
    pub fn draw(seed: u64, profile: &Profile) -> Self {
        let mut random = Random::stream(seed, "scenario");
        let nodes = *random.pick(profile.nodes);
        let owners = (*random.pick(&[1, 2, 3, 3, 3, 3, 4, 5])).min(nodes);
        let quorum = draw_quorum(&mut random, owners);
        let sloppy = match random.chance(profile.sloppy) {
            true => *random.pick(&[0.3, 1.0]),
            false => 0.0,
        };
        let atomic = random.chance(profile.atomic);
        let (quorum, sloppy) = match atomic {
            true => (majorities(owners), 0.0),
            false => (quorum, sloppy),
        };
        let ms =
            |random: &mut Random, least, most| Duration::from_millis(random.within(least..=most));
        let node = NodeOptions {
            read_repair: *random.pick(&[Repair::Async, Repair::Blocking]),
            hint_ttl: Duration::from_secs(*random.pick(&[0, 2, 10_800, 10_800])),
            hint_max_bytes: *random.pick(&[1 << 12, 1 << 20, 1 << 30]),
            anti_entropy_interval: Some(ms(&mut random, 200, 1_500)),
            anti_entropy_max_per_tick: *random.pick(&[1, 20, 200, 200]),
            membership: MembershipOptions::default(),
            ..NodeOptions::default()
        };
        let now_and_then = SyncPolicy::Interval(Duration::from_millis(50));
        let always = SyncPolicy::Always;
        let files = FileOptions {
            sync: *random.pick(&[always, always, always, always, now_and_then, SyncPolicy::Os]),
            segment_bytes: *random.pick(&[192 << 10, 256 << 10, 512 << 10]),
            snapshot_after_bytes: *random.pick(&[4 << 10, 32 << 10, 256 << 10]),
            max_payload_bytes: 160 << 10,
        };
        let mut scenario = Self {
            seed,
            nodes,
            owners,
            quorum,
            sloppy,
            odd_quorums: if atomic { 0.0 } else { *random.pick(&[0.0, 0.0, 0.1]) },
            atomic,
            clients: random.index(9) + 3,
            operations: random.within(profile.operations.clone()),
            keys: random.within(profile.keys.clone()),
            hot: *random.pick(&[0.0, 0.3, 0.9]),
            reads: *random.pick(&[0.3, 0.5, 0.7]),
            deletes: *random.pick(&[0.0, 0.05, 0.2]),
            huge: *random.pick(&[0.0, 0.0, 0.005]),
            think: ms(&mut random, 1, 60),
            timeout: profile.timeout,
            node,
            files,
            forgets: profile.forgets,
            faults: BTreeMap::new(),
            rotten: 0,
            sites: BTreeSet::new(),
        };
        // From a stream of its own, so that it leaves the rest of the draw as it is.
        if scenario.huge == 0.0 && Random::stream(seed, "segments").chance(0.5) {
            // Whole lives of segments in one run: filled, left behind, cut off and used again.
            scenario.files.segment_bytes = 16 << 10;
            scenario.files.max_payload_bytes = 8 << 10;
        }
        scenario.node.write_quorum = scenario.quorum.w();
        // Mostly none, which is hard: every version that is late by a moment meets a floor.
        let grace_ms = *Random::stream(seed, "grace").pick(&[0, 0, 0, 200, 2_600]);
        scenario.node.write_grace = Duration::from_millis(grace_ms);
        if profile.forgets {
            scenario.deletes = *Random::stream(seed, "deletes").pick(&[0.1, 0.3, 0.5]);
        }
        if profile.hints_alone {
            scenario.node.anti_entropy_interval = None;
            scenario.node.hint_ttl = Duration::from_secs(10_800);
            scenario.node.hint_max_bytes = 1 << 30;
        }
        let mut families: BTreeMap<Family, bool> = BTreeMap::new();
        for (&fault, &(least, most)) in &profile.faults {
            let on = *families.entry(fault.family()).or_insert_with_key(|family| match family {
                Family::Rot => random.chance(profile.rot),
                _ => random.chance(profile.swarm),
            });
            // Within a family some more are left out: a fault that is always there hides what others do.
            let chosen = random.chance(match fault {
                _ if least > 0.0 => 1.0,
                Fault::Replay => 0.2, // for it clients rest a minute, which costs as much as they do
                _ => 0.7,
            });
            let number = least + (most - least) * random.fraction();
            if on && chosen && number > 0.0 {
                scenario.faults.insert(fault, number);
            }
        }
        if scenario.loses_disks() {
            // An acknowledgement must outlive one of those that gave it.
            scenario.owners = scenario.owners.max(2);
            scenario.quorum = majorities(scenario.owners);
            scenario.node.write_quorum = scenario.quorum.w();
            scenario.odd_quorums = 0.0;
            scenario.files.sync = SyncPolicy::Always;
        }
        if scenario.rots() {
            let mut random = Random::stream(seed, "rot");
            // Never all copies that an ack stood for, unless that is wanted.
            let most = scenario.quorum.w() - 1;
            scenario.rotten = match random.chance(profile.beyond) {
                true => most + 1 + random.index(nodes - most),
                false => 1 + random.index(most.max(1)),
            };
        }
        let mut random = Random::stream(seed, "sites");
        let armed = |_: &Site| random.chance(profile.sites);
        let sites = Site::ALL.iter().copied().filter(armed);
        scenario.sites = sites.filter(|site| !profile.without_sites.contains(site)).collect();
        scenario
    }

    /// Whether files rot: then what a node has answered for it may have lost.
    #[must_use]
    pub fn rots(&self) -> bool {
        self.faults.keys().any(|fault| fault.family() == Family::Rot)
    }

    /// Whether nodes lose all that they have.
    #[must_use]
    pub fn loses_disks(&self) -> bool {
        self.faults.keys().any(|fault| fault.family() == Family::Loss)
    }

    /// The number of a fault; 0 if it does not happen.
    #[must_use]
    pub fn of(&self, fault: Fault) -> f64 {
        self.faults.get(&fault).copied().unwrap_or(0.0)
    }

    /// The world that it takes place in.
    #[must_use]
    pub fn world(&self) -> WorldOptions {
        let delay_ms = self.of(Fault::Delay);
        WorldOptions {
            seed: self.seed,
            nodes: self.nodes,
            owners: self.owners,
            node: self.node.clone(),
            files: self.files,
            network: NetworkOptions {
                delay: Duration::from_secs_f64(if delay_ms > 0.0 { delay_ms } else { 1.0 } / 1e3),
                loss: self.of(Fault::Loss),
                duplication: self.of(Fault::Duplication),
                replay: self.of(Fault::Replay),
                corruption: self.of(Fault::Corruption),
                reordering: self.of(Fault::Reordering),
                spike: self.of(Fault::Spike),
                reset: self.of(Fault::Reset),
                ..NetworkOptions::default()
            },
            slow_turn: self.of(Fault::SlowDisk),
            ..WorldOptions::default()
        }
    }
}

fn majorities(n: usize) -> Quorum {
    let majority = Quorum::majority(n);
    Quorum::new(n, majority, majority, false).expect("between 1 and n")
}

/// Mostly one whose reads and writes meet.
fn draw_quorum(random: &mut Random, n: usize) -> Quorum {
    let majority = Quorum::majority(n);
    let (r, w) = match random.below(10) {
        0..=4 => (n + 1 - majority, majority),
        5 | 6 => {
            let w = majority + random.index(n - majority + 1);
            (n + 1 - w, w)
        }
        7 => return majorities(n),
        _ => (random.index(n) + 1, random.index(n) + 1),
    };
    Quorum::new(n, r, w, false).expect("between 1 and n")
}

/// A number without its fraction, for numbers of faults, which are small.
#[expect(clippy::cast_possible_truncation, reason = "that is what it is for")]
pub(crate) fn truncated(number: f64) -> i64 {
    number as i64
}
