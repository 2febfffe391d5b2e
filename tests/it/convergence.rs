use quorate_tests::{Cluster, Finished, Node, PATIENCE, eventually, run};
use serde_json::json;

fn addr(node: &Node) -> String {
    node.addr().to_string()
}

fn often() -> quorate_tests::Builder {
    Cluster::of(3).option("--anti-entropy-interval", "100ms")
}

#[test]
fn converge_waits_until_all_is_equal() {
    let cluster = often().start();
    for i in 0..30 {
        cluster.node(["n1", "n2", "n3"][i % 3]).plant(&format!("key-{i}"), Some("x"));
    }
    let args = ["converge", "--wait", "--node", &addr(cluster.node("n2"))];
    let Finished { code, stdout, stderr } = run(&args);
    assert_eq!((code, stdout.as_str()), (Some(0), "all replicas are equal\n"), "{stderr}");
    for i in 0..30 {
        let key = format!("key-{i}");
        assert!(cluster.nodes().iter().all(|node| node.held(&key).is_some()), "{key}");
    }
    let page = cluster.node("n1").json("/admin/convergence");
    assert_eq!(page["ranges"].as_array().map(Vec::len), Some(1), "{page}");
    assert_eq!(page["ranges"][0]["peers"], json!(["n2", "n3"]));
    let standing = &page["peers"]["n3"];
    assert!(standing["since_unix_ms"].as_u64() <= standing["as_of_unix_ms"].as_u64(), "{page}");
    assert_eq!(cluster.node("n1").json("/admin/status")["differs"], 0);
}

#[test]
fn converge_names_what_is_in_the_way() {
    let mut cluster = Cluster::of(3).option("--anti-entropy", "false").start();
    cluster.kill("n3");
    cluster.node("n1").put("cat", "meow").expect_status(204);
    eventually("a hint is kept", PATIENCE, || cluster.hints() > 0);
    let args = ["converge", "--wait", "--timeout", "1s", "--node", &addr(cluster.node("n1"))];
    let Finished { code, stdout, .. } = run(&args);
    assert_eq!(code, Some(1));
    let expected = [
        "not equal after 1s:",
        "n3 does not answer",
        "n1 holds hints that are not delivered",
        "n1 and n2 were not compared again",
        "n1 and n3 were not compared again",
        "n2 and n3 were not compared again",
    ];
    assert_eq!(stdout.lines().map(str::trim).collect::<Vec<_>>(), expected);

    let nobody = format!("127.0.0.1:{}", quorate_tests::free_ports(1)[0]);
    let Finished { code, stderr, .. } = run(&["converge", "--node", &nobody]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains(&nobody), "{stderr}");
}

#[test]
fn a_write_waits_for_all_its_owners_or_is_told_who_lacks_it() {
    let mut cluster = Cluster::of(3).start();
    let reply = cluster.node("n1").request("PUT", "/kv/cat?wait=owners&w=1", "meow");
    let receipt = reply.expect_status(204).header("quorate-receipt").to_owned();
    assert!(receipt.contains(" owners=all "), "{receipt}");
    assert!(cluster.nodes().iter().all(|node| node.held_value("cat") == Some(b"meow".into())));

    cluster.kill("n3");
    let path = "/kv/cat?wait=owners&timeout_ms=600";
    let reply = cluster.node("n1").request("PUT", path, "purr").expect_status(504);
    assert!(reply.header("quorate-receipt").contains(" lacking=n3 "), "{reply:?}");
    let problem = reply.json();
    assert_eq!(
        (&problem["lacking"], &problem["outcome"]),
        (&json!(["n3"]), &json!("acknowledged"))
    );
    assert_eq!(cluster.node("n2").get("cat").expect_status(200).text(), "purr");

    let node = addr(cluster.node("n2"));
    let args = ["put", "cat", "hiss", "--wait-owners", "--timeout", "600ms", "--node", &node];
    let Finished { code, stderr, .. } = run(&args);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("acknowledged, but not held by n3"), "{stderr}");
}

#[test]
fn a_write_that_waits_is_answered_when_the_hint_has_arrived() {
    let mut cluster = Cluster::of(3).option("--anti-entropy", "false").start();
    cluster.kill("n3");
    let node = addr(cluster.node("n1"));
    let waiting = std::thread::spawn(move || {
        run(&["put", "cat", "meow", "--wait-owners", "--timeout", "50s", "--node", &node])
    });
    eventually("the write has begun", PATIENCE, || cluster.node("n2").held("cat").is_some());
    assert!(!waiting.is_finished());
    cluster.start("n3");
    let Finished { code, stderr, .. } = waiting.join().unwrap();
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(cluster.node("n3").held_value("cat"), Some(b"meow".into()));
}
