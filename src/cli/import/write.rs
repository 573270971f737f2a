//! The writes of an import, in batches that the service accepts.

use super::plan::{Entry, Outcome, PlannedWrite};
use super::service::Service;
use crate::cli::failed::CommandError;
use crate::cli::progress::Progress;
use serde_json::Value;
use std::collections::VecDeque;

/// Why an entry has failed that was not sent because of an earlier error.
const NOT_SENT: &str = "not stored, because of the error below";
/// Why an entry has failed of which no answer shows what became of it.
const IN_DOUBT: &str = "it may be stored: see the error below";

/// Executes the writes, and sets the outcome of each entry that was refused.
///
/// # Errors
///
/// Fails with the first request that fails. The outcomes show which entries were not written.
pub(super) async fn write(
    service: &mut Service,
    entries: &mut [Entry],
    writes: &[PlannedWrite],
) -> anyhow::Result<()> {
    let (writes, too_large) = split_by_size(writes, service.batch_bytes);
    for write in too_large {
        let reason = format!("it has more than {} bytes", service.batch_bytes);
        entries[write.entry].outcome = Outcome::Failed(reason);
    }

    let total = writes.len();
    let mut progress = (total > service.batch).then(|| Progress::new("entries written"));
    let mut queue = VecDeque::from(batches(&writes, service.batch, service.batch_bytes));
    while let Some(batch) = queue.pop_front() {
        let operations: Vec<&Value> = batch.iter().map(|write| &write.operation).collect();
        match service.write(&operations).await {
            Ok(results) => settle(entries, &batch, &results),
            // One operation is the cause, and the others need not fail with it.
            Err(error) if is_refusal(&error) && batch.len() > 1 => {
                let (first, second) = batch.split_at(batch.len() / 2);
                queue.push_front(second.to_vec());
                queue.push_front(first.to_vec());
            }
            Err(error) if is_refusal(&error) => {
                fail(entries, &batch, &without_index(&error.to_string(), 0));
            }
            Err(error) => {
                let doubt = is_in_doubt(&error);
                fail(entries, &batch, if doubt { IN_DOUBT } else { NOT_SENT });
                for batch in &queue {
                    fail(entries, batch, NOT_SENT);
                }
                return Err(stopped(error));
            }
        }

        let left: usize = queue.iter().map(Vec::len).sum();
        if let Some(progress) = &mut progress {
            progress.step((total - left) as u64, total as u64);
        }
    }

    if let Some(progress) = progress {
        progress.end();
    }
    Ok(())
}

/// Sets the outcome of each entry of a batch that was refused.
fn settle(entries: &mut [Entry], batch: &[&PlannedWrite], results: &[Value]) {
    for (index, write) in batch.iter().enumerate() {
        let error = results.get(index).map(|result| &result["error"]);
        if let Some(reason) = refusal(error, index) {
            entries[write.entry].outcome = Outcome::Failed(reason);
        }
    }
}

fn fail(entries: &mut [Entry], batch: &[&PlannedWrite], reason: &str) {
    for write in batch {
        entries[write.entry].outcome = Outcome::Failed(reason.to_owned());
    }
}

/// Fails each entry that would have been stored, because of an error before the first write.
pub(super) fn fail_all(entries: &mut [Entry]) {
    for entry in entries {
        if matches!(entry.outcome, Outcome::Added | Outcome::Replaced) {
            entry.outcome = Outcome::Failed(NOT_SENT.to_owned());
        }
    }
}

fn exit_code(error: &anyhow::Error) -> Option<u8> {
    error
        .downcast_ref::<CommandError>()
        .map(CommandError::exit_code)
}

/// Returns whether the service refuses the batch because of what is in it.
fn is_refusal(error: &anyhow::Error) -> bool {
    exit_code(error) == Some(5)
}

fn is_in_doubt(error: &anyhow::Error) -> bool {
    exit_code(error) == Some(9)
}

/// Returns the error that ends an import. A repetition finds out what became of a write in doubt,
/// and needs no request id.
fn stopped(error: anyhow::Error) -> anyhow::Error {
    if is_in_doubt(&error) {
        return CommandError::import_in_doubt().into();
    }

    error
}

