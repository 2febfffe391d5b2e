use std::{io::Write, sync::Arc, time::Duration};

use bytes::Bytes;
use quorate_client::{
    AddressError, ClientError, ClientOptions, Connection, GetOptions, PutOptions,
};

use crate::{
    Operation, Requests,
    tally::{Failure, Outcome},
    workload::Order,
};

/// One connection and what is done over it.
pub(crate) struct Session {
    nodes: Arc<[String]>,
    /// Which of the nodes is asked.
    at: usize,
    connection: Connection,
    client: ClientOptions,
    get: GetOptions,
    put: PutOptions,
    /// The prefix of all keys, then the number of the last one.
    key: Vec<u8>,
    prefix_bytes: usize,
    reached: bool,
    /// Whether the last operation was answered, well or not, or there was none.
    was_answered: bool,
}

impl Session {
    /// A session with the node at `first`, or, if that cannot be reached, one behind it.
    pub(crate) fn new(
        nodes: &Arc<[String]>,
        first: usize,
        key_prefix: &str,
        requests: &Requests,
    ) -> Result<Self, AddressError> {
        let (nodes, at, client) = (Arc::clone(nodes), first % nodes.len(), requests.client());
        let connection = Connection::new(&nodes[at], &client)?;
        Ok(Self {
            nodes,
            at,
            connection,
            client,
            get: requests.get(),
            put: requests.put(),
            key: key_prefix.into(),
            prefix_bytes: key_prefix.len(),
            reached: true,
            was_answered: true,
        })
    }

    /// Whether the last attempt to reach a node failed; then it is better to wait a little.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        !self.reached
    }

    /// Connects, if that is not done already. If the node cannot be reached, the next attempt is
    /// made at the next one.
    pub(crate) async fn open(&mut self) -> Result<(), ClientError> {
        let opened = self.connection.open().await;
        self.reached = opened.is_ok();
        if opened.is_err() {
            self.turn_to_next();
        }
        opened
    }

    fn turn_to_next(&mut self) {
        self.at = (self.at + 1) % self.nodes.len();
        self.connection = Connection::new(&self.nodes[self.at], &self.client)
            .expect("the first connections were made in the same way");
    }

    /// Does what is ordered, once.
    pub(crate) async fn perform(&mut self, order: &Order) -> Outcome {
        if !self.connection.is_open()
            && let Err(error) = self.open().await
        {
            let kind = "not connected".to_owned();
            let (detail, took) = (error.to_string(), Duration::ZERO);
            return Outcome::Failed(Failure { kind, detail, took });
        }
        let performed = self.perform_connected(order).await;
        let answered = performed.is_ok() || self.connection.is_open();
        // Whoever accepts connections and ends them is as good as not there.
        if !answered && !self.was_answered {
            self.reached = false;
            self.turn_to_next();
        }
        self.was_answered = answered;
        performed.unwrap_or_else(|error| {
            let (detail, took) = (error.to_string(), Duration::ZERO);
            Outcome::Failed(Failure { kind: kind(&error), detail, took })
        })
    }

    async fn perform_connected(&mut self, order: &Order) -> Result<Outcome, ClientError> {
        self.key.truncate(self.prefix_bytes);
        write!(self.key, "{}", order.key).expect("writing into memory cannot fail");
        let Self { connection, key, .. } = self;
        match order.operation {
            Operation::Get => read(connection, key, &self.get).await,
            Operation::Put | Operation::Insert => {
                write(connection, key, &order.value, &self.put).await
            }
            Operation::ReadModifyWrite => {
                read(connection, key, &self.get).await?;
                write(connection, key, &order.value, &self.put).await
            }
            Operation::Delete => {
                connection.delete(key, &self.put).await.map(|_written| Outcome::Done)
            }
        }
    }
}

async fn read(
    connection: &mut Connection,
    key: &[u8],
    options: &GetOptions,
) -> Result<Outcome, ClientError> {
    let found = connection.get(key, options).await?;
    Ok(if found.is_some() { Outcome::Done } else { Outcome::Absent })
}

async fn write(
    connection: &mut Connection,
    key: &[u8],
    value: &Bytes,
    options: &PutOptions,
) -> Result<Outcome, ClientError> {
    connection.put(key, value.clone(), options).await.map(|_written| Outcome::Done)
}

/// What an error is counted as.
fn kind(error: &ClientError) -> String {
    match error {
        ClientError::Indeterminate { .. } => "indeterminate".to_owned(),
        ClientError::Lacking { .. } => "lacking".to_owned(),
        ClientError::Rejected { .. } => "rejected".to_owned(),
        ClientError::Unavailable { .. } => "unavailable".to_owned(),
        ClientError::TimedOut { .. } => "timed out".to_owned(),
        ClientError::TooLarge { .. } => "status 413".to_owned(),
        ClientError::BadKey(_) => "bad key".to_owned(),
        ClientError::BadRequest { status, .. } => format!("status {status}"),
        ClientError::BadAnswer { .. } => "bad answer".to_owned(),
    }
}
