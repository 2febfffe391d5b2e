//! The rare behaviour by name.

use std::fmt;

macro_rules! sites {
    ($($variant:ident, $name:literal, $chance:literal, $about:literal;)+) => {
        /// A place where a crate can be built to do what is allowed but seldom happens.
        ///
        /// FoundationDB calls these places BUGGIFY (Zhou et al. 2021, "FoundationDB: A Distributed Unbundled
        /// Transactional Key Value Store", §4).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Site {
            $(#[doc = $about] $variant,)+
        }

        impl Site {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// A short name; the one that coverage is counted by.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => concat!("site: ", $name),)+ }
            }

            /// What it does, in one sentence.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => $about,)+ }
            }

            /// The chance that it happens at one visit, if it is [armed](crate::arm) at all.
            #[must_use]
            pub const fn chance(self) -> f64 {
                match self { $(Self::$variant => $chance,)+ }
            }
        }
    };
}

sites! {
    RefuseClient, "client refused as if overloaded", 0.02,
        "A coordinator refuses a request as if too many were at work.";
    RefusePeer, "peer refused as if too late", 0.02,
        "A node refuses what a peer asks as if the time for it were over.";
    LooksDown, "healthy replica taken for down", 0.1,
        "A coordinator takes a replica for down, whatever it has heard of it.";
    NoPatience, "stand-ins asked at once", 0.1,
        "A request is out of patience with silent nodes after a millisecond.";
    HedgeAtOnce, "read hedged at once", 0.25,
        "A read asks one replica more without waiting for the others.";
    CallTimesOut, "call given up at once", 0.05,
        "A ping, handoff, repair or step of a comparison is given up after a millisecond.";
    SmallAllowance, "clock allowance of a millisecond", 0.25,
        "The clock is allowed one millisecond ahead, so that the next version waits for more.";
    LargeAllowance, "clock allowance of three seconds", 0.1,
        "The clock is allowed three seconds ahead, so that a restart jumps as far.";
    OneRecordFetched, "one record a fetch", 0.25,
        "A replica answers a fetch with the records of one token.";
    OneRecordListed, "one record a listing", 0.1,
        "A replica lists one token of a span and says that there are more.";
    SkipRepair, "repair after the reply left out", 0.25,
        "A read that has answered leaves stale replicas to anti-entropy.";
    RefuseHint, "hint refused as if there were no room", 0.1,
        "A node has no room for a hint that it could keep.";
    OneHintABatch, "one hint a batch", 0.25,
        "A handoff takes one hint at a time.";
    HintTwice, "hint delivered again", 0.2,
        "A hint is kept although its target has it, and delivered once more.";
    SmallLeaf, "comparison down to single records", 0.25,
        "A comparison divides spans until they hold one record.";
    SketchFails, "sketch that tells too little", 0.1,
        "A sketch cannot be decoded although it could.";
    AbortExchange, "comparison aborted", 0.05,
        "A comparison ends as if an answer had not come.";
    LogBusy, "log busy", 0.01,
        "A log refuses a frame as if its queue were full.";
    SegmentLeft, "segment left early", 0.05,
        "A log goes on to its next segment although the present one has room.";
    SnapshotEarly, "snapshot made early", 0.1,
        "A snapshot is due although little was logged since the last one.";
    OneRecordSnapshotted, "snapshot one record at a time", 0.25,
        "A snapshot takes one record of the index at a time.";
    CompactEarly, "segment compacted early", 0.25,
        "A store compacts a segment although it wastes little.";
    HintsRewritten, "hints written again early", 0.25,
        "The hint log gives up its oldest segment although it wastes little.";
    QueueClient, "client made to wait its turn", 0.75,
        "A coordinator has a request wait although there is room, while a few other things happen.";
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name().trim_start_matches("site: "))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn sites_have_names_that_differ_and_chances_that_are_some() {
        let names: BTreeSet<_> = Site::ALL.iter().map(|site| site.name()).collect();
        assert_eq!(names.len(), Site::ALL.len());
        assert!(Site::ALL.iter().all(|site| site.chance() > 0.0 && site.chance() < 1.0));
    }
}
