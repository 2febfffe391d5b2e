use std::{ffi::OsString, net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use clap::{ArgAction, Args, Parser, Subcommand};
use quorate_client::{Consistency, Replicas};
use quorate_load::{Arrivals, Distribution, Mix};
use quorate_record::NodeId;
use quorate_server::config::{Overrides, Secret, SyncPolicy, parse_addr, parse_duration};
use tracing_subscriber::filter::LevelFilter;

/// Quorate, a leaderless replicated key-value store.
///
/// Every option can be given as an environment variable too: --data-dir as QUORATE_DATA_DIR, and so
/// on. Exits with 0 when done, 1 when something failed, 2 on bad usage.
#[derive(Debug, Parser)]
#[command(name = "quorate", version)]
pub(crate) struct Cli {
    /// What to log to stderr: off, error, warn, info, debug or trace.
    #[arg(long, global = true, env = "QUORATE_LOG", default_value = "info", value_name = "LEVEL")]
    pub(crate) log: LevelFilter,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a whole local cluster until Ctrl-C.
    Cluster(ClusterArgs),
    /// Run one node; SIGTERM and SIGINT stop it cleanly.
    Serve(Box<ServeArgs>),
    /// Store a value.
    Put(PutArgs),
    /// Print a value as it is; exits with 1 and prints nothing if there is none.
    Get(KeyArgs),
    /// Delete a value.
    Delete(KeyArgs),
    /// Show the state of all nodes.
    Status(StatusArgs),
    /// Say whether all replicas hold the same, or wait until they do.
    ///
    /// Exits with 0 if they do, and with 1 if not, naming what differs, or is not known.
    Converge(ConvergeArgs),
    /// Have a node write a backup of what it stores, among its own files, while it goes on.
    Backup(BackupArgs),
    /// Check a backup, and make the data folder of a node from it.
    Restore(RestoreArgs),
    /// Tell a node that is being filled that another one is gone for good, and its data with it.
    Gone(GoneArgs),
    /// Check every file of a stopped node, explain what is wrong, and salvage what can be read.
    ///
    /// Exits with 0 if all is well, 1 if there are problems, 2 if it could not look or not salvage.
    Doctor(DoctorArgs),
    /// Measure a cluster under load: throughput, latencies, failures.
    ///
    /// Writes to the keys that begin with --key-prefix, and leaves them there. Ctrl-C ends it early. Exits with 1 if no node
    /// can be reached or nothing ended well.
    Bench(Box<BenchArgs>),
    #[command(hide = true)]
    Import(LaterArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ClusterArgs {
    /// How many nodes; 3 unless a --config says otherwise.
    #[arg(long, env = "QUORATE_NODES", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) nodes: Option<u16>,
    /// Where the nodes keep their data, each in a folder of its own.
    #[arg(long, env = "QUORATE_DATA_DIR", default_value = "data", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Port of the first node; the others follow. 9001 unless a --config says otherwise.
    #[arg(long, env = "QUORATE_BASE_PORT", value_parser = clap::value_parser!(u16).range(1..), value_name = "PORT")]
    pub(crate) base_port: Option<u16>,
    /// The cluster's nodes.json. Without it ./nodes.json is used if it fits the other options, and
    /// else one is written to the data folder.
    #[arg(long, env = "QUORATE_CONFIG", value_name = "FILE", conflicts_with_all = ["nodes", "base_port"])]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) trust: TrustArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Which of the nodes in the configuration this is.
    #[arg(long, env = "QUORATE_ID")]
    pub(crate) id: NodeId,
    /// The cluster's nodes.json.
    #[arg(long, env = "QUORATE_CONFIG", default_value = "nodes.json", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Where the node keeps its data; a folder of its own below `data` if not given.
    #[arg(long, env = "QUORATE_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Listen here instead of at the node's address in the configuration.
    #[arg(long, env = "QUORATE_LISTEN", value_parser = parse_addr, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Threads that serve requests.
    #[arg(long, env = "QUORATE_THREADS", default_value_t = 1, value_parser = threads)]
    pub(crate) threads: usize,
    #[command(flatten)]
    pub(crate) overrides: OverrideArgs,
    /// Stop when stdin is closed, so that a node does not outlive the program that started it.
    #[arg(long, hide = true)]
    pub(crate) exit_with_stdin: bool,
    /// How many milliseconds the wall clock is to be wrong, ahead if above zero.
    #[cfg(feature = "test-clock")]
    #[arg(long, hide = true, default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) test_clock_offset_ms: i64,
}

/// What overrides `nodes.json`. Spans of time are written 1500ms, 3s, 5m or 2h; a bare number is
/// seconds.
#[derive(Debug, Args)]
pub(crate) struct OverrideArgs {
    /// Time between snapshots, like 30s; 0 for none.
    #[arg(long, env = "QUORATE_SNAPSHOT_INTERVAL", value_parser = parse_duration, value_name = "TIME")]
    snapshot_interval: Option<Duration>,
    /// Whether replicas are compared in the background.
    #[arg(long, env = "QUORATE_ANTI_ENTROPY", action = ArgAction::Set, num_args = 0..=1,
          default_missing_value = "true", value_name = "BOOL")]
    anti_entropy: Option<bool>,
    /// Time between two comparisons, like 1500ms.
    #[arg(long, env = "QUORATE_ANTI_ENTROPY_INTERVAL", value_parser = parse_duration, value_name = "TIME")]
    anti_entropy_interval: Option<Duration>,
    /// Most records that one comparison moves.
    #[arg(long, env = "QUORATE_ANTI_ENTROPY_MAX", value_name = "COUNT")]
    anti_entropy_max: Option<usize>,
    /// What an ack means: always (synced), os (written), or synced at least every 50ms, say.
    #[arg(long, env = "QUORATE_SYNC")]
    sync: Option<SyncPolicy>,
    /// How long hints are kept that no quorum counted on, like 3h; 0 for none.
    #[arg(long, env = "QUORATE_HINT_TTL", value_parser = parse_duration, value_name = "TIME")]
    hint_ttl: Option<Duration>,
    /// Deadline of requests that name none, like 800ms.
    #[arg(long, env = "QUORATE_TIMEOUT", value_parser = parse_duration, value_name = "TIME")]
    timeout: Option<Duration>,
    /// Further names that a request's Host may have, separated by commas.
    #[arg(long, env = "QUORATE_ALLOWED_HOSTS", value_delimiter = ',', value_name = "HOSTS")]
    allowed_hosts: Vec<String>,
    #[command(flatten)]
    trust: TrustArgs,
}

/// What keeps strangers out.
#[derive(Clone, Debug, Args)]
pub(crate) struct TrustArgs {
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
    /// Use addresses that others can reach although there is no secret to keep them out.
    #[arg(long, env = "QUORATE_INSECURE", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) insecure: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct SecretArgs {
    /// The secret shared by all nodes, or two of them and a space between; better given as
    /// QUORATE_CLUSTER_SECRET, since others can see options.
    #[arg(long, env = "QUORATE_CLUSTER_SECRET", hide_env_values = true, value_parser = secret, value_name = "SECRET")]
    pub(crate) cluster_secret: Option<Secret>,
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// The node to ask.
    #[arg(long, env = "QUORATE_NODE", default_value = "127.0.0.1:9001", value_name = "ADDR")]
    pub(crate) node: String,
    /// The cluster's nodes.json, for its secret and its certificates; ./nodes.json if there is one.
    #[arg(long, env = "QUORATE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) authority: AuthorityArgs,
}

/// What clients show.
#[derive(Clone, Debug, Args)]
pub(crate) struct TokenArgs {
    /// What the nodes ask clients for; better given as QUORATE_TOKEN.
    #[arg(long, env = "QUORATE_TOKEN", hide_env_values = true, value_parser = secret, value_name = "TOKEN")]
    pub(crate) token: Option<Secret>,
}

/// A node to ask for values.
#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(flatten)]
    pub(crate) token: TokenArgs,
}

