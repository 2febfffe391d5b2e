//! One replica's place in a write.

use crate::receipt::Holder;

/// What a node that took part answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Stored,
    Superseded,
    /// What it holds; the record was not sent yet.
    Told,
    /// That the version is below what it takes on.
    Below,
    /// That it has the record, but has lost others and does not count.
    Uncounted,
}

/// Whether the coordinator itself keeps the hint for a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    No,
    Asked,
    Kept,
    Refused,
}

/// The place of one replica. Whoever sits in it, it counts once.
#[derive(Debug)]
pub(super) struct Seat<I> {
    pub(super) replica: I,
    /// Whether the replica itself was asked in this round.
    pub(super) replica_asked: bool,
    /// Asked for this seat and not failed, in the order asked.
    members: Vec<I>,
    own: Option<Answer>,
    stand_in: Option<(I, Answer)>,
    keeping: Keeping,
}

impl<I: Clone + Ord> Seat<I> {
    pub(super) fn new(replica: I) -> Self {
        Self {
            replica,
            replica_asked: false,
            members: Vec::new(),
            own: None,
            stand_in: None,
            keeping: Keeping::No,
        }
    }

    /// Forgets every answer; returns whom to ask in the new round.
    ///
    /// A node that failed is left out, since it would most likely fail again. If that leaves nobody,
    /// the next fallback is asked, and with none left the replica gets its second chance.
    pub(super) fn restart(&mut self) -> Vec<I> {
        let members = std::mem::take(&mut self.members);
        *self = Self::new(self.replica.clone());
        members
    }

    pub(super) fn asked(&mut self, node: I) {
        self.replica_asked |= node == self.replica;
        self.members.push(node);
    }

    pub(super) fn failed(&mut self, node: &I) {
        self.members.retain(|member| member != node);
    }

    pub(super) fn answered(&mut self, node: I, answer: Answer) {
        if node == self.replica {
            self.own = Some(answer);
        } else if self.stand_in.is_none() {
            self.stand_in = Some((node, answer));
        }
    }

    /// The answer that counts for this seat: the replica's own before its stand-in's, so that a
    /// receipt calls a write sloppy only if it is.
    pub(super) fn counted(&self, sloppy: bool) -> Option<(&I, Answer)> {
        let own = self.own.map(|answer| (&self.replica, answer));
        let stand_in = self.stand_in.as_ref().map(|(node, answer)| (node, *answer));
        let counts = |&(_, answer): &(&I, Answer)| answer != Answer::Uncounted;
        own.filter(counts).or(stand_in.filter(counts).filter(|_| sloppy))
    }

    /// Takes back what `node` answered, and says whether it had.
    pub(super) fn void(&mut self, node: &I) -> bool {
        let own = *node == self.replica && self.own.take().is_some();
        let stand_in = self.stand_in.take_if(|(stand_in, _)| stand_in == node).is_some();
        if own || stand_in {
            self.failed(node);
        }
        own || stand_in
    }

    /// Whether the replica has the record but does not count, and nobody was asked in its place.
    pub(super) fn lacks_stand_in(&self) -> bool {
        self.own == Some(Answer::Uncounted) && self.members.iter().all(|it| *it == self.replica)
    }

    /// Whether the replica has the write, or something newer, or need not be seen to any more.
    pub(super) fn is_covered(&self) -> bool {
        self.is_held()
            || self.stand_in.as_ref().is_some_and(|(_, answer)| holds(*answer))
            || matches!(self.keeping, Keeping::Kept | Keeping::Refused)
    }

    /// Whether the coordinator is to keep a hint. A replica for which the version was too old gets one once it is
    /// known that there will be no newer version.
    pub(super) fn needs_keeping(&self, decided: bool) -> bool {
        let may_come_again = self.own == Some(Answer::Below) && !decided;
        !self.is_covered() && self.keeping == Keeping::No && !may_come_again
    }

    pub(super) fn keep_asked(&mut self) {
        self.keeping = Keeping::Asked;
    }

    pub(super) fn keep_ended(&mut self, kept: bool) {
        if self.keeping == Keeping::Asked {
            self.keeping = if kept { Keeping::Kept } else { Keeping::Refused };
        }
    }

    /// Who holds the hint, if the replica missed the write and somebody does.
    pub(super) fn holder(&self) -> Option<Holder<I>> {
        if self.is_held() {
            return None;
        }
        let kept = (self.keeping == Keeping::Kept).then_some(Holder::Coordinator);
        let stand_in = self.stand_in.as_ref().filter(|(_, answer)| holds(*answer));
        stand_in.map(|(node, _)| Holder::Fallback(node.clone())).or(kept)
    }

    /// Whether the replica itself has the write, or something newer.
    pub(super) fn is_held(&self) -> bool {
        self.own.is_some_and(holds)
    }
}

/// Whether who answers so needs nothing more.
fn holds(answer: Answer) -> bool {
    answer != Answer::Below
}
