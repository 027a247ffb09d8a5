//! What the program has to know of the translator's policy.

use std::net::{Ipv4Addr, Ipv6Addr};

use xlat_core::Policy;
use xlat_core::policy::{MssClamp, TrafficClass};

use crate::layout::{Config, halves};

/// The part of a [`Policy`] that packets of an established flow meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    mtu4: u16,
    mtu6: u16,
    lowest_ipv6_mtu: u16,
    tos: Option<u8>,
    traffic_class: Option<u8>,
    own_v4: Option<Ipv4Addr>,
    own_v6: Option<Ipv6Addr>,
    clamps: bool,
}

impl From<&Policy> for Rules {
    fn from(policy: &Policy) -> Self {
        let fixed = |class| match class {
            TrafficClass::Copy => None,
            TrafficClass::Fixed(value) => Some(value),
        };
        Self {
            mtu4: policy.mtu4,
            mtu6: policy.mtu6,
            lowest_ipv6_mtu: policy.lowest_ipv6_mtu,
            tos: fixed(policy.tos),
            traffic_class: fixed(policy.traffic_class),
            own_v4: policy.answer_v4.then_some(policy.own_v4),
            own_v6: policy.answer_v6.then_some(policy.own_v6),
            clamps: policy.mss_clamp != MssClamp::Off,
        }
    }
}

impl Rules {
    /// Puts the rules into a configuration.
    pub(crate) fn write(&self, config: &mut Config) {
        config.mtu4 = self.mtu4.into();
        config.mtu6 = self.mtu6.into();
        config.cut6 = self.mtu6.min(self.lowest_ipv6_mtu).into();
        config.tos = self.tos.unwrap_or(0).into();
        config.traffic_class = self.traffic_class.unwrap_or(0).into();
        config.own4 = self.own_v4.map_or(0, Ipv4Addr::to_bits);
        config.own6 = self.own_v6.map(halves).map_or([0; 2], |(hi, lo)| [hi, lo]);
        config.set_flag(Config::TOS, self.tos.is_some());
        config.set_flag(Config::TRAFFIC_CLASS, self.traffic_class.is_some());
        config.set_flag(Config::OWN4, self.own_v4.is_some());
        config.set_flag(Config::OWN6, self.own_v6.is_some());
        config.set_flag(Config::CLAMP, self.clamps);
    }
}
