use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use anyhow::{Context, Result};
use quorate_storage::{RealFs, doctor::ReadOnlyFs, lock_dir_unchanged};

use crate::{
    args::{BackupArgs, RestoreArgs},
    data::{authority, block_on, connect_as_operator},
    doctor::{check_new, wall_ms},
};

/// Has a node write a backup, and prints where it is on that node's machine.
pub(crate) fn backup(args: &BackupArgs) -> Result<ExitCode> {
    let client = connect_as_operator(&args.operator)?;
    let made = block_on(client.backup(authority(&args.operator.node), &args.name))?
        .with_context(|| format!("backup of {}", args.operator.node.node))?;
    println!("{}", made["path"].as_str().unwrap_or(&args.name));
    eprintln!("{} files, {} bytes", made["files"], made["bytes"]);
    Ok(ExitCode::SUCCESS)
}

/// Makes a data folder from a backup.
pub(crate) fn restore(args: &RestoreArgs) -> Result<ExitCode> {
    let RestoreArgs { backup_dir, data_dir, id } = args;
    // First, since that says the most about a folder where a node runs.
    let _lock = lock_dir_unchanged(data_dir)?;
    check_new(backup_dir, data_dir)?;
    let mut shown = Progress { percent: 0, is_shown: io::stderr().is_terminal() };
    let mut each = |done, all| shown.show(done, all);
    let restored = quorate_storage::restore(
        &ReadOnlyFs,
        backup_dir,
        &RealFs,
        data_dir,
        *id,
        wall_ms(),
        &mut each,
    )
    .with_context(|| format!("cannot restore {}", backup_dir.display()))?;
    println!(
        "Restored {} files, {} bytes, of node {} to {}.",
        restored.files,
        restored.bytes,
        restored.meta.node,
        data_dir.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// A line on the terminal that is written over.
struct Progress {
    percent: u64,
    is_shown: bool,
}

impl Progress {
    fn show(&mut self, done: u64, all: u64) {
        let percent = done * 100 / all.max(1);
        if !self.is_shown || percent == self.percent {
            return;
        }
        self.percent = percent;
        eprint!("\r{percent} %{}", if done == all { "\n" } else { "" });
    }
}
