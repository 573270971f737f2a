//! A certificate authority of a test, and the certificates that it signs, in files.

use gofavorites::dev::certificates;
use std::fs;
use std::path::{Path, PathBuf};

/// An authority whose files lie in a directory.
pub struct Authority {
    signer: certificates::Authority,
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
        let this = Self {
            signer: certificates::Authority::generate().expect("a key"),
            directory: directory.to_owned(),
            name: name.to_owned(),
        };
        fs::write(this.file(), this.signer.pem()).expect("written");

        this
    }

    /// The file of the authority's own certificate.
    pub fn file(&self) -> PathBuf {
        self.directory.join(format!("{}.pem", self.name))
    }

    /// Signs a certificate for servers and clients on this machine.
    pub fn sign(&self, name: &str) -> Certificate {
        let signed = self.signer.sign().expect("signed");
        let file = |end: &str| self.directory.join(format!("{}-{name}.{end}", self.name));

        let files = Certificate {
            cert: file("cert.pem"),
            key: file("key.pem"),
        };
        fs::write(&files.cert, signed.cert).expect("written");
        fs::write(&files.key, signed.key).expect("written");
        files
    }
}
