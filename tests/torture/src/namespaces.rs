//! A network for each node, which the kernel loses packets in. Needs Linux, root and iproute2.
//!
//! Behind a proxy every byte is acknowledged by the proxy's kernel, however long it is held up. Here nobody acknowledges what
//! is lost: connections are retransmitted over, time out, and are half-open, as between machines.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    process::{self, Command},
};

use crate::{links::Wire, nemesis::id};

/// Every node listens on it, each at an address of its own.
const PORT: u16 = 9001;

/// A network namespace for each node, and a bridge between them that clients are on, too.
#[derive(Debug)]
pub(crate) struct Namespaces {
    nodes: usize,
    /// Differs from that of every other run.
    run: u32,
}

impl Namespaces {
    /// Makes them for `nodes` nodes. Everything passes at first.
    ///
    /// # Errors
    /// If the system does not allow it, or has no `ip` command.
    pub(crate) fn create(nodes: usize) -> io::Result<Self> {
        let made = Self { nodes, run: process::id() };
        let bridge = made.bridge();
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", &format!("{}/24", made.ip(None)), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for node in 0..nodes {
            let (space, wire) = (made.space(node), made.wire(node));
            ip(&["netns", "add", &space])?;
            ip(&["link", "add", &wire, "type", "veth", "peer", "name", "eth0", "netns", &space])?;
            ip(&["link", "set", &wire, "master", &bridge, "up"])?;
            let addr = format!("{}/24", made.ip(Some(node)));
            ip(&["-n", &space, "addr", "add", &addr, "dev", "eth0"])?;
            ip(&["-n", &space, "link", "set", "eth0", "up"])?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
        }
        Ok(made)
    }

    /// Where each node is to listen.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        (0..self.nodes).map(|node| (self.ip(Some(node)), PORT).into()).collect()
    }

    /// What a program is started by, to be in the namespace of a node.
    pub(crate) fn launcher(&self, node: usize) -> Vec<String> {
        ["ip", "netns", "exec", &self.space(node)].map(str::to_owned).to_vec()
    }

    /// Sets what becomes of the packets that `from` sends to `to`.
    ///
    /// # Panics
    /// If the system does not do it.
    pub(crate) fn set(&self, from: usize, to: usize, wire: Wire) {
        let kind = match wire {
            Wire::Pass => None,
            Wire::Stall | Wire::Drop => Some("blackhole"),
            // The sender is told that there is no way.
            Wire::Cut => Some("unreachable"),
            Wire::Delay(_) => unreachable!("the nemesis asks whether wires can be slow"),
        };
        let (space, target) = (self.space(from), format!("{}/32", self.ip(Some(to))));
        let done = match kind {
            Some(kind) => ip(&["-n", &space, "route", "replace", kind, &target]),
            None => ip(&["-n", &space, "route", "flush", "exact", &target]),
        };
        done.unwrap_or_else(|error| panic!("{} to {}: {wire:?}: {error}", id(from), id(to)));
    }

    fn ip(&self, node: Option<usize>) -> Ipv4Addr {
        let [.., high, low] = self.run.to_be_bytes();
        let host = node.map_or(254, |node| u8::try_from(node + 1).expect("there are few nodes"));
        Ipv4Addr::new(10, high, low, host)
    }

    fn bridge(&self) -> String {
        format!("qt{}", self.run)
    }

    fn wire(&self, node: usize) -> String {
        format!("qt{}{}", self.run, id(node))
    }

    fn space(&self, node: usize) -> String {
        format!("quorate-torture-{}-{}", self.run, id(node))
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // As far as they were made.
        for node in 0..self.nodes {
            drop(ip(&["link", "del", &self.wire(node)]));
            drop(ip(&["netns", "del", &self.space(node)]));
        }
        drop(ip(&["link", "del", &self.bridge()]));
    }
}

fn ip(args: &[&str]) -> io::Result<()> {
    let done = Command::new("ip").args(args).output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(io::Error::other(format!("ip {}: {}", args.join(" "), said.trim())))
}
