//! A node inside a program of one's own: starts it, writes and reads over HTTP, stops it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
};

use quorate_record::NodeId;
use quorate_server::{ServeOptions, config::Config, run};
use tokio::sync::oneshot;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let config = Config::parse(r#"{"nodes": [{"id": "n1", "addr": "127.0.0.1:9001"}]}"#)?;
    let (listening, addr) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let options = ServeOptions {
        config,
        id: NodeId::new("n1")?,
        data_dir: dir.path().to_owned(),
        listen: Some("127.0.0.1:0".parse()?), // any free port
        tls: None,
        threads: 1,
        on_listening: Box::new(|addr| listening.send(addr).expect("main waits for it")),
    };
    let node = thread::spawn(|| run(options, async { drop(stopped.await) }));

    let addr = addr.blocking_recv()?;
    println!("{}", ask(addr, "PUT /kv/cat", "meow")?);
    println!("{}", ask(addr, "GET /kv/cat", "")?);

    drop(stop);
    node.join().expect("the node does not panic")?;
    Ok(())
}

fn ask(addr: SocketAddr, what: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    let length = body.len();
    write!(
        stream,
        "{what} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
