//! State of a NAT64.
#![forbid(unsafe_code)]
