use std::{collections::BTreeMap, fmt, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    version::TLS13,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How a client speaks TLS 1.3 with nodes and knows that they are the right ones.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    names: BTreeMap<String, ServerName<'static>>,
}

/// Why a client cannot speak TLS like that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientTlsError {
    /// There is no certificate of an authority, or one that makes no sense.
    #[error("no certificate of an authority in PEM form: {detail}")]
    BadAuthority {
        /// What is wrong.
        detail: String,
    },
    /// The client's own certificate and key cannot be used.
    #[error("no certificate with its key in PEM form: {detail}")]
    BadCertificate {
        /// What is wrong.
        detail: String,
    },
    /// No certificate can have such a name.
    #[error("{name:?} is no DNS name or address")]
    BadName {
        /// The name.
        name: String,
    },
}

impl ClientTls {
    /// Believes nodes whose certificates these authorities (PEM) have signed, and nobody else. Their
    /// certificates must name the hosts of their addresses.
    ///
    /// # Errors
    /// [`ClientTlsError::BadAuthority`].
    pub fn new(authorities: &[u8]) -> Result<Self, ClientTlsError> {
        Self::with(authorities, None)
    }

    /// Shows a certificate (PEM, those between it and the authority's behind it) as well, as nodes
    /// without a cluster secret want from operators.
    ///
    /// # Errors
    /// [`ClientTlsError`] if something cannot be read, or the key is another one's.
    pub fn with_certificate(
        authorities: &[u8],
        certificate: &[u8],
        key: &[u8],
    ) -> Result<Self, ClientTlsError> {
        Self::with(authorities, Some((certificate, key)))
    }

    /// The certificate of the node at `addr` must name this instead of the host: its id, say.
    ///
    /// # Errors
    /// [`ClientTlsError::BadName`].
    pub fn name(mut self, addr: &str, name: &str) -> Result<Self, ClientTlsError> {
        self.names.insert(addr.to_owned(), server_name(name)?);
        Ok(self)
    }

    fn with(authorities: &[u8], own: Option<(&[u8], &[u8])>) -> Result<Self, ClientTlsError> {
        let bad_authority = |error: &dyn fmt::Display| {
            let detail = error.to_string();
            ClientTlsError::BadAuthority { detail }
        };
        let bad_certificate = |error: &dyn fmt::Display| {
            let detail = error.to_string();
            ClientTlsError::BadCertificate { detail }
        };
        let mut roots = RootCertStore::empty();
        for cert in CertificateDer::pem_slice_iter(authorities) {
            let cert = cert.map_err(|error| bad_authority(&error))?;
            roots.add(cert).map_err(|error| bad_authority(&error))?;
        }
        if roots.is_empty() {
            return Err(bad_authority(&"there is none"));
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .expect("ring has what TLS 1.3 needs")
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>();
                let chain = chain.map_err(|error| bad_certificate(&error))?;
                let key = PrivateKeyDer::from_pem_slice(key);
                let key = key.map_err(|error| bad_certificate(&error))?;
                let config = builder.with_client_auth_cert(chain, key);
                config.map_err(|error| bad_certificate(&error))?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled(); // which nodes do not offer
        Ok(Self { config: Arc::new(config), names: BTreeMap::new() })
    }

    /// What the certificate of the node at `addr`, whose host is `host`, must name.
    pub(crate) fn name_of(
        &self,
        addr: &str,
        host: &str,
    ) -> Result<ServerName<'static>, ClientTlsError> {
        let name = self.names.get(addr).cloned();
        name.map_or_else(|| server_name(host.trim_matches(['[', ']'])), Ok)
    }

    pub(crate) async fn connect(
        &self,
        name: ServerName<'static>,
        socket: TcpStream,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        TlsConnector::from(Arc::clone(&self.config)).connect(name, socket).await
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, ClientTlsError> {
    let bad = |_| ClientTlsError::BadName { name: name.to_owned() };
    ServerName::try_from(name.to_owned()).map_err(bad)
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").field("names", &self.names).finish_non_exhaustive()
    }
}

/// Two are the same if one was cloned from the other.
impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && self.names == other.names
    }
}

impl Eq for ClientTls {}
