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

/// Runs all seeds, prints what was reached, and says whether every promise was kept.
pub(crate) fn run(seeds: Range<u64>, jobs: usize, what: &What, progress: bool) -> bool {
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
            if progress && (done % 20 == 0 || done == count) {
                let rate = done as f64 / began.elapsed().as_secs_f64();
                eprint!("\r{done} of {count} seeds, {rate:.0} a second, {failed} failed ");
            }
        }
    });
    if progress {
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
    failed == 0
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
