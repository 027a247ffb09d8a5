//! The chain of CNAME and DNAME records from the name of a question to the records of its type.
//!
//! Records of other names in an answer are ignored (RFC 2181 section 5.4.1).

use hickory_proto::op::Query;
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinDecodable as _;

/// Maximum number of aliases in a chain.
const LINKS_MAX: usize = 16;

/// The records of an answer that belong to a question.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    /// The aliases in the order of the chain, with their signatures.
    pub(crate) links: Vec<Record>,
    /// The name at the end of the chain.
    pub(crate) end: Name,
    /// The records of the question's type at that name, with their signatures.
    pub(crate) found: Vec<Record>,
}

impl Chain {
    /// A chain without records.
    pub(crate) fn empty(query: &Query) -> Self {
        Self {
            links: Vec::new(),
            end: query.name.clone(),
            found: Vec::new(),
        }
    }

    /// Follows the aliases; `None` if there are too many or they lead in a circle.
    pub(crate) fn follow(query: &Query, answers: &[Record]) -> Option<Self> {
        let records: Vec<&Record> = answers
            .iter()
            .filter(|record| record.dns_class == query.query_class)
            .collect();
        let mut chain = Self::empty(query);
        let mut left = LINKS_MAX;
        while let Some(target) = chain.step(query.query_type, &records) {
            left = left.checked_sub(1)?;
            chain.end = target;
        }
        let kind = query.query_type;
        let is_asked_for = |record: &&&Record| {
            let of_type = kind == RecordType::ANY || record.record_type() == kind;
            record.name == chain.end && (of_type || covers(record, kind))
        };
        let found = records.iter().filter(is_asked_for);
        chain.found = found.map(|record| (*record).clone()).collect();
        Some(chain)
    }

    /// All records, in order.
    pub(crate) fn into_records(self) -> Vec<Record> {
        self.links.into_iter().chain(self.found).collect()
    }

    /// Appends the alias of the name reached so far, and returns its target.
    fn step(&mut self, kind: RecordType, records: &[&Record]) -> Option<Name> {
        if matches!(kind, RecordType::CNAME | RecordType::ANY) {
            return None;
        }
        let name = self.end.clone();
        let alias = records.iter().find_map(|record| match &record.data {
            RData::CNAME(CNAME(target)) if record.name == name => Some((*record, target.clone())),
            _ => None,
        });
        let tree = records.iter().find_map(|record| {
            let target = renamed(record, &name)?;
            Some((*record, target))
        });
        match (alias, tree) {
            (None, None) => None,
            (Some((alias, target)), None) => {
                self.take(alias, records);
                Some(target)
            }
            (Some((alias, target)), Some((tree, renamed))) => {
                if target == renamed {
                    self.take(tree, records);
                }
                self.take(alias, records);
                Some(target)
            }
            // A client that does not know DNAME needs a CNAME (RFC 6672 section 3.1).
            (None, Some((tree, target))) => {
                self.take(tree, records);
                let alias = RData::CNAME(CNAME(target.clone()));
                self.links.push(Record::from_rdata(name, tree.ttl, alias));
                Some(target)
            }
        }
    }

    fn take(&mut self, link: &Record, records: &[&Record]) {
        if self.links.contains(link) {
            return;
        }
        self.links.push(link.clone());
        let is_signature =
            |record: &&&Record| record.name == link.name && covers(record, link.record_type());
        let signatures = records.iter().filter(is_signature);
        self.links
            .extend(signatures.map(|record| (*record).clone()));
    }
}

/// The target of a DNAME record for a name below its owner (RFC 6672 section 2.2).
fn renamed(record: &Record, name: &Name) -> Option<Name> {
    let RData::Unknown { code, rdata } = &record.data else {
        return None;
    };
    // `num_labels` does not count an asterisk.
    let below = name.iter().len().checked_sub(record.name.iter().len())?;
    if *code != RecordType::DNAME || below == 0 || !record.name.zone_of(name) {
        return None;
    }
    let target = Name::from_bytes(&rdata.anything).ok()?;
    Name::from_labels(name.iter().take(below).chain(target.iter())).ok()
}

/// True if the record is a signature over records of this type (RFC 4034 section 3.1.1).
fn covers(record: &Record, kind: RecordType) -> bool {
    let RData::Unknown { code, rdata } = &record.data else {
        return false;
    };
    *code == RecordType::RRSIG && rdata.anything.starts_with(&u16::from(kind).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::rdata::{A, NULL};
    use std::net::Ipv4Addr;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn cname(owner: &str, to: &str) -> Record {
        Record::from_rdata(name(owner), 60, RData::CNAME(CNAME(name(to))))
    }

    fn unknown(owner: &str, code: RecordType, rdata: &[u8]) -> Record {
        let rdata = NULL::with(rdata.to_vec());
        Record::from_rdata(name(owner), 60, RData::Unknown { code, rdata })
    }

    fn address(owner: &str) -> Record {
        Record::from_rdata(name(owner), 60, RData::A(A(Ipv4Addr::new(192, 0, 2, 1))))
    }

    fn follow(answers: &[Record]) -> Option<Vec<Record>> {
        let query = Query::query(name("n0.example."), RecordType::A);
        Chain::follow(&query, answers).map(Chain::into_records)
    }

    fn links(count: usize) -> Vec<Record> {
        let one = |n: usize| cname(&format!("n{n}.example."), &format!("N{}.example.", n + 1));
        (0..count).map(one).collect()
    }

    #[test]
    fn se_20_records_of_other_names_are_left_out() {
        let mut class = address("n0.example.");
        class.dns_class = hickory_proto::rr::DNSClass::CH;
        let foreign = [
            address("bank.example."),
            cname("other.example.", "n0.example."),
            class,
            unknown("other.example.", RecordType::RRSIG, &[0, 1, 8]),
        ];
        assert_eq!(follow(&foreign), Some(vec![]));
        let mut all = foreign.to_vec();
        all.push(address("N0.Example."));
        assert_eq!(follow(&all), Some(vec![address("n0.example.")]));
    }

    #[test]
    fn dn_33_sixteen_aliases_are_followed_and_no_more() {
        let mut answers = links(16);
        answers.push(address("n16.example."));
        // Their order in the answer does not matter.
        let mut shuffled = answers.clone();
        shuffled.reverse();
        assert_eq!(follow(&shuffled), Some(answers));
        let mut answers = links(17);
        answers.push(address("n17.example."));
        assert_eq!(follow(&answers), None);
        let circle = [
            cname("n0.example.", "a.example."),
            cname("a.example.", "n0.example."),
        ];
        assert_eq!(follow(&circle), None);
    }

    #[test]
    fn dn_07_a_renamed_tree_is_followed_with_its_signature() {
        let query = Query::query(name("n0.old.example."), RecordType::A);
        let tree = unknown("old.example.", RecordType::DNAME, b"\x03new\x04test\0");
        let signature = unknown("old.example.", RecordType::RRSIG, &[0, 39, 8]);
        let answers = [
            signature.clone(),
            address("n0.new.test."),
            unknown("n0.new.test.", RecordType::RRSIG, &[0, 28, 8]),
            tree.clone(),
        ];
        let chain = Chain::follow(&query, &answers).unwrap();
        let alias = cname("n0.old.example.", "n0.new.test.");
        assert_eq!(chain.links, [tree, signature, alias]);
        assert_eq!(chain.found, [address("n0.new.test.")]);
        // A name is not below itself.
        let query = Query::query(name("old.example."), RecordType::A);
        assert!(
            Chain::follow(&query, &answers[3..])
                .unwrap()
                .links
                .is_empty()
        );
    }
}
