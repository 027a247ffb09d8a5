//! NAT64 prefixes that hosts on a link take for addresses of their neighbours.

use std::fmt;
use std::net::IpAddr;

use xlat_core::addr::Ipv6Prefix;

use super::Host;
use super::error::Error;

/// A prefix out of a network of this host whose hosts are neighbours (RFC 4861 section 5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnLinkPrefix {
    /// The prefix.
    pub prefix: Ipv6Prefix,
    /// The network that it lies in.
    pub network: Ipv6Prefix,
    /// Name of the network's interface.
    pub link: String,
}

impl fmt::Display for OnLinkPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            prefix,
            network,
            link,
        } = self;
        write!(
            f,
            "the NAT64 prefix {prefix} lies in {network}, which is on the link of {link}: hosts there \
             look for its addresses among their neighbours and reach nobody"
        )
    }
}

impl Host {
    /// Where these prefixes lie in networks that this host has addresses in.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn on_link_prefixes(
        &self,
        prefixes: impl Iterator<Item = Ipv6Prefix>,
    ) -> Result<Vec<OnLinkPrefix>, Error> {
        let (links, addresses) = (self.links().await?, self.addresses().await?);
        let mut all = Vec::new();
        for prefix in prefixes {
            for have in addresses.iter().filter(|have| have.len <= prefix.len()) {
                let link = links.iter().find(|link| link.index == have.index);
                let (IpAddr::V6(address), Some(link)) = (have.address, link) else {
                    continue;
                };
                let network = Ipv6Prefix::containing(address, have.len);
                if network.overlaps(&prefix) {
                    all.push(OnLinkPrefix {
                        prefix,
                        network,
                        link: link.name.clone(),
                    });
                }
            }
        }
        Ok(all)
    }
}
