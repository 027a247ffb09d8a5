//! Reserves names within a network namespace, each for one process at a time.
//!
//! Two instances that start at the same moment find the same address free. The name of an abstract
//! Unix socket can be bound by only one of them, and the kernel releases it when that process ends,
//! however it ends.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// A reserved name, released when dropped.
#[derive(Debug)]
pub struct Reservation(#[expect(dead_code, reason = "it holds the name")] UnixDatagram);

impl Reservation {
    /// Reserves a name.
    ///
    /// # Errors
    /// [`io::ErrorKind::AddrInUse`] if another process has reserved it.
    pub fn take(name: &str) -> io::Result<Self> {
        let address = SocketAddr::from_abstract_name(format!("464xlat/{name}"))?;
        UnixDatagram::bind_addr(&address).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_owner_at_a_time() {
        let name = format!("test {}", std::process::id());
        let first = Reservation::take(&name).expect("free");
        let second = Reservation::take(&name).expect_err("taken");
        assert_eq!(second.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        Reservation::take(&name).expect("free again");
    }
}
