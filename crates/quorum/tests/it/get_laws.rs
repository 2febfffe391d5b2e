//! A read under any order of answers, failures, repeats, strangers and timers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use quorate_quorum::{Get, GetAction, GetError, GetEvent, GetOptions, GetReceipt, Repair};

use crate::setting::{PATIENCE, STRANGER, Setting, TIMEOUT, first_instant, settings};

type Event = GetEvent<u8, u32>;

/// One thing the world does next; the numbers pick among what there is.
#[derive(Clone, Debug)]
enum Step {
    /// Answer an open send, with what the node holds.
    Answer { which: usize },
    /// Fail an open send, or decline it if it is a hedge.
    Fail { which: usize },
    /// End an open repair.
    Mend { which: usize, well: bool },
    /// Repeat an earlier event.
    Repeat { which: usize },
    /// Claim something of a node that nobody waits for.
    Claim { node: u8, found: Option<u32> },
    /// Let time pass, and fire the timer whether it is due or not.
    Fire { after_ms: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => any::<usize>().prop_map(|which| Step::Answer { which }),
        2 => any::<usize>().prop_map(|which| Step::Fail { which }),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, well)| Step::Mend { which, well }),
        1 => any::<usize>().prop_map(|which| Step::Repeat { which }),
        1 => (0u8..10, prop::option::of(0u32..9))
            .prop_map(|(node, found)| Step::Claim { node, found }),
        1 => (0u64..80).prop_map(|after_ms| Step::Fire { after_ms }),
    ];
    prop::collection::vec(step, 0..40)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Open,
    Answered(Option<u32>),
    Failed,
    Declined,
}

#[derive(Debug)]
struct Sent {
    to: u8,
    hedge: bool,
    end: End,
    after_reply: bool,
}

/// The driver: it knows what each node holds, and what the read was told.
struct World {
    get: Get<u8, u32>,
    held: Vec<Option<u32>>,
    now: Instant,
    timer: Option<Instant>,
    sends: Vec<Sent>,
    repairs: Vec<(u8, u32, Option<bool>)>,
    told: Vec<Event>,
    timers: usize,
    replies: Vec<Result<GetReceipt<u8, u32>, GetError>>,
    repaired_before_reply: BTreeSet<u8>,
}

impl World {
    fn start(setting: &Setting, held: Vec<Option<u32>>, repair: Repair, hedged: bool) -> Self {
        let now = first_instant();
        let hedge_after = hedged.then_some(Duration::from_millis(10));
        let options = GetOptions { repair, hedge_after, patience: PATIENCE, timeout: TIMEOUT };
        let down = |node: &u8| setting.is_down(*node);
        let mut world = Self {
            get: Get::start(&setting.nodes, down, setting.quorum, options, now),
            held,
            now,
            timer: None,
            sends: Vec::new(),
            repairs: Vec::new(),
            told: Vec::new(),
            timers: 0,
            replies: Vec::new(),
            repaired_before_reply: BTreeSet::new(),
        };
        world.drain(setting);
        world
    }

    /// Carries out the actions; returns how many there were.
    fn drain(&mut self, setting: &Setting) -> usize {
        let mut count = 0;
        while let Some(action) = self.get.poll_action() {
            count += 1;
            match action {
                GetAction::Send { to, from_hints, hedge } => {
                    assert_eq!(from_hints, !setting.replicas().contains(&to));
                    assert!(!from_hints || setting.quorum.sloppy(), "fallbacks only if sloppy");
                    let again = self.sends.iter().any(|s| s.to == to && s.end != End::Declined);
                    assert!(!again, "node {to} is asked twice");
                    assert!(self.replies.is_empty(), "nobody is asked after the reply");
                    self.sends.push(Sent { to, hedge, end: End::Open, after_reply: false });
                }
                GetAction::Repair { to, payload } => {
                    assert!(setting.replicas().contains(&to), "only replicas are repaired");
                    assert!(self.repairs.iter().all(|r| r.0 != to), "{to} is repaired twice");
                    assert!(self.held[usize::from(to)] < Some(payload), "{to} is not stale");
                    assert!(self.held.contains(&Some(payload)), "nobody holds {payload}");
                    self.repairs.push((to, payload, None));
                }
                GetAction::SetTimer { at } => {
                    self.timer = Some(at);
                    self.timers += 1;
                }
                GetAction::Reply(result) => self.replies.push(result),
            }
        }
        count
    }

