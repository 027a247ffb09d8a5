//! Notifications that the host's network configuration has changed.
//!
//! A notification does not carry the change: the waiting task queries the host again. So no message
//! can be misread, and a lost one does no lasting harm.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};
use rtnetlink::MulticastGroup;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::error::Error;

/// Changes come in bursts. After the first one the listener waits this long for the rest.
const SETTLE: Duration = Duration::from_millis(50);

/// Pause after the socket refused to receive, so that an error that stays makes no busy loop.
const PAUSE: Duration = Duration::from_millis(200);

/// Changes of links, addresses, routes and forwarding parameters, of both families.
#[derive(Debug)]
pub struct Changes {
    changed: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Changes {
    /// Starts to listen. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the kernel gives no rtnetlink socket.
    pub fn listen() -> Result<Self, Error> {
        let failed = |error: io::Error| Error::Netlink(error.to_string());
        let socket = open().map_err(failed)?;
        let changed = Arc::new(Notify::new());
        let task = tokio::spawn(forward(socket, Arc::clone(&changed)));
        Ok(Self { changed, task })
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
        self.task.abort();
    }
}

/// A socket for the notifications. They are not parsed: that they come is enough.
fn open() -> io::Result<TokioSocket> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
        MulticastGroup::Ipv6Ifinfo,
        MulticastGroup::Ipv6Rule,
        // Parameters: forwarding and what goes with it.
        MulticastGroup::Ipv4Netconf,
        MulticastGroup::Ipv6Netconf,
    ];
    let mut listener = TokioSocket::new(NETLINK_ROUTE)?;
    let socket = listener.socket_mut();
    socket.bind(&SocketAddr::new(0, 0))?;
    for group in groups {
        socket.add_membership(group as u32)?;
    }
    Ok(listener)
}

async fn forward(socket: TokioSocket, changed: Arc<Notify>) {
    loop {
        // What has no room is cut off. The error of a socket is that notifications were lost
        // (ENOBUFS), so that something has changed then too.
        let received = socket.recv(&mut &mut [0; 16][..]).await;
        changed.notify_one();
        if received.is_err() {
            sleep(PAUSE).await;
        }
    }
}
