//! The kernel's side of links, addresses and routes, in the namespace of the calling thread.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use futures_util::{Stream, TryStreamExt};
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::neighbour::NeighbourMessage;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::{Handle, IpVersion, LinkUnspec, RouteMessageBuilder};

/// Gives `work` a netlink connection and waits for its end.
///
/// # Errors
/// Those of `work`, and without a connection.
pub(crate) fn netlink<T>(work: impl AsyncFnOnce(Handle) -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        work(handle).await
    })
}

/// The number of the interface of this name.
///
/// # Errors
/// When there is none.
pub(crate) fn index(name: &str) -> Result<u32> {
    if_nametoindex(name).with_context(|| format!("there is no interface {name}"))
}

/// Sets an interface up.
///
/// # Errors
/// When there is none of that name.
pub(crate) fn set_up(name: &str) -> Result<()> {
    netlink(async |handle| {
        let link = LinkUnspec::new_with_index(index(name)?).up().build();
        Ok(handle.link().set(link).execute().await?)
    })
}

/// All that the kernel lists. One list is read to its end before the next is asked for: a netlink
/// socket has one at a time.
pub(crate) struct Dump {
    pub(crate) links: Vec<LinkMessage>,
    pub(crate) addresses: Vec<AddressMessage>,
    pub(crate) routes: Vec<RouteMessage>,
    pub(crate) rules: Vec<RuleMessage>,
    /// Those that the kernel has learned are among them.
    pub(crate) neighbours: Vec<NeighbourMessage>,
    /// Addresses that are answered for in the name of others.
    pub(crate) proxies: Vec<NeighbourMessage>,
}

impl Dump {
    /// Asks the kernel.
    ///
    /// # Errors
    /// When it does not answer.
    pub(crate) fn take() -> Result<Self> {
        let route4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let route6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
        netlink(async |kernel| {
            Ok(Self {
                links: list(kernel.link().get().execute()).await?,
                addresses: list(kernel.address().get().execute()).await?,
                routes: [
                    list(kernel.route().get(route4).execute()).await?,
                    list(kernel.route().get(route6).execute()).await?,
                ]
                .concat(),
                rules: [
                    list(kernel.rule().get(IpVersion::V4).execute()).await?,
                    list(kernel.rule().get(IpVersion::V6).execute()).await?,
                ]
                .concat(),
                neighbours: list(kernel.neighbours().get().execute()).await?,
                proxies: list(kernel.neighbours().get().proxies().execute()).await?,
            })
        })
    }
}

async fn list<T>(messages: impl Stream<Item = Result<T, rtnetlink::Error>>) -> Result<Vec<T>> {
    Ok(messages.try_collect().await?)
}
