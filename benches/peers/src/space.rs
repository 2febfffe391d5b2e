//! What the store takes on disk once much has been overwritten, and what clearing that away costs those who write.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use quorate_storage::SyncPolicy;

use crate::engines::{Engine, Quorate};
use crate::figures::{Clock, median, percentile};
use crate::workload::{KEY_BYTES, Random, VALUE_BYTES, Values, key};
use crate::{Bars, Common, disk_bytes};

const SPACE_BAR: f64 = 2.2;
const DELAY_BAR: f64 = 5.0;
/// A store is idle once what it takes on disk has been the same for so long.
const IDLE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How many puts are under way where they are not awaited.
const IN_FLIGHT: u64 = 64;

#[derive(clap::Args, Debug)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// Keys in the store
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// How many times as many puts to random keys follow
    #[arg(long, default_value_t = 5)]
    times: u64,
    /// How long to wait for the store to become idle, in seconds
    #[arg(long, default_value_t = 60)]
    idle_s: u64,
    /// Rounds of puts, each at rest and then during compaction and snapshots
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Puts under way together in a round; a tenth as many are awaited one by one
    #[arg(long, default_value_t = 200_000)]
    puts: u64,
    /// Sync before a put completes, for the delays
    #[arg(long)]
    synced: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let mut bars = Bars::new();
    let folder = options.common.folder()?;
    let (churned, share) = churn(options, folder.path())?;
    let ratios = delays(options, churned, folder.path())?;
    println!();
    bars.at_most("bytes on disk / key+value bytes", share, SPACE_BAR);
    for (name, ratio) in ratios {
        bars.at_most(&format!("99th percentile, {name}, meanwhile / at rest"), ratio, DELAY_BAR);
    }
    bars.close(options.common.check)
}

/// Fills a store, overwrites it, and looks at the disk: gives what it takes there, over its keys' and values' bytes.
fn churn(options: &Options, dir: &Path) -> Result<(Quorate, f64)> {
    let store = open(dir, options.synced)?;
    let values = Values::new(VALUE_BYTES);
    let mut value = Vec::new();
    let mut random = Random::new(1);
    let mut put = |number: u64, generation: u64| {
        values.fill(number, generation, &mut value);
        store.put(&key(number), &value)
    };
    let (over, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    let clock = Clock::start();
    std::thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                peak.fetch_max(disk_bytes(dir), Ordering::Relaxed);
                std::thread::sleep(LOOK_EVERY);
            }
        });
        let written = (0..options.keys).try_for_each(|number| put(number, 0)).and_then(|()| {
            let puts = options.keys * options.times;
            (0..puts).try_for_each(|generation| put(random.below(options.keys), generation + 1))
        });
        let settled = written.and_then(|()| store.settle());
        over.store(true, Ordering::Relaxed);
        settled
    })?;
    let wrote_s = clock.seconds();
    let clock = Clock::start();
    let idle = wait_until_idle(dir, Duration::from_secs(options.idle_s));
    let live = (options.keys * (KEY_BYTES + VALUE_BYTES) as u64) as f64;
    let stats = store.store().stats();
    let (rest, peak) = (disk_bytes(dir) as f64, peak.into_inner() as f64);
    println!(
        "{} keys, {} puts to random ones, {wrote_s:.1} s; {} after {:.1} s\n",
        options.keys,
        options.keys * options.times,
        if idle { "idle" } else { "NOT IDLE" },
        clock.seconds(),
    );
    println!("{:<26} {:>10} {:>12} {:>14}", "", "MB", "x key+value", "x live records");
    let line = |what: &str, bytes: f64| {
        println!(
            "{what:<26} {:>10.1} {:>12.2} {:>14.2}",
            bytes / 1e6,
            bytes / live,
            bytes / stats.live_bytes as f64
        );
    };
    line("key+value bytes", live);
    line("live records", stats.live_bytes as f64);
    line("on disk, idle", rest);
    line("on disk, peak", peak);
    Ok((store, rest / live))
}

fn open(dir: &Path, synced: bool) -> Result<Quorate> {
    let mut store_options = Quorate::options();
    if synced {
        store_options.log.sync = SyncPolicy::Always;
    }
    Ok(Quorate::open_with(dir, &store_options)?.0)
}

