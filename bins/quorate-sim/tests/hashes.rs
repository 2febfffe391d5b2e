//! A seed is worth something only if it does the same wherever it is run.

use std::process::{Child, Command, Output, Stdio};

/// What is not optimised takes ten times as long.
const SEEDS: &str = if cfg!(debug_assertions) { "0..10" } else { "0..200" };

fn hashes() -> Child {
    Command::new(env!("CARGO_BIN_EXE_quorate-sim"))
        .args(["hashes", "--seeds", SEEDS])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program was just built")
}

#[test]
fn a_seed_does_the_same_in_two_processes() {
    let both = [hashes(), hashes()].map(|child| {
        let Output { status, stdout, .. } = child.wait_with_output().unwrap();
        assert!(status.success());
        String::from_utf8(stdout).unwrap()
    });
    let [first, second] = both.each_ref().map(|text| text.lines().collect::<Vec<_>>());
    let seeds: usize = SEEDS.trim_start_matches("0..").parse().unwrap();
    assert_eq!(first.len(), seeds);
    assert_eq!(first, second);
}
