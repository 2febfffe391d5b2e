/// What a node has done since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Client writes begun, deletes included.
    pub writes: u64,
    /// Client reads begun.
    pub reads: u64,
    /// Writes that were superseded and went out again under a new version.
    pub second_rounds: u64,
    /// Replicas that held something greater than the second version of a write: a concurrent one.
    pub superseded_again: u64,
    /// Answers of replicas that refused a write because its version is below what they take on.
    pub below: u64,
    /// Records that were found dead: another owner has none of them and a horizon above them.
    pub buried: u64,
    /// Reads that asked one replica more because one was late.
    pub hedges: u64,
    /// Stale replicas that were sent a newer record by a read.
    pub read_repairs: u64,
    /// Those of them that were sent a tombstone.
    pub tombstone_repairs: u64,
    /// Damaged records that the other owners were asked for.
    pub heals: u64,
    /// Hints whose replica held something greater when it got them.
    pub hints_superseded: u64,
    /// Records refused because their version lay too far ahead of this node's clock.
    pub refused_too_far_ahead: u64,
    /// Client writes not begun because this node's clock is too far ahead of its peers'.
    pub refused_clock_ahead: u64,
    /// Client requests refused because too many were at work and waited.
    pub refused_overloaded: u64,
    /// Requests not sent to a peer because it has too many to answer.
    pub peer_overloads: u64,
}