fn wait_until_idle(dir: &Path, limit: Duration) -> bool {
    let clock = Clock::start();
    let (mut bytes, mut since) = (disk_bytes(dir), Duration::ZERO);
    while clock.elapsed() < limit {
        std::thread::sleep(LOOK_EVERY);
        let now = disk_bytes(dir);
        if now != bytes {
            (bytes, since) = (now, clock.elapsed());
        } else if clock.elapsed() - since >= IDLE {
            return true;
        }
    }
    false
}

/// The 99th percentile of the time that a put takes, in nanoseconds.
struct Delays {
    together: u64,
    awaited: u64,
}

/// Puts to the churned store, whose compaction they set off, while it makes one snapshot after the other; and puts of
/// new keys to a store that has nothing to clear away.
fn delays(
    options: &Options,
    churned: Quorate,
    churned_dir: &Path,
) -> Result<Vec<(&'static str, f64)>> {
    let folder = options.common.folder()?;
    let rested = open(folder.path(), options.synced)?;
    let mut new_keys = 0..u64::MAX;
    let mut random = Random::new(2);
    let mut rounds: Vec<[Delays; 2]> = Vec::new();
    let mut snapshots = 0;
    for _ in 0..options.rounds {
        wait_until_idle(churned_dir, Duration::from_secs(10));
        let at_rest = measure(options.puts, &rested, || new_keys.next().expect("2^64 keys"))?;
        let over = AtomicBool::new(false);
        let meanwhile = std::thread::scope(|scope| {
            let snapshooter = scope.spawn(|| {
                let mut made = 0;
                while !over.load(Ordering::Relaxed) {
                    churned.store().snapshot().context("no snapshot")?;
                    made += 1;
                }
                anyhow::Ok(made)
            });
            let measured = measure(options.puts, &churned, || random.below(options.keys));
            over.store(true, Ordering::Relaxed);
            snapshots += snapshooter.join().expect("a snapshot does not panic")?;
            measured
        })?;
        rounds.push([at_rest, meanwhile]);
    }
    println!(
        "\n99th percentile of a put in us, medians of {} rounds; {snapshots} snapshots meanwhile\n",
        rounds.len()
    );
    println!("{:<22} {:>10} {:>10} {:>8}", "", "at rest", "meanwhile", "ratio");
    let mut ratios = Vec::new();
    for (name, of) in [
        ("64 under way", (|delays| delays.together) as fn(&Delays) -> u64),
        ("awaited one by one", |delays| delays.awaited),
    ] {
        let at_rest = median(rounds.iter().map(|[at_rest, _]| of(at_rest) as f64));
        let meanwhile = median(rounds.iter().map(|[_, meanwhile]| of(meanwhile) as f64));
        let ratio = median(rounds.iter().map(|[a, b]| of(b) as f64 / of(a) as f64));
        println!("{name:<22} {:>10.1} {:>10.1} {ratio:>7.2}x", at_rest / 1e3, meanwhile / 1e3);
        ratios.push((name, ratio));
    }
    Ok(ratios)
}

fn measure(puts: u64, store: &Quorate, mut pick: impl FnMut() -> u64) -> Result<Delays> {
    let values = Values::new(VALUE_BYTES);
    let mut value = Vec::new();
    let clock = Clock::start();
    let now = || clock.elapsed().as_nanos() as u64;

    let mut begun: Vec<u64> = Vec::with_capacity(puts as usize);
    let mut taken: Vec<u64> = Vec::with_capacity(puts as usize);
    let mut first_id = None;
    for put in 0..puts {
        let number = pick();
        values.fill(number, put, &mut value);
        begun.push(now());
        let id = store.submit(&key(number), &value)?;
        let first_id = *first_id.get_or_insert(id);
        let in_flight = if put + 1 == puts { 0 } else { IN_FLIGHT - 1 };
        store.settle_to(in_flight, |id| taken.push(now() - begun[(id - first_id) as usize]))?;
    }
    let together = percentile(&mut taken, 0.99);

    taken.clear();
    for put in 0..puts / 10 {
        let number = pick();
        values.fill(number, put, &mut value);
        let begun = now();
        store.put_awaited(&key(number), &value)?;
        taken.push(now() - begun);
    }
    Ok(Delays { together, awaited: percentile(&mut taken, 0.99) })
}
