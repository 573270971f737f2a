//! The load: requests of a mix, about the items of many owners, whose replies are checked.

use super::drive::Work;
use super::mix::Mix;
use super::model::{Floor, KIND, OwnerModel, Write, WriteEnd, Wrong, id};
use super::owners::put_request;
use super::random::Random;
use super::reply::Reply;
use super::road::{Road, Token, UNREADABLE};
use super::tally::End;
use crate::wire::Operation;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// How many wrong replies are described.
const EXAMPLES_MAX: usize = 10;

/// The load of a run.
pub(super) struct Load {
    pub road: Road,
    pub mix: Mix,
    pub tokens: Vec<Token>,
    pub models: Vec<OwnerModel>,
    /// How many requests there were, if they are about the owners in turn, and not at random.
    pub turn: Option<AtomicUsize>,
    /// Entries of a page.
    pub page: usize,
    /// What `get` and `list` ask for, if not what the service does by itself.
    pub consistency: Option<String>,
    pub wrong: WrongReplies,
}

/// The replies that are wrong.
#[derive(Default)]
pub(super) struct WrongReplies(Mutex<Found>);

/// How many replies are wrong in which way, and some of them.
#[derive(Clone, Default)]
pub(super) struct Found {
    pub counts: BTreeMap<Wrong, u64>,
    pub examples: Vec<String>,
}

impl WrongReplies {
    fn record(&self, operation: Operation, owner: usize, wrong: Wrong) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *found.counts.entry(wrong).or_default() += 1;
        if found.examples.len() < EXAMPLES_MAX {
            let name = operation.name();
            let example = format!("{name} of owner {}: {}", owner + 1, wrong.name());
            found.examples.push(example);
        }
    }

    /// Returns what was found so far.
    pub fn found(&self) -> Found {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);

        found.clone()
    }
}

impl Found {
    /// How many replies are wrong.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

/// How a request ended, and whether its reply is right.
type Checked = (End, Result<(), Wrong>);

/// A request that is sent to one owner.
struct Asked<'l> {
    load: &'l Load,
    owner: usize,
    caller: usize,
}

impl Load {
    fn choose_owner(&self, random: &mut Random) -> usize {
        let owners = self.models.len();

        match &self.turn {
            Some(turn) => turn.fetch_add(1, Ordering::Relaxed) % owners,
            None => random.below(owners),
        }
    }

    fn with_consistency(&self, mut request: Value) -> Value {
        if let Some(consistency) = &self.consistency {
            request["consistency"] = json!(consistency);
        }
        request
    }
}

impl Work for Load {
    async fn request(&self, caller: usize, random: &mut Random) -> (&'static str, End) {
        let asked = Asked {
            load: self,
            owner: self.choose_owner(random),
            caller,
        };
        let operation = self.mix.pick(random.number());

        let (end, checked) = match operation {
            Operation::List => asked.list().await,
            Operation::Put => asked.put(random).await,
            Operation::Delete => asked.delete(random).await,
            Operation::Changes => asked.changes(random).await,
            Operation::Version => asked.version().await,
            _ => asked.get(random).await,
        };
        if let Err(wrong) = checked {
            self.wrong.record(operation, asked.owner, wrong);
        }
        (operation.name(), end)
    }
}

