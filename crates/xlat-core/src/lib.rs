//! Pure IPv4/IPv6 translation.
#![no_std]
#![forbid(unsafe_code)]
