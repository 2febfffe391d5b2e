use std::{collections::BTreeSet, time::Duration};

use quorate_record::MAX_VALUE_BYTES;
use quorate_server::config::{Config, ConfigErrors, MAX_CONFIG_BYTES, MIN_SECRET_CHARS, Problem};
use serde_json::Value;

/// A `nodes.json` is a configuration in range, or has problems that stand where they are said to.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if text.len() > MAX_CONFIG_BYTES || names_a_file(text) {
        return;
    }
    match Config::parse(text) {
        Ok(config) => assert_in_range(&config),
        Err(errors) => assert_placed(&errors, text),
    }
}

/// Whether another file would be opened, which may be any on the machine.
fn names_a_file(text: &str) -> bool {
    let value = serde_json::from_str::<Value>(text);
    value.is_ok_and(|value| value.get("cluster_secret_file").is_some())
}

fn assert_in_range(config: &Config) {
    let Config { n, r, w, nodes, .. } = config;
    assert!((1..=nodes.len()).contains(n), "n is {n} of {}", nodes.len());
    assert!((1..=*n).contains(r) && (1..=*n).contains(w), "r is {r} and w is {w} of {n}");
    let ids: BTreeSet<_> = nodes.iter().map(|node| node.id).collect();
    let addrs: BTreeSet<_> = nodes.iter().map(|node| node.addr).collect();
    assert_eq!((ids.len(), addrs.len()), (nodes.len(), nodes.len()), "a node is there twice");
    for node in nodes {
        let is_loopback = node.addr.ip().to_canonical().is_loopback();
        assert!(is_loopback || !config.cluster_secrets.is_empty());
        assert!(node.addr.port() != 0);
        assert!(node.weight > 0.0 && node.weight <= quorate_ring::MAX_WEIGHT);
        assert_eq!(config.node(node.id), Some(node));
    }
    assert!((1..=quorate_ring::MAX_VNODES).contains(&config.vnodes));
    assert!((1..=MAX_VALUE_BYTES).contains(&config.max_value_bytes));
    assert!(config.max_in_flight > 0 && config.max_connections > 0);
    assert!((Duration::from_millis(1)..=Duration::from_secs(60)).contains(&config.timeout));
    assert!(config.anti_entropy_interval >= Duration::from_millis(10));
    assert!(config.snapshot_interval.is_none_or(|interval| !interval.is_zero()));
    assert!(config.client_tokens.as_ref().is_none_or(|tokens| !tokens.is_empty()));
    for secret in &config.cluster_secrets {
        assert!(secret.reveal().chars().count() >= MIN_SECRET_CHARS);
    }
}

fn assert_placed(errors: &ConfigErrors, text: &str) {
    assert!(!errors.problems.is_empty(), "refused for nothing");
    let lines: Vec<_> = text.split('\n').collect();
    for Problem { field, place, what } in &errors.problems {
        assert!(!what.is_empty(), "{field} has a problem that is not said");
        let Some(place) = place else { continue };
        // A problem may stand right behind the end of a line, and JSON counts from 0 there.
        let line = place.line.checked_sub(1).and_then(|line| lines.get(line));
        let line = line.unwrap_or_else(|| panic!("{field} is at {place}, behind the end"));
        assert!(place.column <= line.len() + 1, "{field} is at {place}, behind the line");
    }
    assert!(errors.to_string().starts_with("nodes.json cannot be used:\n"));
}
