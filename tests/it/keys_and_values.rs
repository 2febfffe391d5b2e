use quorate_tests::Cluster;

#[test]
fn any_bytes_are_a_key() {
    let cluster = Cluster::of(3).start();
    let longest = vec![0xff; 1024];
    let all_bytes: Vec<u8> = (0..=255).collect();
    let keys: [&[u8]; 14] = [
        b"cat",
        b"a//b",
        b"/",
        b"//",
        b"..",
        b"../../etc/passwd",
        b"%2F",
        b"a b+c?d#e",
        b"\x00",
        b"\xff\xfe",
        "κλειδί".as_bytes(),
        b"a/",
        &longest,
        &all_bytes,
    ];
    for (i, key) in keys.iter().enumerate() {
        cluster.node("n1").put(key, i.to_string()).expect_status(204);
    }
    for (i, key) in keys.iter().enumerate() {
        assert_eq!(cluster.node("n2").get(key).expect_status(200).text(), i.to_string(), "{key:?}");
    }
    cluster.node("n1").put(vec![b'k'; 1025], "x").expect_status(400);
    cluster.node("n1").put("", "x").expect_status(400);
    cluster.node("n1").request("PUT", "/kv/%zz", "x").expect_status(400);
}

#[test]
fn slashes_are_never_folded_and_nobody_is_redirected() {
    let cluster = Cluster::of(1).start();
    let node = cluster.node("n1");
    node.request("PUT", "/kv//a//b/../c", "x").expect_status(204);
    node.request("GET", "/kv//a//b/../c", "").expect_status(200);
    node.request("GET", "/kv/%2Fa%2F%2Fb%2F..%2Fc", "").expect_status(200);
    for other in ["/kv/a/b/../c", "/kv/a/c", "/kv//a/c", "/kv/a//b/../c"] {
        node.request("GET", other, "").expect_status(404);
    }
}

#[test]
fn values_are_any_bytes_of_any_length_up_to_the_limit() {
    let cluster = Cluster::of(3).start();
    for len in [0, 1, 100, 65_536, 1 << 20, (8 << 20) - 1, 8 << 20] {
        let value: Vec<u8> =
            (0..len).map(|i: u32| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        cluster.node("n1").put("value", &value).expect_status(204);
        assert!(cluster.node("n2").get("value").expect_status(200).body == value, "{len} bytes");
        let head = cluster.node("n3").request("HEAD", "/kv/value", "").expect_status(200);
        let said = head.header("content-length");
        // HTTP lets an answer to HEAD leave out a length, and hyper does so with 0.
        assert!(said == len.to_string() || len == 0 && said.is_empty(), "{said} for {len}");
    }
}

#[test]
fn a_value_above_the_limit_is_refused_before_it_is_read() {
    let cluster = Cluster::of(1).start();
    let addr = cluster.node("n1").addr();
    let head = format!(
        "PUT /kv/big HTTP/1.1\r\nHost: {addr}\r\nContent-Length: {}\r\n\r\n",
        (8 << 20) + 1
    );
    let reply = quorate_tests::exchange(addr, head.as_bytes()).unwrap().expect_status(413);
    assert_eq!(reply.json()["limit_bytes"], 8 << 20);
    cluster.node("n1").put("big", vec![1; (8 << 20) + 1]).expect_status(413);
    cluster.node("n1").get("big").expect_status(404);
}

#[test]
fn a_write_on_one_node_is_read_on_the_others_with_the_same_version() {
    let cluster = Cluster::of(3).start();
    let written = cluster.node("n1").put("cat", "meow").expect_status(204);
    let version = written.header("quorate-version");
    assert_eq!(written.header("etag"), format!("\"{version}\""));
    assert!(written.header("quorate-receipt").starts_with("w="), "{written:?}");
    for id in ["n2", "n3"] {
        let found = cluster.node(id).get("cat").expect_status(200);
        assert_eq!((found.text().as_str(), found.header("quorate-version")), ("meow", version));
        assert_eq!(found.header("content-type"), "application/octet-stream");
        assert!(found.header("quorate-receipt").starts_with("r="), "{found:?}");
    }
}
