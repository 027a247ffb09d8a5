//! The TUN device and the loop that moves packets through it.
//!
//! [`Tun::open`] creates the interface with one [`Queue`] per worker and agrees with the kernel on
//! the work that it may offload (checksums, segmentation). [`start`] then runs one thread per
//! queue: read, translate, write.
//!
//! The interface lives as long as its queues: it is never made persistent, so it disappears when
//! the process ends for any reason, together with the routes that point at it. It starts down and
//! without addresses; the host plan sets it up.
//!
//! Layers, bottom up: `sys` makes the requests to the kernel, [`vnet`] is the header in front of
//! each packet, `queue` reads and writes one packet, `gro` joins packets before the write, `pace`
//! decides when to wait for more of them, `worker` is the loop; through `mailbox` and `handle` the
//! rest of the process reaches it.

pub mod counters;
mod gro;
mod handle;
mod mailbox;
mod negotiate;
mod pace;
mod queue;
mod sys;
pub mod vnet;
mod worker;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

pub use handle::{Failure, Handle, Totals};
pub use negotiate::Offloads;
pub use queue::{Queue, Received, Slot};
pub use sys::bind_to_link;
pub use worker::{Engine, now, resume, start};

/// Options of a TUN interface and its workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Name of the interface: 1 to 15 bytes without `/` and white space. The kernel replaces `%d`
    /// by a number.
    pub name: String,
    /// Number of queues, and so of workers: 1 to 256.
    pub queues: usize,
    /// The work that the kernel may offload, as far as it supports it. Fewer offloads than all make
    /// the TUN slow; they are for debugging.
    pub offloads: Offloads,
    /// Whether each worker stays on a processor of its own.
    pub pin: bool,
    /// Nice value of the workers, -20 to 19; `None` keeps that of the process.
    pub nice: Option<i8>,
    /// Longest backlog of one queue in packets; `None` is the kernel's default (500).
    pub queue_length: Option<u32>,
}

/// An open TUN interface with its queues.
#[derive(Debug)]
pub struct Tun {
    name: String,
    offloads: Offloads,
    queues: Vec<Queue>,
    pin: bool,
    nice: Option<i8>,
}

/// Most queues that the kernel gives a TUN (`MAX_TAP_QUEUES`).
pub const MAX_QUEUES: usize = 256;

impl Options {
    /// One queue, and every offload the kernel has.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            queues: 1,
            offloads: Offloads::ALL,
            pin: false,
            nice: None,
            queue_length: None,
        }
    }

    /// The same with other offloads.
    #[must_use]
    pub fn offloads(mut self, offloads: Offloads) -> Self {
        self.offloads = offloads;
        self
    }

    /// The same with `queues` queues.
    #[must_use]
    pub fn queues(mut self, queues: usize) -> Self {
        self.queues = queues;
        self
    }

    fn check(&self) -> Result<(), OpenError> {
        if !is_interface_name(&self.name) {
            return Err(OpenError::Name(self.name.clone()));
        }
        if !(1..=MAX_QUEUES).contains(&self.queues) {
            return Err(OpenError::Queues(self.queues));
        }
        Ok(())
    }
}

