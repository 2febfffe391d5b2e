//! A write acknowledged before another began has the smaller version, however wrong the clocks are.

use std::time::Instant;

use proptest::prelude::*;
use quorate_quorum::{Failure, Put, PutAction, PutEvent, Quorum, Round};

use crate::setting::{PATIENCE, TIMEOUT, first_instant};

const REPLICAS: u8 = 3;
const COORDINATORS: usize = 4;
const WRITES: u8 = 6;

/// A hybrid timestamp, and the coordinator that issued it.
type Version = (u64, usize);
type Event = PutEvent<u8, Version>;

/// What answers a write that met something newer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replicas {
    /// Tell the coordinator, which then acts by the floor rule.
    TellOfNewer,
    /// Say that it is stored, as plain last-write-wins does.
    KeepQuiet,
}

/// Small and seeded, so that a failing case is one number.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn pick(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("less than a length")
    }
}

/// A message on its way, to a replica or back. It may overtake others, or arrive much later.
#[derive(Clone)]
enum Message {
    Request { write: u8, to: u8, round: Round, version: Version },
    Answer { write: u8, event: Event },
}

struct World {
    dice: Dice,
    mode: Replicas,
    ticks: u64,
    offsets: Vec<u64>,
    last: Vec<u64>, // what each coordinator's clock issued or was told of last
    stored: Vec<Version>,
    network: Vec<Message>,
    now: Instant,
}

impl World {
    fn new(seed: u64, mode: Replicas) -> Self {
        let mut dice = Dice(seed);
        let offsets = (0..COORDINATORS).map(|_| dice.below(200)).collect();
        Self {
            dice,
            mode,
            ticks: 0,
            offsets,
            last: vec![0; COORDINATORS],
            stored: vec![(0, 0); usize::from(REPLICAS)],
            network: Vec::new(),
            now: first_instant(),
        }
    }

    fn stamp(&mut self, coordinator: usize, above: u64) -> Version {
        let floor = self.last[coordinator].max(above) + 1;
        let time = floor.max(self.ticks + self.offsets[coordinator]);
        self.last[coordinator] = time;
        (time, coordinator)
    }

    /// Runs one write until the client is answered; returns its version if it was acknowledged.
    fn write(&mut self, write: u8) -> Option<Version> {
        let coordinator = self.dice.pick(COORDINATORS);
        let quorum = Quorum::new(3, 2, 2, false).expect("in range");
        let nodes: Vec<u8> = (0..REPLICAS).collect();
        let version = self.stamp(coordinator, 0);
        let mut put = Put::start(&nodes, |_| false, quorum, version, PATIENCE, TIMEOUT, self.now);
        loop {
            while let Some(action) = put.poll_action() {
                match action {
                    PutAction::Send { to, round, .. } => {
                        let version = *put.version();
                        self.network.push(Message::Request { write, to, round, version });
                    }
                    PutAction::Restamp { above } => {
                        let version = self.stamp(coordinator, above.0);
                        put.handle(PutEvent::Restamped { version }, self.now);
                    }
                    PutAction::Reply(result) => return result.ok().map(|receipt| receipt.version),
                    PutAction::KeepHint { .. } | PutAction::SetTimer { .. } => {}
                }
            }
            match self.deliver(write) {
                Some(event) => put.handle(event, self.now),
                None => {
                    self.now += TIMEOUT;
                    put.handle(PutEvent::TimerFired, self.now);
                }
            }
        }
    }

    /// Delivers messages in any order until one answers `write`; `None` if none will.
    fn deliver(&mut self, write: u8) -> Option<Event> {
        loop {
            self.ticks += self.dice.below(10);
            let for_this = |message: &Message| match message {
                Message::Request { write: of, .. } | Message::Answer { write: of, .. } => {
                    *of == write
                }
            };
            if !self.network.iter().any(for_this) {
                return None;
            }
            let picked = self.dice.pick(self.network.len());
            let message = self.network.swap_remove(picked);
            if self.dice.below(8) == 0 {
                self.network.push(message.clone()); // delivered twice, the second time late
            }
            match message {
                Message::Request { write, to, round, version } => {
                    let event = match self.dice.below(6) {
                        0 => PutEvent::Failed { from: to, round, failure: Failure::Unknown },
                        _ => self.apply(to, round, version),
                    };
                    self.network.push(Message::Answer { write, event });
                }
                Message::Answer { write: of, event } if of == write => return Some(event),
                Message::Answer { .. } => {}
            }
        }
    }

    fn apply(&mut self, to: u8, round: Round, version: Version) -> Event {
        let stored = &mut self.stored[usize::from(to)];
        if *stored > version && self.mode == Replicas::TellOfNewer {
            return PutEvent::Superseded { from: to, round, by: *stored };
        }
        *stored = version.max(*stored);
        PutEvent::Stored { from: to, round }
    }
}

/// Whether each acknowledged write of a run has a greater version than those before it.
fn later_writes_win(seed: u64, mode: Replicas) -> bool {
    let mut world = World::new(seed, mode);
    let acknowledged: Vec<Version> = (0..WRITES).filter_map(|write| world.write(write)).collect();
    acknowledged.is_sorted_by(|earlier, later| earlier < later)
}

proptest! {
    #[test]
    fn a_later_write_has_the_greater_version(seed in any::<u64>()) {
        for seed in (0..20).map(|more| seed.wrapping_add(more)) {
            prop_assert!(later_writes_win(seed, Replicas::TellOfNewer), "seed {seed}");
        }
    }
}

#[test]
fn without_the_floor_rule_the_order_is_lost() {
    let lost = (0..200).filter(|seed| !later_writes_win(*seed, Replicas::KeepQuiet)).count();
    assert!(lost > 20, "only {lost} of 200 runs lost the order: the check does not bite");
}

#[test]
fn most_writes_of_the_model_are_acknowledged() {
    let mut acknowledged = 0;
    for seed in 0..200 {
        let mut world = World::new(seed, Replicas::TellOfNewer);
        acknowledged += (0..WRITES).filter(|write| world.write(*write).is_some()).count();
    }
    assert!(acknowledged > 600, "only {acknowledged} of 1200: the model proves little");
}
