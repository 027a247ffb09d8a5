//! Negotiates with the kernel which work it may offload.
//!
//! Only the kernel's answer counts, not its version: distributions backport features. So all
//! offloads are requested at once, and if the kernel does not know one of them, they are requested
//! one by one, each together with those accepted before.

use std::fmt;
use std::io;
use std::ops::BitOr;

use rustix::io::Errno;

/// Kinds of work that the kernel may leave to the receiver of a packet (`TUN_F_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads(u32);

impl Offloads {
    /// Every packet arrives complete.
    pub const NONE: Self = Self(0);
    /// Transport checksums may hold only the pseudo-header.
    pub const CHECKSUM: Self = Self(0x01);
    /// TCP over IPv4 may arrive in super-packets.
    pub const TSO4: Self = Self(0x02);
    /// TCP over IPv6 may arrive in super-packets.
    pub const TSO6: Self = Self(0x04);
    /// TCP super-packets may carry CWR.
    pub const TSO_ECN: Self = Self(0x08);
    /// UDP may arrive in super-packets. The kernel has one bit per family and takes both or none
    /// (Linux 6.2).
    pub const USO: Self = Self(0x20 | 0x40);
    /// All kinds.
    pub const ALL: Self = Self(0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40);

    /// In the order of dependence: no segmentation without checksums.
    const STEPS: [(Self, &'static str); 5] = [
        (Self::CHECKSUM, "checksum"),
        (Self::TSO4, "tso4"),
        (Self::TSO6, "tso6"),
        (Self::TSO_ECN, "tso-ecn"),
        (Self::USO, "uso"),
    ];

    /// The bits of `TUNSETOFFLOAD`.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// True if this set contains all of `other`.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOr for Offloads {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl fmt::Display for Offloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (step, name) in Self::STEPS {
            if self.contains(step) {
                write!(f, "{separator}{name}")?;
                separator = " ";
            }
        }
        if *self == Self::NONE {
            f.write_str("none")?;
        }
        Ok(())
    }
}

/// Requests `wanted` through `set` (all or nothing, `EINVAL` for an unknown kind) and returns the
/// offloads in force at the end.
pub(super) fn negotiate(
    wanted: Offloads,
    mut set: impl FnMut(Offloads) -> io::Result<()>,
) -> io::Result<Offloads> {
    if accepts(set(wanted))? {
        return Ok(wanted);
    }
    let mut agreed = Offloads::NONE;
    for (step, _) in Offloads::STEPS {
        let more = agreed.with(step);
        if wanted.contains(step) && accepts(set(more))? {
            agreed = more;
        }
    }
    Ok(agreed)
}

fn accepts(answer: io::Result<()>) -> io::Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel that knows these bits and keeps the last set it accepted.
    struct Kernel {
        known: u32,
        in_force: Offloads,
    }

    impl Kernel {
        fn new(known: u32) -> Self {
            Self {
                known,
                in_force: Offloads::NONE,
            }
        }

        fn set(&mut self, offloads: Offloads) -> io::Result<()> {
            if offloads.bits() & !self.known != 0 {
                return Err(Errno::INVAL.into());
            }
            self.in_force = offloads;
            Ok(())
        }
    }

    #[track_caller]
    fn negotiates(known: u32, expected: &str) {
        let mut kernel = Kernel::new(known);
        let agreed = negotiate(Offloads::ALL, |set| kernel.set(set)).expect("no other error");
        assert_eq!(agreed, kernel.in_force);
        assert_eq!(agreed.to_string(), expected);
    }

    #[test]
    fn a_new_kernel_takes_everything() {
        negotiates(0x7f, "checksum tso4 tso6 tso-ecn uso");
    }

    #[test]
    fn a_kernel_before_6_2_takes_everything_but_uso() {
        negotiates(0x1f, "checksum tso4 tso6 tso-ecn");
    }

    #[test]
    fn features_are_dropped_one_by_one() {
        negotiates(0x01 | 0x02 | 0x60, "checksum tso4 uso");
        negotiates(0x01, "checksum");
        negotiates(0, "none");
    }

    #[test]
    fn what_was_not_wanted_is_not_asked_for() {
        let mut kernel = Kernel::new(0x7f);
        let agreed = negotiate(Offloads::NONE, |set| kernel.set(set)).expect("accepted");
        assert_eq!(agreed, Offloads::NONE);
    }

    #[test]
    fn another_error_ends_the_negotiation() {
        let refused = negotiate(Offloads::ALL, |_| Err(Errno::BADFD.into()));
        assert!(refused.is_err());
    }
}
