//! How much memory a key takes, above what the store takes without keys.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::child::{run_to_end, say};
use crate::engines::Quorate;
use crate::figures::status_bytes;
use crate::workload::{VALUE_BYTES, Values, key};
use crate::{Bars, Common};

const BAR_BYTES: f64 = 72.0;
/// So few that they take next to nothing, and as many puts to them as warm up every buffer.
const FEW_KEYS: u64 = 1_000;
const FEW_PUTS: u64 = 1_000_000;
/// How many puts are under way at most.
const IN_FLIGHT: u64 = 4_096;

#[derive(clap::Args, Debug)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// How many keys; several sizes, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "1000000,5000000")]
    keys: Vec<u64>,
}

#[derive(clap::Args)]
pub struct Task {
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    keys: u64,
    /// 0 to look at what is there
    #[arg(long)]
    puts: u64,
}

pub fn run(options: &Options) -> Result<()> {
    println!(
        "Memory in bytes above that of {FEW_KEYS} keys (RssAnon: page cache does not count), a process each\n"
    );
    println!("{:>10} {:>14} {:>14}", "keys", "after filling", "after opening");
    let few = measure(options, FEW_KEYS, FEW_PUTS)?;
    println!("{FEW_KEYS:>10} {:>12.1} M {:>12.1} M", few.filled / 1e6, few.opened / 1e6);
    let mut bars = Vec::new();
    for &keys in &options.keys {
        let many = measure(options, keys, keys)?;
        let more = keys.saturating_sub(FEW_KEYS).max(1) as f64;
        let filled = (many.filled - few.filled) / more;
        let opened = (many.opened - few.opened) / more;
        println!("{keys:>10} {filled:>8.1} a key {opened:>8.1} a key");
        bars.push((format!("bytes a key, {keys} keys, filled"), filled));
        bars.push((format!("bytes a key, {keys} keys, opened"), opened));
    }
    println!();
    let mut met = Bars::new();
    bars.iter().for_each(|(what, is)| met.at_most(what, *is, BAR_BYTES));
    met.close(options.common.check)
}

struct Measured {
    filled: f64,
    opened: f64,
}

fn measure(options: &Options, keys: u64, puts: u64) -> Result<Measured> {
    let folder = options.common.folder()?;
    let dir = folder.path().to_string_lossy();
    let rss = |puts: u64| {
        let (keys, puts) = (keys.to_string(), puts.to_string());
        run_to_end(&["memory", "--dir", &dir, "--keys", &keys, "--puts", &puts])?.get("rss")
    };
    Ok(Measured { filled: rss(puts)?, opened: rss(0)? })
}

pub fn child(task: &Task) -> Result<()> {
    let (store, _) = Quorate::open_with(&task.dir, &Quorate::options())?;
    let values = Values::new(VALUE_BYTES);
    let mut value = Vec::new();
    for put in 0..task.puts {
        let number = put % task.keys;
        values.fill(number, put, &mut value);
        store.submit(&key(number), &value)?;
        if put % 256 == 0 {
            store.settle_to(IN_FLIGHT, |_| {})?;
        }
    }
    store.settle_to(0, |_| {})?;
    // What goes on in the background takes memory of its own for as long as it does.
    let mut least = u64::MAX;
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(300));
        least = least.min(status_bytes("RssAnon")?);
    }
    say("rss", least)
}
