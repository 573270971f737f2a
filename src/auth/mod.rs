//! Who is asking: from a caller's token to a [`Principal`], by a signed verdict of the auth service.
//!
//! The worker asks over NATS and believes nothing that is not signed by a known key, fresh, meant for it and about this
//! very token. This room is the only user of JSON Web Tokens. It never logs or keeps a token: a cache entry is found by
//! the token's SHA-256.

mod authenticator;
mod keys;
mod principal;
mod revocation;
mod settings;
mod verdict;
mod verdict_cache;

pub use authenticator::{AuthCounts, AuthError, Authenticator};
pub use keys::KeySetError;
pub use principal::Principal;
pub use settings::AuthSettings;
