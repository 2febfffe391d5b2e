//! What befalls the nodes, and when.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use quorate_simulator::Random;
use quorate_tests::{Cluster, copy_folder, now, remove_folder};

use crate::{
    held::{Catching, Places, Scope},
    links::Wire,
    network::Network,
    plan::{Misfortune, Parting, Plan},
    report::WHOLE_WITHIN,
    weather::Sky,
};

/// A fault that is over may be felt for so long: links wait up to two seconds before they are tried
/// again, and a node that starts must be found by the others.
const AFTERMATH: Duration = Duration::from_millis(2_500);

/// How long a node may take to start.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

/// When something else is drawn, if what was drawn cannot happen now.
const DRAW_AGAIN: Duration = Duration::from_millis(100);

/// So many nodes may be away at a time, whatever happens to the wires.
const AWAY_AT_MOST: usize = 2;

/// Brings faults over a cluster and ends them again.
pub(crate) struct Nemesis<'a> {
    cluster: &'a mut Cluster,
    network: &'a Network,
    places: &'a Places,
    scope: Scope<'a>,
    random: Random,
    plan: Plan,
    faults: Vec<Fault>,
    next_at: Instant,
    /// By node.
    states: Vec<State>,
    /// What is on its way back: a node, or what one says to another, and when it counts again.
    unwell: BTreeMap<(usize, usize), Instant>,
    /// A node that lost data which it had acknowledged, until it has caught up.
    loser: Option<Loser>,
    /// The longest that one needed for that since it was started again.
    longest_loss: Option<Duration>,
    /// An earlier state of a node's folder.
    old_copy: Option<(usize, PathBuf, Instant)>,
    log: Vec<(Instant, String)>,
    counts: BTreeMap<&'static str, u64>,
    broken: Vec<String>,
}

/// What a nemesis did.
#[derive(Debug)]
pub(crate) struct Story {
    /// By microseconds since the start.
    pub(crate) log: Vec<(u64, String)>,
    /// How often each fault came.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// What must not happen, whatever is done to nodes.
    pub(crate) broken: Vec<String>,
    /// The longest that a node which had lost data needed to have it again and count.
    pub(crate) longest_loss: Option<Duration>,
}

#[derive(Debug)]
struct Loser {
    node: usize,
    /// Since when it runs again.
    back_since: Option<Instant>,
    catching: Catching,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// Its process stands still.
    Paused,
    Down,
    /// Its process was started, and has not said anything yet; when that is too long ago.
    Starting(Instant),
}

/// A fault under way.
#[derive(Debug)]
struct Fault {
    until: Instant,
    what: Under,
}

#[derive(Debug)]
enum Under {
    /// These nodes are to be started again.
    Down(Vec<usize>),
    /// This one too, without its data or with older ones.
    Lost(usize, Option<PathBuf>),
    Paused(usize),
    /// What the first says does not reach the second.
    Parted(Vec<(usize, usize)>),
    /// A wire is slow, which nobody should notice.
    Slow(usize, usize),
    /// A clock is wrong; whether by more than is allowed.
    Clock(usize, bool),
}

impl Loser {
    fn new(node: usize) -> Self {
        Self { node, back_since: None, catching: Catching::default() }
    }
}

impl<'a> Nemesis<'a> {
    pub(crate) fn new(
        cluster: &'a mut Cluster,
        network: &'a Network,
        places: &'a Places,
        scope: Scope<'a>,
        plan: Plan,
        random: Random,
    ) -> Self {
        let nodes = cluster.nodes().len();
        Self {
            cluster,
            network,
            places,
            scope,
            random,
            plan,
            faults: Vec::new(),
            next_at: now(),
            states: vec![State::Running; nodes],
            unwell: BTreeMap::new(),
            loser: None,
            longest_loss: None,
            old_copy: None,
            log: Vec::new(),
            counts: BTreeMap::new(),
            broken: Vec::new(),
        }
    }