/// How nodes prove who they are.
#[derive(Clone, Debug, Args)]
pub(crate) struct AuthorityArgs {
    /// Speak TLS with nodes whose certificates this authority has signed; `tls.ca` of the
    /// configuration if not given.
    #[arg(long, env = "QUORATE_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

/// A node to ask for what only operators may see.
#[derive(Debug, Args)]
pub(crate) struct OperatorArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Show this certificate, where there is no secret to show; that of the configuration if not
    /// given.
    #[arg(long, env = "QUORATE_CLIENT_CERT", value_name = "FILE", requires = "client_key")]
    pub(crate) client_cert: Option<PathBuf>,
    /// The key of that certificate.
    #[arg(long, env = "QUORATE_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
    pub(crate) client_key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) secret: SecretArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    /// The key: 1 to 1024 bytes of any kind.
    pub(crate) key: OsString,
    /// The value; - or nothing to read it from stdin.
    #[arg(allow_hyphen_values = true)]
    pub(crate) value: Option<OsString>,
    /// Wait until all owners of the key hold the value or a newer one; exits with 1 and names those
    /// that do not when the time is over, although the value is stored.
    #[arg(long, env = "QUORATE_WAIT_OWNERS", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) wait_owners: bool,
    /// How long it may take, like 10s; 2 s if not given.
    #[arg(long, env = "QUORATE_TIMEOUT", value_parser = parse_duration, value_name = "TIME")]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// The key.
    pub(crate) key: OsString,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Print the answer as JSON.
    #[arg(long, env = "QUORATE_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) operator: OperatorArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ConvergeArgs {
    /// Wait until all nodes answer, have no hints left, and were found equal by comparisons that
    /// began after this command.
    #[arg(long, env = "QUORATE_WAIT", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) wait: bool,
    /// How long to wait, like 60s.
    #[arg(long, env = "QUORATE_TIMEOUT", default_value = "60s", value_parser = parse_duration, value_name = "TIME")]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) operator: OperatorArgs,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// What to call it: a folder below `backups` in the node's data folder.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) operator: OperatorArgs,
}