    fn tell(&mut self, event: Event, setting: &Setting) {
        let was_done = self.get.is_done();
        self.told.push(event.clone());
        self.get.handle(event, self.now);
        let actions = self.drain(setting);
        assert!(!was_done || actions == 0, "an event after the end changed something");
    }

    fn open(&mut self, which: usize) -> Option<&mut Sent> {
        let open: Vec<_> = self.sends.iter_mut().filter(|sent| sent.end == End::Open).collect();
        let count = open.len();
        open.into_iter().nth(which % count.max(1))
    }

    fn step(&mut self, step: &Step, setting: &Setting) {
        let replied = !self.replies.is_empty();
        match *step {
            Step::Answer { which } => {
                let held = self.held.clone();
                if let Some(sent) = self.open(which) {
                    let (from, found) = (sent.to, held[usize::from(sent.to)]);
                    sent.end = End::Answered(found);
                    sent.after_reply = replied;
                    self.tell(GetEvent::Answer { from, found }, setting);
                }
            }
            Step::Fail { which } => {
                if let Some(sent) = self.open(which) {
                    let from = sent.to;
                    let declined = sent.hedge && which % 2 == 0;
                    sent.end = if declined { End::Declined } else { End::Failed };
                    let failed = GetEvent::Failed { from };
                    let event = if declined { GetEvent::Declined { from } } else { failed };
                    self.tell(event, setting);
                }
            }
            Step::Mend { which, well } => {
                let open: Vec<_> = self.repairs.iter_mut().filter(|r| r.2.is_none()).collect();
                let count = open.len();
                if let Some(repair) = open.into_iter().nth(which % count.max(1)) {
                    repair.2 = Some(well);
                    let from = repair.0;
                    if well && !replied {
                        self.repaired_before_reply.insert(from);
                    }
                    let failed = GetEvent::RepairFailed { from };
                    self.tell(if well { GetEvent::Repaired { from } } else { failed }, setting);
                }
            }
            Step::Repeat { which } if !self.told.is_empty() => {
                let event = self.told[which % self.told.len()].clone();
                if !self.is_open(&event) {
                    self.tell(event, setting);
                }
            }
            Step::Repeat { .. } => {}
            Step::Claim { node, found } => {
                let from = if node == 9 { STRANGER } else { node };
                for event in [GetEvent::Answer { from, found }, GetEvent::Repaired { from }] {
                    if !self.is_open(&event) {
                        self.tell(event, setting);
                    }
                }
            }
            Step::Fire { after_ms } => {
                self.now += Duration::from_millis(after_ms);
                self.fire(setting);
            }
        }
    }

    fn is_open(&self, event: &Event) -> bool {
        match event {
            GetEvent::Answer { from, .. }
            | GetEvent::Failed { from }
            | GetEvent::Void { from }
            | GetEvent::Declined { from } => {
                self.sends.iter().any(|sent| sent.to == *from && sent.end == End::Open)
            }
            GetEvent::Repaired { from } | GetEvent::RepairFailed { from } => {
                self.repairs.iter().any(|repair| repair.0 == *from && repair.2.is_none())
            }
            GetEvent::TimerFired => false,
        }
    }

    fn fire(&mut self, setting: &Setting) {
        if self.timer.take().is_some() {
            self.tell(GetEvent::TimerFired, setting);
        }
    }

