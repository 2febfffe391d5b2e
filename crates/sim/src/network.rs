//! The wires between the nodes: who can reach whom, over which connection, and how long that takes.

use std::{collections::BTreeMap, time::Duration};

use crate::Random;

/// How the network treats messages. Chances are from 0 to 1 and per message.
#[derive(Clone, Debug)]
pub struct NetworkOptions {
    /// The mean of the time that a message takes, above a fixed 50 µs.
    pub delay: Duration,
    /// The chance that a message is lost while its connection goes on.
    pub loss: f64,
    /// The chance that a message comes twice.
    pub duplication: f64,
    /// The chance that a message comes again 60 to 90 seconds later.
    pub replay: f64,
    /// The chance that a byte of a message is changed.
    pub corruption: f64,
    /// The chance that a message may overtake those before it.
    pub reordering: f64,
    /// The chance that a message takes very long.
    pub spike: f64,
    /// The most that such a message takes.
    pub longest_spike: Duration,
    /// The chance that the connection is reset just after a request was worked on, before the answer can leave.
    pub reset: f64,
}

impl Default for NetworkOptions {
    /// Loses nothing, keeps the order, takes a millisecond.
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(1),
            loss: 0.0,
            duplication: 0.0,
            replay: 0.0,
            corruption: 0.0,
            reordering: 0.0,
            spike: 0.0,
            longest_spike: Duration::from_secs(10),
            reset: 0.0,
        }
    }
}

/// One connection: requests go from the dialer to the acceptor, answers come back.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) dialer: usize,
    pub(crate) acceptor: usize,
    /// Which of the acceptor's processes took it: a later one knows nothing of it.
    pub(crate) acceptor_life: u64,
    /// When the last message of each direction arrives.
    last_arrival_us: [u64; 2],
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passage {
    pub(crate) arrives_us: u64,
    /// Which of its bits is flipped, counted modulo their number.
    pub(crate) flipped_bit: Option<u64>,
}

pub(crate) struct Network {
    pub(crate) options: NetworkOptions,
    random: Random,
    nodes: usize,
    /// How many partitions stand in the way from one node to another.
    walls: Vec<u32>,
    /// Until when messages from one node to another are held up.
    clogs_us: Vec<u64>,
    connections: BTreeMap<u64, Connection>,
    /// The connection that a node has dialled to another.
    dialled: BTreeMap<(usize, usize), u64>,
    /// Attempts in a row that failed.
    failures: BTreeMap<(usize, usize), u32>,
    next_number: u64,
}

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToAcceptor,
    ToDialer,
}

impl Network {
    pub(crate) fn new(options: NetworkOptions, nodes: usize, random: Random) -> Self {
        Self {
            options,
            random,
            nodes,
            walls: vec![0; nodes * nodes],
            clogs_us: vec![0; nodes * nodes],
            connections: BTreeMap::new(),
            dialled: BTreeMap::new(),
            failures: BTreeMap::new(),
            next_number: 0,
        }
    }

    pub(crate) fn wall_up(&mut self, from: usize, to: usize) {
        self.walls[from * self.nodes + to] += 1;
    }

    pub(crate) fn wall_down(&mut self, from: usize, to: usize) {
        let walls = &mut self.walls[from * self.nodes + to];
        *walls = walls.saturating_sub(1);
    }

    /// Opens every way, for all that is sent from now on.
    pub(crate) fn all_walls_down(&mut self) {
        self.walls.fill(0);
        self.clogs_us.fill(0);
    }

    /// Holds up what is sent until then; it comes all the same.
    pub(crate) fn clog(&mut self, from: usize, to: usize, until_us: u64) {
        let clog = &mut self.clogs_us[from * self.nodes + to];
        *clog = until_us.max(*clog);
    }

    pub(crate) fn is_open(&self, from: usize, to: usize) -> bool {
        self.walls[from * self.nodes + to] == 0
    }

    pub(crate) fn connection(&self, number: u64) -> Option<&Connection> {
        self.connections.get(&number)
    }

    pub(crate) fn dialled(&self, from: usize, to: usize) -> Option<u64> {
        self.dialled.get(&(from, to)).copied()
    }

    pub(crate) fn connect(&mut self, dialer: usize, acceptor: usize, acceptor_life: u64) -> u64 {
        self.next_number += 1;
        let connection = Connection { dialer, acceptor, acceptor_life, last_arrival_us: [0; 2] };
        self.connections.insert(self.next_number, connection);
        self.dialled.insert((dialer, acceptor), self.next_number);
        self.failures.remove(&(dialer, acceptor));
        self.next_number
    }

    pub(crate) fn disconnect(&mut self, number: u64) -> Option<Connection> {
        let connection = self.connections.remove(&number)?;
        self.dialled.remove(&(connection.dialer, connection.acceptor));
        Some(connection)
    }

    /// The connections that `node` has a part in, by number.
    pub(crate) fn connections_of(&self, node: usize) -> Vec<u64> {
        let of = |connection: &Connection| connection.dialer == node || connection.acceptor == node;
        self.connections.iter().filter(|(_, it)| of(it)).map(|(&number, _)| number).collect()
    }

