use std::time::Duration;

use quorate_client::{Acks, Client, ClientError, ClientOptions, GetOptions, PutOptions};

use crate::server::{Reply, Server, nobody};

const REJECTED: &str = r#"{"outcome":"rejected","detail":"full","needed":2,"acked":0}"#;
const INDETERMINATE: &str = r#"{"outcome":"indeterminate","detail":"late","needed":2,"acked":1}"#;

const PUT: PutOptions =
    PutOptions { w: None, sloppy: None, consistency: None, wait_for_owners: false, timeout: None };
const GET: GetOptions = GetOptions { r: None, sloppy: None, consistency: None, timeout: None };

/// Time for every repetition, however slow the machine is.
fn patient() -> ClientOptions {
    ClientOptions { timeout: Duration::from_secs(30), ..ClientOptions::default() }
}

#[tokio::test]
async fn a_node_that_is_gone_is_skipped_and_the_one_that_answers_is_kept_to() {
    let server = Server::start(vec![Reply::Decided(204, ""); 3]).await;
    let client = Client::new([nobody().await, server.addr], patient()).unwrap();
    for _ in 0..3 {
        client.put(b"k", "v", &PUT).await.unwrap();
    }
    assert_eq!((server.asked().len(), server.connections()), (3, 1));
}

#[tokio::test]
async fn nobody_to_be_reached_changes_nothing() {
    let client = Client::new([nobody().await], patient()).unwrap();
    let outcome = client.put(b"k", "v", &PUT).await;
    let Err(ClientError::Unavailable { detail, acks: None }) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(detail.contains("cannot be connected to"), "{detail}");
}

#[tokio::test]
async fn a_rejected_write_is_repeated_at_the_next_node() {
    let first = Server::start([Reply::Problem(503, REJECTED)]).await;
    let second = Server::start([Reply::Decided(204, "")]).await;
    let client = Client::new([first.addr, second.addr], patient()).unwrap();
    client.put(b"k", "v", &PUT).await.unwrap();
    assert_eq!((first.asked().len(), second.asked().len()), (1, 1));
}

