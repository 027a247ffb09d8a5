//! Numbers and names of interfaces. An interface keeps its number when it is renamed.

use rustix::io;
use rustix::net::netdevice::{index_to_name, name_to_index};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// The number of the interface `name`; `None` if there is none.
pub(super) fn index(name: &str) -> Option<u32> {
    name_to_index(any_socket().ok()?, name).ok()
}

/// The present name of an interface; `None` if it has gone.
pub(super) fn name(index: u32) -> Option<String> {
    index_to_name(any_socket().ok()?, index).ok()
}

/// The requests need a socket, of whatever kind.
fn any_socket() -> io::Result<rustix::fd::OwnedFd> {
    let kind = SocketType::DGRAM;
    socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
}
