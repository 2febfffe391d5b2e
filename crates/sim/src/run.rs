//! One seed from its first event to its verdict.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use quorate_planted::Armed;
use quorate_quorum::Repair;
use quorate_record::{Key, NodeId, Record, Version};

use crate::{
    Coverage, Fault, Random, Scenario, Told, World,
    check::{self, Last, Violation},
    describe::{describe_key, describe_record},
    name,
    nemesis::Nemesis,
    network::micros,
    workload::Workload,
};

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// What was run.
    pub scenario: Scenario,
    /// The hash of all that happened: the same seed gives the same.
    pub hash: u64,
    /// How many events that were.
    pub events: u64,
    /// How much virtual time passed.
    pub took: Duration,
    /// How clients fared.
    pub told: Told,
    /// What was reached.
    pub coverage: Coverage,
    /// Which promises were broken; empty if none was.
    pub violations: Vec<String>,
    /// The history of each key that a broken promise is about, and who held what in the end.
    pub tables: Vec<String>,
    /// The log, if it was asked for.
    pub log: Vec<String>,
}

impl Report {
    /// Whether every promise was kept.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.violations.is_empty()
    }
}

/// Clients stop after so much virtual time, done or not.
const LONGEST: Duration = Duration::from_secs(180);

/// How long after all faults tombstones may be left: clocks and those who wrote ahead of theirs differ by seconds.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(120);

/// A hint whose target refused it is tried again after half a minute at the latest.
const HINTS_WITHIN: Duration = Duration::from_secs(40);

/// Runs a scenario to its end: clients and faults, then peace, then judgement.
#[must_use]
pub fn run(scenario: &Scenario, with_log: bool) -> Report {
    let mut run = Run::new(scenario, with_log);
    run.trouble();
    run.peace();
    run.judge()
}

/// What each node can read.
type Dumps = BTreeMap<NodeId, BTreeMap<Key, Record>>;

/// A run under way.
pub(crate) struct Run {
    scenario: Scenario,
    pub(crate) world: World,
    pub(crate) nemesis: Nemesis,
    workload: Workload,
    /// When all replicas were found equal.
    settled_us: Option<u64>,
    /// Rare behaviour, as long as there are faults.
    armed: Option<Armed>,
}

impl Run {
    pub(crate) fn new(scenario: &Scenario, with_log: bool) -> Self {
        let seed = Random::stream(scenario.seed, "visits").number();
        let armed = Some(quorate_planted::arm(scenario.sites.iter().copied(), seed));
        let mut world = World::new(scenario.world());
        if with_log {
            world.keep_log();
        }
        let nemesis = Nemesis::new(scenario, &mut world);
        let workload = Workload::new(scenario);
        Self { scenario: scenario.clone(), world, nemesis, workload, settled_us: None, armed }
    }

    /// Clients ask while faults come and go.
    pub(crate) fn trouble(&mut self) {
        while !self.workload.is_over() && self.world.now() < LONGEST {
            let next = [self.world.next_us(), self.nemesis.next_us(), self.workload.next_us()];
            let Some(next_us) = next.into_iter().flatten().min() else { break };
            if self.nemesis.next_us() == Some(next_us) {
                self.world.run_until_us(next_us);
                self.nemesis.act(&mut self.world);
            } else if self.workload.next_us() == Some(next_us) {
                self.world.run_until_us(next_us);
                self.workload.ask(&mut self.world);
            } else {
                self.world.step();
            }
            self.hear();
        }
    }

    /// Nothing rare is made to happen any more.
    pub(crate) fn disarm(&mut self) {
        for (site, times) in self.armed.take().map(|armed| armed.fired()).unwrap_or_default() {
            self.world.coverage().add(site.name(), times);
        }
    }

    pub(crate) fn hear(&mut self) {
        for answered in self.world.take_answered() {
            self.workload.tell(answered);
        }
    }

    /// All faults end, and everything must come to rest.
    fn peace(&mut self) {
        if self.scenario.node.anti_entropy_interval.is_none() {
            // Writes end and leave their hints, which nothing else makes up for.
            self.world.run_for(self.workload.patience());
        }
        self.world.remark(|| "all faults end".to_owned());
        self.disarm();
        self.nemesis.heal(&mut self.world);
        if self.scenario.rots() {
            self.nemesis.rot_late(&mut self.world);
        }
        (0..self.world.nodes()).for_each(|node| self.world.scrub(node));
        (0..self.world.nodes()).for_each(|node| self.world.check_sketches(node));
        self.hear();
        let round = self.round();
        let healed = self.world.now();
        // Two rounds would do if each exchange could move everything.
        let keys = usize::try_from(self.scenario.keys).unwrap_or(usize::MAX);
        let parts = keys.div_ceil(self.scenario.node.anti_entropy_max_per_tick);
        let rounds = u32::try_from(2 * parts + 4).unwrap_or(u32::MAX);
        let limit = HINTS_WITHIN + rounds * round;
        // Nodes find each other first.
        self.world.run_for(self.workload.patience());
        while !self.is_settled() {
            if !self.world.broken().is_empty() {
                break; // who knows whether it ever settles
            }
            if self.world.now() - healed > limit {
                let unsettled = self.unsettled();
                let what = format!("not settled {limit:?} after all faults ended: {unsettled}");
                self.world.breaks(format!("[settled] {what}"));
                break;
            }
            self.world.run_for(Duration::from_millis(500));
        }
        if self.scenario.forgets && self.world.broken().is_empty() {
            self.forget();
        }
        self.hear();
        self.settled_us = Some(micros(self.world.now()));
        self.world.count_healed();
        // Exchanges that were under way may yet count what they moved.
        self.world.run_for(round);
        let moved = self.moved();
        self.world.run_for(round);
        // Where a replica has lost a record for good, each comparison tries in vain to give it a lesser one, both ways.
        let in_vain = self.lost_for_good(&self.dumps()).len() * self.world.nodes() * 8;
        if self.moved() - moved > in_vain as u64 {
            self.world.breaks(
                "[settled] anti-entropy goes on moving records between equal replicas".to_owned(),
            );
        }
    }

