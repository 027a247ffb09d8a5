//! DNS over TLS (RFC 7858) to servers that prove their names (RFC 8310 section 5).

use std::cell::RefCell;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use hickory_proto::op::Message;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::upstream::{Request, over_stream};

/// Connections that are kept for the next questions.
const IDLE_MAX: usize = 8;

/// Whom we believe.
#[derive(Clone, Debug)]
pub(super) struct Trust {
    roots: Arc<RootCertStore>,
    config: Arc<ClientConfig>,
}

impl Trust {
    /// The certificates of a file, or those that the system trusts.
    pub(super) fn load(file: Option<&Path>) -> Result<Self> {
        let roots = match file {
            Some(file) => of_file(file)
                .with_context(|| format!("--dns64-ca {}: no certificates", file.display()))?,
            None => of_system()?,
        };
        let roots = Arc::new(roots);
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(&roots))
            .with_no_client_auth();
        Ok(Self {
            roots,
            config: Arc::new(config),
        })
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.roots.roots == other.roots.roots
    }
}

fn of_file(file: &Path) -> Result<RootCertStore> {
    let text = fs::read(file)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        roots.add(certificate?)?;
    }
    ensure!(!roots.is_empty(), "there is none in it");
    Ok(roots)
}

fn of_system() -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    ensure!(
        !roots.is_empty(),
        "this system has no certificates to believe a resolver over TLS by; give --dns64-ca"
    );
    Ok(roots)
}

/// Connections to resolvers.
pub(super) struct Tls {
    connector: TlsConnector,
    idle: RefCell<Vec<(SocketAddr, TlsStream<TcpStream>)>>,
}

impl Tls {
    pub(super) fn new(trust: &Trust) -> Self {
        Self {
            connector: TlsConnector::from(Arc::clone(&trust.config)),
            idle: RefCell::default(),
        }
    }

    /// One question, over a connection that is there or a new one (RFC 7858 section 3.4).
    pub(super) async fn exchange(
        &self,
        server: SocketAddr,
        name: &ServerName<'static>,
        request: &Request,
    ) -> Result<Message> {
        while let Some(mut stream) = self.idle(server) {
            // The server may have closed it.
            if let Ok(answer) = over_stream(&mut stream, request).await {
                self.keep(server, stream);
                return Ok(answer);
            }
        }
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let mut stream = self.connector.connect(name.clone(), stream).await?;
        let answer = over_stream(&mut stream, request).await?;
        self.keep(server, stream);
        Ok(answer)
    }

    fn idle(&self, server: SocketAddr) -> Option<TlsStream<TcpStream>> {
        let mut idle = self.idle.borrow_mut();
        let at = idle.iter().rposition(|(one, _)| *one == server)?;
        Some(idle.remove(at).1)
    }

    /// The oldest makes room.
    fn keep(&self, server: SocketAddr, stream: TlsStream<TcpStream>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= IDLE_MAX {
            idle.remove(0);
        }
        idle.push((server, stream));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in ["", "no certificate\n"] {
            fs::write(&file, text).unwrap();
            let error = format!("{:#}", Trust::load(Some(file.path())).unwrap_err());
            assert!(error.contains("--dns64-ca"), "{error}");
        }
    }
}
