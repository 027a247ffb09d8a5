//! A pool as it is written: IPv4 addresses of its own, or the address of an interface.

use std::str::FromStr;

use nat64::PoolSpec;

use super::own_address::InterfacePool;

/// What clients share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Addresses that nobody else has.
    Addresses(PoolSpec),
    /// Ports of an address of this host.
    Interface(InterfacePool),
}

impl FromStr for Pool {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = match text.parse::<PoolSpec>() {
            Ok(spec) => return Ok(Self::Addresses(spec)),
            Err(error) => error,
        };
        let name = text.split(':').next().unwrap_or_default();
        if name.contains(char::is_alphabetic) {
            return text.parse().map(Self::Interface);
        }
        Err(format!("{error}, nor an interface [:PORT-PORT]"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oa_01_addresses_and_interfaces_are_told_apart() {
        for addresses in ["192.0.2.1", "192.0.2.0/28:1024-2047", "192.0.2.1-192.0.2.9"] {
            let pool = addresses.parse();
            assert!(matches!(pool, Ok(Pool::Addresses(_))), "{addresses}");
        }
        for interface in ["wan0", "ppp0:20000-29999", "464eth"] {
            let pool = interface.parse();
            assert!(matches!(pool, Ok(Pool::Interface(_))), "{interface}");
        }
        for wrong in ["192.0.2", "192.0.2.1:5", "wan0:x", ""] {
            assert!(wrong.parse::<Pool>().is_err(), "{wrong}");
        }
    }
}
