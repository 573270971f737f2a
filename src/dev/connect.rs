//! How the processes of a development platform connect to its NATS servers.

use super::secrets::{Secrets, inbox_prefix};
use anyhow::Context as _;
use async_nats::rustls::pki_types::CertificateDer;
use async_nats::rustls::pki_types::pem::PemObject as _;
use async_nats::rustls::{ClientConfig, RootCertStore, crypto};
use async_nats::{Client, ConnectOptions};
use std::sync::Arc;

/// Returns the options to connect as that NATS user. If a server offers TLS, the client trusts the
/// platform's own authority.
pub fn options(secrets: &Secrets, user: &str) -> anyhow::Result<ConnectOptions> {
    let authority = CertificateDer::from_pem_slice(secrets.certificates.authority.as_bytes())
        .map_err(|_| anyhow::anyhow!("the platform's authority is not a certificate"))?;
    let mut roots = RootCertStore::empty();
    roots.add(authority)?;

    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS cannot be used")?
        .with_root_certificates(roots)
        .with_no_client_auth();

    let password = secrets.nats(user).to_owned();
    let options = ConnectOptions::with_user_and_password(user.to_owned(), password);
    Ok(options.tls_client_config(config))
}

/// Connects as that NATS user, with its own inbox.
///
/// # Errors
///
/// The server cannot be reached.
pub async fn connect(
    secrets: &Secrets,
    user: &str,
    url: &str,
    name: &str,
) -> anyhow::Result<Client> {
    options(secrets, user)?
        .name(name)
        .custom_inbox_prefix(inbox_prefix(user))
        .connect(url)
        .await
        .with_context(|| format!("{url} cannot be reached"))
}
