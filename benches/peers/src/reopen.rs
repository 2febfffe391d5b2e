//! How long it takes until a store is open again, after a clean stop and after none.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::child::{Said, run_to_end, say, start};
use crate::engines::{Engine, Quorate};
use crate::figures::{Clock, median};
use crate::workload::{Random, VALUE_BYTES, Values, key};
use crate::{Bars, Common};

/// Seconds a million keys.
const CLEAN_BAR_S: f64 = 0.15;
/// Seconds a million keys, more than reading the same bytes takes.
const KILLED_BAR_S: f64 = 0.5;
const IN_FLIGHT: u64 = 4_096;
/// For how long a store is written to before the process is killed.
const LAST_WRITES: Duration = Duration::from_millis(300);
const READ_BYTES: usize = 1 << 20;
const SAMPLE: u64 = 10_000;

#[derive(clap::Args, Debug)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// How many keys; several sizes, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "1000000,5000000")]
    keys: Vec<u64>,
    /// Rounds; the medians count
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

#[derive(clap::Args)]
pub struct FillTask {
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    keys: u64,
    /// Only the last writes: the keys are there
    #[arg(long)]
    filled: bool,
    /// Overwrite until killed
    #[arg(long)]
    endless: bool,
}

#[derive(clap::Args)]
pub struct ReopenTask {
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    keys: u64,
    /// Stop without closing the store
    #[arg(long)]
    abandon: bool,
}

pub fn run(options: &Options) -> Result<()> {
    println!(
        "Seconds until a store is open again, in a new process, files in the page cache; medians of {} rounds\n",
        options.rounds
    );
    println!(
        "{:>10} {:>14} {:>8} {:>9} {:>9} {:>8} {:>12}",
        "keys", "after", "MB", "bare read", "open", "more", "us/1000 keys"
    );
    let mut met = Bars::new();
    let mut bars: Vec<(String, f64, f64)> = Vec::new();
    for &keys in &options.keys {
        let millions = keys as f64 / 1e6;
        let clean = rounds(options, keys, false)?;
        clean.print(keys, "a clean stop");
        bars.push((
            format!("open after a clean stop, {keys} keys"),
            clean.open_s,
            CLEAN_BAR_S * millions,
        ));
        let killed = rounds(options, keys, true)?;
        killed.print(keys, "SIGKILL");
        bars.push((
            format!("open after SIGKILL less bare read, {keys} keys"),
            killed.more_s,
            KILLED_BAR_S * millions,
        ));
    }
    println!();
    bars.iter().for_each(|(what, is, bar)| met.at_most(what, *is, *bar));
    met.close(options.common.check)
}

struct Medians {
    bytes: f64,
    read_s: f64,
    open_s: f64,
    more_s: f64,
}

impl Medians {
    fn print(&self, keys: u64, after: &str) {
        println!(
            "{keys:>10} {after:>14} {:>8.1} {:>9.3} {:>9.3} {:>8.3} {:>12.1}",
            self.bytes / 1e6,
            self.read_s,
            self.open_s,
            self.more_s,
            self.open_s * 1e9 / keys as f64,
        );
    }
}

fn rounds(options: &Options, keys: u64, killed: bool) -> Result<Medians> {
    let folder = options.common.folder()?;
    let dir = folder.path().to_string_lossy();
    let count = keys.to_string();
    let place = ["--dir", &*dir, "--keys", &count];
    let with = |task, flags: &[&'static str]| [&[task][..], &place, flags].concat();
    if !killed {
        run_to_end(&with("fill", &[]))?;
    }
    let mut said: Vec<Said> = Vec::new();
    for round in 0..options.rounds {
        if killed {
            let flags = if round == 0 { &["--endless"][..] } else { &["--endless", "--filled"] };
            let mut writer = start(&with("fill", flags))?;
            writer.until("filled")?;
            std::thread::sleep(LAST_WRITES);
            writer.kill()?;
        }
        said.push(run_to_end(&with("reopen", if killed { &["--abandon"] } else { &[] }))?);
    }
    let all = |name: &str| said.iter().map(|said| said.get(name)).collect::<Result<Vec<f64>>>();
    let (read_s, open_s) = (all("read_s")?, all("open_s")?);
    let more_s = read_s.iter().zip(&open_s).map(|(read, open)| open - read);
    Ok(Medians {
        bytes: median(all("bytes")?),
        more_s: median(more_s),
        read_s: median(read_s),
        open_s: median(open_s),
    })
}

pub fn fill(task: &FillTask) -> Result<()> {
    let (store, _) = Quorate::open_with(&task.dir, &Quorate::options())?;
    let values = Values::new(VALUE_BYTES);
    let mut value = Vec::new();
    let mut put = |number: u64, generation: u64| -> Result<()> {
        values.fill(number, generation, &mut value);
        store.submit(&key(number), &value)?;
        if generation.is_multiple_of(256) { store.settle_to(IN_FLIGHT, |_| {}) } else { Ok(()) }
    };
    if !task.filled {
        (0..task.keys).try_for_each(|number| put(number, number))?;
        store.settle()?;
    }
    say("filled", task.keys)?;
    if task.endless {
        let (clock, mut random) = (Clock::start(), Random::new(3));
        for generation in 0.. {
            put(random.below(task.keys), generation)?;
            // Nobody came to kill it.
            if clock.elapsed() > Duration::from_secs(60) {
                break;
            }
        }
    }
    store.stop()
}

pub fn reopen(task: &ReopenTask) -> Result<()> {
    read_all(&task.dir)?; // into the page cache
    let clock = Clock::start();
    say("bytes", read_all(&task.dir)?)?;
    say("read_s", clock.seconds())?;
    let clock = Clock::start();
    let (store, found) = Quorate::open_with(&task.dir, &Quorate::options())?;
    say("open_s", clock.seconds())?;
    ensure!(found.damages.is_empty(), "damage: {:?}", found.damages);
    ensure!(
        store.store().stats().keys == task.keys,
        "{} keys are there",
        store.store().stats().keys
    );
    let values = Values::new(VALUE_BYTES);
    let mut random = Random::new(4);
    for _ in 0..SAMPLE.min(task.keys) {
        let number = random.below(task.keys);
        let right = store.get(&key(number), |value| values.is_exactly_of(number, value))?;
        ensure!(right == Some(true), "key {number} has {right:?}");
    }
    if task.abandon {
        std::process::exit(0);
    }
    store.stop()
}

fn read_all(path: &Path) -> Result<u64> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path)?;
        return entries.map(|entry| read_all(&entry?.path())).sum();
    }
    let (mut file, mut buffer, mut bytes) = (File::open(path)?, vec![0; READ_BYTES], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(bytes),
            read => bytes += read as u64,
        }
    }
}
