//! Puts a node together, runs it, and takes it apart.

use std::{
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use quorate_node::{MAX_CELLS, NodeOptions};
use quorate_quorum::{Quorum, Repair};
use quorate_record::NodeId;
use quorate_ring::{Ring, RingNode};
use quorate_storage::{
    DirLock, HintLogOptions, RealFs, StoreOptions, SyncPolicy as LogSync, lock_dir,
};
use quorate_transport::{
    Acceptor, Identity, LinkHandler, LinkOptions, PeerLinks, Protocol, Secrets, StreamOptions, Tls,
    Trust,
};
use tokio::{net::TcpListener, sync::Notify};

use crate::{
    clock::now,
    config::{Config, ConfigErrors, ReadRepair, Secret, SyncPolicy, ValueError},
    driver::{Driver, Renewal},
    face::Face,
    http::{self, HttpSettings},
    local::{HINTS_DIR, Local, LocalOptions, Opened},
    scrub::Scrub,
};

/// What to run.
pub struct ServeOptions {
    /// The cluster, and how its nodes behave.
    pub config: Config,
    /// Which of its nodes this is.
    pub id: NodeId,
    /// Where its files are; created if need be.
    pub data_dir: PathBuf,
    /// Where to listen, if not at the address in the configuration.
    pub listen: Option<SocketAddr>,
    /// What [`Config::load_tls`] has read; if not given, it is read once at the start.
    pub tls: Option<Tls>,
    /// Threads that run requests; at least 1.
    pub threads: usize,
    /// Called once, when requests are taken.
    pub on_listening: Box<dyn FnOnce(SocketAddr) + Send>,
}

/// Why a node did not start, or did not stop well.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration has no such node.
    #[error("the configuration has no node {0}")]
    UnknownNode(NodeId),
    /// Others could reach the node, and nothing would keep them out.
    #[error(transparent)]
    Exposed(#[from] ValueError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Certificates(#[from] ConfigErrors),
    /// The nodes make no ring.
    #[error("the nodes make no ring")]
    Ring(#[from] quorate_ring::RingError),
    /// The data folder cannot be used: another process holds it, it belongs to another node or
    /// another cluster, or its files cannot be read.
    #[error("cannot use the data folder {dir}")]
    Data {
        /// The folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {addr}; if another process uses it, stop that or choose another port"
    )]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The runtime could not be started.
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
}

/// What is fixed about a running node and shown on its pages.
pub(crate) struct Facts {
    pub(crate) addr: SocketAddr,
    pub(crate) hints_dir: PathBuf,
    pub(crate) started: Instant,
    pub(crate) scrub: Arc<Scrub>,
}

/// Why a node has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// Its data is older than what its peers remember: an old copy was put in its place, say. It is to be run again, and
    /// then begins another life, in which it counts for nothing until the others have filled it again. What was seen is
    /// in here, for people.
    ToBeginAnew(String),
}

