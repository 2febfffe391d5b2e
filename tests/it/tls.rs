//! Clusters whose connections are encrypted.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use quorate_client::{Client, ClientOptions, ClientTls, GetOptions, PutOptions, Replicas};
use quorate_tests::{Cluster, PATIENCE, eventually, eventually_some, request, run_in, signal};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustix::process::Signal;
use serde_json::json;

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca() -> Ca {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ca::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes a certificate of `ca` for a node, and its key.
fn certify(folder: &Path, ca: &Ca, node: &str, more_names: &[&str]) {
    let names = [&[node, "127.0.0.1"], more_names].concat();
    let names: Vec<_> = names.into_iter().map(str::to_owned).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key_pair = KeyPair::generate().unwrap();
    let key = folder.join(format!("{node}.key"));
    fs::write(&key, key_pair.serialize_pem()).unwrap();
    fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    let cert = params.signed_by(&key_pair, ca).unwrap();
    fs::write(folder.join(format!("{node}.crt")), cert.pem()).unwrap();
}

/// A cluster that has not started, and its authority.
fn lay_out(nodes: usize) -> (Cluster, Ca) {
    let tls = json!({"cert": "{id}.crt", "key": "{id}.key", "ca": "ca.crt"});
    let (cluster, ca) = (Cluster::of(nodes).field("tls", tls).lay_out(), ca());
    for node in cluster.nodes() {
        certify(cluster.folder(), &ca, node.id(), &[]);
    }
    fs::write(cluster.folder().join("ca.crt"), ca.pem()).unwrap();
    (cluster, ca)
}

/// Starts all nodes, and waits until they say that they are ready.
fn start(cluster: &mut Cluster) {
    let ids: Vec<_> = cluster.nodes().iter().map(|node| node.id().to_owned()).collect();
    ids.iter().for_each(|id| cluster.spawn(id));
    ids.iter().for_each(|id| ready(cluster, id));
}

fn ready(cluster: &Cluster, id: &str) {
    let addr = cluster.node(id).addr().to_string();
    let client = client(cluster, &[]);
    eventually_some(&format!("{id} is ready"), PATIENCE, || {
        block_on(client.get_text(&addr, "/ready"))
    });
}

fn block_on<T>(call: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(call)
}

/// A client of all nodes; those in `named` must prove that they have this name.
fn client(cluster: &Cluster, named: &[(&str, &str)]) -> Client {
    let authority = fs::read(cluster.folder().join("ca.crt")).unwrap();
    let mut tls = ClientTls::new(&authority).unwrap();
    for (id, name) in named {
        tls = tls.name(&cluster.node(id).addr().to_string(), name).unwrap();
    }
    let addrs = cluster.nodes().iter().map(|node| node.addr());
    // Each call is to have a connection of its own, to the node that it asks.
    let options = ClientOptions { tls: Some(tls), idle_connections: 0, ..Default::default() };
    Client::new(addrs, options).unwrap()
}

/// Waits until a write that is sent to `id` reaches so many replicas.
fn writes(cluster: &Cluster, id: &str, replicas: usize) {
    let tls = ClientTls::new(&fs::read(cluster.folder().join("ca.crt")).unwrap()).unwrap();
    let options = ClientOptions { tls: Some(tls), retries: 0, ..Default::default() };
    let client = Client::new([cluster.node(id).addr()], options).unwrap();
    let everywhere = PutOptions {
        w: Some(Replicas::Count(replicas)),
        sloppy: Some(false),
        ..PutOptions::default()
    };
    eventually_some(&format!("{id} reaches {replicas} replicas"), PATIENCE, || {
        block_on(client.put(b"cat", format!("meow of {id}"), &everywhere))
    });
}

#[test]
fn a_cluster_with_certificates_takes_tls_and_nothing_else() {
    let (mut cluster, _ca) = lay_out(3);
    start(&mut cluster);
    for id in ["n1", "n2", "n3"] {
        writes(&cluster, id, 3);
        let log = cluster.node(id).log();
        assert!(log.contains("listening on https://") && log.contains("connected to a peer"));
    }
    let found = block_on(client(&cluster, &[]).get(b"cat", &GetOptions::default())).unwrap();
    assert_eq!(&found.unwrap().value[..], b"meow of n3");

    let refused = request(cluster.node("n1").addr(), "GET", "/kv/cat", b"").unwrap();
    assert!(refused.expect_status(400).text().contains("this node speaks TLS only"));
    let stranger = client(&cluster, &[("n1", "n2"), ("n2", "n3"), ("n3", "n1")]);
    let refused = block_on(stranger.get(b"cat", &GetOptions::default())).unwrap_err().to_string();
    assert!(refused.contains("not valid for name"), "{refused}");
}

#[test]
fn the_commands_believe_the_authority_of_nodes_json_or_the_one_named() {
    let (mut cluster, _ca) = lay_out(3);
    start(&mut cluster);
    let addr = cluster.node("n2").addr().to_string();
    let (here, elsewhere) = (cluster.folder(), tempfile::tempdir().unwrap());
    let ca = here.join("ca.crt");
    let quorate =
        |folder: &Path, args: &[&str]| run_in(folder, &[args, &["--node", &addr]].concat(), &[]);
    assert_eq!(quorate(here, &["put", "cat", "meow"]).code, Some(0));
    let found = quorate(elsewhere.path(), &["get", "cat", "--ca", ca.to_str().unwrap()]);
    assert_eq!((found.code, &*found.stdout), (Some(0), "meow"), "{found:?}");
    assert_eq!(quorate(elsewhere.path(), &["get", "cat"]).code, Some(1));

    // The node's own certificate, from nodes.json, makes one an operator.
    let status = quorate(here, &["status"]);
    assert!(status.code == Some(0) && status.stdout.matches("ready").count() == 3, "{status:?}");
    let stranger = quorate(elsewhere.path(), &["status", "--ca", ca.to_str().unwrap()]);
    assert!(stranger.stderr.contains("client certificate"), "{stranger:?}");
    assert_eq!(stranger.code, Some(1));
}

#[test]
fn a_node_of_another_authority_is_not_let_in() {
    let (mut cluster, ca) = lay_out(3);
    start(&mut cluster);
    writes(&cluster, "n1", 3);
    cluster.stop("n3");
    let folder = cluster.folder().to_owned();
    let other = self::ca();
    certify(&folder, &other, "n3", &[]);
    // It believes the others, and they do not believe it.
    let config = fs::read_to_string(folder.join("nodes.json")).unwrap();
    fs::write(folder.join("nodes.json"), config.replace("ca.crt", "both.crt")).unwrap();
    fs::write(folder.join("both.crt"), other.pem() + &ca.pem()).unwrap();
    cluster.spawn("n3");
    eventually("n3 says that its certificate is refused", PATIENCE, || {
        cluster.node("n3").log().contains("alert")
    });
    writes(&cluster, "n1", 2);
    eventually("n1 says why it does not talk to n3", PATIENCE, || {
        cluster.node("n1").log().contains("invalid peer certificate")
    });
    cluster.kill("n3");
    certify(&folder, &ca, "n3", &[]);
    cluster.spawn("n3");
    ready(&cluster, "n3");
    writes(&cluster, "n1", 3);
}

#[test]
fn sighup_has_a_renewed_certificate_served_and_a_bad_one_not() {
    let (mut cluster, ca) = lay_out(1);
    start(&mut cluster);
    let (folder, pid) = (cluster.folder().to_owned(), cluster.node("n1").pid());
    let renewed = client(&cluster, &[("n1", "renewed.example")]);
    let asks = || block_on(renewed.get(b"cat", &GetOptions::default()));
    assert!(asks().is_err(), "the certificate does not have that name yet");

    certify(&folder, &ca, "n1", &["renewed.example"]);
    assert!(signal(pid, Signal::HUP));
    eventually_some("the renewed certificate is served", PATIENCE, asks);

    fs::write(folder.join("n1.crt"), "nonsense").unwrap();
    assert!(signal(pid, Signal::HUP));
    eventually("the node says what is wrong", PATIENCE, || {
        cluster.node("n1").log().contains("still using the old certificates")
    });
    asks().unwrap();
}

#[test]
fn a_node_whose_certificates_are_no_good_does_not_start() {
    let (cluster, _ca) = lay_out(1);
    let key = cluster.folder().join("n1.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let data_dir = cluster.node("n1").data_dir().to_str().unwrap().to_owned();
    let args = ["serve", "--id", "n1", "--data-dir", &data_dir];
    let refused = run_in(cluster.folder(), &args, &[]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    for word in ["tls.key", "n1.key", "chmod 600"] {
        assert!(refused.stderr.contains(word), "{refused:?}");
    }
}
