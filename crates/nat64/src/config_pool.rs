//! What follows from the pool in a configuration.

use std::net::Ipv4Addr;

use xlat_core::addr::Ipv4Prefix;

use crate::config::Config;
use crate::ports::pool_spec::PoolSpec;

/// No shard has fewer ports than this, unless it is the only one or the administrator says so.
const SHARD_PORTS_MIN: u64 = 16_384;

impl Config {
    /// The IPv4 prefixes whose packets belong to the translator: those of the pool, then the
    /// addresses of port forwards.
    pub fn ipv4_prefixes(&self) -> impl Iterator<Item = Ipv4Prefix> {
        let bound = self.bindings.iter().map(|bind| bind.external);
        self.pool
            .iter()
            .flat_map(PoolSpec::prefixes)
            .chain(bound.map(Ipv4Prefix::host))
    }

    /// True if `address` is one that clients share.
    pub fn shares(&self, address: Ipv4Addr) -> bool {
        self.ipv4_prefixes().any(|prefix| prefix.contains(address))
    }

    /// A number of shards for so many workers: two for each, but each with a fair number of ports
    /// of `pool` to hand out.
    pub fn sensible_shards(pool: &[PoolSpec], workers: usize) -> u32 {
        if workers == 1 {
            return 1;
        }
        let ports = |spec: &PoolSpec| {
            let addresses = spec.addresses.end().to_bits() - spec.addresses.start().to_bits();
            (u64::from(addresses) + 1) * spec.ports.len() as u64
        };
        let most = pool.iter().map(ports).sum::<u64>() / SHARD_PORTS_MIN;
        most.clamp(1, 2 * workers as u64) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_are_the_pool_and_the_addresses_of_port_forwards() {
        let mut config = Config::new(vec!["192.0.2.1-192.0.2.6".parse().unwrap()]);
        let bind = "udp:198.51.100.9:53=[2001:db8::1]:53".parse().unwrap();
        config.bindings.push(bind);
        let prefixes: Vec<String> = config.ipv4_prefixes().map(|one| one.to_string()).collect();
        let expected = [
            "192.0.2.1/32",
            "192.0.2.2/31",
            "192.0.2.4/31",
            "192.0.2.6/32",
        ];
        assert_eq!(prefixes[..4], expected);
        assert_eq!(prefixes[4], "198.51.100.9/32");
        assert!(config.shares("192.0.2.5".parse().unwrap()));
        assert!(!config.shares("192.0.2.7".parse().unwrap()));
    }
}
