//! Authentication: turns a caller's token into a [`Principal`], by a signed verdict of the auth
//! service.
//!
//! The worker asks the auth service over NATS. It trusts a verdict only if a configured key signed
//! it and it is fresh, addressed to this service and about exactly this token. Only this module
//! uses JSON Web Tokens. It never logs or stores a token: cache entries are found by the token's
//! SHA-256.

mod authenticator;
mod claims;
mod key_source;
mod keys;
mod principal;
mod revocation;
mod settings;
mod unverified;
mod verdict;
mod verdict_cache;

pub use authenticator::{AuthCounts, AuthError, Authenticator};
pub use keys::KeySetError;
pub use principal::Principal;
pub use settings::AuthSettings;
pub use unverified::unverified_subject;
