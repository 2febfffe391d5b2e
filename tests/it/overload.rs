use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use quorate_tests::{Cluster, PATIENCE, now};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many connections do nothing, if the system lets this process and a node have so many.
const IDLE: usize = 5_000;
/// The usual `max_connections`: less than that.
const MAX_CONNECTIONS: usize = 4_096;
/// How many clients send heads slowly, and how many bodies.
const SLOW: usize = 500;

/// At once, on a machine that does other things as well.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Lets this process open as many files as it may, and says how many.
fn most_files() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("a limit is raised");
    maximum.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
}

fn connect(addr: SocketAddr) -> TcpStream {
    TcpStream::connect_timeout(&addr, PATIENCE).expect("the node takes connections")
}

/// A connection that has made a request and makes no other.
fn between_two_requests(addr: SocketAddr) -> TcpStream {
    let mut stream = connect(addr);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(format!("GET /health HTTP/1.1\r\nHost: {addr}\r\n\r\n").as_bytes()).unwrap();
    let (mut answer, mut some) = (Vec::new(), [0; 512]);
    while !answer.ends_with(b"ok\n") {
        let len = stream.read(&mut some).unwrap();
        assert!(len > 0, "cut off: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&some[..len]);
    }
    stream
}

/// That a new client is served, and at once.
#[track_caller]
fn assert_served(cluster: &Cluster, key: &str) {
    let begin = now();
    cluster.node("n1").put(key, "purr").expect_status(204);
    assert_eq!(cluster.node("n1").get(key).expect_status(200).body, b"purr");
    let took = now() - begin;
    assert!(took < AT_ONCE, "{key} took {took:?}");
}

#[test]
fn p8_more_idle_connections_than_there_may_be_keep_nobody_out() {
    let idle = IDLE.min(most_files() / 3);
    if idle < IDLE {
        eprintln!("only {idle} connections instead of {IDLE}: no more files may be open");
    }
    let cluster = Cluster::of(3).field("max_connections", idle * MAX_CONNECTIONS / IDLE).start();
    let addr = cluster.node("n1").addr();
    let mut streams = Vec::new();
    for i in 0..idle {
        streams.push(if i % 2 == 0 { connect(addr) } else { between_two_requests(addr) });
        if i % 250 == 0 {
            assert_served(&cluster, &format!("beside-{i}"));
        }
    }
    assert_served(&cluster, "beside-all");
    // The oldest had to go, the newest are still there.
    let mut last = streams.pop().expect("there are some");
    last.write_all(format!("GET /health HTTP/1.1\r\nHost: {addr}\r\n\r\n").as_bytes()).unwrap();
    assert!(last.read(&mut [0; 16]).unwrap() > 0);
    let mut first = streams.swap_remove(0);
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(!matches!(first.read(&mut [0; 16]), Ok(1..)), "the first is still served");
}

/// A client that sends a byte now and then.
struct Slow {
    stream: TcpStream,
    since: Instant,
    closed_after: Option<Duration>,
}

impl Slow {
    fn start(addr: SocketAddr, beginning: &str) -> Self {
        let mut stream = connect(addr);
        stream.write_all(beginning.as_bytes()).unwrap();
        stream.set_nonblocking(true).unwrap();
        Self { stream, since: now(), closed_after: None }
    }

    /// Sends another byte, unless the node has hung up.
    fn step(&mut self) {
        let is_over = |result: &io::Result<usize>| match result {
            Ok(len) => *len == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        };
        if self.closed_after.is_none()
            && (is_over(&self.stream.read(&mut [0; 512])) || is_over(&self.stream.write(b"x")))
        {
            self.closed_after = Some(now() - self.since);
        }
    }
}

#[test]
fn p8_five_hundred_slow_heads_and_bodies_each_end_in_time_and_slow_nobody_down() {
    let slow = SLOW.min(most_files() / 8);
    let cluster = Cluster::of(3).start();
    let addr = cluster.node("n1").addr();
    let body = format!("PUT /kv/slow HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 1000000\r\n\r\n");
    let head = format!("GET /kv/slow HTTP/1.1\r\nHost: {addr}\r\nX-Slow: ");
    let mut heads: Vec<_> = (0..slow).map(|_| Slow::start(addr, &head)).collect();
    let mut bodies: Vec<_> = (0..slow).map(|_| Slow::start(addr, &body)).collect();
    let deadline = now() + Duration::from_secs(60);
    let all_closed = AtomicBool::new(false);
    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !all_closed.load(Ordering::Relaxed) {
                assert_served(&cluster, "beside");
                served.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(20));
            }
        });
        loop {
            heads.iter_mut().chain(&mut bodies).for_each(Slow::step);
            let all = heads.iter().chain(&bodies).all(|slow| slow.closed_after.is_some());
            if all || now() > deadline {
                break;
            }
            thread::sleep(Duration::from_secs(1)); // the rate of a slow sender
        }
        all_closed.store(true, Ordering::Relaxed);
    });
    assert!(served.load(Ordering::Relaxed) > 20);
    for (what, slow, least) in [("head", heads, 9), ("body", bodies, 4)] {
        for Slow { closed_after, .. } in slow {
            let after = closed_after.unwrap_or_else(|| panic!("a slow {what} was never closed"));
            assert!(after > Duration::from_secs(least), "a {what} was cut off after {after:?}");
            assert!(after < Duration::from_secs(least + 15), "a {what} only after {after:?}");
        }
    }
    cluster.node("n1").get("slow").expect_status(404);
}

#[test]
fn p8_a_node_that_stands_still_fails_no_request_to_the_others() {
    const CLIENTS: usize = 8;
    // A healthy answer takes milliseconds; half of the time is for a machine that is busy.
    let cluster = Cluster::of(3).field("timeout_ms", 4_000).start();
    for i in 0..CLIENTS {
        cluster.node("n1").put(format!("key-{i}"), "0").expect_status(204);
    }
    cluster.pause("n3");
    let end = now() + Duration::from_secs(6);
    thread::scope(|scope| {
        for i in 0..CLIENTS {
            let node = cluster.node(["n1", "n2"][i % 2]);
            scope.spawn(move || {
                let key = format!("key-{i}");
                for round in 0.. {
                    if now() > end {
                        break;
                    }
                    node.put(&key, format!("{round}")).expect_status(204);
                    let found = node.get(&key).expect_status(200).text();
                    assert_eq!(found, format!("{round}"));
                }
            });
        }
    });
    cluster.resume("n3");
    quorate_tests::eventually("n3 gets what it missed", PATIENCE, || {
        (0..CLIENTS).all(|i| {
            let key = format!("key-{i}");
            cluster.node("n3").held_value(&key) == cluster.node("n1").held_value(&key)
        })
    });
}
