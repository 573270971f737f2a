//! Which tests run at the same time. Most share the machine; a test that measures time or needs the machine for itself is
//! exclusive.
//!
//! A test holds one permit, whatever it starts and on whichever thread. Waiting for a second one, behind a test that waits
//! to be exclusive, would never end.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use tokio::runtime::{Handle, Id};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

static MACHINE: LazyLock<Arc<RwLock<()>>> = LazyLock::new(Arc::default);
/// The permits that are held, by the runtime of the test that holds each.
static HELD: LazyLock<Mutex<HashMap<Id, Weak<Permit>>>> = LazyLock::new(Mutex::default);

/// A test's permit to run, which lasts until everyone who holds it has dropped it.
#[expect(dead_code, reason = "held, and never read")]
pub enum Permit {
    Shared(OwnedRwLockReadGuard<()>),
    Exclusive(OwnedRwLockWriteGuard<()>),
}

/// The permit of this test; a new one, shared with other tests, if it has none. Everything that starts servers takes it.
pub async fn shared() -> Arc<Permit> {
    if let Some(permit) = held() {
        return permit;
    }
    hold(Permit::Shared(MACHINE.clone().read_owned().await))
}

/// Waits until no other test runs, and keeps all others waiting. To be taken before anything else.
pub async fn exclusive() -> Arc<Permit> {
    assert!(
        held().is_none(),
        "a test takes its permit before it starts anything"
    );
    hold(Permit::Exclusive(MACHINE.clone().write_owned().await))
}

fn held() -> Option<Arc<Permit>> {
    let all = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    all.get(&Handle::current().id()).and_then(Weak::upgrade)
}

fn hold(permit: Permit) -> Arc<Permit> {
    let permit = Arc::new(permit);
    let mut all = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|_, permit| permit.strong_count() > 0);
    all.insert(Handle::current().id(), Arc::downgrade(&permit));
    permit
}