impl Asked<'_> {
    fn model(&self) -> &OwnerModel {
        &self.load.models[self.owner]
    }

    async fn ask(&self, operation: Operation, request: &Value) -> Result<Reply, (End, String)> {
        let token = &self.load.tokens[self.owner];

        self.load
            .road
            .ask(self.caller, token, operation, request)
            .await
    }

    async fn get(&self, random: &mut Random) -> Checked {
        let model = self.model();
        let item = model.choose_living(random);
        let (floor, seen) = (model.floor(item), model.seen());
        let request = json!({"kind": KIND, "id": id(item), "min_version": seen});
        let request = self.load.with_consistency(request);

        match self.ask(Operation::Get, &request).await {
            Ok(reply) => {
                let checked = model.note_seen(reply.owner_version, seen).and_then(|()| {
                    let shown = reply.item.filter(|shown| shown.id == id(item));
                    model.check_shown(floor, &shown.ok_or(Wrong::Form)?)
                });
                (End::Answered, checked)
            }
            // That is the right answer about an item that is deleted.
            Err((End::Refused(code), _)) if code == "not_found" => {
                let checked = model.check_missing(item, floor);
                (End::Answered, checked)
            }
            Err((end, _)) => unanswered(end),
        }
    }

    async fn list(&self) -> Checked {
        let model = self.model();
        let (floors, seen) = (model.floors(), model.seen());
        let request = json!({"limit": self.load.page, "min_version": seen});
        let request = self.load.with_consistency(request);

        match self.ask(Operation::List, &request).await {
            Ok(reply) => {
                let is_complete = reply.next_cursor.is_none();
                let checked = model
                    .note_seen(reply.owner_version, seen)
                    .and_then(|()| model.check_list(&floors, &reply.items, is_complete));
                (End::Answered, checked)
            }
            Err((end, _)) => unanswered(end),
        }
    }

    async fn changes(&self, random: &mut Random) -> Checked {
        let model = self.model();
        let since = model.version_of(random.below(model.len()));

        match self.ask(Operation::Changes, &json!({"since": since})).await {
            Ok(reply) => {
                let checked = model
                    .note_seen(reply.owner_version, since)
                    .and_then(|()| model.check_changes(since, &reply.items));
                (End::Answered, checked)
            }
            Err((end, _)) => unanswered(end),
        }
    }

    async fn version(&self) -> Checked {
        match self.ask(Operation::Version, &json!({})).await {
            Ok(_) => (End::Answered, Ok(())),
            Err((end, _)) => unanswered(end),
        }
    }

    async fn put(&self, random: &mut Random) -> Checked {
        let item = self.model().choose_put(random);
        let floor = self.model().floor(item);
        let write = self.model().begin_write(item, false);
        let request = put_request(self.model(), item, write);

        let reply = self.ask(Operation::Put, &request).await;
        self.end_write(item, write, floor, reply)
    }

    async fn delete(&self, random: &mut Random) -> Checked {
        // All are deleted: the mix goes on with a put.
        let Some(item) = self.model().choose_deletion(random) else {
            return self.put(random).await;
        };
        let floor = self.model().floor(item);
        let write = self.model().begin_write(item, true);
        let request = json!({"kind": KIND, "id": id(item)});

        let reply = self.ask(Operation::Delete, &request).await;
        self.end_write(item, write, floor, reply)
    }

    fn end_write(
        &self,
        item: usize,
        write: Write,
        floor: Floor,
        reply: Result<Reply, (End, String)>,
    ) -> Checked {
        let model = self.model();
        let mut reply = match reply {
            Ok(reply) => reply,
            Err((end, _)) => {
                model.end_write(item, write, end_of(&end));
                return unanswered(end);
            }
        };
        let Some(shown) = reply.item.take() else {
            model.end_write(item, write, WriteEnd::InDoubt);
            return (End::Answered, Err(Wrong::Form));
        };

        let checked = model.check_written(item, write, floor, &shown);
        // A read that begins in between asks for the owner's version at least.
        let checked = checked.and(model.note_seen(reply.owner_version, shown.version));
        model.end_write(item, write, WriteEnd::Acknowledged(shown.version));
        (End::Answered, checked)
    }
}

/// Returns how a request ended that was not done. A reply that cannot be read is a wrong one.
fn unanswered(end: End) -> Checked {
    match end {
        End::Unanswered(UNREADABLE) => (End::Answered, Err(Wrong::Form)),
        end => (end, Ok(())),
    }
}

/// Returns what became of a write that was not done.
fn end_of(end: &End) -> WriteEnd {
    match end {
        End::Refused(code) if code != "in_doubt" && code != "internal" => WriteEnd::Refused,
        _ => WriteEnd::InDoubt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_in_doubt_without_a_refusal() {
        let refused = |code: &str| end_of(&End::Refused(code.into()));

        assert_eq!(refused("overloaded"), WriteEnd::Refused);
        assert_eq!(refused("in_doubt"), WriteEnd::InDoubt);
        assert_eq!(end_of(&End::Unanswered("no_reply")), WriteEnd::InDoubt);
        assert_eq!(
            unanswered(End::Unanswered(UNREADABLE)),
            (End::Answered, Err(Wrong::Form))
        );
    }

    #[test]
    fn wrong_replies_are_counted_and_some_described() {
        let wrong = WrongReplies::default();
        for owner in 0..12 {
            wrong.record(Operation::Get, owner, Wrong::Missing);
        }
        wrong.record(Operation::List, 1, Wrong::Foreign);

        let found = wrong.found();

        assert_eq!(found.total(), 13);
        assert_eq!(found.counts[&Wrong::Missing], 12);
        assert_eq!(found.examples.len(), EXAMPLES_MAX);
        assert_eq!(found.examples[0], "get of owner 1: missing_item");
    }
}
