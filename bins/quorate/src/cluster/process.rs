use std::{
    env,
    path::Path,
    process::{ExitStatus, Stdio},
};

use anyhow::{Context, Result};
use quorate_record::NodeId;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, ChildStdin, Command},
    task::JoinHandle,
};

use super::output::{Stream, forward};
use crate::args::ClusterArgs;

/// A child process that runs one node.
pub(super) struct Node {
    id: NodeId,
    child: Child,
    /// Closes when this process ends, however it ends; the node then stops too.
    _lifeline: Option<ChildStdin>,
    status: Option<ExitStatus>,
    output: Vec<JoinHandle<()>>,
}

impl Node {
    /// Starts node `id` of the configuration at `config`.
    pub(super) fn start(
        id: NodeId,
        config: &Path,
        args: &ClusterArgs,
        prefix: &str,
    ) -> Result<Self> {
        let program = env::current_exe().context("this program's own file is not known")?;
        let mut command = Command::new(program);
        // Not as options, which others on this machine can see.
        if let Some(secret) = &args.trust.secret.cluster_secret {
            command.env("QUORATE_CLUSTER_SECRET", secret.reveal());
        }
        if args.trust.insecure {
            command.env("QUORATE_INSECURE", "true");
        }
        let mut child = command
            .args(["serve", "--exit-with-stdin", "--id", id.as_str(), "--config"])
            .arg(config)
            .arg("--data-dir")
            .arg(args.data_dir.join(id.as_str()))
            .env_remove("QUORATE_LISTEN")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C in a terminal goes to the whole group; nodes are told to stop by us alone.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{id} cannot be started"))?;
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let output = vec![
            tokio::spawn(forward(stdout, prefix.to_owned(), Stream::Stdout)),
            tokio::spawn(forward(stderr, prefix.to_owned(), Stream::Stderr)),
        ];
        let lifeline = child.stdin.take();
        Ok(Self { id, child, _lifeline: lifeline, status: None, output })
    }

    pub(super) fn is_running(&self) -> bool {
        self.status.is_none()
    }

    /// Asks the node to stop.
    pub(super) fn terminate(&mut self) {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            // It may have ended just now, which is what is wanted.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Ends the node without asking.
    pub(super) async fn kill(&mut self) {
        // Fails only if the node has ended already.
        drop(self.child.kill().await);
    }

    /// Waits until everything that the node wrote has been printed.
    pub(super) async fn output_printed(&mut self) {
        for task in self.output.drain(..) {
            drop(task.await);
        }
    }

    async fn ended(&mut self) -> ExitStatus {
        let status = self.child.wait().await.expect("a child of ours can be waited for");
        self.output_printed().await;
        self.status = Some(status); // last, so that giving up on the wait loses nothing
        status
    }
}

/// Waits for the next running node to end; for ever if none runs.
pub(super) async fn first_to_end(nodes: &mut [Node]) -> (NodeId, ExitStatus) {
    let mut waiting: Vec<_> = nodes
        .iter_mut()
        .filter(|node| node.is_running())
        .map(|node| {
            let id = node.id;
            Box::pin(async move { (id, node.ended().await) })
        })
        .collect();
    std::future::poll_fn(|context| {
        let ended = waiting.iter_mut().map(|node| node.as_mut().poll(context));
        ended.into_iter().find(std::task::Poll::is_ready).unwrap_or(std::task::Poll::Pending)
    })
    .await
}
