//! What is known of tokens without asking: verdicts that are still good, and tokens called inactive a moment ago. Neither
//! holds a token: both are found by its hash.

use super::Principal;
use quick_cache::sync::Cache;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a token stays refused that the auth service calls inactive, so that a flood of it costs a round trip now and
/// then, and not each. Short, since the service may come to know the token: it is asked anew after that.
const REFUSED_FOR: Duration = Duration::from_secs(1);
/// How many such tokens are known at most.
const REFUSED_MOST: usize = 10_000;

/// A token's SHA-256.
pub(super) type Hash = [u8; 32];

pub(super) struct VerdictCache {
    /// How long a verdict is kept; zero keeps none.
    life: Duration,
    cache: Cache<Hash, (Principal, Instant)>,
    /// Tokens called inactive a moment ago, and until when they are not asked about again.
    refused: Cache<Hash, Instant>,
    hits: AtomicU64,
}

impl VerdictCache {
    /// Of at most so many verdicts.
    pub(super) fn new(entries: usize, life: Duration) -> Self {
        Self {
            life,
            cache: Cache::new(entries),
            refused: Cache::new(REFUSED_MOST),
            hits: AtomicU64::default(),
        }
    }

    /// The verdict that is still good for this token.
    pub(super) fn kept(&self, hash: &Hash) -> Option<Principal> {
        let (principal, until) = self.cache.get(hash)?;
        if Instant::now() < until && principal.expires_at().is_none_or(|exp| unix_now() < exp) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Some(principal);
        }
        self.cache.remove(hash);
        None
    }

    /// Whether the auth service called this token inactive a moment ago.
    pub(super) fn was_refused(&self, hash: &Hash) -> bool {
        let Some(until) = self.refused.get(hash) else {
            return false;
        };
        if Instant::now() < until {
            return true;
        }
        self.refused.remove(hash);
        false
    }

    pub(super) fn refuse(&self, hash: Hash) {
        self.refused
            .insert(hash, Instant::now() + REFUSED_FOR.min(self.life));
    }

    pub(super) fn keep(&self, hash: Hash, principal: &Principal) {
        self.refused.remove(&hash);
        if !self.life.is_zero() {
            self.cache
                .insert(hash, (principal.clone(), Instant::now() + self.life));
        }
    }

    pub(super) fn forget(&self, hash: &Hash) {
        self.cache.remove(hash);
    }

    /// Forgets the verdicts about those.
    pub(super) fn forget_those(&self, are: impl Fn(&Principal) -> bool) {
        self.cache.retain(|_, (principal, _)| !are(principal));
    }

    /// Forgets every verdict.
    pub(super) fn forget_all(&self) {
        self.cache.clear();
    }

    /// How many verdicts are kept.
    pub(super) fn count(&self) -> u64 {
        self.cache.len() as u64
    }

    /// How often one was found.
    pub(super) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }
}

pub(super) fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
