//! The name of the bucket's history in a request: versions of another history are not compared.

use super::freshness::Freshness;
use super::{Failure, Service};
use crate::owners::Snapshot;
use crate::seal::OwnerKey;
use crate::wire::{Code, Fields, Operation, Refusal};
use tokio::time::Instant;

/// Takes `epoch`, and refuses a request that names another history than the present one.
///
/// A `changes` from the beginning names no version, so it is always answered.
///
/// # Errors
/// `resync_required` with the present epoch, the owner's version and floor.
pub(super) async fn check(
    operation: Operation,
    fields: &mut Fields,
    service: &Service,
    owner: &OwnerKey,
    deadline: Instant,
) -> Result<(), Failure> {
    if !operation.takes_epoch() {
        return Ok(());
    }
    let Some(named) = fields.text("epoch")? else {
        return Ok(());
    };
    let present = service.owners.epoch();
    let from_the_beginning = operation == Operation::Changes && fields.is_zero("since");
    // A worker that does not know the present epoch yet cannot compare.
    let is_unknown = present.is_none() && !service.owners.has_lost_history();
    if from_the_beginning || is_unknown || present.as_ref() == Some(&named) {
        return Ok(());
    }

    let reading = Freshness::default_of(&service.owners)
        .read(&service.owners, owner, deadline)
        .await?;
    let message = "this is not the present epoch, so the version or the cursor may be of another \
                   history: start with since 0, and drop what is not returned";
    Err(resync(message, present, &reading.snapshot).into())
}

/// A `resync_required` of `changes`, with what a client needs to start again.
pub(super) fn resync(message: &str, epoch: Option<String>, snapshot: &Snapshot) -> Refusal {
    let refusal = Refusal::new(Code::ResyncRequired, message)
        .with("floor", snapshot.floor().get())
        .with("owner_version", snapshot.version().get());

    match epoch {
        Some(epoch) => refusal.with("epoch", epoch),
        None => refusal,
    }
}
