//! Being told that something about the host has changed.
//!
//! What has changed is not told: whoever is woken looks at the host again. So no message can be
//! misunderstood, and none that is lost does harm for long.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::error::Error;

/// Changes come in crowds; the rest of one is waited for.
const SETTLE: Duration = Duration::from_millis(50);

/// Changes of links, addresses and routes, of both families.
#[derive(Debug)]
pub struct Changes {
    bell: Arc<Notify>,
    tasks: [JoinHandle<()>; 2],
}

impl Changes {
    /// Listens from now on. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If there is no routing socket to be had.
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
        let bell = Arc::new(Notify::new());
        let ring = Arc::clone(&bell);
        let forward = async move {
            while messages.next().await.is_some() {
                ring.notify_one();
            }
        };
        Ok(Self {
            bell,
            tasks: [tokio::spawn(connection), tokio::spawn(forward)],
        })
    }

    /// Waits until something has changed since the last time, and has settled for a moment. A
    /// change is not lost if whoever waits goes away meanwhile.
    pub async fn next(&self) {
        self.bell.notified().await;
        let mut again = Again(Some(&self.bell));
        sleep(SETTLE).await;
        again.0 = None;
    }
}

/// Rings once more when it is dropped, unless that is called off.
struct Again<'a>(Option<&'a Notify>);

impl Drop for Again<'_> {
    fn drop(&mut self) {
        if let Some(bell) = self.0 {
            bell.notify_one();
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
