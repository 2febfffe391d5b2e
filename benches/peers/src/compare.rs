//! Thousands of operations a second of each store, in rounds that take turns.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use crate::engines::{Engine, Fjall, Pair, Quorate, Redb, Sled};
use crate::figures::{Clock, cpu_seconds, median};
use crate::workload::{Random, VALUE_BYTES, Values, Zipf, key};
use crate::{Bars, Common};

/// How much better than the best of the others the store must be.
const GET_BAR: f64 = 1.5;
const PUT_BAR: f64 = 4.0;
const MIXED_BAR: f64 = 1.0;

const BATCH: usize = 1_000;
const ZIPF_SKEW: f64 = 0.99;
const THREADS: u64 = 2;
/// Waiting for each one is slow for some; so many fewer of those.
const AWAITED_SHARE: u64 = 10;

#[derive(clap::Args, Debug)]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// Keys in each store
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Operations of each kind, the first filling aside; as many as there are keys by default
    #[arg(long)]
    operations: Option<u64>,
    /// Seconds after which a kind of work is over, however much of it is left: some stores are slow
    #[arg(long, default_value_t = 10.0)]
    limit_s: f64,
    /// Rounds, each of all stores; the medians count
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these, by the beginnings of their names
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Fill,
    Overwrite,
    Awaited,
    Batched,
    Get,
    Mixed,
}

const WORKS: [(Work, &str, Option<f64>); 6] = [
    (Work::Fill, "fill", Some(PUT_BAR)),
    (Work::Overwrite, "overwrite", Some(PUT_BAR)),
    (Work::Awaited, "awaited", None),
    (Work::Batched, "x1000", None),
    (Work::Get, "get", Some(GET_BAR)),
    (Work::Mixed, "mixed", Some(MIXED_BAR)),
];

#[derive(Clone, Copy, Debug)]
struct Figure {
    per_second: f64,
    cpu_us: f64,
}

type Figures = BTreeMap<Work, Figure>;

/// What one kind of work takes.
struct Stopwatch {
    clock: Clock,
    cpu_s: f64,
}

impl Stopwatch {
    fn start() -> Result<Self> {
        Ok(Self { cpu_s: cpu_seconds()?, clock: Clock::start() })
    }

    /// Whether to go on with operation `number`.
    fn goes_on(&self, number: u64, limit_s: f64) -> bool {
        !number.is_multiple_of(256) || self.clock.seconds() < limit_s
    }

    fn stop(self, operations: u64) -> Result<Figure> {
        let seconds = self.clock.seconds();
        let operations = operations as f64;
        let cpu_us = (cpu_seconds()? - self.cpu_s) * 1e6 / operations;
        Ok(Figure { per_second: operations / seconds, cpu_us })
    }
}

struct Contender {
    name: &'static str,
    setting: &'static str,
    round: fn(&Options) -> Result<Figures>,
}

pub fn run(options: &Options) -> Result<()> {
    let contenders = contenders(&options.only);
    ensure!(contenders[0].name == Quorate::NAME, "there is nothing to compare with Quorate");
    let mut rounds: Vec<Vec<Figures>> = Vec::new();
    for number in 0..options.rounds {
        // Each one begins a round in its turn, so that nobody always comes when the disk is still busy.
        let mut round = vec![Figures::new(); contenders.len()];
        for at in (0..contenders.len()).map(|at| (at + number) % contenders.len()) {
            let clock = Clock::start();
            round[at] = (contenders[at].round)(options)?;
            eprintln!(
                "round {}: {} took {:.0} s",
                number + 1,
                contenders[at].name,
                clock.seconds()
            );
        }
        rounds.push(round);
    }
    print_table(options, &contenders, &rounds);
    let mut bars = Bars::new();
    if contenders.len() > 1 {
        for (work, name, bar) in WORKS {
            if let Some(bar) = bar {
                bars.at_least(&format!("{name} / best"), ratio(&rounds, work), bar);
            }
        }
    }
    bars.close(options.common.check)
}

