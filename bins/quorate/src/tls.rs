use std::path::Path;
#[cfg(feature = "tls")]
use std::{fs, path::PathBuf};

#[cfg(feature = "tls")]
use anyhow::Context;
use anyhow::Result;
use quorate_client::ClientOptions;
#[cfg(feature = "tls")]
use quorate_client::ClientTls;
use quorate_server::config::Config;

use crate::Usage;

/// How a command speaks with nodes.
#[derive(Clone, Copy)]
pub(crate) struct Speaking<'a> {
    /// Where, perhaps as a URL.
    pub(crate) node: &'a str,
    /// The authority that was named on the command line.
    pub(crate) ca: Option<&'a Path>,
    /// Whether a certificate is shown, and the one that was named on the command line with its key.
    pub(crate) own: Option<Option<(&'a Path, &'a Path)>>,
}

/// Whether TLS may be spoken with this node, which may be given as a URL.
pub(crate) fn is_wanted(node: &str) -> bool {
    !node.starts_with("http://")
}

#[cfg(not(feature = "tls"))]
impl Speaking<'_> {
    /// The options of a client.
    pub(crate) fn options(&self, _config: Option<&Config>) -> Result<ClientOptions> {
        if self.ca.is_some() || self.own.flatten().is_some() || self.node.starts_with("https://") {
            return Err(Usage("this program was built without TLS".into()).into());
        }
        Ok(ClientOptions::default())
    }
}

#[cfg(feature = "tls")]
impl Speaking<'_> {
    /// The options of a client: TLS if there is an authority to believe. Nodes of the configuration
    /// must prove that they have their ids, others that they have their addresses.
    pub(crate) fn options(&self, config: Option<&Config>) -> Result<ClientOptions> {
        let files = config.and_then(|config| config.tls.as_ref());
        let ca = self.ca.or(files.map(|files| files.ca.as_path()));
        let Some(ca) = ca.filter(|_| is_wanted(self.node)) else {
            if self.node.starts_with("https://") {
                let what = format!("{}: give its authority by --ca, or a nodes.json", self.node);
                return Err(Usage(what).into());
            }
            return Ok(ClientOptions::default());
        };
        let roots = read(ca)?;
        let mut tls = match self.own.and_then(|named| own(named, config)) {
            None => ClientTls::new(&roots),
            Some((cert, key)) => ClientTls::with_certificate(&roots, &read(&cert)?, &read(&key)?),
        }
        .map_err(|error| Usage(format!("{}: {error}", ca.display())))?;
        for node in config.into_iter().flat_map(|config| &config.nodes) {
            tls = tls.name(&node.addr.to_string(), node.id.as_str())?;
        }
        Ok(ClientOptions { tls: Some(tls), ..ClientOptions::default() })
    }
}

/// The certificate that was named, or that of the first node of the configuration whose files can be
/// read here, with its key.
#[cfg(feature = "tls")]
fn own(named: Option<(&Path, &Path)>, config: Option<&Config>) -> Option<(PathBuf, PathBuf)> {
    if let Some((cert, key)) = named {
        return Some((cert.to_owned(), key.to_owned()));
    }
    let config = config?;
    let files = config.tls.as_ref()?;
    let of_nodes = config.nodes.iter().map(|node| files.of(node.id));
    let mut pairs = of_nodes.map(|files| (files.cert, files.key));
    pairs.find(|(cert, key)| fs::File::open(cert).and_then(|_| fs::File::open(key)).is_ok())
}

#[cfg(feature = "tls")]
fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}
