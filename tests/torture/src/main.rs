//! Tortures clusters of real processes: see `scripts/torture`.

use std::{
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Parser;
use quorate_torture::{Kind, Options, run};

/// Brings faults over clusters of five real nodes, and judges what clients were told.
///
/// Exits with 1 if a promise was broken or a figure is beyond its bar.
#[derive(Debug, Parser)]
struct Args {
    /// What is to befall the nodes; one after the other, each over a new cluster. All kinds but
    /// `fast-clock` and `short` if none is named.
    kinds: Vec<Kind>,
    /// For how many seconds, each.
    #[arg(long, default_value_t = 180)]
    seconds: u64,
    /// What is drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many keys there are besides those that are asked for, so that a node that lost its disk has
    /// more to get again.
    #[arg(long, default_value_t = 0)]
    keys: u64,
    /// Give each node a network of its own, in which the kernel loses packets, instead of proxies. Needs
    /// Linux, root and iproute2; nothing is slow, reset or damaged then.
    #[arg(long)]
    namespaces: bool,
    /// Where the history of a run goes that ended badly.
    #[arg(long, default_value = "target/torture")]
    out: PathBuf,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let kinds = if args.kinds.is_empty() { Kind::EACH.to_vec() } else { args.kinds };
    let stop = stop_when_asked()?;
    let mut all_well = true;
    for kind in kinds {
        if kind.sets_clocks() && !program_sets_clocks()? {
            println!("{kind}: skipped, the program was built without the feature test-clock");
            continue;
        }
        let time = Duration::from_secs(args.seconds);
        let report = run(&Options {
            kind,
            time,
            seed: args.seed,
            keys: args.keys,
            namespaces: args.namespaces,
            stop: Arc::clone(&stop),
        });
        println!("{report}");
        if !report.is_ok() {
            all_well = false;
            let path = report.write(&args.out).context("the history cannot be written")?;
            println!("  history     {}", path.display());
        }
        if stop.load(Ordering::Relaxed) {
            println!("stopped early");
            return Ok(ExitCode::from(130));
        }
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether the nodes' program takes the option that sets its clock.
fn program_sets_clocks() -> Result<bool> {
    let status = Command::new(quorate_tests::program())
        .args(["serve", "--test-clock-offset-ms=0", "--help"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("quorate does not start")?;
    Ok(status.success())
}

/// Becomes true with SIGINT or SIGTERM, so that no node is left behind, least of all one that
/// stands still.
fn stop_when_asked() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminated = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
            let mut interrupted = signal(SignalKind::interrupt()).expect("SIGINT can be handled");
            tokio::select! {
                _ = terminated.recv() => {}
                _ = interrupted.recv() => {}
            }
            asked.store(true, Ordering::Relaxed);
        });
    });
    Ok(stop)
}