impl Tun {
    /// Creates the interface in the caller's network namespace.
    ///
    /// # Errors
    /// If the system refuses. The message says what to do about it. Nothing is left behind.
    pub fn open(options: &Options) -> Result<Self, OpenError> {
        options.check()?;
        let first = sys::open().map_err(OpenError::device)?;
        let features = sys::features(first.as_fd()).map_err(OpenError::Kernel)?;
        let flags = interface_flags(options.queues > 1);
        if features & u32::from(flags) != u32::from(flags) {
            return Err(OpenError::TooOld);
        }

        // The first queue creates the interface and must not join an existing one: a second process
        // would silently take a share of the packets.
        let name = sys::attach(first.as_fd(), &options.name, flags | sys::IFF_TUN_EXCL)
            .map_err(|error| OpenError::attach(&options.name, error))?;
        set_header(first.as_fd()).map_err(OpenError::Kernel)?;
        let set = |set: Offloads| sys::set_offload(first.as_fd(), set.bits());
        let offloads = negotiate::negotiate(options.offloads, set).map_err(OpenError::Kernel)?;
        if let Some(length) = options.queue_length {
            sys::set_queue_length(&name, length).map_err(OpenError::Kernel)?;
        }

        let mut queues = vec![Queue::new(first, &name).map_err(OpenError::Kernel)?];
        while queues.len() < options.queues {
            let more = sys::open().map_err(OpenError::device)?;
            sys::attach(more.as_fd(), &name, flags)
                .map_err(|error| OpenError::attach(&name, error))?;
            queues.push(Queue::new(more, &name).map_err(OpenError::Kernel)?);
        }
        tracing::info!(interface = %name, queues = queues.len(), %offloads, "TUN interface opened");
        Ok(Self {
            name,
            offloads,
            queues,
            pin: options.pin,
            nice: options.nice,
        })
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The offloads that the kernel accepted.
    pub fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// Number of queues.
    pub fn queues(&self) -> usize {
        self.queues.len()
    }

    /// The queues, for a caller that does not use [`start`]. The interface disappears with the last
    /// of them.
    pub fn into_queues(self) -> Vec<Queue> {
        self.queues
    }
}

fn interface_flags(multi_queue: bool) -> u16 {
    let flags = sys::IFF_TUN | sys::IFF_NO_PI | sys::IFF_VNET_HDR;
    if multi_queue {
        flags | sys::IFF_MULTI_QUEUE
    } else {
        flags
    }
}

/// Sets a header of ten bytes in the machine's byte order, explicitly, although both are the
/// defaults of a new interface.
fn set_header(fd: BorrowedFd<'_>) -> io::Result<()> {
    sys::set_header_size(fd, vnet::HEADER_LEN as i32)?;
    unless_unknown(sys::set_little_endian(fd, cfg!(target_endian = "little")))
}

/// Accepts that the kernel does not know a request for its default. A kernel without the request
/// (Linux before 3.19) has no other byte order than the machine's.
fn unless_unknown(answer: io::Result<()>) -> io::Result<()> {
    match answer {
        Err(error)
            if matches!(
                Errno::from_io_error(&error),
                Some(Errno::INVAL | Errno::NOTTY)
            ) =>
        {
            Ok(())
        }
        answer => answer,
    }
}

/// True for a name that the kernel accepts for an interface (`dev_valid_name`).
fn is_interface_name(name: &str) -> bool {
    let length_fits = (1..sys::NAME_SIZE).contains(&name.len());
    let forbidden = |c: char| c == '/' || c == ':' || c == '\0' || c.is_whitespace();
    length_fits && name != "." && name != ".." && !name.contains(forbidden)
}

/// Why the TUN interface cannot be opened, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The name is not valid for an interface.
    #[error("`{0}` is not an interface name: it takes 1 to 15 bytes without `/`, `:` and spaces")]
    Name(String),
    /// The number of queues is out of range.
    #[error("{0} queues are not possible: a TUN has 1 to {MAX_QUEUES}")]
    Queues(usize),
    /// `/dev/net/tun` does not exist.
    #[error(
        "/dev/net/tun is missing: load the module (`modprobe tun`), or give the container this \
        device"
    )]
    NoDevice,
    /// The process may not open `/dev/net/tun`.
    #[error("no permission to open /dev/net/tun: run as root or let this user open it")]
    DevicePermission,
    /// The process may not create the interface.
    #[error("no permission to make the interface {0}: run as root or with CAP_NET_ADMIN")]
    Permission(String),
    /// Another interface has the name.
    #[error(
        "an interface {0} exists, perhaps of another running process: stop that one, delete the \
         interface (`ip link delete {0}`), or choose another name with --tun"
    )]
    InUse(String),
    /// The kernel lacks a virtio-net header or several queues.
    #[error("this kernel's TUN has no virtio-net header or multiple queues: Linux 3.8 is needed")]
    TooOld,
    /// Any other error of the kernel.
    #[error("the kernel refused the TUN interface: {0}")]
    Kernel(#[source] io::Error),
}

impl OpenError {
    /// Classifies an error of opening `/dev/net/tun`.
    fn device(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => Self::NoDevice,
            Some(Errno::PERM | Errno::ACCESS) => Self::DevicePermission,
            _ => Self::Kernel(error),
        }
    }

    /// Classifies an error of `TUNSETIFF`. `EINVAL` is an interface of that name that is not a TUN
    /// of this kind.
    fn attach(name: &str, error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(Errno::BUSY | Errno::EXIST | Errno::INVAL) => Self::InUse(name.to_owned()),
            Some(Errno::PERM | Errno::ACCESS) => Self::Permission(name.to_owned()),
            _ => Self::Kernel(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_are_checked_before_the_kernel_is_asked() {
        for name in ["clat", "nat64", "tun%d", "fifteen-bytes-x"] {
            assert!(Options::new(name).check().is_ok(), "{name}");
        }
        for name in [
            "",
            "sixteen-bytes-xx",
            "a/b",
            "a b",
            "a:1",
            ".",
            "..",
            "a\0",
        ] {
            let error = Options::new(name).check().expect_err(name);
            assert!(matches!(error, OpenError::Name(_)), "{name}");
        }
    }

    #[test]
    fn a_number_of_queues_that_cannot_be_is_refused() {
        for queues in [0, 257] {
            let error = Options::new("t").queues(queues).check().expect_err("range");
            assert!(matches!(error, OpenError::Queues(_)));
        }
    }

    #[test]
    fn a_kernel_without_a_choice_of_byte_order_will_do() {
        for unknown in [Errno::INVAL, Errno::NOTTY] {
            assert!(unless_unknown(Err(unknown.into())).is_ok());
        }
        assert!(unless_unknown(Err(Errno::BADFD.into())).is_err());
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        let errno = |number| io::Error::from(number);
        let text = |error: OpenError| error.to_string();
        assert!(text(OpenError::device(errno(Errno::NOENT))).contains("modprobe tun"));
        assert!(text(OpenError::device(errno(Errno::ACCESS))).contains("root"));
        assert!(text(OpenError::attach("clat", errno(Errno::PERM))).contains("CAP_NET_ADMIN"));
        let busy = text(OpenError::attach("clat", errno(Errno::BUSY)));
        assert!(busy.contains("clat") && busy.contains("--tun"), "{busy}");
        assert!(text(OpenError::attach("clat", errno(Errno::NOMEM))).contains("memory"));
    }
}
