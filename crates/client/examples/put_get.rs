//! Writes a key, reads it and deletes it: `put_get [ADDR…]`, by default at 127.0.0.1:9001.

use std::{env, error::Error};

use quorate_client::{Client, ClientOptions, GetOptions, PutOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut nodes: Vec<_> = env::args().skip(1).collect();
    if nodes.is_empty() {
        nodes.push("127.0.0.1:9001".into());
    }
    let client = Client::new(nodes, ClientOptions::default())?;
    let (put, get) = (PutOptions::default(), GetOptions::default());

    let written = client.put(b"cat", "meow", &put).await?;
    println!("written as {}: {}", written.version, written.receipt);
    match client.get(b"cat", &get).await? {
        Some(found) => println!("found {}: {}", found.value.escape_ascii(), found.receipt),
        None => println!("somebody else has deleted it"),
    }
    let deleted = client.delete(b"cat", &put).await?;
    println!("deleted as {}: {}", deleted.version, deleted.receipt);
    Ok(())
}
