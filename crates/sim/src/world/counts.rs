//! What is counted on the way.

use quorate_node::{ClientReply, Message, PutOutcome, Refusal, Response, StoreReply};
use quorate_quorum::{Outcome, Round};

use super::World;

impl World {
    /// Takes the counters of a node, which end with it, into the coverage.
    pub(crate) fn count_what_it_did(&mut self, node: usize) {
        let Some(process) = &self.machines[node].process else { return };
        let (counters, hints) = (process.node.counters(), process.node.hints().stats(0));
        let exchanged = process.node.anti_entropy();
        let moved = exchanged.map_or(0, |stats| stats.total_pulled + stats.total_pushed);
        let aborted = exchanged.map_or(0, |stats| stats.total_errors);
        for (what, times) in [
            ("state: write in a second round", counters.second_rounds),
            ("state: second round superseded by a concurrent write", counters.superseded_again),
            ("state: tombstone sent by read repair", counters.tombstone_repairs),
            ("state: hint for a node that holds newer", counters.hints_superseded),
            ("state: request refused for load", counters.refused_overloaded),
            ("state: write refused for the clock", counters.refused_clock_ahead),
            ("state: read hedged", counters.hedges),
            ("state: version too far ahead refused", counters.refused_too_far_ahead),
            ("state: hint delivered", hints.delivered),
            ("state: hint expired", hints.expired),
            ("state: hint dropped for space", hints.evicted),
            ("state: hint refused for space", hints.refused),
            ("state: record moved by anti-entropy", moved),
            ("state: exchange aborted", aborted),
            ("state: damaged record asked of other owners", counters.heals),
        ] {
            self.coverage.add(what, times);
        }
    }

    pub(super) fn count_message(&mut self, message: &Message) {
        if let Message::Response { body: Response::Put(PutOutcome::Superseded(_)), .. } = message {
            self.coverage.count("state: write superseded at a replica");
        }
    }

    pub(super) fn count_refusal(&mut self, reply: &StoreReply) {
        if let StoreReply::Applied(PutOutcome::Refused(Refusal::DiskFull))
        | StoreReply::Persisted(Err(Refusal::DiskFull)) = reply
        {
            self.coverage.count("state: write refused by a full disk");
        }
    }

    pub(super) fn count_reply(&mut self, reply: &ClientReply) {
        match reply {
            ClientReply::Written(Ok(receipt)) => {
                if receipt.sloppy {
                    self.coverage.count("state: fallback counted for a write");
                }
                if receipt.round == Round::Second {
                    self.coverage.count("state: write acknowledged in its second round");
                }
            }
            ClientReply::Read(Ok(receipt)) => {
                if receipt.sloppy {
                    self.coverage.count("state: fallback counted for a read");
                }
            }
            ClientReply::Written(Err(failure)) => {
                if failure.error.outcome() == Outcome::Rejected {
                    self.coverage.count("state: write rejected");
                }
            }
            ClientReply::Read(Err(_)) | ClientReply::Refused(_) => {}
        }
    }
}
