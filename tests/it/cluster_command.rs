use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
};

use quorate_tests::{
    PATIENCE, eventually, eventually_some, free_ports, program, request, run_in, signal,
};
use rustix::process::Signal;
use tempfile::TempDir;

/// A running `quorate cluster`.
struct Running {
    child: Child,
    addrs: [SocketAddr; 3],
    nodes: Vec<u32>,
    folder: TempDir,
}

impl Running {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base_port = three_ports();
        let output = File::create(folder.path().join("output")).unwrap();
        let mut child = Command::new(program())
            .args(["cluster", "--base-port", &base_port.to_string()])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        let addrs = [0, 1, 2].map(|i| ([127, 0, 0, 1], base_port + i).into());
        eventually("all nodes are ready", PATIENCE, || {
            assert!(child.try_wait().unwrap().is_none(), "{}", read(folder.path()));
            read(folder.path()).contains("all 3 nodes are ready")
        });
        let nodes = children(child.id());
        assert_eq!(nodes.len(), 3, "each node is a process");
        Self { child, addrs, nodes, folder }
    }

    fn output(&self) -> String {
        read(self.folder.path())
    }

    fn wait_for_nodes_to_end(&self) {
        eventually("no process is left", PATIENCE, || {
            !self.nodes.iter().any(|&pid| is_running(pid))
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn read(folder: &Path) -> String {
    String::from_utf8_lossy(&fs::read(folder.join("output")).unwrap()).into_owned()
}

/// The first of three ports in a row that are free.
fn three_ports() -> u16 {
    eventually_some("three ports in a row", PATIENCE, || {
        let ports = free_ports(3);
        let in_a_row = ports[1] == ports[0] + 1 && ports[2] == ports[0] + 2;
        if in_a_row { Ok(ports[0]) } else { Err(ports) }
    })
}

fn children(pid: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let list = fs::read_to_string(task.unwrap().path().join("children")).unwrap();
        children.extend(list.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
    }
    children
}

/// Whether a process is there and no zombie.
fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn a_cluster_serves_and_ctrl_c_leaves_no_process() {
    let mut cluster = Running::start();
    let [n1, n2, n3] = cluster.addrs;
    request(n1, "PUT", "/kv/cat", b"meow").unwrap().expect_status(204);
    for addr in [n2, n3] {
        assert_eq!(request(addr, "GET", "/kv/cat", b"").unwrap().expect_status(200).body, b"meow");
    }
    assert!(
        cluster.output().contains(&format!("n2 | n2 listening on http://{n2}")),
        "{}",
        cluster.output()
    );

    assert!(signal(cluster.child.id(), Signal::INT));
    let status = eventually_some("the cluster ends", PATIENCE, || {
        cluster.child.try_wait().unwrap().ok_or("it still runs")
    });
    assert_eq!(status.code(), Some(0), "{}", cluster.output());
    assert!(!cluster.nodes.iter().any(|&pid| is_running(pid)), "nodes end before the cluster does");
}

#[test]
fn nodes_do_not_outlive_a_cluster_that_was_killed() {
    let mut cluster = Running::start();
    cluster.child.kill().unwrap();
    cluster.child.wait().unwrap();
    cluster.wait_for_nodes_to_end();
}

#[test]
fn a_node_that_dies_is_reported_and_not_started_again() {
    let cluster = Running::start();
    assert!(signal(cluster.nodes[1], Signal::KILL));
    eventually("it is said", PATIENCE, || cluster.output().contains("has ended"));
    assert_eq!(children(cluster.child.id()).len(), 2, "{}", cluster.output());
    request(cluster.addrs[0], "PUT", "/kv/cat", b"meow").unwrap().expect_status(204);
}

#[test]
fn a_used_port_is_named_with_the_remedy_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let base_port = three_ports();
    let taken = TcpListener::bind(("127.0.0.1", base_port + 1)).unwrap();
    let finished = run_in(folder.path(), &["cluster", "--base-port", &base_port.to_string()], &[]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains(&format!("port {} is taken", base_port + 1)), "{finished:?}");
    assert!(finished.stderr.contains("--base-port"), "{finished:?}");
    assert!(!folder.path().join("data/n1").exists(), "nothing was started");
    drop(taken);
}

#[test]
fn a_node_that_cannot_start_stops_the_others_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    fs::write(folder.path().join("data/n2"), "a file where a folder should be").unwrap();
    let base_port = three_ports();
    let finished = run_in(folder.path(), &["cluster", "--base-port", &base_port.to_string()], &[]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains("n2 could not start"), "{finished:?}");
    assert!(finished.stderr.contains("n2 | "), "its own words are there: {finished:?}");
}
