//! Proxies between nodes, which hold up, lose and damage what passes through them.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    runtime::Runtime,
    sync::{Semaphore, watch},
    time::sleep,
};

/// The connections of one link that may be open at once.
const MAX_CONNECTIONS: usize = 64;

const BUFFER_BYTES: usize = 64 << 10;

/// What becomes of the bytes that go from one node to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wire {
    /// They arrive.
    #[default]
    Pass,
    /// They arrive so much later.
    Delay(Duration),
    /// They arrive when this ends, as over a network that loses packets for a while.
    Stall,
    /// They never arrive. When this ends, so do the connections that lost some.
    Drop,
    /// Connections are reset, and so is every new one.
    Cut,
}

/// What can befall the open connections between two nodes, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// They are reset.
    Reset,
    /// Those in one direction end as if the sender had nothing more to say; the other goes on.
    HalfClose,
    /// A bit of what comes next in one direction is flipped.
    Flip,
}

/// A proxy for each ordered pair of nodes: node `from` dials its peer `to` through it.
///
/// Nodes are numbered from 0. What `from` says to `to` goes both ways over connections: as requests
/// on those that it dialled, as answers on those that `to` did. A [`Wire`] is about both.
#[derive(Debug)]
pub(crate) struct Links {
    addrs: Vec<Vec<SocketAddr>>,
    wires: Arc<Wires>,
    runtime: Option<Runtime>,
}

/// By sender, then by receiver.
type Wires = Vec<Vec<watch::Sender<State>>>;

/// The present of a wire, and how often it was struck.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    wire: Wire,
    resets: u64,
    half_closes: u64,
    flips: u64,
}

/// A connection that must end at once.
struct Broken;

impl Links {
    /// Starts the proxies of nodes that listen at `nodes`. Everything passes at first.
    ///
    /// # Errors
    /// If the system has no threads or no ports.
    pub(crate) fn start(nodes: &[SocketAddr]) -> io::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let row = || nodes.iter().map(|_| watch::Sender::default()).collect();
        let wires: Arc<Wires> = Arc::new(nodes.iter().map(|_| row()).collect());
        let mut addrs = Vec::new();
        for from in 0..nodes.len() {
            let mut row = Vec::new();
            for (to, &addr) in nodes.iter().enumerate() {
                let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
                row.push(listener.local_addr()?);
                runtime.spawn(keep(listener, addr, Arc::clone(&wires), (from, to)));
            }
            addrs.push(row);
        }
        Ok(Self { addrs, wires, runtime: Some(runtime) })
    }

    /// Where node `from` is to dial node `to`.
    ///
    /// # Panics
    /// If there are no such nodes.
    #[must_use]
    pub(crate) fn addr(&self, from: usize, to: usize) -> SocketAddr {
        self.addrs[from][to]
    }

    /// Sets what becomes of what `from` says to `to`.
    ///
    /// # Panics
    /// If there are no such nodes.
    pub(crate) fn set(&self, from: usize, to: usize, wire: Wire) {
        self.wires[from][to].send_modify(|state| state.wire = wire);
    }

    /// Strikes what `from` says to `to`.
    ///
    /// # Panics
    /// If there are no such nodes.
    pub(crate) fn strike(&self, from: usize, to: usize, blow: Blow) {
        self.wires[from][to].send_modify(|state| match blow {
            Blow::Reset => state.resets += 1,
            Blow::HalfClose => state.half_closes += 1,
            Blow::Flip => state.flips += 1,
        });
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn keep(listener: TcpListener, to: SocketAddr, wires: Arc<Wires>, pair: (usize, usize)) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let subscribe = |(from, to): (usize, usize)| wires[from][to].subscribe();
    loop {
        let Ok((near, _)) = listener.accept().await else { continue };
        let (there, back) = (subscribe(pair), subscribe((pair.1, pair.0)));
        let cut = [&there, &back].iter().any(|wire| wire.borrow().wire == Wire::Cut);
        match Arc::clone(&room).try_acquire_owned() {
            Ok(place) if !cut => {
                tokio::spawn(async move {
                    carry(near, to, there, back).await;
                    drop(place);
                });
            }
            _ => reset(&near),
        }
    }
}

