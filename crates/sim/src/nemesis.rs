//! Brings the faults of a scenario over a world.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use quorate_hints::HandoffState;
use quorate_node::{Node, NodeOptions};
use quorate_storage::{
    SyncPolicy,
    fault::{self, Crash, FaultFs, FaultKind},
};

use crate::{
    Fault, FileOptions, Loss, NetworkOptions, Random, Scenario, World, name, network::micros,
};

/// Something that the nemesis has planned.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    /// A fault happens, and again after a while.
    Strike(Fault),
    /// A partition ends.
    Join(Vec<(usize, usize)>),
    /// A link goes or comes, and so many more times.
    Flap { from: usize, to: usize, cut: bool, times: u32 },
    /// A node that went down is started.
    Start { node: usize },
    /// A machine is as fast as ever.
    Hurry { node: usize },
    /// A clock goes on at the usual speed.
    Thaw { node: usize },
    /// A clock is set.
    SetRight { node: usize, ahead_us: i64 },
    /// All messages of a node are held up for a while.
    Clog { node: usize, span: Duration },
    /// A process ends, and so many more times.
    CrashAgain { node: usize, times: u32 },
    /// There is space on a disk again.
    Empty { node: usize },
    /// Somebody looks after a node: snapshots are made, and nodes with a failed log restarted.
    KeepHouse { node: usize },
}

/// What it has done and is going to do.
pub(crate) struct Nemesis {
    faults: BTreeMap<Fault, f64>,
    random: Random,
    clocks: Random,
    agenda: BTreeMap<(u64, u64), Plan>,
    planned: u64,
    /// Whether what was acknowledged may not be synced yet: then power does not fail, processes end instead.
    lax: bool,
    /// The only nodes whose files rot: what others acknowledged is then still somewhere.
    victims: Vec<usize>,
    /// What nodes that start with other options choose from; see [`Self::other_options`].
    files: FileOptions,
    options: NodeOptions,
    /// Whose disk is full, and whose next operations may fail: these need not be able to start.
    full: BTreeSet<usize>,
    failing: BTreeSet<usize>,
    /// Of disks, as they were once.
    copies: BTreeMap<usize, FaultFs>,
    pub(crate) max_ahead_us: i64,
}

/// How far a clock may be off, either way, whatever happens to it but a leap.
const MAX_OFFSET_US: i64 = 10_000_000;
const HOUR_US: i64 = 3_600_000_000;

impl Nemesis {
    pub(crate) fn new(scenario: &Scenario, world: &mut World) -> Self {
        let mut random = Random::stream(scenario.seed, "process");
        let mut victims: Vec<usize> = (0..scenario.nodes).collect();
        random.shuffle(&mut victims);
        victims.truncate(scenario.rotten);
        let mut nemesis = Self {
            faults: scenario.faults.clone(),
            random,
            clocks: Random::stream(scenario.seed, "clock"),
            agenda: BTreeMap::new(),
            planned: 0,
            lax: scenario.files.sync != SyncPolicy::Always,
            victims,
            files: scenario.files,
            options: scenario.node.clone(),
            full: BTreeSet::new(),
            failing: BTreeSet::new(),
            copies: BTreeMap::new(),
            max_ahead_us: 0,
        };
        for node in 0..world.nodes() {
            nemesis.set_up_clock(node, world);
            nemesis.plan(world.now_us() + 500_000, Plan::KeepHouse { node });
        }
        if nemesis.clocks.chance(nemesis.of(Fault::FarFuture)) {
            const YEARS_US: i64 = 77 * 365 * 24 * 3600 * 1_000_000;
            let node = nemesis.clocks.index(scenario.nodes);
            world.set_clock_ahead(node, YEARS_US);
            nemesis.max_ahead_us = YEARS_US;
            world.coverage().count(Fault::FarFuture.name());
        }
        for &fault in Fault::ALL {
            if nemesis.of(fault) > 0.0 && strikes(fault) {
                nemesis.plan_strike(fault, world.now_us());
            }
        }
        nemesis
    }

