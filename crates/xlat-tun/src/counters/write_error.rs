//! Writes that failed, by kind.

use std::io;

use rustix::io::Errno;

use super::cell::{Counter, Each, Per};

crate::labels! {
    /// Why a packet could not be written.
    pub enum WriteError: "reason", zeros in metrics false, in JSON true;

    /// The interface is down (`EIO`).
    InterfaceDown = "interface-down",
    /// The kernel found the packet or its virtio-net header wrong (`EINVAL`).
    Invalid = "invalid",
    /// No memory or no room in a queue (`ENOBUFS`, `ENOMEM`, `EAGAIN`).
    NoRoom = "no-room",
    /// Anything else.
    Other = "other",
}

const KINDS: usize = WriteError::ALL.len();
/// Counters of one worker.
pub(super) type WriteErrorCounters = Each<WriteError, Counter, KINDS>;
/// One number per [`WriteError`].
pub type WriteErrors = Per<WriteError, KINDS>;

impl WriteError {
    /// Classifies an error of a write; `None` if the interface itself has disappeared.
    pub(crate) fn classify(error: &io::Error) -> Option<Self> {
        match Errno::from_io_error(error) {
            Some(Errno::BADFD | Errno::BADF | Errno::NODEV | Errno::PIPE) => None,
            Some(Errno::IO) => Some(Self::InterfaceDown),
            Some(Errno::INVAL | Errno::MSGSIZE) => Some(Self::Invalid),
            Some(Errno::NOBUFS | Errno::NOMEM | Errno::AGAIN) => Some(Self::NoRoom),
            _ => Some(Self::Other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lost_interface_is_fatal_for_a_write() {
        let classify = |errno: Errno| WriteError::classify(&errno.into());
        assert_eq!(classify(Errno::IO), Some(WriteError::InterfaceDown));
        assert_eq!(classify(Errno::INVAL), Some(WriteError::Invalid));
        assert_eq!(classify(Errno::NOBUFS), Some(WriteError::NoRoom));
        assert_eq!(classify(Errno::AGAIN), Some(WriteError::NoRoom));
        assert_eq!(classify(Errno::BADFD), None);
    }
}
