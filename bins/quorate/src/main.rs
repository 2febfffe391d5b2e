//! The `quorate` program: runs nodes and clusters, and talks to them.

mod args;
mod backup;
mod bench;
mod cluster;
mod converge;
mod data;
mod doctor;
mod files;
mod gone;
mod serve;
mod spelling;
mod status;
mod tls;

use std::{
    env,
    io::{self, IsTerminal},
    process::ExitCode,
};

use anyhow::Result;
use clap::Parser;
use quorate_server::config::ConfigErrors;

use args::{Cli, Command};

/// A request allocates some thirty times: with the system's allocator that is a seventh of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code of a command that was used in a wrong way.
const BAD_USAGE: u8 = 2;

/// A wrong use of the program that only shows once it runs.
#[derive(Debug)]
struct Usage(String);

impl std::error::Error for Usage {}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse_from(spelling::normalise(env::args_os()));
    tracing_subscriber::fmt()
        .with_max_level(cli.log)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    run(cli.command).unwrap_or_else(|error| {
        eprintln!("quorate: {error:#}");
        let bad_usage = error.is::<Usage>() || error.is::<ConfigErrors>();
        ExitCode::from(if bad_usage { BAD_USAGE } else { 1 })
    })
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Cluster(args) => cluster::run(args),
        Command::Serve(args) => serve::run(*args),
        Command::Put(args) => data::put(args),
        Command::Get(args) => data::get(args),
        Command::Delete(args) => data::delete(args),
        Command::Status(args) => status::run(args),
        Command::Bench(args) => bench::run(&args),
        Command::Doctor(args) => Ok(doctor::run(&args)),
        Command::Import(_) => not_there_yet("import"),
        Command::Backup(args) => backup::backup(&args),
        Command::Gone(args) => gone::run(&args),
        Command::Restore(args) => backup::restore(&args),
        Command::Converge(args) => converge::run(&args),
    }
}

fn not_there_yet(command: &str) -> Result<ExitCode> {
    Err(Usage(format!("`{command}` is not there yet; it comes with a later version")).into())
}
