//! A write under any order of answers, failures, repeats, strangers and timers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use quorate_quorum::{Failure, Outcome, Put, PutAction, PutError, PutEvent, PutReceipt, Round};

use crate::setting::{PATIENCE, STRANGER, Setting, TIMEOUT, first_instant, settings};

const VERSION: u32 = 10;

type Event = PutEvent<u8, u32>;

/// One thing the world does next; the numbers pick among what there is.
#[derive(Clone, Debug)]
enum Step {
    /// End an open send in one of the five ways.
    End { which: usize, how: usize },
    /// Repeat an earlier event.
    Repeat { which: usize },
    /// Claim something of a send that is not open.
    Claim { node: u8, second: bool, how: usize },
    /// Answer a request for a version, or for a hint to be kept.
    Serve { which: usize, well: bool },
    /// Let time pass, and fire the timer whether it is due or not.
    Fire { after_ms: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (any::<usize>(), 0usize..5).prop_map(|(which, how)| Step::End { which, how }),
        1 => any::<usize>().prop_map(|which| Step::Repeat { which }),
        1 => (0u8..9, any::<bool>(), 0usize..6)
            .prop_map(|(node, second, how)| Step::Claim { node, second, how }),
        2 => (any::<usize>(), prop::bool::weighted(0.8))
            .prop_map(|(which, well)| Step::Serve { which, well }),
        1 => (0u64..120).prop_map(|after_ms| Step::Fire { after_ms }),
    ];
    prop::collection::vec(step, 0..40)
}

fn answer(from: u8, round: Round, how: usize) -> Event {
    let by = VERSION + 1 + u32::from(from);
    match how {
        0 | 1 if round == Round::Asking => PutEvent::Told { from, holds: (how == 1).then_some(by) },
        0 => PutEvent::Stored { from, round },
        1 => PutEvent::Superseded { from, round, by },
        4 if round != Round::Asking => PutEvent::Below { from, round, by },
        5 => PutEvent::Void { from },
        2 => PutEvent::Failed { from, round, failure: Failure::Refused },
        _ => PutEvent::Failed { from, round, failure: Failure::Unknown },
    }
}

/// A send or a hint as it went out, and how it ended.
#[derive(Clone, Debug)]
struct Sent {
    to: u8,
    hint_for: Option<u8>,
    round: Round,
    ended: Option<Event>,
}

impl Sent {
    fn replica(&self) -> u8 {
        self.hint_for.unwrap_or(self.to)
    }

    fn stored(&self) -> bool {
        matches!(self.ended, Some(PutEvent::Stored { .. }))
    }

    fn answered(&self) -> bool {
        self.stored() || matches!(self.ended, Some(PutEvent::Superseded { .. }))
    }

    fn certainly_not_stored(&self) -> bool {
        let (from, round) = (self.to, self.round);
        let refused = PutEvent::Failed { from, round, failure: Failure::Refused };
        round == Round::Asking
            || self.ended.as_ref() == Some(&refused)
            || matches!(self.ended, Some(PutEvent::Superseded { .. } | PutEvent::Below { .. }))
    }
}

/// The driver: it knows what really happened, and what the write was told.
struct World {
    put: Put<u8, u32>,
    now: Instant,
    timer: Option<Instant>,
    sends: Vec<Sent>,
    keeps: Vec<(u8, Round, Option<bool>)>,
    restamp: Option<u32>,
    restamps: usize,
    version: u32,
    told: Vec<Event>,
    timers: usize,
    replies: Vec<Result<PutReceipt<u8, u32>, PutError>>,
}

impl World {
    fn start(setting: &Setting, atomic: bool) -> Self {
        let now = first_instant();
        let down = |node: &u8| setting.is_down(*node);
        let (nodes, quorum) = (&setting.nodes, setting.quorum);
        let start = if atomic { Put::start_atomic } else { Put::start };
        let put = start(nodes, down, quorum, VERSION, PATIENCE, TIMEOUT, now);
        let mut world = Self {
            put,
            now,
            timer: None,
            sends: Vec::new(),
            keeps: Vec::new(),
            restamp: None,
            restamps: 0,
            version: VERSION,
            told: Vec::new(),
            timers: 0,
            replies: Vec::new(),
        };
        world.drain();
        world
    }