#[derive(Debug, Args)]
pub(crate) struct GoneArgs {
    /// The id of the node that will never come back.
    pub(crate) gone: NodeId,
    #[command(flatten)]
    pub(crate) operator: OperatorArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The folder of the backup; nothing in it is changed.
    pub(crate) backup_dir: PathBuf,
    /// The data folder to make, new or empty.
    pub(crate) data_dir: PathBuf,
    /// The node that is to run on it; the one that the backup is of if not given.
    #[arg(long, env = "QUORATE_ID")]
    pub(crate) id: Option<NodeId>,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// The data folder of a node that does not run; nothing in it is changed.
    pub(crate) data_dir: PathBuf,
    /// Bring all that can be read into this new folder; DATA_DIR.repaired if none is named.
    #[arg(long, env = "QUORATE_REPAIR", value_name = "NEW_DIR")]
    pub(crate) repair: Option<Option<PathBuf>>,
    /// Print what was found as JSON.
    #[arg(long, env = "QUORATE_JSON", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What to do: YCSB's a, b, c, d or f, or one operation alone: get, put, insert or delete.
    #[arg(long, env = "QUORATE_MIX", default_value_t = Mix::A)]
    pub(crate) mix: Mix,
    /// Which keys: uniform, zipfian or latest. YCSB's for its mixes, else uniform.
    #[arg(long, env = "QUORATE_DISTRIBUTION", value_name = "NAME")]
    pub(crate) distribution: Option<Distribution>,
    /// How many keys there are.
    #[arg(long, env = "QUORATE_KEYS", default_value_t = 100_000, value_name = "COUNT")]
    pub(crate) keys: u64,
    /// What all keys begin with; a number follows.
    #[arg(long, env = "QUORATE_KEY_PREFIX", default_value = "bench-", value_name = "TEXT")]
    pub(crate) key_prefix: String,
    /// How long values are, or from where to where, like 100-1000.
    #[arg(long, env = "QUORATE_VALUE_BYTES", default_value = "100", value_parser = lengths, value_name = "BYTES")]
    pub(crate) value_bytes: RangeInclusive<usize>,
    /// The same seed draws the same operations.
    #[arg(long, env = "QUORATE_SEED", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Write all keys first.
    #[arg(long, env = "QUORATE_LOAD", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) load: bool,
    /// Connections, each for one operation at a time, spread over the nodes.
    #[arg(long, env = "QUORATE_CONNECTIONS", default_value_t = 64, value_name = "COUNT")]
    pub(crate) connections: usize,
    /// Open loop: begin so many operations a second, however long they take, and count latency from
    /// when each was due. Without it each connection begins the next when the last has ended.
    #[arg(long, env = "QUORATE_RATE", value_name = "OPS")]
    pub(crate) rate: Option<f64>,
    /// How the operations of an open loop lie in time: constant or poisson.
    #[arg(long, env = "QUORATE_ARRIVALS", default_value_t = Arrivals::Constant, value_name = "NAME")]
    pub(crate) arrivals: Arrivals,
    /// Most operations of an open loop that are due or under way; more are shed, and counted.
    #[arg(long, env = "QUORATE_MAX_OUTSTANDING", default_value_t = 65_536, value_name = "COUNT")]
    pub(crate) max_outstanding: usize,
    /// How long to measure.
    #[arg(long, env = "QUORATE_SECS", default_value = "10", value_parser = parse_duration, value_name = "TIME")]
    pub(crate) secs: Duration,
    /// How long to go on before measuring.
    #[arg(long, env = "QUORATE_WARM_UP", default_value = "2", value_parser = parse_duration, value_name = "TIME")]
    pub(crate) warm_up: Duration,
    /// The nodes, separated by commas; those of the configuration if not given.
    #[arg(long, env = "QUORATE_NODES", value_delimiter = ',', value_name = "ADDRS")]
    pub(crate) nodes: Vec<String>,
    /// The cluster's nodes.json; ./nodes.json if it is there, else 127.0.0.1:9001 to 9003.
    #[arg(long, env = "QUORATE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) authority: AuthorityArgs,
    /// Replicas that must answer a read: a number, one, quorum or all.
    #[arg(long, env = "QUORATE_R", value_parser = replicas, value_name = "COUNT")]
    pub(crate) r: Option<Replicas>,
    /// Replicas that must have a write: a number, one, quorum or all.
    #[arg(long, env = "QUORATE_W", value_parser = replicas, value_name = "COUNT")]
    pub(crate) w: Option<Replicas>,
    /// What requests promise: eventual, quorum or atomic.
    #[arg(long, env = "QUORATE_CONSISTENCY", value_parser = consistency, value_name = "LEVEL")]
    pub(crate) consistency: Option<Consistency>,
    /// Deadline of requests, like 800ms; if not given, the nodes' own, and 2 s here.
    #[arg(long, env = "QUORATE_TIMEOUT", value_parser = parse_duration, value_name = "TIME")]
    pub(crate) timeout: Option<Duration>,
    #[command(flatten)]
    pub(crate) token: TokenArgs,
    /// Write the whole report to a file as JSON; without a name, or to -, to stdout.
    #[arg(long, env = "QUORATE_JSON", num_args = 0..=1, default_missing_value = "-", value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the whole report to a file as a page with plots.
    #[arg(long, env = "QUORATE_HTML", value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Show no progress.
    #[arg(long, env = "QUORATE_QUIET", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) quiet: bool,
    /// Show progress even if stderr is no terminal.
    #[arg(long, env = "QUORATE_PROGRESS", conflicts_with = "quiet",
          value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) progress: bool,
}

