use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    thread,
};

use rustix::process::Signal;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::{Node, PATIENCE, eventually_some, free_ports};

/// How often a cluster is started anew because another program took one of its ports.
const PORT_CONFLICTS: usize = 5;

/// A cluster of real processes on loopback; its end kills them and removes their data.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    folder: TempDir,
}

/// What a [`Cluster`] will be like.
#[derive(Clone, Debug)]
pub struct Builder {
    nodes: usize,
    fields: Map<String, Value>,
    options: Vec<String>,
    secret: Option<String>,
    addrs: Option<Vec<SocketAddr>>,
    folder: Option<PathBuf>,
}

impl Cluster {
    /// A cluster of `nodes` nodes called n1, n2, and so on, with everything else as usual.
    #[must_use]
    pub fn of(nodes: usize) -> Builder {
        let (fields, options) = (Map::new(), Vec::new());
        let builder = Builder { nodes, fields, options, secret: None, addrs: None, folder: None };
        // Where a test is not about deadlines, a busy machine must not make it fail.
        builder.field("timeout_ms", 10_000)
    }

    /// The node called `id`.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    #[track_caller]
    pub fn node(&self, id: &str) -> &Node {
        self.nodes.iter().find(|node| node.id() == id).unwrap_or_else(|| panic!("no node {id}"))
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The nodes whose processes run.
    pub fn running(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.is_running())
    }

    /// The folder of nodes.json, logs and data.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends a node at once, as `kill -9` does.
    pub fn kill(&mut self, id: &str) {
        self.node_mut(id).kill();
    }

    /// Ends all nodes at once.
    pub fn kill_all(&mut self) {
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            assert!(node.signal(Signal::KILL), "{} runs", node.id());
        }
        self.nodes.iter_mut().for_each(Node::kill);
    }

    /// Asks a node to stop.
    ///
    /// # Panics
    /// If it does not, or ends with an error.
    pub fn stop(&mut self, id: &str) {
        let status = self.node_mut(id).stop();
        assert!(status.success(), "{id} ended with {status}");
    }

    /// Starts a node that is down, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start(&mut self, id: &str) {
        self.node_mut(id).spawn();
        self.wait_until_ready(id).expect("the node starts");
    }

    /// Starts a node that is down, without waiting.
    pub fn spawn(&mut self, id: &str) {
        self.node_mut(id).spawn();
    }

    /// Starts all nodes that are down, and waits until they are ready.
    ///
    /// # Panics
    /// If one does not become ready.
    pub fn start_all(&mut self) {
        self.try_start_all().expect("all nodes start");
    }

    /// Gives a node that is down another secret, or two of them with a space between.
    pub fn give_secret(&mut self, id: &str, secret: &str) {
        self.node_mut(id).give_secret(secret);
    }

    /// Gives a node that is down options of its own, in the place of those that it was given so before.
    pub fn give_options(&mut self, id: &str, options: &[String]) {
        self.node_mut(id).give_options(options);
    }

    /// Starts a node that is down by another program from now on, which is given the node's command line.
    pub fn launch_by(&mut self, id: &str, launcher: Vec<String>) {
        self.node_mut(id).launch_by(launcher);
    }

    /// Has a node that is down reach each of its peers at another address than the peer's own, as
    /// through a proxy.
    ///
    /// # Panics
    /// If the cluster's nodes.json cannot be read, or another one cannot be written.
    pub fn route(&mut self, id: &str, to: impl Fn(&str) -> SocketAddr) {
        let text = fs::read(self.folder().join("nodes.json")).expect("nodes.json can be read");
        let mut config: Value = serde_json::from_slice(&text).expect("it was written here");
        for place in config["nodes"].as_array_mut().expect("it lists nodes") {
            let peer = place["id"].as_str().expect("nodes have ids").to_owned();
            if peer != id {
                place["addr"] = to(&peer).to_string().into();
            }
        }
        let path = self.folder().join(format!("nodes-of-{id}.json"));
        fs::write(&path, format!("{config:#}\n")).expect("a nodes.json can be written");
        self.node_mut(id).configure(path);
    }

    /// How a node's process ended, if it has by itself since it was started.
    pub fn ended(&mut self, id: &str) -> Option<ExitStatus> {
        self.node_mut(id).ended()
    }

    /// Makes a node stand still, as a machine that is overloaded beyond use.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pause(&self, id: &str) {
        assert!(self.node(id).signal(Signal::STOP), "{id} runs");
    }

    /// Lets a paused node go on.
    ///
    /// # Panics
    /// If it does not run.
    pub fn resume(&self, id: &str) {
        assert!(self.node(id).signal(Signal::CONT), "{id} runs");
    }

    /// How many hints all running nodes hold together.
    #[must_use]
    #[track_caller]
    pub fn hints(&self) -> u64 {
        self.running().map(Node::hints).sum()
    }

    fn node_mut(&mut self, id: &str) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id() == id).expect("there is such a node")
    }

    fn try_start_all(&mut self) -> io::Result<()> {
        self.nodes.iter_mut().filter(|node| !node.is_running()).for_each(Node::spawn);
        let ids: Vec<_> = self.nodes.iter().map(|node| node.id().to_owned()).collect();
        ids.iter().try_for_each(|id| self.wait_until_ready(id))
    }

    /// Waits for a node to be ready.
    ///
    /// # Errors
    /// With kind `AddrInUse` if it ended because another program has its port.
    fn wait_until_ready(&mut self, id: &str) -> io::Result<()> {
        let node = self.node_mut(id);
        eventually_some(&format!("{id} is ready"), PATIENCE, || match node.ended() {
            Some(_) if node.log().contains("in use") => Ok(Err(io::ErrorKind::AddrInUse.into())),
            Some(status) => {
                Ok(Err(io::Error::other(format!("ended with {status}: {}", node.log()))))
            }
            None if node.is_ready() => Ok(Ok(())),
            None => Err("it is not"),
        })
    }
}

