//! Whose turn it is. Most tests run beside one another; one that measures time runs alone, or the machine is measured.
//!
//! A test has one turn, whatever it starts and on whichever thread: who waits for a second one, behind somebody who waits
//! to be alone, would wait for ever.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use tokio::runtime::{Handle, Id};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

static TURNS: LazyLock<Arc<RwLock<()>>> = LazyLock::new(Arc::default);
/// The turns that are held, by the runtime of the test that holds it.
static HELD: LazyLock<Mutex<HashMap<Id, Weak<Turn>>>> = LazyLock::new(Mutex::default);

/// A test's turn, which lasts until all who hold it have dropped it.
#[expect(dead_code, reason = "held, and never looked at")]
pub enum Turn {
    Beside(OwnedRwLockReadGuard<()>),
    Alone(OwnedRwLockWriteGuard<()>),
}

/// The turn of this test, which is now beside others unless it has one. Whoever starts servers takes it.
pub async fn beside() -> Arc<Turn> {
    if let Some(turn) = held() {
        return turn;
    }
    hold(Turn::Beside(TURNS.clone().read_owned().await))
}

/// Waits until no other test runs, and keeps all others waiting. To be taken first of all.
pub async fn alone() -> Arc<Turn> {
    assert!(
        held().is_none(),
        "a test takes its turn before it starts anything"
    );
    hold(Turn::Alone(TURNS.clone().write_owned().await))
}

fn held() -> Option<Arc<Turn>> {
    let all = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    all.get(&Handle::current().id()).and_then(Weak::upgrade)
}

fn hold(turn: Turn) -> Arc<Turn> {
    let turn = Arc::new(turn);
    let mut all = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|_, turn| turn.strong_count() > 0);
    all.insert(Handle::current().id(), Arc::downgrade(&turn));
    turn
}
