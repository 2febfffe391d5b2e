use std::{
    io::Write,
    process::{Command, Stdio},
};

use quorate_tests::{Cluster, Finished, program, root, run, run_in};

#[test]
fn values_go_in_and_out_as_they_are() {
    let cluster = Cluster::of(3).start();
    let at = |id: &str| cluster.node(id).addr().to_string();
    let quorate = |args: &[&str], id: &str| run(&[args, &["--node", &at(id)]].concat());

    assert_eq!(quorate(&["put", "cat", "meow"], "n1").code, Some(0));
    let found = quorate(&["get", "cat"], "n2");
    assert_eq!((found.code, found.stdout.as_str()), (Some(0), "meow"));
    assert_eq!(quorate(&["delete", "cat"], "n3").code, Some(0));
    let found = quorate(&["get", "cat"], "n1");
    assert_eq!((found.code, found.stdout.as_str()), (Some(1), ""));
    assert_eq!(quorate(&["delete", "cat"], "n3").code, Some(0), "twice is no error");
    assert_eq!(quorate(&["put", "", "x"], "n1").code, Some(2), "an empty key is none");
}

#[test]
fn a_dash_reads_the_value_from_stdin() {
    let cluster = Cluster::of(1).start();
    let value: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let mut put = Command::new(program())
        .args(["put", "bytes", "-", "--node", &cluster.node("n1").addr().to_string()])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    put.stdin.take().unwrap().write_all(&value).unwrap();
    assert!(put.wait().unwrap().success());
    assert_eq!(cluster.node("n1").get("bytes").expect_status(200).body, value);
}

#[test]
fn the_node_can_come_from_the_environment() {
    let cluster = Cluster::of(1).start();
    cluster.node("n1").put("cat", "meow").expect_status(204);
    let addr = cluster.node("n1").addr().to_string();
    let found = run_in(root(), &["get", "cat"], &[("QUORATE_NODE", &addr)]);
    assert_eq!(found.stdout, "meow");
}

#[test]
fn status_shows_every_node() {
    let mut cluster = Cluster::of(3).start();
    cluster.node("n1").put("cat", "meow").expect_status(204);
    cluster.kill("n3");
    let addr = cluster.node("n1").addr().to_string();
    quorate_tests::eventually("n3 is seen to be down", quorate_tests::PATIENCE, || {
        let status = run(&["status", "--node", &addr]);
        let lines: Vec<_> =
            status.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        lines.len() == 4
            && lines[0] == ["node", "state", "keys", "bytes", "hints", "lag", "differs"]
            && lines[1][..3] == ["n1", "ready", "1"]
            && lines[3][..2] == ["n3", "down"]
    });
    let json = run(&["status", "--json", "--node", &addr]);
    assert!(serde_json::from_str::<serde_json::Value>(&json.stdout).is_ok(), "{}", json.stdout);
}

#[test]
fn a_node_that_is_not_there_is_an_error_that_names_it() {
    let addr = format!("127.0.0.1:{}", quorate_tests::free_ports(1)[0]);
    for args in [&["get", "cat"][..], &["put", "cat", "x"], &["delete", "cat"], &["status"]] {
        let Finished { code, stdout, stderr } = run(&[args, &["--node", &addr]].concat());
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{args:?}");
        assert!(stderr.contains(&addr), "{args:?}: {stderr}");
    }
}
