use std::time::Duration;

use anyhow::Result;
use quorate_client::{Client, ClientOptions};
use quorate_server::config::Config;
use tokio::time::sleep;

use crate::tls::Speaking;

const ASK_EVERY: Duration = Duration::from_millis(100);
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Waits until every node says that it is ready.
pub(super) async fn wait_for_all(config: &Config) -> Result<()> {
    let options = Speaking { node: "", ca: None, own: None }.options(Some(config))?;
    let addrs: Vec<_> = config.nodes.iter().map(|node| node.addr.to_string()).collect();
    let client = Client::new(&addrs, ClientOptions { timeout: ASK_TIMEOUT, ..options })?;
    for addr in &addrs {
        while client.get_text(addr, "/ready").await.is_err() {
            sleep(ASK_EVERY).await;
        }
    }
    Ok(())
}
