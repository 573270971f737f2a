//! What is written down is unreadable, and cannot be altered or moved unseen.
//!
//! This room turns an owner's identity into a name that tells nothing, seals records with the owner's own data key,
//! and checks that a set of records is whole. It is the only user of the cipher. It never talks to a server, and
//! never sees a token.

mod body;
mod chain;
mod envelope;
mod keyring;
mod name;
mod owner_keys;
mod record;

pub use body::{Body, Content, Part, StoredRefusal};
pub use chain::{Broken, Digest, OwnerSet};
pub use envelope::{Class, Envelope};
pub use keyring::{Fingerprints, Keyring, KeyringError};
pub use name::{ItemKey, OwnerKey, RecordName, RequestHash};
pub use owner_keys::{OwnerKeys, UserId};
pub use record::{Links, Record, SealError};

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
fn derive(secret: &[u8], label: &str) -> [u8; 32] {
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

fn hmac_key(secret: &[u8], label: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &derive(secret, label))
}

/// HMAC-SHA-256 over the parts, each with its length before it, cut to its first 16 bytes (RFC 2104 §5).
fn keyed_hash(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 16] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut out = [0; 16];
    out.copy_from_slice(&context.sign().as_ref()[..16]);
    out
}
