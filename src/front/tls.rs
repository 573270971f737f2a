//! TLS: the trusted certificates, and the certificate of the client.

use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, crypto};

/// TLS to the NATS servers. The files are read for each connection, so changed certificates take
/// effect without a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct TlsSettings {
    /// `true`: refuse a server that does not offer TLS. With `false`, TLS is used if the server
    /// requires it.
    pub required: bool,
    /// A PEM file of the authorities that may sign servers' certificates; empty: those of the
    /// operating system.
    pub ca_file: PathBuf,
    /// A PEM file of the client's certificate; empty: none.
    pub cert_file: PathBuf,
    /// A PEM file of that certificate's key.
    pub key_file: PathBuf,
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read, or is not PEM.
    #[error("{} cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: pem::Error,
    },
    /// No trusted certificate.
    #[error("there is no certificate to trust: {0}")]
    Roots(String),
    /// A certificate without a key, or a key without a certificate.
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
    /// Returns whether a certificate comes with its key, or neither is given.
    pub fn is_consistent(&self) -> bool {
        is_empty(&self.cert_file) == is_empty(&self.key_file)
    }

    /// Returns a connector that uses the files as they are now.
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

        if !self.is_consistent() {
            return Err(TlsError::Pair);
        }
        if is_empty(&self.cert_file) {
            return Ok(builder.with_no_client_auth());
        }

        let chain = certificates(&self.cert_file)?;
        let key =
            PrivateKeyDer::from_pem_file(&self.key_file).map_err(|source| TlsError::File {
                path: self.key_file.clone(),
                source,
            })?;
        Ok(builder.with_client_auth_cert(chain, key)?)
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        let mut errors = vec!["the file of authorities has none".to_owned()];

        if is_empty(&self.ca_file) {
            let native = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(native.certs);
            errors = native.errors.iter().map(ToString::to_string).collect();
        } else {
            for certificate in certificates(&self.ca_file)? {
                roots.add(certificate)?;
            }
        }

        if roots.is_empty() {
            Err(TlsError::Roots(errors.join("; ")))
        } else {
            Ok(roots)
        }
    }
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|source| TlsError::File {
            path: file.to_owned(),
            source,
        })
}

/// The error of a host name that no certificate can have.
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
    async fn missing_files_are_an_error() {
        let missing = || PathBuf::from("/nowhere/at/all.pem");
        let half = TlsSettings {
            key_file: missing(),
            ..TlsSettings::default()
        };
        let ca = TlsSettings {
            ca_file: missing(),
            ..TlsSettings::default()
        };

        let no_certificate = half.connector().await.err();
        let no_ca = ca.connector().await.err();

        assert!(matches!(no_certificate, Some(TlsError::Pair)));
        assert!(matches!(no_ca, Some(TlsError::File { .. })));
    }

    #[tokio::test]
    async fn a_ca_file_without_a_certificate_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("ca.pem");
        std::fs::write(&file, "nothing\n").expect("written");
        let settings = TlsSettings {
            ca_file: file,
            ..TlsSettings::default()
        };

        let error = settings.connector().await.err().expect("an error");

        assert!(matches!(error, TlsError::Roots(_)), "{error}");
    }
}
