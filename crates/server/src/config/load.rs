use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use quorate_record::{MAX_VALUE_BYTES, NodeId};
use quorate_ring::{MAX_NODES, MAX_VNODES, MAX_WEIGHT, MAX_ZONE_BYTES};
use quorate_transport::{Tls, TlsFiles};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{
    Config, ConfigErrors, MAX_CONFIG_BYTES, NodeConfig, Place, Problem, ReadRepair, Secret,
    SyncPolicy,
    checks::{
        MAX_LIMIT, MAX_NAME_BYTES, MAX_SECONDS, between, check_ae_interval, check_ae_max,
        check_host, check_secret, check_secrets, check_timeout, check_token, parsed, to_usize,
        within,
    },
    fields::{Fields, Problems},
    outline::Outline,
    values::{check_loopback, parse_addr},
};

const FIELDS: &[&str] = &[
    "nodes",
    "vnodes",
    "n",
    "r",
    "w",
    "sloppy",
    "read_repair",
    "timeout_ms",
    "hint_ttl_s",
    "hint_max_bytes",
    "anti_entropy",
    "anti_entropy_interval_ms",
    "anti_entropy_max_per_tick",
    "sync",
    "snapshot_interval_s",
    "scrub_interval_s",
    "max_value_bytes",
    "max_in_flight",
    "max_connections",
    "max_clock_skew_ms",
    "allowed_hosts",
    "client_auth",
    "client_tokens",
    "admin_auth",
    "cluster_secret",
    "cluster_secret_file",
    "tls",
    "peer_addr",
    "admin_addr",
];
const NODE_FIELDS: &[&str] = &["id", "addr", "zone", "weight"];
const TLS_FIELDS: [&str; 3] = ["cert", "key", "ca"];

pub(super) const INSECURE: &str = "--insecure: anybody who reaches this node can read and change \
    all data, and can pretend to be one of its peers";

/// `may_be_exposed` says that addresses are allowed which others can reach, even if the file has no
/// secret.
pub(super) fn load(path: &Path, may_be_exposed: bool) -> Result<Config, ConfigErrors> {
    let source = path.display().to_string();
    let text = read_limited(path, MAX_CONFIG_BYTES)
        .map_err(|error| whole_file(&source, None, error.to_string()))?;
    read(&text, &source, path.parent().unwrap_or(Path::new("")), may_be_exposed)
}

/// Reads `text`; `folder` is where relative paths in it start.
pub(super) fn parse(text: &str, source: &str, folder: &Path) -> Result<Config, ConfigErrors> {
    read(text, source, folder, false)
}

fn read(
    text: &str,
    source: &str,
    folder: &Path,
    may_be_exposed: bool,
) -> Result<Config, ConfigErrors> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| {
        let place = Place { line: error.line(), column: error.column() };
        let what = error.to_string();
        let what = what.split(" at line ").next().unwrap_or_default();
        whole_file(source, Some(place), format!("not JSON: {what}"))
    })?;
    let outline = Outline::of(text);
    if let Some(place) = outline.too_deep {
        return Err(whole_file(source, Some(place), "nested too deep".to_owned()));
    }
    let value: Value =
        serde_json::from_str(text).map_err(|error| whole_file(source, None, error.to_string()))?;
    let mut problems = Problems::new(outline);
    let config = build(value, folder, &mut problems);
    if let Some(config) = config.as_ref().filter(|_| !may_be_exposed) {
        check_exposure(config, &mut problems);
    }
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(ConfigErrors { source: source.to_owned(), problems: problems.into_found() }),
    }
}

/// Without a secret, nobody but this machine may be able to reach a node.
fn check_exposure(config: &Config, problems: &mut Problems) {
    if ["cluster_secret", "cluster_secret_file", "tls"].iter().any(|field| problems.has(field)) {
        return; // one that is no good is a problem of its own
    }
    for (i, node) in config.nodes.iter().enumerate() {
        if let Err(error) = config.check_addr(node.addr) {
            problems.add(&format!("nodes[{i}].addr"), error.to_string());
        }
    }
}