/// Splits the writes into those that fit into a request, and those that do not.
fn split_by_size(
    writes: &[PlannedWrite],
    bytes_max: usize,
) -> (Vec<&PlannedWrite>, Vec<&PlannedWrite>) {
    writes.iter().partition(|write| size_of(write) <= bytes_max)
}

/// The bytes that a write takes in a request.
fn size_of(write: &PlannedWrite) -> usize {
    write.operation.to_string().len() + 1
}

/// Divides writes into batches of at most so many operations and bytes.
fn batches<'w>(
    writes: &[&'w PlannedWrite],
    count_max: usize,
    bytes_max: usize,
) -> Vec<Vec<&'w PlannedWrite>> {
    let mut batches: Vec<Vec<&PlannedWrite>> = Vec::new();
    let mut bytes = 0;
    for write in writes {
        let size = size_of(write);
        match batches.last_mut() {
            Some(batch) if batch.len() < count_max && bytes + size <= bytes_max => {
                batch.push(write);
                bytes += size;
            }
            _ => {
                batches.push(vec![write]);
                bytes = size;
            }
        }
    }

    batches
}

/// Returns why an operation was refused, if it was. `index` is its place in the batch.
fn refusal(error: Option<&Value>, index: usize) -> Option<String> {
    let Some(error) = error else {
        return Some("the reply has no result for it".to_owned());
    };
    if !error.is_object() {
        return None;
    }
    if error["code"] == "version_conflict" {
        return Some("the item was changed meanwhile: run the import again".to_owned());
    }

    let message = match serde_json::from_value(error.clone()) {
        Ok(refused) => CommandError::refused(&refused).to_string(),
        Err(_) => "the reply cannot be read".to_owned(),
    };
    Some(without_index(&message, index))
}

/// Returns the message of an operation's refusal without its place in the batch, because the
/// message's reader knows nothing of batches.
fn without_index(message: &str, index: usize) -> String {
    message.replace(&format!("ops[{index}]."), "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ClientError;
    use serde_json::json;

    /// Returns a write of that size.
    fn write(entry: usize, bytes: usize) -> PlannedWrite {
        let write = PlannedWrite {
            entry,
            operation: json!("x".repeat(bytes - 3)),
        };
        assert_eq!(size_of(&write), bytes);

        write
    }

    #[test]
    fn a_batch_has_at_most_so_many_operations_and_bytes() {
        let writes: Vec<PlannedWrite> = [10, 10, 10, 50, 60, 40, 41, 101]
            .into_iter()
            .enumerate()
            .map(|(entry, bytes)| write(entry, bytes))
            .collect();

        let (fitting, too_large) = split_by_size(&writes, 100);
        let batches = batches(&fitting, 2, 100);

        let entries: Vec<Vec<usize>> = batches
            .iter()
            .map(|batch| batch.iter().map(|write| write.entry).collect())
            .collect();
        assert_eq!(entries, [vec![0, 1], vec![2, 3], vec![4, 5], vec![6]]);
        assert_eq!(too_large.len(), 1);
        assert_eq!(too_large[0].entry, 7);
    }

    #[test]
    fn a_refusal_is_about_the_entry() {
        let invalid = json!({
            "code": "invalid_item", "status": 422, "message": "ops[3].data.name: is too long",
            "details": {"field": "ops[3].data.name"},
        });
        let conflict = json!({"code": "version_conflict", "status": 409, "message": "x"});

        assert_eq!(
            refusal(Some(&invalid), 3).as_deref(),
            Some("invalid_item (422): data.name: is too long")
        );
        assert!(refusal(Some(&conflict), 0).is_some_and(|text| text.contains("again")));
        assert_eq!(refusal(Some(&Value::Null), 0), None);
        assert!(refusal(None, 0).is_some());
    }

    #[test]
    fn an_import_in_doubt_is_run_again() {
        let request_id = "r1".to_owned();
        let in_doubt = ClientError::InDoubt { request_id };
        let error = stopped(CommandError::from(&in_doubt).into());

        let failed = error.downcast_ref::<CommandError>().expect("of a command");
        assert_eq!(failed.exit_code(), 9);
        assert!(!failed.to_string().contains("--request-id"), "{failed}");
    }
}
