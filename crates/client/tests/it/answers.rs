use std::time::Duration;

use quorate_client::{
    AddressError, Client, ClientError, ClientOptions, Found, GetOptions, PutOptions, Replicas,
    Written,
};

use crate::server::{RECEIPT, Reply, Server, VERSION};

fn client(server: &Server) -> Client {
    Client::new([server.addr], ClientOptions::default()).unwrap()
}

#[tokio::test]
async fn a_write_tells_its_version_and_receipt() {
    let server = Server::start([Reply::Decided(204, ""), Reply::Decided(204, "")]).await;
    let client = client(&server);
    let timeout = Some(Duration::from_millis(900));
    let options = PutOptions {
        w: Some(Replicas::Quorum),
        sloppy: Some(true),
        timeout,
        ..PutOptions::default()
    };
    let written = Written { version: VERSION.parse().unwrap(), receipt: RECEIPT.into() };
    assert_eq!(client.put(b"a b/\xff", "meow", &options).await, Ok(written.clone()));
    assert_eq!(client.delete(b"cat", &PutOptions::default()).await, Ok(written));
    let put = "PUT /kv/a%20b/%FF?w=quorum&sloppy=true&timeout_ms=900";
    assert_eq!(server.asked(), [(put.into(), "meow".into()), ("DELETE /kv/cat".into(), "".into())]);
}

#[tokio::test]
async fn a_read_tells_a_value_from_an_empty_one_and_from_none() {
    let replies = [
        Reply::Decided(200, "meow"),
        Reply::Decided(200, ""),
        Reply::Decided(404, "{}"),
        Reply::Problem(404, "<html>not found</html>"),
    ];
    let server = Server::start(replies).await;
    let client = client(&server);
    let found = |value: &'static str| Found {
        value: value.into(),
        version: VERSION.parse().unwrap(),
        receipt: RECEIPT.into(),
    };
    let options = GetOptions { r: Some(Replicas::Count(1)), ..GetOptions::default() };
    assert_eq!(client.get(b"cat", &options).await, Ok(Some(found("meow"))));
    assert_eq!(client.get(b"cat", &options).await, Ok(Some(found(""))));
    assert_eq!(client.get(b"cat", &options).await, Ok(None));
    let stranger = client.get(b"cat", &options).await;
    assert!(matches!(stranger, Err(ClientError::BadRequest { status: 404, .. })), "{stranger:?}");
    assert_eq!(server.connections(), 1, "they are kept");
}

#[tokio::test]
async fn an_answer_without_a_version_is_not_a_nodes() {
    let server = Server::start([Reply::Problem(204, "")]).await;
    let outcome = client(&server).put(b"cat", "", &PutOptions::default()).await;
    let detail = "it has no quorate-version".into();
    assert_eq!(outcome, Err(ClientError::BadAnswer { detail }));
}

#[tokio::test]
async fn what_the_node_says_about_bad_requests_is_passed_on() {
    let replies = [
        Reply::Problem(400, r#"{"detail":"w is 9, n is 3","parameter":"w"}"#),
        Reply::Problem(413, r#"{"detail":"too long","limit_bytes":10}"#),
    ];
    let server = Server::start(replies).await;
    let client = client(&server);
    let options = PutOptions { w: Some(Replicas::Count(9)), ..PutOptions::default() };
    let bad = ClientError::BadRequest { status: 400, detail: "w is 9, n is 3".into() };
    assert_eq!(client.put(b"cat", "meow", &options).await, Err(bad));
    let large = ClientError::TooLarge { detail: "too long".into(), limit_bytes: Some(10) };
    assert_eq!(client.put(b"cat", "meow", &options).await, Err(large));
    assert_eq!(server.asked().len(), 2, "neither is repeated");
}

#[tokio::test]
async fn impossible_keys_and_values_are_not_sent() {
    let server = Server::start([]).await;
    let client = client(&server);
    for key in [vec![], vec![0; 1025]] {
        let refused = client.get(&key, &GetOptions::default()).await;
        assert!(matches!(refused, Err(ClientError::BadKey(_))), "{refused:?}");
    }
    let refused = client.put(b"k", vec![0; 8 * 1024 * 1024 + 1], &PutOptions::default()).await;
    assert!(matches!(refused, Err(ClientError::TooLarge { .. })), "{refused:?}");
    assert!(server.asked().is_empty());
    let nowhere = Client::new(Vec::<String>::new(), ClientOptions::default());
    assert_eq!(nowhere.err(), Some(AddressError::None));
}

#[tokio::test]
async fn pages_of_any_node_can_be_read() {
    let replies = [
        Reply::Problem(200, r#"{"id":"n1"}"#),
        Reply::Problem(200, "ok\n"),
        Reply::Problem(503, "recovering\n"),
    ];
    let server = Server::start(replies).await;
    let addr = server.addr.to_string();
    let client = Client::new(["127.0.0.1:1"], ClientOptions::default()).unwrap();
    assert_eq!(client.status(&addr).await.unwrap()["id"], "n1");
    assert_eq!(client.get_text(&addr, "/health").await, Ok("ok\n".into()));
    let unready = ClientError::Unavailable { detail: "recovering".into(), acks: None };
    assert_eq!(client.get_text(&addr, "/ready").await, Err(unready));
    let targets: Vec<_> = server.asked().into_iter().map(|(target, _)| target).collect();
    assert_eq!(targets, ["GET /admin/status", "GET /health", "GET /ready"]);
}
