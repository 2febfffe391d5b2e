use std::{
    env,
    io::{self, IsTerminal, Write},
};

use quorate_server::config::Config;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Most bytes of a line that are printed together.
const MAX_LINE_BYTES: usize = 16 * 1024;

const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

/// Puts in front of each line which node it comes from.
pub(super) struct Printer {
    prefixes: Vec<String>,
}

/// Where a line goes on.
#[derive(Clone, Copy)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Printer {
    pub(super) fn for_nodes(config: &Config) -> Self {
        let coloured = io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none();
        let ids = config.nodes.iter().map(|node| node.id.as_str());
        Self { prefixes: prefixes(ids, coloured) }
    }

    /// The prefix of the node at `index`.
    pub(super) fn of(&self, index: usize) -> &str {
        &self.prefixes[index]
    }
}

fn prefixes<'a>(ids: impl Iterator<Item = &'a str> + Clone, coloured: bool) -> Vec<String> {
    let width = ids.clone().map(str::len).max().unwrap_or(0);
    let colours = COLOURS.iter().cycle();
    ids.zip(colours)
        .map(|(id, colour)| match coloured {
            true => format!("\x1b[{colour}m{id:width$} |\x1b[0m "),
            false => format!("{id:width$} | "),
        })
        .collect()
}

/// Prints a line of the cluster's own.
pub(super) fn say(line: &str) {
    print(format!("{line}\n").as_bytes(), Stream::Stdout);
}

/// Prints what comes from a node line by line until it is closed.
pub(super) async fn forward(from: impl AsyncRead + Unpin, prefix: String, to: Stream) {
    let mut lines = BufReader::with_capacity(MAX_LINE_BYTES, from);
    let mut line = prefix.clone().into_bytes();
    loop {
        let Ok(available) = lines.fill_buf().await else { return };
        if available.is_empty() {
            if line.len() > prefix.len() {
                line.push(b'\n');
                print(&line, to);
            }
            return;
        }
        let end = available.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
        let taken = end.unwrap_or(available.len());
        line.extend_from_slice(&available[..taken]);
        lines.consume(taken);
        if end.is_none() && line.len() > MAX_LINE_BYTES {
            line.push(b'\n');
        }
        if line.ends_with(b"\n") {
            print(&line, to);
            line.truncate(prefix.len());
        }
    }
}

/// Nobody may be reading any more, which is no reason to stop the cluster.
fn print(line: &[u8], to: Stream) {
    drop(match to {
        Stream::Stdout => io::stdout().write_all(line),
        Stream::Stderr => io::stderr().write_all(line),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_equally_wide() {
        assert_eq!(prefixes(["n1", "n10"].into_iter(), false), ["n1  | ", "n10 | "]);
        assert_eq!(prefixes(["n1"].into_iter(), true), ["\x1b[36mn1 |\x1b[0m "]);
    }
}
