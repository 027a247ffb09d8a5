//! The free ports of one pool address for one protocol, and which of them a client gets.
//!
//! Ports fall into four classes: below 1024 or not, even or odd. A client keeps its port's range
//! (RFC 4787 REQ-3a) and, for UDP, its parity (REQ-4) as long as such a port is free. Within a
//! class the first free port from a random place is taken (RFC 6056), which takes the same few
//! steps whether the class is empty or nearly full.

use std::ops::RangeInclusive;

use crate::table::bitset::BitSet;
use crate::tuple::Protocol;

/// A set of free ports.
#[derive(Clone, Debug)]
pub(crate) struct PortSet {
    classes: [BitSet; 4],
}

impl PortSet {
    /// The ports of these ranges.
    pub(crate) fn new(ranges: &[RangeInclusive<u16>]) -> Self {
        let classes = [0, 1, 2, 3].map(|class| {
            let class = Class(class);
            let mut set = BitSet::new(class.len());
            for range in ranges {
                if let Some((first, last)) = class.within(range) {
                    set.insert_range(first, last);
                }
            }
            set
        });
        Self { classes }
    }

    pub(crate) fn len(&self) -> u32 {
        self.classes.iter().map(BitSet::len).sum()
    }

    pub(crate) fn insert(&mut self, port: u16) -> bool {
        let (class, index) = Class::of(port);
        self.classes[class.0].insert(index)
    }

    pub(crate) fn remove(&mut self, port: u16) -> bool {
        let (class, index) = Class::of(port);
        self.classes[class.0].remove(index)
    }

    /// Takes a free port within `range`, as near to the `wish` as there is one.
    pub(crate) fn take(
        &mut self,
        wish: PortPreference,
        range: RangeInclusive<u16>,
        random: u64,
    ) -> Option<u16> {
        for class in wish.classes(random) {
            let Some((first, last)) = class.within(&range) else {
                continue;
            };
            let span = u64::from(last - first + 1);
            let start = first + (((random >> 32) * span) >> 32) as u32;
            let set = &mut self.classes[class.0];
            let after = set.next_from(start).filter(|&index| index <= last);
            let found = after.or_else(|| set.next_from(first).filter(|&index| index < start));
            if let Some(index) = found {
                set.remove(index);
                return Some(class.port(index));
            }
        }
        None
    }
}

/// What a client's own port asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PortPreference {
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    /// Keep the port's parity (UDP only).
    pub(crate) parity: bool,
}

impl PortPreference {
    /// The classes to try, best first.
    fn classes(self, random: u64) -> [Class; 4] {
        let port = match self.protocol {
            Protocol::Icmp => random as u16,
            Protocol::Udp | Protocol::Tcp => self.port,
        };
        let best = match self.protocol {
            Protocol::Udp if self.parity => Class::of(port).0.0,
            _ => Class::of(port).0.0 & HIGH | (random >> 16) as usize & ODD,
        };
        [0, ODD, HIGH, HIGH | ODD].map(|other| Class(best ^ other))
    }
}

/// Number of a class: [`HIGH`] and [`ODD`] or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Class(usize);

const ODD: usize = 1;
const HIGH: usize = 2;
/// Number of ports in the lower range, those that are reserved for the system.
const LOW_PORTS: u32 = 1024;

impl Class {
    /// A port's class, and its place there.
    fn of(port: u16) -> (Self, u32) {
        let port = u32::from(port);
        let class = if port < LOW_PORTS { 0 } else { HIGH } | (port & 1) as usize;
        let class = Self(class);
        (class, (port - class.base()) / 2)
    }

    fn port(self, index: u32) -> u16 {
        (self.base() + 2 * index) as u16
    }

    /// The class's lowest port.
    fn base(self) -> u32 {
        let range = if self.0 & HIGH == 0 { 0 } else { LOW_PORTS };
        range + (self.0 & ODD) as u32
    }

    fn len(self) -> u32 {
        if self.0 & HIGH == 0 {
            LOW_PORTS / 2
        } else {
            (65_536 - LOW_PORTS) / 2
        }
    }

