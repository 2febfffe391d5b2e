//! What may go wrong in a run, and how much of it: pure data.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::RangeInclusive,
    time::Duration,
};

use quorate_planted::Site;

use crate::coverage::RARE;

/// A part of the world that can fail. A run switches each of them on or off as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Messages.
    Network,
    /// Who can reach whom.
    Partition,
    /// Processes and machines.
    Process,
    /// Wall clocks.
    Clock,
    /// Files.
    Disk,
    /// What is on a disk already.
    Rot,
    /// Whoever asks.
    Client,
    /// Whole disks.
    Loss,
}

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $variant:ident, $family:ident, $name:literal;)+) => {
        /// A kind of fault. Its doc says what its number means.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Fault {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The part of the world that fails.
            #[must_use]
            pub const fn family(self) -> Family {
                match self { $(Self::$variant => Family::$family,)+ }
            }

            /// A short name; the one that coverage is counted by.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => concat!("fault: ", $name),)+ }
            }

            /// What its number means.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

faults! {
    /// The mean time that a message takes, in milliseconds.
    Delay, Network, "messages slow";
    /// The chance that a message is lost.
    Loss, Network, "message lost";
    /// The chance that a message comes twice.
    Duplication, Network, "message doubled";
    /// The chance that a message comes again 60 to 90 seconds later, if its connection is still there. Clients of a run
    /// with this rest for so long once.
    Replay, Network, "message replayed after a minute";
    /// The chance that a bit of a message is flipped.
    Corruption, Network, "message corrupted";
    /// The chance that a message overtakes others.
    Reordering, Network, "messages reordered";
    /// The chance that a message takes up to 10 seconds.
    Spike, Network, "message very late";
    /// The chance that a connection is reset between a request and its answer.
    Reset, Network, "connection reset";

    /// Times a minute that one node is cut off from all others.
    Isolate, Partition, "one node isolated";
    /// Times a minute that the cluster falls in two.
    Halves, Partition, "cluster in two halves";
    /// Times a minute that two halves only have one node in common.
    Bridge, Partition, "bridge partition";
    /// Times a minute that some node cannot reach some other, which can reach it.
    OneWay, Partition, "one-way partition";
    /// Times a minute that some link comes and goes, ten times within seconds.
    Flapping, Partition, "flapping link";
    /// The chance that a partition lasts until all faults end.
    Lasting, Partition, "partition to the end";
    /// Times a minute that all messages of one node are held up for up to 10 seconds, and then come at once.
    Clog, Partition, "node clogged";
    /// Times a minute that some nodes are clogged one after the other and set free in another order.
    Swizzle, Partition, "nodes clogged one by one";
    /// Times a minute that what one node sends is lost on its way to some, held up for up to 10 seconds on its way to
    /// others, and comes to the rest.
    Ragged, Partition, "some messages lost, some held up";

    /// Times a minute that a process is killed.
    Kill, Process, "process killed";
    /// Times a minute that a machine loses power, and with it any part of what was not synced.
    PowerLoss, Process, "power lost";
    /// Times a minute that a process ends between two actions of its node.
    CrashInActions, Process, "process killed between two actions";
    /// Times a minute that power fails between two operations of a log's turn.
    CrashInTurn, Process, "power lost within a turn";
    /// The chance that power fails while a node starts; it may again when it is tried again.
    CrashInRecovery, Process, "power lost during recovery";
    /// Times a minute that power fails everywhere at once.
    AllDown, Process, "all nodes down at once";
    /// Times a minute that a process ends five times within seconds, as soon as it has started or before.
    CrashLoop, Process, "crash loop";
    /// The chance that a node starts with other options than before: sizes of segments and snapshots, how long and how
    /// much it keeps as hints, how much it compares at once.
    OtherOptions, Process, "restart with other options";
    /// Times a minute that a process stands still, mostly for less than 10 seconds, sometimes for up to 60.
    Pause, Process, "process paused";
    /// Times a minute that a machine becomes 2 to 100 times slower.
    Slow, Process, "machine slow";

    /// How far clocks are off at the start, at most, in milliseconds either way.
    Offset, Clock, "clock offset";
    /// How much too fast or slow clocks run, at most, in parts per million.
    Drift, Clock, "clock drift";
    /// Times a minute that a clock steps by up to 5 seconds either way, but never out of ±10 seconds.
    Step, Clock, "clock step";
    /// Times a minute that a clock stands still for some seconds.
    Freeze, Clock, "clock frozen";
    /// Times a minute that a clock steps by up to an hour either way, and is set right after some seconds.
    Leap, Clock, "clock an hour off";
    /// Times a minute that a clock gains or loses a second within ten, as a smeared leap second makes it, but faster.
    Smear, Clock, "clock smeared";
    /// The chance that the clock of one node is in the year 2100.
    FarFuture, Clock, "clock in the year 2100";
    /// The chance that a clock goes back by seconds while its node is down.
    BackOverRestart, Clock, "clock back over a restart";

    /// Times a minute that one of the next operations of a machine's files fails.
    IoError, Disk, "disk error";
    /// Times a minute that all operations of a machine's files fail from some point on, until its process ends.
    BrokenDisk, Disk, "disk broken";
    /// The chance that one of the operations of a node's start fails.
    StartError, Disk, "disk error at start";
    /// Times a minute that a disk is full, for some seconds.
    DiskFull, Disk, "disk full";
    /// The chance that a write and sync takes up to 5 seconds.
    SlowDisk, Disk, "slow disk";

    /// Times a minute that a byte of a victim's log or snapshot changes on disk, while it is down. What it had
    /// acknowledged may be lost with it: a run with this claims less.
    BitRot, Rot, "bit rot";
    /// The same of a victim's hints.
    HintRot, Rot, "bit rot among hints";
    /// Times a minute that a sector of a victim's logs becomes zeroes, but not the last one: nobody could tell.
    ZeroedSector, Rot, "sector zeroed";
    /// Times a minute that a sector of a victim's logs is found in another's place too, as after a write that went
    /// astray.
    StraySector, Rot, "sector astray";

    /// The chance that a client goes away without waiting for the answer.
    Cancel, Client, "client gone";
    /// The chance that a client writes the very same value again, by another node, when it does not know what came of
    /// the write.
    Retry, Client, "same value written again";

    /// Times a minute that a node's disk is replaced by an empty one, while all others count.
    Wipe, Loss, "disk lost";
    /// Times a minute that a node's disk is copied, or an earlier copy put back by whoever says so, while all others
    /// count.
    OldCopy, Loss, "old copy restored";
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name().trim_start_matches("fault: "))
    }
}

