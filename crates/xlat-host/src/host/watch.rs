//! Notifications that the host's network configuration has changed.
//!
//! A notification does not carry the change: the waiting task queries the host again. So no message
//! can be misread, and a lost one does no lasting harm.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::error::Error;

/// Changes come in bursts. After the first one the listener waits this long for the rest.
const SETTLE: Duration = Duration::from_millis(50);

/// Changes of links, addresses and routes, of both families.
#[derive(Debug)]
pub struct Changes {
    changed: Arc<Notify>,
    tasks: [JoinHandle<()>; 2],
}

impl Changes {
    /// Starts to listen. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the kernel gives no rtnetlink socket.
    pub fn listen() -> Result<Self, Error> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv6Ifinfo,
        ];
        let (connection, _, mut messages) =
            new_multicast_connection(&groups).map_err(|error| Error::Netlink(error.to_string()))?;
        let changed = Arc::new(Notify::new());
        let notifier = Arc::clone(&changed);
        let forward = async move {
            while messages.next().await.is_some() {
                notifier.notify_one();
            }
        };
        Ok(Self {
            changed,
            tasks: [tokio::spawn(connection), tokio::spawn(forward)],
        })
    }

    /// Waits until something has changed since the last call and the burst is over. Cancelling the
    /// wait loses no change.
    pub async fn next(&self) {
        self.changed.notified().await;
        let mut again = RenotifyOnDrop(Some(&self.changed));
        sleep(SETTLE).await;
        again.0 = None;
    }
}

/// Notifies again when dropped, unless disarmed: keeps a change when the wait is cancelled.
struct RenotifyOnDrop<'a>(Option<&'a Notify>);

impl Drop for RenotifyOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(changed) = self.0 {
            changed.notify_one();
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
