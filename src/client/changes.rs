//! Follows the changes of an owner's items.

use super::error::{ClientError, parse};
use super::model::Item;
use super::request::Client;
use crate::wire::{Code, Operation};
use async_nats::Subscriber;
use futures::{FutureExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How often to ask without a notification: notifications are best effort, and one may be lost.
const POLL_INTERVAL: Duration = Duration::from_secs(15);
/// The pause after a request without a result, before the next one.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often a walk from the beginning starts again if deletions are purged while it is under way.
const WALK_RESTARTS_MAX: usize = 5;

/// How far a caller has followed the changes. It may be stored, and used in another process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The owner's version that was reached; 0 is the beginning.
    pub version: u64,
    /// The history of the bucket to which the version belongs, if the service has named it.
    pub epoch: Option<String>,
}

/// What happened to an owner's items.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// An item was written or deleted. This is its present state.
    Item(Box<Item>),
    /// What the caller holds may contain items that no longer exist. All items follow. At the next
    /// [`CaughtUp`](Self::CaughtUp), drop those that did not.
    Resync,
    /// The caller has everything up to this position: keep it, to continue from here later.
    CaughtUp(Position),
}

/// All changes since a position.
pub(crate) struct ChangeSet {
    /// The items, in the form of the wire.
    pub items: Vec<Value>,
    /// Where a later walk continues.
    pub position: Position,
    /// The subject of the owner's change notifications.
    pub notify: String,
    /// Whether the answer is from a copy that could not be checked.
    #[cfg_attr(
        not(feature = "server"),
        expect(dead_code, reason = "the commands show it")
    )]
    pub stale: bool,
}

impl Client {
    /// Follows the changes from a position on; [`Position::default`] is the beginning.
    pub fn changes(&self, from: Position) -> Changes {
        Changes {
            client: self.clone(),
            position: from,
            notifications: None,
            ready: VecDeque::new(),
            must_wait: false,
        }
    }

    /// Fetches all changes since a position.
    pub(crate) async fn fetch_changes(&self, from: &Position) -> Result<ChangeSet, ClientError> {
        let mut restarts = 0;

        loop {
            match self.walk_pages(from).await {
                // A caller that starts from 0 holds no items that the refusal would make it drop.
                Err(error)
                    if from.version == 0
                        && restarts < WALK_RESTARTS_MAX
                        && error.is(Code::ResyncRequired) =>
                {
                    restarts += 1;
                }
                result => return result,
            }
        }
    }

    /// Fetches all changes since a position, page by page.
    ///
    /// Each further page of a walk from the beginning repeats the deletion floor of the first one. The service refuses a page
    /// with `resync_required` once the floor is higher, so no item of a complete walk was deleted
    /// and purged meanwhile. It repeats the epoch as well, so no walk mixes the versions of two
    /// histories.
    async fn walk_pages(&self, from: &Position) -> Result<ChangeSet, ClientError> {
        #[derive(Deserialize)]
        struct Page {
            items: Vec<Value>,
            owner_version: u64,
            floor: u64,
            epoch: Option<String>,
            more: bool,
            notify: String,
            #[serde(default)]
            stale: bool,
        }

        let mut items: Vec<Value> = Vec::new();
        let mut since = from.version;
        let mut epoch = from.epoch.clone();
        let mut floor = None;
        loop {
            let mut body = json!({"since": since});
            if let Some(floor) = floor.filter(|floor| *floor > 0) {
                body["floor"] = json!(floor);
            }
            if let Some(epoch) = &epoch {
                body["epoch"] = json!(epoch);
            }

            let reply = self.ask(Operation::Changes, &body).await?;
            self.seen.note(reply.get("owner_version"));
            let page: Page = parse(reply)?;
            items.extend(page.items);
            epoch = page.epoch.or(epoch);

            if !page.more {
                return Ok(ChangeSet {
                    items,
                    position: Position {
                        version: page.owner_version,
                        epoch,
                    },
                    notify: page.notify,
                    stale: page.stale,
                });
            }

            // It says that the caller holds nothing, so only a walk from the beginning has it.
            floor = floor.or((from.version == 0).then_some(page.floor));
            since = items
                .last()
                .and_then(|item| item["version"].as_u64())
                .ok_or_else(|| {
                    ClientError::unreadable("more items are announced, and none came")
                })?;
        }
    }
}

/// The changes of an owner's items, as they happen. Created by [`Client::changes`].
pub struct Changes {
    client: Client,
    position: Position,
    notifications: Option<Subscriber>,
    ready: VecDeque<Change>,
    /// Whether everything was asked for, so that the next thing to do is to wait.
    must_wait: bool,
}

impl Changes {
    /// Waits for the next change. It never ends by itself: what passes by itself, such as a worker
    /// that restarts, is waited for.
    ///
    /// Nothing is lost if the wait is given up.
    ///
    /// # Errors
    /// A refusal that waiting does not mend, for example of a token that has expired. Call this
    /// again after [`set_token`](Client::set_token), or continue from the last position.
    pub async fn next(&mut self) -> Result<Change, ClientError> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Ok(change);
            }
            if self.must_wait {
                self.wait().await?;
            }

            match self.fetch().await {
                Ok(()) => self.must_wait = true,
                Err(error) if error.is(Code::ResyncRequired) => self.start_again(),
                // Without an epoch, the service says only this after the bucket was created again.
                Err(error) if self.position.version > 0 && error.is_about_unknown_version() => {
                    self.start_again();
                }
                Err(error) if error.is_transient() => {
                    let asked_for = error.refusal().and_then(|refused| refused.retry_after());
                    sleep(asked_for.unwrap_or_default().max(RETRY_PAUSE)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Fetches what changed, and subscribes to notifications the first time. What changed between
    /// the two is fetched by the next walk, which follows at once.
    async fn fetch(&mut self) -> Result<(), ClientError> {
        let set = self.client.fetch_changes(&self.position).await?;
        let items: Result<Vec<Item>, _> = set.items.into_iter().map(parse).collect();
        let is_new = self.position != set.position || self.notifications.is_none();

        if self.notifications.is_none() {
            let nats = self.client.nats();
            let subscribed = nats.subscribe(set.notify).await;
            let notifications = subscribed.map_err(|_| ClientError::Closed)?;
            // From here on the subscription is active.
            nats.flush().await.map_err(|_| ClientError::Closed)?;
            let again = self.client.fetch_changes(&set.position).await?;
            let more: Result<Vec<Item>, _> = again.items.into_iter().map(parse).collect();

            self.ready
                .extend(items?.into_iter().chain(more?).map(change));
            self.position = again.position;
            self.notifications = Some(notifications);
        } else {
            self.ready.extend(items?.into_iter().map(change));
            self.position = set.position;
        }

        if is_new {
            self.ready
                .push_back(Change::CaughtUp(self.position.clone()));
        }
        Ok(())
    }

    /// Waits for a notification, or for the time at which one may have been lost.
    async fn wait(&mut self) -> Result<(), ClientError> {
        if let Some(notifications) = &mut self.notifications {
            if let Ok(None) = timeout(POLL_INTERVAL, notifications.next()).await {
                return Err(ClientError::Closed);
            }
            // One question answers all that have come.
            while let Some(Some(_)) = notifications.next().now_or_never() {}
        }

        self.must_wait = false;
        Ok(())
    }

    fn start_again(&mut self) {
        self.position = Position::default();
        self.ready.push_back(Change::Resync);
    }
}

fn change(item: Item) -> Change {
    Change::Item(Box::new(item))
}
