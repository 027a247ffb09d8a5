//! The certificates that authenticate upstream resolvers (RFC 8310 section 5).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// Root certificates of resolvers over TLS.
#[derive(Clone, Debug)]
pub struct Trust {
    roots: Arc<RootCertStore>,
    config: Arc<ClientConfig>,
}

/// Why no root certificates could be loaded.
#[derive(Debug, Error)]
pub enum TrustError {
    /// The file of `--dns64-ca` cannot be read, or has no certificate.
    #[error("--dns64-ca {}: no certificates", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// The error of reading or parsing it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system trusts no certificate.
    #[error("this system has no certificates to believe a resolver over TLS by; give --dns64-ca")]
    System,
    /// The TLS library refuses its own defaults.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

impl Trust {
    /// Loads the certificates (PEM) of a file, or else those that the system trusts.
    ///
    /// # Errors
    /// If there are none, or one in the file is malformed.
    pub fn load(file: Option<&Path>) -> Result<Self, TrustError> {
        let roots = match file {
            Some(file) => file_roots(file).map_err(|source| TrustError::File {
                file: file.to_owned(),
                source,
            })?,
            None => system_roots()?,
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

    pub(crate) fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::clone(&self.config))
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.roots.roots == other.roots.roots
    }
}

fn file_roots(file: &Path) -> Result<RootCertStore, Box<dyn std::error::Error + Send + Sync>> {
    let text = fs::read(file)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        roots.add(certificate?)?;
    }
    if roots.is_empty() {
        return Err("there is none in it".into());
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TrustError::System);
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in ["", "no certificate\n"] {
            fs::write(&file, text).unwrap();
            let error = Trust::load(Some(file.path())).unwrap_err().to_string();
            assert!(error.contains("--dns64-ca"), "{error}");
        }
    }
}
