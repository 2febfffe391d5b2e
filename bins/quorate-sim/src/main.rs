//! The `quorate-sim` program: simulated clusters by the thousand.

mod args;
#[cfg(feature = "planted-bugs")]
mod bugs;
mod campaign;

use std::{io::IsTerminal, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use quorate_simulator::{Report, Scenario, shrink};

use args::{Cli, Command, What};

fn main() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quorate-sim: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Does it, and says whether every promise was kept.
fn dispatch(command: Command) -> Result<bool> {
    match command {
        Command::Run { seeds, jobs, what, covering } => {
            let terminal = std::io::stderr().is_terminal();
            let ended = campaign::run(seeds, jobs.get().into(), &what, terminal);
            Ok(ended.failed == 0 && (ended.missed == 0 || !covering))
        }
        Command::Replay { seed, what, changes, brief } => {
            let scenario = changes.apply(Scenario::draw(seed, &what.profile));
            let report = what.run(&scenario, !brief);
            report.log.iter().for_each(|line| println!("{line}"));
            show(&report);
            Ok(report.is_ok())
        }
        Command::Hashes { seeds, what } => {
            for seed in seeds {
                let report = what.run(&Scenario::draw(seed, &what.profile), false);
                println!("{} {seed} {:016x}", what.profile.name, report.hash);
            }
            Ok(true)
        }
        Command::Shrink { seed, what } => {
            let scenario = Scenario::draw(seed, &what.profile);
            if what.run(&scenario, false).is_ok() {
                println!("seed {seed} breaks no promise");
                return Ok(true);
            }
            let small = shrink(&scenario, |it| !what.run(it, false).is_ok());
            show(&what.run(&small, false));
            let options = args::Changes::between(&scenario, &small);
            println!("repeat it with: {}{options}", what.command("replay", seed));
            Ok(false)
        }
        Command::Profiles { profile: Some(profile) } => {
            println!("{}: {}", profile.name, profile.about);
            for (fault, (least, most)) in &profile.faults {
                println!("{:16} {least:>6} to {most:<6}  {}", format!("{fault:?}"), fault.about());
            }
            Ok(true)
        }
        Command::Profiles { profile: None } => {
            for profile in quorate_simulator::Profile::all() {
                println!("{:10} {}", profile.name, profile.about);
            }
            Ok(true)
        }
        #[cfg(feature = "planted-bugs")]
        Command::Bugs(hunt) => bugs::run(&hunt),
        #[cfg(not(feature = "planted-bugs"))]
        Command::Bugs(_) => anyhow::bail!("this program was built without planted bugs"),
    }
}

/// Prints what became of one run.
fn show(report: &Report) {
    let Scenario { nodes, owners, quorum, clients, operations, keys, .. } = &report.scenario;
    let (r, w) = (quorum.r(), quorum.w());
    println!(
        "{nodes} nodes, n={owners} r={r} w={w}, {clients} clients, {operations} requests on {keys} keys"
    );
    let faults = report.scenario.faults.iter();
    let faults: Vec<String> =
        faults.map(|(fault, number)| format!("{fault} {number:.3}")).collect();
    let sites: Vec<String> = report.scenario.sites.iter().map(|site| format!("{site:?}")).collect();
    println!("sites: {}", if sites.is_empty() { "none".to_owned() } else { sites.join(", ") });
    println!("faults: {}", if faults.is_empty() { "none".to_owned() } else { faults.join(", ") });
    println!(
        "{} succeeded, {} failed, {:.1} virtual seconds, {} events, trace {:016x}",
        report.told.succeeded,
        report.told.failed,
        report.took.as_secs_f64(),
        report.events,
        report.hash
    );
    for table in &report.tables {
        println!("\n{table}");
    }
    for violation in &report.violations {
        println!("BROKEN: {violation}");
    }
}

impl What {
    fn run(&self, scenario: &Scenario, with_log: bool) -> Report {
        match self.liveness {
            true => quorate_simulator::run_liveness(scenario, with_log),
            false => quorate_simulator::run(scenario, with_log),
        }
    }

    /// The command that does this to a seed.
    fn command(&self, verb: &str, seed: u64) -> String {
        let liveness = if self.liveness { " --liveness" } else { "" };
        format!("quorate-sim {verb} {seed} --profile {}{liveness}", self.profile.name)
    }
}
