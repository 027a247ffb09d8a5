//! Why the kernel refused a request: the error number, and the kernel's own words where it has some
//! (`NETLINK_EXT_ACK`).

use rustix::io::Errno;

use super::io_error;
use crate::host::error::Error;

/// The refusal of `what`. Only EPERM is a lack of privileges: EACCES has other causes, for example
/// that IPv6 is disabled on an interface.
pub(super) fn refused(what: String, error: rtnetlink::Error) -> Error {
    let source = io_error(&error);
    if source.raw_os_error() == Some(Errno::PERM.raw_os_error()) {
        return Error::Permission { what };
    }
    let words = match &error {
        rtnetlink::Error::NetlinkError(message) => reason(&message.header),
        _ => None,
    };
    let what = match words {
        Some(words) => format!("{what}: {words}"),
        None => what,
    };
    Error::Kernel { what, source }
}

/// The text in an error message, whose `body` is the request followed by attributes.
fn reason(body: &[u8]) -> Option<String> {
    const TEXT: u16 = 1;
    let length = u32::from_ne_bytes(body.first_chunk().copied()?);
    let mut rest = body.get(aligned(length as usize)..)?;
    loop {
        let length = u16::from_ne_bytes(rest.first_chunk().copied()?);
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        let value = rest.get(4..usize::from(length))?;
        if kind == TEXT {
            let text = value.split(|byte| *byte == 0).next()?;
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        rest = rest.get(aligned(length.into())..)?;
    }
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::ErrorMessage;

    use super::*;

    fn error(code: i32, header: Vec<u8>) -> rtnetlink::Error {
        let mut message = ErrorMessage::default();
        message.code = std::num::NonZeroI32::new(code);
        message.header = header;
        rtnetlink::Error::NetlinkError(message)
    }

    /// A request of 16 bytes, an offset attribute (2), and the text.
    fn body(text: &[u8]) -> Vec<u8> {
        let mut body = 16_u32.to_ne_bytes().to_vec();
        body.extend([0; 12]);
        for (kind, value) in [(2_u16, &[0; 4][..]), (1, text)] {
            body.extend((4 + value.len() as u16).to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        body
    }

    #[test]
    fn fc_09_only_eperm_is_a_lack_of_privileges() {
        let (eperm, eacces) = (-1, -13);
        let text = |code, body| refused("add".into(), error(code, body)).to_string();
        let privileges = text(eperm, Vec::new());
        assert!(privileges.contains("run as root"), "{privileges}");
        let other = text(eacces, body(b"IPv6 is disabled on nexthop device\0"));
        assert_eq!(
            other,
            "add: IPv6 is disabled on nexthop device: Permission denied (os error 13)"
        );
        assert_eq!(
            text(eacces, Vec::new()),
            "add: Permission denied (os error 13)"
        );
    }

    #[test]
    fn a_message_that_is_cut_off_has_no_words() {
        let whole = body(b"why\0");
        for length in 0..whole.len() {
            assert_eq!(reason(&whole[..length]), None, "{length}");
        }
        assert_eq!(reason(&whole).as_deref(), Some("why"));
    }
}
