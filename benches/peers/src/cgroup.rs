//! A data set larger than the memory that a process may use.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::child::{run_to_end, say};
use crate::engines::{Engine, Quorate};
use crate::workload::{Random, Values, key};
use crate::{Bars, Common};

/// How much larger the data set is than the memory.
const TIMES: u64 = 5;
const VALUE_BYTES: usize = 4_096;
const IN_FLIGHT: u64 = 256;

#[derive(clap::Args, Debug)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// How much memory the process gets, page cache included
    #[arg(long, default_value_t = 64)]
    limit_mib: u64,
}

#[derive(clap::Args)]
pub struct Task {
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    keys: u64,
    /// The control group to join
    #[arg(long)]
    group: PathBuf,
}

/// A control group of our own, removed at the end.
struct Group {
    path: PathBuf,
    peak: &'static str,
}

impl Group {
    /// # Errors
    /// Whatever keeps this machine from limiting a process's memory, or us from doing so.
    fn new(limit_bytes: u64) -> Result<Self> {
        let name = format!("quorate-peers-{}", std::process::id());
        for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new) {
            let controllers =
                fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
            if controllers.split_whitespace().any(|controller| controller == "memory") {
                write(&root.join("cgroup.subtree_control"), "+memory")?;
                let group = Self::make(root.join(name), "memory.peak")?;
                write(&group.path.join("memory.max"), &limit_bytes.to_string())?;
                let _ = fs::write(group.path.join("memory.swap.max"), "0"); // absent without swap
                return Ok(group);
            }
        }
        let root = Path::new("/sys/fs/cgroup/memory");
        ensure!(root.join("memory.limit_in_bytes").exists(), "no control group limits memory");
        let group = Self::make(root.join(name), "memory.max_usage_in_bytes")?;
        write(&group.path.join("memory.limit_in_bytes"), &limit_bytes.to_string())?;
        Ok(group)
    }

    fn make(path: PathBuf, peak: &'static str) -> Result<Self> {
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, peak })
    }

    fn peak_bytes(&self) -> u64 {
        let peak = fs::read_to_string(self.path.join(self.peak)).unwrap_or_default();
        peak.trim().parse().unwrap_or(0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path); // nothing but an empty group is left behind
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

pub fn run(options: &Options) -> Result<()> {
    let limit_bytes = options.limit_mib << 20;
    let group = match Group::new(limit_bytes) {
        Ok(group) => group,
        Err(error) => {
            println!("skipped: needs Linux, root and control groups for memory: {error:#}");
            return Ok(());
        }
    };
    let keys = TIMES * limit_bytes / VALUE_BYTES as u64;
    let folder = options.common.folder()?;
    let (dir, path) = (folder.path().to_string_lossy(), group.path.to_string_lossy());
    let count = keys.to_string();
    let outcome = run_to_end(&["cgroup", "--dir", &dir, "--keys", &count, "--group", &path]);
    println!(
        "{keys} values, {:.0} MB, with {:.0} MB of memory; at most {:.0} MB used, page cache included\n",
        keys as f64 * VALUE_BYTES as f64 / 1e6,
        limit_bytes as f64 / 1e6,
        group.peak_bytes() as f64 / 1e6,
    );
    let right = match outcome.and_then(|said| said.get("right")) {
        Ok(right) => right,
        Err(error) => {
            println!("{error:#}");
            0.0
        }
    };
    let mut bars = Bars::new();
    bars.at_least("values read back right, also after reopening", right, keys as f64);
    bars.close(options.common.check)
}

pub fn child(task: &Task) -> Result<()> {
    write(&task.group.join("cgroup.procs"), &std::process::id().to_string())?;
    let values = Values::new(VALUE_BYTES);
    let mut value = Vec::new();
    let (store, _) = Quorate::open_with(&task.dir, &Quorate::options())?;
    for number in 0..task.keys {
        values.fill(number, 0, &mut value);
        store.submit(&key(number), &value)?;
        store.settle_to(IN_FLIGHT, |_| {})?;
    }
    store.settle()?;
    verify(&store, &values, task.keys)?;
    store.stop()?;
    let (store, _) = Quorate::open_with(&task.dir, &Quorate::options())?;
    verify(&store, &values, task.keys)?;
    say("right", task.keys)
}

/// Every value, in an order that suits no cache.
fn verify(store: &Quorate, values: &Values, keys: u64) -> Result<()> {
    let mut order: Vec<u64> = (0..keys).collect();
    let mut random = Random::new(5);
    for at in (1..order.len()).rev() {
        order.swap(at, random.below(at as u64 + 1) as usize);
    }
    for number in order {
        let right = store.get(&key(number), |value| values.is_exactly_of(number, value))?;
        ensure!(right == Some(true), "key {number} has {right:?}");
    }
    Ok(())
}
