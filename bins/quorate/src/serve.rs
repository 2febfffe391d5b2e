use std::{
    env,
    io::{self, Read, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{self, ExitCode},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use quorate_record::NodeId;
use quorate_server::{Ended, ServeOptions, Tls, config::Config};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::{Usage, args::ServeArgs, files};

/// How long a node may take to stop once whoever started it is gone.
const ORPHAN_GRACE: Duration = Duration::from_secs(15);

/// Runs one node until it is told to stop.
pub(crate) fn run(args: ServeArgs) -> Result<ExitCode> {
    files::raise_limit();
    #[cfg(feature = "test-clock")]
    quorate_server::set_clock_offset_ms(args.test_clock_offset_ms);
    let config = Config::load_with(&args.config, &args.overrides.into())?;
    for warning in &config.warnings {
        tracing::warn!("{}: {warning}", args.config.display());
    }
    let addr = listen_addr(&config, args.id, args.listen, &args.config)?;
    let tls = config.load_tls(args.id, &args.config)?;
    let data_dir = args.data_dir.unwrap_or_else(|| PathBuf::from("data").join(args.id.as_str()));

    let orphaned = args.exit_with_stdin.then(stdin_closed);
    let (id, scheme) = (args.id, if tls.is_some() { "https" } else { "http" });
    let stop = stop_asked(orphaned, tls.clone());
    let options = ServeOptions {
        config,
        id,
        data_dir,
        listen: Some(addr),
        tls,
        threads: args.threads,
        on_listening: Box::new(move |addr| announce(id, scheme, addr)),
    };
    match quorate_server::run(options, stop).with_context(|| format!("node {id}"))? {
        Ended::Stopped => Ok(ExitCode::SUCCESS),
        Ended::ToBeginAnew(why) => {
            tracing::warn!("begins another life: {why}");
            Err(begin_anew().into())
        }
    }
}

/// Runs the same command in place of this process; returns only if that fails.
fn begin_anew() -> io::Error {
    let program = match env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    process::Command::new(program).args(env::args_os().skip(1)).exec()
}

fn listen_addr(
    config: &Config,
    id: NodeId,
    listen: Option<std::net::SocketAddr>,
    file: &std::path::Path,
) -> Result<std::net::SocketAddr> {
    let Some(node) = config.node(id) else {
        let known: Vec<_> = config.nodes.iter().map(|node| node.id.as_str()).collect();
        let what = format!("{} has no node {id}; it lists {}", file.display(), known.join(", "));
        return Err(Usage(what).into());
    };
    let addr = listen.unwrap_or(node.addr);
    config.check_addr(addr).map_err(|error| Usage(format!("--listen: {error}")).into())
}

/// Says where the node listens. Nobody may be reading stdout any more; that is no reason to stop.
fn announce(id: NodeId, scheme: &str, addr: std::net::SocketAddr) {
    let mut stdout = io::stdout().lock();
    drop(writeln!(stdout, "{id} listening on {scheme}://{addr}").and_then(|()| stdout.flush()));
}

/// Comes when the node is to stop: by SIGTERM, by SIGINT, or because `orphaned` has come. Until then
/// SIGHUP has the certificates read again.
async fn stop_asked(orphaned: Option<oneshot::Receiver<()>>, tls: Option<Tls>) {
    let mut terminated = signal(SignalKind::terminate()).expect("SIGTERM can be handled");
    let mut interrupted = signal(SignalKind::interrupt()).expect("SIGINT can be handled");
    let orphaned = async {
        match orphaned {
            Some(closed) => drop(closed.await),
            None => std::future::pending().await,
        }
    };
    let reloads = async {
        match tls {
            Some(tls) => reload_when_asked(&tls).await,
            None => std::future::pending().await, // SIGHUP ends the program, as usual
        }
    };
    let why = tokio::select! {
        () = reloads => unreachable!("it never ends"),
        _ = terminated.recv() => "SIGTERM",
        _ = interrupted.recv() => "SIGINT",
        () = orphaned => "the program that started this node is gone",
    };
    tracing::info!("stopping: {why}");
}

async fn reload_when_asked(tls: &Tls) {
    let mut hung_up = signal(SignalKind::hangup()).expect("SIGHUP can be handled");
    loop {
        hung_up.recv().await;
        match tls.reload() {
            Ok(()) => tracing::info!("read the certificates again"),
            Err(error) => tracing::error!(%error, "still using the old certificates"),
        }
    }
}

/// Comes when stdin is closed. A pipe to whoever started this program closes even if that was
/// killed without a chance to say so.
fn stdin_closed() -> oneshot::Receiver<()> {
    let (closed, receiver) = oneshot::channel();
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while !matches!(io::stdin().read(&mut buffer), Ok(0) | Err(_)) {}
        drop(closed);
        thread::sleep(ORPHAN_GRACE);
        process::exit(1);
    });
    receiver
}
