//! Clusters whose nodes share a secret.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::json;

use quorate_tests::{
    Cluster, PATIENCE, Reply, eventually, eventually_some, free_ports, request, request_with,
    run_in,
};

const A: &str = "a-secret-of-32-characters-or-more";
const B: &str = "the-next-secret-of-that-cluster--";
const OTHER: &str = "the-secret-of-some-other-cluster-";

/// Waits until a write reaches all three replicas from each node: all are connected to each other.
fn all_talk(cluster: &Cluster, what: &str) {
    for node in cluster.nodes() {
        eventually_some(&format!("{what}: {} reaches all", node.id()), PATIENCE, || {
            let reply = node.request("PUT", "/kv/cat?w=3&sloppy=false&timeout_ms=1000", what);
            if reply.status == 204 { Ok(()) } else { Err(reply.text()) }
        });
        assert_eq!(node.get("cat").body, what.as_bytes());
    }
}

fn with_bearer(cluster: &Cluster, line: &str, secret: &str, body: &str) -> Reply {
    let (method, path) = line.split_once(' ').unwrap();
    let bearer = format!("Authorization: Bearer {secret}");
    request_with(cluster.node("n1").addr(), method, path, &[&bearer], body.as_bytes()).unwrap()
}

#[test]
fn a_cluster_with_a_secret_works_and_never_shows_it() {
    let cluster = Cluster::of(3).secret(A).start();
    all_talk(&cluster, "meow");
    let status = cluster.node("n1").request("GET", "/admin/status", "").json();
    assert_eq!((&status["authenticated"], &status["insecure"]), (&true.into(), &false.into()));
    for node in cluster.nodes() {
        assert!(!node.log().contains(A), "{}", node.log());
        assert!(node.log().contains("connected to a peer"));
    }
}

#[test]
fn the_commands_show_the_token_that_clients_are_asked_for() {
    let cluster =
        Cluster::of(3).field("client_auth", "token").field("client_tokens", json!([A])).start();
    let addr = cluster.node("n1").addr().to_string();
    let run = |args: &[&str], env: &[(&str, &str)]| {
        run_in(cluster.folder(), &[args, &["--node", &addr]].concat(), env)
    };
    let put = &["put", "cat", "meow"];
    assert_eq!(run(put, &[]).code, Some(1), "without it");
    assert_eq!(run(put, &[("QUORATE_TOKEN", OTHER)]).code, Some(1), "with another");
    assert_eq!(run(put, &[("QUORATE_TOKEN", A)]).code, Some(0));
    let got = run(&["get", "cat", "--token", A], &[]);
    assert_eq!((got.code, got.stdout.as_str()), (Some(0), "meow"));
    assert_eq!(run(&["delete", "cat", "--token", A], &[]).code, Some(0));
}

