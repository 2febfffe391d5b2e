use std::{
    fs::{self, File},
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{PATIENCE, Reply, eventually_some, program, request_with, signal};

/// One node of a [`Cluster`](crate::Cluster), running or not.
#[derive(Debug)]
pub struct Node {
    id: String,
    addr: SocketAddr,
    config: PathBuf,
    data_dir: PathBuf,
    log: PathBuf,
    options: Vec<String>,
    own_options: Vec<String>,
    secret: Option<String>,
    launcher: Vec<String>,
    child: Option<Child>,
}

impl Node {
    pub(crate) fn new(id: &str, addr: SocketAddr, folder: &Path, options: &[String]) -> Self {
        Self {
            id: id.to_owned(),
            addr,
            config: folder.join("nodes.json"),
            data_dir: folder.join(id),
            log: folder.join(format!("{id}.log")),
            options: options.to_vec(),
            own_options: Vec::new(),
            secret: None,
            launcher: Vec::new(),
            child: None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where its data is.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Everything that its processes wrote so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends a request; the path goes out as it is. The cluster's secret is shown if there is one.
    ///
    /// # Errors
    /// If the node does not answer.
    pub fn try_request(&self, method: &str, path: &str, body: &[u8]) -> io::Result<Reply> {
        let first = self.secret.as_ref().and_then(|secret| secret.split_whitespace().next());
        let shown = first.map(|secret| format!("Authorization: Bearer {secret}"));
        request_with(self.addr, method, path, shown.as_deref().as_slice(), body)
    }

    /// Gives the node the cluster's secret, or two of them, by its environment.
    pub(crate) fn give_secret(&mut self, secret: &str) {
        self.secret = Some(secret.to_owned());
    }

    /// Gives the node options besides those that all nodes have.
    pub(crate) fn give_options(&mut self, options: &[String]) {
        self.own_options = options.to_vec();
    }

    /// Has the node started by another program.
    pub(crate) fn launch_by(&mut self, launcher: Vec<String>) {
        self.launcher = launcher;
    }

    /// Has the node read another file than the cluster's nodes.json.
    pub(crate) fn configure(&mut self, config: PathBuf) {
        self.config = config;
    }

    /// Sends a request; the path goes out as it is.
    ///
    /// # Panics
    /// If the node does not answer.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, body: impl AsRef<[u8]>) -> Reply {
        self.try_request(method, path, body.as_ref())
            .unwrap_or_else(|error| panic!("{}: {method} {path}: {error}", self.id))
    }

    /// Stores a value.
    #[track_caller]
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Reply {
        self.request("PUT", &kv(key), value)
    }

    /// Reads a value.
    #[track_caller]
    pub fn get(&self, key: impl AsRef<[u8]>) -> Reply {
        self.request("GET", &kv(key), "")
    }

    /// Deletes a value.
    #[track_caller]
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Reply {
        self.request("DELETE", &kv(key), "")
    }

    /// Stores a record on this node alone, past all coordinators: a value, or a tombstone. All that
    /// are planted have one and the same version.
    ///
    /// # Panics
    /// If the node does not take it.
    #[track_caller]
    pub fn plant(&self, key: &str, value: Option<&str>) {
        let ts = 1_700_000_000_000_u64 << 16;
        let mut record = json!({ "key": key, "ts": ts, "writer_id": "n9" });
        match value {
            Some(value) => record["value"] = BASE64_STANDARD.encode(value).into(),
            None => record["deleted"] = true.into(),
        }
        let body = json!({ "record": record }).to_string();
        self.request("POST", "/internal/put", body).expect_status(200);
    }

    /// The JSON at a path.
    ///
    /// # Panics
    /// If the answer is not `200` with JSON.
    #[track_caller]
    pub fn json(&self, path: &str) -> Value {
        self.request("GET", path, "").expect_status(200).json()
    }

    /// The JSON that a request is answered with.
    ///
    /// # Errors
    /// If the node does not answer, or not with `200` and JSON.
    pub fn try_json(&self, method: &str, path: &str, body: &[u8]) -> io::Result<Value> {
        let reply = self.try_request(method, path, body)?;
        match reply.status {
            200 => Ok(serde_json::from_slice(&reply.body)?),
            status => Err(io::Error::other(format!("{path} gave {status}: {}", reply.text()))),
        }
    }

    /// The record that this node itself holds, tombstones included.
    ///
    /// # Panics
    /// If it does not say.
    #[track_caller]
    pub fn held(&self, key: impl AsRef<[u8]>) -> Option<Value> {
        self.try_held(key).unwrap_or_else(|error| panic!("{}: {error}", self.id))
    }

    /// The record that this node itself holds, tombstones included.
    ///
    /// # Errors
    /// If it does not say.
    pub fn try_held(&self, key: impl AsRef<[u8]>) -> io::Result<Option<Value>> {
        let key = match std::str::from_utf8(key.as_ref()) {
            Ok(text) => json!({ "key": text }),
            Err(_) => json!({ "key_base64": BASE64_STANDARD.encode(key) }),
        };
        let mut answer = self.try_json("POST", "/internal/get", key.to_string().as_bytes())?;
        let found = answer["found"].as_bool();
        let found = found.ok_or_else(|| io::Error::other("there is no `found`"))?;
        Ok(found.then(|| answer["record"].take()))
    }

    /// The live value that this node itself holds.
    ///
    /// # Panics
    /// If it does not say.
    #[track_caller]
    pub fn held_value(&self, key: impl AsRef<[u8]>) -> Option<Vec<u8>> {
        let record = self.held(key)?;
        let value = record["value"].as_str().unwrap_or_default();
        let live = record["deleted"] != json!(true);
        live.then(|| BASE64_STANDARD.decode(value).expect("values are base64"))
    }

    /// How many hints it holds.
    ///
    /// # Panics
    /// If it does not say.
    #[track_caller]
    pub fn hints(&self) -> u64 {
        self.try_hints().unwrap_or_else(|error| panic!("{}: {error}", self.id))
    }

    /// How many hints it holds.
    ///
    /// # Errors
    /// If it does not say.
    pub fn try_hints(&self) -> io::Result<u64> {
        let page = self.try_json("GET", "/debug/hints", b"")?;
        page["count"].as_u64().ok_or_else(|| io::Error::other("there is no `count`"))
    }

    /// Whether it answers requests, ready or not.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.try_request("GET", "/health", b"").is_ok()
    }

    /// Whether it says that it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.try_request("GET", "/ready", b"").is_ok_and(|reply| reply.status == 200)
    }

    /// Whether its process runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// The id of its process.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the node runs").id()
    }

    pub(crate) fn spawn(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.id);
        let log = File::options().create(true).append(true).open(&self.log).expect("a log opens");
        let mut command = match self.launcher.split_first() {
            None => Command::new(program()),
            Some((launcher, args)) => {
                let mut command = Command::new(launcher);
                command.args(args).arg(program());
                command
            }
        };
        let child = command
            .args(["serve", "--exit-with-stdin", "--id", &self.id, "--config"])
            .arg(&self.config)
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args(&self.options)
            .args(&self.own_options)
            .envs(self.secret.iter().map(|secret| ("QUORATE_CLUSTER_SECRET", secret)))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a file has another handle"))
            .stderr(log)
            .spawn()
            .expect("quorate starts");
        self.child = Some(child);
    }

    /// The exit status, if the process has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().expect("a child can be asked")?;
        self.child = None;
        Some(status)
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child that was not waited for can be killed");
            child.wait().expect("a child can be waited for");
        }
    }

    pub(crate) fn stop(&mut self) -> ExitStatus {
        assert!(self.signal(Signal::TERM), "{} runs", self.id);
        eventually_some(&format!("{} stops", self.id), PATIENCE, || {
            self.ended().ok_or("it still runs")
        })
    }

    pub(crate) fn signal(&self, what: Signal) -> bool {
        signal(self.pid(), what)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The path of a key: every byte that is not plain is escaped.
fn kv(key: impl AsRef<[u8]>) -> String {
    let escape = |&byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    format!("/kv/{}", key.as_ref().iter().map(escape).collect::<String>())
}
