//! A few seconds of what `just torture` does for minutes.

use std::{path::Path, time::Duration};

use quorate_torture::{Kind, Options, run};

/// What availability is in these seconds, says the report; a machine that is busy must not fail the
/// test. What nodes promise, they promise on every machine.
#[test]
fn kills_pauses_and_partitions_break_no_promise() {
    let report = run(&Options {
        kind: Kind::Short,
        time: Duration::from_secs(15),
        seed: 1,
        ..Options::default()
    });
    println!("{report}");
    if !report.is_right() {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let path = report.write(folder).expect("a history can be written");
        panic!("see {}:\n{report}", path.display());
    }
    for name in ["puts acked", "deletes acked", "reads answered"] {
        assert!(report.told.get(name).is_some_and(|&count| count > 0), "no {name}:\n{report}");
    }
    assert!(!report.counts.is_empty(), "nothing happened:\n{report}");
}
