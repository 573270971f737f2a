//! The operations, typed. Reads never show less than this client has seen or written before.

use super::error::{ClientError, Refused, parse};
use super::model::{
    BatchMode, BatchOperation, BatchResult, Filter, Item, ItemName, OtpCode, OtpVerdict, Put, Read,
    Tag, TakenCode, Usage, Written,
};
use super::request::Client;
use crate::wire::{Code, Operation};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

impl Client {
    /// Stores an item: a new one, or one that replaces the present one.
    pub async fn put(&self, put: &Put) -> Result<Written, ClientError> {
        self.write_as(Operation::Put, &json!(put)).await
    }

    /// Returns an item, or `None` if there is none.
    pub async fn get(&self, name: &ItemName) -> Result<Read<Option<Item>>, ClientError> {
        self.get_by(json!(name)).await
    }

    /// Does the same as [`get`](Self::get), with the secret of an otp, or the codes of a list.
    pub async fn reveal(&self, name: &ItemName) -> Result<Read<Option<Item>>, ClientError> {
        let mut body = json!(name);
        body["reveal"] = json!(true);

        self.get_by(body).await
    }

    async fn get_by(&self, body: Value) -> Result<Read<Option<Item>>, ClientError> {
        #[derive(Deserialize)]
        struct Reply {
            item: Item,
        }

        let reply: Result<Read<Reply>, _> = self.read_as(Operation::Get, body).await;
        match reply {
            Ok(reply) => Ok(reply.map(|reply| Some(reply.item))),
            Err(error) if error.is(Code::NotFound) => Ok(Read {
                value: None,
                stale: error.refusal().is_some_and(Refused::is_stale),
            }),
            Err(error) => Err(error),
        }
    }

    /// Returns the items that fit, in the owner's order.
    pub async fn list(&self, filter: &Filter) -> Result<Read<Vec<Item>>, ClientError> {
        #[derive(Deserialize)]
        struct Reply {
            items: Vec<Item>,
            next_cursor: Option<String>,
        }

        let mut items = Vec::new();
        let mut stale = false;
        let mut body = json!(filter);
        loop {
            let reply: Read<Reply> = self.read_as(Operation::List, body.clone()).await?;
            stale |= reply.stale;
            items.extend(reply.value.items);

            match reply.value.next_cursor {
                Some(cursor) => body["cursor"] = json!(cursor),
                None => {
                    return Ok(Read {
                        value: items,
                        stale,
                    });
                }
            }
        }
    }

    /// Returns which of several items exist, in this order.
    pub async fn lookup(&self, names: &[ItemName]) -> Result<Read<Vec<Option<Item>>>, ClientError> {
        #[derive(Deserialize)]
        struct Reply {
            items: Vec<Option<Item>>,
        }

        let body = json!({"items": names});
        let reply: Read<Reply> = self.read_as(Operation::Lookup, body).await?;
        Ok(reply.map(|reply| reply.items))
    }

    /// Deletes an item: whatever it holds, or only at this version.
    pub async fn delete(
        &self,
        name: &ItemName,
        if_version: Option<u64>,
    ) -> Result<Written, ClientError> {
        let mut body = json!(name);
        if let Some(version) = if_version {
            body["if_version"] = json!(version);
        }

        self.write_as(Operation::Delete, &body).await
    }

    /// Executes several operations in one write. There is one result for each, in their order.
    pub async fn batch(
        &self,
        mode: BatchMode,
        operations: &[BatchOperation],
    ) -> Result<Vec<BatchResult>, ClientError> {
        #[derive(Deserialize)]
        struct Reply {
            results: Vec<BatchResult>,
        }

        let body = json!({"mode": mode, "ops": operations});
        let reply: Reply = self.write_as(Operation::Batch, &body).await?;
        Ok(reply.results)
    }

    /// Puts an item right after another one in the owner's order, or first.
    pub async fn move_item(
        &self,
        name: &ItemName,
        after: Option<&ItemName>,
    ) -> Result<Written, ClientError> {
        let mut body = json!(name);
        if let Some(after) = after {
            body["after"] = json!(after);
        }

        self.write_as(Operation::Move, &body).await
    }

    /// Restores an item to its state at a version.
    pub async fn restore(&self, name: &ItemName, version: u64) -> Result<Written, ClientError> {
        let mut body = json!(name);
        body["version"] = json!(version);

        self.write_as(Operation::Restore, &body).await
    }

