use std::{
    ffi::OsStr,
    io::{self, Read, Write},
    os::unix::ffi::{OsStrExt, OsStringExt},
    process::ExitCode,
};

use anyhow::{Context, Result};
use quorate_client::{Client, ClientOptions, GetOptions, PutOptions};
use quorate_record::{Key, MAX_VALUE_BYTES};
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
    let (key, client) = (key(&args.key)?, connect(&args.node)?);
    block_on(client.put(key.as_bytes(), value, &PutOptions::default()))?
        .with_context(|| format!("put {key}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a value.
pub(crate) fn get(args: KeyArgs) -> Result<ExitCode> {
    let (key, client) = (key(&args.key)?, connect(&args.node)?);
    let found = block_on(client.get(key.as_bytes(), &GetOptions::default()))?
        .with_context(|| format!("get {key}"))?;
    let Some(found) = found else { return Ok(ExitCode::FAILURE) };
    let mut stdout = io::stdout().lock();
    stdout.write_all(&found.value).and_then(|()| stdout.flush()).context("stdout")?;
    Ok(ExitCode::SUCCESS)
}

/// Deletes a value.
pub(crate) fn delete(args: KeyArgs) -> Result<ExitCode> {
    let (key, client) = (key(&args.key)?, connect(&args.node)?);
    block_on(client.delete(key.as_bytes(), &PutOptions::default()))?
        .with_context(|| format!("delete {key}"))?;
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

fn key(text: &OsStr) -> Result<Key> {
    let bytes = text.as_bytes().to_vec();
    Key::new(bytes).map_err(|error| Usage(format!("KEY: {error}")).into())
}

/// One byte more than a value may have is enough to be told that it is too long.
fn read_stdin() -> Result<Vec<u8>> {
    let mut value = Vec::new();
    let most = MAX_VALUE_BYTES as u64 + 1;
    io::stdin().lock().take(most).read_to_end(&mut value).context("stdin")?;
    Ok(value)
}
