//! The owners of a run: they are looked at first, get their items, and lose them again at the end.
//!
//! A run touches only what a run has made. An owner who has anything else is refused, before anything
//! of any owner is changed.

use super::model::{ID_PREFIX, KIND, OwnerModel, TAG, Write, WriteEnd, id};
use super::reply::{Reply, Shown};
use super::road::{Road, Token};
use super::tally::End;
use crate::cli::failed::CommandError;
use crate::wire::Operation;
use anyhow::bail;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::sleep;

/// How often a request is sent, and the pause between.
const TRIES_MAX: usize = 20;
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// What the service allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Operations of a batch.
    pub batch: usize,
    /// Entries of a page.
    pub page: usize,
    /// Items of an owner.
    pub items: usize,
    /// Bytes of a text.
    pub text_bytes: usize,
}

/// The owners of a run.
pub(super) struct Owners<'r> {
    pub road: &'r Road,
    pub tokens: &'r [Token],
    pub limits: Limits,
    /// How many owners are prepared at the same time.
    pub callers: usize,
}

impl Owners<'_> {
    /// Returns the items that runs have left with each owner.
    ///
    /// # Errors
    ///
    /// An owner has items that no run made, or does not answer.
    pub async fn look(&self, on_progress: impl FnMut(u64)) -> anyhow::Result<Vec<Vec<Shown>>> {
        let look = |owner: usize| async move {
            let (own, others) = self.items_of(owner).await?;
            if others > 0 {
                let message = format!(
                    "the owner of token {} has {others} items that no bench has made: nothing was \
                     changed. Give tokens of users who have no items",
                    owner + 1
                );
                bail!(CommandError::usage(message));
            }
            Ok(own)
        };

        self.for_each(look, on_progress).await
    }

    /// Gives each owner the items of its model, and takes away what is left beyond them.
    pub async fn fill(
        &self,
        models: &[OwnerModel],
        left: &[Vec<Shown>],
        on_progress: impl FnMut(u64),
    ) -> anyhow::Result<()> {
        let fill = |owner: usize| self.fill_one(owner, &models[owner], &left[owner]);

        self.for_each(fill, on_progress).await.map(drop)
    }

    /// Takes away the items that runs have made, and leaves all others. Returns how many there were.
    pub async fn clean_up(&self, on_progress: impl FnMut(u64)) -> anyhow::Result<u64> {
        let clean = |owner: usize| async move {
            let (own, _) = self.items_of(owner).await?;
            let count = own.len() as u64;
            let ids = own.into_iter().map(|item| item.id).collect();
            self.delete(owner, ids).await?;
            Ok(count)
        };

        let counts = self.for_each(clean, on_progress).await?;
        Ok(counts.into_iter().sum())
    }

    /// Does something for each owner, some at the same time. Returns the results in order.
    async fn for_each<T, F: Future<Output = anyhow::Result<T>>>(
        &self,
        one: impl Fn(usize) -> F,
        mut on_progress: impl FnMut(u64),
    ) -> anyhow::Result<Vec<T>> {
        let owners = futures::stream::iter(0..self.tokens.len()).map(one);
        let mut results = owners.buffered(self.callers);
        let mut all = Vec::with_capacity(self.tokens.len());
        while let Some(result) = results.try_next().await? {
            all.push(result);
            on_progress(all.len() as u64);
        }

        Ok(all)
    }

    /// Returns the items of an owner that a run has made, and the number of the others.
    async fn items_of(&self, owner: usize) -> anyhow::Result<(Vec<Shown>, usize)> {
        let mut items = Vec::new();
        let mut request = json!({"limit": self.limits.page, "consistency": "strong"});
        loop {
            let page = self.ask(owner, Operation::List, &request).await?;
            items.extend(page.items);
            match page.next_cursor {
                Some(cursor) => request["cursor"] = cursor.into(),
                None => break,
            }
        }

        let all = items.len();
        items.retain(|item| {
            item.kind == KIND
                && item.id.starts_with(ID_PREFIX)
                && item.tags.iter().any(|tag| tag == TAG)
        });
        let others = all - items.len();
        Ok((items, others))
    }

    async fn fill_one(
        &self,
        owner: usize,
        model: &OwnerModel,
        left: &[Shown],
    ) -> anyhow::Result<()> {
        let surplus = left.iter().filter(|item| {
            let number = item.id.strip_prefix(ID_PREFIX);
            let number = number.and_then(|number| number.parse::<usize>().ok());
            number.is_none_or(|number| number >= model.len() || id(number) != item.id)
        });
        self.delete(owner, surplus.map(|item| item.id.clone()).collect())
            .await?;

        let all: Vec<usize> = (0..model.len()).collect();
        for some in all.chunks(self.limits.batch) {
            let writes: Vec<(usize, Write)> = some
                .iter()
                .map(|item| (*item, model.begin_write(*item, false)))
                .collect();
            let ops = writes.iter().map(|(item, write)| {
                let mut op = put_request(model, *item, *write);
                op["op"] = "put".into();
                op
            });
            let request = json!({"mode": "atomic", "ops": ops.collect::<Vec<_>>()});

            let reply = self.ask(owner, Operation::Batch, &request).await?;
            let stored: Vec<_> = reply.results.iter().flat_map(|one| &one.item).collect();
            if stored.len() != writes.len() {
                bail!(
                    "the reply to a batch of {} writes has {}",
                    writes.len(),
                    stored.len()
                );
            }
            for ((item, write), stored) in writes.into_iter().zip(stored) {
                model.end_write(item, write, WriteEnd::Acknowledged(stored.version));
            }
            // The first reply about this owner: there was nothing before it that could be newer.
            let _ = model.note_seen(reply.owner_version, 0);
        }
        Ok(())
    }

    async fn delete(&self, owner: usize, ids: Vec<String>) -> anyhow::Result<()> {
        for some in ids.chunks(self.limits.batch) {
            let ops = some
                .iter()
                .map(|id| json!({"op": "delete", "kind": KIND, "id": id}));
            // Somebody else may have deleted one of them: that is no reason to leave the others.
            let request = json!({"mode": "each", "ops": ops.collect::<Vec<_>>()});
            self.ask(owner, Operation::Batch, &request).await?;
        }
        Ok(())
    }

    /// Sends a request, again while the service is too busy for it.
    async fn ask(
        &self,
        owner: usize,
        operation: Operation,
        request: &Value,
    ) -> anyhow::Result<Reply> {
        let mut tries = 1;
        loop {
            let reply = self
                .road
                .ask(owner, &self.tokens[owner], operation, request);
            let (end, message) = match reply.await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };

            let may_pass = match &end {
                End::Refused(code) => [
                    "rate_limited",
                    "overloaded",
                    "in_doubt",
                    "deadline_exceeded",
                ]
                .contains(&code.as_str()),
                _ => false,
            };
            if !may_pass || tries >= TRIES_MAX {
                return Err(failed(owner, operation, &end, &message).into());
            }
            tries += 1;
            sleep(RETRY_PAUSE).await;
        }
    }
}

/// Returns the body of a put.
pub(super) fn put_request(model: &OwnerModel, item: usize, write: Write) -> Value {
    json!({
        "kind": KIND, "id": id(item), "data": {"text": model.text(item, write)}, "tags": [TAG],
    })
}

fn failed(owner: usize, operation: Operation, end: &End, message: &str) -> CommandError {
    let name = operation.name();
    let owner = owner + 1;

    match end {
        End::Refused(code) if code == "unauthenticated" || code == "forbidden" => {
            CommandError::not_authorised(format!("{name} with token {owner}: {code}: {message}"))
        }
        End::Refused(code) => {
            CommandError::differs(format!("{name} with token {owner}: {code}: {message}"))
        }
        End::Unanswered(cause) => CommandError::unavailable(format!("{name}: {cause}")),
        End::Answered => CommandError::differs(name),
    }
}