async fn carry(
    mut near: TcpStream,
    to: SocketAddr,
    there: watch::Receiver<State>,
    back: watch::Receiver<State>,
) {
    // Before anything passes: who sees something arrive may strike at once.
    let (first_there, first_back) = (*there.borrow(), *back.borrow());
    let Ok(mut far) = TcpStream::connect(to).await else { return reset(&near) };
    let ends_well = {
        let (near_read, near_write) = near.split();
        let (far_read, far_write) = far.split();
        let there = pump(near_read, far_write, there, first_there);
        let back = pump(far_read, near_write, back, first_back);
        tokio::try_join!(there, back).is_ok()
    };
    if !ends_well {
        reset(&near);
        reset(&far);
    }
}

/// Has the connection end with a reset when it is dropped. One that has ended already needs none.
fn reset(stream: &TcpStream) {
    drop(stream.set_zero_linger());
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut state: watch::Receiver<State>,
    first: State,
) -> Result<(), Broken> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut flips = first.flips;
    let mut lost_some = false;
    loop {
        let State { wire, resets, half_closes, .. } = *state.borrow_and_update();
        if wire == Wire::Cut || resets != first.resets || (lost_some && wire != Wire::Drop) {
            return Err(Broken);
        }
        if half_closes != first.half_closes {
            return to.shutdown().await.map_err(|_| Broken);
        }
        if wire == Wire::Stall {
            state.changed().await.map_err(|_| Broken)?;
            continue;
        }
        let len = tokio::select! {
            biased;
            changed = state.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return Err(Broken),
            },
            len = from.read(&mut buffer) => len.map_err(|_| Broken)?,
        };
        if len == 0 {
            return to.shutdown().await.map_err(|_| Broken);
        }
        match wire {
            Wire::Drop => {
                lost_some = true;
                continue;
            }
            Wire::Delay(time) => sleep(time).await,
            _ => {}
        }
        let struck = state.borrow().flips;
        if struck != flips {
            flips = struck;
            buffer[len / 2] ^= 0x10;
        }
        // The receiver may take nothing for long, and then a reset must not wait for it.
        let mut changes = state.clone();
        tokio::select! {
            written = to.write_all(&buffer[..len]) => written.map_err(|_| Broken)?,
            () = broken(&mut changes, first) => return Err(Broken),
        }
    }
}

