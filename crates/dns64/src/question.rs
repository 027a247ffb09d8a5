//! A client's question, and the query to an upstream resolver.

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::RecordType;

/// A question. Clients with equal questions get the same answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// The name in lower case, type and class.
    pub(crate) query: Query,
    /// The DO flag: the client asks for signatures (RFC 4035 section 3.2.1).
    pub(crate) dnssec_ok: bool,
    /// The CD flag: the client validates signatures itself (RFC 4035 section 3.2.2).
    pub(crate) checking_disabled: bool,
    /// The client is not one that addresses are made for.
    pub(crate) is_plain: bool,
}

/// A query to an upstream resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The name, type and class.
    pub query: Query,
    /// The DO flag.
    pub dnssec_ok: bool,
    /// The CD flag.
    pub checking_disabled: bool,
}

impl Question {
    /// Parses the question of a query.
    ///
    /// # Errors
    /// The response code for a query without a question that can be looked up (RFC 1035 section
    /// 4.1.1, RFC 6891 section 6.1.3, RFC 9619).
    pub fn of(request: &Message) -> Result<Self, ResponseCode> {
        let edns = request.edns.as_ref();
        if request.metadata.op_code != OpCode::Query {
            return Err(ResponseCode::NotImp);
        }
        if edns.is_some_and(|edns| edns.version() != 0) {
            return Err(ResponseCode::BADVERS);
        }
        let [query] = request.queries.as_slice() else {
            return Err(ResponseCode::FormErr);
        };
        // Zone transfers are not for a resolver.
        if matches!(query.query_type, RecordType::AXFR | RecordType::IXFR) {
            return Err(ResponseCode::Refused);
        }
        let mut query = query.clone();
        query.name = query.name.to_lowercase();
        Ok(Self {
            query,
            dnssec_ok: edns.is_some_and(|edns: &Edns| edns.flags().dnssec_ok),
            checking_disabled: request.metadata.checking_disabled,
            is_plain: false,
        })
    }

    /// The same of a client that no addresses are made for.
    #[must_use]
    pub fn plain(self) -> Self {
        Self {
            is_plain: true,
            ..self
        }
    }

    /// The upstream query for the same name and type, or for another.
    pub(crate) fn ask(&self, query: Query) -> Ask {
        Ask {
            query,
            dnssec_ok: self.dnssec_ok,
            checking_disabled: self.checking_disabled,
        }
    }
}
