use std::{
    ops::Range,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use quorate_simulator::{Coverage, Report, Scenario};

use crate::args::What;

/// How many failures are shown in full.
const SHOWN: u64 = 5;

/// From so many seeds on, whatever was not reached is missing.
const ENOUGH: u64 = 2_000;

/// What came of all seeds.
pub(crate) struct Ended {
    /// How many broke a promise.
    pub(crate) failed: u64,
    /// How much of what they should have reached they did not.
    pub(crate) missed: usize,
}

/// Runs all seeds and prints what was reached and what was not.
pub(crate) fn run(seeds: Range<u64>, jobs: usize, what: &What, terminal: bool) -> Ended {
    let count = seeds.end - seeds.start;
    let next = AtomicU64::new(seeds.start);
    let began = now();
    let (sender, reports) = mpsc::channel::<(u64, Report)>();
    let mut coverage = Coverage::default();
    let (mut done, mut failed, mut requests, mut virtual_time) = (0, 0, 0, Duration::ZERO);
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let report = what.run(&Scenario::draw(seed, &what.profile), false);
                    if sender.send((seed, report)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (seed, report) in reports {
            done += 1;
            requests += report.told.succeeded + report.told.failed;
            virtual_time += report.took;
            coverage.merge(&report.coverage);
            if !report.is_ok() {
                failed += 1;
                if failed <= SHOWN {
                    show_failure(seed, &report, what);
                }
            }
            let line_due = if terminal { done % 20 == 0 } else { done % 1_000 == 0 };
            if line_due || done == count {
                let rate = done as f64 / began.elapsed().as_secs_f64();
                let text = format!("{done} of {count} seeds, {rate:.0} a second, {failed} failed");
                match terminal {
                    true => eprint!("\r[{}] {text} ", bar(done, count)),
                    false => eprintln!("{text}"),
                }
            }
        }
    });
    if terminal {
        eprintln!();
    }
    for (reached, times) in coverage.iter() {
        println!("{times:>10}  {reached}");
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{count} seeds of profile {} in {seconds:.1} s, {:.1} a second; {requests} requests in {} virtual seconds; {failed} failed",
        what.profile.name,
        count as f64 / seconds,
        virtual_time.as_secs(),
    );
    let missed = if what.liveness { 0 } else { show_missed(&coverage, count, what) };
    Ended { failed, missed }
}

/// Says what the profile should have reached and did not, and how much that is.
fn show_missed(coverage: &Coverage, seeds: u64, what: &What) -> usize {
    let reaches = what.profile.reaches();
    let missed: Vec<&str> = reaches.iter().copied().filter(|it| coverage.of(it) == 0).collect();
    if missed.is_empty() {
        println!("all {} faults, sites and states of this profile were reached", reaches.len());
        return 0;
    }
    missed.iter().for_each(|it| println!("NOT REACHED  {it}"));
    if seeds < ENOUGH {
        println!("(which may take some {ENOUGH} seeds)");
    }
    missed.len()
}

/// How far it has come, 20 characters wide.
fn bar(done: u64, count: u64) -> String {
    const WIDTH: u64 = 20;
    (0..WIDTH).map(|place| if place * count < done * WIDTH { '#' } else { '.' }).collect()
}

fn show_failure(seed: u64, report: &Report, what: &What) {
    println!("seed {seed} breaks {} promises:", report.violations.len());
    for violation in report.violations.iter().take(4) {
        println!("  {violation}");
    }
    println!("  repeat it with: {}", what.command("replay", seed));
}

#[expect(clippy::disallowed_methods, reason = "how fast it runs is a matter of real time")]
fn now() -> Instant {
    Instant::now()
}
