use std::{
    net::TcpListener,
    process,
    sync::atomic::{AtomicU16, Ordering},
};

/// Ports below those that systems give to outgoing connections, so that a node that is down for a
/// while finds its port free when it comes back.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// Ports on which nobody listens, different ones at each call.
///
/// # Panics
/// If there are none.
#[must_use]
pub fn free_ports(count: usize) -> Vec<u16> {
    // Test programs that run at the same time start at different places.
    let start = u16::try_from(process::id() * 97 % u32::from(COUNT)).expect("a remainder of a u16");
    let candidates = (0..COUNT).map(|_| {
        let step = u32::from(start) + u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        FIRST + u16::try_from(step % u32::from(COUNT)).expect("a remainder of a u16")
    });
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let ports: Vec<_> = candidates.filter(free).take(count).collect();
    assert_eq!(ports.len(), count, "no free ports");
    ports
}
