//! The node's counters in the OpenMetrics text format, which Prometheus reads.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use quorate_membership::PeerState;

use crate::pages::View;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Peer {
    peer: String,
}

/// All metrics as they stand; nothing is kept between two scrapes.
pub(crate) fn text(view: &View<'_>) -> String {
    let mut registry = Registry::with_prefix("quorate");
    counters(view, &mut registry);
    gauges(view, &mut registry);
    peers(view, &mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing into memory cannot fail");
    text
}

fn counters(view: &View<'_>, registry: &mut Registry) {
    let mut add = |name: &str, help: &str, value: u64| {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    };
    let done = view.node.counters();
    add("writes", "Client writes begun, deletes included", done.writes);
    add("reads", "Client reads begun", done.reads);
    add("second_rounds", "Writes sent again under a new version", done.second_rounds);
    add("hedges", "Reads that asked one replica more", done.hedges);
    add("read_repairs", "Stale replicas sent a newer record by a read", done.read_repairs);
    add("skew_refusals", "Records refused as too far ahead", done.refused_too_far_ahead);
    add("clock_refusals", "Client writes refused for this clock", done.refused_clock_ahead);
    add("overload_refusals", "Client requests refused for load", done.refused_overloaded);
    add("peer_overloads", "Requests not sent to a peer with too many", done.peer_overloads);
    let hints = view.node.hints().stats(view.now.wall_ms);
    add("hints_delivered", "Hints that their replica took", hints.delivered);
    add("hints_dead", "Hints that their replica will never take", hints.dead);
    add("hints_damaged", "Hints found damaged", hints.damaged);
    add("hints_expired", "Courtesy hints dropped by age", hints.expired);
    add("hints_evicted", "Courtesy hints dropped for room", hints.evicted);
    add("hints_refused", "Hints not taken on", hints.refused);
    let store = view.local.store.stats();
    add("heals", "Damaged records that the other owners were asked for", done.heals);
    add("healed_records", "Damaged records that are whole again", store.healed);
    if let Some(rounds) = view.node.anti_entropy() {
        add("ae_rounds", "Comparisons with a peer", rounds.exchanges);
        add("ae_compared_records", "Records compared", rounds.total_compared);
        add("ae_pulled_records", "Records pulled", rounds.total_pulled);
        add("ae_pushed_records", "Records pushed", rounds.total_pushed);
        add("ae_sent_bytes", "Bytes sent by comparisons", rounds.total_bytes_sent);
        add("ae_received_bytes", "Bytes received by comparisons", rounds.total_bytes_received);
        add("ae_errors", "Comparisons that were aborted", rounds.total_errors);
    }
}

fn gauges(view: &View<'_>, registry: &mut Registry) {
    let mut add = |name: &str, help: &str, value: u64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    };
    let hints = view.node.hints().stats(view.now.wall_ms);
    add("hints", "Hints held", hints.count);
    add("hints_bytes", "Bytes of the hints held", hints.bytes);
    add("open_requests", "Client requests at work or waiting", view.node.open_requests() as u64);
    add(
        "queued_requests",
        "Client requests that wait to be let in",
        view.node.queued_requests() as u64,
    );
    add("admitted_requests", "Client requests let in at once", view.node.admitted() as u64);
    let store = view.local.store.stats();
    add("keys", "Keys held, tombstones included", store.keys);
    add("tombstones", "Keys held that were deleted", store.tombstones);
    add("damaged_records", "Records held that cannot be read", store.damaged);
    add("live_bytes", "Bytes of the records held", store.live_bytes);
    add("dead_bytes", "Bytes of log and snapshots beyond that", store.dead_bytes);
    add("log_bytes", "Bytes of the log", store.wal_bytes);
    add("log_segments", "Files of the log", store.segments);
    add("corrupt_frames", "Damaged frames found at start", store.corrupt_frames);
    add("ready", "1 if reads can be answered", u64::from(view.ready().is_ok()));
}

fn peers(view: &View<'_>, registry: &mut Registry) {
    let up: Family<Peer, Gauge> = Family::default();
    let in_flight: Family<Peer, Gauge> = Family::default();
    for peer in view.node.peers() {
        let label = Peer { peer: peer.id.to_string() };
        up.get_or_create(&label).set(i64::from(peer.state == PeerState::Up));
        let waiting = i64::try_from(peer.in_flight).unwrap_or(i64::MAX);
        in_flight.get_or_create(&label).set(waiting);
    }
    registry.register("peer_up", "1 if the peer answers", up);
    registry.register("peer_in_flight_requests", "Requests it has not answered", in_flight);
}