    /// Now that all is well, every tombstone is to be forgotten by everybody.
    fn forget(&mut self) {
        let until = self.world.now() + FORGOTTEN_WITHIN;
        while self.world.now() < until && self.world.broken().is_empty() {
            let nodes = 0..self.world.nodes();
            let left: u64 = nodes.map(|node| self.world.tombstones(node)).sum();
            if left == 0 {
                return self.world.coverage().count("state: all tombstones forgotten");
            }
            self.world.run_for(Duration::from_millis(500));
        }
        if self.world.broken().is_empty() {
            let left: Vec<u64> =
                (0..self.world.nodes()).map(|node| self.world.tombstones(node)).collect();
            self.world.breaks(format!("[forgotten] tombstones are left on the nodes: {left:?}"));
        }
    }

    /// How long every node takes to compare itself with every other.
    fn round(&self) -> Duration {
        let interval = self.scenario.node.anti_entropy_interval.unwrap_or_default();
        let peers = u32::try_from(self.scenario.nodes).unwrap_or(u32::MAX);
        (interval + Duration::from_millis(20)) * peers
    }

    /// How many records anti-entropy has moved.
    fn moved(&self) -> u64 {
        let nodes =
            (0..self.world.nodes()).filter_map(|node| self.world.node(node)?.anti_entropy());
        nodes.map(|stats| stats.total_pulled + stats.total_pushed).sum()
    }

    fn is_settled(&self) -> bool {
        self.world.all_count() && self.hints_left() == 0 && self.diverged(&self.dumps()).is_empty()
    }

    fn hints_left(&self) -> u64 {
        let nodes = (0..self.world.nodes()).filter_map(|node| self.world.node(node));
        nodes.map(|node| node.hints().stats(0).count).sum()
    }

    fn unsettled(&self) -> String {
        let differing = self.diverged(&self.dumps());
        let differing: Vec<String> = differing.iter().map(ToString::to_string).collect();
        let held = |holder: usize| self.world.hints(holder).into_iter();
        let hints: Vec<String> = (0..self.world.nodes())
            .flat_map(|holder| held(holder).map(move |hint| (holder, hint)))
            .map(|(holder, hint)| {
                let (key, record) = (describe_key(&hint.key), describe_record(&hint.record));
                format!("{} holds a hint for {}: {key} {record}", name(holder), hint.target)
            })
            .collect();
        [hints, differing].concat().join("; ")
    }

    /// Owners that do not hold the same, those left out that cannot.
    fn diverged(&self, dumps: &Dumps) -> Vec<Violation> {
        let lost = self.lost_for_good(dumps);
        let able = |key: &Key| {
            let mut owners = self.owners(key);
            owners.retain(|&owner| !lost.contains(&(owner, key)));
            owners
        };
        check::converged(dumps, able)
    }

