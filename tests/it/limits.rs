use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use quorate_tests::{Cluster, now};

/// How long a client may dawdle before it must have been cut off.
const CUT_OFF: Duration = Duration::from_secs(60);

/// Sends `start` and then one byte after another; gives what the node says before it hangs up.
fn dawdle(cluster: &Cluster, start: &str) -> String {
    let mut stream = TcpStream::connect(cluster.node("n1").addr()).unwrap();
    stream.write_all(start.as_bytes()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(250))).unwrap();
    let (deadline, mut said, mut buffer) = (now() + CUT_OFF, Vec::new(), [0; 1024]);
    while now() < deadline {
        // Each read waits for a moment, so the bytes trickle.
        match stream.read(&mut buffer) {
            Ok(0) => return String::from_utf8_lossy(&said).into_owned(),
            Ok(len) => said.extend_from_slice(&buffer[..len]),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                drop(stream.write_all(b"x"));
            }
            Err(_) => return String::from_utf8_lossy(&said).into_owned(),
        }
    }
    panic!("not cut off within {CUT_OFF:?}; said {:?}", String::from_utf8_lossy(&said));
}

#[test]
fn p8_those_who_send_too_slowly_are_cut_off() {
    let cluster = Cluster::of(1).start();
    let host = cluster.node("n1").addr();
    thread::scope(|scope| {
        let headers = scope.spawn(|| dawdle(&cluster, "GET /kv/cat HTTP/1.1\r\nX-Slow: "));
        let body =
            format!("PUT /kv/cat HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000\r\n\r\n");
        let said = dawdle(&cluster, &body);
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
        let said = headers.join().unwrap();
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{said}");
    });
    cluster.node("n1").get("cat").expect_status(404);
}

#[test]
fn a_body_that_ends_early_never_becomes_a_write() {
    let cluster = Cluster::of(1).start();
    let addr = cluster.node("n1").addr();
    let mut stream = TcpStream::connect(addr).unwrap();
    let message = format!("PUT /kv/cat HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 10\r\n\r\nhalf");
    stream.write_all(message.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    drop(stream.read_to_end(&mut Vec::new()));
    cluster.node("n1").get("cat").expect_status(404);
}

#[test]
fn p8_large_headers_and_foreign_hosts_are_refused() {
    let cluster = Cluster::of(1).start();
    let addr = cluster.node("n1").addr();
    let get = |headers: &str| {
        let message = format!("GET /kv/cat HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
        quorate_tests::exchange(addr, message.as_bytes()).unwrap().status
    };
    assert_eq!(get(&format!("Host: {addr}\r\n")), 404);
    assert_eq!(get(&format!("Host: {addr}\r\nX: {}\r\n", "x".repeat(20_000))), 431);
    assert_eq!(get("Host: rebound.example\r\n"), 421);
    assert_eq!(get(""), 400);
}
