use std::{
    fmt::Write as _,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const READ_TIMEOUT: Duration = Duration::from_secs(70);

/// The answer to an HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values, in their order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of header `name` (in lower case); empty if it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// This reply, which must have the status.
    ///
    /// # Panics
    /// If it has another one.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?}: {}", self.headers, self.text());
        self
    }
}

/// Sends one request on a connection of its own and reads the answer. The path goes out as it is.
///
/// # Errors
/// If nobody listens, or the answer is cut short or no HTTP.
pub fn request(addr: SocketAddr, method: &str, path: &str, body: &[u8]) -> io::Result<Reply> {
    request_with(addr, method, path, &[], body)
}

/// Sends one request with more headers, each `Name: value`.
///
/// # Errors
/// As [`request`].
pub fn request_with(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &[u8],
) -> io::Result<Reply> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n");
    for header in headers {
        write!(head, "{header}\r\n").expect("a string takes everything");
    }
    if !body.is_empty() || matches!(method, "PUT" | "POST") {
        write!(head, "Content-Length: {}\r\n", body.len()).expect("a string takes everything");
    }
    let mut message = format!("{head}\r\n").into_bytes();
    message.extend_from_slice(body);
    exchange(addr, &message)
}

/// Sends these bytes on a connection of their own and reads the answer.
///
/// # Errors
/// As [`request`].
pub fn exchange(addr: SocketAddr, message: &[u8]) -> io::Result<Reply> {
    let stream = TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT)?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    talk(stream, message)
}

/// Sends these bytes on a connection and reads the answer. How patient it is, the connection says.
///
/// # Errors
/// If the connection breaks, or the answer does not come in time, is cut short or no HTTP.
pub fn talk(mut stream: TcpStream, message: &[u8]) -> io::Result<Reply> {
    stream.set_nodelay(true)?;
    // A server may answer and stop reading before everything is sent; the answer counts.
    let sent = stream.write_all(message);
    read_reply(&mut BufReader::new(stream), message.starts_with(b"HEAD ")).or_else(|error| {
        sent?;
        Err(error)
    })
}

fn read_reply(from: &mut impl BufRead, bodiless: bool) -> io::Result<Reply> {
    let status_line = read_line(from)?;
    let status = status_line
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or_else(|| invalid(&format!("status line {status_line:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(from)?;
        if line.is_empty() {
            break;
        }
        let (name, value) =
            line.split_once(':').ok_or_else(|| invalid(&format!("header {line:?}")))?;
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let mut reply = Reply { status, headers, body: Vec::new() };
    if bodiless || status == 204 {
        return Ok(reply);
    }
    if reply.header("transfer-encoding") == "chunked" {
        read_chunks(from, &mut reply.body)?;
    } else if let Ok(len) = reply.header("content-length").parse::<usize>() {
        reply.body.resize(len, 0);
        from.read_exact(&mut reply.body)?;
    } else {
        from.read_to_end(&mut reply.body)?;
    }
    Ok(reply)
}

fn read_chunks(from: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let line = read_line(from)?;
        let len =
            u64::from_str_radix(&line, 16).map_err(|_| invalid(&format!("chunk {line:?}")))?;
        from.by_ref().take(len).read_to_end(body)?;
        read_line(from)?;
        if len == 0 {
            return Ok(());
        }
    }
}

fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
