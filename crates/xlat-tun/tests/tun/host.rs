//! The host of a test: its namespace, addresses and sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::thread;
use std::time::Duration;

use nix::sched::CloneFlags;
use rtnetlink::LinkUnspec;
use xlat_tun::{Options, Tun};

/// Nothing in these tests takes that long on a working system.
pub(crate) const LONG: Duration = Duration::from_secs(10);

pub(crate) const NAME: &str = "xlat0";
pub(crate) const HERE4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const PEER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub(crate) const FAR4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
pub(crate) const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 4, 0, 0, 0, 0, 1);
pub(crate) const HERE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub(crate) const PEER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// One datagram there and back.
#[track_caller]
pub(crate) fn ping(here: Ipv4Addr, peer: Ipv4Addr) {
    let socket = bind(here.into());
    let port = socket.local_addr().expect("bound").port();
    socket.send_to(b"ping", (peer, port)).expect("sent");
    let mut back = [0; 4];
    socket.recv(&mut back).expect("reflected");
    assert_eq!(&back, b"ping");
}

pub(crate) fn bind(here: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((here, 0)).expect("bound");
    socket.set_read_timeout(Some(LONG)).expect("time-out");
    socket
}

pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// Gives the interface its addresses and sets it up.
pub(crate) fn configure() {
    let index = index_of(NAME).expect("there");
    netlink(async |handle| {
        let address = handle.address();
        address.add(index, HERE4.into(), 24).execute().await?;
        let loopback = LinkUnspec::new_with_index(1).up();
        handle.link().set(loopback.build()).execute().await
    });
    set_up(true);
    if ipv6_is_on() {
        netlink(async |handle| {
            let mut request = handle.address().add(index, HERE6.into(), 64);
            let flags = rtnetlink::packet_route::address::AddressHeaderFlags::Nodad;
            request.message_mut().header.flags = flags;
            request.execute().await
        });
    }
}

pub(crate) fn ipv6_is_on() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6")
        .is_ok_and(|value| value.trim() == "0")
}

pub(crate) fn set_up(up: bool) {
    let link = LinkUnspec::new_with_index(index_of(NAME).expect("there"));
    let link = if up { link.up() } else { link.down() };
    netlink(async |handle| handle.link().set(link.build()).execute().await);
}

pub(crate) fn index_of(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

pub(crate) fn netlink(work: impl AsyncFnOnce(rtnetlink::Handle) -> Result<(), rtnetlink::Error>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build();
    runtime.expect("runtime").block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
        tokio::spawn(connection);
        work(handle).await.expect("netlink");
    });
}

/// USO came with Linux 6.2.
pub(crate) fn kernel_has_uso() -> bool {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let mut numbers = release.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 2)
}

pub(crate) fn try_to_open() -> Result<(), String> {
    let tun = Tun::open(&Options::new(NAME));
    tun.map(drop).map_err(|error| error.to_string())
}

/// Runs `test` on a thread in a new network namespace, which goes with the thread.
pub(crate) fn run_in_namespace(
    test: impl FnOnce() -> Result<(), String> + Send,
) -> Result<(), String> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|error| format!("no network namespace: {error}"))?;
            test()
        });
        thread.join().unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(text.unwrap_or("panicked").to_owned())
        })
    })
}

/// Without root, becomes root of a user namespace. Must run before any thread is started.
pub(crate) fn enter_user_namespace_if_needed() -> Result<(), String> {
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if user.is_root() {
        return Ok(());
    }
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER)
        .map_err(|error| format!("not root, and no user namespace: {error}"))?;
    let maps = [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {user} 1")),
        ("gid_map", format!("0 {group} 1")),
    ];
    for (file, content) in maps {
        std::fs::write(format!("/proc/self/{file}"), content)
            .map_err(|error| format!("not root, and no user namespace: {file}: {error}"))?;
    }
    Ok(())
}
