//! Work in a process of its own: so that its memory, and its end, are its own. It prints `name value` lines.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write, stdout};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Subcommand;

use crate::{cgroup, memory, reopen};

#[derive(Subcommand)]
pub enum Task {
    Memory(memory::Task),
    Fill(reopen::FillTask),
    Reopen(reopen::ReopenTask),
    Cgroup(cgroup::Task),
}

pub fn run(task: &Task) -> Result<()> {
    match task {
        Task::Memory(task) => memory::child(task),
        Task::Fill(task) => reopen::fill(task),
        Task::Reopen(task) => reopen::reopen(task),
        Task::Cgroup(task) => cgroup::child(task),
    }
}

/// Says something to the parent.
pub fn say(name: &str, value: impl std::fmt::Display) -> Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "{name} {value}")?;
    Ok(out.flush()?)
}

pub struct Started {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

/// Starts this program again, with these arguments behind `child`.
pub fn start(arguments: &[&str]) -> Result<Started> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new(program);
    let mut child = command.arg("child").args(arguments).stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
    Ok(Started { child, lines })
}

/// What a child said, once it has ended well.
pub fn run_to_end(arguments: &[&str]) -> Result<Said> {
    let mut started = start(arguments)?;
    let mut said = Said::default();
    for line in &mut started.lines {
        said.take(&line?)?;
    }
    let status = started.child.wait()?;
    ensure!(status.success(), "{} ended with {status}", arguments.join(" "));
    Ok(said)
}

impl Started {
    /// Waits until the child says `name`.
    pub fn until(&mut self, name: &str) -> Result<()> {
        loop {
            let line = self.lines.next().with_context(|| format!("no {name} before its end"))??;
            if line.split_once(' ').is_some_and(|(said, _)| said == name) {
                return Ok(());
            }
        }
    }

    /// Ends the child as a crash would (SIGKILL).
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

#[derive(Default)]
pub struct Said(BTreeMap<String, f64>);

impl Said {
    fn take(&mut self, line: &str) -> Result<()> {
        let (name, value) = line.split_once(' ').with_context(|| format!("what is {line:?}?"))?;
        self.0.insert(name.to_owned(), value.parse()?);
        Ok(())
    }

    pub fn get(&self, name: &str) -> Result<f64> {
        self.0.get(name).copied().with_context(|| format!("the child did not say {name}"))
    }
}