/// Runs a node until `shutdown` comes, then lets open requests end, and stops.
///
/// # Errors
/// [`ServeError`] if it cannot start.
pub fn run(
    options: ServeOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Ended, ServeError> {
    let mut builder = match options.threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    let runtime = builder.enable_all().build().map_err(ServeError::Runtime)?;
    runtime.block_on(serve(options, shutdown))
}

async fn serve(
    options: ServeOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Ended, ServeError> {
    let ServeOptions { config, id, data_dir, listen, tls, on_listening, .. } = options;
    let place = config.node(id).ok_or(ServeError::UnknownNode(id))?;
    let addr = config.check_addr(listen.unwrap_or(place.addr))?;
    let tls = match tls {
        None => config.load_tls(id, Path::new("nodes.json"))?,
        loaded => loaded,
    };
    let ring = ring(&config)?;
    let fingerprint = ring.fingerprint();

    // The port first: a second process on it must not touch the files.
    let listener =
        TcpListener::bind(addr).await.map_err(|source| ServeError::Listen { addr, source })?;
    let addr = listener.local_addr().unwrap_or(addr);

    let stored = Arc::new(Notify::new());
    let (lock, opened) = open_files(&config, id, &ring, &data_dir, &stored)
        .map_err(|source| ServeError::Data { dir: data_dir.clone(), source })?;
    let incarnation = opened.writer.incarnation;
    let (node, local) = opened.start(ring, node_options(&config), now());
    let driver = Driver::new(node, local, lock, stored);

    let identity = Identity { node: id, incarnation, fingerprint, newest: Protocol::NEWEST };
    let trust = trust(&config, tls.clone());
    let peers = config.nodes.iter().filter(|node| node.id != id);
    let peers: Vec<(NodeId, SocketAddr)> = peers.map(|node| (node.id, node.addr)).collect();
    let streams = StreamOptions::default();
    let acceptor =
        Acceptor::new(identity, peers.iter().map(|(peer, _)| *peer), trust.clone(), streams);
    let handler: Arc<dyn LinkHandler> = Arc::clone(&driver) as _;
    driver.connect(PeerLinks::start(peers, identity, &trust, &handler, LinkOptions::default()));

    let hints_dir = data_dir.join(HINTS_DIR);
    let scrub = Arc::new(Scrub::new(config.scrub_interval, data_dir.clone()));
    let scrubbing = tokio::spawn(Arc::clone(&scrub).run(Arc::clone(&driver)));
    let facts = Facts { addr, hints_dir, started: now().instant, scrub };
    let settings = HttpSettings { tls, ..http_settings(&config, id) };
    let house = tokio::spawn(keep_house(Arc::clone(&driver), config.snapshot_interval));
    let face = Arc::new(Face::new(Arc::clone(&driver), acceptor, config, settings, facts));

    on_listening(addr);
    let renewed = Arc::clone(&driver);
    let end = async move {
        tokio::select! {
            () = shutdown => {}
            () = renewed.renewal() => {}
        }
    };
    http::serve(listener, face, end).await;
    house.abort();
    scrubbing.abort();
    driver.stop();
    if let Some(Renewal { above, why }) = driver.why_renewed() {
        let failed = |source| ServeError::Data { dir: data_dir.clone(), source: Box::new(source) };
        Local::renew(&RealFs, &data_dir, *above, now().wall_ms).map_err(failed)?;
        return Ok(Ended::ToBeginAnew(why.clone()));
    }
    if let Err(error) = driver.snapshot().await {
        tracing::warn!(%error, "no snapshot was made, so the next start takes longer");
    }
    Ok(Ended::Stopped)
}

/// How much may wait for each log, and one frame more; as much again may be on its way to the disk.
/// Four of the largest values: a disk that has not taken them is no faster with more.
const LOG_QUEUE_BYTES: u64 = 32 << 20;

/// Opens the files of a node and tells what was found in them.
fn open_files(
    config: &Config,
    id: NodeId,
    ring: &Ring<NodeId>,
    dir: &Path,
    stored: &Arc<Notify>,
) -> Result<(DirLock, Opened), Box<dyn std::error::Error + Send + Sync>> {
    let lock = lock_dir(dir)?;
    let mut options = LocalOptions {
        store: StoreOptions::new(quorate_ring::token),
        hints: HintLogOptions::default(),
    };
    options.store.sketch_cells = MAX_CELLS;
    for log in [&mut options.store.log, &mut options.hints.log] {
        log.sync = log_sync(config.sync);
        log.queue_bytes = LOG_QUEUE_BYTES;
    }
    let stored = Arc::clone(stored);
    let notify = move || stored.notify_one();
    let opened = Local::open(Arc::new(RealFs), dir, id, ring, &options, now().wall_ms, notify)?;

    tracing::info!(
        records = opened.store_found.records,
        hints = opened.local.hints.stats().hints,
        "recovered"
    );
    if opened.notes.counted != opened.writer.incarnation {
        tracing::info!(
            "new, or without all of its data: counts once it was compared with the others"
        );
    }
    let truncated_bytes = opened.truncated_bytes();
    if truncated_bytes > 0 {
        tracing::warn!(
            truncated_bytes,
            "cut the end of a log: an unfinished write, or damage in its last batch"
        );
    }
    for damage in opened.damages() {
        tracing::error!(?damage, "a log is damaged; what it held must come from the replicas");
    }
    for (path, why) in &opened.store_found.bad_snapshots {
        tracing::error!(path = %path.display(), %why, "a snapshot cannot be read");
    }
    Ok((lock, opened))
}

fn ring(config: &Config) -> Result<Ring<NodeId>, quorate_ring::RingError> {
    let nodes = config.nodes.iter().map(|node| {
        let place = RingNode::new(node.id).with_weight(node.weight);
        match &node.zone {
            Some(zone) => place.with_zone(zone),
            None => place,
        }
    });
    Ring::new(nodes.collect(), config.vnodes, config.n)
}

fn node_options(config: &Config) -> NodeOptions {
    NodeOptions {
        max_clock_skew_ms: config.max_clock_skew_ms,
        write_quorum: config.w,
        // A write may be on its way for as long as it is waited for, and as long again.
        write_grace: 2 * config.timeout + Duration::from_secs(1),
        read_repair: match config.read_repair {
            ReadRepair::Async => Repair::Async,
            ReadRepair::Blocking => Repair::Blocking,
        },
        hint_ttl: config.hint_ttl,
        hint_max_bytes: config.hint_max_bytes,
        anti_entropy_interval: config.anti_entropy.then_some(config.anti_entropy_interval),
        anti_entropy_max_per_tick: config.anti_entropy_max_per_tick,
        // A request that was answered may still wait for a slow replica, so more are open than are
        // waited for.
        max_requests: 4 * config.max_in_flight,
        max_in_flight: config.max_in_flight,
        // Of a request's time a part must be left for what is not seen: the way to here and back.
        target_latency: config.timeout / 4,
        ..NodeOptions::default()
    }
}

fn http_settings(config: &Config, id: NodeId) -> HttpSettings {
    let quorum = Quorum::new(config.n, config.r, config.w, config.sloppy)
        .expect("the configuration was checked");
    let addresses = config.nodes.iter().map(|node| node.addr.to_string());
    let revealed = |secrets: &Vec<Secret>| {
        secrets.iter().map(|secret| secret.reveal().to_owned()).collect::<Vec<_>>()
    };
    HttpSettings {
        nodes: config.nodes.iter().map(|node| node.id).collect(),
        timeout: config.timeout,
        max_value_bytes: config.max_value_bytes,
        max_in_flight: config.max_in_flight,
        max_connections: config.max_connections,
        allowed_hosts: addresses.chain(config.allowed_hosts.iter().cloned()).collect(),
        client_tokens: config.client_tokens.as_ref().map(revealed),
        cluster_secrets: revealed(&config.cluster_secrets),
        ..HttpSettings::new(id, quorum)
    }
}

fn trust(config: &Config, tls: Option<Tls>) -> Trust {
    let mut secrets = config.cluster_secrets.iter().map(|secret| secret.reveal().as_bytes());
    let secrets = secrets.next().map(|first| Secrets::new(first, secrets.next()));
    match (tls, secrets) {
        (Some(tls), secrets) => Trust::Tls { tls, secrets },
        (None, Some(secrets)) => Trust::Secrets(secrets),
        (None, None) if config.insecure => Trust::Anyone,
        (None, None) => Trust::Loopback,
    }
}

fn log_sync(policy: SyncPolicy) -> LogSync {
    match policy {
        SyncPolicy::Always => LogSync::Always,
        SyncPolicy::Interval(interval) => LogSync::Interval(interval),
        SyncPolicy::Os => LogSync::Os,
    }
}

/// Makes a snapshot at every interval, if there is one, and whenever the log has grown so long that
/// a restart would take long; gives the space of hints back that are gone; tells the node what is
/// damaged.
async fn keep_house(driver: Arc<Driver>, interval: Option<Duration>) {
    const LOOK_EVERY: Duration = Duration::from_secs(1);
    let mut last = now().instant;
    let mut told_up_to = None;
    loop {
        tokio::time::sleep(interval.map_or(LOOK_EVERY, |interval| interval.min(LOOK_EVERY))).await;
        let by_time =
            interval.is_some_and(|interval| now().instant.duration_since(last) >= interval);
        if by_time || driver.local.store.snapshot_due() {
            last = now().instant;
            if let Err(error) = driver.snapshot().await {
                tracing::warn!(%error, "no snapshot was made");
            }
        }
        if let Err(error) = driver.maintain_hints().await {
            tracing::warn!(%error, "the space of old hints was not given back");
        }
        told_up_to = driver.report_damage(told_up_to);
    }
}