/// From which runs are drawn.
#[derive(Clone, Debug)]
pub struct Profile {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
    /// How many nodes a cluster has; it is drawn from these, so one may be there more than once.
    pub nodes: &'static [usize],
    /// How many client operations a run has.
    pub operations: RangeInclusive<u64>,
    /// How many keys these are about.
    pub keys: RangeInclusive<u64>,
    /// How long a client waits for an answer.
    pub timeout: Duration,
    /// The chance that a run may count fallbacks at all.
    pub sloppy: f64,
    /// The chance that all requests of a run are atomic.
    pub atomic: f64,
    /// Whether it is judged that in the end all tombstones are forgotten, which takes a while.
    pub forgets: bool,
    /// Whether hints alone must bring replicas together: there is no anti-entropy, and hints have room and time.
    pub hints_alone: bool,
    /// The chance of each family of faults to be on in a run.
    pub swarm: f64,
    /// The chance that files rot in a run. That is apart from `swarm`, as such a run claims less.
    pub rot: f64,
    /// The chance that, if files rot, those of more nodes do than the quorum of a write can do without: then what was
    /// acknowledged may be lost, and only the rest is claimed. Otherwise never all copies that an ack stood for rot.
    pub beyond: f64,
    /// The chance of each [site](Site) of rare behaviour to be armed in a run. FoundationDB takes a quarter.
    pub sites: f64,
    /// Sites that are never armed.
    pub without_sites: &'static [Site],
    /// Between what the number of each fault is drawn. What is not named does not happen.
    pub faults: BTreeMap<Fault, (f64, f64)>,
}

