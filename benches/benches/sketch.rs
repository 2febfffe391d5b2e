//! What does it take to find out, by a sketch, which of 100,000 records differ? In cells of 26 bytes
//! (printed), and in time for each stale record: it differs by two symbols.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use quorate_antientropy::{SKETCH_CELLS, Sketch, Symbol};

const RECORDS: u64 = 100_000;
const CELL_BYTES: usize = 26;

fn mixed(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (bits ^ (bits >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

fn symbol(number: u64, timestamp: u64) -> Symbol {
    let token = mixed(number);
    Symbol::hashed(token, timestamp, mixed(token ^ mixed(timestamp)), false)
}

/// Of two replicas, one of which has stale records; `round` chooses which.
fn differing(stale: u64, cells: usize, round: u64) -> Sketch {
    let mut sketch = Sketch::new(cells);
    for number in 0..stale {
        let number = (number + round * stale) % RECORDS;
        sketch.add(&symbol(number, 2));
        sketch.remove(&symbol(number, 1));
    }
    sketch
}

/// The fewest cells that are enough, on an average of some rounds.
fn needed(stale: u64) -> f64 {
    const ROUNDS: u64 = 20;
    let of_round = |round| {
        let most = usize::try_from(stale).expect("few") * 8 + 32;
        let all = differing(stale, most, round);
        let is_enough =
            |cells: &usize| Sketch::from_cells(all.cells()[..*cells].to_vec()).decode().is_some();
        let cells = (1..=most).step_by(most.div_ceil(400)).find(is_enough);
        cells.expect("four cells a symbol") as f64
    };
    (0..ROUNDS).map(of_round).sum::<f64>() / ROUNDS as f64
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode stale records");
    for stale in [1_u64, 10, 100, 1_000] {
        let cells = needed(stale);
        let bytes = cells * CELL_BYTES as f64;
        println!("{stale} stale: {cells:.1} cells, {:.0} bytes each", bytes / stale as f64);
        let sketch = differing(stale, usize::try_from(stale).expect("few") * 5 + 32, 0);
        group.throughput(Throughput::Elements(stale));
        group.bench_function(BenchmarkId::from_parameter(stale), |b| {
            b.iter_batched(|| sketch.clone(), Sketch::decode, BatchSize::SmallInput);
        });
    }
}

fn keep(c: &mut Criterion) {
    let mut group = c.benchmark_group("keep a sketch");
    let mut sketch = Sketch::new(SKETCH_CELLS);
    let mut number = 0;
    group.bench_function("overwrite", |b| {
        b.iter(|| {
            number += 1;
            sketch.remove(&symbol(number, 1));
            sketch.add(&symbol(number, 2));
        });
    });
    let kept: Vec<Sketch> = (0..4_096).map(|round| differing(10, SKETCH_CELLS, round)).collect();
    group.throughput(Throughput::Elements(kept.len() as u64));
    group.bench_function("sum of all buckets", |b| {
        b.iter(|| {
            let mut sum = Sketch::new(SKETCH_CELLS);
            kept.iter().for_each(|of_bucket| sum.combine(of_bucket));
            black_box(sum)
        });
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    decode(&mut criterion);
    keep(&mut criterion);
    criterion.final_summary();
}
