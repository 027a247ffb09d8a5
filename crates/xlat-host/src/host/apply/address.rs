//! Adds addresses, and checks by duplicate address detection that no other host on the link has
//! one.

use std::net::Ipv6Addr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Applied;
use crate::host::Host;
use crate::host::error::Error;
use crate::host::journal::Undo;
use crate::host::plan::Address;

/// How long duplicate address detection may take. One probe and one second are the default
/// (RFC 4862 section 5.1).
const DETECTION_MAX: Duration = Duration::from_secs(5);
/// Interval between checks whether it has finished.
const DETECTION_POLL: Duration = Duration::from_millis(20);

impl Applied {
    pub(super) async fn add_address(&mut self, address: &Address) -> Result<(), Error> {
        let netlink = &self.host.netlink;
        let index = netlink.link(&address.dev).await?.index;
        let there = netlink.addresses().await?;
        if there
            .iter()
            .any(|have| have.index == index && have.address == address.address)
        {
            return Err(Error::Exists {
                what: address.to_string(),
            });
        }
        self.journal.record(Undo::Address(address.clone()))?;
        netlink.add_address(address).await
    }

    /// The kernel does duplicate address detection only for an address that an interface has: the
    /// uplink gets the address for that time.
    pub(super) async fn claim(&mut self, dev: &str, address: Ipv6Addr) -> Result<(), Error> {
        let netlink = &self.host.netlink;
        let probe = Address {
            dev: dev.into(),
            address: address.into(),
            len: 128,
        };
        let there = netlink.addresses().await?;
        if there.iter().any(|have| have.address == probe.address) {
            return Err(Error::Exists {
                what: probe.to_string(),
            });
        }
        self.journal.record(Undo::Address(probe.clone()))?;
        netlink.add_probe(&probe).await?;
        let unique = self.host.wait_for_address(dev, address).await;
        self.host.netlink.remove_address(&probe).await?;
        self.journal.forget(&Undo::Address(probe))?;
        unique
    }
}

impl Host {
    /// Waits until duplicate address detection has finished.
    async fn wait_for_address(&self, dev: &str, address: Ipv6Addr) -> Result<(), Error> {
        let index = self.netlink.link(dev).await?.index;
        let deadline = Instant::now() + DETECTION_MAX;
        loop {
            let all = self.netlink.addresses().await?;
            let found = all
                .iter()
                .find(|have| have.index == index && have.address == address);
            match found {
                Some(have) if have.duplicate => {
                    return Err(Error::Duplicate {
                        dev: dev.into(),
                        address,
                    });
                }
                // The kernel keeps a duplicate address whose lifetime is infinite. This one is
                // missing, because the link went down or another program removed it.
                None => {
                    return Err(Error::TakenAway {
                        dev: dev.into(),
                        address,
                    });
                }
                Some(have) if !have.tentative => return Ok(()),
                Some(_) if Instant::now() >= deadline => {
                    let seconds = DETECTION_MAX.as_secs();
                    return Err(Error::Tentative {
                        dev: dev.into(),
                        address,
                        seconds,
                    });
                }
                Some(_) => sleep(DETECTION_POLL).await,
            }
        }
    }
}
