use std::time::Duration;

use quorate_membership::MembershipOptions;
use quorate_quorum::Repair;
use quorate_record::MAX_VALUE_BYTES;

const MAX_PEER_BYTES: usize = 32 << 20;
const _: () = assert!(MAX_PEER_BYTES >= 4 * MAX_VALUE_BYTES, "clients write side by side");

/// How a node behaves.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// How far clocks may differ, in milliseconds; versions further ahead are refused.
    pub max_clock_skew_ms: u64,
    /// How many replicas acknowledge a write, unless it says otherwise: what decides how many others a node that lost
    /// its data must be compared with before it counts again.
    pub write_quorum: usize,
    /// How far below its clock a node's floor stays, besides twice the clocks' differences: as long as a write may be on
    /// its way. Zero for none at all: then writes go out again whenever they are late.
    pub write_grace: Duration,
    /// Whether a read answers before or after it has mended stale replicas.
    pub read_repair: Repair,
    /// How old a courtesy hint may get; zero keeps none.
    pub hint_ttl: Duration,
    /// Most bytes of all hints together.
    pub hint_max_bytes: u64,
    /// How often to compare with a peer; `None` never.
    pub anti_entropy_interval: Option<Duration>,
    /// Most records that a comparison moves at a time. It goes on with the next so many until all
    /// that differs has moved, but not faster than clients leave it time to.
    pub anti_entropy_max_per_tick: usize,
    /// Most client requests at once, those answered but not finished included.
    pub max_requests: usize,
    /// Most client requests at once that are not answered, at work or waiting for their turn.
    pub max_in_flight: usize,
    /// When requests that end well take longer than this on average, the node has fewer at work. A quarter
    /// of the time that they usually have; none waits for its turn for longer than three times this.
    pub target_latency: Duration,
    /// Most requests to one peer that it has not answered. What would be more counts as refused by
    /// it, so that a slow replica costs a bounded queue: it gets a hint instead.
    pub max_peer_requests: usize,
    /// Most bytes of values in those requests, or a single larger one.
    pub max_peer_bytes: usize,
    /// When a silent peer counts as down.
    pub membership: MembershipOptions,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            max_clock_skew_ms: 10_000,
            write_quorum: 2,
            write_grace: Duration::from_millis(2_600),
            read_repair: Repair::Async,
            hint_ttl: Duration::from_secs(10_800),
            hint_max_bytes: 1 << 30,
            anti_entropy_interval: Some(Duration::from_millis(1_500)),
            anti_entropy_max_per_tick: 200,
            max_requests: 4 * 4_096,
            max_in_flight: 4_096,
            target_latency: Duration::from_millis(200),
            max_peer_requests: 4_096,
            max_peer_bytes: MAX_PEER_BYTES,
            membership: MembershipOptions::default(),
        }
    }
}
