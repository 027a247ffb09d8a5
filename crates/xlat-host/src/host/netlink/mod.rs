//! The only module that speaks rtnetlink: queries and changes in types of our own, errors by errno.

mod addresses;
mod links;
mod neighbours;
mod refusal;
mod route_message;
mod routes;
mod rules;

use std::io::ErrorKind;
use std::net::IpAddr;

use futures_util::{Stream, TryStreamExt};
use netlink_packet_route::AddressFamily;
use netlink_sys::AsyncSocket;
use rtnetlink::Handle;
use tracing::debug;

use super::error::Error;

use refusal::refused;

pub use addresses::Assigned;
pub use links::Link;
pub(super) use route_message::{
    delegated, interfaces, ip, is_default, is_main, is_ours, is_unicast, leads_somewhere,
    next_hops, same_destination, used,
};
pub use routes::Way;

/// A connection to the kernel over an rtnetlink socket.
#[derive(Clone, Debug)]
pub(super) struct Netlink {
    pub(super) handle: Handle,
}

impl Netlink {
    /// Connects; the connection runs as a task of the current tokio runtime.
    pub(super) fn connect() -> Result<Self, Error> {
        let (mut connection, handle, _) =
            rtnetlink::new_connection().map_err(|error| Error::Netlink(error.to_string()))?;
        if let Err(error) = connection.socket_mut().socket_ref().set_ext_ack(true) {
            debug!("the kernel does not say why it refuses a request: {error}");
        }
        tokio::spawn(connection);
        Ok(Self { handle })
    }
}

/// True if the kernel refused because the object exists already.
pub(super) fn is_exist(error: &Error) -> bool {
    matches!(error, Error::Kernel { source, .. } if source.kind() == ErrorKind::AlreadyExists)
}

async fn collect<T>(
    what: &str,
    stream: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, Error> {
    stream
        .try_collect()
        .await
        .map_err(|error| refused(what.into(), error))
}

fn io_error(error: &rtnetlink::Error) -> std::io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => std::io::Error::other(other.to_string()),
    }
}

fn ok_if_absent(
    done: Result<(), rtnetlink::Error>,
    what: impl FnOnce() -> String,
) -> Result<(), Error> {
    match done {
        Err(error) if !is_absent(&io_error(&error)) => Err(refused(what(), error)),
        _ => Ok(()),
    }
}

/// ESRCH, ENODEV, ENOENT, EADDRNOTAVAIL: the object to remove is absent.
fn is_absent(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let gone = [Errno::SRCH, Errno::NODEV, Errno::NOENT, Errno::ADDRNOTAVAIL];
    error
        .raw_os_error()
        .is_some_and(|code| gone.iter().any(|errno| errno.raw_os_error() == code))
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv6() {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    }
}
