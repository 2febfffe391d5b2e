use std::{fmt, num::NonZeroU8, ops::Range};

use clap::{Args, Parser, Subcommand};
use quorate_simulator::{Fault, Profile, Scenario, Site};

/// Runs whole clusters in virtual time, each under the faults that its seed stands for, and judges them.
///
/// Exits with 0 if every promise was kept, 1 if one was broken, 2 on bad usage.
#[derive(Debug, Parser)]
#[command(name = "quorate-sim", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run many seeds.
    Run {
        /// From the first up to before the last, as 0..1000.
        #[arg(long, value_parser = parse_seeds, default_value = "0..1000")]
        seeds: Range<u64>,
        /// How many to run at a time.
        #[arg(long, default_value = "2")]
        jobs: NonZeroU8,
        #[command(flatten)]
        what: What,
        /// Exit with 1, too, if a fault, a site or a rare state that the profile should have reached was not.
        #[arg(long)]
        covering: bool,
    },
    /// Run one seed again and print all that happens.
    Replay {
        /// The seed.
        seed: u64,
        #[command(flatten)]
        what: What,
        #[command(flatten)]
        changes: Changes,
        /// Print only what came of it.
        #[arg(long)]
        brief: bool,
    },
    /// Print the hash of what happens in each seed, to compare processes, builds and machines.
    Hashes {
        /// From the first up to before the last, as 0..200.
        #[arg(long, value_parser = parse_seeds, default_value = "0..200")]
        seeds: Range<u64>,
        #[command(flatten)]
        what: What,
    },
    /// Find fewer faults, requests, clients, keys and nodes that still break a promise.
    Shrink {
        /// The seed.
        seed: u64,
        #[command(flatten)]
        what: What,
    },
    /// List the profiles, or the faults of one: what their numbers mean, and from what range they are drawn.
    Profiles {
        /// The profile.
        #[arg(value_parser = parse_profile)]
        profile: Option<Profile>,
    },
    /// Plant bugs, one at a time, and see that each is found. Needs a build with `--features planted-bugs`.
    Bugs(BugHunt),
}

/// Which planted bugs to look for, and how hard.
#[derive(Clone, Debug, Args)]
pub(crate) struct BugHunt {
    /// The bugs, by name; all of them if none is named.
    pub(crate) names: Vec<String>,
    /// Within how many seeds each must be found.
    #[arg(long, default_value = "2000")]
    pub(crate) seeds: u64,
    /// From how many places to start, for the median.
    #[arg(long, default_value = "5")]
    pub(crate) starts: NonZeroU8,
    /// How many bugs to look for at a time.
    #[arg(long, default_value = "2")]
    pub(crate) jobs: NonZeroU8,
    /// In place of the profile that shows a bug best.
    #[arg(long, value_parser = parse_profile)]
    pub(crate) profile: Option<Profile>,
}

/// What is done to a seed.
#[derive(Clone, Debug, Args)]
pub(crate) struct What {
    /// From which runs are drawn; see `profiles`.
    #[arg(long, value_parser = parse_profile, default_value = "default")]
    pub(crate) profile: Profile,
    /// Judge whether a part of the cluster that holds a quorum goes on by itself.
    #[arg(long)]
    pub(crate) liveness: bool,
}

/// How a scenario differs from the one its seed stands for.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Changes {
    /// Faults to leave out, by name, with commas between.
    #[arg(long, value_delimiter = ',', value_parser = parse_fault)]
    without: Vec<Fault>,
    /// Sites of rare behaviour to leave out, by name, with commas between.
    #[arg(long, value_delimiter = ',', value_parser = parse_site)]
    without_sites: Vec<Site>,
    /// How many requests clients make.
    #[arg(long)]
    operations: Option<u64>,
    /// How many clients there are.
    #[arg(long)]
    clients: Option<usize>,
    /// How many keys they use.
    #[arg(long)]
    keys: Option<u64>,
    /// How many nodes there are; at least as many as own a key.
    #[arg(long)]
    nodes: Option<usize>,
    /// The share of requests that may count fallbacks.
    #[arg(long)]
    sloppy: Option<f64>,
    /// The share of requests with another quorum than most.
    #[arg(long)]
    odd_quorums: Option<f64>,
    /// The share of values of 100 KiB.
    #[arg(long)]
    huge: Option<f64>,
}