fn whole_file(source: &str, place: Option<Place>, what: String) -> ConfigErrors {
    let problem = Problem { field: String::new(), place, what };
    ConfigErrors { source: source.to_owned(), problems: vec![problem] }
}

fn read_limited(path: &Path, max_bytes: usize) -> io::Result<String> {
    let limit = u64::try_from(max_bytes).expect("limits are small") + 1;
    let mut text = String::new();
    File::open(path)?.take(limit).read_to_string(&mut text)?;
    if text.len() > max_bytes {
        return Err(io::Error::other(format!("larger than {max_bytes} bytes")));
    }
    Ok(text)
}

fn build(value: Value, folder: &Path, problems: &mut Problems) -> Option<Config> {
    let mut fields = Fields::of(value, "", problems);
    let nodes = nodes(&mut fields, problems);
    let n = fields
        .take_checked("n", problems, |n| within(n, 1, nodes.len(), "one replica a node"))
        .unwrap_or(nodes.len().min(3));
    let quorum = |n| move |count| within(count, 1, n, "n");
    let majority = n / 2 + 1;
    let r = fields.take_checked("r", problems, quorum(n)).unwrap_or(majority);
    let w = fields.take_checked("w", problems, quorum(n)).unwrap_or(majority);
    let seconds = |max| move |seconds| between(seconds, 0, max).map(Duration::from_secs);
    let limit = |limit| between(limit, 1, MAX_LIMIT).map(to_usize);

    let mut config = Config {
        vnodes: fields
            .take_checked("vnodes", problems, |vnodes| between(vnodes, 1, u64::from(MAX_VNODES)))
            .map_or(64, |vnodes| u32::try_from(vnodes).expect("checked against a u32")),
        nodes,
        n,
        r,
        w,
        sloppy: fields.take("sloppy", problems).unwrap_or(true),
        read_repair: fields
            .take_checked("read_repair", problems, |text: String| parsed(&text))
            .unwrap_or(ReadRepair::Async),
        timeout: fields
            .take_checked("timeout_ms", problems, |ms| check_timeout(Duration::from_millis(ms)))
            .unwrap_or(Duration::from_millis(800)),
        hint_ttl: fields
            .take_checked("hint_ttl_s", problems, seconds(MAX_SECONDS))
            .unwrap_or(Duration::from_secs(10_800)),
        hint_max_bytes: fields.take("hint_max_bytes", problems).unwrap_or(1 << 30),
        anti_entropy: fields.take("anti_entropy", problems).unwrap_or(true),
        anti_entropy_interval: fields
            .take_checked("anti_entropy_interval_ms", problems, |ms| {
                check_ae_interval(Duration::from_millis(ms))
            })
            .unwrap_or(Duration::from_millis(1500)),
        anti_entropy_max_per_tick: fields
            .take_checked("anti_entropy_max_per_tick", problems, check_ae_max)
            .unwrap_or(200),
        sync: fields
            .take_checked("sync", problems, |text: String| parsed(&text))
            .unwrap_or(SyncPolicy::Always),
        snapshot_interval: fields
            .take_checked("snapshot_interval_s", problems, seconds(MAX_SECONDS))
            .filter(|interval| !interval.is_zero()),
        scrub_interval: fields
            .take_checked("scrub_interval_s", problems, seconds(MAX_SECONDS))
            .or(Some(Duration::from_secs(604_800)))
            .filter(|interval| !interval.is_zero()),
        max_value_bytes: fields
            .take_checked("max_value_bytes", problems, |bytes| {
                within(bytes, 1, MAX_VALUE_BYTES, "the most that a record can hold")
            })
            .unwrap_or(MAX_VALUE_BYTES),
        max_in_flight: fields.take_checked("max_in_flight", problems, limit).unwrap_or(4096),
        max_connections: fields.take_checked("max_connections", problems, limit).unwrap_or(4096),
        max_clock_skew_ms: fields
            .take_checked("max_clock_skew_ms", problems, |ms| between(ms, 1, 3_600_000))
            .unwrap_or(10_000),
        allowed_hosts: allowed_hosts(&mut fields, problems),
        client_tokens: None,
        cluster_secrets: cluster_secrets(&mut fields, folder, problems),
        tls: None,
        insecure: false,
        warnings: Vec::new(),
    };
    let unused_tokens = client_tokens(&mut fields, &mut config, problems);
    config.tls = tls(&mut fields, &config.nodes, folder, problems);
    not_supported_yet(&mut fields, problems);
    fields.finish(FIELDS, problems);
    if problems.is_empty() {
        config.warnings = warnings(&config, unused_tokens);
    }
    Some(config)
}