#[tokio::test]
async fn repetitions_are_bounded() {
    let server = Server::start(vec![Reply::Problem(503, REJECTED); 9]).await;
    let client = Client::new([server.addr], patient()).unwrap();
    let acks = Some(Acks { needed: 2, acked: 0 });
    let rejected = ClientError::Rejected { detail: "full".into(), acks };
    assert_eq!(client.put(b"k", "v", &PUT).await, Err(rejected));
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn a_write_in_doubt_is_not_repeated_unless_that_is_allowed() {
    for (reply, says) in [(Reply::Problem(503, INDETERMINATE), "late"), (Reply::Break, "broke off")]
    {
        let server = Server::start([reply.clone(), Reply::Decided(204, "")]).await;
        let client = Client::new([server.addr], patient()).unwrap();
        let outcome = client.put(b"k", "v", &PUT).await;
        let Err(ClientError::Indeterminate { detail, .. }) = outcome else {
            panic!("{outcome:?}");
        };
        assert!(detail.contains(says), "{detail}");
        assert_eq!(server.asked().len(), 1);

        let server = Server::start([reply, Reply::Decided(204, "")]).await;
        let options = ClientOptions { retry_indeterminate: true, ..patient() };
        let client = Client::new([server.addr], options).unwrap();
        client.put(b"k", "v", &PUT).await.unwrap();
        assert_eq!(server.asked().len(), 2);
    }
}

#[tokio::test]
async fn a_doubt_stays_whatever_becomes_of_the_repetitions() {
    let mut replies = vec![Reply::Problem(503, INDETERMINATE)];
    replies.extend(vec![Reply::Problem(503, REJECTED); 3]);
    let server = Server::start(replies).await;
    let options = ClientOptions { retry_indeterminate: true, ..patient() };
    let client = Client::new([server.addr], options).unwrap();
    let acks = Some(Acks { needed: 2, acked: 1 });
    let in_doubt = ClientError::Indeterminate { detail: "late".into(), acks };
    assert_eq!(client.put(b"k", "v", &PUT).await, Err(in_doubt));
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn a_read_is_repeated_whatever_went_wrong() {
    for reply in [Reply::Break, Reply::Problem(503, "{}"), Reply::Problem(504, "{}")] {
        let first = Server::start([reply]).await;
        let second = Server::start([Reply::Decided(200, "v")]).await;
        let client = Client::new([first.addr, second.addr], patient()).unwrap();
        let found = client.get(b"k", &GET).await.unwrap().unwrap();
        assert_eq!(found.value, "v");
    }
}

#[tokio::test]
async fn no_answer_in_time_leaves_a_write_in_doubt_and_ends_a_read() {
    let server = Server::start([Reply::Hang, Reply::Hang]).await;
    let after = Duration::from_millis(200);
    let options = ClientOptions { timeout: after, ..ClientOptions::default() };
    let client = Client::new([server.addr], options).unwrap();
    let outcome = client.put(b"k", "v", &PUT).await;
    assert!(matches!(outcome, Err(ClientError::Indeterminate { .. })), "{outcome:?}");
    assert_eq!(client.get(b"k", &GET).await, Err(ClientError::TimedOut { after }));
}

#[tokio::test]
async fn a_read_does_not_wait_for_a_node_that_says_nothing_until_its_time_is_over() {
    let first = Server::start([Reply::Hang]).await;
    let second = Server::start([Reply::Decided(200, "v")]).await;
    let options = ClientOptions { timeout: Duration::from_secs(4), ..ClientOptions::default() };
    let client = Client::new([first.addr, second.addr], options).unwrap();
    assert_eq!(client.get(b"k", &GET).await.unwrap().unwrap().value, "v");
    assert_eq!((first.asked().len(), second.asked().len()), (1, 1));
}

#[tokio::test]
async fn silent_nodes_leave_time_for_the_last_one() {
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(Server::start([Reply::Hang]).await);
    }
    let last = Server::start([Reply::Decided(200, "v")]).await;
    let addrs = silent.iter().map(|server| server.addr).chain([last.addr]);
    let options = ClientOptions { timeout: Duration::from_secs(4), ..ClientOptions::default() };
    let client = Client::new(addrs, options).unwrap();
    assert_eq!(client.get(b"k", &GET).await.unwrap().unwrap().value, "v");
}

#[tokio::test]
async fn what_follows_a_write_in_doubt_goes_to_the_next_node() {
    let options =
        || ClientOptions { timeout: Duration::from_millis(200), ..ClientOptions::default() };
    for reply in [Reply::Hang, Reply::Break, Reply::Problem(504, INDETERMINATE)] {
        let first = Server::start([reply]).await;
        let second = Server::start(vec![Reply::Decided(204, ""); 2]).await;
        let client = Client::new([first.addr, second.addr], options()).unwrap();
        let outcome = client.put(b"k", "v", &PUT).await;
        assert!(matches!(outcome, Err(ClientError::Indeterminate { .. })), "{outcome:?}");
        let patient = PutOptions { timeout: Some(Duration::from_secs(30)), ..PUT };
        client.put(b"k", "v", &patient).await.unwrap();
        client.put(b"k", "v", &patient).await.unwrap();
        assert_eq!((first.asked().len(), second.asked().len()), (1, 2));
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_not_for_the_node() {
    let first = Server::start([Reply::Problem(400, "{}"), Reply::Decided(204, "")]).await;
    let second = Server::start([]).await;
    let client = Client::new([first.addr, second.addr], patient()).unwrap();
    let outcome = client.put(b"k", "v", &PUT).await;
    assert!(matches!(outcome, Err(ClientError::BadRequest { .. })), "{outcome:?}");
    client.put(b"k", "v", &PUT).await.unwrap();
    assert_eq!((first.asked().len(), second.asked().len()), (2, 0));
}

#[tokio::test]
async fn a_connection_that_the_node_closed_is_replaced() {
    let server = Server::start([Reply::LastOne(204), Reply::Decided(204, "")]).await;
    let client = Client::new([server.addr], patient()).unwrap();
    client.put(b"k", "v", &PUT).await.unwrap();
    client.put(b"k", "v", &PUT).await.unwrap();
    assert_eq!((server.asked().len(), server.connections()), (2, 2));
}
