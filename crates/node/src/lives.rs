//! Which life each node is in, and whose answers count.
//!
//! A node that lost data begins another life and counts for nothing until it has been filled again. What it answered
//! in an earlier life counts for nothing either, so before a peer lets such a node read anything from it, it durably
//! notes the new life; every answer says how many notes the answerer has taken, and nobody counts an answer before it
//! has heard of them all. Thus of the answers that make up a quorum, none is from a life that another of them knows to
//! be over.

use std::{collections::BTreeMap, mem, time::Duration};

use quorate_quorum::{GetEvent, PutEvent};
use quorate_record::NodeId;

use crate::{
    Action, Node, Notes, Now, Refusal, Request, Response, Standing, StoreRequest,
    call::Waiter,
    serve::{Origin, StoreWaiter},
};

/// A peer that takes longer to say how it stands is asked again.
const MEET_TIMEOUT: Duration = Duration::from_secs(5);

/// What is known of the lives of nodes.
#[derive(Debug)]
pub(crate) struct Lives {
    own: u64,
    progress: u64, // the greatest that was told of this node
    heard: BTreeMap<NodeId, u64>,
    taken: u32, // notes, and one for those that were found
    peers: BTreeMap<NodeId, Known>,
    is_over: bool, // this node has data that is older than what peers remember of it
}

/// What is known of one peer.
#[derive(Debug, Default)]
struct Known {
    /// How many of its notes were heard of.
    notes: u32,
    standing: Option<Standing>,
    is_asked: bool,
    /// Answers that came with notes not heard of yet.
    unsettled: Vec<(u64, u32, Response)>,
    /// The greatest progress that it has told, in which life.
    progress: (u64, u64),
}

/// What the notes are kept for.
#[derive(Debug)]
pub(crate) enum KeptFor {
    /// To answer a peer that has asked in a life that was not noted yet, with the progress that is remembered of it.
    Meeting { origin: Origin, remembered: u64 },
    /// To answer a report.
    Report { origin: Origin },
    /// To raise the horizon.
    Horizon,
    /// To count again.
    Counting,
}

/// The notes of this node, as they are on its disk, and as they are to be.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) durable: Notes,
    pub(crate) latest: Notes,
}

impl Keeper {
    pub(crate) fn new(notes: Notes) -> Self {
        Self { latest: notes.clone(), durable: notes }
    }
}

impl Lives {
    pub(crate) fn new(own: u64, notes: &Notes) -> Self {
        Self {
            own,
            progress: 0,
            heard: notes.lives.clone(),
            taken: 1,
            peers: BTreeMap::new(),
            is_over: false,
        }
    }

    /// The life that this node is in.
    pub(crate) fn own(&self) -> u64 {
        self.own
    }

    /// What each answer of this node says.
    pub(crate) fn notes(&self) -> u32 {
        self.taken
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// How `peer` stands, if it has noted the life that this node is in.
    pub(crate) fn standing(&self, peer: NodeId) -> Option<&Standing> {
        let standing = self.peers.get(&peer)?.standing.as_ref()?;
        (standing.noted == self.own).then_some(standing)
    }

    /// Whether `peer` has said that it has lost data and is not filled again.
    pub(crate) fn is_recovering(&self, peer: NodeId) -> bool {
        let standing = self.peers.get(&peer).and_then(|known| known.standing.as_ref());
        standing.is_some_and(|standing| standing.is_recovering)
    }

    /// The greatest progress that `peer` has told; 0 before it has.
    pub(crate) fn progress(&self, peer: NodeId) -> u64 {
        self.peers.get(&peer).map_or(0, |known| known.progress.1)
    }
}

impl Node {
    /// A connection to a peer in this life stands.
    pub(crate) fn met(&mut self, peer: NodeId, incarnation: u64, now: Now) {
        let known = self.lives.peers.entry(peer).or_default();
        known.notes = 0;
        known.standing = None;
        known.unsettled.clear();
        known.is_asked = false;
        self.heard_of(peer, incarnation, now);
        self.peers.entry(peer).or_default().incarnation = Some(incarnation);
        self.membership.connected(peer, now.instant);
        self.compare_soon(peer, now);
        self.ask_standing(peer);
    }