    /// The first and the last place whose ports are in `range`.
    fn within(self, range: &RangeInclusive<u16>) -> Option<(u32, u32)> {
        let (base, from, to) = (
            self.base(),
            u32::from(*range.start()),
            u32::from(*range.end()),
        );
        let first = from.saturating_sub(base).div_ceil(2);
        let last = (to.checked_sub(base)? / 2).min(self.len() - 1);
        (first <= last).then_some((first, last))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn np_03_np_04_a_free_class_gives_a_port_of_the_same_range_and_parity() {
        for port in [1, 2, 1023, 1024, 1025, 40_000, 65_535] {
            for random in randoms(50) {
                let got = all().take(udp(port), 0..=65_535, random).unwrap();
                assert_eq!(got < 1024, port < 1024, "{port} {got}");
                assert_eq!(got % 2, port % 2, "{port} {got}");
            }
        }
    }

    #[test]
    fn np_03_the_other_range_is_used_only_when_none_is_free() {
        let mut ports = PortSet::new(&[81..=81, 2000..=2000]);
        assert_eq!(ports.take(udp(80), 0..=65_535, 7), Some(81));
        assert_eq!(ports.take(udp(80), 0..=65_535, 7), Some(2000));
        assert_eq!(ports.take(udp(80), 0..=65_535, 7), None);
    }

    #[test]
    fn np_06_consecutive_ports_are_spread_and_not_in_sequence() {
        let mut ports = all();
        let taken: Vec<i32> = randoms(1000)
            .map(|random| i32::from(ports.take(tcp(5000), 0..=65_535, random).unwrap()))
            .collect();
        let near = taken
            .windows(2)
            .filter(|pair| (pair[0] - pair[1]).abs() < 100);
        assert!(near.count() < 20);
        for quarter in 0..4 {
            let of_quarter = taken
                .iter()
                .filter(|&&port| port / 16_384 == quarter)
                .count();
            assert!((180..320).contains(&of_quarter), "{quarter}: {of_quarter}");
        }
    }

    #[test]
    fn np_07_icmp_identifiers_come_from_the_whole_range() {
        let mut ids = all();
        let wish = PortPreference {
            protocol: Protocol::Icmp,
            port: 1,
            parity: true,
        };
        let mut got: Vec<u16> = randoms(65_536)
            .map(|random| ids.take(wish, 0..=65_535, random).unwrap())
            .collect();
        got.sort_unstable();
        assert_eq!(got, (0..=65_535).collect::<Vec<u16>>());
        assert_eq!(ids.len(), 0);
    }

    proptest! {
        #[test]
        fn a_port_is_found_exactly_if_one_is_free_in_the_range(
            free in prop::collection::btree_set(any::<u16>(), 0..20),
            (one, other) in any::<(u16, u16)>(),
            port in any::<u16>(),
            random in any::<u64>(),
        ) {
            let range = one.min(other)..=one.max(other);
            let mut ports = PortSet::new(&[]);
            for &port in &free {
                ports.insert(port);
            };
            let inside = free.range(range.clone()).count();
            for _ in 0..inside {
                let got = ports.take(udp(port), range.clone(), random).unwrap();
                prop_assert!(range.contains(&got) && free.contains(&got));
            }
            prop_assert_eq!(ports.take(udp(port), range.clone(), random), None);
            prop_assert_eq!(ports.len() as usize, free.len() - inside);
        }
    }

    fn all() -> PortSet {
        PortSet::new(&[0..=u16::MAX])
    }

    fn udp(port: u16) -> PortPreference {
        PortPreference {
            protocol: Protocol::Udp,
            port,
            parity: true,
        }
    }

    fn tcp(port: u16) -> PortPreference {
        PortPreference {
            protocol: Protocol::Tcp,
            port,
            parity: false,
        }
    }

    fn randoms(count: u64) -> impl Iterator<Item = u64> {
        let key = crate::siphash::SipKey::new([5, 6]);
        (0..count).map(move |number| key.hash([number]))
    }
}
