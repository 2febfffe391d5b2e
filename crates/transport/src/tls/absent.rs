use std::io;

use quorate_record::NodeId;
use tokio::net::TcpStream;

use super::{TlsError, TlsFile, TlsFiles, TlsProblem};

/// The certificates of a node, which a program without the feature `tls` never has.
#[derive(Clone, Debug)]
pub enum Tls {}

/// The certificate that the other end of a connection has shown.
#[derive(Clone, Debug)]
pub enum PeerCertificate {}

#[expect(clippy::unused_async, reason = "the same as with the feature")]
impl Tls {
    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub fn load(files: TlsFiles, _node: NodeId) -> Result<Self, TlsError> {
        let problem = TlsProblem::NotBuilt;
        Err(TlsError { file: TlsFile::Cert, path: files.cert, problem })
    }

    /// Whether a certificate can name this node.
    #[must_use]
    pub fn can_name(_node: NodeId) -> bool {
        true
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// Never, since there are none.
    pub fn reload(&self) -> Result<(), TlsError> {
        match *self {}
    }

    /// Agrees with whoever has connected.
    ///
    /// # Errors
    /// Never, since there are no certificates.
    pub async fn accept(
        &self,
        _socket: TcpStream,
    ) -> io::Result<(TcpStream, Option<PeerCertificate>)> {
        match *self {}
    }

    pub(crate) async fn connect(&self, _socket: TcpStream, _to: NodeId) -> io::Result<TcpStream> {
        match *self {}
    }
}

impl PeerCertificate {
    /// Whether it is this node's.
    #[must_use]
    pub fn names(&self, _node: NodeId) -> bool {
        match *self {}
    }
}