const NETWORK: &[(Fault, f64, f64)] = &[
    (Fault::Delay, 1.0, 100.0),
    (Fault::Loss, 0.0, 0.3),
    (Fault::Duplication, 0.0, 0.5),
    (Fault::Replay, 0.0, 0.02),
    (Fault::Corruption, 0.0, 0.005),
    (Fault::Reordering, 0.0, 1.0),
    (Fault::Spike, 0.0, 0.01),
    (Fault::Reset, 0.0, 0.01),
];
const PARTITION: &[(Fault, f64, f64)] = &[
    (Fault::Isolate, 0.0, 8.0),
    (Fault::Halves, 0.0, 6.0),
    (Fault::Bridge, 0.0, 4.0),
    (Fault::OneWay, 0.0, 12.0),
    (Fault::Flapping, 0.0, 6.0),
    (Fault::Lasting, 0.0, 0.1),
    (Fault::Clog, 0.0, 8.0),
    (Fault::Swizzle, 0.0, 4.0),
];
const PROCESS: &[(Fault, f64, f64)] = &[
    (Fault::Kill, 0.0, 10.0),
    (Fault::PowerLoss, 0.0, 10.0),
    (Fault::CrashInActions, 0.0, 10.0),
    (Fault::CrashInTurn, 0.0, 10.0),
    (Fault::CrashInRecovery, 0.0, 0.4),
    (Fault::AllDown, 0.0, 3.0),
    (Fault::CrashLoop, 0.0, 3.0),
    (Fault::OtherOptions, 0.0, 0.5),
    (Fault::Pause, 0.0, 6.0),
    (Fault::Slow, 0.0, 4.0),
];
const CLOCK: &[(Fault, f64, f64)] = &[
    (Fault::Offset, 0.0, 10_000.0),
    (Fault::Drift, 0.0, 500.0),
    (Fault::Step, 0.0, 12.0),
    (Fault::Freeze, 0.0, 4.0),
    (Fault::Leap, 0.0, 2.0),
    (Fault::Smear, 0.0, 4.0),
    (Fault::FarFuture, 0.0, 0.05),
    (Fault::BackOverRestart, 0.0, 0.5),
];
const DISK: &[(Fault, f64, f64)] = &[
    (Fault::IoError, 0.0, 10.0),
    (Fault::BrokenDisk, 0.0, 3.0),
    (Fault::StartError, 0.0, 0.3),
    (Fault::DiskFull, 0.0, 6.0),
    (Fault::SlowDisk, 0.0, 0.005),
];
const ROT: &[(Fault, f64, f64)] = &[
    (Fault::BitRot, 1.0, 6.0),
    (Fault::HintRot, 0.0, 3.0),
    (Fault::ZeroedSector, 0.0, 3.0),
    (Fault::StraySector, 0.0, 3.0),
];
const LOSS: &[(Fault, f64, f64)] = &[(Fault::Wipe, 0.0, 8.0), (Fault::OldCopy, 0.0, 16.0)];
const LATE: &[(Fault, f64, f64)] = &[
    (Fault::Wipe, 4.0, 14.0),
    (Fault::OldCopy, 0.0, 20.0),
    (Fault::Delay, 1.0, 20.0),
    (Fault::Loss, 0.0, 0.2),
    (Fault::Ragged, 4.0, 20.0),
    (Fault::Isolate, 0.0, 6.0),
    (Fault::OneWay, 0.0, 6.0),
];
const THIN: &[(Fault, f64, f64)] = &[
    (Fault::Wipe, 4.0, 14.0),
    (Fault::OldCopy, 0.0, 20.0),
    (Fault::Delay, 1.0, 60.0),
    (Fault::Loss, 0.0, 0.3),
    (Fault::Spike, 0.0, 0.05),
    (Fault::Reordering, 0.0, 1.0),
    (Fault::Isolate, 0.0, 14.0),
    (Fault::OneWay, 0.0, 14.0),
    (Fault::Clog, 0.0, 20.0),
    (Fault::Pause, 0.0, 10.0),
];
const CLIENT: &[(Fault, f64, f64)] = &[(Fault::Cancel, 0.0, 0.1), (Fault::Retry, 0.0, 0.5)];

/// What may leave a replica without a hint that nothing but a comparison makes up for, and what only comparisons do.
const NOT_WITH_HINTS_ALONE: &[Site] = &[
    Site::RefuseHint,
    Site::LogBusy,
    Site::OneRecordFetched,
    Site::OneRecordListed,
    Site::SmallLeaf,
    Site::AbortExchange,
];

