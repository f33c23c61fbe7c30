//! The bell: how one node tells the others that it has left something due.
//!
//! Correctness never depends on it, every node also polls. It is rung by a statement of its own and
//! at most once in a while, never inside a transaction of the hot path: a NOTIFY there makes all
//! commits of the server queue up behind each other.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::StreamExt as _;
use tokio::sync::{Notify, watch};
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client};
use uuid::Uuid;

use super::connection::Connections;
use crate::error::StoreError;

/// Rings of one node are at least this far apart.
const RING_EVERY: Duration = Duration::from_millis(20);
/// The first and the longest pause before listening is tried again.
const LISTEN_AGAIN_MIN: Duration = Duration::from_millis(200);
const LISTEN_AGAIN_MAX: Duration = Duration::from_secs(5);

/// One node's end of the bell rope, and its ear.
pub(super) struct Bell {
    pull: Arc<Notify>,
    heard: watch::Receiver<u64>,
}

impl Bell {
    /// Starts to listen, if that is wanted, and to ring when told to.
    pub(super) fn new(connections: &Arc<Connections>, listens: bool) -> Bell {
        let pull = Arc::new(Notify::new());
        let (hear, heard) = watch::channel(0);
        // Tells this node's own rings from others'.
        let node = Uuid::now_v7().to_string();
        if listens {
            // Weak: the tasks end with the store, and do not keep it.
            let weak = Arc::downgrade(connections);
            let (pulled, own) = (pull.clone(), node.clone());
            drop(connections.spawn(async move {
                loop {
                    pulled.notified().await;
                    let Some(connections) = weak.upgrade() else {
                        return Ok(());
                    };
                    // Nobody hears it if this fails; they poll.
                    if let Err(error) = connections.ring(&own).await {
                        tracing::debug!(%error, "the other nodes could not be told of new work");
                    }
                    drop(connections);
                    tokio::time::sleep(RING_EVERY).await;
                }
            }));
            let weak = Arc::downgrade(connections);
            drop(connections.spawn(async move {
                let mut pause = LISTEN_AGAIN_MIN;
                loop {
                    let Some(connections) = weak.upgrade() else {
                        return Ok(());
                    };
                    let (client, messages) = match connections.ear(&hear, &node).await {
                        Ok(ear) => ear,
                        Err(error) => {
                            tracing::debug!(%error, "cannot listen for other nodes; polling goes on");
                            drop(connections);
                            tokio::time::sleep(pause).await;
                            pause = (pause * 2).min(LISTEN_AGAIN_MAX);
                            continue;
                        }
                    };
                    drop(connections);
                    pause = LISTEN_AGAIN_MIN;
                    // What was rung while nobody listened.
                    hear.send_modify(|rings| *rings += 1);
                    messages.await;
                    drop(client);
                }
            }));
        }
        Bell { pull, heard }
    }

    /// Tells the others, soon.
    pub(super) fn pull(&self) {
        self.pull.notify_one();
    }

    /// Ends with the next ring of another node.
    pub(super) fn rung(&self) -> BoxFuture<'static, ()> {
        let mut heard = self.heard.clone();
        heard.mark_unchanged();
        async move {
            // An error means that nobody listens: then nothing will be heard.
            if heard.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }
}

impl Connections {
    /// One channel per schema; its name stays within PostgreSQL's 63 bytes.
    fn channel(&self) -> String {
        let hash = self
            .address
            .schema
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        format!("tasker_{hash:016x}")
    }

    async fn ring(&self, node: &str) -> Result<(), StoreError> {
        let channel = self.channel();
        let sql = include_str!("../../sql/postgres/ring.sql");
        self.rows(sql, &[(&channel, Type::TEXT), (&node, Type::TEXT)])
            .await
            .map(drop)
    }

    /// A connection that listens, and a future that passes on what it hears until it breaks.
    async fn ear(
        &self,
        hear: &watch::Sender<u64>,
        node: &str,
    ) -> Result<(Client, BoxFuture<'static, ()>), StoreError> {
        let fail = |error| self.error(error);
        let connecting = self.address.config.connect(self.address.tls()?);
        let connecting = tokio::time::timeout(self.address.connect_limit(), connecting);
        let connected = connecting.await.map_err(|error| self.cannot_reach(error))?;
        let (client, mut connection) = connected.map_err(fail)?;
        let (hear, node) = (hear.clone(), node.to_owned());
        let mut messages = async move {
            let mut messages =
                futures_util::stream::poll_fn(move |context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notification(ring) = message
                    && ring.payload() != node
                {
                    hear.send_modify(|rings| *rings += 1);
                }
            }
        }
        .boxed();
        let listen = format!("LISTEN {}", self.channel());
        tokio::select! {
            listening = client.batch_execute(&listen) => listening.map_err(fail)?,
            () = &mut messages => return Err(StoreError::Closed),
        }
        Ok((client, messages))
    }
}
