//! Which faults a run has, and how many.

use std::{fmt, time::Duration};

use quorate_simulator::Random;

use crate::links::{Blow, Wire};

/// What befalls the nodes of a run. As text it is its name in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// Nodes are killed and started again, now and then all at once.
    Kill,
    /// Nodes stand still.
    Pause,
    /// The nodes fall in halves, with or without one that both reach; one is cut off; one does not
    /// reach another, which reaches it.
    Partition,
    /// Single wires are slow, stall, lose, are reset, end one way, flip bits.
    Wires,
    /// Nodes lose their disks, the next one only when the last one has caught up, while others stand
    /// still or are cut off.
    Wipe,
    /// Nodes are started with an older copy of their data, while others stand still or are cut off.
    Restore,
    /// Clocks are up to five seconds off, or an hour slow.
    Clock,
    /// Clocks are an hour fast, one at a time. Not among all: see docs/torture.md.
    FastClock,
    /// Kills, pauses and partitions: a short run has no time for more.
    Short,
    /// Everything.
    All,
}

/// Which faults there are, how often, and how long each lasts.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    misfortunes: Vec<(u64, Misfortune)>,
    /// So many at a time.
    pub(crate) at_once: usize,
    /// About the time from the start of one to that of the next, if so many are allowed at once.
    pub(crate) rest: Duration,
    pub(crate) shortest: Duration,
    pub(crate) longest: Duration,
}

/// One thing that may happen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Misfortune {
    Kill,
    KillAll,
    Pause,
    Part(Parting),
    Slow(Wire),
    Strike(Blow),
    Wipe,
    Restore,
    Clock(Clock),
}

/// How nodes are divided.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Parting {
    Halves,
    /// Halves that have one node in common.
    Bridge,
    Isolate,
    OneWay,
}

/// How clocks are wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    Somewhat,
    HourSlow,
    HourFast,
}

const HOUR_MS: i64 = 60 * 60 * 1_000;

impl Kind {
    /// Those that a full run has, one after the other.
    pub const EACH: [Self; 8] = [
        Self::Kill,
        Self::Pause,
        Self::Partition,
        Self::Wires,
        Self::Wipe,
        Self::Restore,
        Self::Clock,
        Self::All,
    ];

    /// Whether clocks are set, for which the program must have the feature `test-clock`.
    #[must_use]
    pub fn sets_clocks(self) -> bool {
        matches!(self, Self::Clock | Self::FastClock | Self::All)
    }

    fn misfortunes(self) -> Vec<(u64, Misfortune)> {
        use Misfortune as M;
        const SLOW: Duration = Duration::from_millis(80);
        match self {
            Self::Kill => vec![(9, M::Kill), (1, M::KillAll)],
            Self::Pause => vec![(1, M::Pause)],
            Self::Partition => {
                [Parting::Halves, Parting::Bridge, Parting::Isolate, Parting::OneWay]
                    .map(|parting| (1, M::Part(parting)))
                    .to_vec()
            }
            Self::Wires => vec![
                (2, M::Slow(Wire::Delay(SLOW))),
                (1, M::Slow(Wire::Stall)),
                (1, M::Slow(Wire::Drop)),
                (1, M::Slow(Wire::Cut)),
                (2, M::Strike(Blow::Reset)),
                (2, M::Strike(Blow::HalfClose)),
                (2, M::Strike(Blow::Flip)),
            ],
            Self::Wipe => besides(M::Wipe),
            Self::Restore => besides(M::Restore),
            Self::Clock => vec![(3, M::Clock(Clock::Somewhat)), (1, M::Clock(Clock::HourSlow))],
            Self::FastClock => vec![(1, M::Clock(Clock::HourFast))],
            Self::Short => evenly([Self::Kill, Self::Pause, Self::Partition]),
            Self::All => evenly(Self::EACH.into_iter().filter(|kind| *kind != Self::All)),
        }
    }

