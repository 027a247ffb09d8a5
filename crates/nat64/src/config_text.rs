//! Parts of the configuration as text: port forwards, destinations, port blocks.

use std::fmt;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use thiserror::Error;

use crate::Protocol;
use crate::config::{Destination, PortBlocks, StaticBinding};

/// Text that is not of the form that it should have; the message gives the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ParseError(&'static str);

impl FromStr for StaticBinding {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: ParseError =
            ParseError("not of the form tcp:192.0.2.1:443=[2001:db8::10]:8443");
        let (outside, inside) = text.split_once('=').ok_or(FORM)?;
        let (protocol, outside) = outside.split_once(':').ok_or(FORM)?;
        let protocol = Protocol::ALL
            .into_iter()
            .find(|one| one.name() == protocol)
            .ok_or(ParseError("the protocol is tcp, udp or icmp"))?;
        let (external, external_port) = outside.split_once(':').ok_or(FORM)?;
        let (client, client_port) = inside
            .strip_prefix('[')
            .and_then(|inside| inside.split_once("]:"))
            .ok_or(FORM)?;
        let binding = Self {
            protocol,
            external: external.parse().map_err(|_| FORM)?,
            external_port: external_port.parse().map_err(|_| FORM)?,
            client: client.parse().map_err(|_| FORM)?,
            client_port: client_port.parse().map_err(|_| FORM)?,
        };
        let has_port_0 = binding.external_port == 0 || binding.client_port == 0;
        if has_port_0 && protocol != Protocol::Icmp {
            return Err(ParseError("there is no port 0"));
        }
        if binding.client == Ipv6Addr::UNSPECIFIED {
            return Err(ParseError("the client is no address"));
        }
        Ok(binding)
    }
}

impl fmt::Display for StaticBinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            protocol,
            external,
            external_port,
            client,
            client_port,
        } = self;
        let protocol = protocol.name();
        write!(
            f,
            "{protocol}:{external}:{external_port}=[{client}]:{client_port}"
        )
    }
}

impl FromStr for Destination {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: ParseError =
            ParseError("not of the form 192.0.2.0/24, 192.0.2.1:25 or 192.0.2.1:137-139");
        let (prefix, ports) = match text.split_once(':') {
            None => (text, None),
            Some((prefix, ports)) => (prefix, Some(port_range(ports).ok_or(FORM)?)),
        };
        let prefix = prefix.parse().map_err(|_| FORM)?;
        Ok(Self { prefix, ports })
    }
}

fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.parse().ok()?..=last.parse().ok()?;
    (!range.is_empty()).then_some(range)
}

impl FromStr for PortBlocks {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: ParseError = ParseError("not of the form 512x4 or 512");
        let (size, count) = text.split_once('x').unwrap_or((text, "4"));
        Ok(Self {
            size: size.parse().map_err(|_| FORM)?,
            per_subscriber: count.parse().map_err(|_| FORM)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_forward_reads_as_it_is_written() {
        let text = "tcp:192.0.2.1:443=[2001:db8::10]:8443";
        let bind: StaticBinding = text.parse().unwrap();
        assert_eq!(bind.to_string(), text);
        assert_eq!(bind.external_port, 443);
        assert_eq!(bind.client_port, 8443);
        for wrong in [
            "192.0.2.1:443=[2001:db8::10]:8443",
            "sctp:192.0.2.1:443=[2001:db8::10]:8443",
            "tcp:192.0.2.1=[2001:db8::10]:8443",
            "tcp:192.0.2.1:443=2001:db8::10:8443",
            "tcp:192.0.2.1:443",
            "tcp:192.0.2.1:0=[2001:db8::10]:8443",
            "tcp:192.0.2.1:443=[::]:8443",
        ] {
            assert!(wrong.parse::<StaticBinding>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn cg_03_destinations_can_be_denied_with_and_without_ports() {
        let all: Destination = "192.0.2.0/24".parse().unwrap();
        assert_eq!(all.ports, None);
        let mail: Destination = "0.0.0.0/0:25".parse().unwrap();
        assert_eq!(mail.ports, Some(25..=25));
        let some: Destination = "192.0.2.1:137-139".parse().unwrap();
        assert_eq!(some.ports, Some(137..=139));
        for wrong in ["192.0.2.1:9-8", "192.0.2.1:", "x", "192.0.2.1/24"] {
            assert!(wrong.parse::<Destination>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_subscriber_has_four_blocks_unless_another_number_is_given() {
        let blocks = |size, per_subscriber| PortBlocks {
            size,
            per_subscriber,
        };
        assert_eq!("512".parse(), Ok(blocks(512, 4)));
        assert_eq!("512x8".parse(), Ok(blocks(512, 8)));
        assert!("x4".parse::<PortBlocks>().is_err() && "512x".parse::<PortBlocks>().is_err());
    }
}