    /// When it acts next.
    pub(crate) fn next_us(&self) -> Option<u64> {
        self.agenda.first_key_value().map(|(&(at_us, _), _)| at_us)
    }

    /// Does what is due.
    pub(crate) fn act(&mut self, world: &mut World) {
        let now_us = world.now_us();
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= now_us) {
            let plan = entry.remove();
            self.carry_out(plan, world);
        }
    }

    /// Ends all faults: every node is started anew, reaches all others, and has a disk that works; the clocks agree
    /// again, on a time that is behind no version ever issued.
    pub(crate) fn heal(&mut self, world: &mut World) {
        let all: Vec<usize> = (0..world.nodes()).collect();
        for &node in &all {
            world.end(node, Loss::Process);
        }
        self.heal_core(world, &all);
    }

    /// Damages the log of a node that runs and has nobody read its records any more, but for a scrub.
    pub(crate) fn rot_late(&mut self, world: &mut World) {
        const TIMES: usize = 3;
        let Some(&victim) = self.victims.first() else { return };
        for _ in 0..TIMES {
            let files = world.files(victim).clone();
            if let Some((file, at)) = crate::rot::damage(&files, Fault::BitRot, &mut self.random) {
                world.note_damage(victim, Fault::BitRot, &file, at);
            }
        }
    }

    /// Ends all faults of some nodes and of the ways between any. Those that do not run are started.
    pub(crate) fn heal_core(&mut self, world: &mut World, core: &[usize]) {
        self.agenda.clear();
        self.faults.clear();
        *world.network() = NetworkOptions::default();
        world.join_all();
        world.mend_machines();
        // A restart may issue versions some seconds ahead of its clock, and then another.
        const MARGIN_US: i64 = 60_000_000;
        for &node in core {
            world.set_clock_ahead(node, self.max_ahead_us + MARGIN_US);
            if world.is_poisoned(node) {
                world.end(node, Loss::Process);
            }
            if let Err(error) = world.start(node) {
                world.breaks(format!("{} cannot start although all is well: {error}", name(node)));
            }
        }
    }

    fn of(&self, fault: Fault) -> f64 {
        self.faults.get(&fault).copied().unwrap_or(0.0)
    }

    fn plan(&mut self, at_us: u64, plan: Plan) {
        self.planned += 1;
        self.agenda.insert((at_us, self.planned), plan);
    }

    fn plan_in(&mut self, span: Duration, plan: Plan, world: &World) {
        self.plan(world.now_us() + micros(span), plan);
    }

    fn plan_strike(&mut self, fault: Fault, now_us: u64) {
        let mean = Duration::from_secs_f64(60.0 / self.of(fault));
        let wait = self.random.span(mean);
        self.plan(now_us + micros(wait), Plan::Strike(fault));
    }

    fn carry_out(&mut self, plan: Plan, world: &mut World) {
        match plan {
            Plan::Strike(fault) => {
                self.strike(fault, world);
                self.plan_strike(fault, world.now_us());
            }
            Plan::Join(cuts) => {
                count_handoff(&cuts, world);
                cuts.into_iter().for_each(|(from, to)| world.join(from, to));
            }
            Plan::Flap { from, to, cut, times } => {
                if cut {
                    world.cut(from, to)
                } else {
                    world.join(from, to)
                }
                if times > 0 {
                    let wait = self.random.between(ms(100), ms(1_500));
                    let next = Plan::Flap { from, to, cut: !cut, times: times - 1 };
                    self.plan_in(wait, next, world);
                }
            }
            Plan::Start { node } => self.start(node, world),
            Plan::Hurry { node } => world.slow_down(node, 1),
            Plan::Thaw { node } => {
                world.drift_clock(node, 0);
                self.keep_clock_in_range(node, world);
            }
            Plan::SetRight { node, ahead_us } => {
                world.set_clock_ahead(node, ahead_us);
                self.keep_clock_in_range(node, world);
            }
            Plan::Clog { node, span } => {
                let others = (0..world.nodes()).filter(|&other| other != node);
                others.for_each(|other| world.clog(node, other, span));
            }
            Plan::CrashAgain { node, times } => {
                let loss = self.any_loss();
                world.end(node, loss);
                let wait = self.random.between(ms(5), ms(100));
                self.plan_in(wait, Plan::Start { node }, world);
                if times > 0 {
                    let wait = self.random.between(ms(10), ms(600));
                    self.plan_in(wait, Plan::CrashAgain { node, times: times - 1 }, world);
                }
            }
            Plan::Empty { node } => {
                world.files(node).set_capacity(None);
                self.full.remove(&node);
            }
            Plan::KeepHouse { node } => self.keep_house(node, world),
        }
    }

    fn strike(&mut self, fault: Fault, world: &mut World) {
        let nodes = world.nodes();
        let node = self.random.index(nodes);
        match fault {
            Fault::Isolate => {
                let others = (0..nodes).filter(|&other| other != node);
                self.part(others.flat_map(|other| [(node, other), (other, node)]).collect(), world);
            }
            Fault::Halves => {
                let (here, there) = self.halves(nodes);
                self.part(between(&here, &there), world);
            }
            Fault::Bridge => {
                let (mut here, there) = self.halves(nodes);
                here.pop();
                self.part(between(&here, &there), world);
            }
            Fault::OneWay => {
                let other = (node + 1 + self.random.index(nodes - 1)) % nodes;
                self.part(vec![(node, other)], world);
            }
            Fault::Flapping => {
                let to = (node + 1 + self.random.index(nodes - 1)) % nodes;
                self.plan_in(ms(0), Plan::Flap { from: node, to, cut: true, times: 19 }, world);
            }
            Fault::Clog => {
                let span = self.random.between(ms(100), ms(10_000));
                self.plan_in(ms(0), Plan::Clog { node, span }, world);
            }
            Fault::Swizzle => self.swizzle(world),
            Fault::Ragged => self.ragged(node, world),
            Fault::CrashLoop => self.plan_in(ms(0), Plan::CrashAgain { node, times: 4 }, world),
            Fault::Kill => self.down(node, Loss::Process, world),
            Fault::PowerLoss => {
                let loss = self.power_loss();
                self.down(node, loss, world);
            }
            Fault::CrashInActions => {
                let actions = u32::try_from(self.random.below(40)).expect("below 40");
                let loss = self.any_loss();
                world.end_after_actions(node, actions, loss);
                self.plan_restart(node, world);
            }
            Fault::CrashInTurn if self.lax => self.down(node, Loss::Process, world),
            Fault::CrashInTurn => {
                let (operations, crash) = (self.random.below(12), self.crash());
                world.power_fails_in_turn(node, operations, crash);
                self.plan_restart(node, world);
            }
            Fault::AllDown => {
                for node in 0..nodes {
                    let loss = self.power_loss();
                    self.down(node, loss, world);
                }
            }
            Fault::Pause => {
                let longest = *self
                    .random
                    .pick(&[500, 500, 500, 3_000, 3_000, 3_000, 10_000, 10_000, 60_000]);
                let span = self.random.between(ms(100), ms(longest));
                world.pause(node, span);
            }
            Fault::Slow => {
                let times = u32::try_from(self.random.within(2..=100)).expect("at most 100");
                world.slow_down(node, times);
                let wait = self.random.span(ms(4_000));
                self.plan_in(wait, Plan::Hurry { node }, world);
            }
            Fault::Step => {
                let by_us = self.either_way(5_000_000);
                world.step_clock(node, by_us);
                self.keep_clock_in_range(node, world);
            }
            Fault::Freeze => {
                world.drift_clock(node, -1_000_000);
                let wait = self.clocks.between(ms(200), ms(5_000));
                self.plan_in(wait, Plan::Thaw { node }, world);
            }
            Fault::Leap => {
                let ahead_us = world.clock_ahead_us(node);
                let by_us = self.either_way(HOUR_US);
                world.step_clock(node, by_us);
                self.max_ahead_us = self.max_ahead_us.max(ahead_us + by_us);
                let wait = self.clocks.between(ms(500), ms(10_000));
                self.plan_in(wait, Plan::SetRight { node, ahead_us }, world);
            }
            Fault::Smear => {
                let ppm = *self.clocks.pick(&[-100_000, 100_000]);
                world.drift_clock(node, ppm);
                self.plan_in(ms(10_000), Plan::Thaw { node }, world);
            }
            Fault::IoError | Fault::BrokenDisk => {
                let files = world.files(node);
                let at = files.operations() + self.random.below(10);
                let kind =
                    *self.random.pick(&[FaultKind::Io, FaultKind::Io, FaultKind::ShortWrite]);
                let (sticky, seed) = (fault == Fault::BrokenDisk, self.random.number());
                files.set_fault(Some(fault::Fault { at, kind, sticky, seed }));
                self.failing.insert(node);
            }
            Fault::DiskFull => {
                self.full.insert(node);
                let files = world.files(node);
                let room = *self.random.pick(&[0, 0, 4 << 10, 16 << 10, 64 << 10]);
                files.set_capacity(Some(files.used_bytes() + room));
                let wait = self.random.between(ms(200), ms(5_000));
                self.plan_in(wait, Plan::Empty { node }, world);
            }
            Fault::BitRot | Fault::HintRot | Fault::ZeroedSector | Fault::StraySector => {
                let victim = *self.random.pick(&self.victims);
                // Running or not: what it has read, it does not read again before it is restarted.
                self.down(victim, Loss::Process, world);
                let files = world.files(victim).clone();
                let Some((file, at)) = crate::rot::damage(&files, fault, &mut self.random) else {
                    return;
                };
                world.note_damage(victim, fault, &file, at);
            }
            Fault::Wipe | Fault::OldCopy if !world.all_count() => return,
            Fault::Wipe => {
                world.lose_disk(node);
                self.plan_restart(node, world);
            }
            Fault::OldCopy => match self.copies.remove(&node) {
                Some(copy) if self.random.chance(0.7) => {
                    world.restore_disk(node, copy);
                    self.plan_restart(node, world);
                }
                _ => {
                    self.copies.insert(node, world.copy_disk(node));
                    return;
                }
            },
            _ => unreachable!("{fault} does not strike"),
        }
        world.coverage().count(fault.name());
    }

    fn part(&mut self, cuts: Vec<(usize, usize)>, world: &mut World) {
        for &(from, to) in &cuts {
            world.cut(from, to);
        }
        count_handoff(&cuts, world);
        if self.random.chance(self.of(Fault::Lasting)) {
            return world.coverage().count(Fault::Lasting.name());
        }
        let span = self.random.span(ms(3_000)).clamp(ms(100), ms(30_000));
        self.plan_in(span, Plan::Join(cuts), world);
    }

    /// Some nodes are clogged one after the other, and set free in another order.
    fn swizzle(&mut self, world: &World) {
        let mut chosen: Vec<usize> = (0..world.nodes()).collect();
        self.random.shuffle(&mut chosen);
        chosen.truncate(2 + self.random.index(world.nodes() - 1));
        let mut places: Vec<usize> = (0..chosen.len()).collect();
        self.random.shuffle(&mut places);
        let pace = self.random.between(ms(20), ms(800));
        let times = |count: usize| pace * u32::try_from(count).expect("a few nodes");
        for (place, (&node, &freed)) in chosen.iter().zip(&places).enumerate() {
            let (from, to) = (times(place), times(chosen.len() + freed));
            self.plan_in(from, Plan::Clog { node, span: to - from }, world);
        }
    }

    /// What a node sends is lost, held up or neither, as it may be, on the way to each other one.
    fn ragged(&mut self, node: usize, world: &mut World) {
        let mut cuts = Vec::new();
        for other in (0..world.nodes()).filter(|&other| other != node) {
            match self.random.below(3) {
                0 => cuts.push((node, other)),
                1 => {
                    let span = self.random.between(ms(1_000), ms(10_000));
                    world.hold_up(node, other, span);
                }
                _ => {}
            }
        }
        self.part(cuts, world);
    }

    fn halves(&mut self, nodes: usize) -> (Vec<usize>, Vec<usize>) {
        let mut all: Vec<usize> = (0..nodes).collect();
        self.random.shuffle(&mut all);
        let there = all.split_off(1 + self.random.index(nodes - 1));
        (all, there)
    }

    fn any_loss(&mut self) -> Loss {
        if self.random.chance(0.5) { Loss::Process } else { self.power_loss() }
    }

    fn power_loss(&mut self) -> Loss {
        if self.lax { Loss::Process } else { Loss::Power(self.crash()) }
    }

    fn crash(&mut self) -> Crash {
        match self.random.below(6) {
            0 => Crash::Nothing,
            1 => Crash::Everything,
            2 => Crash::Prefix(self.random.below(6)),
            _ => Crash::Random(self.random.number()),
        }
    }

    fn down(&mut self, node: usize, loss: Loss, world: &mut World) {
        world.end(node, loss);
        self.plan_restart(node, world);
    }

    fn plan_restart(&mut self, node: usize, world: &World) {
        let longest = *self.random.pick(&[100, 1_000, 6_000]);
        let wait = self.random.between(ms(20), ms(longest));
        self.plan_in(wait, Plan::Start { node }, world);
    }

    fn start(&mut self, node: usize, world: &mut World) {
        if world.is_running(node) {
            return;
        }
        let (in_recovery, back) =
            (self.of(Fault::CrashInRecovery), self.of(Fault::BackOverRestart));
        if self.clocks.chance(back) {
            let back_us = -self.either_way(8_000_000).abs();
            world.step_clock(node, back_us);
            self.keep_clock_in_range(node, world);
            world.coverage().count(Fault::BackOverRestart.name());
        }
        if self.random.chance(self.of(Fault::OtherOptions)) {
            let (files, options) = self.other_options();
            world.reconfigure(node, files, options);
            world.coverage().count(Fault::OtherOptions.name());
        }
        if world.files(node).contents("/data/meta".as_ref()).is_ok() {
            world.coverage().count("state: restart");
        }
        let error_at_start = self.random.chance(self.of(Fault::StartError));
        let started = if !self.lax && self.random.chance(in_recovery) {
            let (operations, crash) = (self.random.below(60), self.crash());
            world.start_with_power_failing(node, operations, crash).map(|failed| !failed)
        } else {
            if error_at_start {
                let files = world.files(node);
                let at = files.operations() + self.random.below(60);
                let (kind, seed) = (FaultKind::Io, self.random.number());
                let sticky = self.random.chance(0.3);
                files.set_fault(Some(fault::Fault { at, kind, sticky, seed }));
                world.coverage().count(Fault::StartError.name());
            }
            world.start(node).map(|()| true)
        };
        let failing = self.failing.remove(&node);
        match started {
            Ok(true) => world.files(node).set_fault(None),
            Ok(false) => {
                world.coverage().count(Fault::CrashInRecovery.name());
                self.plan_restart(node, world);
            }
            Err(error) => {
                world.remark(|| format!("{} cannot start: {error}", name(node)));
                world.coverage().count("state: start failed");
                if !(error_at_start || self.full.contains(&node) || failing) {
                    world.breaks(format!("{} cannot start: {error}", name(node)));
                }
                world.files(node).set_fault(None);
                self.plan_restart(node, world);
            }
        }
    }

    fn keep_house(&mut self, node: usize, world: &mut World) {
        if world.is_poisoned(node) {
            world.coverage().count("state: log failed");
            let loss = match self.random.chance(0.7) {
                true => Loss::Process,
                false => self.power_loss(),
            };
            self.down(node, loss, world);
        } else {
            let snapshot = self.random.chance(0.02);
            world.keep_house(node, snapshot);
        }
        let wait = self.random.between(ms(300), ms(1_500));
        self.plan_in(wait, Plan::KeepHouse { node }, world);
    }

    /// Other options for one node. The cluster's own, and when a write is durable, stay as they are.
    fn other_options(&mut self) -> (FileOptions, NodeOptions) {
        let random = &mut self.random;
        let least = self.files.max_payload_bytes.next_multiple_of(16 << 10);
        let files = FileOptions {
            segment_bytes: least + *random.pick(&[32 << 10, 64 << 10, 256 << 10]),
            snapshot_after_bytes: *random.pick(&[4 << 10, 32 << 10, 256 << 10]),
            ..self.files
        };
        let options = NodeOptions {
            hint_ttl: Duration::from_secs(*random.pick(&[0, 2, 10_800])),
            hint_max_bytes: *random.pick(&[1 << 12, 1 << 20, 1 << 30]),
            anti_entropy_max_per_tick: *random.pick(&[20, 200]),
            ..self.options.clone()
        };
        (files, options)
    }

    fn set_up_clock(&mut self, node: usize, world: &mut World) {
        let offset_us = crate::scenario::truncated(self.of(Fault::Offset) * 1e3);
        let drift_ppm = crate::scenario::truncated(self.of(Fault::Drift));
        if offset_us > 0 {
            let ahead_us = self.either_way(offset_us);
            world.set_clock_ahead(node, ahead_us);
            world.coverage().count(Fault::Offset.name());
        }
        if drift_ppm > 0 {
            let ppm = self.either_way(drift_ppm);
            world.drift_clock(node, ppm);
            world.coverage().count(Fault::Drift.name());
        }
        self.keep_clock_in_range(node, world);
    }

    fn keep_clock_in_range(&mut self, node: usize, world: &mut World) {
        let ahead_us = world.clock_ahead_us(node).clamp(-MAX_OFFSET_US, MAX_OFFSET_US);
        if ahead_us != world.clock_ahead_us(node) {
            world.set_clock_ahead(node, ahead_us);
        }
        self.max_ahead_us = self.max_ahead_us.max(ahead_us);
        // The last tenth of a second, as few clocks reach the very end.
        const NEARLY_US: i64 = MAX_OFFSET_US - 100_000;
        if ahead_us >= NEARLY_US {
            world.coverage().count("state: clock 10 s ahead");
        } else if ahead_us <= -NEARLY_US {
            world.coverage().count("state: clock 10 s behind");
        }
    }

    fn either_way(&mut self, most: i64) -> i64 {
        let width = most.unsigned_abs() * 2 + 1;
        self.clocks.below(width).cast_signed() - most
    }
}

