use std::fs;

use quorate_tests::{Cluster, Finished, run, run_in};
use serde_json::Value;

/// Runs `quorate bench` for a second against a cluster, with its report as JSON on stdout. Quorums are
/// strict, so that nobody misses a key that has just been written.
fn bench(cluster: &Cluster, options: &[&str]) -> Finished {
    let usual = ["bench", "--config", "nodes.json", "--keys", "200", "--connections", "6"];
    let strict = ["--consistency", "quorum"];
    let brief = ["--secs", "1", "--warm-up", "100ms", "--timeout", "30s", "--json"];
    run_in(cluster.folder(), &[&usual[..], &strict, &brief, options].concat(), &[])
}

/// The report, which must show no failure and add up.
#[track_caller]
fn faultless(finished: &Finished) -> Value {
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""));
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    let count = |value: &Value| value.as_u64().unwrap();
    let operations: Vec<_> = report["operations"].as_object().unwrap().values().collect();
    let done: u64 = operations.iter().map(|operation| count(&operation["done"])).sum();
    assert!(done > 0);
    assert_eq!(count(&report["total"]["done"]), done);
    let seconds: Vec<_> = report["seconds"].as_array().unwrap().iter().collect();
    let in_time: u64 = seconds.iter().map(|second| count(&second["done"])).sum();
    // What was under way, on six connections, when the measurement began and when it ended.
    assert!(in_time.abs_diff(done) <= 6, "{in_time} {done}");
    for field in ["failed", "absent"] {
        assert_eq!(report["total"][field], 0, "{field}");
    }
    assert_eq!((report["shed"].as_u64(), &report["errors"]), (Some(0), &serde_json::json!({})));
    report
}

#[test]
fn a_closed_loop_measures_a_cluster() {
    let cluster = Cluster::of(3).start();
    let html = cluster.folder().join("report.html");
    let options = ["--mix", "a", "--load", "--value-bytes", "10-50", "--html", "report.html"];
    let report = faultless(&bench(&cluster, &options));
    let operations: Vec<_> = report["operations"].as_object().unwrap().keys().collect();
    assert_eq!(operations, ["get", "put"]);
    assert_eq!(report["setup"]["nodes"].as_array().unwrap().len(), 3);
    let value = cluster.node("n2").get("bench-0").expect_status(200).body;
    assert!((10..=50).contains(&value.len()));
    assert!(fs::read_to_string(html).unwrap().contains("<svg"));
}

#[test]
fn each_mix_measures_a_cluster_in_an_open_loop() {
    let cluster = Cluster::of(3).start();
    faultless(&bench(&cluster, &["--mix", "put", "--load"]));
    for mix in ["b", "c", "d", "f"] {
        faultless(&bench(&cluster, &["--mix", mix, "--rate", "200"]));
    }
}

#[test]
fn what_cannot_be_written_keeps_nothing_else_from_it() {
    let cluster = Cluster::of(1).start();
    let finished = bench(&cluster, &["--load", "--html", "nowhere/report.html"]);
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr.contains("nowhere/report.html"), "{}", finished.stderr);
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert!(report["total"]["done"].as_u64().unwrap() > 0);
}

#[test]
fn a_measurement_of_nobody_fails_and_says_so() {
    let [port] = quorate_tests::free_ports(1)[..] else { panic!("one port was asked for") };
    let finished = run(&["bench", "--nodes", &format!("127.0.0.1:{port}"), "--secs", "1"]);
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""));
    assert!(finished.stderr.contains("no node can be reached"), "{}", finished.stderr);
}

#[test]
fn a_measurement_of_nothing_but_failures_fails_and_reports_them() {
    let cluster = Cluster::of(1).start();
    let finished = bench(&cluster, &["--mix", "put", "--w", "9"]);
    assert_eq!(finished.code, Some(1));
    let report: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(report["total"]["done"], 0);
    assert_eq!(report["errors"]["status 400"]["count"], report["total"]["failed"]);
}

#[test]
fn what_makes_no_sense_is_bad_usage() {
    for (options, says) in [
        (&["--mix", "e"][..], "is none of a, b, c, d, f, get, put, insert, delete"),
        (&["--connections", "0"], "the connections must be from 1 to"),
        (&["--rate", "0"], "the rate must be 0.001 to"),
        (&["--rate", "1e-20"], "the rate must be 0.001 to"),
        (&["--nodes", "nowhere"], "\"nowhere\" is no address"),
        (&["--config", "no-such-file.json"], "no-such-file.json"),
        (&["--secs", "soon"], "--secs"),
    ] {
        let finished = run(&[&["bench"], options].concat());
        assert_eq!(finished.code, Some(2), "{options:?}: {}", finished.stderr);
        assert!(finished.stderr.contains(says), "{}", finished.stderr);
    }
}
