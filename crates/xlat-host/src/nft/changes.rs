//! Notifications that the nftables ruleset has changed.

use std::io;
use std::time::Duration;

use futures_util::FutureExt;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, AsyncSocketExt, TokioSocket};
use tokio::time::sleep;

/// The group that the kernel tells of each table, chain and rule (`NFNLGRP_NFTABLES`).
const GROUP: u32 = 7;
/// Rulesets are loaded in bursts. After the first message the listener waits this long.
const SETTLE: Duration = Duration::from_secs(1);

/// Changes of the ruleset, of whatever program.
pub struct RulesetChanges {
    socket: TokioSocket,
    /// A change was noticed, and the burst may not be over.
    noticed: bool,
}

impl RulesetChanges {
    /// Starts to listen. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the kernel gives no such socket.
    pub fn listen() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind_auto()?;
        socket.socket_mut().add_membership(GROUP)?;
        let noticed = false;
        Ok(Self { socket, noticed })
    }

    /// Waits until something has changed since the last call and the burst is over. Cancelling the
    /// wait loses no change.
    pub async fn next(&mut self) {
        if !self.noticed {
            // Whatever it says, also that messages were lost: the ruleset is read again.
            drop(self.socket.recv_from_full().await);
            self.noticed = true;
        }
        sleep(SETTLE).await;
        while let Some(Ok(_)) = self.socket.recv_from_full().now_or_never() {}
        self.noticed = false;
    }
}
