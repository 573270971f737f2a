//! The cryptographic functions on which this module is built.

use aws_lc_rs::{digest, hkdf, hmac};

/// Returns the SHA-256 (FIPS 180-4) of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// The SHA-256 (FIPS 180-4) of bytes that come in parts.
pub struct Sha256(digest::Context);

impl Sha256 {
    /// Begins with no bytes.
    #[expect(
        clippy::new_without_default,
        reason = "an empty hash is no useful default"
    )]
    pub fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    /// Adds the next part.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the hash in hexadecimal, as `sha256sum` prints it.
    pub fn finish_hex(self) -> String {
        let hash = self.0.finish();
        hash.as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// Returns random bytes from the system's generator.
///
/// # Panics
///
/// Panics if there is no generator, because nothing can be sealed safely without one.
pub fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    #[expect(
        clippy::expect_used,
        reason = "without a random source no record can be sealed safely"
    )]
    aws_lc_rs::rand::fill(&mut out).expect("the system has a random source");

    out
}

/// Derives a key from `secret` for the one use that `label` names (HKDF-SHA-256, RFC 5869).
pub(super) fn derive(secret: &[u8], label: &str) -> [u8; 32] {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"gofavorites/v1");
    let mut out = [0; 32];
    #[expect(clippy::expect_used, reason = "HKDF-SHA-256 can derive 32 bytes")]
    salt.extract(secret)
        .expand(&[label.as_bytes()], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut out))
        .expect("HKDF can derive 32 bytes");

    out
}

/// Derives the key of a keyed hash, as [`derive()`] does.
pub(super) fn hmac_key(secret: &[u8], label: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &derive(secret, label))
}

/// Returns the HMAC-SHA-256 of the parts, truncated to its first 16 bytes (RFC 2104 §5). Each part
/// is preceded by its length.
pub(super) fn keyed_hash(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 16] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }

    let mut out = [0; 16];
    out.copy_from_slice(&context.sign().as_ref()[..16]);
    out
}
