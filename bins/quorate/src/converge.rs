use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use quorate_client::{Client, ClientError};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    args::ConvergeArgs,
    data::{authority, block_on, connect_as_operator},
};

/// How often the nodes are asked.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Says whether all replicas hold the same, or waits until they do.
pub(crate) fn run(args: &ConvergeArgs) -> Result<ExitCode> {
    let client = connect_as_operator(&args.operator)?;
    let node = &args.operator.node;
    block_on(converge(&client, authority(node), args))?
        .with_context(|| format!("convergence, as {} knows the nodes", node.node))
}

async fn converge(client: &Client, addr: &str, args: &ConvergeArgs) -> Result<ExitCode> {
    let end = Instant::now() + args.timeout;
    // Whoever does not wait is told what is known, from whenever it is.
    let mut watch = Watch { needed: if args.wait { 2 } else { 0 }, ..Watch::default() };
    loop {
        let missing = match look(client, addr).await {
            Ok(pages) => {
                watch.see(&pages);
                watch.missing(&pages)
            }
            Err(error) if args.wait => vec![format!("{addr} does not answer: {error}")],
            Err(error) => return Err(error.into()),
        };
        if missing.is_empty() {
            println!("all replicas are equal");
            return Ok(ExitCode::SUCCESS);
        }
        if !args.wait || Instant::now() + LOOK_EVERY >= end {
            let after =
                if args.wait { format!(" after {:?}", args.timeout) } else { String::new() };
            println!("not equal{after}:");
            missing.iter().for_each(|what| println!("  {what}"));
            return Ok(ExitCode::FAILURE);
        }
        sleep(LOOK_EVERY).await;
    }
}

/// What each node says of how it stands with the others; `None` if it does not answer.
type Pages = BTreeMap<String, Option<Value>>;

async fn look(client: &Client, addr: &str) -> Result<Pages, ClientError> {
    let asked = client.status(addr).await?;
    let mut addrs = vec![(asked["node"].as_str().unwrap_or(addr).to_owned(), addr.to_owned())];
    for (id, peer) in asked["peers"].as_object().into_iter().flatten() {
        addrs.push((id.clone(), peer["addr"].as_str().unwrap_or_default().to_owned()));
    }
    let mut pages = Pages::new();
    for (id, addr) in addrs {
        let page = client.get_text(&addr, "/admin/convergence").await;
        pages.insert(id, page.ok().and_then(|page| serde_json::from_str(&page).ok()));
    }
    Ok(pages)
}

/// Which comparisons were seen to end.
///
/// One that ends after the look at what was there first may have begun before it, and have missed
/// what was written in between. The next one has not.
#[derive(Debug, Default)]
struct Watch {
    /// How many must have ended.
    needed: u32,
    /// When the last one ended that is known, and how many have since the first look.
    ended: BTreeMap<(String, String), (Option<u64>, u32)>,
}

impl Watch {
    fn see(&mut self, pages: &Pages) {
        for (node, peer, standing) in standings(pages) {
            let as_of = standing["as_of_unix_ms"].as_u64();
            let pair = (node.to_owned(), peer.to_owned());
            let (last, count) = self.ended.entry(pair).or_insert((as_of, 0));
            if *last != as_of {
                (*last, *count) = (as_of, *count + 1);
            }
        }
    }

    /// What is in the way of calling all replicas equal.
    fn missing(&self, pages: &Pages) -> Vec<String> {
        let silent = pages.iter().filter(|(_, page)| page.is_none());
        let mut missing: Vec<_> =
            silent.map(|(node, _)| format!("{node} does not answer")).collect();
        for (node, page) in pages {
            if let Some(1..) = page.as_ref().and_then(|page| page["hints"].as_u64()) {
                missing.push(format!("{node} holds hints that are not delivered"));
            }
        }
        let mut unknown: BTreeMap<[&str; 2], &str> = BTreeMap::new();
        let mut unequal: BTreeMap<[&str; 2], String> = BTreeMap::new();
        let mut equal: BTreeSet<[&str; 2]> = BTreeSet::new();
        for (node, peer, standing) in standings(pages) {
            let pair = if node < peer { [node, peer] } else { [peer, node] };
            match self.judge(node, peer, standing) {
                Judged::Equal => _ = equal.insert(pair),
                Judged::Unknown(why) => _ = unknown.insert(pair, why),
                Judged::Unequal(keys) => _ = unequal.insert(pair, keys),
            }
        }
        // One of the two knows as well as both.
        unknown.retain(|pair, _| !equal.contains(pair) && !unequal.contains_key(pair));
        missing
            .extend(unequal.iter().map(|([a, b], keys)| format!("{a} and {b} differ in {keys}")));
        missing.extend(unknown.iter().map(|([a, b], why)| format!("{a} and {b} {why}")));
        missing
    }

