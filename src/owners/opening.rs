//! Opening a heavy set: on a thread that answers no requests, and by one request alone.

use super::{Owners, Snapshot};
use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Creates the permits to open heavy sets: half as many as there are cores, so that the others
/// answer requests meanwhile.
pub(super) fn openers() -> Arc<Semaphore> {
    let cores = available_parallelism().map_or(1, NonZero::get);
    Arc::new(Semaphore::new((cores / 2).max(1)))
}

impl Owners {
    /// Opens the snapshot's items if they are many, so that [`Snapshot::items`] has them at once.
    ///
    /// Of several requests that need the items of one version, one opens them and the others wait.
    /// Opening goes on if its request is given up.
    pub async fn open(&self, snapshot: &Arc<Snapshot>) {
        if !snapshot.is_heavy_to_open() {
            return;
        }
        let turn = snapshot.opening().lock_owned().await;
        if !snapshot.is_heavy_to_open() {
            return;
        }
        let Ok(permit) = self.0.openers.clone().acquire_owned().await else {
            return;
        };

        let snapshot = snapshot.clone();
        let opening = spawn_blocking(move || {
            // The request that uses the items gets the error.
            let _ = snapshot.items().map(drop);
            drop((turn, permit));
        });
        // After a panic the request opens the items by itself, and fails alone.
        drop(opening.await);
    }
}