impl Profile {
    /// All profiles; the first one is the default.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let every = [NETWORK, PARTITION, PROCESS, CLOCK, DISK, ROT, CLIENT];
        let rotting = [NETWORK, PROCESS, ROT, &[(Fault::Kill, 4.0, 12.0)]];
        vec![
            Self {
                rot: 0.1,
                ..Self::of(
                    "default",
                    "everything, each family of faults in half of the runs",
                    &every,
                )
            },
            Self { swarm: 1.0, sites: 0.0, ..Self::of("calm", "nothing goes wrong", &[]) },
            Self {
                swarm: 1.0,
                ..Self::of("network", "bad links and partitions", &[NETWORK, PARTITION, CLIENT])
            },
            Self { swarm: 1.0, ..Self::of("crash", "processes and power", &[PROCESS]) },
            Self {
                swarm: 1.0,
                ..Self::of("disk", "failing, full and slow disks", &[PROCESS, DISK])
            },
            Self {
                swarm: 1.0,
                ..Self::of(
                    "clock",
                    "clocks that are wrong, strict quorums",
                    &[CLOCK, PROCESS, PARTITION],
                )
            }
            .with_sloppy(0.0),
            Self {
                swarm: 0.8,
                ..Self::of("sloppy", "fallbacks and hints", &[NETWORK, PARTITION, PROCESS, DISK])
            }
            .with_sloppy(1.0),
            Self {
                swarm: 1.0,
                hints_alone: true,
                without_sites: NOT_WITH_HINTS_ALONE,
                ..Self::of(
                    "handoff",
                    "hints without anti-entropy; nodes do not end, as hints that are not yet kept would end with them",
                    &[NETWORK, PARTITION, &[(Fault::Slow, 0.0, 4.0)]],
                )
            },
            Self {
                atomic: 1.0,
                ..Self::of(
                    "atomic",
                    "atomic requests only, under everything that happens to networks, processes and clocks",
                    &[NETWORK, PARTITION, PROCESS, CLOCK, CLIENT],
                )
            },
            Self {
                swarm: 0.6,
                atomic: 0.0,
                forgets: true,
                without_sites: &[Site::RefuseClient, Site::QueueClient],
                ..Self::of(
                    "lives",
                    "nodes lose their disks, old copies come back, deletes are forgotten all the while; strict quorums",
                    &[LOSS, NETWORK, PARTITION, PROCESS, CLOCK],
                )
            }
            .with_sloppy(0.0),
            Self {
                swarm: 0.6,
                atomic: 0.0,
                forgets: true,
                ..Self::of(
                    "graves",
                    "deletes are forgotten while hints and fallbacks stand in for nodes that are away",
                    &[NETWORK, PARTITION, PROCESS, CLOCK],
                )
            }
            .with_sloppy(1.0),
            Self {
                nodes: &[3, 3, 4],
                timeout: Duration::from_secs(4),
                ..Self::of_few_keys(
                    "thin",
                    "disks are lost, and nodes cut off, one after the other: hardly more nodes than owners, few keys",
                    THIN,
                )
            },
            Self {
                nodes: &[4, 4, 5],
                timeout: Duration::from_secs(8),
                ..Self::of_few_keys(
                    "late",
                    "writes are under way while disks are lost and tombstones forgotten: few keys, patient clients",
                    LATE,
                )
            },
            Self {
                rot: 1.0,
                ..Self::of(
                    "rot",
                    "files rot, but never all that an ack stood for; what was lost may be missed until it is healed",
                    &rotting,
                )
            },
            Self {
                rot: 1.0,
                beyond: 1.0,
                ..Self::of(
                    "beyond",
                    "as much rots as may rot, or more; nothing is made up, damage is noticed, replicas come to agree",
                    &rotting,
                )
            },
        ]
    }

    /// The profile of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|profile| profile.name == name)
    }

    /// What some thousand seeds of it must have reached, by the names that coverage is counted by: its faults, its sites
    /// and, of the default profile, all rare states.
    #[must_use]
    pub fn reaches(&self) -> BTreeSet<&'static str> {
        let faults = self.faults.iter().filter(|(_, (_, most))| *most > 0.0);
        let armed = |site: &&Site| self.sites > 0.0 && !self.without_sites.contains(site);
        let sites = Site::ALL.iter().filter(armed).map(|site| site.name());
        let rare = if self.name == Self::default().name { RARE } else { &[] };
        faults.map(|(fault, _)| fault.name()).chain(sites).chain(rare.iter().copied()).collect()
    }

    /// What becomes of a few keys while nodes lose their disks and forget tombstones.
    fn of_few_keys(name: &'static str, about: &'static str, faults: &[(Fault, f64, f64)]) -> Self {
        Self {
            keys: 1..=4,
            swarm: 1.0,
            atomic: 0.0,
            forgets: true,
            sites: 0.1,
            without_sites: &[Site::RefuseClient, Site::QueueClient],
            ..Self::of(name, about, &[faults])
        }
        .with_sloppy(0.0)
    }

    fn of(name: &'static str, about: &'static str, families: &[&[(Fault, f64, f64)]]) -> Self {
        let faults = families.iter().flat_map(|family| family.iter());
        Self {
            name,
            about,
            nodes: &[3, 4, 5, 5, 5, 5, 6, 7],
            operations: 600..=1_400,
            keys: 3..=40,
            timeout: Duration::from_millis(800),
            sloppy: 0.5,
            atomic: 0.1,
            forgets: false,
            hints_alone: false,
            swarm: 0.5,
            rot: 0.0,
            beyond: 0.0,
            sites: 0.25,
            without_sites: &[],
            faults: faults.map(|&(fault, least, most)| (fault, (least, most))).collect(),
        }
    }

    fn with_sloppy(self, sloppy: f64) -> Self {
        Self { sloppy, ..self }
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self::all().swap_remove(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_found_by_names_that_differ() {
        for profile in Profile::all() {
            assert_eq!(Profile::named(profile.name).unwrap().about, profile.about);
        }
        assert!(Profile::named("nonsense").is_none());
    }

    #[test]
    fn every_fault_happens_in_some_profile() {
        let profiles = Profile::all();
        for fault in Fault::ALL {
            assert!(profiles.iter().any(|profile| profile.faults.contains_key(fault)), "{fault}");
        }
    }
}
