//! Notifications that the host's network configuration has changed.
//!
//! A notification does not carry the change: the waiting task queries the host again. So no message
//! can be misread, and a lost one does no lasting harm.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};
use rtnetlink::MulticastGroup;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::error::Error;
use super::pace::Pace;
use super::plan::ROUTE_PROTOCOL;

/// Changes come in bursts. After the first one the listener waits this long for the rest.
const SETTLE: Duration = Duration::from_millis(50);

/// Pause after the socket refused to receive, so that an error that stays makes no busy loop.
const PAUSE: Duration = Duration::from_millis(200);

/// Changes of links, addresses, routes and forwarding parameters, of both families. Where looking at
/// the host takes long, because it has a hundred thousand routes, the changes come so much more
/// slowly that the looks take a small part of a processor.
#[derive(Debug)]
pub struct Changes {
    signal: Arc<Signal>,
    pace: Mutex<Pace>,
    task: JoinHandle<()>,
}

/// What the listener tells the waiting task.
#[derive(Debug, Default)]
struct Signal {
    changed: Notify,
    /// One of the changes is more than a route among many.
    is_urgent: AtomicBool,
    /// An address came or went.
    addresses: Notify,
}

impl Signal {
    /// A message came, which begins like this; `None` if messages were lost.
    fn note(&self, start: Option<&[u8; START]>) {
        if !start.is_some_and(is_one_of_many) {
            self.is_urgent.store(true, Ordering::Relaxed);
        }
        if start.is_none_or(is_of_an_address) {
            self.addresses.notify_one();
        }
        self.changed.notify_one();
    }
}

impl Changes {
    /// Starts to listen. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the kernel gives no rtnetlink socket.
    pub fn listen() -> Result<Self, Error> {
        let failed = |error: io::Error| Error::Netlink(error.to_string());
        let socket = open().map_err(failed)?;
        let signal = Arc::<Signal>::default();
        let task = tokio::spawn(forward(socket, Arc::clone(&signal)));
        Ok(Self {
            signal,
            pace: Mutex::default(),
            task,
        })
    }

    /// Waits until something has changed since the last call and the burst is over. What is done
    /// between two calls decides how soon the next one returns. Cancelling the wait loses no change.
    pub async fn next(&self) {
        self.pace().end(Instant::now(), processor_time());
        let Signal {
            changed, is_urgent, ..
        } = &*self.signal;
        changed.notified().await;
        let mut again = RenotifyOnDrop(Some(changed));
        sleep(SETTLE).await;
        loop {
            let at = self.pace().next(is_urgent.load(Ordering::Relaxed));
            let Some(at) = at else { break };
            tokio::select! {
                biased;
                () = sleep_until(at) => break,
                // It may be urgent.
                () = changed.notified() => {}
            }
        }
        is_urgent.store(false, Ordering::Relaxed);
        again.0 = None;
        self.pace().begin(processor_time());
    }

    /// Waits until an address has come or gone since the last call: at once, and not after the burst or the
    /// rest that [`next`](Self::next) waits for. Only what is cheap belongs behind it.
    pub async fn of_addresses(&self) {
        self.signal.addresses.notified().await;
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What this thread has used of a processor. Looks at the host are made on it.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
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

async fn forward(socket: TokioSocket, signal: Arc<Signal>) {
    loop {
        // What has no room is cut off. The error of a socket is that notifications were lost
        // (ENOBUFS), so that something has changed then too.
        let mut start = [0; START];
        let received = socket.recv(&mut &mut start[..]).await;
        signal.note(received.is_ok().then_some(&start));
        if received.is_err() {
            sleep(PAUSE).await;
        }
    }
}

/// Bytes of a message up to the protocol of a route: `nlmsghdr` and the first half of `rtmsg`.
const START: usize = 16 + 6;

/// True if the message is about a route that is neither a default route nor one of this suite:
/// routing protocols bring and take thousands.
fn is_one_of_many(message: &[u8; START]) -> bool {
    const ROUTES: [u16; 2] = [24, 25];
    let kind = u16::from_ne_bytes([message[4], message[5]]);
    let (prefix_len, protocol) = (message[17], message[21]);
    ROUTES.contains(&kind) && prefix_len != 0 && protocol != ROUTE_PROTOCOL
}

/// True if the message is about an address.
fn is_of_an_address(message: &[u8; START]) -> bool {
    const ADDRESSES: [u16; 2] = [20, 21];
    ADDRESSES.contains(&u16::from_ne_bytes([message[4], message[5]]))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// Until the daemon knows of it, clients reach an address that the host gets.
    #[tokio::test]
    async fn se_06_an_address_waits_for_no_burst_and_no_rest() {
        let signal = Arc::<Signal>::default();
        let changes = Changes {
            signal: Arc::clone(&signal),
            pace: Mutex::default(),
            task: tokio::spawn(async {}),
        };
        let message = |kind: u16| {
            let mut bytes = [0; START];
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            bytes
        };
        // A route, a link.
        for kind in [24, 16] {
            signal.note(Some(&message(kind)));
            assert_eq!(changes.of_addresses().now_or_never(), None);
        }
        for start in [Some(message(20)), Some(message(21)), None] {
            signal.note(start.as_ref());
            assert_eq!(changes.next().now_or_never(), None);
            assert_eq!(changes.of_addresses().now_or_never(), Some(()));
            assert_eq!(changes.of_addresses().now_or_never(), None);
        }
    }

    #[test]
    fn fp_46_default_routes_and_routes_of_ours_do_not_wait() {
        let message = |kind: u16, prefix_len: u8, protocol: u8| {
            let mut bytes = [0; START];
            bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
            (bytes[17], bytes[21]) = (prefix_len, protocol);
            is_one_of_many(&bytes)
        };
        assert!(message(24, 24, 186) && message(25, 48, 12));
        assert!(!message(24, 0, 186) && !message(25, 24, 64));
        // A link.
        assert!(!message(16, 24, 186));
    }
}
