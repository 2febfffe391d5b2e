//! Certificates: connections are encrypted, and peers show who they are.
//!
//! Without the feature `tls` there is no [`Tls`], and all that is said of it here takes no room.

use std::{fmt, io, path::PathBuf};

use quorate_record::NodeId;

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(feature = "tls")]
mod present;

#[cfg(not(feature = "tls"))]
pub use absent::{PeerCertificate, Tls};
#[cfg(feature = "tls")]
pub use present::{PeerCertificate, Tls};

/// Where the certificates of a node are, all of them in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The node's certificate, and those between it and the authority's.
    pub cert: PathBuf,
    /// The key of that certificate; nobody but the node's user may be able to read it.
    pub key: PathBuf,
    /// The authority that signs the certificates of all nodes of the cluster, and nobody else's.
    pub ca: PathBuf,
}

/// One of the [`TlsFiles`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFile {
    /// The node's certificate.
    Cert,
    /// Its key.
    Key,
    /// The authority.
    Ca,
}

/// Why a node cannot use its certificates.
#[derive(Debug, thiserror::Error)]
#[error("{} {problem}", path.display())]
pub struct TlsError {
    /// The file to look at.
    pub file: TlsFile,
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: TlsProblem,
}

/// What is wrong with one of the [`TlsFiles`].
#[derive(Debug, thiserror::Error)]
pub enum TlsProblem {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// It is a key that other users of the machine can read.
    #[error("can be read by others; run chmod 600 on it")]
    NotPrivate,
    /// It is something else.
    #[error("is no {what} in PEM form: {detail}")]
    Malformed {
        /// What it should be.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// It is the key of another certificate.
    #[error("is not the key of the certificate")]
    OtherKey,
    /// It is a certificate that the other nodes would refuse.
    #[error("is not good for node {node}: {detail}")]
    Refused {
        /// The node.
        node: NodeId,
        /// What is wrong with it.
        detail: String,
    },
    /// This program can do without certificates only.
    #[error("cannot be used: this program was built without TLS")]
    NotBuilt,
}

impl fmt::Display for TlsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cert => "cert",
            Self::Key => "key",
            Self::Ca => "ca",
        })
    }
}

impl TlsFiles {
    /// The files of one node, where `{id}` in these paths stands for the nodes' ids.
    #[must_use]
    pub fn of(&self, node: NodeId) -> Self {
        let of_node = |path: &PathBuf| match path.to_str() {
            Some(path) => path.replace("{id}", node.as_str()).into(),
            None => path.clone(),
        };
        let Self { cert, key, ca } = self;
        Self { cert: of_node(cert), key: of_node(key), ca: of_node(ca) }
    }
}