    /// How long to wait before the next attempt to connect: as a real link does, from 50 ms up to 2 s.
    pub(crate) fn wait_before_dialling(&mut self, from: usize, to: usize) -> Duration {
        let failures = self.failures.entry((from, to)).or_default();
        let full = Duration::from_millis(50 << (*failures).min(6)).min(Duration::from_secs(2));
        *failures += 1;
        self.random.between(full / 2, full)
    }

    /// A short time, as one message takes.
    pub(crate) fn delay(&mut self) -> Duration {
        Duration::from_micros(50) + self.random.span(self.options.delay)
    }

    /// When a message that leaves now arrives: never, once or twice; and when it is replayed, if it is.
    pub(crate) fn send(&mut self, number: u64, way: Way, now_us: u64) -> [Option<Passage>; 3] {
        let Some((from, to)) = self.ends(number, way) else { return [None; 3] };
        if !self.is_open(from, to) || self.random.chance(self.options.loss) {
            return [None; 3];
        }
        let first = self.passage(number, way, now_us);
        let again = self.random.chance(self.options.duplication);
        let again = again.then(|| self.passage(number, way, now_us));
        let replayed = self.random.chance(self.options.replay).then(|| {
            let later = self.random.between(Duration::from_secs(60), Duration::from_secs(90));
            Passage { arrives_us: now_us + micros(later), flipped_bit: None }
        });
        [Some(first), again, replayed]
    }

    fn passage(&mut self, number: u64, way: Way, now_us: u64) -> Passage {
        let mut delay = self.delay();
        if self.random.chance(self.options.spike) {
            delay +=
                self.random.span(self.options.longest_spike / 5).min(self.options.longest_spike);
        }
        let clog_us =
            self.ends(number, way).map_or(0, |(from, to)| self.clogs_us[from * self.nodes + to]);
        let mut arrives_us = (now_us + micros(delay)).max(clog_us);
        let overtakes = self.random.chance(self.options.reordering);
        if let Some(connection) = self.connections.get_mut(&number)
            && !overtakes
        {
            let last = &mut connection.last_arrival_us[way as usize];
            arrives_us = arrives_us.max(*last);
            *last = arrives_us;
        }
        let flipped = self.random.chance(self.options.corruption);
        Passage { arrives_us, flipped_bit: flipped.then(|| self.random.number()) }
    }

    /// Whether this connection is to be reset now that a request of it was worked on.
    pub(crate) fn resets(&mut self) -> bool {
        self.random.chance(self.options.reset)
    }

    fn ends(&self, number: u64, way: Way) -> Option<(usize, usize)> {
        let connection = self.connections.get(&number)?;
        Some(match way {
            Way::ToAcceptor => (connection.dialer, connection.acceptor),
            Way::ToDialer => (connection.acceptor, connection.dialer),
        })
    }
}

pub(crate) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).expect("spans of a simulation are short")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(options: NetworkOptions) -> (Network, u64) {
        let mut network = Network::new(options, 2, Random::new(1));
        let number = network.connect(0, 1, 0);
        (network, number)
    }

    fn arrivals(network: &mut Network, number: u64) -> Vec<u64> {
        let sent = (0..200).flat_map(|now_us| network.send(number, Way::ToAcceptor, now_us));
        sent.flatten().map(|passage| passage.arrives_us).collect()
    }

    #[test]
    fn a_calm_network_loses_nothing_and_keeps_the_order() {
        let (mut network, number) = network(NetworkOptions::default());
        let arrivals = arrivals(&mut network, number);
        assert_eq!(arrivals.len(), 200);
        assert!(arrivals.is_sorted());
    }

    #[test]
    fn a_bad_one_loses_doubles_and_reorders() {
        let (loss, duplication, reordering) = (0.2, 0.1, 0.5);
        let (mut network, number) =
            network(NetworkOptions { loss, duplication, reordering, ..NetworkOptions::default() });
        let arrivals = arrivals(&mut network, number);
        assert!((150..200).contains(&arrivals.len()), "{}", arrivals.len());
        assert!(!arrivals.is_sorted());
    }

    #[test]
    fn a_wall_stops_one_direction_until_the_last_partition_has_gone() {
        let (mut network, number) = network(NetworkOptions::default());
        network.wall_up(0, 1);
        network.wall_up(0, 1);
        network.wall_down(0, 1);
        assert_eq!(network.send(number, Way::ToAcceptor, 0), [None; 3]);
        assert!(network.send(number, Way::ToDialer, 0)[0].is_some());
        network.wall_down(0, 1);
        assert!(network.send(number, Way::ToAcceptor, 0)[0].is_some());
    }

    #[test]
    fn what_is_clogged_comes_later_and_all_of_it() {
        let (mut network, number) = network(NetworkOptions::default());
        network.clog(0, 1, 5_000_000);
        assert!(arrivals(&mut network, number).iter().all(|at_us| *at_us == 5_000_000));
        assert!(
            network.send(number, Way::ToDialer, 0)[0].is_some_and(|it| it.arrives_us < 1_000_000)
        );
        network.all_walls_down();
        assert!(network.send(number, Way::ToAcceptor, 5_000_000)[0].is_some());
    }

    #[test]
    fn attempts_to_connect_grow_rarer() {
        let (mut network, _) = network(NetworkOptions::default());
        let waits: Vec<Duration> = (0..9).map(|_| network.wait_before_dialling(1, 0)).collect();
        assert!(waits[0] <= Duration::from_millis(50) && waits[8] >= Duration::from_secs(1));
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(2)));
    }
}