    pub(crate) fn plan(self) -> Plan {
        let secs = Duration::from_secs;
        let (at_once, rest) = match self {
            // Two at a time would leave no majority, and two nodes that are both an hour fast agree.
            Self::Partition | Self::FastClock => (1, secs(4)),
            Self::Wires => (3, secs(1)),
            Self::Short => (2, secs(2)),
            Self::Wipe | Self::Restore => (3, secs(2)),
            Self::All => (3, secs(3)),
            _ => (2, secs(4)),
        };
        let (shortest, longest) = match self {
            Self::Short => (secs(1), secs(4)),
            Self::Clock | Self::FastClock => (secs(5), secs(15)),
            _ => (secs(1), secs(8)),
        };
        Plan { misfortunes: self.misfortunes(), at_once, rest, shortest, longest }
    }
}

/// A loss of data, and what makes others miss writes: one that has just been acknowledged by the node
/// that loses it is then not on all replicas.
fn besides(loss: Misfortune) -> Vec<(u64, Misfortune)> {
    let others =
        [Misfortune::Pause, Misfortune::Part(Parting::Isolate), Misfortune::Part(Parting::OneWay)];
    others.map(|other| (1, other)).into_iter().chain([(3, loss)]).collect()
}

/// What these kinds have, each kind as often as the others, however many things it has.
fn evenly(kinds: impl IntoIterator<Item = Kind>) -> Vec<(u64, Misfortune)> {
    /// Divided by the sum of the weights of each kind without a rest, nearly.
    const SHARE: u64 = 1_000;
    let share = |kind: Kind| {
        let things = kind.misfortunes();
        let sum: u64 = things.iter().map(|(weight, _)| weight).sum();
        things.into_iter().map(move |(weight, thing)| (SHARE * weight / sum, thing))
    };
    kinds.into_iter().flat_map(share).collect()
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        f.write_str(value.as_ref().map_or("", clap::builder::PossibleValue::get_name))
    }
}

impl Plan {
    pub(crate) fn draw(&self, random: &mut Random) -> Misfortune {
        let sum = self.misfortunes.iter().map(|(weight, _)| weight).sum();
        let mut drawn = random.below(sum);
        for &(weight, misfortune) in &self.misfortunes {
            if drawn < weight {
                return misfortune;
            }
            drawn -= weight;
        }
        unreachable!("the weights add up to their sum")
    }
}

impl Misfortune {
    /// What it is counted as.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillAll => "kill of all",
            Self::Pause => "pause",
            Self::Part(Parting::Halves) => "halves",
            Self::Part(Parting::Bridge) => "bridge",
            Self::Part(Parting::Isolate) => "isolate",
            Self::Part(Parting::OneWay) | Self::Slow(Wire::Stall | Wire::Drop) => "one way",
            Self::Slow(Wire::Cut) => "cut",
            Self::Slow(Wire::Delay(_) | Wire::Pass) => "delay",
            Self::Strike(Blow::Reset) => "reset",
            Self::Strike(Blow::HalfClose) => "half-close",
            Self::Strike(Blow::Flip) => "flipped bit",
            Self::Wipe => "wipe",
            Self::Restore => "old copy",
            Self::Clock(Clock::Somewhat) => "clock off",
            Self::Clock(Clock::HourSlow) => "clock an hour slow",
            Self::Clock(Clock::HourFast) => "clock an hour fast",
        }
    }
}

impl Clock {
    /// By how many milliseconds, and whether that is more than the nodes allow.
    pub(crate) fn draw(self, random: &mut Random) -> (i64, bool) {
        match self {
            // Two such clocks differ by no more than the ten seconds that are allowed.
            Self::Somewhat => {
                let off = i64::try_from(random.below(9_800)).expect("a small number");
                (off - 4_900, false)
            }
            Self::HourSlow => (-HOUR_MS, true),
            Self::HourFast => (HOUR_MS, true),
        }
    }
}
