//! Three seconds of mix B in an open loop: `read_mostly [ADDR…]`, by default at 127.0.0.1:9001.

use std::{env, error::Error, future::pending, time::Duration};

use quorate_load::{Arrivals, Mix, Pace, Plan, Requests, Workload, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut nodes: Vec<_> = env::args().skip(1).collect();
    if nodes.is_empty() {
        nodes.push("127.0.0.1:9001".into());
    }
    let pace = Pace::Open { rate: 1_000.0, arrivals: Arrivals::Poisson, max_outstanding: 10_000 };
    let plan = Plan {
        nodes,
        workload: Workload { mix: Mix::B, keys: 1_000, ..Workload::default() },
        pace,
        connections: 16,
        load: true,
        warm_up: Duration::from_secs(1),
        duration: Duration::from_secs(3),
        requests: Requests::default(),
    };
    let report = run(&plan, pending(), |progress| eprintln!("{}", progress.line())).await?;
    print!("{}", report.to_table());
    Ok(())
}