fn contenders(only: &[String]) -> Vec<Contender> {
    fn contender<E: Engine>() -> Contender {
        Contender { name: E::NAME, setting: E::SETTING, round: round::<E> }
    }
    let all = vec![
        contender::<Quorate>(),
        contender::<Redb>(),
        contender::<Sled>(),
        contender::<Fjall>(),
        #[cfg(feature = "rocksdb")]
        contender::<crate::engines::RocksDb>(),
    ];
    let wanted = |name: &str| {
        let name = name.to_lowercase();
        name == "quorate" || only.is_empty() || only.iter().any(|start| name.starts_with(start))
    };
    all.into_iter().filter(|contender| wanted(contender.name)).collect()
}

fn round<E: Engine>(options: &Options) -> Result<Figures> {
    let folder = options.common.folder()?;
    let store = E::open(folder.path())?;
    let values = Values::new(VALUE_BYTES);
    let (keys, operations) = (options.keys, options.operations.unwrap_or(options.keys));
    let mut random = Random::new(keys);
    let mut value = Vec::new();
    let mut figures = Figures::new();

    let watch = Stopwatch::start()?;
    let mut filled = 0;
    while filled < keys && watch.goes_on(filled, options.limit_s) {
        values.fill(filled, 0, &mut value);
        store.put(&key(filled), &value)?;
        filled += 1;
    }
    store.settle()?;
    figures.insert(Work::Fill, watch.stop(filled)?);
    let mut rest = filled..keys;
    while !rest.is_empty() {
        store.put_batch(&batch(&values, rest.by_ref(), 0))?;
    }
    store.settle()?;

    let watch = Stopwatch::start()?;
    let mut done = 0;
    while done < operations && watch.goes_on(done, options.limit_s) {
        let number = random.below(keys);
        values.fill(number, done, &mut value);
        store.put(&key(number), &value)?;
        done += 1;
    }
    store.settle()?;
    figures.insert(Work::Overwrite, watch.stop(done)?);

    let awaited = operations.div_ceil(AWAITED_SHARE);
    let watch = Stopwatch::start()?;
    let mut done = 0;
    while done < awaited && watch.goes_on(done, options.limit_s) {
        let number = random.below(keys);
        values.fill(number, done, &mut value);
        store.put_awaited(&key(number), &value)?;
        done += 1;
    }
    figures.insert(Work::Awaited, watch.stop(done)?);

    pause();
    // What has a cache shall have it full, as after a while of work.
    let all = store.count((0..keys).map(|number| (number, key(number))), |number, value| {
        values.is_of(number, value)
    })?;
    ensure!(all == keys, "{} read back {all} of {keys} values", E::NAME);
    let watch = Stopwatch::start()?;
    let mut asked = 0;
    let picks = std::iter::from_fn(|| {
        let goes_on = asked < operations && watch.goes_on(asked, options.limit_s);
        goes_on.then(|| {
            asked += 1;
            let number = random.below(keys);
            (number, key(number))
        })
    });
    let found = store.count(picks, |number, value| values.is_of(number, value))?;
    figures.insert(Work::Get, watch.stop(asked)?);
    ensure!(found == asked, "{} read back {found} of {asked} values", E::NAME);

    let zipf = Zipf::new(keys, ZIPF_SKEW);
    pause();
    let watch = Stopwatch::start()?;
    let done = std::thread::scope(|scope| -> Result<u64> {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (store, values, zipf, watch) = (&store, &values, &zipf, &watch);
                let more = move |done: u64| {
                    done < operations / THREADS && watch.goes_on(done, options.limit_s)
                };
                scope.spawn(move || mixed(store, values, zipf, thread, more))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic in a store")).sum()
    })?;
    store.settle()?;
    figures.insert(Work::Mixed, watch.stop(done)?);

    let watch = Stopwatch::start()?;
    let mut done = 0;
    while done < operations && watch.clock.seconds() < options.limit_s {
        store.put_batch(&batch(&values, std::iter::repeat_with(|| random.below(keys)), done))?;
        done += BATCH as u64;
    }
    store.settle()?;
    figures.insert(Work::Batched, watch.stop(done)?);
    Ok(figures)
}

