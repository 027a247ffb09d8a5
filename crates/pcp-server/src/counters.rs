//! Counts requests, by what came of them.

use xlat_proto::pcp::ResultCode;
use xlat_tun::counters::{Metric, SharedCounter};

const REQUESTS: Metric = Metric::counter(
    "plat_pcp_requests_total",
    "PCP requests, by what came of them.",
);

xlat_tun::counters! {
    /// What is counted on all links together.
    cells Counters;
    /// The counters at one moment.
    values Figures;

    /// Carried out.
    done: SharedCounter => REQUESTS, "result=\"success\"";
    /// Refused: quota, policy, no port, another holder.
    refused: SharedCounter => REQUESTS, "result=\"refused\"";
    /// Malformed or not understood.
    malformed: SharedCounter => REQUESTS, "result=\"malformed\"";
    /// No requests at all.
    ignored: SharedCounter => REQUESTS, "result=\"ignored\"";
}

impl Counters {
    /// Counts a datagram by the result code of its response, if it got one.
    pub(crate) fn count(&self, result: Option<u8>) {
        let is =
            |codes: &[ResultCode]| result.is_some_and(|it| codes.iter().any(|c| *c as u8 == it));
        let counter = match result {
            None => &self.ignored,
            _ if is(&[ResultCode::Success]) => &self.done,
            _ if is(&MALFORMED) => &self.malformed,
            Some(_) => &self.refused,
        };
        counter.add(1);
    }
}

/// The codes of requests that the server cannot read.
const MALFORMED: [ResultCode; 6] = [
    ResultCode::UnsuppVersion,
    ResultCode::MalformedRequest,
    ResultCode::UnsuppOpcode,
    ResultCode::UnsuppOption,
    ResultCode::MalformedOption,
    ResultCode::UnsuppProtocol,
];
