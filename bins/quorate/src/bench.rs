use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result};
use quorate_client::ClientOptions;
use quorate_load::{LoadError, Pace, Plan, Progress, Report, Requests, Workload};
use quorate_server::config::{Config, ConfigErrors};
use tokio::{runtime, signal::ctrl_c};

use crate::{
    Usage,
    args::BenchArgs,
    data::{authority_of, load_config, token},
    files,
    tls::Speaking,
};

const USUAL_CONFIG: &str = "nodes.json";
const USUAL_NODES: [&str; 3] = ["127.0.0.1:9001", "127.0.0.1:9002", "127.0.0.1:9003"];

/// Measures a cluster under load.
pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode> {
    files::raise_limit();
    let plan = plan(args)?;
    let shows_progress = args.progress || (!args.quiet && io::stderr().is_terminal());
    let on_progress = |progress: &Progress| {
        if shows_progress {
            // Back to the beginning of the line, and nothing left of a longer one.
            eprint!("\r{}\x1b[K", progress.line());
        }
    };
    let stop = async {
        // Without the signal, the run goes on to its end.
        if ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(quorate_load::run(&plan, stop, on_progress));
    if shows_progress {
        eprint!("\r\x1b[K");
    }
    let report = outcome.map_err(|error| match error {
        LoadError::Plan(_) | LoadError::Address(_) => Usage(error.to_string()).into(),
        error => anyhow::Error::from(error),
    })?;
    write_out(args, &report)?;
    // Nothing that ended well is nothing measured.
    let is_nothing = report.total.done == 0 && report.total.per_second == 0.0;
    Ok(if is_nothing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn plan(args: &BenchArgs) -> Result<Plan> {
    let pace = match args.rate {
        None => Pace::Closed,
        Some(rate) => {
            let (arrivals, max_outstanding) = (args.arrivals, args.max_outstanding);
            Pace::Open { rate, arrivals, max_outstanding }
        }
    };
    let token = token(&args.token)?;
    let config = config(args)?;
    let node = args.nodes.first().map_or("", String::as_str);
    let speaking = Speaking { node, ca: args.authority.ca.as_deref(), own: None };
    let client = ClientOptions { token, ..speaking.options(config.as_ref())? };
    let plan = Plan {
        nodes: nodes(args, config.as_ref()),
        workload: Workload {
            mix: args.mix,
            distribution: args.distribution,
            keys: args.keys,
            key_prefix: args.key_prefix.clone(),
            value_bytes: args.value_bytes.clone(),
            seed: args.seed,
        },
        pace,
        connections: args.connections,
        load: args.load,
        warm_up: args.warm_up,
        duration: args.secs,
        requests: Requests {
            r: args.r,
            w: args.w,
            consistency: args.consistency,
            timeout: args.timeout,
            client,
        },
    };
    plan.check().map_err(|error| Usage(error.to_string()))?;
    Ok(plan)
}

/// The configuration that was named, or else that of this folder, if it is needed to find the nodes
/// or to know them.
fn config(args: &BenchArgs) -> Result<Option<Config>, ConfigErrors> {
    let usual = Path::new(USUAL_CONFIG);
    let path = match &args.config {
        Some(path) => Some(path.as_path()),
        None => (usual.exists() && args.nodes.is_empty()).then_some(usual),
    };
    path.map(load_config).transpose()
}

/// The nodes asked for, those of the configuration, or those of the cluster that the README starts.
fn nodes(args: &BenchArgs, config: Option<&Config>) -> Vec<String> {
    match config {
        _ if !args.nodes.is_empty() => {
            args.nodes.iter().map(|node| authority_of(node).to_owned()).collect()
        }
        Some(config) => config.nodes.iter().map(|node| node.addr.to_string()).collect(),
        None => USUAL_NODES.map(str::to_owned).into(),
    }
}

/// The table goes to stdout, unless the JSON does. What cannot be written keeps nothing else from it.
fn write_out(args: &BenchArgs, report: &Report) -> Result<()> {
    let json_file = args.json.as_deref().filter(|path| path.as_os_str() != "-");
    let is_json = args.json.is_some() && json_file.is_none();
    let text = if is_json { report.to_json() } else { report.to_table() };
    let mut stdout = io::stdout().lock();
    let shown = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("stdout");
    let html = args.html.as_ref().map_or(Ok(()), |path| write_file(path, &report.to_html()));
    let json = json_file.map_or(Ok(()), |path| write_file(path, &report.to_json()));
    shown.and(html).and(json)
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())
}
