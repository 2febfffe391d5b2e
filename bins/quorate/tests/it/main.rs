//! How the program answers to what it cannot do. What it can do is tested with whole clusters.

use std::process::{Command, Output};

fn quorate(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(args).output().expect("the program starts")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn bad_usage_exits_with_two() {
    for args in [
        &["serve"][..],
        &["frobnicate"],
        &["get"],
        &["put", "a", "b", "c"],
        &["get", "a", "--node", "?"],
        &[],
    ] {
        let output = quorate(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn what_comes_later_is_known_and_said_to_come_later() {
    let output = quorate(&["import", "x", "--y"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("not there yet"), "{}", stderr(&output));
}

#[test]
fn help_and_version_are_no_failures() {
    for args in [["--help"].as_slice(), &["--version"], &["serve", "--help"], &["help", "cluster"]]
    {
        let output = quorate(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!output.stdout.is_empty(), "{args:?}");
    }
}
