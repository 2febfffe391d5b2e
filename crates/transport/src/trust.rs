use std::{fmt, net::SocketAddr, sync::Arc};

use crate::{NotLoopback, Tls, check_loopback, proof::Secret};

/// How a node tells its peers from strangers.
#[derive(Clone, Debug, Default)]
pub enum Trust {
    /// Not at all, which is why no address is dialled that is not on this machine.
    #[default]
    Loopback,
    /// Not at all, on any network: whoever reaches a node can read and change everything.
    Anyone,
    /// Peers prove to each other that they know one of these.
    Secrets(Secrets),
    /// Peers show each other certificates, and what they say is encrypted.
    Tls {
        /// This node's.
        tls: Tls,
        /// What they also prove to know, inside; may be none.
        secrets: Option<Secrets>,
    },
}

/// One or two secrets that all nodes of a cluster know; two while they are being replaced.
///
/// A node that accepts a connection proves that it knows the first. A node that dials takes either,
/// and then proves the same one.
#[derive(Clone)]
pub struct Secrets(Arc<[Secret]>);

impl Trust {
    /// Whether the address may be dialled.
    pub(crate) fn check_addr(&self, addr: SocketAddr) -> Result<(), NotLoopback> {
        match self {
            Self::Loopback => check_loopback(addr),
            Self::Anyone | Self::Secrets(_) | Self::Tls { .. } => Ok(()),
        }
    }

    pub(crate) fn secrets(&self) -> Option<&Secrets> {
        match self {
            Self::Secrets(secrets) => Some(secrets),
            Self::Tls { secrets, .. } => secrets.as_ref(),
            Self::Loopback | Self::Anyone => None,
        }
    }

    pub(crate) fn tls(&self) -> Option<&Tls> {
        match self {
            Self::Tls { tls, .. } => Some(tls),
            Self::Loopback | Self::Anyone | Self::Secrets(_) => None,
        }
    }
}

impl Secrets {
    /// Uses `first`, and takes `second` as well.
    ///
    /// They should be random and long: whoever is told a proof can try out secrets on it.
    #[must_use]
    pub fn new(first: &[u8], second: Option<&[u8]>) -> Self {
        Self([first].into_iter().chain(second).map(Secret::new).collect())
    }

    pub(crate) fn first(&self) -> &Secret {
        &self.0[0]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.0.iter()
    }
}

/// Shows how many there are.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} secret)", self.0.len())
    }
}
