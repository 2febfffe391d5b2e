use std::time::Duration;

use quorate_client::{ClientError, ClientOptions, Connection, GetOptions, PutOptions};

use crate::server::{Reply, Server, nobody};

fn connection(server: &Server) -> Connection {
    Connection::new(&server.addr.to_string(), &ClientOptions::default()).unwrap()
}

#[tokio::test]
async fn all_calls_go_over_one_connection() {
    let replies = [Reply::Decided(204, ""), Reply::Decided(200, "meow"), Reply::Decided(404, "{}")];
    let server = Server::start(replies).await;
    let mut connection = connection(&server);
    connection.put(b"cat", "meow", &PutOptions::default()).await.unwrap();
    let found = connection.get(b"cat", &GetOptions::default()).await.unwrap();
    assert_eq!(found.unwrap().value, "meow");
    assert_eq!(connection.get(b"dog", &GetOptions::default()).await, Ok(None));
    assert_eq!((server.asked().len(), server.connections()), (3, 1));
}

#[tokio::test]
async fn nothing_is_repeated() {
    let rejected = Reply::Problem(503, r#"{"outcome":"rejected","detail":"full"}"#);
    let server = Server::start([rejected, Reply::Break, Reply::Decided(204, "")]).await;
    let mut connection = connection(&server);
    let outcome = connection.put(b"k", "v", &PutOptions::default()).await;
    assert!(matches!(outcome, Err(ClientError::Rejected { .. })), "{outcome:?}");
    let outcome = connection.put(b"k", "v", &PutOptions::default()).await;
    assert!(matches!(outcome, Err(ClientError::Indeterminate { .. })), "{outcome:?}");
    assert!(!connection.is_open());
    connection.delete(b"k", &PutOptions::default()).await.unwrap();
    assert_eq!((server.asked().len(), server.connections()), (3, 2), "and it is opened anew");
}

#[tokio::test]
async fn one_that_the_node_closed_is_opened_anew() {
    let server = Server::start([Reply::LastOne(204), Reply::Decided(204, "")]).await;
    let mut connection = connection(&server);
    connection.put(b"k", "v", &PutOptions::default()).await.unwrap();
    connection.put(b"k", "v", &PutOptions::default()).await.unwrap();
    assert_eq!((server.asked().len(), server.connections()), (2, 2));
}

#[tokio::test]
async fn a_call_without_an_answer_is_given_up_and_its_connection_with_it() {
    let server = Server::start([Reply::Hang, Reply::Hang, Reply::Decided(200, "v")]).await;
    let after = Duration::from_millis(100);
    let options = ClientOptions { timeout: after, ..ClientOptions::default() };
    let mut connection = Connection::new(&server.addr.to_string(), &options).unwrap();
    let outcome = connection.put(b"k", "v", &PutOptions::default()).await;
    assert!(matches!(outcome, Err(ClientError::Indeterminate { .. })), "{outcome:?}");
    let outcome = connection.get(b"k", &GetOptions::default()).await;
    assert_eq!(outcome, Err(ClientError::TimedOut { after }));
    assert!(!connection.is_open());
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_node_that_is_not_there_is_reported_at_once() {
    let addr = nobody().await.to_string();
    let mut connection = Connection::new(&addr, &ClientOptions::default()).unwrap();
    let Err(ClientError::Unavailable { detail, .. }) = connection.open().await else {
        panic!("nobody is there");
    };
    assert!(detail.contains("cannot be connected to"), "{detail}");
}
