use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use quorate_server::config::{Config, Overrides};
use serde_json::json;

use crate::{Usage, args::ClusterArgs};

const DEFAULT_NODES: u16 = 3;
const DEFAULT_BASE_PORT: u16 = 9001;

/// Which nodes a cluster has.
pub(super) struct Layout {
    /// The file that says so.
    pub(super) path: PathBuf,
    /// What it says.
    pub(super) config: Config,
}

impl Layout {
    /// Takes the file that was asked for, or `./nodes.json` if it fits the other options, or else
    /// writes one into the data folder.
    pub(super) fn choose(args: &ClusterArgs) -> Result<Self> {
        if let Some(path) = &args.config {
            return Self::load(path, args);
        }
        let here = Path::new("nodes.json");
        if here.exists() {
            let layout = Self::load(here, args)?;
            if layout.fits(args) {
                return Ok(layout);
            }
        }
        let path = args.data_dir.join("nodes.json");
        let text = generated(
            args.nodes.unwrap_or(DEFAULT_NODES),
            args.base_port.unwrap_or(DEFAULT_BASE_PORT),
        )?;
        let written = fs::create_dir_all(&args.data_dir).and_then(|()| fs::write(&path, text));
        written.with_context(|| format!("{} cannot be written", path.display()))?;
        Self::load(&path, args)
    }

    /// Makes sure that nobody listens where the nodes are to listen.
    pub(super) fn check_ports(&self) -> Result<()> {
        let first = self.config.nodes[0].addr.port();
        let other = if first < 60_000 { first + 1000 } else { 20_001 };
        for node in &self.config.nodes {
            TcpListener::bind(node.addr).with_context(|| {
                format!(
                    "{} cannot listen on {}: port {} is taken, perhaps by a cluster that still runs; \
                     stop that program, or choose other ports with --base-port {other}",
                    node.id,
                    node.addr,
                    node.addr.port(),
                )
            })?;
        }
        Ok(())
    }

    fn load(path: &Path, args: &ClusterArgs) -> Result<Self> {
        let trust = args.trust.clone();
        let overrides = Overrides {
            cluster_secret: trust.secret.cluster_secret,
            insecure: trust.insecure,
            ..Overrides::default()
        };
        let config = Config::load_with(path, &overrides)?;
        Ok(Self { path: path.to_owned(), config })
    }

    fn fits(&self, args: &ClusterArgs) -> bool {
        let nodes = &self.config.nodes;
        nodes.len() == usize::from(args.nodes.unwrap_or(DEFAULT_NODES))
            && args.base_port.is_none_or(|port| nodes[0].addr.port() == port)
    }
}

/// The text of a `nodes.json`.
fn generated(nodes: u16, base_port: u16) -> Result<String> {
    if base_port.checked_add(nodes - 1).is_none() {
        let what = format!("--base-port {base_port} leaves no room for {nodes} ports");
        return Err(Usage(what).into());
    }
    let nodes: Vec<_> = (0..nodes)
        .map(|i| json!({ "id": format!("n{}", i + 1), "addr": format!("127.0.0.1:{}", base_port + i) }))
        .collect();
    Ok(format!("{:#}\n", json!({ "nodes": nodes })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{SecretArgs, TrustArgs};

    fn args(data_dir: &Path, nodes: Option<u16>, base_port: Option<u16>) -> ClusterArgs {
        let secret = SecretArgs { cluster_secret: None };
        let trust = TrustArgs { secret, insecure: false };
        ClusterArgs { nodes, base_port, config: None, data_dir: data_dir.to_owned(), trust }
    }

    #[test]
    fn a_layout_is_written_where_none_fits() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::choose(&args(folder.path(), Some(5), Some(7001))).unwrap();
        assert_eq!(layout.path, folder.path().join("nodes.json"));
        let addrs: Vec<_> = layout.config.nodes.iter().map(|node| node.addr.to_string()).collect();
        assert_eq!(
            addrs,
            ["7001", "7002", "7003", "7004", "7005"].map(|port| format!("127.0.0.1:{port}"))
        );
        assert_eq!((layout.config.n, layout.config.r, layout.config.w), (3, 2, 2));
    }

    #[test]
    fn ports_must_not_run_out() {
        assert!(generated(3, 65_534).is_err());
        assert!(generated(3, 65_533).is_ok());
    }

    #[test]
    fn a_taken_port_is_named_with_the_remedy() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::choose(&args(folder.path(), Some(1), Some(port))).unwrap();
        let error = layout.check_ports().unwrap_err().to_string();
        assert!(error.contains(&format!("port {port} is taken")), "{error}");
        assert!(error.contains("--base-port"), "{error}");
        drop(taken);
        layout.check_ports().unwrap();
    }
}
