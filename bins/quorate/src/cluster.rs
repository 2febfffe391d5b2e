mod layout;
mod output;
mod process;
mod ready;

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use quorate_server::config::{Config, NodeConfig};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use self::{
    layout::Layout,
    output::{Printer, say},
    process::Node,
};
use crate::args::ClusterArgs;

/// How long nodes may take to stop before they are killed.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// Runs a whole cluster as child processes until a signal comes or the last of them has ended.
pub(crate) fn run(args: ClusterArgs) -> Result<ExitCode> {
    let layout = Layout::choose(&args)?;
    layout.check_ports()?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(supervise(&layout, &args))
}

async fn supervise(layout: &Layout, args: &ClusterArgs) -> Result<ExitCode> {
    let mut signals = Signals::new()?;
    let printer = Printer::for_nodes(&layout.config);
    let mut nodes = Vec::new();
    for (i, node) in layout.config.nodes.iter().enumerate() {
        nodes.push(Node::start(node.id, &layout.path, args, printer.of(i))?);
    }
    introduce(&layout.config);

    let outcome = tokio::select! {
        () = signals.next() => Ok(()),
        outcome = watch(&mut nodes, &layout.config) => outcome,
    };
    stop(&mut nodes, &mut signals).await;
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Waits until all nodes are ready, then until all have ended. The only way out is an error: a node
/// that did not start, or none that is left.
async fn watch(nodes: &mut [Node], config: &Config) -> Result<()> {
    tokio::select! {
        ready = ready::wait_for_all(config) => ready?,
        (id, status) = process::first_to_end(nodes) => {
            bail!("{id} could not start ({status}); its own lines above say why. All nodes are stopped");
        }
    }
    say(&format!("all {} nodes are ready; Ctrl-C stops them", nodes.len()));
    while nodes.iter().any(Node::is_running) {
        let (id, status) = process::first_to_end(nodes).await;
        say(&format!("{id} has ended ({status}); it is not started again"));
    }
    bail!("no node is left");
}

/// Asks all nodes to stop, and kills those that take too long or when asked again.
async fn stop(nodes: &mut [Node], signals: &mut Signals) {
    for node in nodes.iter_mut() {
        node.terminate();
    }
    let ended = async {
        while nodes.iter().any(Node::is_running) {
            process::first_to_end(nodes).await;
        }
    };
    let in_time = tokio::select! {
        () = ended => true,
        () = tokio::time::sleep(STOP_GRACE) => false,
        () = signals.next() => false,
    };
    if !in_time {
        for node in nodes.iter_mut() {
            node.kill().await;
        }
    }
    for node in nodes {
        node.output_printed().await;
    }
}

fn introduce(config: &Config) {
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    for NodeConfig { id, addr, .. } in &config.nodes {
        say(&format!("{id} is to listen on {scheme}://{addr}"));
    }
    let (first, last) = (config.nodes[0].addr, config.nodes[config.nodes.len() - 1].addr);
    if config.tls.is_some() {
        say(&format!("try:  quorate put cat meow --node {first} && quorate get cat --node {last}"));
        return;
    }
    say(&format!(
        "try:  curl -X PUT --data-binary meow http://{first}/kv/cat && curl http://{last}/kv/cat"
    ));
}

/// The signals that end a cluster.
struct Signals {
    terminated: Signal,
    interrupted: Signal,
    hung_up: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            terminated: signal(SignalKind::terminate())?,
            interrupted: signal(SignalKind::interrupt())?,
            hung_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminated.recv() => {}
            _ = self.interrupted.recv() => {}
            _ = self.hung_up.recv() => {}
        }
    }
}
