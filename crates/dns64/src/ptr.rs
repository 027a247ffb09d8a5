//! PTR questions about addresses in a NAT64 prefix: an alias to the name of the embedded IPv4
//! address (RFC 6147 section 5.3.1).

use std::net::Ipv6Addr;

use hickory_proto::op::Query;
use hickory_proto::rr::{DNSClass, Name, RecordType};

use crate::rules::Rules;

/// The name under `in-addr.arpa` that answers a PTR question about a synthetic address.
pub(crate) fn target(rules: &Rules, query: &Query) -> Option<Name> {
    if query.query_type != RecordType::PTR || query.query_class != DNSClass::IN {
        return None;
    }
    let v4 = rules.extract(address(&query.name)?)?;
    Some(Name::from(v4))
}

/// The address that a name of 32 nibbles under `ip6.arpa` encodes (RFC 3596 section 2.5).
fn address(name: &Name) -> Option<Ipv6Addr> {
    let labels: Vec<&[u8]> = name.iter().collect();
    let [nibbles @ .., ip6, arpa] = labels.as_slice() else {
        return None;
    };
    let is_tree = ip6.eq_ignore_ascii_case(b"ip6") && arpa.eq_ignore_ascii_case(b"arpa");
    if !is_tree || nibbles.len() != 32 {
        return None;
    }
    let mut bits = 0_u128;
    for label in nibbles.iter().rev() {
        let [digit] = label else { return None };
        bits = bits << 4 | u128::from(char::from(*digit).to_digit(16)?);
    }
    Some(Ipv6Addr::from_bits(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(prefix: &str, address: &str) -> Option<String> {
        let rules = Rules::new(vec![prefix.parse().unwrap()]);
        let name = Name::from(address.parse::<Ipv6Addr>().unwrap());
        let target = target(&rules, &Query::query(name, RecordType::PTR));
        target.map(|name| name.to_ascii())
    }

    #[test]
    fn dn_17_addresses_of_all_six_lengths_lead_to_their_ipv4_names() {
        for (prefix, address) in [
            ("2001:db8::/32", "2001:db8:c000:221::"),
            ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
            ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
            ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
            ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
            ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
        ] {
            let expected = Some("33.2.0.192.in-addr.arpa.".to_owned());
            assert_eq!(found(prefix, address), expected, "{prefix}");
        }
        assert_eq!(found("64:ff9b::/96", "2001:db8::1"), None);
    }

    #[test]
    fn dn_17_the_well_known_prefix_counts_beside_a_networks_own() {
        let expected = Some("33.2.0.192.in-addr.arpa.".to_owned());
        assert_eq!(found("2001:db8::/32", "64:ff9b::192.0.2.33"), expected);
    }

    #[test]
    fn dn_17_other_names_are_ordinary_ones() {
        let rules = Rules::new(vec!["64:ff9b::/96".parse().unwrap()]);
        for name in ["arpa.", "ip6.arpa.", "1.ip6.arpa.", "example.org.", "."] {
            let query = Query::query(Name::from_ascii(name).unwrap(), RecordType::PTR);
            assert_eq!(target(&rules, &query), None, "{name}");
        }
        let whole = Name::from("64:ff9b::1".parse::<Ipv6Addr>().unwrap());
        let wrong_type = Query::query(whole, RecordType::TXT);
        assert_eq!(target(&rules, &wrong_type), None);
    }
}
