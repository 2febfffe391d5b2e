use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// A client that sends exactly what it is given.
pub(super) struct Wire {
    stream: TcpStream,
    unread: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

/// Only so that a failing test ends.
const PATIENCE: Duration = Duration::from_secs(20);

impl Wire {
    pub(super) async fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        Self { stream, unread: Vec::new() }
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(super) async fn send_nothing_more(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    pub(super) async fn call(
        &mut self,
        line: &str,
        headers: &str,
        body: impl AsRef<[u8]>,
    ) -> Reply {
        let body = body.as_ref();
        let length = match body.len() {
            0 => String::new(),
            len => format!("Content-Length: {len}\r\n"),
        };
        let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{length}{headers}\r\n");
        self.send([head.as_bytes(), body].concat()).await;
        if line.starts_with("HEAD ") { self.reply_to_head().await } else { self.reply().await }
    }

    /// The next answer, with its body.
    pub(super) async fn reply(&mut self) -> Reply {
        let mut reply = self.reply_to_head().await;
        let len = reply.headers.get("content-length").map_or(0, |len| len.parse().unwrap());
        while self.unread.len() < len {
            assert!(self.read().await, "the connection ended within a body");
        }
        reply.body = self.unread.drain(..len).collect();
        reply
    }

    /// The next answer, which has no body whatever its headers say.
    pub(super) async fn reply_to_head(&mut self) -> Reply {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|end| end == b"\r\n\r\n") {
                break at;
            }
            assert!(self.read().await, "no answer, only {:?}", self.unread.escape_ascii());
        };
        let head = String::from_utf8(self.unread.drain(..end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let pair = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        };
        Reply { status, headers: lines.map(pair).collect(), body: Vec::new() }
    }

    /// The next `len` bytes as they come.
    pub(super) async fn bytes(&mut self, len: usize) -> Vec<u8> {
        while self.unread.len() < len {
            assert!(self.read().await, "the connection ended early");
        }
        self.unread.drain(..len).collect()
    }

    /// Whether the server ends the connection without saying any more. Waits for it.
    pub(super) async fn ends(&mut self) -> bool {
        self.unread.is_empty() && !self.read().await
    }

    async fn read(&mut self) -> bool {
        let reading = timeout(PATIENCE, self.stream.read_buf(&mut self.unread));
        reading.await.expect("neither an answer nor an end").is_ok_and(|len| len > 0)
    }
}

impl Reply {
    #[track_caller]
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// That this is a problem of this status, with these fields beside the usual ones.
    #[track_caller]
    pub(super) fn assert_problem(&self, status: u16, fields: &[(&str, Value)]) {
        assert_eq!(self.status, status, "{:?}", self.body.escape_ascii());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let json = self.json();
        assert_eq!(json["status"], status);
        assert_eq!(json["type"], "about:blank");
        assert!(json["title"].is_string() && json["detail"].is_string(), "{json}");
        for (name, value) in fields {
            assert_eq!(&json[name], value, "{json}");
        }
        assert_eq!(json.as_object().unwrap().len(), 4 + fields.len(), "{json}");
    }
}
