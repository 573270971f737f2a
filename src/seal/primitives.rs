//! The cryptographic functions that everything here is built from.

use aws_lc_rs::{digest, hkdf, hmac};

/// SHA-256 (FIPS 180-4) of `bytes`: 32 bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// Random bytes from the system's generator; aborts where there is none, since nothing can be sealed without.
pub fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    #[expect(
        clippy::expect_used,
        reason = "without a random source no record can be sealed safely"
    )]
    aws_lc_rs::rand::fill(&mut out).expect("the system has a random source");
    out
}

/// A key for one use, drawn from `secret` under a label of its own (HKDF-SHA-256, RFC 5869).
pub(super) fn derive(secret: &[u8], label: &str) -> [u8; 32] {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"gofavorites/v1");
    let mut out = [0; 32];
    #[expect(
        clippy::expect_used,
        reason = "32 bytes are within what HKDF-SHA-256 can give"
    )]
    salt.extract(secret)
        .expand(&[label.as_bytes()], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut out))
        .expect("HKDF gives 32 bytes");
    out
}

pub(super) fn hmac_key(secret: &[u8], label: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &derive(secret, label))
}

/// HMAC-SHA-256 over the parts, each with its length before it, cut to its first 16 bytes (RFC 2104 §5).
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
