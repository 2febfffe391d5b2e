//! Peers that show certificates.

use std::{convert::Infallible, fs, net::SocketAddr, os::unix::fs::PermissionsExt, sync::Arc};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use quorate_transport::{
    Acceptor, DialError, Secrets, Stream, StreamOptions, Tls, TlsError, TlsFile, TlsFiles,
    TlsProblem, Trust, dial,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc::{self, UnboundedReceiver},
};

use crate::{
    listener::{id, identity, ping, pong, soon},
    secrets::{A, B, talk},
};

/// An authority and the files that it has made.
struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    /// The files of a node whose certificate is for `names`.
    fn files(&self, names: &[&str], adjust: impl FnOnce(&mut CertificateParams)) -> TlsFiles {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let at = |file: &str| self.folder.path().join(format!("{}.{file}", names.join("+")));
        let (cert, key) = (at("cert"), at("key"));
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        adjust(&mut params);
        let key_pair = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key_pair, &self.issuer).unwrap();
        fs::write(&cert, signed.pem()).unwrap();
        fs::write(&key, key_pair.serialize_pem()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        TlsFiles { cert, key, ca: self.folder.path().join("ca") }
    }

    fn of(&self, node: &str) -> Tls {
        Tls::load(self.files(&[node], |_| ()), id(node)).unwrap()
    }
}

fn trust(tls: Tls, secret: Option<&[u8]>) -> Trust {
    Trust::Tls { tls, secrets: secret.map(|secret| Secrets::new(secret, None)) }
}

/// The listener of n2, which has one peer, n1.
struct Listener {
    addr: SocketAddr,
    streams: UnboundedReceiver<Stream>,
}

impl Listener {
    async fn of_n2(tls: Tls, secret: Option<&[u8]>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let trust = trust(tls.clone(), secret);
        let acceptor = Acceptor::new(identity("n2"), [id("n1")], trust, StreamOptions::default());
        let acceptor = Arc::new(acceptor);
        let (accepted, streams) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (tls, acceptor, accepted) =
                    (tls.clone(), Arc::clone(&acceptor), accepted.clone());
                tokio::spawn(async move {
                    let Ok((stream, shown)) = tls.accept(socket).await else { return };
                    let service = service_fn(move |mut request| {
                        if let Some(shown) = &shown {
                            request.extensions_mut().insert(shown.clone());
                        }
                        let (response, accepting) = acceptor.accept(&mut request);
                        let accepted = accepted.clone();
                        if let Some(accepting) = accepting {
                            tokio::spawn(async move {
                                if let Ok(stream) = accepting.stream().await {
                                    let _ = accepted.send(stream); // the test may be over
                                }
                            });
                        }
                        async move { Ok::<_, Infallible>(response) }
                    });
                    let stream = TokioIo::new(stream);
                    let connection = http1::Builder::new().serve_connection(stream, service);
                    let _ = connection.with_upgrades().await;
                });
            }
        });
        Self { addr, streams }
    }

    /// What comes of it when n1 dials n2.
    async fn dialled(&self, trust: Trust) -> Result<Stream, DialError> {
        let n1 = identity("n1");
        soon(dial(self.addr, id("n2"), &n1, &trust, StreamOptions::default())).await
    }

    async fn refusal(&self, tls: Tls, secret: Option<&[u8]>) -> String {
        self.dialled(trust(tls, secret)).await.err().expect("it is refused").to_string()
    }
}

#[tokio::test]
async fn peers_with_certificates_talk_with_and_without_a_secret() {
    let ca = Ca::new();
    for secret in [None, Some(A)] {
        let mut listener = Listener::of_n2(ca.of("n2"), secret).await;
        let here = listener.dialled(trust(ca.of("n1"), secret)).await.unwrap();
        let there = soon(listener.streams.recv()).await.unwrap();
        let [(got_here, _), (got_there, _)] = talk(here, there).await;
        assert_eq!((got_here, got_there), (vec![pong(2)], vec![ping(1)]));
    }
}

#[tokio::test]
async fn a_secret_is_asked_for_inside_as_well() {
    let ca = Ca::new();
    let listener = Listener::of_n2(ca.of("n2"), Some(A)).await;
    for secret in [None, Some(B)] {
        let refusal = listener.refusal(ca.of("n1"), secret).await;
        assert!(refusal.contains("cluster secret"), "{refusal}");
    }
}

