use std::{collections::BTreeMap, process::ExitCode};

use anyhow::{Context, Result};
use quorate_client::{Client, ClientError};
use serde_json::{Value, json};

use crate::{
    args::StatusArgs,
    data::{authority, block_on, connect_as_operator},
};

const COLUMNS: [&str; 7] = ["node", "state", "keys", "bytes", "hints", "lag", "differs"];

/// Shows the state of all nodes: what each says of itself, or, where one does not answer, what the
/// node that was asked says of it.
pub(crate) fn run(args: StatusArgs) -> Result<ExitCode> {
    let client = connect_as_operator(&args.operator)?;
    let status = block_on(ask_all(&client, authority(&args.operator.node)))?
        .with_context(|| format!("status of {}", args.operator.node.node))?;
    if args.json {
        println!("{status:#}");
    } else {
        print!("{}", table(&status));
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask_all(client: &Client, addr: &str) -> Result<Value, ClientError> {
    let asked = client.status(addr).await?;
    if !asked.is_object() {
        let detail = "its status is not that of a node".to_owned();
        return Err(ClientError::BadAnswer { detail });
    }
    let mut hints = vec![hints_of(client, addr).await];
    let mut nodes = BTreeMap::new();
    for (id, peer) in asked["peers"].as_object().into_iter().flatten() {
        let addr = peer["addr"].as_str().unwrap_or_default();
        let node = match client.status(addr).await {
            Ok(status) if status.is_object() => {
                hints.push(hints_of(client, addr).await);
                status
            }
            Ok(_) | Err(_) => json!({ "addr": addr, "state": peer["state"] }),
        };
        nodes.insert(id.clone(), node);
    }
    let id = asked["node"].as_str().unwrap_or(addr).to_owned();
    nodes.insert(id, asked);
    for (id, node) in &mut nodes {
        let held = hints.iter().filter_map(|page| page["per_target"][id]["count"].as_u64());
        node["lag"] = held.sum::<u64>().into();
    }
    Ok(json!({ "nodes": nodes }))
}

/// A node's page of hints; nothing if it does not answer.
async fn hints_of(client: &Client, addr: &str) -> Value {
    let page = client.get_text(addr, "/debug/hints").await.unwrap_or_default();
    serde_json::from_str(&page).unwrap_or_default()
}

/// One line a node; `-` for what is not known. `lag` is how many hints others hold for the node,
/// `differs` in how many keys it last differed from its peers, all together.
fn table(status: &Value) -> String {
    let nodes = status["nodes"].as_object().into_iter().flatten();
    let rows = nodes.map(|(id, node)| {
        let cell = |name: &str| match &node[name] {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        COLUMNS.map(|name| if name == "node" { id.clone() } else { cell(name) })
    });
    let rows: Vec<_> = [COLUMNS.map(str::to_owned)].into_iter().chain(rows).collect();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    let line = |row: &[String; 7]| {
        let cells =
            row.iter().zip(widths).enumerate().map(|(column, (cell, width))| match column {
                0 | 1 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_lines_up_and_shows_what_is_unknown() {
        let status = json!({ "nodes": {
            "n1": { "state": "ready", "keys": 1200, "bytes": 34, "hints": 7, "lag": 0,
                "differs": 3 },
            "n2": { "state": "down", "lag": 7 },
        } });
        let expected = "node  state  keys  bytes  hints  lag  differs\n\
                        n1    ready  1200     34      7    0        3\n\
                        n2    down      -      -      -    7        -\n";
        assert_eq!(table(&status), expected);
    }
}
