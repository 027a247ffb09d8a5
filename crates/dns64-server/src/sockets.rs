//! The sockets that the server listens on.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6, TcpListener, UdpSocket};
use std::sync::Arc;

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_reuseport};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

/// Room for queries that wait to be read, in bytes, if the kernel gives that much.
const ROOM: usize = 1 << 20;

/// The sockets of one address.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// One for each thread.
    udp: Vec<UdpSocket>,
    tcp: TcpListener,
}

impl Sockets {
    pub(crate) fn open(address: Ipv6Addr, port: u16, threads: usize) -> io::Result<Self> {
        // Sockets that share a port do so with those of other programs of the same user: one that does
        // not share it finds out whether there are any.
        let first = UdpSocket::bind((address, port))?;
        let udp = match threads {
            0 | 1 => vec![first],
            _ => {
                drop(first);
                let own = (0..threads).map(|_| sharing(address, port));
                own.collect::<io::Result<_>>()?
            }
        };
        for socket in &udp {
            socket.set_nonblocking(true)?;
            let _ = set_socket_recv_buffer_size(socket, ROOM);
        }
        let tcp = TcpListener::bind((address, port))?;
        tcp.set_nonblocking(true)?;
        Ok(Self { udp, tcp })
    }

    /// Number of threads that it has sockets for.
    pub(crate) fn count(&self) -> usize {
        self.udp.len()
    }

    /// The socket for datagrams of one of the threads, once more.
    pub(crate) fn datagrams(&self, thread: usize) -> io::Result<Arc<UdpSocket>> {
        Ok(Arc::new(self.udp[thread].try_clone()?))
    }

    /// The socket for connections, once more.
    pub(crate) fn listener(&self) -> io::Result<TcpListener> {
        self.tcp.try_clone()
    }
}

/// A socket that shares its port with others of this user, which the kernel shares the clients out to.
fn sharing(address: Ipv6Addr, port: u16) -> io::Result<UdpSocket> {
    let socket = socket_with(
        AddressFamily::INET6,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    set_socket_reuseport(&socket, true)?;
    bind(&socket, &SocketAddrV6::new(address, port, 0, 0))?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unbound shares its port with whoever asks the kernel to, if it is the same user.
    #[test]
    fn dn_40_a_port_is_not_shared_with_another_program() {
        let other = sharing(Ipv6Addr::LOCALHOST, 0).unwrap();
        let port = other.local_addr().unwrap().port();
        for threads in [1, 2] {
            let error = Sockets::open(Ipv6Addr::LOCALHOST, port, threads).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{threads}");
        }
        // It is the kernel that would have let them share it.
        assert!(sharing(Ipv6Addr::LOCALHOST, port).is_ok());
    }
}