fn nodes(fields: &mut Fields, problems: &mut Problems) -> Vec<NodeConfig> {
    let (mut ids, mut addrs) = (BTreeMap::new(), BTreeMap::new());
    let list = fields.take_list("nodes", problems);
    if list.is_empty() {
        let what = "a cluster needs at least one node, like {\"id\": \"n1\", \"addr\": \"127.0.0.1:9001\"}";
        problems.add("nodes", what);
    } else if list.len() > MAX_NODES {
        problems.add("nodes", format!("{} nodes are more than {MAX_NODES}", list.len()));
    }
    // Nodes with problems still count, so that one bad id does not make `n` look too large.
    list.into_iter()
        .map(|(path, value)| {
            let node = node(value, &path, problems);
            if let Some(first) = node.id.and_then(|id| ids.insert(id, path.clone())) {
                problems.add(&format!("{path}.id"), format!("{first} has the same id"));
            }
            if let Some(first) = node.addr.and_then(|addr| addrs.insert(addr, path.clone())) {
                problems.add(&format!("{path}.addr"), format!("{first} has the same address"));
            }
            node.config()
        })
        .collect()
}

/// A node as far as its fields could be read.
struct PartialNode {
    id: Option<NodeId>,
    addr: Option<SocketAddr>,
    zone: Option<String>,
    weight: f64,
}

impl PartialNode {
    /// The node; whatever stands in for a field that could not be read is never used, since a
    /// configuration with problems is not given out.
    fn config(self) -> NodeConfig {
        NodeConfig {
            id: self.id.unwrap_or_else(|| NodeId::new("_").expect("a plain name")),
            addr: self.addr.unwrap_or_else(|| ([127, 0, 0, 1], 0).into()),
            zone: self.zone,
            weight: self.weight,
        }
    }
}

fn node(value: Value, path: &str, problems: &mut Problems) -> PartialNode {
    let mut fields = Fields::of(value, path, problems);
    for required in ["id", "addr"] {
        if !problems.has(&fields.path(required)) {
            problems.add(path, format!("has no {required:?}"));
        }
    }
    let node = PartialNode {
        id: fields.take_checked("id", problems, |id: String| parsed(&id)),
        addr: fields.take_checked("addr", problems, |addr: String| {
            parse_addr(&addr).map_err(|error| error.to_string())
        }),
        zone: fields.take_checked("zone", problems, |zone: String| {
            let fits = (1..=MAX_ZONE_BYTES).contains(&zone.len());
            fits.then_some(zone).ok_or(format!("must have 1 to {MAX_ZONE_BYTES} bytes"))
        }),
        weight: fields
            .take_checked("weight", problems, |weight: f64| {
                let fits = weight > 0.0 && weight <= MAX_WEIGHT;
                fits.then_some(weight).ok_or(format!("must be above 0 and at most {MAX_WEIGHT}"))
            })
            .unwrap_or(1.0),
    };
    fields.finish(NODE_FIELDS, problems);
    node
}

fn allowed_hosts(fields: &mut Fields, problems: &mut Problems) -> Vec<String> {
    let list = fields.take_list("allowed_hosts", problems);
    strings(list, problems, check_host)
}

