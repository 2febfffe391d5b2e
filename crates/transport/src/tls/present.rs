use std::{
    fmt, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use quorate_record::NodeId;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    client::{Resumption, WebPkiServerVerifier, danger::ServerCertVerifier, verify_server_name},
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, DnsName, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
    server::{ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::TLS13,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::{TlsError, TlsFile, TlsFiles, TlsProblem};
use crate::pending::Pending;

/// How long whoever has connected may take to agree on keys.
const ACCEPT_TIMEOUT: Duration = Duration::from_secs(5);

/// How many may be about to agree on keys; one too many takes the place of the oldest.
const MAX_HANDSHAKES: usize = 512;

/// All that is spoken inside.
const ALPN: &[u8] = b"http/1.1";

/// The first byte of every TLS connection.
const HANDSHAKE_RECORD: u8 = 22;

/// Said to those who do not speak TLS.
const SPEAK_TLS: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\n\
    Connection: close\r\nContent-Length: 94\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Bad request\",\"status\":400,\"detail\":\"this node speaks TLS only\"}";

/// The certificates of a node, as they were read last.
///
/// Whoever connects need not show a certificate; one that is shown must be signed by the cluster's
/// authority. A node that is dialled must show one that names its id. Only TLS 1.3 is spoken, and no
/// connection goes on from an earlier one: each is checked in full.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    files: TlsFiles,
    node: NodeId,
    current: RwLock<Arc<Ends>>,
    handshakes: Pending,
}

/// What both ends of new connections need.
struct Ends {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

/// The certificate that the other end of a connection has shown, signed by the cluster's authority.
#[derive(Clone, Debug)]
pub struct PeerCertificate(CertificateDer<'static>);

impl Tls {
    /// Reads the certificates of `node`.
    ///
    /// # Errors
    /// [`TlsError`] if a file cannot be used, or if the other nodes would refuse the certificate:
    /// because of its authority, its dates, or because it does not name the node as a DNS name or
    /// not for both ends of connections.
    pub fn load(files: TlsFiles, node: NodeId) -> Result<Self, TlsError> {
        let current = RwLock::new(Arc::new(Ends::load(&files, node)?));
        let handshakes = Pending::new(MAX_HANDSHAKES);
        Ok(Self(Arc::new(Inner { files, node, current, handshakes })))
    }

    /// Whether a certificate can name this node: ids are looked for among DNS names.
    #[must_use]
    pub fn can_name(node: NodeId) -> bool {
        dns_name(node).is_some()
    }

    /// Reads the files again, for new connections; those that are open go on.
    ///
    /// # Errors
    /// As [`load`](Self::load); what was read before is used on.
    pub fn reload(&self) -> Result<(), TlsError> {
        let ends = Arc::new(Ends::load(&self.0.files, self.0.node)?);
        *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = ends;
        Ok(())
    }

    /// Agrees with whoever has connected, within five seconds; also tells what certificate it has
    /// shown.
    ///
    /// # Errors
    /// If that fails: it speaks no TLS, shows a certificate of another authority, takes too long,
    /// or so many others came later that its place was needed.
    pub async fn accept(
        &self,
        socket: TcpStream,
    ) -> io::Result<(server::TlsStream<TcpStream>, Option<PeerCertificate>)> {
        let mut place = self.0.handshakes.enter();
        let handshake = async {
            let mut first = [0];
            socket.peek(&mut first).await?;
            if first != [HANDSHAKE_RECORD] {
                return Err(speak_tls(&socket));
            }
            self.ends().acceptor.accept(socket).await
        };
        let stream = tokio::select! {
            done = timeout(ACCEPT_TIMEOUT, handshake) => done??,
            () = place.taken_away() => return Err(io::Error::other("too many later handshakes")),
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
        Ok((stream, shown.map(PeerCertificate)))
    }

    /// Agrees with the node `to`.
    pub(crate) async fn connect(
        &self,
        socket: TcpStream,
        to: NodeId,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let name = dns_name(to).ok_or_else(|| io::Error::other("no certificate can name it"))?;
        self.ends().connector.connect(ServerName::DnsName(name), socket).await
    }

    fn ends(&self) -> Arc<Ends> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.0.files).finish()
    }
}

impl PeerCertificate {
    /// Whether it is this node's.
    #[must_use]
    pub fn names(&self, node: NodeId) -> bool {
        let Some(name) = dns_name(node) else { return false };
        ParsedCertificate::try_from(&self.0)
            .is_ok_and(|cert| verify_server_name(&cert, &ServerName::DnsName(name)).is_ok())
    }
}

impl Ends {
    fn load(files: &TlsFiles, node: NodeId) -> Result<Self, TlsError> {
        let TlsFiles { cert, key, ca } = files;
        let at = |file, path: &PathBuf| {
            let path = path.clone();
            move |problem| TlsError { file, path, problem }
        };
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(roots(ca).map_err(at(TlsFile::Ca, ca))?);
        let chain = certificates(cert).map_err(at(TlsFile::Cert, cert))?;
        let key_der = private_key(key).map_err(at(TlsFile::Key, key))?;

        let bad_ca = |error: &dyn fmt::Display| {
            let problem = malformed("certificate of an authority", error);
            TlsError { file: TlsFile::Ca, path: ca.clone(), problem }
        };
        let servers =
            WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|error| bad_ca(&error))?;
        let clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| bad_ca(&error))?;
        check_own(&chain, node, &*servers, &*clients).map_err(at(TlsFile::Cert, cert))?;

        let acceptor = server_config(&provider, clients, chain.clone(), key_der.clone_key());
        let connector = client_config(&provider, servers, chain, key_der);
        let (acceptor, connector) = acceptor
            .and_then(|acceptor| Ok((acceptor, connector?)))
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => TlsProblem::OtherKey,
                error => malformed("key that can be used", &error),
            })
            .map_err(at(TlsFile::Key, key))?;
        Ok(Self { acceptor: Arc::new(acceptor).into(), connector: Arc::new(connector).into() })
    }
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    clients: Arc<dyn ClientCertVerifier>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    servers: Arc<WebPkiServerVerifier>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_webpki_verifier(servers)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Looks at the node's own certificate as the other nodes will: better to hear of it at the start.
fn check_own(
    chain: &[CertificateDer<'static>],
    node: NodeId,
    servers: &dyn ServerCertVerifier,
    clients: &dyn ClientCertVerifier,
) -> Result<(), TlsProblem> {
    let refused = |detail| TlsProblem::Refused { node, detail };
    let name = dns_name(node).ok_or_else(|| refused("its id is no DNS name".to_owned()))?;
    let (own, between) = chain.split_first().expect("an empty chain is malformed");
    let now = UnixTime::now();
    servers
        .verify_server_cert(own, between, &ServerName::DnsName(name), &[], now)
        .map(drop)
        .and_then(|()| clients.verify_client_cert(own, between, now).map(drop))
        .map_err(|error| refused(error.to_string()))
}

/// The DNS name that stands for the node. Those that end in a dot would stand for another one, too.
fn dns_name(node: NodeId) -> Option<DnsName<'static>> {
    let name = DnsName::try_from(node.as_str().to_owned()).ok();
    name.filter(|name| !name.as_ref().ends_with('.'))
}

fn roots(path: &Path) -> Result<RootCertStore, TlsProblem> {
    let mut roots = RootCertStore::empty();
    for cert in certificates(path)? {
        roots.add(cert).map_err(|error| malformed("certificate of an authority", &error))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    let text = fs::read(path).map_err(TlsProblem::Unreadable)?;
    let certificates = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(malformed("certificate", &pem::Error::NoItemsFound))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(malformed("certificate", &error)),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsProblem> {
    let metadata = fs::metadata(path).map_err(TlsProblem::Unreadable)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(TlsProblem::NotPrivate);
    }
    let text = fs::read(path).map_err(TlsProblem::Unreadable)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| malformed("private key", &error))
}

fn malformed(what: &'static str, error: &dyn fmt::Display) -> TlsProblem {
    TlsProblem::Malformed { what, detail: error.to_string() }
}

/// Tells somebody who does not speak TLS so, as far as that goes without waiting.
fn speak_tls(socket: &TcpStream) -> io::Error {
    // What is left unread would make the answer a reset.
    let _ = socket.try_read(&mut [0; 4096]);
    let _ = socket.try_write(SPEAK_TLS.as_bytes());
    io::Error::new(io::ErrorKind::InvalidData, "it does not speak TLS")
}
