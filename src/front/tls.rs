//! TLS: which certificates are trusted, and which one is shown.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, crypto};

/// How TLS is done. The files are read at each connect, so that certificates that have changed are taken up without a
/// restart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// Whether a connection without TLS is none. Without this, TLS is used if the server asks for it.
    pub required: bool,
    /// Whether TLS begins before the server's first word, as `handshake_first` has it on the server's side.
    pub first: bool,
    /// The certificates that are trusted, in PEM; those of the system if none.
    pub ca_file: Option<PathBuf>,
    /// The client's own certificate and what vouches for it, in PEM.
    pub certificate_file: Option<PathBuf>,
    /// The key of that certificate, in PEM.
    pub key_file: Option<PathBuf>,
}

/// Files that TLS cannot be done with.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read, or is no PEM.
    #[error("{} cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// No certificate is trusted.
    #[error("there is no certificate to trust: {0}")]
    Roots(String),
    /// One of certificate and key without the other.
    #[error("a client's certificate needs its key, and the key its certificate")]
    Pair,
    /// Certificates or a key that cannot be used.
    #[error("the certificates cannot be used")]
    Rustls(#[from] rustls::Error),
    /// The task that reads the files failed.
    #[error(transparent)]
    Task(#[from] tokio::task::JoinError),
}

impl TlsSettings {
    /// What makes TLS of a connection, with the files as they are now.
    pub(super) async fn connector(&self) -> Result<TlsConnector, TlsError> {
        let settings = self.clone();
        let config = tokio::task::spawn_blocking(move || settings.config()).await??;
        Ok(TlsConnector::from(Arc::new(config)))
    }

    fn config(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots()?);
        match (&self.certificate_file, &self.key_file) {
            (None, None) => Ok(builder.with_no_client_auth()),
            (Some(certificate), Some(key)) => {
                let chain = certificates(certificate)?;
                let key = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::File {
                    path: key.clone(),
                    source,
                })?;
                Ok(builder.with_client_auth_cert(chain, key)?)
            }
            _ => Err(TlsError::Pair),
        }
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        match &self.ca_file {
            Some(file) => {
                for certificate in certificates(file)? {
                    roots.add(certificate)?;
                }
            }
            None => {
                let native = rustls_native_certs::load_native_certs();
                roots.add_parsable_certificates(native.certs);
                if roots.is_empty() {
                    let errors: Vec<String> =
                        native.errors.iter().map(ToString::to_string).collect();
                    return Err(TlsError::Roots(errors.join("; ")));
                }
            }
        }
        if roots.is_empty() {
            return Err(TlsError::Roots("the CA file has none".to_owned()));
        }
        Ok(roots)
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|source| TlsError::File {
            path: file.to_owned(),
            source,
        })
}

/// A name that no certificate can have.
pub(super) fn invalid_name() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "this host cannot stand in a certificate",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_that_are_not_there_are_an_error() {
        let missing = || Some(PathBuf::from("/nowhere/at/all.pem"));
        let half = TlsSettings {
            ca_file: None,
            key_file: missing(),
            ..TlsSettings::default()
        };
        let ca = TlsSettings {
            ca_file: missing(),
            ..TlsSettings::default()
        };

        assert!(half.connector().await.is_err());
        assert!(matches!(
            ca.connector().await.err(),
            Some(TlsError::File { .. })
        ));
    }

    #[tokio::test]
    async fn a_ca_file_without_a_certificate_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("ca.pem");
        std::fs::write(&file, "nothing\n").expect("written");
        let settings = TlsSettings {
            ca_file: Some(file),
            ..TlsSettings::default()
        };

        let error = settings.connector().await.err().expect("an error");

        assert!(matches!(error, TlsError::Roots(_)), "{error}");
    }
}