/// Fills in the tokens; says whether there are any that nobody will be asked for.
fn client_tokens(fields: &mut Fields, config: &mut Config, problems: &mut Problems) -> bool {
    let list = fields.take_list("client_tokens", problems);
    let tokens: Vec<_> = strings(list, problems, check_token).into_iter().map(Secret).collect();
    let auth = fields.take_checked("client_auth", problems, |auth: String| match auth.as_str() {
        "none" => Ok(false),
        "token" => Ok(true),
        _ => Err(format!("{auth:?} is no way to let clients in; write \"none\" or \"token\"")),
    });
    let auth = auth.unwrap_or(false);
    if auth && tokens.is_empty() && !problems.has("client_tokens[0]") {
        let what = "is \"token\", but client_tokens lists none, so nobody could get in; add one";
        problems.add("client_auth", what);
    }
    let unused = !auth && !tokens.is_empty();
    config.client_tokens = auth.then_some(tokens);
    unused
}

fn cluster_secrets(fields: &mut Fields, folder: &Path, problems: &mut Problems) -> Vec<Secret> {
    if problems.has("cluster_secret") && problems.has("cluster_secret_file") {
        problems.add("cluster_secret_file", "there is a cluster_secret as well; keep one of them");
    }
    let written = fields.take_checked("cluster_secret", problems, |value: Value| match value {
        Value::String(text) => Ok(vec![check_secret(&text)?]),
        Value::Array(list) if (1..=2).contains(&list.len()) => {
            let texts = list.iter().map(|text| text.as_str().ok_or("must hold strings only"));
            texts.map(|text| check_secret(text?)).collect()
        }
        _ => Err("must be a string, or a list of one or two".to_owned()),
    });
    let read = fields.take_checked("cluster_secret_file", problems, |file: String| {
        let path = folder.join(file);
        let text = read_limited(&path, MAX_NAME_BYTES)
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        check_private(&path)?;
        check_secrets(&Secret::new(text))
    });
    written.or(read).unwrap_or_default()
}

/// Refuses a secret that other users of the machine can read.
fn check_private(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if metadata.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(format!("{0} can be read by others; run chmod 600 {0}", path.display()))
}

fn tls(
    fields: &mut Fields,
    nodes: &[NodeConfig],
    folder: &Path,
    problems: &mut Problems,
) -> Option<TlsFiles> {
    let tls = fields.take::<Value>("tls", problems)?;
    let path = fields.path("tls");
    if !cfg!(feature = "tls") {
        problems
            .add(&path, "this program was built without TLS; build it with the feature \"tls\"");
    }
    let mut fields = Fields::of(tls, &path, problems);
    let [cert, key, ca] = TLS_FIELDS.map(|name| {
        if !problems.has(&fields.path(name)) {
            problems.add(&path, format!("has no {name:?}"));
        }
        let file = fields.take::<String>(name, problems);
        folder.join(file.unwrap_or_default())
    });
    fields.finish(&TLS_FIELDS, problems);
    let mut names = BTreeMap::new();
    for (i, node) in nodes.iter().enumerate() {
        let field = format!("nodes[{i}].id");
        if !Tls::can_name(node.id) {
            let what = "is no DNS name, so that no certificate can name it; choose one like \"n1\"";
            problems.add(&field, what);
        }
        // Names in certificates have no case.
        if let Some(first) = names.insert(node.id.as_str().to_ascii_lowercase(), node.id)
            && first != node.id
        {
            problems.add(&field, format!("means the same in a certificate as {first}"));
        }
    }
    Some(TlsFiles { cert, key, ca })
}

fn not_supported_yet(fields: &mut Fields, problems: &mut Problems) {
    for name in ["peer_addr", "admin_addr"] {
        fields.take_checked(name, problems, |text: String| -> Result<(), String> {
            parse_addr(&text).and_then(check_loopback).map_err(|error| error.to_string())?;
            Err("is not supported yet: one listener serves everything; remove it".to_owned())
        });
    }
    fields.take_checked("admin_auth", problems, |auth: String| {
        let known = auth == "peer";
        known.then_some(()).ok_or(format!("{auth:?} is not supported; the only way is \"peer\""))
    });
}

