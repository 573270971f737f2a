//! The verdicts that are cached, and the tokens that the auth service refused a moment ago.
//!
//! Neither stores a token: both are indexed by the token's hash.

use super::Principal;
use quick_cache::sync::Cache;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a token that the auth service calls inactive is refused without asking again, so that
/// not every request with a bad token costs a round trip. It is short because the auth service may
/// learn of the token.
const REFUSAL_TTL: Duration = Duration::from_secs(1);
/// The maximum number of cached refusals.
const REFUSALS_MAX: usize = 10_000;

/// A token's SHA-256.
pub(super) type Hash = [u8; 32];

pub(super) struct VerdictCache {
    /// How long a verdict is cached; zero disables the cache.
    ttl: Duration,
    /// Each verdict's caller, and the end of its time in the cache.
    verdicts: Cache<Hash, (Principal, Instant)>,
    /// Tokens that are refused without asking, and the end of that time.
    refusals: Cache<Hash, Instant>,
    hits: AtomicU64,
}

impl VerdictCache {
    /// Returns an empty cache for at most `entries` verdicts.
    pub(super) fn new(entries: usize, ttl: Duration) -> Self {
        Self {
            ttl,
            verdicts: Cache::new(entries),
            refusals: Cache::new(REFUSALS_MAX),
            hits: AtomicU64::default(),
        }
    }

    /// Returns the cached verdict about this token, unless the verdict or the token has expired.
    pub(super) fn get(&self, hash: &Hash) -> Option<Principal> {
        let (principal, until) = self.verdicts.get(hash)?;
        if Instant::now() < until && principal.expires_at().is_none_or(|exp| unix_now() < exp) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Some(principal);
        }

        self.verdicts.remove(hash);
        None
    }

    /// Returns whether the auth service called this token inactive a moment ago.
    pub(super) fn is_refused(&self, hash: &Hash) -> bool {
        let Some(until) = self.refusals.get(hash) else {
            return false;
        };
        if Instant::now() < until {
            return true;
        }

        self.refusals.remove(hash);
        false
    }

    /// Refuses this token for [`REFUSAL_TTL`], or for the cache's TTL if that is shorter.
    pub(super) fn refuse(&self, hash: Hash) {
        self.refusals
            .insert(hash, Instant::now() + REFUSAL_TTL.min(self.ttl));
    }

    pub(super) fn insert(&self, hash: Hash, principal: &Principal) {
        self.refusals.remove(&hash);

        if !self.ttl.is_zero() {
            self.verdicts
                .insert(hash, (principal.clone(), Instant::now() + self.ttl));
        }
    }

    pub(super) fn remove(&self, hash: &Hash) {
        self.verdicts.remove(hash);
    }

    /// Removes the verdicts about the callers that `matches` selects.
    pub(super) fn remove_if(&self, matches: impl Fn(&Principal) -> bool) {
        self.verdicts
            .retain(|_, (principal, _)| !matches(principal));
    }

    /// Removes every verdict.
    pub(super) fn clear(&self) {
        self.verdicts.clear();
    }

    /// The number of cached verdicts.
    pub(super) fn count(&self) -> u64 {
        self.verdicts.len() as u64
    }

    /// The number of hits so far.
    pub(super) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }
}

/// The current time in seconds since the Unix epoch.
pub(super) fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
