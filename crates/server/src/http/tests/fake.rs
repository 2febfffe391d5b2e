use std::sync::Mutex;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, header::UPGRADE};
use quorate_node::{ClientReply, ClientRequest, Operation, PutOutcome, Refusal};
use quorate_quorum::{GetReceipt, PutReceipt, Round};
use quorate_record::{Key, NodeId, Record, Timestamp, Version, Writer};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{oneshot, watch},
};

use super::{
    super::{Answer, Backend, DebugPage, KeysPage, NoBackup, bare_socket},
    HttpSettings, id,
};

/// A backend that notes what it is asked and says what it was told to say.
pub(in crate::http) struct Fake {
    settings: HttpSettings,
    /// Said to every client; `None` leaves them waiting.
    pub(super) client_reply: Mutex<Option<ClientReply>>,
    pub(super) local_reply: Mutex<quorate_node::Response>,
    pub(super) keys: Mutex<Vec<(Key, Record)>>,
    pub(super) not_ready: Mutex<Option<String>>,
    pub(super) asked: Mutex<Vec<ClientRequest>>,
    pub(super) asked_locally: Mutex<Vec<quorate_node::Request>>,
    waiting: Mutex<Vec<oneshot::Sender<ClientReply>>>,
    count: watch::Sender<usize>,
}

pub(super) fn version(timestamp: u64) -> Version {
    let writer = Writer { node: id("n1"), incarnation: 0x5f };
    Version { timestamp: Timestamp::from_bits(timestamp), writer }
}

pub(super) fn put_receipt() -> PutReceipt<NodeId, Version> {
    PutReceipt {
        version: version(1),
        w: 2,
        n: 3,
        acks: vec![id("n1"), id("n3")],
        hinted: Vec::new(),
        sloppy: false,
        lacking: vec![id("n2")],
        round: Round::First,
    }
}

pub(super) fn get_receipt(found: Option<Record>) -> GetReceipt<NodeId, Record> {
    GetReceipt {
        found,
        r: 2,
        n: 3,
        from: vec![id("n1"), id("n3")],
        repaired: Vec::new(),
        sloppy: false,
    }
}

impl Fake {
    pub(in crate::http) fn new(settings: HttpSettings) -> Self {
        Self {
            settings,
            client_reply: Mutex::new(Some(ClientReply::Written(Ok(put_receipt())))),
            local_reply: Mutex::new(quorate_node::Response::Put(PutOutcome::Stored)),
            keys: Mutex::default(),
            not_ready: Mutex::default(),
            asked: Mutex::default(),
            asked_locally: Mutex::default(),
            waiting: Mutex::default(),
            count: watch::Sender::new(0),
        }
    }

    pub(super) fn says(&self, reply: ClientReply) {
        *self.client_reply.lock().unwrap() = Some(reply);
    }

    pub(super) fn says_nothing(&self) {
        *self.client_reply.lock().unwrap() = None;
    }

    /// Waits until that many requests of clients have come in all.
    pub(super) async fn asked_for(&self, count: usize) {
        self.count.subscribe().wait_for(|asked| *asked >= count).await.unwrap();
    }

    /// Answers all who wait.
    pub(super) fn answer_all(&self, reply: &ClientReply) {
        for client in self.waiting.lock().unwrap().drain(..) {
            let _ = client.send(reply.clone());
        }
    }

    /// Drops all who wait, as a node that stops does.
    pub(super) fn forget_all(&self) {
        self.waiting.lock().unwrap().clear();
    }

    /// What was asked, and that there was only one.
    #[track_caller]
    pub(super) fn only_request(&self) -> ClientRequest {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked.remove(0)
    }

    #[track_caller]
    pub(super) fn assert_not_asked(&self) {
        assert!(self.asked.lock().unwrap().is_empty());
        assert!(self.asked_locally.lock().unwrap().is_empty());
    }
}

impl Backend for Fake {
    fn client(&self, request: ClientRequest) -> oneshot::Receiver<ClientReply> {
        let (sender, receiver) = oneshot::channel();
        match &*self.client_reply.lock().unwrap() {
            Some(reply) => drop(sender.send(reply.clone())),
            None => self.waiting.lock().unwrap().push(sender),
        }
        self.asked.lock().unwrap().push(request);
        self.count.send_modify(|count| *count += 1);
        receiver
    }

    fn local(&self, request: quorate_node::Request) -> oneshot::Receiver<quorate_node::Response> {
        let (sender, receiver) = oneshot::channel();
        self.asked_locally.lock().unwrap().push(request);
        sender.send(self.local_reply.lock().unwrap().clone()).unwrap();
        receiver
    }

    fn keys(&self, after: Option<Key>, limit: usize) -> Result<KeysPage, Refusal> {
        let keys = self.keys.lock().unwrap();
        let start =
            after.map_or(0, |after| 1 + keys.iter().position(|(key, _)| *key == after).unwrap());
        let records: Vec<_> = keys[start..].iter().take(limit).cloned().collect();
        let may_go_on = records.len() == limit;
        Ok(KeysPage { records, may_go_on })
    }

    fn debug(&self, page: DebugPage) -> Value {
        json!({"page": format!("{page:?}")})
    }

    fn ready(&self) -> Result<(), String> {
        self.not_ready.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn metrics(&self) -> String {
        "quorate_keys 3\n".into()
    }

    fn snapshot(&self) -> oneshot::Receiver<Result<Value, String>> {
        let (sender, receiver) = oneshot::channel();
        sender.send(Ok(json!({"path": "snapshot/1", "bytes": 7}))).unwrap();
        receiver
    }

    fn declare_gone(&self, node: NodeId) {
        assert_eq!(node.as_str(), "n2", "the face has checked it");
    }

    fn backup(&self, name: String) -> oneshot::Receiver<Result<Value, NoBackup>> {
        let (sender, receiver) = oneshot::channel();
        let answer = match &*name {
            "there" => Err(NoBackup::Exists("it is there".into())),
            "full" => Err(NoBackup::Failed("the disk is full".into())),
            _ => Ok(json!({"path": format!("backups/{name}"), "files": 3, "bytes": 7})),
        };
        sender.send(answer).unwrap();
        receiver
    }

    /// Echoes four bytes.
    fn accept_stream(&self, request: Request<Incoming>) -> Answer {
        let protocol = request.headers().get(UPGRADE).cloned();
        let Some(protocol) = protocol.filter(|name| name == "quorate/1") else {
            return Response::builder().status(426).body(Full::default()).unwrap();
        };
        tokio::spawn(async move {
            let upgraded = hyper::upgrade::on(request).await.unwrap();
            let (mut socket, early) = bare_socket(upgraded).expect("nothing but the socket");
            let mut bytes = [0; 4];
            early.chain(&mut socket).read_exact(&mut bytes).await.unwrap();
            socket.write_all(&bytes).await.unwrap();
        });
        let answer = Response::builder().status(101).header("connection", "upgrade");
        answer.header(UPGRADE, protocol).body(Full::new(Bytes::new())).unwrap()
    }

    fn settings(&self) -> &HttpSettings {
        &self.settings
    }
}

/// The value of a put.
#[track_caller]
pub(super) fn value_of(request: &ClientRequest) -> &Bytes {
    let Operation::Put(value) = &request.operation else { panic!("{request:?}") };
    value
}