fn warnings(config: &Config, unused_tokens: bool) -> Vec<String> {
    let Config { n, r, w, .. } = *config;
    let mut warnings = Vec::new();
    if r + w <= n {
        warnings.push(format!(
            "r + w = {} is not above n = {n}: a read may miss the latest acknowledged write",
            r + w
        ));
    }
    if 2 * w <= n {
        warnings.push(format!(
            "w = {w} is not a majority of n = {n}: of two acknowledged writes the earlier one may win \
             where clocks differ"
        ));
    }
    if unused_tokens {
        warnings.push(
            "client_tokens are listed, but client_auth is \"none\": nobody is asked for one"
                .to_owned(),
        );
    }
    warnings
}

fn strings(
    list: Vec<(String, Value)>,
    problems: &mut Problems,
    check: impl Fn(String) -> Result<String, String>,
) -> Vec<String> {
    list.into_iter()
        .filter_map(|(path, value)| {
            serde_json::from_value(value)
                .map_err(|error| error.to_string())
                .and_then(&check)
                .map_err(|what| problems.add(&path, what))
                .ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = r#""nodes": [{"id": "n1", "addr": "127.0.0.1:9001"},
        {"id": "n2", "addr": "127.0.0.1:9002"}, {"id": "n3", "addr": "localhost:9003"}]"#;

    fn with(fields: &str) -> Result<Config, ConfigErrors> {
        Config::parse(&format!("{{{NODES}{fields}}}"))
    }

    /// The fields that have problems, with the problems' text.
    fn problems(text: &str) -> Vec<(String, String)> {
        let error = Config::parse(text).unwrap_err();
        error.problems.into_iter().map(|problem| (problem.field, problem.what)).collect()
    }

    fn problem_of(fields: &str) -> (String, String) {
        let mut found = problems(&format!("{{{NODES}{fields}}}"));
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    #[test]
    fn only_nodes_are_required_and_the_rest_has_defaults() {
        let config = with("").unwrap();
        assert_eq!(
            config.nodes.iter().map(|node| node.id.to_string()).collect::<Vec<_>>(),
            ["n1", "n2", "n3"]
        );
        assert_eq!(config.nodes[2].addr, "127.0.0.1:9003".parse().unwrap());
        assert_eq!(
            (config.vnodes, config.n, config.r, config.w, config.sloppy),
            (64, 3, 2, 2, true)
        );
        assert_eq!(config.timeout, Duration::from_millis(800));
        assert_eq!(config.hint_ttl, Duration::from_secs(10_800));
        assert_eq!(config.hint_max_bytes, 1_073_741_824);
        assert!(config.anti_entropy);
        assert_eq!(config.anti_entropy_interval, Duration::from_millis(1500));
        assert_eq!(config.anti_entropy_max_per_tick, 200);
        assert_eq!((config.sync, config.snapshot_interval), (SyncPolicy::Always, None));
        assert_eq!(config.scrub_interval, Some(Duration::from_secs(604_800)));
        assert_eq!((config.max_value_bytes, config.max_in_flight), (8_388_608, 4096));
        assert_eq!((config.max_connections, config.max_clock_skew_ms), (4096, 10_000));
        assert_eq!((&config.client_tokens, config.cluster_secrets.len()), (&None, 0));
        assert!(!config.insecure);
        assert_eq!(config.warnings, Vec::<String>::new());
    }

    #[test]
    fn quorums_default_to_majorities_of_what_there_is() {
        let one = Config::parse(r#"{"nodes": [{"id": "n1", "addr": "127.0.0.1:9001"}]}"#).unwrap();
        assert_eq!((one.n, one.r, one.w), (1, 1, 1));
        let two = with(r#", "n": 2"#).unwrap();
        assert_eq!((two.n, two.r, two.w), (2, 2, 2));
    }

    #[test]
    fn the_plain_form_of_the_file_is_valid() {
        let config = with(r#", "vnodes": 128, "n": 3, "r": 1, "w": 3"#).unwrap();
        assert_eq!((config.vnodes, config.n, config.r, config.w), (128, 3, 1, 3));
    }

    #[test]
    fn every_field_is_read() {
        let config = with(
            r#", "sloppy": false, "read_repair": "blocking", "timeout_ms": 100, "hint_ttl_s": 0,
            "hint_max_bytes": 7, "anti_entropy": false, "anti_entropy_interval_ms": 20,
            "anti_entropy_max_per_tick": 3, "sync": "25ms", "snapshot_interval_s": 9, "scrub_interval_s": 0,
            "max_value_bytes": 10, "max_in_flight": 11, "max_connections": 12,
            "max_clock_skew_ms": 13, "allowed_hosts": ["a.test", "b.test:80"], "client_auth": "token",
            "client_tokens": ["abc"], "admin_auth": "peer",
            "cluster_secret": "0123456789abcdef0123456789abcdef""#,
        )
        .unwrap();
        assert!(!config.sloppy && !config.anti_entropy);
        assert_eq!(config.read_repair, ReadRepair::Blocking);
        assert_eq!(config.timeout, Duration::from_millis(100));
        assert_eq!((config.hint_ttl, config.hint_max_bytes), (Duration::ZERO, 7));
        assert_eq!(config.anti_entropy_interval, Duration::from_millis(20));
        assert_eq!(config.anti_entropy_max_per_tick, 3);
        assert_eq!(config.sync, SyncPolicy::Interval(Duration::from_millis(25)));
        assert_eq!(config.snapshot_interval, Some(Duration::from_secs(9)));
        assert_eq!(config.scrub_interval, None);
        assert_eq!((config.max_value_bytes, config.max_in_flight), (10, 11));
        assert_eq!((config.max_connections, config.max_clock_skew_ms), (12, 13));
        assert_eq!(config.allowed_hosts, ["a.test", "b.test:80"]);
        assert_eq!(config.client_tokens, Some(vec![Secret::new("abc")]));
        assert!(!format!("{config:?}").contains("0123456789"), "a secret is never shown");
        assert_eq!(config.cluster_secrets, [Secret::new("0123456789abcdef0123456789abcdef")]);
        assert_eq!(config.warnings, Vec::<String>::new());
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_with_its_place() {
        let text = r#"{
  "nodes": [
    {"id": "n1", "addr": "127.0.0.1:9001"},
    {"id": "n1", "addr": "127.0.0.1:9001", "zoen": "a"},
    {"id": "n 3", "addr": "10.0.0.1:9001", "weight": -1}
  ],
  "n": 4, "r": 0, "w": 3,
  "vnodes": 0,
  "sink": "always",
  "sync": "never"
}"#;
        let fields: Vec<_> = problems(text).into_iter().map(|(field, _)| field).collect();
        let expected = [
            "nodes[1].id",
            "nodes[1].addr",
            "nodes[1].zoen",
            "nodes[2].id",
            "nodes[2].addr",
            "nodes[2].weight",
            "n",
            "r",
            "vnodes",
            "sink",
            "sync",
        ];
        assert_eq!(fields, expected);
        let shown = Config::parse(text).unwrap_err().to_string();
        assert!(shown.contains("nodes[1].zoen (line 4, column 44): unknown field"), "{shown}");
        assert!(shown.contains("sink (line 9, column 3): unknown field"), "{shown}");
        assert!(shown.contains("nodes[0] has the same id"), "{shown}");
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn a_program_without_tls_says_so() {
        let (field, what) = problem_of(r#", "tls": {"cert": "a", "key": "b", "ca": "c"}"#);
        assert_eq!(field, "tls");
        assert!(what.contains("built without TLS"), "{what}");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn certificates_are_files_beside_nodes_json_and_open_all_addresses() {
        let tls = r#""tls": {"cert": "{id}.crt", "key": "/k", "ca": "ca"}"#;
        let nodes = r#""nodes": [{"id": "n1", "addr": "10.0.0.1:9001"}]"#;
        let config = parse(&format!("{{{nodes}, {tls}}}"), "x", Path::new("etc")).unwrap();
        let of_n1 = config.tls.unwrap().of(NodeId::new("n1").unwrap());
        let expected =
            TlsFiles { cert: "etc/n1.crt".into(), key: "/k".into(), ca: "etc/ca".into() };
        assert_eq!(of_n1, expected);
    }

    #[cfg(feature = "tls")]
    #[test]
    fn certificates_must_be_able_to_name_every_node() {
        let tls = r#""tls": {"cert": "a", "key": "b", "ca": "c"}"#;
        for (ids, field) in [(["n1", "N1"], "nodes[1].id"), (["7", "n1"], "nodes[0].id")] {
            let [a, b] = ids.map(|id| format!(r#"{{"id": "{id}", "addr": "127.0.0.1:"#));
            let found = problems(&format!(r#"{{"nodes": [{a}1"}}, {b}2"}}], {tls}}}"#));
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].0, field);
        }
        let (field, what) = problem_of(r#", "tls": {"cert": "a", "ca": "b"}"#);
        assert_eq!((&*field, &*what), ("tls", "has no \"key\""));
    }

    #[test]
    fn an_address_that_is_not_loopback_is_refused_with_the_remedy() {
        let found = problems(r#"{"nodes": [{"id": "n1", "addr": "0.0.0.0:9001"}]}"#);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, "nodes[0].addr");
        assert!(found[0].1.contains("without a cluster secret anybody"), "{}", found[0].1);
        assert!(found[0].1.contains("give all nodes the same cluster_secret"), "{}", found[0].1);
        assert!(found[0].1.contains("write 127.0.0.1:9001"), "{}", found[0].1);
    }

    #[test]
    fn what_is_not_there_yet_is_refused_and_not_ignored() {
        for (fields, at) in [
            (r#", "peer_addr": "127.0.0.1:1""#, "peer_addr"),
            (r#", "admin_addr": "127.0.0.1:1""#, "admin_addr"),
        ] {
            let (field, what) = problem_of(fields);
            assert_eq!(field, at);
            assert!(what.contains("not supported yet"), "{what}");
        }
    }

    #[test]
    fn a_short_secret_is_refused_and_not_shown() {
        let (field, what) = problem_of(r#", "cluster_secret": "xyzzy""#);
        assert_eq!(field, "cluster_secret");
        assert!(what.contains("at least 32") && !what.contains("xyzzy"), "{what}");
    }

    #[test]
    fn a_secret_is_a_string_or_a_list_of_two_and_opens_the_node_to_others() {
        let (a, b) = ("a".repeat(32), "b".repeat(32));
        let text = |secret: &str| {
            let nodes = r#""nodes": [{"id": "n1", "addr": "10.0.0.1:9001"}]"#;
            Config::parse(&format!("{{{nodes}, \"cluster_secret\": {secret}}}"))
        };
        let both = text(&format!(r#"["{a}", "{b}"]"#)).unwrap();
        assert_eq!(both.cluster_secrets, [Secret::new(a.as_str()), Secret::new(b.as_str())]);
        assert_eq!(text(&format!(r#""{a}""#)).unwrap().cluster_secrets.len(), 1);
        for bad in
            ["[]", "7", "[1]", &format!(r#"["{a}", "{a}", "{a}"]"#), &format!(r#""{a} {b}""#)]
        {
            let error = text(bad).unwrap_err();
            assert_eq!(error.problems.len(), 1, "{error}");
            assert_eq!(error.problems[0].field, "cluster_secret");
            assert!(!error.to_string().contains(&a), "a secret is never shown");
        }
    }

    #[test]
    fn tokens_and_the_demand_for_them_belong_together() {
        assert_eq!(problem_of(r#", "client_auth": "token""#).0, "client_auth");
        assert_eq!(
            problem_of(r#", "client_auth": "token", "client_tokens": ["a b"]"#).0,
            "client_tokens[0]"
        );
        assert_eq!(problem_of(r#", "client_auth": "basic""#).0, "client_auth");
        assert_eq!(with(r#", "client_tokens": ["abc"]"#).unwrap().warnings.len(), 1);
    }

    #[test]
    fn quorums_that_do_not_meet_are_allowed_with_a_warning() {
        let warnings = with(r#", "r": 1, "w": 1"#).unwrap().warnings;
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("may miss the latest acknowledged write"), "{warnings:?}");
        assert_eq!(with(r#", "r": 1, "w": 2"#).unwrap().warnings.len(), 1);
    }

    #[test]
    fn wrong_types_repetitions_and_bad_json_are_told_with_their_place() {
        let (field, what) = problem_of(r#", "sloppy": "yes""#);
        assert_eq!(field, "sloppy");
        assert!(what.contains("expected a boolean"), "{what}");
        let (field, what) = problem_of(r#", "n": 3, "n": 2"#);
        assert_eq!((field.as_str(), what.as_str()), ("n", "is there more than once"));

        let error = Config::parse("{\n  \"nodes\": [,]\n}").unwrap_err();
        assert_eq!(error.problems[0].place, Some(Place { line: 2, column: 13 }));
        assert!(error.problems[0].what.starts_with("not JSON"));
        assert_eq!(problems("[]")[0].1, "must be an object, not an array");
        let deep = format!("{{\"nodes\": {}{}}}", "[".repeat(20), "]".repeat(20));
        assert_eq!(problems(&deep)[0].1, "nested too deep");
    }

    #[test]
    fn limits_have_limits() {
        for field in [
            r#""max_value_bytes": 8388609"#,
            r#""max_value_bytes": 0"#,
            r#""timeout_ms": 0"#,
            r#""timeout_ms": 60001"#,
            r#""vnodes": 4097"#,
            r#""max_in_flight": 0"#,
            r#""max_connections": 0"#,
            r#""anti_entropy_interval_ms": 0"#,
            r#""hint_ttl_s": -1"#,
            r#""anti_entropy_max_per_tick": 0"#,
            r#""max_clock_skew_ms": 0"#,
            r#""w": 4"#,
            r#""allowed_hosts": ["a b"]"#,
            r#""read_repair": "never""#,
        ] {
            problem_of(&format!(", {field}"));
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nodes.json");
        std::fs::write(&path, format!("{{{NODES}{}}}", " ".repeat(MAX_CONFIG_BYTES))).unwrap();
        let error = Config::load(&path).unwrap_err();
        assert_eq!(error.problems[0].what, "larger than 65536 bytes");
        let missing = Config::load(folder.path().join("none.json")).unwrap_err().to_string();
        assert!(missing.contains("none.json") && missing.contains("No such file"), "{missing}");
    }

    #[test]
    fn a_secret_file_lies_beside_the_configuration_and_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (path, secret) = (folder.path().join("nodes.json"), folder.path().join("secret"));
        std::fs::write(&path, format!("{{{NODES}, \"cluster_secret_file\": \"secret\"}}")).unwrap();
        std::fs::write(&secret, "0123456789abcdef0123456789abcdef\n").unwrap();
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
        let expected = Secret::new("0123456789abcdef0123456789abcdef");
        assert_eq!(Config::load(&path).unwrap().cluster_secrets, vec![expected.clone()]);
        let next = "fedcba9876543210fedcba9876543210";
        std::fs::write(&secret, format!("{}\n{next}\n", expected.reveal())).unwrap();
        assert_eq!(Config::load(&path).unwrap().cluster_secrets, [expected, Secret::new(next)]);

        std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(Config::load(&path).unwrap_err().to_string().contains("chmod 600"));
    }
}