impl Builder {
    /// Sets a field of nodes.json.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Gives every node an option.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// Gives every node an option without a value.
    #[must_use]
    pub fn flag(mut self, name: &str) -> Self {
        self.options.push(name.to_owned());
        self
    }

    /// Gives every node the cluster's secret.
    #[must_use]
    pub fn secret(mut self, secret: &str) -> Self {
        self.secret = Some(secret.to_owned());
        self
    }

    /// Has the nodes listen there, and not at ports of loopback that are free.
    #[must_use]
    pub fn addrs(mut self, addrs: Vec<SocketAddr>) -> Self {
        self.addrs = Some(addrs);
        self
    }

    /// Keeps everything below `folder` instead of the system's folder for temporary files.
    #[must_use]
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.to_owned());
        self
    }

    /// Starts the cluster and waits until all its nodes are ready.
    ///
    /// # Panics
    /// If they do not become ready.
    #[must_use]
    pub fn start(self) -> Cluster {
        for _ in 0..PORT_CONFLICTS {
            let mut cluster = self.lay_out();
            match cluster.try_start_all() {
                Ok(()) => return cluster,
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => panic!("{error}"),
            }
        }
        panic!("again and again other programs took the ports");
    }

    /// Writes the cluster's nodes.json, but starts no node.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn lay_out(&self) -> Cluster {
        let folder = match &self.folder {
            Some(folder) => tempfile::tempdir_in(folder),
            None => tempfile::tempdir(),
        };
        let folder = folder.expect("a temporary folder can be made");
        let free = || free_ports(self.nodes).into_iter().map(|port| ([127, 0, 0, 1], port).into());
        let addrs = self.addrs.clone().unwrap_or_else(|| free().collect());
        let mut nodes = Vec::new();
        for (i, addr) in addrs.into_iter().enumerate() {
            let id = format!("n{}", i + 1);
            let mut node = Node::new(&id, addr, folder.path(), &self.options);
            if let Some(secret) = &self.secret {
                node.give_secret(secret);
            }
            nodes.push(node);
        }
        let listed =
            nodes.iter().map(|node| json!({ "id": node.id(), "addr": node.addr().to_string() }));
        let mut config = self.fields.clone();
        config.insert("nodes".to_owned(), listed.collect());
        let text = format!("{:#}\n", Value::Object(config));
        fs::write(folder.path().join("nodes.json"), text).expect("nodes.json can be written");
        Cluster { nodes, folder }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            for node in &self.nodes {
                let log = node.log();
                let lines: Vec<_> = log.lines().collect();
                let last = &lines[lines.len().saturating_sub(20)..];
                eprintln!("--- the last lines of {}:\n{}", node.id(), last.join("\n"));
            }
        }
    }
}
