//! What is between the nodes.

use std::net::SocketAddr;

use quorate_tests::{Builder, Cluster, Node};

use crate::{
    links::{Blow, Links, Wire},
    namespaces::Namespaces,
    nemesis::id,
};

/// Nodes in networks of their own must prove who they are.
const SECRET: &str = "nobody-else-knows-this-of-the-torture";

/// What is between the nodes, and does to their messages what it is told.
#[derive(Debug)]
pub(crate) enum Network {
    /// A proxy for each direction. Needs nothing.
    Proxies(Links),
    /// The kernel's own, between namespaces.
    Namespaces(Namespaces),
}

impl Network {
    /// Lays out a cluster with a network between its nodes.
    ///
    /// # Panics
    /// If the system has no threads or ports for proxies, or does not allow namespaces.
    pub(crate) fn lay_out(builder: &Builder, nodes: usize, namespaces: bool) -> (Cluster, Self) {
        if namespaces {
            let spaces = Namespaces::create(nodes)
                .unwrap_or_else(|error| panic!("namespaces need root and iproute2: {error}"));
            let mut cluster = builder.clone().addrs(spaces.addrs()).secret(SECRET).lay_out();
            for node in 0..nodes {
                cluster.launch_by(&id(node), spaces.launcher(node));
            }
            return (cluster, Self::Namespaces(spaces));
        }
        let mut cluster = builder.lay_out();
        let addrs: Vec<SocketAddr> = cluster.nodes().iter().map(Node::addr).collect();
        let links = Links::start(&addrs).expect("proxies can be started");
        for from in 0..nodes {
            let number = |peer: &str| (0..nodes).find(|&node| id(node) == peer);
            cluster.route(&id(from), |peer| links.addr(from, number(peer).expect("a node")));
        }
        (cluster, Self::Proxies(links))
    }

    /// Sets what becomes of what `from` says to `to`; whether it can be that.
    pub(crate) fn set(&self, from: usize, to: usize, wire: Wire) -> bool {
        match (self, wire) {
            (Self::Namespaces(_), Wire::Delay(_)) => return false,
            (Self::Namespaces(spaces), _) => spaces.set(from, to, wire),
            (Self::Proxies(links), _) => links.set(from, to, wire),
        }
        true
    }

    /// Strikes what `from` says to `to`; whether that can be.
    pub(crate) fn strike(&self, from: usize, to: usize, blow: Blow) -> bool {
        match self {
            Self::Proxies(links) => links.strike(from, to, blow),
            Self::Namespaces(_) => return false,
        }
        true
    }
}
