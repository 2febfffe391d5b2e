//! The store of Quorate beside other embedded stores, and against its own limits; see the README.

mod cgroup;
mod child;
mod compare;
mod engines;
mod figures;
mod memory;
mod reopen;
mod space;
mod workload;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use tempfile::TempDir;

#[derive(Parser)]
#[command(
    about = "Measures the store of Quorate beside other embedded stores, and against its own limits"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Thousands of operations a second, beside redb, sled, fjall and RocksDB
    Compare(compare::Options),
    /// Bytes of memory a key
    Memory(memory::Options),
    /// Bytes on disk after overwriting, and how long puts take meanwhile
    Space(space::Options),
    /// How long opening takes after a clean stop and after SIGKILL
    Reopen(reopen::Options),
    /// A data set larger than the memory there is (Linux, root)
    Cgroup(cgroup::Options),
    /// What the others run in a process of its own
    #[command(subcommand, hide = true)]
    Child(child::Task),
}

/// What all measurements share.
#[derive(Args, Clone, Debug)]
struct Common {
    /// The folder to work in; it should be on a disk. By default that for temporary files
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Fail if a bar is missed
    #[arg(long)]
    check: bool,
}

impl Common {
    fn folder(&self) -> Result<TempDir> {
        let parent = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        tempfile::Builder::new()
            .prefix("quorate-peers-")
            .tempdir_in(&parent)
            .with_context(|| format!("cannot make a folder in {}", parent.display()))
    }
}

/// What was asked of a figure, and whether it was given.
struct Bars {
    missed: Vec<String>,
}

impl Bars {
    fn new() -> Self {
        Self { missed: Vec::new() }
    }

    fn at_least(&mut self, what: &str, is: f64, bar: f64) {
        self.judge(what, is, ">=", bar, is >= bar);
    }

    fn at_most(&mut self, what: &str, is: f64, bar: f64) {
        self.judge(what, is, "<=", bar, is <= bar);
    }

    fn judge(&mut self, what: &str, is: f64, relation: &str, bar: f64, holds: bool) {
        let verdict = if holds { "met" } else { "MISSED" };
        println!("{verdict:<6}  {what}: {is:.3} {relation} {bar:.3}");
        if !holds {
            self.missed.push(what.to_owned());
        }
    }

    /// Says how it went; an error if a bar was missed and `check` was asked for.
    fn close(self, check: bool) -> Result<()> {
        anyhow::ensure!(!check || self.missed.is_empty(), "missed: {}", self.missed.join(", "));
        Ok(())
    }
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Compare(options) => compare::run(&options),
        Command::Memory(options) => memory::run(&options),
        Command::Space(options) => space::run(&options),
        Command::Reopen(options) => reopen::run(&options),
        Command::Cgroup(options) => cgroup::run(&options),
        Command::Child(task) => child::run(&task),
    }
}

/// The bytes of all files below `dir` that take up blocks, as `du` counts them.
fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 }; // gone meanwhile
    let bytes_of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(bytes_of).sum()
}
