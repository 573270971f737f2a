//! The certificates of a development platform: an authority, and those that it signs for servers.

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The names of this machine, for which every certificate is signed.
const NAMES: [&str; 2] = ["127.0.0.1", "localhost"];

/// An authority that signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Certificate {
    /// The certificate.
    pub cert: String,
    /// Its key.
    pub key: String,
}

/// The certificates that the NATS servers of a platform present to each other and to clients, in
/// PEM.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct ServerCertificates {
    /// The authority's own certificate.
    pub authority: String,
    /// The servers' certificate.
    pub server: Certificate,
    /// The certificates of servers on hosts of their own, such as containers, by the host's name.
    #[serde(default)]
    pub hosts: BTreeMap<String, Certificate>,
}

/// The files of a server's certificates.
pub struct CertificateFiles {
    /// The authority's own certificate.
    pub authority: PathBuf,
    /// The server's certificate.
    pub cert: PathBuf,
    /// The key of that certificate.
    pub key: PathBuf,
}

impl Authority {
    /// Generates an authority.
    pub fn generate() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);

        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

        Ok(Self(issuer))
    }

    /// Returns the authority's own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Signs a certificate for a server or a client on this machine.
    pub fn sign(&self) -> anyhow::Result<Certificate> {
        self.sign_for(None)
    }

    /// Signs a certificate for this machine, and for the host of that name if there is one.
    fn sign_for(&self, host: Option<&str>) -> anyhow::Result<Certificate> {
        let names: Vec<String> = NAMES.into_iter().chain(host).map(str::to_owned).collect();
        let mut params = CertificateParams::new(names)?;
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate()?;
        let signed = params.signed_by(&key, &self.0)?;

        Ok(Certificate {
            cert: signed.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl ServerCertificates {
    /// Generates an authority, one certificate that it signs for all servers on this machine, and
    /// one for each of those hosts.
    pub fn generate(hosts: &[String]) -> anyhow::Result<Self> {
        let authority = Authority::generate()?;
        let sign = |host: &String| Ok((host.clone(), authority.sign_for(Some(host))?));

        Ok(Self {
            authority: authority.pem(),
            server: authority.sign()?,
            hosts: hosts.iter().map(sign).collect::<anyhow::Result<_>>()?,
        })
    }

    /// Writes the files of a server into `directory`.
    pub fn write(&self, directory: &Path) -> anyhow::Result<CertificateFiles> {
        let files = CertificateFiles {
            authority: directory.join("ca.pem"),
            cert: directory.join("cert.pem"),
            key: directory.join("key.pem"),
        };

        let texts = [
            (&files.authority, &self.authority),
            (&files.cert, &self.server.cert),
            (&files.key, &self.server.key),
        ];
        for (file, text) in texts {
            fs::write(file, text)
                .with_context(|| format!("{} cannot be written", file.display()))?;
        }

        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600))?;
        Ok(files)
    }
}