    fn judge(&self, node: &str, peer: &str, standing: &Value) -> Judged {
        let ended = self.ended.get(&(node.to_owned(), peer.to_owned()));
        let count = ended.map_or(0, |(_, count)| *count);
        if standing["compared"] != true {
            return Judged::Unknown("were never compared");
        }
        if standing["equal"] != true {
            let keys = standing["differing"].as_u64().unwrap_or(0);
            let keys = if keys == 1 { "1 key".to_owned() } else { format!("{keys} keys") };
            let all = standing["complete"] == true;
            return Judged::Unequal(if all { keys } else { format!("{keys} or more") });
        }
        if count < self.needed { Judged::Unknown("were not compared again") } else { Judged::Equal }
    }
}

/// What a comparison shows of two nodes.
enum Judged {
    Equal,
    Unknown(&'static str),
    Unequal(String),
}

/// Each node with each peer that shares ranges with it, as that node sees it.
fn standings(pages: &Pages) -> impl Iterator<Item = (&str, &str, &Value)> {
    let answers = pages.iter().filter_map(|(node, page)| Some((node, page.as_ref()?)));
    answers.flat_map(|(node, page)| {
        let peers = page["peers"].as_object().into_iter().flatten();
        peers.map(move |(peer, standing)| (node.as_str(), peer.as_str(), standing))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn standing(as_of: u64, differing: u64) -> Value {
        json!({
            "compared": true, "equal": differing == 0, "differing": differing, "complete": true,
            "as_of_unix_ms": as_of,
        })
    }

    fn pages(n1: Value, n2: Value) -> Pages {
        let page = |peer: &str, standing| Some(json!({ "hints": 0, "peers": { peer: standing } }));
        [("n1".to_owned(), page("n2", n1)), ("n2".to_owned(), page("n1", n2))].into()
    }

    #[test]
    fn who_does_not_wait_takes_what_is_known() {
        let watch = Watch::default();
        let never = || json!({ "compared": false });
        assert!(watch.missing(&pages(standing(1, 0), standing(1, 0))).is_empty());
        assert!(watch.missing(&pages(never(), standing(1, 0))).is_empty(), "one is enough");
        assert_eq!(watch.missing(&pages(never(), never())), ["n1 and n2 were never compared"]);
        let differ = pages(standing(1, 3), standing(1, 3));
        assert_eq!(watch.missing(&differ), ["n1 and n2 differ in 3 keys"]);
    }

    #[test]
    fn a_comparison_that_may_have_begun_before_does_not_count() {
        let mut watch = Watch { needed: 2, ..Watch::default() };
        for (as_of, enough) in [(5, false), (5, false), (6, false), (6, false), (7, true)] {
            let seen = pages(standing(as_of, 0), standing(1, 0));
            watch.see(&seen);
            assert_eq!(watch.missing(&seen).is_empty(), enough, "{as_of}");
        }
        let seen = pages(standing(8, 1), standing(1, 0));
        watch.see(&seen);
        assert_eq!(watch.missing(&seen).len(), 1, "it differs again");
    }

    #[test]
    fn hints_and_nodes_that_do_not_answer_are_in_the_way() {
        let mut seen = pages(standing(1, 0), standing(1, 0));
        seen.insert("n3".to_owned(), None);
        seen.insert("n4".to_owned(), Some(json!({ "hints": 7, "peers": {} })));
        let missing = Watch::default().missing(&seen);
        assert_eq!(missing, ["n3 does not answer", "n4 holds hints that are not delivered"]);
    }
}