    /// Carries out the actions; returns how many there were.
    fn drain(&mut self) -> usize {
        let mut count = 0;
        while let Some(action) = self.put.poll_action() {
            count += 1;
            match action {
                PutAction::Send { to, hint_for, round } => {
                    let twice = self.sends.iter().any(|s| s.to == to && s.round == round);
                    assert!(!twice, "node {to} is asked twice in {round:?}");
                    self.sends.push(Sent { to, hint_for, round, ended: None });
                }
                PutAction::Restamp { above } => {
                    self.restamp = Some(above);
                    self.restamps += 1;
                }
                PutAction::KeepHint { replica, round } => {
                    let twice = self.keeps.iter().any(|k| (k.0, k.1) == (replica, round));
                    assert!(!twice, "the hint for {replica} is kept twice in {round:?}");
                    self.keeps.push((replica, round, None));
                }
                PutAction::SetTimer { at } => {
                    self.timer = Some(at);
                    self.timers += 1;
                }
                PutAction::Reply(result) => self.replies.push(result),
            }
        }
        count
    }

    fn tell(&mut self, event: Event) {
        let was_done = self.put.is_done();
        self.told.push(event.clone());
        self.put.handle(event, self.now);
        let actions = self.drain();
        assert!(!was_done || actions == 0, "an event after the end changed something");
        assert!(!was_done || self.put.is_done(), "a write that was over began again");
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::End { which, how } => {
                let open: Vec<_> = self.sends.iter_mut().filter(|s| s.ended.is_none()).collect();
                let count = open.len();
                if let Some(sent) = open.into_iter().nth(which % count.max(1)) {
                    let event = answer(sent.to, sent.round, how);
                    sent.ended = Some(event.clone());
                    self.tell(event);
                }
            }
            Step::Repeat { which } if !self.told.is_empty() => {
                let event = self.told[which % self.told.len()].clone();
                // A repeat can only be early if what it repeats has been asked for since.
                if !self.is_open(&event) {
                    self.tell(event);
                }
            }
            Step::Repeat { .. } => {}
            Step::Claim { node, second, how } => {
                let node = if node == 8 { STRANGER } else { node };
                let event = answer(node, if second { Round::Second } else { Round::First }, how);
                if !self.is_open(&event) {
                    self.tell(event);
                }
            }
            Step::Serve { which, well } => self.serve(which, well),
            Step::Fire { after_ms } => {
                self.now += Duration::from_millis(after_ms);
                self.fire();
            }
        }
    }

    fn is_open(&self, event: &Event) -> bool {
        let open = |from, round| {
            self.sends.iter().any(|s| (s.to, s.round) == (from, round) && s.ended.is_none())
        };
        match event {
            PutEvent::Told { from, .. } => open(*from, Round::Asking),
            PutEvent::Stored { from, round }
            | PutEvent::Superseded { from, round, .. }
            | PutEvent::Below { from, round, .. }
            | PutEvent::Failed { from, round, .. } => open(*from, *round),
            PutEvent::HintKept { replica, round } | PutEvent::HintRefused { replica, round } => {
                self.keeps.iter().any(|k| (k.0, k.1, k.2) == (*replica, *round, None))
            }
            PutEvent::Restamped { .. } | PutEvent::RestampFailed => self.restamp.is_some(),
            _ => false,
        }
    }

    fn serve(&mut self, which: usize, well: bool) {
        if let Some(above) = self.restamp.take() {
            if !well {
                return self.tell(PutEvent::RestampFailed);
            }
            self.version = above + 1;
            return self.tell(PutEvent::Restamped { version: above + 1 });
        }
        let open: Vec<_> = self.keeps.iter_mut().filter(|keep| keep.2.is_none()).collect();
        let count = open.len();
        if let Some(keep) = open.into_iter().nth(which % count.max(1)) {
            keep.2 = Some(well);
            let (replica, round) = (keep.0, keep.1);
            self.tell(if well {
                PutEvent::HintKept { replica, round }
            } else {
                PutEvent::HintRefused { replica, round }
            });
        }
    }

    fn fire(&mut self) {
        if self.timer.take().is_some() {
            self.tell(PutEvent::TimerFired);
        }
    }

    /// Ends everything that is open and fires every timer, until there is nothing left.
    fn end(&mut self, silent: bool) {
        for _ in 0..100 {
            while self.restamp.is_some() || self.keeps.iter().any(|keep| keep.2.is_none()) {
                self.serve(0, true);
            }
            if !silent && self.sends.iter().any(|sent| sent.ended.is_none()) {
                self.step(&Step::End { which: 0, how: 3 });
            } else if let Some(at) = self.timer {
                self.now = self.now.max(at);
                self.fire();
            } else {
                break;
            }
        }
        assert!(self.timer.is_none() && self.restamp.is_none(), "the write never comes to rest");
    }

    fn check(&self, setting: &Setting) {
        assert!(self.put.is_done());
        assert_eq!(self.replies.len(), 1, "the client is answered once");
        let below = self.told.iter().any(|event| matches!(event, PutEvent::Below { .. }));
        assert!(self.restamps <= if below { 3 } else { 1 }, "at most two rounds, or four");
        assert!(self.timers <= self.told.len() + 1, "timers are set only on events");
        match &self.replies[0] {
            Ok(receipt) => self.check_receipt(receipt, setting),
            Err(error) if error.outcome() == Outcome::Rejected => {
                assert!(self.sends.iter().all(Sent::certainly_not_stored));
                assert_eq!(self.keeps, [], "a rejected write must not come back");
            }
            Err(_) => {}
        }
        if !self.sends.iter().all(Sent::certainly_not_stored) {
            self.check_every_replica_is_seen_to(setting);
        }
    }

    /// An atomic write has one version, whatever came of it.
    fn check_one_version(&self) {
        let maybe_stored = self.sends.iter().filter(|sent| !sent.certainly_not_stored());
        let rounds: BTreeSet<Round> = maybe_stored.map(|sent| sent.round).collect();
        assert!(rounds.len() <= 1, "the record may be held under the versions of {rounds:?}");
    }

    fn check_receipt(&self, receipt: &PutReceipt<u8, u32>, setting: &Setting) {
        let quorum = setting.quorum;
        let mut seats = BTreeSet::new();
        let (mut by_fallback, mut all_stored) = (false, true);
        for node in &receipt.acks {
            let sent = self.sends.iter().find(|s| (s.to, s.round) == (*node, receipt.round));
            let sent = sent.expect("an ack of somebody who was asked");
            let counts =
                if receipt.round == Round::First { sent.stored() } else { sent.answered() };
            assert!(counts, "{node} never acknowledged this round");
            assert!(seats.insert(sent.replica()), "a replica and its stand-in both counted");
            by_fallback |= sent.hint_for.is_some();
            all_stored &= sent.stored();
        }
        assert!(seats.len() >= quorum.w());
        assert!(receipt.sloppy || !by_fallback);
        assert!(by_fallback || !receipt.sloppy || !all_stored, "replicas stored all that counts");
        assert!(quorum.sloppy() || !receipt.sloppy);
        let version = if receipt.round == Round::First { VERSION } else { self.version };
        assert_eq!(receipt.version, version, "one version for all acks");
    }

    fn check_every_replica_is_seen_to(&self, setting: &Setting) {
        let round = self.sends.iter().map(|sent| sent.round).max();
        for replica in setting.replicas() {
            let answered =
                |s: &Sent| s.replica() == *replica && Some(s.round) == round && s.answered();
            let kept = |k: &(u8, Round, Option<bool>)| {
                k.0 == *replica && Some(k.1) == round && k.2.is_some()
            };
            assert!(
                self.sends.iter().any(answered) || self.keeps.iter().any(kept),
                "{replica} missed the write and nobody holds a hint"
            );
        }
    }
}

proptest! {
    #[test]
    fn every_write_keeps_its_promises(
        setting in settings(),
        steps in steps(),
        silent in any::<bool>(),
        atomic in any::<bool>(),
    ) {
        let strict = !setting.quorum.sloppy() && setting.quorum.orders_writes();
        let mut world = World::start(&setting, atomic && strict);
        for step in &steps {
            world.step(step);
        }
        world.end(silent);
        world.check(&setting);
        if atomic && strict {
            world.check_one_version();
        }
        for step in &steps {
            world.step(step);
        }
    }
}
