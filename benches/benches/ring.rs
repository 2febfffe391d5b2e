//! What does it cost to find the nodes of a key, beside hashing the key alone and beside the
//! fastest vnode ring among published crates?
//!
//! Rings of 3, 10 and 100 nodes with 256 vnodes each; 65,536 random keys of 16 bytes; every figure
//! includes the hash of the key. The look-ups do not wait for each other, so this is throughput. The
//! table of keys is the same in every row and does not fit in a cache of the first level: the bare
//! hash reads all of it too, so its row pays for fetching the keys as the others do. The peer's lists
//! depend on the number of keys: with 16,384 of them, walked again and again, they take about half
//! the time, while our ratios to the bare hash stay.
//!
//! Under `cargo bench` a table of ratios follows, each the median over rounds in which all
//! candidates ran one after the other, with its quartiles: absolute times drift with the machine's
//! other work, ratios within a round hardly do.

use criterion::{BenchmarkId, Criterion, Throughput};
use quorate_ring::{KEY_SEED, Ring, RingNode};
use std::hint::black_box;
use std::time::{Duration, Instant};
use twox_hash::XxHash3_64;

const SIZES: [usize; 3] = [3, 10, 100];
const VNODES: u32 = 256;
const OWNERS: usize = 3;
const KEYS: usize = 65_536;
const ROUNDS: usize = 51;

type Key = [u8; 16];
type Peer = consistent_hash_ring::Ring<String>;

/// What is compared: one pass over all keys each.
struct Candidates {
    keys: Vec<Key>,
    ours: Ring<String>,
    peer: Peer,
}

impl Candidates {
    fn new(nodes: usize) -> Self {
        Self { keys: random_keys(), ours: build_ours(nodes), peer: build_peer(nodes) }
    }

    fn bare_hash(&self) {
        for key in &self.keys {
            black_box(XxHash3_64::oneshot_with_seed(KEY_SEED, key));
        }
    }

    fn our_get(&self) {
        for key in &self.keys {
            black_box(self.ours.primary_of_key(key));
        }
    }

    fn our_list(&self) {
        for key in &self.keys {
            for owner in self.ours.owners_of_key(key) {
                black_box(owner);
            }
        }
    }

    fn our_places(&self) {
        for key in &self.keys {
            for place in self.ours.owners_of_key(key).places() {
                black_box(place);
            }
        }
    }

    fn peer_get(&self) {
        for key in &self.keys {
            black_box(self.peer.get(key));
        }
    }

    fn peer_list(&self) {
        for key in &self.keys {
            for node in self.peer.replicas(key).take(OWNERS) {
                black_box(node);
            }
        }
    }
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    compare(&mut criterion);
    criterion.final_summary();
    // Cargo passes this for `cargo bench` only; a test run has no use for ratios.
    if std::env::args().any(|argument| argument == "--bench") {
        print_ratios();
    }
}

fn compare(criterion: &mut Criterion) {
    type Pass = fn(&Candidates);
    let tables: [(&str, &[(&str, Pass)]); 2] = [
        (
            "ring/get",
            &[
                ("bare_xxh3", Candidates::bare_hash),
                ("quorate", Candidates::our_get),
                ("consistent_hash_ring", Candidates::peer_get),
            ],
        ),
        (
            "ring/list_of_3",
            &[("quorate", Candidates::our_list), ("consistent_hash_ring", Candidates::peer_list)],
        ),
    ];
    for (title, passes) in tables {
        let mut group = criterion.benchmark_group(title);
        group.throughput(Throughput::Elements(KEYS as u64));
        for nodes in SIZES {
            let candidates = Candidates::new(nodes);
            for (name, pass) in passes {
                group.bench_with_input(BenchmarkId::new(*name, nodes), &candidates, |b, c| {
                    b.iter(|| pass(c));
                });
            }
        }
        group.finish();
    }
}