    /// Returns the versions of an item that are kept, newest first.
    pub async fn history(&self, name: &ItemName) -> Result<Read<Vec<Item>>, ClientError> {
        #[derive(Deserialize)]
        struct Reply {
            versions: Vec<Item>,
            more: bool,
            #[serde(default)]
            stale: bool,
        }

        let mut versions: Vec<Item> = Vec::new();
        let mut stale = false;
        let mut body = json!(name);
        loop {
            let reply: Reply = parse(self.ask(Operation::History, &body).await?)?;
            stale |= reply.stale;
            versions.extend(reply.versions);

            match versions.last() {
                Some(last) if reply.more => body["before"] = json!(last.version),
                _ => {
                    return Ok(Read {
                        value: versions,
                        stale,
                    });
                }
            }
        }
    }

    /// Returns the owner's tags, sorted by name.
    pub async fn tags(&self) -> Result<Read<Vec<Tag>>, ClientError> {
        #[derive(Deserialize)]
        struct Reply {
            tags: Vec<Tag>,
        }

        let reply: Read<Reply> = self.read_as(Operation::Tags, json!({})).await?;
        Ok(reply.map(|reply| reply.tags))
    }

    /// Renames a tag on all items, or removes it from them. Returns how many items had it.
    pub async fn rename_tag(&self, from: &str, to: Option<&str>) -> Result<u32, ClientError> {
        #[derive(Deserialize)]
        struct Reply {
            items: u32,
        }

        let mut body = json!({"from": from});
        if let Some(to) = to {
            body["to"] = json!(to);
        }
        let reply: Reply = self.write_as(Operation::TagsRename, &body).await?;
        Ok(reply.items)
    }

    /// Returns how much of the owner's limits is used.
    pub async fn usage(&self) -> Result<Read<Usage>, ClientError> {
        self.read_as(Operation::Usage, json!({})).await
    }

    /// Returns a code of a one-time-password secret. One of HOTP is given out once.
    pub async fn otp_code(&self, id: &str) -> Result<OtpCode, ClientError> {
        let body = json!({"id": id});

        self.at_least_as_seen(body, async |body| {
            self.write(Operation::OtpCode, body).await
        })
        .await
    }

    /// Checks a one-time password, and accepts each one once.
    pub async fn otp_verify(&self, id: &str, code: &str) -> Result<OtpVerdict, ClientError> {
        let body = json!({"id": id, "code": code});

        self.write_as(Operation::OtpVerify, &body).await
    }

    /// Takes the next code of a list.
    pub async fn codes_take(&self, id: &str) -> Result<TakenCode, ClientError> {
        self.write_as(Operation::CodesTake, &json!({"id": id}))
            .await
    }

    /// Adds codes to the end of a list.
    pub async fn codes_add<C: AsRef<str>>(
        &self,
        id: &str,
        codes: &[C],
    ) -> Result<Written, ClientError> {
        let codes: Vec<&str> = codes.iter().map(AsRef::as_ref).collect();
        let body = json!({"id": id, "codes": codes});

        self.write_as(Operation::CodesAdd, &body).await
    }

    /// Reads what is at least as new as what this client has seen.
    async fn read_as<R: DeserializeOwned>(
        &self,
        operation: Operation,
        mut body: Value,
    ) -> Result<Read<R>, ClientError> {
        if let Some(consistency) = self.consistency {
            body["consistency"] = json!(consistency);
        }

        let ask = async |body: &Value| self.ask(operation, body).await;
        let reply: Value = self.at_least_as_seen(body, ask).await?;
        Ok(Read {
            stale: reply["stale"] == true,
            value: parse(reply)?,
        })
    }

    /// Sends a request for an answer that is at least as new as what this client has seen.
    async fn at_least_as_seen<R: DeserializeOwned>(
        &self,
        mut body: Value,
        send: impl AsyncFn(&Value) -> Result<Value, ClientError>,
    ) -> Result<R, ClientError> {
        let plain = body.clone();
        let asks_for_version = self.seen.fill(&mut body);

        let reply = match send(&body).await {
            Err(error) if asks_for_version && self.seen.forget_if_unknown(&error) => {
                send(&plain).await?
            }
            reply => reply?,
        };
        self.seen.note(reply.get("owner_version"));

        parse(reply)
    }

    async fn write_as<R: DeserializeOwned>(
        &self,
        operation: Operation,
        body: &Value,
    ) -> Result<R, ClientError> {
        let reply = self.write(operation, body).await?;
        self.seen.note(reply.get("owner_version"));

        parse(reply)
    }
}
