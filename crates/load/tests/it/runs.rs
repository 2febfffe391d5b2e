use std::{future::pending, time::Duration};

use quorate_load::{
    Arrivals, LoadError, Mix, Pace, Phase, Plan, PlanError, Report, Requests, Workload, run,
};
use tokio::net::TcpListener;

use crate::server::{Illness, Server};

const SECOND: Duration = Duration::from_secs(1);

fn plan(server: &Server, mix: Mix) -> Plan {
    Plan {
        nodes: vec![server.addr.to_string()],
        workload: Workload { mix, keys: 50, ..Workload::default() },
        pace: Pace::Closed,
        connections: 4,
        load: true,
        warm_up: Duration::ZERO,
        duration: SECOND,
        requests: Requests::default(),
    }
}

async fn report(plan: &Plan) -> Report {
    run(plan, pending(), |_| {}).await.unwrap()
}

#[tokio::test]
async fn all_that_was_asked_is_counted_once() {
    let server = Server::start(Illness::None).await;
    let report = report(&plan(&server, Mix::A)).await;
    let (get, put) = (&report.operations["get"], &report.operations["put"]);
    assert_eq!(report.total.done, get.done + put.done);
    assert_eq!(
        report.total.done,
        (server.requests() - 50) as u64,
        "50 were there to load the keys"
    );
    assert_eq!((report.total.failed, report.total.absent), (0, 0));
    assert_eq!((server.connections(), server.keys()), (4, 50));
}

#[tokio::test]
async fn a_read_modify_write_is_one_operation_and_two_requests() {
    let server = Server::start(Illness::None).await;
    let report = report(&plan(&server, Mix::F)).await;
    let both = report.operations["read-modify-write"].done;
    assert!(both > 0);
    let requests = report.operations["get"].done + 2 * both;
    assert_eq!(requests, (server.requests() - 50) as u64);
}

#[tokio::test]
async fn inserts_are_found_by_those_who_read_the_latest() {
    let server = Server::start(Illness::None).await;
    let report = report(&plan(&server, Mix::D)).await;
    let inserted = report.operations["insert"].done;
    assert_eq!(server.keys() as u64, 50 + inserted);
    assert_eq!(report.total.absent, 0);
}

#[tokio::test]
async fn keys_that_nobody_wrote_are_absent() {
    let server = Server::start(Illness::None).await;
    let report = report(&Plan { load: false, ..plan(&server, Mix::C) }).await;
    assert_eq!((report.total.absent, report.total.failed), (report.total.done, 0));
}

/// 500 operations a second, and one stall of 400 ms.
async fn with_a_stall(pace: Pace) -> Report {
    let stall = Duration::from_millis(400);
    let server = Server::start(Illness::StallsAfter(100, stall)).await;
    let plan = Plan { pace, load: false, connections: 1, ..plan(&server, Mix::Put) };
    report(&plan).await
}

#[tokio::test]
async fn an_open_loop_does_not_hide_a_stall() {
    let pace = Pace::Open { rate: 500.0, arrivals: Arrivals::Constant, max_outstanding: 10_000 };
    let report = with_a_stall(pace).await;
    assert_eq!(report.total.done + report.not_begun, 500, "and nothing is left out");
    // 200 operations were due in the stall, half of which waited for at least 200 ms. A machine that
    // is slow makes them wait longer.
    let waited = |point: &&quorate_load::Percentile| point.latency_us >= 195_000;
    let first = report.percentiles.iter().find(waited).unwrap().percentile;
    assert!(first < 85.0, "{first} % waited for less");
}

#[tokio::test]
async fn what_would_be_too_much_is_shed_and_counted() {
    let pace = Pace::Open { rate: 500.0, arrivals: Arrivals::Constant, max_outstanding: 20 };
    let report = with_a_stall(pace).await;
    assert_eq!(report.total.done + report.not_begun + report.shed, 500);
    assert!(report.shed >= 150, "{} shed", report.shed);
    let shed: u64 = report.seconds.iter().map(|second| second.shed).sum();
    assert_eq!(shed, report.shed);
}

#[tokio::test]
async fn failures_are_counted_by_kind() {
    let server = Server::start(Illness::Refuses).await;
    let report = report(&Plan { load: false, ..plan(&server, Mix::Put) }).await;
    assert_eq!((report.total.done, report.total.failed > 0), (0, true));
    let rejected = &report.errors["rejected"];
    assert_eq!(rejected.count, report.total.failed);
    assert_eq!(rejected.first, "the write was rejected: the disk is full");
}

#[tokio::test]
async fn keys_that_cannot_be_loaded_end_the_run() {
    let server = Server::start(Illness::Refuses).await;
    let outcome = run(&plan(&server, Mix::Put), pending(), |_| {}).await;
    assert!(matches!(outcome, Err(LoadError::Loading { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_is_passed_over_unless_it_is_the_last() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let server = Server::start(Illness::None).await;
    let nodes = vec![nobody.clone(), server.addr.to_string()];
    let report = report(&Plan { nodes, ..plan(&server, Mix::A) }).await;
    assert_eq!((report.total.failed, server.connections()), (0, 4));
    let plan = Plan { nodes: vec![nobody], ..plan(&server, Mix::A) };
    let outcome = run(&plan, pending(), |_| {}).await;
    assert!(matches!(outcome, Err(LoadError::NobodyReached { .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_node_that_ends_every_connection_is_left() {
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let shut = door.local_addr().unwrap().to_string();
    let shutting = tokio::spawn(async move { while door.accept().await.is_ok() {} });
    let server = Server::start(Illness::None).await;
    let nodes = vec![shut, server.addr.to_string()];
    let report = report(&Plan { nodes, load: false, ..plan(&server, Mix::A) }).await;
    shutting.abort();
    assert!(report.total.done > 0);
    let failed = report.total.failed;
    assert!((1..=8).contains(&failed), "two each of the sessions that began there: {failed}");
    assert_eq!(server.connections(), 4);
}

#[tokio::test]
async fn a_run_can_be_stopped_and_reports_all_the_same() {
    let server = Server::start(Illness::None).await;
    let plan = Plan { duration: SECOND * 3600, ..plan(&server, Mix::A) };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut stop = Some(stop);
    let report = run(&plan, async { drop(stopped.await) }, |progress| {
        if progress.phase == Phase::Measuring && !progress.elapsed.is_zero() {
            stop.take();
        }
    });
    let report = report.await.unwrap();
    assert!(report.stopped && report.measured_s < 3600.0);
}

#[tokio::test]
async fn a_plan_that_makes_no_sense_is_refused() {
    let server = Server::start(Illness::None).await;
    let plan = Plan { nodes: vec![], ..plan(&server, Mix::A) };
    let outcome = run(&plan, pending(), |_| {}).await;
    assert!(matches!(outcome, Err(LoadError::Plan(PlanError::NoNode))), "{outcome:?}");
    assert_eq!(server.requests(), 0);
}