    /// Owners whose record of a key is damaged and greater than any that is left. They go on answering by its version,
    /// which an acknowledgement may rest on, so they take no lesser one.
    fn lost_for_good<'a>(&self, dumps: &'a Dumps) -> BTreeSet<(NodeId, &'a Key)> {
        let mut greatest: BTreeMap<&Key, Version> = BTreeMap::new();
        for (key, record) in dumps.values().flatten() {
            let known = greatest.entry(key).or_insert(record.version);
            *known = record.version.max(*known);
        }
        let nodes = (0..self.world.nodes()).map(|node| (node, name(node)));
        nodes
            .flat_map(|(node, id)| greatest.iter().map(move |(key, left)| (node, id, *key, *left)))
            .filter(|&(node, id, key, left)| {
                self.world.is_damaged(node)
                    && !dumps[&id].contains_key(key)
                    && self.world.version(node, key) > Some(left)
            })
            .map(|(_, id, key, _)| (id, key))
            .collect()
    }

    /// What each node holds, but for tombstones that some of them may have forgotten.
    fn dumps(&self) -> Dumps {
        let horizons = (0..self.world.nodes()).map(|node| self.world.horizon(node));
        let horizon = horizons.max().unwrap_or_default();
        let counts = |(_, record): &(Key, Record)| {
            !record.is_tombstone() || record.version.timestamp >= horizon
        };
        let dump =
            |node| (name(node), self.world.records(node).into_iter().filter(counts).collect());
        (0..self.world.nodes()).map(dump).collect()
    }

    fn owners(&self, key: &Key) -> Vec<NodeId> {
        self.world.ring().owners_of_key(key.as_bytes()).copied().collect()
    }

    fn judge(self) -> Report {
        let dumps = self.dumps();
        let mut last: BTreeMap<Key, Last> = BTreeMap::new();
        for (key, record) in dumps.values().flatten() {
            let value = self.workload.value_of(key, record);
            let held = Last { version: record.version, value };
            let known = last.entry(key.clone()).or_insert(held);
            if known.version < held.version {
                *known = held;
            }
        }
        let history = &self.workload.history;
        // A replica that lost what it had acknowledged is known to break these for a while.
        let rotten = self.scenario.rots();
        let sound = |_| !rotten;
        let atomic = self.scenario.atomic;
        let blocking = self.scenario.node.read_repair == Repair::Blocking;
        let mut violations: Vec<Violation> = Vec::new();
        violations.extend(check::honest(history, |key| self.owners(key)));
        violations.extend(check::regular(history, sound));
        violations.extend(check::order(history, sound));
        violations.extend(check::read_order(history, |_| (blocking || atomic) && !rotten));
        if atomic && !rotten {
            violations.extend(check::atomic(history, false, |_| true));
        }
        violations.extend(check::durable(history, &last, |op| {
            history.op(op).request.needed > self.scenario.rotten
        }));
        violations.extend(check::resurrection(history, &last, self.settled_us, sound));
        if let Some(bound_us) = self.ghosts_within_us() {
            violations.extend(check::ghosts(history, &last, bound_us, sound));
        }
        violations.extend(self.diverged(&dumps));

        let mut tables: BTreeMap<Key, String> = BTreeMap::new();
        for violation in &violations {
            tables
                .entry(violation.key.clone())
                .or_insert_with(|| self.table(&violation.key, &dumps));
        }
        for key in &self.world.broken_keys {
            tables.entry(key.clone()).or_insert_with(|| self.table(key, &dumps));
        }
        let violations = violations
            .iter()
            .map(|violation| format!("[{}] {violation}", violation.fault.checker()))
            .collect();
        self.report(violations, tables.into_values().collect())
    }

    /// Sums up, with what was found in the end besides what was seen on the way.
    pub(crate) fn report(mut self, violations: Vec<String>, tables: Vec<String>) -> Report {
        for fault in [Fault::Delay, Fault::Reordering, Fault::Spike] {
            if self.scenario.of(fault) > 0.0 {
                self.world.coverage().count(fault.name());
            }
        }
        for node in 0..self.world.nodes() {
            self.world.count_what_it_did(node);
        }
        let seen = self.world.broken().iter().cloned();
        let violations = seen.chain(violations).collect();
        Report {
            hash: self.world.trace().hash(),
            events: self.world.trace().events(),
            took: self.world.now(),
            told: self.workload.told,
            coverage: self.world.coverage().clone(),
            violations,
            tables,
            log: self.world.trace().lines().to_vec(),
            scenario: self.scenario,
        }
    }

    fn table(&self, key: &Key, dumps: &Dumps) -> String {
        let mut table = format!("{}\n", describe_key(key));
        table += &self.workload.history.table_of_key(key).to_string();
        for (node, dump) in dumps {
            let Some(record) = dump.get(key) else { continue };
            let value = self.workload.value_of(key, record);
            let value = value.map_or("a tombstone".to_owned(), |value| format!("put {value}"));
            let owner = if self.owners(key).contains(node) { "" } else { ", not an owner" };
            table += &format!("{node} holds {} {value}{owner}\n", record.version);
        }
        table
    }

    /// By how much an unacked write may win over one that began later: its version is given within its timeout, by a
    /// clock that may be off. Where nodes stand still or are restarted, nobody knows when it was given.
    fn ghosts_within_us(&self) -> Option<u64> {
        let stalls = [
            Fault::Pause,
            Fault::Slow,
            Fault::Spike,
            Fault::Kill,
            Fault::PowerLoss,
            Fault::CrashInActions,
            Fault::CrashInTurn,
            Fault::CrashLoop,
            Fault::AllDown,
            Fault::Clog,
            Fault::Swizzle,
            Fault::Ragged,
            // No bound holds where clocks are wrong without one.
            Fault::Leap,
            Fault::FarFuture,
        ];
        if stalls.iter().any(|&fault| self.scenario.of(fault) > 0.0) {
            return None;
        }
        const LEAST_US: u64 = 2_000_000;
        let clocks = [Fault::Offset, Fault::Drift, Fault::Step, Fault::Freeze, Fault::Smear];
        let off = clocks.iter().any(|&fault| self.scenario.of(fault) > 0.0);
        Some(LEAST_US + micros(self.scenario.timeout) + if off { 2 * 10_000_000 } else { 0 })
    }
}