fn batch(values: &Values, numbers: impl Iterator<Item = u64>, generation: u64) -> Vec<Pair> {
    let pair = |number| {
        let mut value = Vec::new();
        values.fill(number, generation, &mut value);
        (key(number), value)
    };
    numbers.take(BATCH).map(pair).collect()
}

/// Half gets, half puts, most of them of a few keys; gives how many.
fn mixed<E: Engine>(
    store: &E,
    values: &Values,
    zipf: &Zipf,
    seed: u64,
    more: impl Fn(u64) -> bool,
) -> Result<u64> {
    let mut random = Random::new(seed);
    let mut value = Vec::new();
    let mut done = 0;
    while more(done) {
        let number = zipf.pick(&mut random);
        if random.below(2) == 0 {
            values.fill(number, done, &mut value);
            store.put(&key(number), &value)?;
        } else {
            let right = store.get(&key(number), |value| values.is_of(number, value))?;
            ensure!(right == Some(true), "{} lost key {number}", E::NAME);
        }
        done += 1;
    }
    Ok(done)
}

/// Lets what a store does in the background come to an end, or nearly so.
fn pause() {
    std::thread::sleep(std::time::Duration::from_secs(1));
}

/// The median, over the rounds, of Quorate's figure over the best other one in the same round.
fn ratio(rounds: &[Vec<Figures>], work: Work) -> f64 {
    median(rounds.iter().map(|round| {
        let others = round[1..].iter().map(|figures| figures[&work].per_second);
        round[0][&work].per_second / others.fold(f64::NAN, f64::max)
    }))
}

fn print_table(options: &Options, contenders: &[Contender], rounds: &[Vec<Figures>]) {
    println!(
        "Thousands of operations a second, {} keys of 16 bytes, values of {VALUE_BYTES}; medians of {} rounds\n",
        options.keys,
        rounds.len(),
    );
    print_medians(contenders, rounds, 0, |figure| figure.per_second / 1e3);
    if contenders.len() > 1 {
        print!("{:<16}", "Quorate / best");
        WORKS.iter().for_each(|&(work, ..)| print!("{:>10.2}x", ratio(rounds, work)));
        println!();
    }
    println!("\nMicroseconds of processor time an operation, all threads of the store included\n");
    print_medians(contenders, rounds, 2, |figure| figure.cpu_us);
    println!(
        "\nfill, overwrite: one thread, each put by itself, in random order. awaited: the next put once the last has\n\
         worked. get: one thread, random keys that are there, each of which was read once before. mixed: {THREADS} threads,\n\
         half gets, half puts, Zipf {ZIPF_SKEW}. x1000: overwriting by batches or transactions of 1,000. A kind of work ends after\n\
         {} s; a store that is not full then is filled by batches. Nothing is synced:",
        options.limit_s,
    );
    for contender in contenders {
        println!("- {}: {}", contender.name, contender.setting);
    }
    println!();
}

fn print_medians(
    contenders: &[Contender],
    rounds: &[Vec<Figures>],
    decimals: usize,
    of: fn(Figure) -> f64,
) {
    print!("{:<16}", "");
    WORKS.iter().for_each(|(_, name, _)| print!("{name:>11}"));
    println!();
    for (at, contender) in contenders.iter().enumerate() {
        print!("{:<16}", contender.name);
        for (work, ..) in WORKS {
            let figure = median(rounds.iter().map(|round| of(round[at][&work])));
            print!("{figure:>11.decimals$}");
        }
        println!();
    }
}
