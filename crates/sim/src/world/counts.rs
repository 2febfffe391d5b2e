//! What is counted on the way.

use quorate_node::{ClientReply, Message, PutOutcome, Response};
use quorate_quorum::{Outcome, Round};
use quorate_record::Record;

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
            ("state: read hedged", counters.hedges),
            ("state: version too far ahead refused", counters.refused_too_far_ahead),
            ("state: hint delivered", hints.delivered),
            ("state: hint expired", hints.expired),
            ("state: hint dropped for space", hints.evicted),
            ("state: hint refused for space", hints.refused),
            ("state: record moved by anti-entropy", moved),
            ("state: exchange aborted", aborted),
        ] {
            self.coverage.add(what, times);
        }
    }

    pub(super) fn count_message(&mut self, message: &Message) {
        match message {
            Message::Response { body: Response::Merged(outcomes), .. }
                if outcomes.iter().any(|it| matches!(it, PutOutcome::Superseded(_))) =>
            {
                self.coverage.count("state: hint or copy for a node that holds newer");
            }
            Message::Response { body: Response::Put(PutOutcome::Superseded(_)), .. } => {
                self.coverage.count("state: write superseded at a replica");
            }
            _ => {}
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
                let deleted = receipt.found.as_ref().is_some_and(Record::is_tombstone);
                if deleted && !receipt.repaired.is_empty() {
                    self.coverage.count("state: tombstone sent by read repair");
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