    /// Ends everything that is open and fires every timer, until there is nothing left.
    fn end(&mut self, silent: bool, setting: &Setting) {
        for _ in 0..100 {
            if !silent && self.sends.iter().any(|sent| sent.end == End::Open) {
                self.step(&Step::Fail { which: 1 }, setting);
            } else if !silent && self.repairs.iter().any(|repair| repair.2.is_none()) {
                self.step(&Step::Mend { which: 0, well: true }, setting);
            } else if let Some(at) = self.timer {
                self.now = self.now.max(at);
                self.fire(setting);
            } else {
                break;
            }
        }
        assert!(self.timer.is_none(), "the read never comes to rest");
    }

    fn found_by(&self, node: u8) -> Option<Option<u32>> {
        self.sends.iter().find_map(|sent| match sent.end {
            End::Answered(found) if sent.to == node => Some(found),
            _ => None,
        })
    }

    fn check(&self, setting: &Setting, repair: Repair) {
        assert!(self.get.is_done());
        assert_eq!(self.replies.len(), 1, "the client is answered once");
        assert!(self.timers <= self.told.len() + 1, "timers are set only on events");
        assert!(self.repairs.len() < setting.quorum.n(), "at most n - 1 repairs");
        if let Ok(receipt) = &self.replies[0] {
            self.check_receipt(receipt, setting, repair);
        }
    }

    fn check_receipt(&self, receipt: &GetReceipt<u8, u32>, setting: &Setting, repair: Repair) {
        let r = setting.quorum.r();
        let distinct: BTreeSet<_> = receipt.from.iter().collect();
        assert_eq!(distinct.len(), receipt.from.len(), "a node counted twice");
        assert!(distinct.len() >= r);
        let is_replica = |node: &u8| setting.replicas().contains(node);
        let counted = |node: &u8| self.found_by(*node).expect("counted without an answer");
        assert_eq!(receipt.from.iter().map(counted).max().flatten(), receipt.found);
        for fallback in receipt.from.iter().filter(|node| !is_replica(node)) {
            assert!(counted(fallback).is_some(), "a fallback cannot say that there is nothing");
            assert!(receipt.sloppy);
        }
        let Some(winner) = receipt.found else {
            assert!(receipt.from.iter().all(is_replica), "absent only if r replicas said so");
            return;
        };
        if repair == Repair::Blocking {
            let before_reply = self.sends.iter().filter(|sent| !sent.after_reply);
            let holds = |s: &&Sent| matches!(s.end, End::Answered(found) if found >= Some(winner));
            let holders: BTreeSet<_> = before_reply.filter(holds).map(|sent| sent.to).collect();
            let repaired: BTreeSet<_> = receipt.repaired.iter().copied().collect();
            assert_eq!(repaired, self.repaired_before_reply, "repaired means done");
            assert!(holders.is_disjoint(&repaired));
            assert!(holders.len() + repaired.len() >= r, "too few hold what the read found");
        }
        // All stale replicas that were met in time are mended, as far as the bound allows.
        let stale = |node: &&u8| self.found_by(**node).is_some_and(|found| found < Some(winner));
        let left = setting.replicas().iter().filter(stale);
        let left = left.filter(|node| self.repairs.iter().all(|repair| repair.0 != **node));
        let spare = setting.quorum.n() - 1 - self.repairs.len();
        assert!(spare == 0 || left.count() == 0, "a stale replica was left as it is");
    }
}

proptest! {
    #[test]
    fn every_read_keeps_its_promises(
        setting in settings(),
        held in prop::collection::vec(prop::option::of(0u32..4), 9),
        blocking in any::<bool>(),
        hedged in any::<bool>(),
        steps in steps(),
        silent in any::<bool>(),
    ) {
        let repair = if blocking { Repair::Blocking } else { Repair::Async };
        let mut world = World::start(&setting, held, repair, hedged);
        for step in &steps {
            world.step(step, &setting);
        }
        world.end(silent, &setting);
        world.check(&setting, repair);
        // Whatever is still open ends now, after the read is over.
        for step in &steps {
            world.step(step, &setting);
        }
    }
}
