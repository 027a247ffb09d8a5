//! Programs that look at the packets of the TUN.
//!
//! What the program in the kernel carries never gets into the TUN, so that a capture there would show
//! one side of it alone. While one runs, the workers translate all packets.

use std::fs;

/// True if a packet socket hears everything on the interface with number `index`, or on all.
pub(crate) fn is_captured(index: u32) -> bool {
    let sockets = fs::read_to_string("/proc/thread-self/net/packet").unwrap_or_default();
    hears(&sockets, index)
}

/// Reads `/proc/net/packet`, which has a line with protocol and interface for each packet socket.
fn hears(sockets: &str, index: u32) -> bool {
    sockets.lines().skip(1).any(|line| {
        let mut words = line.split_whitespace().skip(3);
        let protocol = words
            .next()
            .and_then(|word| u16::from_str_radix(word, 16).ok());
        let interface = words.next().and_then(|word| word.parse::<u32>().ok());
        match protocol {
            Some(EVERYTHING) => interface == Some(0) || interface == Some(index),
            Some(IPV4 | IPV6) => interface == Some(index),
            _ => false,
        }
    })
}

/// `ETH_P_ALL`.
const EVERYTHING: u16 = 3;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kp_09_a_capture_is_a_socket_that_hears_everything_here_or_everywhere() {
        let file = |protocol: &str, interface: u32| {
            format!(
                "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n\
                 0000000000000000 3      3    {protocol}   {interface}     1 0      0      15022\n"
            )
        };
        for (protocol, interface, wanted) in [
            ("0003", 7, true),
            ("0003", 0, true),
            ("0003", 2, false),
            ("0800", 7, true),
            ("86dd", 7, true),
            ("0806", 0, false),
            ("0800", 0, false),
            ("0000", 7, false),
        ] {
            assert_eq!(
                hears(&file(protocol, interface), 7),
                wanted,
                "{protocol} {interface}"
            );
        }
        assert!(!hears("", 7));
    }
}