#[test]
fn peer_and_operator_paths_ask_for_the_secret() {
    let cluster = Cluster::of(1).secret(&format!("{A} {B}")).start();
    let addr = cluster.node("n1").addr();
    let calls = [("POST /internal/get", r#"{"key":"cat"}"#), ("GET /debug/hints", "")];
    for (line, body) in calls {
        let (method, path) = line.split_once(' ').unwrap();
        let refused = request(addr, method, path, body.as_bytes()).unwrap().expect_status(401);
        let wrong = with_bearer(&cluster, line, OTHER, body).expect_status(401);
        assert_eq!(refused.body, wrong.body);
        with_bearer(&cluster, line, A, body).expect_status(200);
        with_bearer(&cluster, line, B, body).expect_status(200);
    }
    for path in ["/health", "/ready"] {
        request(addr, "GET", path, b"").unwrap().expect_status(200);
    }
    request(addr, "PUT", "/kv/cat", b"meow").unwrap().expect_status(204);
}

#[test]
fn the_status_command_shows_the_secret_to_the_nodes() {
    let cluster = Cluster::of(2).secret(A).start();
    let addr = cluster.node("n1").addr().to_string();
    let asks = |env: &[(&str, &str)], more: &[&str]| {
        run_in(cluster.folder(), &[&["status", "--node", &addr], more].concat(), env)
    };
    let refused = asks(&[], &[]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let told = asks(&[("QUORATE_CLUSTER_SECRET", A)], &[]);
    assert!(told.code == Some(0) && told.stdout.matches("ready").count() == 2, "{told:?}");

    let file = cluster.folder().join("other.json");
    let nodes = r#"{"nodes": [{"id": "n1", "addr": "127.0.0.1:1"}], "cluster_secret": "#;
    fs::write(&file, format!("{nodes}\"{A}\"}}")).unwrap();
    let told = asks(&[], &["--config", "other.json"]);
    assert!(told.code == Some(0) && told.stdout.matches("ready").count() == 2, "{told:?}");
}

#[test]
fn a_node_with_another_secret_is_refused_and_both_logs_say_why() {
    let mut cluster = Cluster::of(3).secret(A).start();
    all_talk(&cluster, "before");
    cluster.stop("n3");
    cluster.give_secret("n3", OTHER);
    cluster.spawn("n3");
    let says = |id: &str, words: &str| {
        eventually(&format!("{id} says {words}"), PATIENCE, || {
            cluster.node(id).log().contains(words)
        });
    };
    says("n3", "node n1 proves none of the cluster secrets of node n3");
    says("n3", "node n2 proves none of the cluster secrets of node n3");
    says("n1", "node n3 proves none of the cluster secrets of node n1");
    says("n1", "the peer ended the handshake when it was to prove");
    assert!(!cluster.node("n3").is_ready(), "it is alone");
    cluster.node("n1").put("cat", "after").expect_status(204);
    assert_eq!(cluster.node("n2").get("cat").body, b"after");
    for id in ["n1", "n3"] {
        let log = cluster.node(id).log();
        assert!(!log.contains(A) && !log.contains(OTHER), "{log}");
    }

    cluster.kill("n3");
    cluster.give_secret("n3", A);
    cluster.start("n3");
    all_talk(&cluster, "again");
}

#[test]
fn a_secret_is_replaced_one_node_at_a_time() {
    let mut cluster = Cluster::of(3).secret(A).start();
    for step in [format!("{A} {B}"), format!("{B} {A}"), B.to_owned()] {
        for id in ["n1", "n2", "n3"] {
            cluster.stop(id);
            cluster.give_secret(id, &step);
            cluster.start(id);
            all_talk(&cluster, id);
        }
    }
    with_bearer(&cluster, "GET /debug/hints", A, "").expect_status(401);
}

#[test]
fn with_a_secret_a_node_may_listen_where_others_reach_it() {
    let port = free_ports(1)[0];
    let config = format!(
        r#"{{"nodes": [{{"id": "n1", "addr": "127.0.0.1:{port}"}}, {{"id": "n2", "addr": "192.0.2.1:1"}}]}}"#
    );
    let listen = format!("0.0.0.0:{port}");
    let mut cluster = Cluster::of(1).option("--listen", &listen).secret(A).lay_out();
    fs::write(cluster.folder().join("nodes.json"), config).unwrap();
    cluster.spawn("n1");
    eventually("n1 listens", PATIENCE, || {
        cluster.node("n1").log().contains(&format!("n1 listening on http://{listen}"))
    });
    let addr = ([127, 0, 0, 1], port).into();
    request(addr, "GET", "/health", b"").unwrap().expect_status(200);
    request(addr, "GET", "/admin/status", b"").unwrap().expect_status(401);
}

#[test]
fn an_insecure_node_says_so_in_its_log_and_its_status() {
    let cluster = Cluster::of(1).flag("--insecure").start();
    let status = cluster.node("n1").request("GET", "/admin/status", "").json();
    assert_eq!((&status["authenticated"], &status["insecure"]), (&false.into(), &true.into()));
    assert!(cluster.node("n1").log().contains("--insecure: anybody who reaches this node"));
}

#[test]
fn a_secret_file_that_others_can_read_is_refused() {
    let mut cluster = Cluster::of(2).field("cluster_secret_file", "secret").lay_out();
    let secret = cluster.folder().join("secret");
    fs::write(&secret, format!("{A}\n{B}\n")).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    let data_dir = cluster.node("n1").data_dir().to_str().unwrap().to_owned();
    let args = ["serve", "--id", "n1", "--data-dir", &data_dir];
    let refused = run_in(cluster.folder(), &args, &[]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("chmod 600"), "{refused:?}");

    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    cluster.start_all();
    with_bearer(&cluster, "GET /debug/hints", B, "").expect_status(200);
}
