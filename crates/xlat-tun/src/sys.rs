//! The requests to `/dev/net/tun` that the `tun` crate does not make, and the only `unsafe` code of
//! the workspace.
//!
//! The kernel's contract (`include/uapi/linux/if_tun.h`, `drivers/net/tun.c`):
//! - `TUNSETIFF` takes a `struct ifreq` (40 bytes on 64-bit machines, 32 on others), reads name and
//!   flags from it and writes the name it chose back into it;
//! - `TUNGETFEATURES` writes one `unsigned int`, the flags that `TUNSETIFF` understands;
//! - `TUNSETVNETHDRSZ` and `TUNSETVNETLE` read one `int` through a pointer;
//! - `SIOCSIFTXQLEN`, a request to any socket, takes a `struct ifreq` with a name and one `int`;
//! - `TUNSETOFFLOAD` takes its value itself as the argument, not a pointer.
//!
//! And the one socket address that no library makes: that of a packet socket.
//!
//! Everything else about the device goes through safe calls.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{Getter, IntegerSetter, Opcode, Setter, Updater, ioctl, opcode};
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{AddressFamily, SocketType};

/// Room for an interface name with its final zero byte (`IFNAMSIZ`).
pub(super) const NAME_SIZE: usize = 16;

/// `IFF_TUN`: packets begin with their IP header.
pub(super) const IFF_TUN: u16 = 0x0001;
/// `IFF_MULTI_QUEUE`: more descriptors may join the device.
pub(super) const IFF_MULTI_QUEUE: u16 = 0x0100;
/// `IFF_NO_PI`: no four bytes of protocol information in front of a packet.
pub(super) const IFF_NO_PI: u16 = 0x1000;
/// `IFF_VNET_HDR`: a virtio-net header in front of each packet.
pub(super) const IFF_VNET_HDR: u16 = 0x4000;
/// `IFF_TUN_EXCL`: refuse to join a device that exists.
pub(super) const IFF_TUN_EXCL: u16 = 0x8000;

const SET_IFF: Opcode = opcode::write::<i32>(b'T', 202);
const GET_FEATURES: Opcode = opcode::read::<u32>(b'T', 207);
const SET_OFFLOAD: Opcode = opcode::write::<u32>(b'T', 208);
const SET_HEADER_SIZE: Opcode = opcode::write::<i32>(b'T', 216);
const SET_LITTLE_ENDIAN: Opcode = opcode::write::<i32>(b'T', 220);

/// `SIOCSIFTXQLEN`, which is older than the encoding of the others.
const SET_QUEUE_LENGTH: Opcode = 0x8943;

/// `struct ifreq` as `SIOCSIFTXQLEN` uses it.
#[repr(C)]
struct QueueLengthRequest {
    name: [u8; NAME_SIZE],
    length: i32,
    rest: [u8; 20],
}

/// `struct ifreq` as `TUNSETIFF` uses it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; NAME_SIZE],
    flags: u16,
    rest: [u8; 22],
}

/// Opens the clone device, which has no interface yet.
pub(super) fn open() -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(rustix::fs::open("/dev/net/tun", flags, Mode::empty())?)
}

/// The interface flags that this kernel understands.
pub(super) fn features(fd: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: TUNGETFEATURES writes one `unsigned int`, which is what the getter holds.
    let features = unsafe { ioctl(fd, Getter::<GET_FEATURES, u32>::new()) }?;
    Ok(features)
}

/// Attaches the descriptor to the interface `name` as a queue and returns the name that the kernel
/// chose (`%d` in `name` becomes a number).
///
/// `name` must be shorter than [`NAME_SIZE`]; a longer one is truncated.
pub(super) fn attach(fd: BorrowedFd<'_>, name: &str, flags: u16) -> io::Result<String> {
    let mut request = InterfaceRequest {
        name: name_field(name),
        flags,
        rest: [0; 22],
    };
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`; `InterfaceRequest` has its layout and
    // is at least as large on every architecture.
    unsafe { ioctl(fd, Updater::<SET_IFF, _>::new(&mut request)) }?;
    let end = request.name.iter().position(|byte| *byte == 0);
    let name = &request.name[..end.unwrap_or(NAME_SIZE)];
    Ok(String::from_utf8_lossy(name).into_owned())
}

fn name_field(name: &str) -> [u8; NAME_SIZE] {
    let mut field = [0; NAME_SIZE];
    let length = name.len().min(NAME_SIZE - 1);
    field[..length].copy_from_slice(&name.as_bytes()[..length]);
    field
}

/// Sets the longest backlog of each queue of the interface, in packets.
pub(super) fn set_queue_length(name: &str, length: u32) -> io::Result<()> {
    let request = QueueLengthRequest {
        name: name_field(name),
        length: i32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?,
        rest: [0; 20],
    };
    let any = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: SIOCSIFTXQLEN reads one `struct ifreq`; `QueueLengthRequest` has its layout and is at
    // least as large on every architecture.
    Ok(unsafe { ioctl(any, Setter::<SET_QUEUE_LENGTH, _>::new(request)) }?)
}

/// Sets the size of the header in front of each packet, in bytes.
pub(super) fn set_header_size(fd: BorrowedFd<'_>, size: i32) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads one `int` through the pointer.
    Ok(unsafe { ioctl(fd, Setter::<SET_HEADER_SIZE, i32>::new(size)) }?)
}

/// Sets whether the header's fields are little-endian on every machine, or in the machine's order.
pub(super) fn set_little_endian(fd: BorrowedFd<'_>, little: bool) -> io::Result<()> {
    // SAFETY: TUNSETVNETLE reads one `int` through the pointer.
    Ok(unsafe { ioctl(fd, Setter::<SET_LITTLE_ENDIAN, i32>::new(little.into())) }?)
}

/// Sets the work that the kernel may offload (`TUN_F_*`). All or nothing: `EINVAL` if the kernel
/// does not know one of the kinds.
pub(super) fn set_offload(fd: BorrowedFd<'_>, offloads: u32) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes the value itself; no memory is involved.
    let request = unsafe { IntegerSetter::<SET_OFFLOAD>::new_usize(offloads as usize) };
    // SAFETY: as above.
    Ok(unsafe { ioctl(fd, request) }?)
}

/// Binds a packet socket to the interface with number `index` and to an EtherType.
///
/// # Errors
/// Those of the kernel.
pub fn bind_to_link(socket: BorrowedFd<'_>, index: u32, ether_type: u16) -> io::Result<()> {
    let address = LinkAddress {
        family: AF_PACKET,
        protocol: ether_type.to_be(),
        index,
        rest: [0; 12],
    };
    Ok(rustix::net::bind(socket, &address)?)
}

/// `struct sockaddr_ll` (`include/uapi/linux/if_packet.h`).
#[repr(C)]
struct LinkAddress {
    family: u16,
    protocol: u16,
    index: u32,
    rest: [u8; 12],
}

const AF_PACKET: u16 = 17;

// SAFETY: the pointer is to a whole `struct sockaddr_ll`, which lives until `f` has returned.
unsafe impl SocketAddrArg for LinkAddress {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        let length = size_of::<Self>() as SocketAddrLen;
        f(std::ptr::from_ref(self).cast(), length)
    }
}

/// The device's descriptor, for polling.
pub(super) fn borrow(device: &tun::Device) -> BorrowedFd<'_> {
    // SAFETY: the device keeps its descriptor open as long as it lives, and the borrow ends before.
    unsafe { BorrowedFd::borrow_raw(device.as_raw_fd()) }
}
