//! Names that the administrator gives addresses to, and the names of those addresses. Nobody else is
//! asked about them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::answer::Answer;
use crate::domain::Domain;

/// Lifetime of the records, in seconds.
const LIFETIME: u32 = 300;

/// A name with one of its addresses, written `NAME=ADDR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalAddress {
    name: Name,
    address: IpAddr,
}

impl FromStr for LocalAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, address) = text
            .split_once('=')
            .ok_or("not of the form NAME=ADDR, such as printer.example=192.0.2.9")?;
        let name = name.parse::<Domain>()?.name().clone();
        let address = address.parse().map_err(|_| "not an IP address")?;
        Ok(Self { name, address })
    }
}

/// What is wrong with a line of a file of hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostsError {
    /// Its number, from 1.
    pub line: usize,
    what: String,
}

impl fmt::Display for HostsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, what } = self;
        write!(f, "line {line}: {what}")
    }
}

impl std::error::Error for HostsError {}

/// Addresses by name, and names by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalRecords {
    addresses: BTreeMap<Name, Vec<IpAddr>>,
    /// By the name below `in-addr.arpa` or `ip6.arpa`.
    names: BTreeMap<Name, Vec<Name>>,
}

impl LocalRecords {
    /// Adds an address. The first name of an address is the one that it has.
    pub fn add(&mut self, LocalAddress { name, address }: LocalAddress) {
        let have = self.addresses.entry(name.clone()).or_default();
        if !have.contains(&address) {
            have.push(address);
        }
        let names = self.names.entry(Name::from(address)).or_default();
        if names.is_empty() {
            names.push(name);
        }
    }

    /// Adds the lines of a file such as `/etc/hosts`: an address, its name, and other names that it
    /// has.
    ///
    /// # Errors
    /// For the first line that is not of this form.
    pub fn add_hosts(&mut self, text: &str) -> Result<(), HostsError> {
        for (index, line) in text.lines().enumerate() {
            let error = |what: String| HostsError {
                line: index + 1,
                what,
            };
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let Some(first) = words.next() else {
                continue;
            };
            let address: IpAddr = first
                .parse()
                .map_err(|_| error(format!("`{first}` is no IP address")))?;
            let mut has_name = false;
            for word in words {
                let name = word.parse::<Domain>();
                let name = name.map_err(|what| error(format!("`{word}` is {what}")))?;
                let name = name.name().clone();
                self.add(LocalAddress { name, address });
                has_name = true;
            }
            if !has_name {
                return Err(error(format!("{address} has no name")));
            }
        }
        Ok(())
    }

    /// The answer; `None` for names that are not here.
    pub(crate) fn answer(&self, query: &Query) -> Option<Answer> {
        if self.addresses.is_empty() || query.query_class != DNSClass::IN {
            return None;
        }
        let kind = query.query_type;
        let data: Vec<RData> = match (self.addresses.get(&query.name), kind) {
            (Some(addresses), _) => addresses
                .iter()
                .filter_map(|one| record(*one, kind))
                .collect(),
            (None, RecordType::PTR | RecordType::ANY) => {
                let names = self.names.get(&query.name)?;
                names
                    .iter()
                    .map(|name| RData::PTR(PTR(name.clone())))
                    .collect()
            }
            (None, _) if self.names.contains_key(&query.name) => Vec::new(),
            (None, _) => return None,
        };
        let mut answer = Answer::empty(ResponseCode::NoError);
        if data.is_empty() {
            answer.authorities.push(authority(&query.name)?);
        }
        let owned = |data| Record::from_rdata(query.name.clone(), LIFETIME, data);
        answer.answers = data.into_iter().map(owned).collect();
        Some(answer)
    }
}

fn record(address: IpAddr, kind: RecordType) -> Option<RData> {
    let is_wanted = |own| kind == own || kind == RecordType::ANY;
    match address {
        IpAddr::V4(v4) => is_wanted(RecordType::A).then_some(RData::A(A(v4))),
        IpAddr::V6(v6) => is_wanted(RecordType::AAAA).then_some(RData::AAAA(AAAA(v6))),
    }
}

/// The record that lets "there is none" be kept (RFC 2308 section 3).
fn authority(name: &Name) -> Option<Record> {
    let contact = Name::from_ascii("nobody.invalid.").ok()?;
    let soa = SOA::new(name.clone(), contact, 1, 3600, 1200, 604_800, LIFETIME);
    Some(Record::from_rdata(name.clone(), LIFETIME, RData::SOA(soa)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(records: &LocalRecords, name: &str, kind: RecordType) -> Option<Vec<RData>> {
        let query = Query::query(Name::from_ascii(name).unwrap(), kind);
        let answer = records.answer(&query)?;
        Some(answer.answers.into_iter().map(|one| one.data).collect())
    }

    #[test]
    fn dn_38_names_of_a_file_have_addresses_and_addresses_names() {
        let mut records = LocalRecords::default();
        let text = "# office\n192.0.2.9\tPrinter.office printer # upstairs\n\n\
                    2001:db8::9 printer.office\n192.0.2.9 other.office\n";
        records.add_hosts(text).unwrap();
        let v4 = RData::A(A([192, 0, 2, 9].into()));
        let v6 = RData::AAAA(AAAA("2001:db8::9".parse().unwrap()));
        let pointer = RData::PTR(PTR(Name::from_ascii("printer.office.").unwrap()));
        for (name, kind, expected) in [
            ("printer.OFFICE.", RecordType::A, Some(vec![v4.clone()])),
            ("printer.office.", RecordType::AAAA, Some(vec![v6.clone()])),
            (
                "printer.office.",
                RecordType::ANY,
                Some(vec![v4.clone(), v6]),
            ),
            ("printer.", RecordType::A, Some(vec![v4])),
            ("printer.office.", RecordType::MX, Some(vec![])),
            (
                "9.2.0.192.in-addr.arpa.",
                RecordType::PTR,
                Some(vec![pointer]),
            ),
            ("9.2.0.192.in-addr.arpa.", RecordType::A, Some(vec![])),
            ("x.printer.office.", RecordType::A, None),
            ("8.2.0.192.in-addr.arpa.", RecordType::PTR, None),
        ] {
            assert_eq!(asked(&records, name, kind), expected, "{name} {kind}");
        }
    }

    #[test]
    fn dn_38_a_line_that_is_none_is_named() {
        for (text, expected) in [
            (
                "192.0.2.9 a\nprinter 192.0.2.9\n",
                "line 2: `printer` is no IP address",
            ),
            ("192.0.2.9 # printer", "line 1: 192.0.2.9 has no name"),
            (
                "192.0.2.9 a..b",
                "line 1: `a..b` is not the name of a domain, such as example.org",
            ),
        ] {
            let error = LocalRecords::default().add_hosts(text).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        for text in ["a", "a=b", "=192.0.2.1", "a=192.0.2.1,192.0.2.2"] {
            assert!(text.parse::<LocalAddress>().is_err(), "{text}");
        }
    }
}