    /// Lets time pass: ends what is over, begins what is due.
    pub(crate) fn act(&mut self) {
        let at = now();
        self.look_at_processes(at);
        let (over, on): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.faults).into_iter().partition(|fault| fault.until <= at);
        self.faults = on;
        over.into_iter().for_each(|fault| self.end(fault.what, at));
        self.catch_up();
        if self.next_at <= at && self.faults.len() < self.plan.at_once && !self.is_calm(at) {
            let misfortune = self.plan.draw(&mut self.random);
            let rest = self.random.between(self.plan.rest / 2, self.plan.rest * 3 / 2);
            self.next_at = at + if self.begin(misfortune, at) { rest } else { DRAW_AGAIN };
        }
        self.unwell.retain(|_, until| *until > at);
    }

    /// What works now, as far as is known.
    pub(crate) fn sky(&self) -> Sky {
        let nodes = self.states.len();
        let mut sky = Sky::clear(nodes);
        for node in 0..nodes {
            let well = self.states[node] == State::Running;
            sky.up[node] = well && !self.unwell.contains_key(&(node, node));
        }
        for &(from, to) in self.unwell.keys() {
            sky.hears[from][to] &= from == to;
        }
        for fault in &self.faults {
            match &fault.what {
                Under::Parted(pairs) => {
                    pairs.iter().for_each(|&(from, to)| sky.hears[from][to] = false);
                }
                // It is refused what it writes, or refuses what others do.
                Under::Clock(node, true) => sky.up[*node] = false,
                _ => {}
            }
        }
        if let Some(loser) = &self.loser {
            sky.counts[loser.node] = false;
        }
        sky
    }

    /// Tells what was done since `start`.
    pub(crate) fn into_story(self, start: Instant) -> Story {
        let Self { log, counts, broken, longest_loss, loser, .. } = self;
        let lost_still = loser.and_then(|loser| Some(now() - loser.back_since?));
        let longest_loss = longest_loss.max(lost_still);
        let since = |at: Instant| {
            u64::try_from(at.saturating_duration_since(start).as_micros()).unwrap_or(u64::MAX)
        };
        let log = log.into_iter().map(|(at, what)| (since(at), what)).collect();
        Story { log, counts, broken, longest_loss }
    }

    /// Ends all faults, and waits until every node answers and one that has lost data has it again.
    pub(crate) fn heal(&mut self) {
        let at = now();
        self.note(at, "all faults end".to_owned());
        std::mem::take(&mut self.faults).into_iter().for_each(|fault| self.end(fault.what, at));
        while self.states.iter().any(|state| *state != State::Running) {
            if self.states.contains(&State::Down) {
                break; // it has ended by itself, and that is told
            }
            self.look_at_processes(now());
            std::thread::sleep(Duration::from_millis(20));
        }
        while self.loser.is_some() && now() - at < WHOLE_WITHIN {
            self.catch_up();
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether it could happen.
    fn begin(&mut self, misfortune: Misfortune, at: Instant) -> bool {
        let until = at + self.random.between(self.plan.shortest, self.plan.longest);
        let name = misfortune.name();
        let (what, text) = match misfortune {
            Misfortune::KillAll => {
                let all: Vec<usize> = (0..self.states.len()).collect();
                if !self.faults.is_empty() || all.iter().any(|&node| !self.is_free(node)) {
                    return false;
                }
                self.cluster.kill_all();
                self.states.fill(State::Down);
                (Under::Down(all), "kills all".to_owned())
            }
            Misfortune::Kill => {
                let Some(node) = self.draw_free() else { return false };
                self.kill(node);
                (Under::Down(vec![node]), format!("kills {}", id(node)))
            }
            Misfortune::Pause => {
                let Some(node) = self.draw_free() else { return false };
                self.cluster.pause(&id(node));
                self.states[node] = State::Paused;
                (Under::Paused(node), format!("pauses {}", id(node)))
            }
            Misfortune::Part(parting) => match self.part(parting) {
                Some(parted) => parted,
                None => return false,
            },
            Misfortune::Slow(wire) => {
                let Some((from, to)) = self.draw_wire() else { return false };
                if !self.network.set(from, to, wire) {
                    return false;
                }
                let text = format!("{wire:?} from {} to {}", id(from), id(to));
                match wire {
                    Wire::Stall | Wire::Drop | Wire::Cut => (Under::Parted(vec![(from, to)]), text),
                    Wire::Delay(_) | Wire::Pass => (Under::Slow(from, to), text),
                }
            }
            Misfortune::Strike(blow) => {
                let Some((from, to)) = self.draw_wire() else { return false };
                if !self.network.strike(from, to, blow) {
                    return false;
                }
                self.count(name);
                self.note(at, format!("{blow:?} from {} to {}", id(from), id(to)));
                return true;
            }
            Misfortune::Wipe => {
                let Some(node) = self.draw_expendable() else { return false };
                self.kill(node);
                (Under::Lost(node, None), format!("kills {} and wipes its disk", id(node)))
            }
            Misfortune::Restore => return self.restore(at, until),
            Misfortune::Clock(clock) => {
                let Some(node) = self.draw_free() else { return false };
                let (offset_ms, too_far) = clock.draw(&mut self.random);
                self.kill(node);
                let option = format!("--test-clock-offset-ms={offset_ms}");
                self.cluster.give_options(&id(node), &[option]);
                self.spawn(node, at);
                let text = format!("restarts {} with a clock {offset_ms} ms off", id(node));
                (Under::Clock(node, too_far), text)
            }
        };
        self.count(name);
        self.note(at, text);
        self.faults.push(Fault { until, what });
        true
    }

    fn end(&mut self, what: Under, at: Instant) {
        match what {
            Under::Down(nodes) => {
                self.note(at, format!("starts {}", names(&nodes)));
                nodes.into_iter().for_each(|node| self.spawn(node, at));
            }
            Under::Lost(node, old) => {
                let dir = self.cluster.node(&id(node)).data_dir().to_owned();
                remove_folder(&dir);
                if let Some(old) = &old {
                    copy_folder(old, &dir);
                    remove_folder(old);
                }
                let with = if old.is_some() { "an old copy of its data" } else { "an empty disk" };
                self.note(at, format!("starts {} with {with}", id(node)));
                if let Some(loser) = &mut self.loser {
                    loser.back_since = Some(at);
                }
                self.spawn(node, at);
            }
            Under::Paused(node) => {
                self.note(at, format!("lets {} go on", id(node)));
                self.cluster.resume(&id(node));
                self.states[node] = State::Running;
                self.unwell.insert((node, node), at + AFTERMATH);
            }
            Under::Parted(pairs) => {
                self.note(at, "mends wires".to_owned());
                for (from, to) in pairs {
                    self.network.set(from, to, Wire::Pass);
                    self.unwell.insert((from, to), at + AFTERMATH);
                }
            }
            // A partition may have come over it.
            Under::Slow(from, to) if self.is_parted((from, to)) => {}
            Under::Slow(from, to) => {
                self.network.set(from, to, Wire::Pass);
            }
            Under::Clock(node, _) => {
                self.note(at, format!("restarts {} with a clock that is right", id(node)));
                self.kill(node);
                self.cluster.give_options(&id(node), &[]);
                self.spawn(node, at);
            }
        }
    }

    /// Divides the nodes; `None` if they are so already.
    fn part(&mut self, parting: Parting) -> Option<(Under, String)> {
        let mut nodes: Vec<usize> = (0..self.states.len()).collect();
        self.random.shuffle(&mut nodes);
        let half = nodes.len() / 2;
        let (some, rest) = nodes.split_at(half);
        let both_ways = |some: &[usize], rest: &[usize]| {
            let pairs = some.iter().flat_map(|&one| rest.iter().map(move |&other| (one, other)));
            pairs.flat_map(|(one, other)| [(one, other), (other, one)]).collect::<Vec<_>>()
        };
        let (pairs, text) = match parting {
            Parting::Halves => {
                (both_ways(some, rest), format!("parts {} from {}", names(some), names(rest)))
            }
            Parting::Bridge => {
                let (bridge, rest) = rest.split_first().expect("there are more than two nodes");
                let text = format!("parts {} from {}", names(some), names(rest));
                (both_ways(some, rest), format!("{text} but for {}", id(*bridge)))
            }
            Parting::Isolate => {
                let (one, rest) = nodes.split_first().expect("there are nodes");
                (both_ways(&[*one], rest), format!("isolates {}", id(*one)))
            }
            Parting::OneWay => {
                let (from, to) = (nodes[0], nodes[1]);
                (vec![(from, to)], format!("hides {} from {}", id(from), id(to)))
            }
        };
        let wires = match parting {
            Parting::OneWay => &[Wire::Stall, Wire::Drop][..],
            _ => &[Wire::Stall, Wire::Drop, Wire::Cut],
        };
        let wire = *self.random.pick(wires);
        let taken = |pair: &&(usize, usize)| !self.is_parted(**pair);
        let pairs: Vec<_> = pairs.iter().filter(taken).copied().collect();
        for &(from, to) in &pairs {
            self.network.set(from, to, wire);
        }
        (!pairs.is_empty()).then(|| (Under::Parted(pairs), format!("{text} ({wire:?})")))
    }

    /// Takes a copy of a node's folder as a loss of power would leave it, or puts one back that is old;
    /// whether it could.
    fn restore(&mut self, at: Instant, until: Instant) -> bool {
        /// So much younger is what the copy lacks.
        const OLD: Duration = Duration::from_secs(10);
        match &self.old_copy {
            None => {
                let Some(node) = self.draw_free() else { return false };
                let dir = self.cluster.node(&id(node)).data_dir().to_owned();
                let old = self.cluster.folder().join(format!("old-copy-of-{}", id(node)));
                self.cluster.pause(&id(node));
                copy_folder(&dir, &old);
                self.cluster.resume(&id(node));
                self.note(at, format!("copies what {} has", id(node)));
                self.unwell.insert((node, node), now() + AFTERMATH);
                self.old_copy = Some((node, old, at + OLD));
                true
            }
            Some((node, _, due)) if *due <= at && self.is_free(*node) && self.loser.is_none() => {
                let Some((node, old, _)) = self.old_copy.take() else { return false };
                self.kill(node);
                self.count(Misfortune::Restore.name());
                self.note(at, format!("kills {}, which loses what is new", id(node)));
                self.faults.push(Fault { until, what: Under::Lost(node, Some(old)) });
                self.loser = Some(Loser::new(node));
                true
            }
            Some(_) => false,
        }
    }

    /// Sees which nodes have started, and which have ended by themselves.
    fn look_at_processes(&mut self, at: Instant) {
        for node in 0..self.states.len() {
            let state = self.states[node];
            if state == State::Down {
                continue;
            }
            if let Some(status) = self.cluster.ended(&id(node)) {
                let what = format!("{} ended by itself with {status}", id(node));
                self.note(at, what.clone());
                self.broken.push(what);
                self.states[node] = State::Down;
                continue;
            }
            let State::Starting(latest) = state else { continue };
            if self.cluster.node(&id(node)).answers() {
                self.states[node] = State::Running;
                self.unwell.insert((node, node), now() + AFTERMATH);
            } else if latest < at {
                let what = format!("{} does not start", id(node));
                self.note(at, what.clone());
                self.broken.push(what);
                self.kill(node);
            }
        }
    }

    /// Looks, while all nodes can be asked, whether one that lost data has all of it again.
    fn catch_up(&mut self) {
        if self.states.iter().any(|state| *state != State::Running) {
            return;
        }
        if let Some(Loser { node, back_since: Some(since), catching }) = &mut self.loser
            && catching.is_due()
            && catching.look(self.cluster.node(&id(*node)), self.cluster, self.places, self.scope)
        {
            let took = now() - *since;
            let what = format!("{} has caught up after {:.1} s", id(*node), took.as_secs_f64());
            self.loser = None;
            self.longest_loss = self.longest_loss.max(Some(took));
            self.note(now(), what);
        }
    }

    /// Whether nothing new happens, so that a node that lost data can catch up and the next one lose its.
    fn is_calm(&self, at: Instant) -> bool {
        /// At first it has to get along with further faults.
        const AFTER: Duration = Duration::from_secs(5);
        let back_since = self.loser.as_ref().and_then(|loser| loser.back_since);
        back_since.is_some_and(|back_since| at >= back_since + AFTER)
    }

    fn kill(&mut self, node: usize) {
        self.cluster.kill(&id(node));
        self.states[node] = State::Down;
    }

    fn spawn(&mut self, node: usize, at: Instant) {
        self.cluster.spawn(&id(node));
        self.states[node] = State::Starting(at + STARTS_WITHIN);
    }

    /// Whether nothing is wrong with a node by now.
    fn is_free(&self, node: usize) -> bool {
        let has_fault = |fault: &Fault| match &fault.what {
            Under::Down(nodes) => nodes.contains(&node),
            Under::Lost(it, _) | Under::Paused(it) | Under::Clock(it, _) => *it == node,
            Under::Parted(_) | Under::Slow(..) => false,
        };
        self.states[node] == State::Running && !self.faults.iter().any(has_fault)
    }

    fn draw_free(&mut self) -> Option<usize> {
        let free: Vec<usize> = (0..self.states.len()).filter(|&node| self.is_free(node)).collect();
        let away = self.states.len() - free.len();
        (away < AWAY_AT_MOST && !free.is_empty()).then(|| *self.random.pick(&free))
    }

    /// A node that may lose its data: no other has lost some that it has not got again.
    fn draw_expendable(&mut self) -> Option<usize> {
        let node = self.draw_free().filter(|_| self.loser.is_none())?;
        self.loser = Some(Loser::new(node));
        // What it had is worth nothing as an old copy any more: it never had it in this life.
        if let Some((_, old, _)) = self.old_copy.take_if(|(of, ..)| *of == node) {
            remove_folder(&old);
        }
        Some(node)
    }

    fn draw_wire(&mut self) -> Option<(usize, usize)> {
        let nodes = self.states.len();
        let from = self.random.index(nodes);
        let to = (from + 1 + self.random.index(nodes - 1)) % nodes;
        let is_slow = |fault: &Fault| match fault.what {
            Under::Slow(one, other) => (one, other) == (from, to),
            _ => false,
        };
        let taken = self.is_parted((from, to)) || self.faults.iter().any(is_slow);
        (!taken).then_some((from, to))
    }

    fn is_parted(&self, pair: (usize, usize)) -> bool {
        self.faults.iter().any(|fault| match &fault.what {
            Under::Parted(pairs) => pairs.contains(&pair),
            _ => false,
        })
    }

    fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    fn note(&mut self, at: Instant, what: String) {
        self.log.push((at, what));
    }
}

/// The name of a node.
pub(crate) fn id(node: usize) -> String {
    format!("n{}", node + 1)
}

fn names(nodes: &[usize]) -> String {
    nodes.iter().map(|&node| id(node)).collect::<Vec<_>>().join(" ")
}
