//! DNS over TLS (RFC 7858): connections to upstream resolvers, kept for the next queries.

use std::cell::RefCell;
use std::net::SocketAddr;

use hickory_proto::op::Message;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types;

use crate::exchange::{ExchangeError, Request, over_stream};
use crate::trust::Trust;

/// The name that a resolver proves (RFC 8310 section 5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerName(pub(crate) pki_types::ServerName<'static>);

impl TryFrom<String> for ServerName {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, &'static str> {
        let form = "not of the form tls://192.0.2.53#dns.example or \
                    tls://[2001:db8::53]:853#dns.example";
        Ok(Self(name.try_into().map_err(|_| form)?))
    }
}

/// Maximum number of idle connections.
const IDLE_MAX: usize = 8;

/// Connections to resolvers.
pub(crate) struct Tls {
    connector: TlsConnector,
    idle: RefCell<Vec<(SocketAddr, TlsStream<TcpStream>)>>,
}

impl Tls {
    pub(crate) fn new(trust: &Trust) -> Self {
        Self {
            connector: trust.connector(),
            idle: RefCell::default(),
        }
    }

    /// Sends one query, over an idle connection or a new one (RFC 7858 section 3.4).
    pub(crate) async fn exchange(
        &self,
        server: SocketAddr,
        name: &ServerName,
        request: &Request,
    ) -> Result<Message, ExchangeError> {
        while let Some(mut stream) = self.idle(server) {
            // The server may have closed it.
            if let Ok(answer) = over_stream(&mut stream, request).await {
                self.keep(server, stream);
                return Ok(answer);
            }
        }
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let mut stream = self.connector.connect(name.0.clone(), stream).await?;
        let answer = over_stream(&mut stream, request).await?;
        self.keep(server, stream);
        Ok(answer)
    }

    fn idle(&self, server: SocketAddr) -> Option<TlsStream<TcpStream>> {
        let mut idle = self.idle.borrow_mut();
        let at = idle.iter().rposition(|(one, _)| *one == server)?;
        Some(idle.remove(at).1)
    }

    /// Keeps an idle connection. If there are too many, closes the oldest.
    fn keep(&self, server: SocketAddr, stream: TlsStream<TcpStream>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= IDLE_MAX {
            idle.remove(0);
        }
        idle.push((server, stream));
    }
}
