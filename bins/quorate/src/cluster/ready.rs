use std::{io, net::SocketAddr, time::Duration};

use quorate_server::config::Config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

const ASK_EVERY: Duration = Duration::from_millis(100);
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Waits until every node says that it is ready.
pub(super) async fn wait_for_all(config: &Config) {
    for node in &config.nodes {
        while !matches!(timeout(ASK_TIMEOUT, is_ready(node.addr)).await, Ok(Ok(true))) {
            sleep(ASK_EVERY).await;
        }
    }
}

async fn is_ready(addr: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(addr).await?;
    let request = format!("GET /ready HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut status = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut status).await?;
    Ok(status.ends_with(b" 200"))
}
