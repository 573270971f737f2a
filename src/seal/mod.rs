//! Encryption and integrity: makes stored records unreadable without the keys, and makes any change
//! of them show.
//!
//! This module turns an owner's identity into an opaque name, seals records with the owner's own
//! data key, and checks that a set of records is complete. Only this module uses the cipher. It
//! never talks to a server and never handles a token.

mod assumed;
mod body;
mod body_format_one;
mod chain;
mod content;
mod digest;
mod envelope;
mod keyring;
mod name;
mod newest_write;
mod owner_keys;
mod primitives;
mod record;
mod stored;
mod succession;
mod user_id;

pub use assumed::AssumedSet;
pub use body::{carried_over, record_bytes};
pub use chain::{Broken, OwnerSet};
pub use content::{Body, Content, NewContent, NewHidden, Part, StoredRefusal, Tail};
pub use digest::{Digest, SetCheck};
pub use envelope::{Class, Envelope, Format};
pub use keyring::{Fingerprints, Keyring, KeyringError};
pub use name::{ItemKey, OwnerKey, RecordName, RequestHash, UnknownName};
pub use owner_keys::{OwnerKeys, TAG_BYTES};
pub use primitives::{Sha256, random, sha256};
pub use record::{Links, Record, SealError};
pub use user_id::UserId;

use primitives::{derive, hmac_key, keyed_hash};
