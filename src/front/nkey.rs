//! NATS keys: an Ed25519 key pair, written in base32 with a prefix and a check sum.
//!
//! ```text
//! seed:       base32( prefix of a seed (5 bits) | prefix of the kind (8 bits) | 0 (3 bits) | 32 bytes | CRC-16 )
//! public key: base32( prefix of the kind (8 bits) | 32 bytes | CRC-16 )
//! ```

use crate::domain::opaque_debug;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

const PREFIX_SEED: u8 = 18 << 3;
const PREFIX_USER: u8 = 20 << 3;
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Two bytes of prefixes, a seed and a check sum.
const SEED_BYTES: usize = 2 + 32 + 2;

/// The key pair of a NATS user.
pub struct UserKey {
    pair: Ed25519KeyPair,
}

opaque_debug!(UserKey);

/// A text that is not the seed of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not the seed of a user's nkey (58 letters and digits that begin with SU)")]
pub struct InvalidSeed;

impl UserKey {
    /// The key of a seed: `SU…`.
    ///
    /// # Errors
    /// When the text is something else, or its check sum is wrong.
    pub fn from_seed(seed: &str) -> Result<Self, InvalidSeed> {
        let bytes = Zeroizing::new(decode(seed.trim()).ok_or(InvalidSeed)?);
        if bytes.len() != SEED_BYTES {
            return Err(InvalidSeed);
        }

        let (body, sum) = bytes.split_at(SEED_BYTES - 2);
        let kind = (body[0] & 0b111) << 5 | body[1] >> 3;
        let is_seed = body[0] & 0b1111_1000 == PREFIX_SEED;
        if !is_seed || kind != PREFIX_USER || crc16(body).to_le_bytes() != sum {
            return Err(InvalidSeed);
        }

        let pair = Ed25519KeyPair::from_seed_unchecked(&body[2..]).map_err(|_| InvalidSeed)?;
        Ok(Self { pair })
    }

    /// The public key: `U…`.
    pub fn public(&self) -> String {
        let mut bytes = vec![PREFIX_USER];
        bytes.extend_from_slice(self.pair.public_key().as_ref());
        bytes.extend_from_slice(&crc16(&bytes).to_le_bytes());
        encode(&bytes)
    }

    /// The signature of a server's nonce, as CONNECT carries it.
    pub fn sign(&self, nonce: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.pair.sign(nonce.as_bytes()).as_ref())
    }
}

/// CRC-16 with the polynomial 0x1021, beginning at 0 (XMODEM).
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum: u16, byte| {
        (0..8).fold(sum ^ u16::from(*byte) << 8, |sum, _| match sum & 0x8000 {
            0 => sum << 1,
            _ => sum << 1 ^ 0x1021,
        })
    })
}

/// Base32 without padding (RFC 4648).
fn encode(bytes: &[u8]) -> String {
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    (0..bytes.len() * 8)
        .step_by(5)
        .map(|start| {
            let index = (start..start + 5).fold(0, |index, at| index << 1 | bit(at));
            char::from(ALPHABET[usize::from(index)])
        })
        .collect()
}

/// Reads base32 without padding. What is left of less than a byte has to be 0.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 5 / 8);
    let (mut held, mut bits) = (0_u16, 0);
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter)?;
        held = held << 5 | u16::try_from(value).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits).ok()?);
            held &= (1 << bits) - 1;
        }
    }
    (held == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    use proptest::prelude::*;

    /// The pair that the documentation of NATS shows.
    const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";

    #[test]
    fn a_seed_gives_its_public_key() {
        let key = UserKey::from_seed(SEED).expect("a seed");

        assert_eq!(key.public(), PUBLIC);
        assert_eq!(format!("{key:?}"), "UserKey");
    }

    #[test]
    fn a_signature_is_the_keys() {
        let key = UserKey::from_seed(SEED).expect("a seed");

        let signature = key.sign("a nonce");

        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64");
        let public = decode(PUBLIC).expect("base32");
        let public = UnparsedPublicKey::new(&ED25519, &public[1..33]);
        assert!(public.verify(b"a nonce", &signature).is_ok());
        assert!(public.verify(b"another", &signature).is_err());
    }

    #[test]
    fn what_is_no_seed_of_a_user_is_refused() {
        let mistyped = SEED.replace("SUACS", "SUACT");
        // The seed of an account: its prefix and check sum are right.
        let mut account = decode(SEED).expect("base32");
        account[0] = PREFIX_SEED;
        account[1] = 0;
        let body = account.len() - 2;
        let sum = crc16(&account[..body]).to_le_bytes();
        account[body..].copy_from_slice(&sum);

        for text in ["", "SU", PUBLIC, &mistyped, &SEED[1..], &encode(&account)] {
            assert_eq!(UserKey::from_seed(text).err(), Some(InvalidSeed), "{text}");
        }
    }

    proptest! {
        #[test]
        fn base32_is_read_as_it_was_written(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn any_text_is_a_seed_or_none(text in "\\PC{0,60}") {
            let _ = UserKey::from_seed(&text);
        }
    }
}