    /// Nothing that `peer` was asked will be answered any more.
    pub(crate) fn parted(&mut self, peer: NodeId) {
        if let Some(known) = self.lives.peers.get_mut(&peer) {
            known.unsettled.clear();
            known.is_asked = false;
        }
    }

    /// Asks `peer` how it stands.
    pub(crate) fn ask_standing(&mut self, peer: NodeId) {
        self.lives.peers.entry(peer).or_default().is_asked = true;
        // Which tells the progress of this node at the same time.
        self.store(StoreRequest::Progress, StoreWaiter::Progress { peer });
    }

    pub(crate) fn told_progress(&mut self, peer: NodeId, progress: u64, now: Now) {
        self.lives.progress = self.lives.progress.max(progress);
        let body = Request::Meet { wall_ms: now.wall_ms, incarnation: self.lives.own, progress };
        self.call_within(MEET_TIMEOUT, peer, body, Waiter::Ping, now);
    }

    /// A peer wants to know how this node stands.
    pub(crate) fn meet(&mut self, origin: Origin, incarnation: u64, progress: u64, now: Now) {
        let Origin::Peer { node, .. } = origin else {
            return self.respond(origin, Response::Refused(Refusal::Malformed));
        };
        let known = self.lives.peers.entry(node).or_default();
        let remembered = match known.progress {
            (life, greatest) if life == incarnation => greatest,
            _ => 0,
        };
        if incarnation >= known.progress.0 {
            known.progress = (incarnation, remembered.max(progress));
        }
        self.heard_of(node, incarnation, now);
        let noted = self.keeper.latest.lives.get(&node).copied().unwrap_or(0);
        if incarnation > noted {
            self.keeper.latest.lives.insert(node, incarnation);
            self.keep_notes(KeptFor::Meeting { origin, remembered });
        } else {
            self.answer_meeting(origin, remembered, now);
        }
    }

    pub(crate) fn answer_meeting(&mut self, origin: Origin, remembered: u64, now: Now) {
        let Origin::Peer { node, .. } = origin else { return };
        let Notes { floor, lives, .. } = &self.keeper.durable;
        let standing = Standing {
            noted: lives.get(&node).copied().unwrap_or(0),
            remembered,
            notes: self.lives.taken,
            lives: lives.iter().map(|(&node, &life)| (node, life)).collect(),
            is_recovering: !self.is_settled(),
            floor: *floor,
            horizon: self.horizon_in_force(),
        };
        let standing = Box::new(standing);
        self.respond(origin, Response::Met { wall_ms: now.wall_ms, standing });
    }

    /// `peer` has said how it stands, or has not; then `standing` is `None`.
    pub(crate) fn standing_told(&mut self, peer: NodeId, standing: Option<Standing>, now: Now) {
        let known = self.lives.peers.entry(peer).or_default();
        known.is_asked = false;
        let Some(standing) = standing else { return };
        let Standing { noted, remembered, notes, ref lives, .. } = standing;
        known.notes = known.notes.max(notes);
        let notes = known.notes;
        let lives = lives.clone();
        known.standing = Some(Standing { lives: Vec::new(), ..standing });
        for (node, life) in lives {
            self.heard_of(node, life, now);
        }
        if noted > self.lives.own {
            self.begin_another_life(noted, format!("{peer} knows of a later life of this node"));
        } else if noted == self.lives.own && remembered > self.lives.progress {
            let progress = self.lives.progress;
            let why = format!(
                "{peer} remembers {remembered} frames in the log, and there are {progress}"
            );
            self.begin_another_life(self.lives.own, why);
        }
        let known = self.lives.peers.entry(peer).or_default();
        let (settled, unsettled): (Vec<_>, Vec<_>) = mem::take(&mut known.unsettled)
            .into_iter()
            .partition(|&(_, needed, _)| needed <= notes);
        known.unsettled = unsettled;
        let more = !known.unsettled.is_empty();
        for (id, _, response) in settled {
            self.answered(peer, id, response, now);
        }
        if more {
            self.ask_standing(peer);
        }
        self.run_rebuild(now);
    }

