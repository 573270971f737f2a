//! A certificate authority of a test, and the certificates that it signs.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use std::fs;
use std::path::{Path, PathBuf};

/// An authority whose files lie in a directory.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
    name: String,
}

/// A certificate and its key.
pub struct Certificate {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new(directory: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");

        let this = Self {
            issuer: CertifiedIssuer::self_signed(params, key).expect("signed"),
            directory: directory.to_owned(),
            name: name.to_owned(),
        };
        fs::write(this.file(), this.issuer.pem()).expect("written");
        this
    }

    /// The file of the authority's own certificate.
    pub fn file(&self) -> PathBuf {
        self.directory.join(format!("{}.pem", self.name))
    }

    /// Signs a certificate for servers and clients at 127.0.0.1.
    pub fn sign(&self, name: &str) -> Certificate {
        let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).expect("an address");
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("signed");

        let file = |end: &str| self.directory.join(format!("{}-{name}.{end}", self.name));
        let certificate = Certificate {
            cert: file("cert.pem"),
            key: file("key.pem"),
        };
        fs::write(&certificate.cert, signed.pem()).expect("written");
        fs::write(&certificate.key, key.serialize_pem()).expect("written");
        certificate
    }
}
