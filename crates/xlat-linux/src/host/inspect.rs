//! Questions about the host. None of them changes anything, and none needs privileges.

use std::net::IpAddr;

use xlat_core::addr::{Ipv4Prefix, Ipv6Prefix};

use super::error::Error;
use super::netlink::{Assigned, Link, Way, is_default, is_ours};
use super::{Host, sysctl};

impl Host {
    /// All interfaces.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn links(&self) -> Result<Vec<Link>, Error> {
        self.netlink.links().await
    }

    /// The interface `name`.
    ///
    /// # Errors
    /// [`Error::NoLink`] if there is none.
    pub async fn link(&self, name: &str) -> Result<Link, Error> {
        self.netlink.link(name).await
    }

    /// The addresses of all interfaces.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn addresses(&self) -> Result<Vec<Assigned>, Error> {
        self.netlink.addresses().await
    }

    /// Where packets to `to` go.
    ///
    /// # Errors
    /// [`Error::NoRoute`] if nowhere.
    pub async fn way(&self, to: IpAddr) -> Result<Way, Error> {
        self.netlink.way(to).await
    }

    /// True if somebody else than us gives this host an IPv4 default route.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn has_native_ipv4(&self) -> Result<bool, Error> {
        let routes = self.netlink.routes(false).await?;
        Ok(routes
            .iter()
            .any(|route| is_default(route) && !is_ours(route)))
    }

    /// An address of this host that lies in the IPv4 prefix, if there is one.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn address_in_v4(&self, prefix: Ipv4Prefix) -> Result<Option<Assigned>, Error> {
        let addresses = self.addresses().await?;
        Ok(addresses
            .into_iter()
            .find(|assigned| match assigned.address {
                IpAddr::V4(v4) => prefix.contains(v4),
                IpAddr::V6(_) => false,
            }))
    }

    /// An address of this host that lies in the IPv6 prefix, if there is one.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn address_in_v6(&self, prefix: Ipv6Prefix) -> Result<Option<Assigned>, Error> {
        let addresses = self.addresses().await?;
        Ok(addresses
            .into_iter()
            .find(|assigned| match assigned.address {
                IpAddr::V6(v6) => prefix.contains(v6),
                IpAddr::V4(_) => false,
            }))
    }

    /// The value of a kernel parameter; `None` if the kernel does not have it.
    pub fn sysctl(&self, key: &str) -> Option<String> {
        sysctl::read(key).ok()
    }

    /// True if this kernel lets single interfaces forward IPv6 (Linux 6.17 and newer), so that
    /// the whole host need not.
    pub fn has_force_forwarding(&self) -> bool {
        sysctl::exists("net.ipv6.conf.all.force_forwarding")
            || sysctl::exists("net.ipv6.conf.lo.force_forwarding")
    }
}
