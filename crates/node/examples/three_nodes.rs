//! Three nodes in one thread: the bare loop that a driver is. No network, no disk, no waiting.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use quorate_node::{
    Action, ClientReply, ClientRequest, Event, Node, NodeOptions, Notes, Now, Operation,
    PutOutcome, Response, StoreReply, StoreRequest,
};
use quorate_quorum::Quorum;
use quorate_record::{HintSummary, HintsFound, Key, NodeId, Record, Timestamp, Writer};
use quorate_ring::{Ring, RingNode};

type Disk = BTreeMap<Key, Record>;

#[expect(clippy::disallowed_methods, reason = "an example is a driver")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let ids = [NodeId::new("n1")?, NodeId::new("n2")?, NodeId::new("n3")?];
    let ring = Ring::new(ids.map(RingNode::new).into(), 64, 3)?;
    let now = Now { instant: Instant::now(), wall_ms: 1_700_000_000_000 };

    let mut nodes: BTreeMap<NodeId, (Node, Disk)> = BTreeMap::new();
    for node in ids {
        let writer = Writer { node, incarnation: 1 };
        let options = NodeOptions::default();
        let notes = Notes { counted: 1, ..Notes::default() }; // it has lost nothing
        let (ceiling, hints) = (Timestamp::ZERO, HintSummary::default());
        let started = Node::new(writer, ring.clone(), options, ceiling, notes, &hints, now);
        nodes.insert(node, (started, Disk::new()));
    }

    let mut events: VecDeque<(NodeId, Event)> = VecDeque::new();
    for node in ids {
        for peer in ids.into_iter().filter(|&peer| peer != node) {
            events.push_back((node, Event::Connected { peer, incarnation: 1 }));
        }
    }
    let request = |operation| -> Result<ClientRequest, Box<dyn std::error::Error>> {
        Ok(ClientRequest {
            key: Key::new("cat")?,
            operation,
            quorum: Quorum::new(3, 2, 2, true)?,
            atomic: false,
            wait_for_owners: false,
            timeout: Duration::from_millis(800),
        })
    };
    let put = request(Operation::Put("meow".into()))?;
    events.push_back((ids[0], Event::Client { request: 1, body: put }));
    run(&mut nodes, events, now);

    let get = Event::Client { request: 2, body: request(Operation::Get)? };
    run(&mut nodes, VecDeque::from([(ids[2], get)]), now);
    Ok(())
}

fn run(
    nodes: &mut BTreeMap<NodeId, (Node, Disk)>,
    mut events: VecDeque<(NodeId, Event)>,
    now: Now,
) {
    while let Some((at, event)) = events.pop_front() {
        let Some((node, disk)) = nodes.get_mut(&at) else { continue };
        node.handle(event, now);
        while let Some(action) = node.poll_action() {
            match action {
                Action::Send { to, message } => {
                    let via = u64::from(at.as_str().as_bytes()[1]); // "n1" is connection '1'
                    events.push_back((to, Event::Received { from: at, via, message }));
                }
                Action::Respond { via, message } => {
                    let to = ids_by_connection(via);
                    events.push_back((to, Event::Received { from: at, via: 0, message }));
                }
                Action::Store { id, request } => {
                    events.push_back((at, Event::Store { id, reply: submit(disk, request) }));
                }
                Action::Reply { reply, .. } => show(at, *reply),
                Action::Answer { .. } | Action::ForgetHint { .. } | Action::Renew { .. } => {}
            }
        }
    }
}

fn ids_by_connection(via: u64) -> NodeId {
    let digit = char::from(u8::try_from(via).expect("connections are ASCII digits"));
    NodeId::new(&format!("n{digit}")).expect("a good id")
}

fn submit(disk: &mut Disk, request: StoreRequest) -> StoreReply {
    match request {
        StoreRequest::Apply { key, record, .. } => {
            let merged = match disk.remove(&key) {
                Some(held) => held.merge(record.clone()),
                None => record.clone(),
            };
            let version = merged.version;
            let stored = merged == record;
            disk.insert(key, merged);
            StoreReply::Applied(match stored {
                true => PutOutcome::Stored,
                false => PutOutcome::Superseded(version),
            })
        }
        StoreRequest::Get { key, .. } => StoreReply::Read(Response::Found(disk.get(&key).cloned())),
        // Nobody is away here, so no hint is ever kept.
        StoreRequest::LookUpHint { .. } => StoreReply::Hint(Ok(None)),
        StoreRequest::FindHint { .. } => StoreReply::Read(Response::Found(None)),
        StoreRequest::ReadHints { .. } | StoreRequest::ReadCourtesies { .. } => {
            StoreReply::Hints(Ok(HintsFound::default()))
        }
        StoreRequest::ReserveClock { .. }
        | StoreRequest::KeepNotes { .. }
        | StoreRequest::PersistHint { .. } => StoreReply::Persisted(Ok(())),
        StoreRequest::Progress => StoreReply::Counted(disk.len() as u64),
        other => unreachable!("no time passes, so nothing is compared: {other:?}"),
    }
}

fn show(at: NodeId, reply: ClientReply) {
    match reply {
        ClientReply::Written(Ok(receipt)) => {
            println!("{at} wrote {} with acks of {:?}", receipt.version, receipt.acks);
        }
        ClientReply::Read(Ok(receipt)) => {
            let value = receipt.found.and_then(|record| record.value);
            println!("{at} read {value:?} from {:?}", receipt.from);
        }
        other => println!("{at}: {other:?}"),
    }
}
