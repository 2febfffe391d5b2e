//! A replica is away for a while; its hints wait in a queue in memory here, and are handed over in batches.

use std::time::Instant;

use quorate_hints::{Handed, HintAction, HintBook, HintOptions};
use quorate_record::{
    Hint, HintKind, HintPlace, HintsFound, Key, NodeId, Record, Timestamp, Version, Writer,
};

#[expect(clippy::disallowed_methods, reason = "a driver owns the clock; here it is read once")]
fn origin() -> Instant {
    Instant::now()
}

/// Carries out what the book wants. The queue is always on time here, and the target takes all.
fn drive(book: &mut HintBook, queue: &mut Vec<Hint>, now: Instant) {
    while let Some(action) = book.poll_action() {
        match action {
            HintAction::LookUp { id, target, key } => {
                let held = queue.iter().find(|hint| (hint.target, &hint.key) == (target, &key));
                book.looked_up(id, Ok(held.cloned()));
            }
            HintAction::Answer { offer, answer } => {
                if offer % 100 == 1 {
                    println!("offer {offer}: {answer:?}");
                }
            }
            HintAction::Persist { id, hint } => {
                queue.push(hint);
                book.persisted(id, true, now);
            }
            HintAction::Read { target, batch, max_hints, .. } => {
                let own = queue.iter().filter(|hint| hint.target == target);
                let hints = own.take(max_hints).cloned().collect();
                let last = Some(HintPlace { segment: 1, offset: 0 });
                book.read(batch, Some(HintsFound { hints, last, ..HintsFound::default() }), now);
            }
            HintAction::Sweep { .. } => book.swept(Some(HintsFound::default()), now),
            HintAction::Deliver { target, batch, hints } => {
                println!("batch {batch} to {target}: {} records", hints.len());
                book.delivered(batch, &vec![Handed::Taken; hints.len()], now);
            }
            HintAction::Forget { target, key, version } => queue.retain(|hint| {
                (hint.target, &hint.key) != (target, &key) || hint.record.version > version
            }),
            HintAction::Dropped { target, key, why } => println!("{key} for {target}: {why:?}"),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (now, wall_ms) = (origin(), 1_700_000_000_000);
    let target = NodeId::new("n2")?;
    let writer = Writer { node: NodeId::new("n1")?, incarnation: 1 };
    let mut book = HintBook::new(HintOptions::default());
    let mut queue = Vec::new();

    for i in 0..100 {
        let version = Version { timestamp: Timestamp::from_wall_ms(wall_ms + i), writer };
        let hint = Hint {
            target,
            key: Key::new(format!("key-{i}"))?,
            record: Record::live(version, format!("value {i}")),
            kind: HintKind::Owed,
            added_ms: wall_ms + i,
        };
        book.offer(hint, now);
        drive(&mut book, &mut queue, now);
    }
    println!("{:?}", book.stats(wall_ms + 5000));

    book.target_up(target, now);
    drive(&mut book, &mut queue, now);
    println!("{:?}", book.stats(wall_ms + 5000));
    Ok(())
}
