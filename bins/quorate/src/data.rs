use std::{
    ffi::{OsStr, OsString},
    io::{self, Read, Write},
    os::unix::ffi::{OsStrExt, OsStringExt},
    process::ExitCode,
};

use anyhow::{Context, Result};
use quorate_client::{Client, ClientOptions, GetOptions, PutOptions};
use tokio::runtime;

use crate::{
    Usage,
    args::{KeyArgs, NodeArgs, PutArgs},
};

/// Stores a value.
pub(crate) fn put(args: PutArgs) -> Result<ExitCode> {
    let value = match args.value {
        Some(value) if value != "-" => value.into_vec(),
        _ => read_stdin()?,
    };
    let client = connect(&args.node)?;
    block_on(client.put(args.key.as_bytes(), value, &PutOptions::default()))?
        .with_context(|| what("put", &args.key))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a value.
pub(crate) fn get(args: KeyArgs) -> Result<ExitCode> {
    let client = connect(&args.node)?;
    let found = block_on(client.get(args.key.as_bytes(), &GetOptions::default()))?
        .with_context(|| what("get", &args.key))?;
    let Some(found) = found else { return Ok(ExitCode::FAILURE) };
    let mut stdout = io::stdout().lock();
    stdout.write_all(&found.value).and_then(|()| stdout.flush()).context("stdout")?;
    Ok(ExitCode::SUCCESS)
}

/// Deletes a value.
pub(crate) fn delete(args: KeyArgs) -> Result<ExitCode> {
    let client = connect(&args.node)?;
    block_on(client.delete(args.key.as_bytes(), &PutOptions::default()))?
        .with_context(|| what("delete", &args.key))?;
    Ok(ExitCode::SUCCESS)
}

/// A client of the node that was asked for.
pub(crate) fn connect(args: &NodeArgs) -> Result<Client> {
    let client = Client::new([authority(args)], ClientOptions::default());
    client.map_err(|error| Usage(format!("--node: {error}")).into())
}

/// Host and port of the node that was asked for, which may have been given as a URL.
pub(crate) fn authority(args: &NodeArgs) -> &str {
    args.node.strip_prefix("http://").unwrap_or(&args.node).trim_end_matches('/')
}

/// Runs one client call.
pub(crate) fn block_on<T>(call: impl Future<Output = T>) -> Result<T> {
    Ok(runtime::Builder::new_current_thread().enable_all().build()?.block_on(call))
}

fn what(command: &str, key: &OsStr) -> String {
    format!("{command} {}", OsString::from(key).display())
}

fn read_stdin() -> Result<Vec<u8>> {
    let mut value = Vec::new();
    io::stdin().lock().read_to_end(&mut value).context("stdin")?;
    Ok(value)
}