/// Comes when the connection is to end at once.
async fn broken(state: &mut watch::Receiver<State>, first: State) {
    let is_broken = |state: &State| state.wire == Wire::Cut || state.resets != first.resets;
    // Without a sender there is nobody left who waits for this.
    drop(state.wait_for(is_broken).await);
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read, Write},
        net,
        thread::{self, JoinHandle},
    };

    use quorate_tests::PATIENCE;

    use super::*;

    /// Two nodes: 0, which dials, and 1, which listens.
    struct Pair {
        links: Links,
        listener: net::TcpListener,
    }

    impl Pair {
        fn new() -> Self {
            let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
            let addr = listener.local_addr().unwrap();
            Self { links: Links::start(&[addr, addr]).unwrap(), listener }
        }

        /// The two ends of a connection that node 0 dials.
        fn connect(&self) -> (net::TcpStream, net::TcpStream) {
            let dialled = net::TcpStream::connect(self.links.addr(0, 1)).unwrap();
            let (taken, _) = self.listener.accept().unwrap();
            for end in [&dialled, &taken] {
                end.set_read_timeout(Some(PATIENCE)).unwrap();
            }
            (dialled, taken)
        }
    }

    #[track_caller]
    fn assert_arrives(from: &mut net::TcpStream, to: &mut net::TcpStream, text: &str) {
        from.write_all(text.as_bytes()).unwrap();
        let mut read = vec![0; text.len()];
        to.read_exact(&mut read).unwrap();
        assert_eq!(String::from_utf8_lossy(&read), text);
    }

    #[track_caller]
    fn assert_ends_with_a_reset(stream: &mut net::TcpStream) {
        let error = stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    /// Reads one byte elsewhere.
    fn read_later(stream: &net::TcpStream) -> JoinHandle<u8> {
        let mut stream = stream.try_clone().unwrap();
        thread::spawn(move || {
            let mut read = [0];
            stream.read_exact(&mut read).unwrap();
            read[0]
        })
    }

    #[test]
    fn what_is_said_passes_both_ways_and_so_does_the_end() {
        let pair = Pair::new();
        let (mut near, mut far) = pair.connect();
        assert_arrives(&mut near, &mut far, "question");
        assert_arrives(&mut far, &mut near, "answer");
        near.shutdown(net::Shutdown::Write).unwrap();
        assert_eq!(far.read(&mut [0]).unwrap(), 0);
        assert_arrives(&mut far, &mut near, "all the same");
    }

    #[test]
    fn what_is_stalled_one_way_arrives_in_the_end_and_the_other_way_at_once() {
        let pair = Pair::new();
        let (mut near, mut far) = pair.connect();
        pair.links.set(0, 1, Wire::Stall);
        near.write_all(b"x").unwrap();
        let read = read_later(&far);
        assert_arrives(&mut far, &mut near, "meanwhile");
        assert!(!read.is_finished());
        pair.links.set(0, 1, Wire::Pass);
        assert_eq!(read.join().unwrap(), b'x');
        pair.links.set(0, 1, Wire::Delay(Duration::from_millis(1)));
        assert_arrives(&mut near, &mut far, "later");
    }

    #[test]
    fn a_connection_that_lost_something_ends_when_the_loss_does() {
        let pair = Pair::new();
        let (mut near, mut far) = pair.connect();
        pair.links.set(0, 1, Wire::Drop);
        near.write_all(b"lost").unwrap();
        assert_arrives(&mut far, &mut near, "meanwhile");
        pair.links.set(0, 1, Wire::Pass);
        // Whether the bytes were lost or were still on their way, the far end reads no part of them.
        match far.read(&mut [0; 8]) {
            Ok(len) => assert_eq!(len, 4, "all or nothing"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }

    #[test]
    fn a_cut_resets_what_is_there_and_what_comes() {
        let pair = Pair::new();
        let (mut near, mut far) = pair.connect();
        assert_arrives(&mut near, &mut far, "before");
        pair.links.set(0, 1, Wire::Cut);
        assert_ends_with_a_reset(&mut near);
        assert_ends_with_a_reset(&mut far);
        let mut refused = net::TcpStream::connect(pair.links.addr(0, 1)).unwrap();
        refused.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_ends_with_a_reset(&mut refused);
        pair.links.set(0, 1, Wire::Pass);
        let (mut near, mut far) = pair.connect();
        assert_arrives(&mut near, &mut far, "after");
    }

    #[test]
    fn blows_strike_once() {
        let pair = Pair::new();
        let (mut near, mut far) = pair.connect();
        assert_arrives(&mut near, &mut far, "before");
        pair.links.strike(0, 1, Blow::Flip);
        near.write_all(b"a").unwrap();
        let mut read = [0];
        far.read_exact(&mut read).unwrap();
        assert_eq!(read[0], b'a' ^ 0x10);
        assert_arrives(&mut near, &mut far, "unharmed");

        pair.links.strike(0, 1, Blow::HalfClose);
        assert_eq!(far.read(&mut [0]).unwrap(), 0);
        assert_arrives(&mut far, &mut near, "the other way");

        let (mut near, mut far) = pair.connect();
        assert_arrives(&mut near, &mut far, "another one");
        pair.links.strike(1, 0, Blow::Reset);
        assert_ends_with_a_reset(&mut near);
        assert_ends_with_a_reset(&mut far);
    }
}