impl Changes {
    /// What was changed from one scenario to another of the same seed.
    pub(crate) fn between(whole: &Scenario, small: &Scenario) -> Self {
        fn if_other<T: Copy + PartialEq>(before: &T, after: &T) -> Option<T> {
            (before != after).then_some(*after)
        }
        let gone = |fault: &&Fault| !small.faults.contains_key(fault);
        Self {
            without: whole.faults.keys().filter(gone).copied().collect(),
            without_sites: whole.sites.difference(&small.sites).copied().collect(),
            operations: if_other(&whole.operations, &small.operations),
            clients: if_other(&whole.clients, &small.clients),
            keys: if_other(&whole.keys, &small.keys),
            nodes: if_other(&whole.nodes, &small.nodes),
            sloppy: if_other(&whole.sloppy, &small.sloppy),
            odd_quorums: if_other(&whole.odd_quorums, &small.odd_quorums),
            huge: if_other(&whole.huge, &small.huge),
        }
    }

    /// Makes these changes.
    pub(crate) fn apply(&self, mut scenario: Scenario) -> Scenario {
        scenario.faults.retain(|fault, _| !self.without.contains(fault));
        scenario.sites.retain(|site| !self.without_sites.contains(site));
        scenario.operations = self.operations.unwrap_or(scenario.operations);
        scenario.clients = self.clients.unwrap_or(scenario.clients).max(1);
        scenario.keys = self.keys.unwrap_or(scenario.keys).max(1);
        scenario.nodes = self.nodes.unwrap_or(scenario.nodes).max(scenario.owners).max(2);
        scenario.sloppy = self.sloppy.unwrap_or(scenario.sloppy);
        scenario.odd_quorums = self.odd_quorums.unwrap_or(scenario.odd_quorums);
        scenario.huge = self.huge.unwrap_or(scenario.huge);
        scenario
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.without.is_empty() {
            let names: Vec<String> =
                self.without.iter().map(|fault| format!("{fault:?}")).collect();
            write!(f, " --without {}", names.join(","))?;
        }
        if !self.without_sites.is_empty() {
            let names: Vec<String> =
                self.without_sites.iter().map(|site| format!("{site:?}")).collect();
            write!(f, " --without-sites {}", names.join(","))?;
        }
        let numbers = [
            ("operations", self.operations.map(|it| it.to_string())),
            ("clients", self.clients.map(|it| it.to_string())),
            ("keys", self.keys.map(|it| it.to_string())),
            ("nodes", self.nodes.map(|it| it.to_string())),
            ("sloppy", self.sloppy.map(|it| it.to_string())),
            ("odd-quorums", self.odd_quorums.map(|it| it.to_string())),
            ("huge", self.huge.map(|it| it.to_string())),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                write!(f, " --{name} {number}")?;
            }
        }
        Ok(())
    }
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let bounds = text.split_once("..").and_then(|(first, end)| {
        let (first, end) = (first.parse().ok()?, end.parse().ok()?);
        (first < end).then_some(first..end)
    });
    bounds.ok_or_else(|| "seeds read like 0..1000".to_owned())
}

fn parse_profile(name: &str) -> Result<Profile, String> {
    let names: Vec<&str> = Profile::all().iter().map(|profile| profile.name).collect();
    Profile::named(name).ok_or_else(|| format!("the profiles are {}", names.join(", ")))
}

fn parse_fault(name: &str) -> Result<Fault, String> {
    let named = Fault::ALL.iter().find(|fault| format!("{fault:?}") == name);
    named.copied().ok_or_else(|| format!("there is no fault {name}"))
}

fn parse_site(name: &str) -> Result<Site, String> {
    let named = Site::ALL.iter().find(|site| format!("{site:?}") == name);
    named.copied().ok_or_else(|| format!("there is no site {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn seeds_are_a_range_that_holds_something() {
        assert_eq!(parse_seeds("3..5"), Ok(3..5));
        assert!(["5..3", "3..3", "3", "a..b"].iter().all(|bad| parse_seeds(bad).is_err()));
    }

    #[test]
    fn what_was_taken_away_can_be_said_on_the_command_line() {
        let whole = Scenario::draw(7, &Profile::default());
        let mut small = whole.clone();
        small.operations = 12;
        small.faults.clear();
        small.sites.clear();
        let text = Changes::between(&whole, &small).to_string();
        let line = format!("quorate-sim replay 7{text}");
        let Command::Replay { changes, .. } = Cli::parse_from(line.split(' ')).command else {
            panic!("it says replay")
        };
        let again = changes.apply(whole);
        assert_eq!((again.operations, again.faults.len(), again.sites.len()), (12, 0, 0));
    }
}