fn print_ratios() {
    println!(
        "\nFinding the nodes of a key: {VNODES} vnodes a node, {KEYS} keys of 16 bytes, hash included"
    );
    println!("(bare: the hash alone; peer: consistent_hash_ring; medians of {ROUNDS} rounds)\n");
    println!("nodes  what                   ns a key  ours/bare  (quartiles)   peer/ours");
    for nodes in SIZES {
        let candidates = Candidates::new(nodes);
        let rounds: Vec<Round> = (0..ROUNDS).map(|_| Round::run(&candidates)).collect();
        let row = |what: &str, ours: fn(&Round) -> f64, peer: fn(&Round) -> f64| {
            let ns = median(rounds.iter().map(|round| ours(round) * 1e9 / KEYS as f64));
            let [low, to_bare, high] =
                quartiles(rounds.iter().map(|round| ours(round) / round.bare));
            let to_peer = median(rounds.iter().map(|round| peer(round) / ours(round)));
            println!(
                "{nodes:>5}  {what:<22} {ns:>8.2}  {to_bare:>8.2}x  ({low:.2}-{high:.2})  {to_peer:>8.1}x"
            );
        };
        let bare = median(rounds.iter().map(|round| round.bare * 1e9 / KEYS as f64));
        println!("{nodes:>5}  {:<22} {bare:>8.2}  {:>9}  {:>11}  {:>9}", "bare hash", "-", "", "-");
        row("get", |r| r.our_get, |r| r.peer_get);
        row("list of 3, ids", |r| r.our_list, |r| r.peer_list);
        row("list of 3, places", |r| r.our_places, |r| r.peer_list);
        let (ours, peer): (Vec<f64>, Vec<f64>) = (0..5)
            .map(|_| (time(|| drop(build_ours(nodes))), time(|| drop(build_peer(nodes)))))
            .unzip();
        let to_peer = median(peer.iter().zip(&ours).map(|(peer, ours)| peer / ours));
        let ms = median(ours.into_iter()) * 1e3;
        println!(
            "{nodes:>5}  {:<22} {ms:>6.2}ms  {:>9}  {:>11}  {to_peer:>8.1}x\n",
            "build", "-", ""
        );
    }
}

/// Seconds for one pass of each candidate, taken one right after the other.
struct Round {
    bare: f64,
    our_get: f64,
    our_list: f64,
    our_places: f64,
    peer_get: f64,
    peer_list: f64,
}

impl Round {
    fn run(candidates: &Candidates) -> Self {
        Self {
            bare: time_warm(|| candidates.bare_hash()),
            our_get: time_warm(|| candidates.our_get()),
            our_list: time_warm(|| candidates.our_list()),
            our_places: time_warm(|| candidates.our_places()),
            peer_get: time_warm(|| candidates.peer_get()),
            peer_list: time_warm(|| candidates.peer_list()),
        }
    }
}

/// Seconds that `pass` takes once its data is as near as it will stay: the pass before it belonged
/// to another candidate and has filled the caches with that one's.
fn time_warm(pass: impl Fn()) -> f64 {
    pass();
    time(pass)
}

/// Seconds that `work` takes.
#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn time(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    quartiles(values)[1]
}

fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[values.len() * quarter / 4])
}

fn ids(nodes: usize) -> impl Iterator<Item = String> {
    (0..nodes).map(|i| format!("node-{i}"))
}

fn build_ours(nodes: usize) -> Ring<String> {
    let nodes = ids(nodes).map(RingNode::new).collect();
    Ring::new(nodes, VNODES, OWNERS).expect("the input is within every limit")
}

fn build_peer(nodes: usize) -> Peer {
    consistent_hash_ring::RingBuilder::default()
        .vnodes(VNODES as usize)
        .nodes_iter(ids(nodes))
        .build()
}

/// The same keys in every run, from SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
fn random_keys() -> Vec<Key> {
    let mut state = 0_u64;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    (0..KEYS).map(|_| (u128::from(next()) << 64 | u128::from(next())).to_le_bytes()).collect()
}
