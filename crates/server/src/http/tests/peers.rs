use quorate_node::{PutOutcome, Refusal, Request, Response};
use quorate_record::{Key, Record};
use serde_json::json;

use super::{fake::version, id, start, start_with};

fn key(bytes: &[u8]) -> Key {
    Key::new(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_record_is_stored_on_this_node_as_it_is_given() {
    let server = start().await;
    let body = json!({
        "record": {"key": "cat", "value": "bWVvdw==", "ts": 7, "writer_id": "n1",
                   "incarnation": 0x5f, "deleted": false},
        "hint_for": "n2",
    });
    let reply = server.call("POST /internal/put", "", body.to_string()).await;
    assert_eq!((reply.status, reply.json()), (200, json!({"ok": true, "stored": true})));
    let put = Request::Put {
        key: key(b"cat"),
        record: Record::live(version(7), "meow"),
        hint_for: Some(id("n2")),
    };
    assert_eq!(*server.backend.asked_locally.lock().unwrap(), [put]);
}

#[tokio::test]
async fn a_record_that_a_greater_one_beats_is_not_stored() {
    let server = start().await;
    let outcome = Response::Put(PutOutcome::Superseded(version(9)));
    *server.backend.local_reply.lock().unwrap() = outcome;
    let body = json!({"record": {"key": "cat", "ts": 7, "writer_id": "n1", "deleted": true}});
    let reply = server.call("POST /internal/put", "", body.to_string()).await;
    let superseded_by = "0000000000000009-n1.5f";
    assert_eq!(reply.json(), json!({"ok": true, "stored": false, "superseded_by": superseded_by}));
}

#[tokio::test]
async fn a_refusal_has_a_status_of_its_own() {
    let server = start().await;
    let body = json!({"record": {"key": "cat", "ts": 7, "writer_id": "n1"}}).to_string();
    for (refusal, status) in [
        (Refusal::NotOwner, 421),
        (Refusal::TooFarAhead, 400),
        (Refusal::Malformed, 400),
        (Refusal::NoHintRoom, 503),
        (Refusal::DiskFull, 503),
        (Refusal::LogFailed, 503),
        (Refusal::Overloaded, 503),
        (Refusal::Damaged, 503),
        (Refusal::TooLate, 504),
    ] {
        let put = Response::Put(PutOutcome::Refused(refusal.clone()));
        for response in [put, Response::Refused(refusal.clone())] {
            *server.backend.local_reply.lock().unwrap() = response;
            let reply = server.call("POST /internal/put", "", &body).await;
            reply.assert_problem(status, &[]);
            assert_eq!(reply.json()["detail"], refusal.to_string());
        }
    }
}

#[tokio::test]
async fn a_form_that_is_wrong_changes_nothing() {
    let server = start_with(|settings| settings.max_value_bytes = 2).await;
    let record = json!({"key": "cat", "ts": 7, "writer_id": "n1"});
    for (path, body, parameter) in [
        ("put", json!({"record": record, "hint_for": "n9"}), "hint_for"),
        ("put", json!({"record": record, "hint": "n2"}), "hint"),
        ("put", json!({"record": {"key": "cat", "when": 7}}), "when"),
        ("put", json!({}), "record"),
        ("get", json!({}), "key"),
        ("get", json!({"key": "a".repeat(1025)}), "key"),
        ("keys", json!({"limit": 0}), "limit"),
        ("keys", json!({"limit": 1001}), "limit"),
        ("keys", json!({"after": "a", "after_base64": "YQ=="}), "after_base64"),
    ] {
        let reply = server.call(&format!("POST /internal/{path}"), "", body.to_string()).await;
        reply.assert_problem(400, &[("parameter", json!(parameter))]);
    }
    for body in ["", "{", "nonsense", "{\"key\":\"a\"} x", &"[".repeat(10_000)] {
        let reply = server.call("POST /internal/get", "", body).await;
        reply.assert_problem(400, &[("parameter", json!("body"))]);
    }
    let long = json!({"record": {"key": "cat", "value": "YWFh", "ts": 7, "writer_id": "n1"}});
    let reply = server.call("POST /internal/put", "", long.to_string()).await;
    reply.assert_problem(413, &[("limit_bytes", json!(2))]);
    let reply = server.call("POST /internal/get", "", vec![b' '; 65 * 1024]).await;
    reply.assert_problem(413, &[("limit_bytes", json!(65_536))]);
    server.backend.assert_not_asked();
}

#[tokio::test]
async fn what_this_node_holds_is_shown_tombstones_included() {
    let server = start().await;
    let found = |record| *server.backend.local_reply.lock().unwrap() = Response::Found(record);
    let get = async |body: &str| server.call("POST /internal/get", "", body).await.json();

    found(None);
    assert_eq!(get(r#"{"key":"cat"}"#).await, json!({"found": false}));
    found(Some(Record::live(version(7), "meow")));
    let stamp = json!({"ts": 7, "writer_id": "n1", "incarnation": 0x5f,
                       "version": "0000000000000007-n1.5f", "deleted": false});
    let mut record = stamp.clone();
    record["key"] = "cat".into();
    record["value"] = "bWVvdw==".into();
    assert_eq!(get(r#"{"key":"cat"}"#).await, json!({"found": true, "record": record}));
    found(Some(Record::tombstone(version(7))));
    let mut record = stamp;
    record["key_base64"] = "/w==".into();
    record["value"] = "".into();
    record["deleted"] = true.into();
    assert_eq!(get(r#"{"key_base64":"/w=="}"#).await, json!({"found": true, "record": record}));
}

#[tokio::test]
async fn keys_are_listed_in_pages_whatever_bytes_they_are() {
    let server = start().await;
    let record = Record::live(version(7), "");
    let keys = [&b"cat"[..], b"\xff", b"ant", b"bee"].map(|name| (key(name), record.clone()));
    *server.backend.keys.lock().unwrap() = keys.into();
    let page = async |body: &str| server.call("POST /internal/keys", "", body).await.json();

    let first = page(r#"{"limit":2}"#).await;
    assert_eq!(first["keys"]["cat"]["ts"], 7);
    assert_eq!(first["keys"]["cat"]["deleted"], false);
    assert_eq!(first["keys_base64"][0]["key_base64"], "/w==");
    assert_eq!(first["next_base64"], "/w==");
    assert!(first.get("next").is_none());

    let second = page(r#"{"limit":1,"after_base64":"/w=="}"#).await;
    assert_eq!(second["next"], "ant");
    assert!(second.get("keys_base64").is_none());
    let last = page(r#"{"after":"ant"}"#).await;
    assert_eq!(last["keys"].as_object().unwrap().len(), 1);
    assert!(last.get("next").is_none() && last.get("next_base64").is_none());
    assert_eq!(page("").await["keys"].as_object().unwrap().len(), 3);
}

#[tokio::test]
async fn a_stream_is_handed_over_with_its_connection() {
    let server = start().await;
    let mut wire = server.connect().await;
    let upgrade = "Connection: upgrade\r\nUpgrade: quorate/1\r\n";
    assert_eq!(wire.call("POST /internal/stream", upgrade, "").await.status, 101);
    wire.send("ping").await;
    assert_eq!(wire.bytes(4).await, b"ping");
    assert!(wire.ends().await);
    assert_eq!(server.call("POST /internal/stream", "", "").await.status, 426);
}

#[tokio::test]
async fn probes_and_pages_are_answered() {
    let server = start().await;
    let reply = server.call("GET /health", "", "").await;
    assert_eq!((reply.status, &reply.body[..]), (200, &b"ok\n"[..]));
    assert_eq!(server.call("GET /ready", "", "").await.status, 200);
    *server.backend.not_ready.lock().unwrap() = Some("1 of 2 peers answer".into());
    let reply = server.call("GET /ready", "", "").await;
    reply.assert_problem(503, &[]);
    assert_eq!(reply.json()["detail"], "1 of 2 peers answer");

    let reply = server.call("GET /metrics", "", "").await;
    assert_eq!(&reply.body[..], b"quorate_keys 3\n");
    assert!(reply.header("content-type").starts_with("application/openmetrics-text"));
    for (path, page) in [
        ("/debug/hints", "Hints"),
        ("/debug/ae", "AntiEntropy"),
        ("/debug/persist", "Persist"),
        ("/debug/ring", "Ring { key: None }"),
        ("/debug/ring?key=a%2F%00", "Ring { key: Some(Key(a/\\x00)) }"),
        ("/debug/peers", "Peers"),
        ("/admin/status", "Status"),
        ("/admin/convergence", "Convergence"),
    ] {
        let reply = server.call(&format!("GET {path}"), "", "").await;
        assert_eq!(reply.header("content-type"), "application/json");
        assert_eq!(reply.json(), json!({"page": page}));
    }
    let reply = server.call("GET /debug/ring?key=", "", "").await;
    reply.assert_problem(400, &[("parameter", json!("key"))]);
    let reply = server.call("GET /debug/peers?all", "", "").await;
    reply.assert_problem(400, &[("parameter", json!("all"))]);
    let reply = server.call("POST /admin/snapshot", "", "").await;
    assert_eq!(reply.json(), json!({"path": "snapshot/1", "bytes": 7}));
}

#[tokio::test]
async fn a_backup_has_a_name_and_no_path() {
    let server = start().await;
    let reply = server.call("POST /admin/backup?dir=monday-1", "", "").await;
    assert_eq!(reply.json(), json!({"path": "backups/monday-1", "files": 3, "bytes": 7}));
    server.call("POST /admin/backup?dir=there", "", "").await.assert_problem(409, &[]);
    server.call("POST /admin/backup?dir=full", "", "").await.assert_problem(503, &[]);
    let long = format!("?dir={}", "x".repeat(65));
    for query in ["", "?dir=", "?dir=..", "?dir=a/b", "?dir=a%2Fb", "?dir=.a", "?dir=a%00", &long] {
        let reply = server.call(&format!("POST /admin/backup{query}"), "", "").await;
        reply.assert_problem(400, &[("parameter", json!("dir"))]);
    }
}

#[tokio::test]
async fn with_a_secret_peers_and_operators_must_show_it() {
    let secrets = vec!["s".repeat(32), "t".repeat(32)];
    let server = start_with(|settings| settings.cluster_secrets = secrets.clone()).await;
    let body = r#"{"key":"cat"}"#;
    let calls = [
        ("POST /internal/get", body),
        ("POST /internal/put", "{}"),
        ("POST /internal/keys", ""),
        ("GET /debug/hints", ""),
        ("GET /metrics", ""),
        ("GET /admin/status", ""),
        ("POST /admin/backup?dir=x", ""),
    ];
    let wrong = ["", "Authorization: Bearer ssss\r\n", "Authorization: Basic c3M6\r\n"];
    for (line, body) in calls {
        let mut replies = Vec::new();
        for headers in wrong {
            let reply = server.call(line, headers, body).await;
            reply.assert_problem(401, &[]);
            assert_eq!(reply.header("www-authenticate"), "Bearer");
            replies.push(reply.json());
        }
        assert!(replies.iter().all(|reply| *reply == replies[0]), "{replies:?}");
    }
    server.backend.assert_not_asked();
    *server.backend.local_reply.lock().unwrap() = Response::Found(None);
    for secret in &secrets {
        let right = format!("Authorization: Bearer {secret}\r\n");
        assert_eq!(server.call("POST /internal/get", &right, body).await.status, 200);
        assert_eq!(server.call("GET /debug/hints", &right, "").await.status, 200);
    }
    for open in ["GET /health", "GET /ready", "GET /kv/cat"] {
        assert_ne!(server.call(open, "", "").await.status, 401, "{open}");
    }
}