/// The arguments of a command that is not there yet.
#[derive(Debug, Args)]
pub(crate) struct LaterArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _ignored: Vec<OsString>,
}

impl From<OverrideArgs> for Overrides {
    fn from(args: OverrideArgs) -> Self {
        Self {
            snapshot_interval: args.snapshot_interval,
            anti_entropy: args.anti_entropy,
            anti_entropy_interval: args.anti_entropy_interval,
            anti_entropy_max_per_tick: args.anti_entropy_max,
            sync: args.sync,
            hint_ttl: args.hint_ttl,
            timeout: args.timeout,
            allowed_hosts: args.allowed_hosts,
            cluster_secret: args.trust.secret.cluster_secret,
            insecure: args.trust.insecure,
        }
    }
}

fn secret(text: &str) -> Result<Secret, String> {
    Ok(Secret::new(text))
}

/// A length, or the shortest and the longest.
fn lengths(text: &str) -> Result<RangeInclusive<usize>, String> {
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    let lengths = least.parse().ok().zip(most.parse().ok()).map(|(least, most)| least..=most);
    let lengths = lengths.filter(|lengths| !lengths.is_empty());
    lengths.ok_or_else(|| "write a number of bytes like 100, or a range like 100-1000".to_owned())
}

fn replicas(text: &str) -> Result<Replicas, String> {
    match text {
        "one" => Ok(Replicas::One),
        "quorum" => Ok(Replicas::Quorum),
        "all" => Ok(Replicas::All),
        number => number
            .parse()
            .map(Replicas::Count)
            .map_err(|_| "write a number of replicas, one, quorum or all".to_owned()),
    }
}