    fn begin_another_life(&mut self, above: u64, why: String) {
        if !mem::replace(&mut self.lives.is_over, true) {
            self.act(Action::Renew { above, why });
        }
    }

    /// `from` has answered, when it had taken so many notes.
    pub(crate) fn answered_with(
        &mut self,
        from: NodeId,
        id: u64,
        notes: u32,
        response: Response,
        now: Now,
    ) {
        let known = self.lives.peers.entry(from).or_default();
        let is_meeting = matches!(response, Response::Met { .. } | Response::Pong { .. });
        if notes <= known.notes || is_meeting || planted!(NoFence) {
            return self.answered(from, id, response, now);
        }
        if self.calls.contains_key(&id) {
            known.unsettled.push((id, notes, response));
            if !known.is_asked {
                self.ask_standing(from);
            }
        }
    }

    /// Whether what `node` answers over the present connection comes from a life that is over.
    pub(crate) fn is_from_the_past(&self, node: NodeId) -> bool {
        let life = self.peers.get(&node).and_then(|facts| facts.incarnation);
        let heard = self.lives.heard.get(&node);
        life.zip(heard).is_some_and(|(life, &heard)| life < heard) && !planted!(NoFence)
    }

    /// Somebody has told that `node` is in this life.
    fn heard_of(&mut self, node: NodeId, life: u64, now: Now) {
        let heard = self.lives.heard.entry(node).or_insert(0);
        if life <= *heard {
            return;
        }
        *heard = life;
        let was_met = self.peers.get(&node).is_some_and(|facts| facts.incarnation.is_some());
        if node == self.id || !was_met || planted!(NoFence) {
            return;
        }
        for id in sorted(self.writes.keys()) {
            self.write_event(id, PutEvent::Void { from: node }, now);
        }
        for id in sorted(self.reads.keys()) {
            self.read_event(id, GetEvent::Void { from: node }, now);
        }
    }

    /// Has the notes persisted as they are now.
    pub(crate) fn keep_notes(&mut self, kept_for: KeptFor) {
        let notes = self.keeper.latest.clone();
        let waiter = StoreWaiter::Notes { notes: Box::new(notes.clone()), kept_for };
        self.store(StoreRequest::KeepNotes { notes }, waiter);
    }

    pub(crate) fn notes_kept(
        &mut self,
        notes: Notes,
        kept_for: KeptFor,
        outcome: Result<(), Refusal>,
        now: Now,
    ) {
        let is_kept = outcome.is_ok();
        if is_kept {
            if notes.lives != self.keeper.durable.lives {
                self.lives.taken = self.lives.taken.saturating_add(1);
            }
            self.keeper.durable = notes;
        }
        match (kept_for, outcome) {
            (KeptFor::Meeting { origin, remembered }, Ok(())) => {
                self.answer_meeting(origin, remembered, now);
            }
            (KeptFor::Report { origin }, Ok(())) => self.answer_report(origin),
            (KeptFor::Meeting { origin, .. } | KeptFor::Report { origin }, Err(why)) => {
                self.respond(origin, Response::Refused(why));
            }
            (KeptFor::Horizon, _) => self.horizon_kept(is_kept, now),
            (KeptFor::Counting, outcome) => self.counting_kept(outcome.is_ok(), now),
        }
    }
}

fn sorted<'a>(ids: impl Iterator<Item = &'a u64>) -> Vec<u64> {
    let mut ids: Vec<u64> = ids.copied().collect();
    ids.sort_unstable();
    ids
}
