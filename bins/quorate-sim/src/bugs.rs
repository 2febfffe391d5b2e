use std::{
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use anyhow::{Context, Result};
use quorate_planted::Bug;
use quorate_simulator::bugs::{Found, hunt, known};

use crate::args::BugHunt;

/// How far apart the seeds are at which hunts start.
const STRIDE: u64 = 100_000;

/// Plants one bug after the other, prints who found it and how soon, and says whether all were found.
pub(crate) fn run(options: &BugHunt) -> Result<bool> {
    let bugs = match options.names.as_slice() {
        [] => Bug::ALL.to_vec(),
        names => names.iter().map(|name| named(name)).collect::<Result<_>>()?,
    };
    // A panic of the code under test is a find like any other.
    std::panic::set_hook(Box::new(|_| {}));
    println!("{:<28} {:>6} {:>6}  {:<8} found by", "bug", "first", "median", "profile");
    let (next, all_found) = (AtomicUsize::new(0), AtomicBool::new(true));
    let (sender, lines) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..options.jobs.get() {
            let (sender, next, bugs, all_found) = (sender.clone(), &next, &bugs, &all_found);
            scope.spawn(move || {
                while let Some(&bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (line, found) = look_for(bug, options);
                    all_found.fetch_and(found, Ordering::Relaxed);
                    if sender.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        lines.into_iter().for_each(|line| println!("{line}"));
    });
    Ok(all_found.into_inner())
}

fn named(name: &str) -> Result<Bug> {
    let names: Vec<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
    Bug::from_name(name).with_context(|| format!("no bug is called {name}; {}", names.join(", ")))
}

/// A line of the table, and whether every start led to the bug.
fn look_for(bug: Bug, options: &BugHunt) -> (String, bool) {
    let profile = options.profile.clone().unwrap_or_else(|| known(bug).0);
    let starts = (0..u64::from(options.starts.get())).map(|start| start * STRIDE);
    let hunts = starts.map(|start| hunt(bug, &profile, start..start + options.seeds));
    let hunts: Vec<Option<Found>> = hunts.collect();
    let mut tried: Vec<u64> =
        hunts.iter().map(|hunt| hunt.as_ref().map_or(u64::MAX, |found| found.tried)).collect();
    tried.sort_unstable();
    let name = bug.name();
    let line = match (&hunts[0], tried[tried.len() / 2]) {
        (Some(Found { seed, by, what, .. }), median) if median < u64::MAX => {
            let by: Vec<&str> = by.iter().map(String::as_str).collect();
            let what: String = what.chars().take(100).collect();
            let by = by.join(", ");
            format!("{name:<28} {seed:>6} {median:>6}  {:<8} {by}: {what}", profile.name)
        }
        _ => format!("{name:<28} NOT FOUND within {} seeds of {}", options.seeds, profile.name),
    };
    (line, hunts.iter().all(Option::is_some))
}