/// Whether it happens at a moment of its own, so many times a minute.
fn strikes(fault: Fault) -> bool {
    use Fault::*;
    !matches!(
        fault,
        Delay
            | Loss
            | Duplication
            | Corruption
            | Reordering
            | Spike
            | Reset
            | Replay
            | Lasting
            | CrashInRecovery
            | OtherOptions
            | Offset
            | Drift
            | BackOverRestart
            | FarFuture
            | StartError
            | SlowDisk
            | Cancel
            | Retry
    )
}

/// Counts nodes that hand hints to another while only one of the ways between the two is open.
fn count_handoff(cuts: &[(usize, usize)], world: &mut World) {
    let delivers = |world: &World, holder: usize, target: usize| {
        let state = |node: &Node| {
            let mut targets = node.hints().targets(0);
            targets.find(|it| it.target == name(target)).map(|it| it.state)
        };
        world.node(holder).and_then(state) == Some(HandoffState::Delivering)
    };
    for &(from, to) in cuts.iter().filter(|&&(from, to)| !cuts.contains(&(to, from))) {
        if delivers(world, from, to) || delivers(world, to, from) {
            world.coverage().count("state: one-way partition during handoff");
        }
    }
}

fn between(here: &[usize], there: &[usize]) -> Vec<(usize, usize)> {
    here.iter().flat_map(|&a| there.iter().flat_map(move |&b| [(a, b), (b, a)])).collect()
}

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}
