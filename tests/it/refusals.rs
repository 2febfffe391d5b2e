use std::{fs, path::Path};

use quorate_tests::{Cluster, Finished, free_ports, run};

/// Runs `serve` where it must refuse to start.
#[track_caller]
fn refused(id: &str, config: &Path, data_dir: &Path, more: &[&str]) -> Finished {
    let (config, data_dir) = (config.to_str().unwrap(), data_dir.to_str().unwrap());
    let args = ["serve", "--id", id, "--config", config, "--data-dir", data_dir];
    let finished = run(&[&args, more].concat());
    assert!(matches!(finished.code, Some(1 | 2)), "{finished:?}");
    assert_eq!(finished.stdout, "", "nothing was served");
    finished
}

#[track_caller]
fn says(finished: &Finished, words: &[&str]) {
    for word in words {
        assert!(finished.stderr.contains(word), "{word:?} is missing in {}", finished.stderr);
    }
}

/// Tries to start n1 with this nodes.json.
#[track_caller]
fn refused_config(text: &str) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodes.json");
    fs::write(&path, text).unwrap();
    let finished = refused("n1", &path, &folder.path().join("n1"), &[]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(!folder.path().join("n1").exists(), "nothing is left behind");
    finished
}

#[test]
fn a_second_node_on_the_same_data_is_refused() {
    let cluster = Cluster::of(1).start();
    let node = cluster.node("n1");
    let listen = format!("127.0.0.1:{}", free_ports(1)[0]);
    let config = cluster.folder().join("nodes.json");
    let finished = refused("n1", &config, node.data_dir(), &["--listen", &listen]);
    says(&finished, &[&node.pid().to_string(), node.data_dir().to_str().unwrap()]);
    node.put("cat", "meow").expect_status(204);
}

#[test]
fn the_data_of_another_node_is_refused() {
    let mut cluster = Cluster::of(2).start();
    cluster.stop("n1");
    cluster.stop("n2");
    let config = cluster.folder().join("nodes.json");
    let finished = refused("n2", &config, cluster.node("n1").data_dir(), &[]);
    says(&finished, &["n1", "n2"]);
    cluster.start_all();
}

#[test]
fn the_data_of_another_cluster_is_refused() {
    let mut cluster = Cluster::of(1).start();
    cluster.stop("n1");
    let config = cluster.folder().join("other.json");
    let nodes = format!(
        r#"{{"nodes": [{{"id": "n1", "addr": "{}"}}], "vnodes": 7}}"#,
        cluster.node("n1").addr()
    );
    fs::write(&config, nodes).unwrap();
    refused("n1", &config, cluster.node("n1").data_dir(), &[]);
    cluster.start("n1");
}

#[test]
fn everything_wrong_with_a_configuration_is_told_at_once() {
    let finished = refused_config(
        r#"{
  "nodes": [
    {"id": "n1", "addr": "127.0.0.1:9001"},
    {"id": "n1", "addr": "127.0.0.1:9001"}
  ],
  "n": 3, "r": 0, "w": 9,
  "sink": "always"
}"#,
    );
    let expected = [
        "nodes[1].id (line 4, column 6): nodes[0] has the same id",
        "nodes[1].addr (line 4, column 18): nodes[0] has the same address",
        "n (line 6, column 3): 3 is out of range: 1 to 2",
        "r (line 6, column 11): 0 is out of range",
        "w (line 6, column 19): 9 is out of range",
        "sink (line 7, column 3): unknown field",
    ];
    says(&finished, &expected);
}

#[test]
fn an_address_that_others_can_reach_is_refused_with_the_remedy() {
    let finished = refused_config(r#"{"nodes": [{"id": "n1", "addr": "0.0.0.0:9001"}]}"#);
    says(
        &finished,
        &[
            "0.0.0.0:9001",
            "without a cluster secret anybody",
            "the same cluster_secret",
            "write 127.0.0.1:9001",
            "--insecure",
        ],
    );

    let cluster = Cluster::of(1).lay_out();
    let config = cluster.folder().join("nodes.json");
    let data_dir = cluster.node("n1").data_dir();
    let finished = refused("n1", &config, data_dir, &["--listen", "0.0.0.0:9001"]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    says(&finished, &["--listen", "write 127.0.0.1:9001"]);
}

#[test]
fn an_unknown_node_a_missing_file_and_bad_json_are_refused() {
    let cluster = Cluster::of(2).lay_out();
    let config = cluster.folder().join("nodes.json");
    let data_dir = cluster.folder().join("data");
    says(&refused("n3", &config, &data_dir, &[]), &["has no node n3", "n1, n2"]);
    says(
        &refused("n1", &cluster.folder().join("none.json"), &data_dir, &[]),
        &["none.json", "No such file"],
    );
    says(&refused_config("{\"nodes\": [,]}"), &["line 1, column 12", "not JSON"]);
}

#[test]
fn a_taken_port_is_named() {
    let cluster = Cluster::of(1).start();
    let node = cluster.node("n1");
    let config = cluster.folder().join("nodes.json");
    let finished = refused("n1", &config, &cluster.folder().join("other"), &[]);
    says(&finished, &[&node.addr().to_string(), "in use"]);
}
