//! Two replicas see the same writes in different orders and end with the same record.

use quorate_record::{HybridClock, NodeId, Record, Timestamp, Writer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wall_ms = 1_700_000_000_000;
    let clock = |node: &str| -> Result<HybridClock, Box<dyn std::error::Error>> {
        let writer = Writer { node: NodeId::new(node)?, incarnation: 1 };
        Ok(HybridClock::new(writer, Timestamp::from_wall_ms(wall_ms + 60_000), 10_000))
    };
    // The clock of n2 is restarted above a ceiling: until the wall clock is there, it counts on.
    let (mut n1, mut n2) = (clock("n1")?, clock("n2")?);
    n1.reserved(Timestamp::from_wall_ms(wall_ms + 120_000));
    n2.reserved(Timestamp::from_wall_ms(wall_ms + 120_000));

    let put = Record::live(n1.issue(wall_ms)?, "meow");
    let delete = Record::tombstone(n2.issue(wall_ms)?);
    let late = Record::live(n1.issue(wall_ms)?, "purr");

    let one = put.clone().merge(delete.clone()).merge(late.clone());
    let other = late.clone().merge(put).merge(delete);
    assert_eq!(one, other);
    println!(
        "both replicas hold {} as of {}",
        String::from_utf8_lossy(one.value.as_deref().unwrap_or(b"nothing")),
        one.version
    );
    Ok(())
}