fn consistency(text: &str) -> Result<Consistency, String> {
    let levels = [Consistency::Eventual, Consistency::Quorum, Consistency::Atomic];
    let level = levels.into_iter().find(|level| level.to_string() == text);
    level.ok_or_else(|| "write eventual, quorum or atomic".to_owned())
}

fn threads(text: &str) -> Result<usize, String> {
    let threads = text.parse().ok().filter(|threads| (1..=1024).contains(threads));
    threads.ok_or_else(|| "1 to 1024".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn overrides(options: &[&str]) -> Overrides {
        let args = ["quorate", "serve", "--id", "n1"].iter().chain(options);
        match Cli::try_parse_from(args).unwrap().command {
            Command::Serve(serve) => serve.overrides.into(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_can_come_from_the_environment() {
        for command in Cli::command().get_subcommands() {
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                let Some(long) = arg.get_long().filter(|&long| long != "help") else { continue };
                let expected = format!("QUORATE_{}", long.replace('-', "_").to_uppercase());
                assert_eq!(
                    arg.get_env(),
                    Some(expected.as_ref()),
                    "{} --{long}",
                    command.get_name()
                );
            }
        }
    }

    #[test]
    fn overrides_are_typed() {
        let expected = Overrides {
            snapshot_interval: Some(Duration::from_secs(3)),
            anti_entropy: Some(false),
            anti_entropy_interval: Some(Duration::from_millis(1500)),
            anti_entropy_max_per_tick: Some(200),
            sync: Some(SyncPolicy::Os),
            hint_ttl: Some(Duration::ZERO),
            allowed_hosts: vec!["a.test".to_owned(), "b.test".to_owned()],
            ..Overrides::default()
        };
        let options = "--snapshot-interval 3 --anti-entropy false --anti-entropy-interval 1500ms \
            --anti-entropy-max 200 --sync os --hint-ttl 0 --allowed-hosts a.test,b.test";
        assert_eq!(overrides(&options.split_whitespace().collect::<Vec<_>>()), expected);
    }

    #[test]
    fn a_switch_without_a_value_is_on() {
        assert_eq!(overrides(&["--anti-entropy"]).anti_entropy, Some(true));
        assert_eq!(overrides(&["--anti-entropy=false"]).anti_entropy, Some(false));
        assert_eq!(overrides(&[]).anti_entropy, None);
    }

    fn bench(options: &[&str]) -> Result<BenchArgs, String> {
        let args = ["quorate", "bench"].iter().chain(options);
        match Cli::try_parse_from(args).map_err(|error| error.to_string())?.command {
            Command::Bench(bench) => Ok(*bench),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_to_measure_is_typed() {
        let options = "--mix D --rate 1e4 --value-bytes 10-20 --secs 500ms --r all --w 2 \
            --consistency atomic --json --nodes a:1,b:2";
        let args = bench(&options.split_whitespace().collect::<Vec<_>>()).unwrap();
        assert_eq!((args.mix, args.rate, args.value_bytes), (Mix::D, Some(1e4), 10..=20));
        assert_eq!((args.r, args.w), (Some(Replicas::All), Some(Replicas::Count(2))));
        assert_eq!(args.consistency, Some(Consistency::Atomic));
        assert_eq!((args.secs, args.json), (Duration::from_millis(500), Some("-".into())));
        assert_eq!(args.nodes, ["a:1", "b:2"]);
        assert_eq!(bench(&["--json", "x.json"]).unwrap().json, Some("x.json".into()));
    }

    #[test]
    fn what_cannot_be_measured_is_refused_with_what_to_write() {
        for (option, value, says) in [
            ("--mix", "e", "is none of a, b, c, d, f, get, put, insert, delete"),
            ("--distribution", "normal", "is none of uniform, zipfian, latest"),
            ("--arrivals", "late", "is none of constant, poisson"),
            ("--value-bytes", "9-1", "a range like 100-1000"),
            ("--r", "some", "one, quorum or all"),
            ("--consistency", "strong", "eventual, quorum or atomic"),
        ] {
            let error = bench(&[option, value]).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn values_may_begin_with_a_dash_and_options_may_follow() {
        let cli = Cli::try_parse_from(["quorate", "put", "k", "-5", "--node", "x:1"]).unwrap();
        let Command::Put(put) = cli.command else { panic!("{cli:?}") };
        assert_eq!(put.value.unwrap(), "-5");
        assert_eq!(put.client.node.node, "x:1");
    }
}
