use std::{
    ffi::OsStr,
    io::{self, Read, Write},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use quorate_client::{Client, ClientOptions, GetOptions, PutOptions, Token};
use quorate_record::{Key, MAX_VALUE_BYTES};
use quorate_server::config::{Config, ConfigErrors, Overrides, Secret};
use tokio::runtime;

use crate::{
    Usage,
    args::{ClientArgs, KeyArgs, NodeArgs, OperatorArgs, PutArgs, TokenArgs},
    tls,
};

/// Stores a value.
pub(crate) fn put(args: PutArgs) -> Result<ExitCode> {
    let value = match args.value {
        Some(value) if value != "-" => value.into_vec(),
        _ => read_stdin()?,
    };
    let (key, client) = (key(&args.key)?, connect(&args.client)?);
    let (wait_for_owners, timeout) = (args.wait_owners, args.timeout);
    let options = PutOptions { wait_for_owners, timeout, ..PutOptions::default() };
    block_on(client.put(key.as_bytes(), value, &options))?.with_context(|| format!("put {key}"))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a value.
pub(crate) fn get(args: KeyArgs) -> Result<ExitCode> {
    let (key, client) = (key(&args.key)?, connect(&args.client)?);
    let found = block_on(client.get(key.as_bytes(), &GetOptions::default()))?
        .with_context(|| format!("get {key}"))?;
    let Some(found) = found else { return Ok(ExitCode::FAILURE) };
    let mut stdout = io::stdout().lock();
    stdout.write_all(&found.value).and_then(|()| stdout.flush()).context("stdout")?;
    Ok(ExitCode::SUCCESS)
}

/// Deletes a value.
pub(crate) fn delete(args: KeyArgs) -> Result<ExitCode> {
    let (key, client) = (key(&args.key)?, connect(&args.client)?);
    block_on(client.delete(key.as_bytes(), &PutOptions::default()))?
        .with_context(|| format!("delete {key}"))?;
    Ok(ExitCode::SUCCESS)
}

/// A client of the node that was asked for.
fn connect(ClientArgs { node, token: shown }: &ClientArgs) -> Result<Client> {
    let config = tls::is_wanted(&node.node).then(|| config(node)).transpose()?.flatten();
    let speaking = tls::Speaking { node: &node.node, ca: node.authority.ca.as_deref(), own: None };
    client(node, ClientOptions { token: token(shown)?, ..speaking.options(config.as_ref())? })
}

/// What to show to nodes that ask clients for a token.
pub(crate) fn token(args: &TokenArgs) -> Result<Option<Token>> {
    let token = args.token.as_ref().map(|token| {
        Token::new(token.reveal()).ok_or_else(|| Usage("the token is not visible ASCII".into()))
    });
    Ok(token.transpose()?)
}

/// A client for what only operators may see. It shows the cluster's secret, if that is known: from
/// the command line, the environment, or the configuration.
pub(crate) fn connect_as_operator(args: &OperatorArgs) -> Result<Client> {
    let config = config(&args.node)?;
    let operator_token = secret(args, config.as_ref()).map(|secret| {
        Token::new(secret.reveal()).ok_or_else(|| Usage("the secret is not visible ASCII".into()))
    });
    let own = args.client_cert.as_deref().zip(args.client_key.as_deref());
    let speaking = tls::Speaking {
        node: &args.node.node,
        ca: args.node.authority.ca.as_deref(),
        own: Some(own),
    };
    let options = speaking.options(config.as_ref())?;
    client(&args.node, ClientOptions { operator_token: operator_token.transpose()?, ..options })
}

fn client(args: &NodeArgs, options: ClientOptions) -> Result<Client> {
    let client = Client::new([authority(args)], options);
    client.map_err(|error| Usage(format!("--node: {error}")).into())
}

/// The first of the cluster's secrets.
fn secret(args: &OperatorArgs, config: Option<&Config>) -> Option<Secret> {
    if let Some(secret) = &args.secret.cluster_secret {
        return secret.reveal().split_whitespace().next().map(Secret::new);
    }
    config?.cluster_secrets.first().cloned()
}

/// The configuration that was named, or else that of this folder, if there is a good one.
fn config(args: &NodeArgs) -> Result<Option<Config>> {
    let here = PathBuf::from("nodes.json");
    let Some(path) = args.config.clone().or_else(|| here.exists().then_some(here)) else {
        return Ok(None);
    };
    match load_config(&path) {
        Ok(config) => Ok(Some(config)),
        Err(error) if args.config.is_some() => Err(error.into()),
        Err(error) => {
            tracing::warn!("no secret and no certificate is known: {error}");
            Ok(None)
        }
    }
}

/// A configuration as those need it who ask the nodes. Whether these may use their addresses, and what
/// secrets they have beside it, is for them to say.
pub(crate) fn load_config(path: &Path) -> Result<Config, ConfigErrors> {
    Config::load_with(path, &Overrides { insecure: true, ..Overrides::default() })
}

/// Host and port of the node that was asked for, which may have been given as a URL.
pub(crate) fn authority(args: &NodeArgs) -> &str {
    authority_of(&args.node)
}

/// Host and port of a node that may have been given as a URL.
pub(crate) fn authority_of(node: &str) -> &str {
    let stripped = node.strip_prefix("http://").or_else(|| node.strip_prefix("https://"));
    stripped.unwrap_or(node).trim_end_matches('/')
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
