//! In place of `tls` and `trust` in a build without the feature `tls`: no resolver over TLS can be named, so
//! no value of these types exists.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;

use hickory_proto::op::Message;
use thiserror::Error;

use crate::exchange::{ExchangeError, Request};

/// The name that a resolver proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerName(Infallible);

impl TryFrom<String> for ServerName {
    type Error = &'static str;

    fn try_from(_: String) -> Result<Self, &'static str> {
        Err("this program is built without DNS over TLS (its Cargo feature tls)")
    }
}

/// Root certificates of resolvers over TLS.
#[derive(Clone, Debug, PartialEq)]
pub struct Trust(Infallible);

/// Why no root certificates could be loaded.
#[derive(Debug, Error)]
pub enum TrustError {
    /// There is nothing to load them for.
    #[error("built without DNS over TLS")]
    BuiltWithout,
}

impl Trust {
    /// Loads nothing.
    ///
    /// # Errors
    /// Always.
    pub fn load(_: Option<&Path>) -> Result<Self, TrustError> {
        Err(TrustError::BuiltWithout)
    }
}

pub(crate) struct Tls(Infallible);

impl Tls {
    pub(crate) fn new(trust: &Trust) -> Self {
        Self(trust.0)
    }

    pub(crate) async fn exchange(
        &self,
        _: SocketAddr,
        _: &ServerName,
        _: &Request,
    ) -> Result<Message, ExchangeError> {
        match self.0 {}
    }
}