#[tokio::test]
async fn the_certificate_of_another_authority_is_refused_by_both_ends() {
    let (ca, other) = (Ca::new(), Ca::new());
    let listener = Listener::of_n2(ca.of("n2"), None).await;
    let refusal = listener.refusal(other.of("n1"), None).await;
    assert!(refusal.contains("invalid peer certificate"), "{refusal}");

    // One that believes the listener still shows a certificate that the listener does not believe.
    let mut files = other.files(&["n1"], |_| ());
    let both = [fs::read(&files.ca).unwrap(), fs::read(ca.files(&["n1"], |_| ()).ca).unwrap()];
    files.ca = other.folder.path().join("both");
    fs::write(&files.ca, both.concat()).unwrap();
    let refusal = listener.refusal(Tls::load(files, id("n1")).unwrap(), None).await;
    assert!(refusal.contains("no TLS with") && refusal.contains("alert"), "{refusal}");
}

#[tokio::test]
async fn a_certificate_names_the_node_that_shows_it() {
    let ca = Ca::new();
    let listener = Listener::of_n2(ca.of("n2"), None).await;
    let refusal = listener.refusal(ca.of("n3"), None).await;
    assert!(refusal.contains("node n1 shows no certificate that names it"), "{refusal}");

    let n1_listens = Tls::load(ca.files(&["n1"], |_| ()), id("n1")).unwrap();
    let listener = Listener::of_n2(n1_listens, None).await;
    let refusal = listener.refusal(ca.of("n1"), None).await;
    assert!(refusal.contains("n2") && refusal.contains("not valid for name"), "{refusal}");
}

#[tokio::test]
async fn certificates_are_read_again_and_bad_ones_change_nothing() {
    let ca = Ca::new();
    let files = ca.files(&["n2"], |_| ());
    let tls = Tls::load(files.clone(), id("n2")).unwrap();
    let listener = Listener::of_n2(tls.clone(), None).await;
    fs::write(&files.cert, "nonsense").unwrap();
    assert_eq!(tls.reload().unwrap_err().file, TlsFile::Cert);
    listener.dialled(trust(ca.of("n1"), None)).await.unwrap();

    let other = Ca::new();
    let theirs = other.files(&["n2"], |_| ());
    for (from, to) in
        [(&theirs.cert, &files.cert), (&theirs.key, &files.key), (&theirs.ca, &files.ca)]
    {
        fs::copy(from, to).unwrap();
    }
    tls.reload().unwrap();
    listener.dialled(trust(other.of("n1"), None)).await.unwrap();
    listener.refusal(Ca::new().of("n1"), None).await;
}

#[tokio::test]
async fn who_does_not_speak_tls_is_told_so() {
    let ca = Ca::new();
    let listener = Listener::of_n2(ca.of("n2"), None).await;
    let mut socket = TcpStream::connect(listener.addr).await.unwrap();
    socket.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    soon(socket.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("speaks TLS only\"}"), "{answer}");

    match listener.dialled(Trust::Loopback).await.err().expect("it is refused") {
        DialError::Refused { status: 400, detail, .. } => {
            assert_eq!(detail, "this node speaks TLS only");
        }
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_node_finds_fault_with_its_own_files_before_others_do() {
    let ca = Ca::new();
    let of_n1 = || ca.files(&["n1"], |_| ());
    let refused = |files: TlsFiles| {
        let TlsError { file, path, problem } = Tls::load(files, id("n1")).unwrap_err();
        assert!(path.exists() || matches!(problem, TlsProblem::Unreadable(_)));
        (file, problem.to_string())
    };
    let other = Ca::new();
    let expired = ca.files(&["n1", "expired"], |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let one_end = ca.files(&["n1", "server"], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let n2 = ca.files(&["n2"], |_| ());
    let exposed = ca.files(&["n1", "exposed"], |_| ());
    fs::set_permissions(&exposed.key, fs::Permissions::from_mode(0o640)).unwrap();
    for (files, file, says) in [
        (TlsFiles { cert: "nowhere".into(), ..of_n1() }, TlsFile::Cert, "cannot be read"),
        (TlsFiles { cert: of_n1().key, ..of_n1() }, TlsFile::Cert, "is no certificate"),
        (TlsFiles { ca: of_n1().key, ..of_n1() }, TlsFile::Ca, "is no certificate"),
        (TlsFiles { ca: other.files(&["n1"], |_| ()).ca, ..of_n1() }, TlsFile::Cert, "n1: invalid"),
        (TlsFiles { key: n2.key.clone(), ..of_n1() }, TlsFile::Key, "is not the key"),
        (TlsFiles { key: of_n1().cert, ..of_n1() }, TlsFile::Key, "others"),
        (exposed, TlsFile::Key, "chmod 600"),
        (expired, TlsFile::Cert, "expired"),
        (one_end, TlsFile::Cert, "client authentication"),
        (n2, TlsFile::Cert, "not valid for name \"n1\""),
    ] {
        let (found, what) = refused(files);
        assert!(found == file && what.contains(says), "{found} {what}, and not {file} {says}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_given_up_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (socket, _) = listener.accept().await.unwrap();
    let refused = Ca::new().of("n2").accept(socket).await.map(drop).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::TimedOut);
    drop(silent);
}
