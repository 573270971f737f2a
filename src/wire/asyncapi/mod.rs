//! The contract for machines: an AsyncAPI document, made of the tables that serve requests.
//!
//! `nats/asyncapi.yaml` is what [`document`] returns. An operation without a description, an
//! example or a reply does not compile.

mod data;
mod examples;
mod items;
mod outside;
mod replies;
mod requests;
mod yaml;

pub use yaml::{yaml, yaml_in_order};

use super::schema::{VERSION_MAX, consistency, kind, limit};
use super::{Code, Operation, RequestKey, Scope, Subjects, header};
use crate::domain::Invalid;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Returns the AsyncAPI document of a service with the default prefix of subjects.
///
/// # Errors
/// [`Invalid`] if the default prefix is not one.
pub fn document() -> Result<Value, Invalid> {
    let subjects = Subjects::new("favorites", "a")?;

    Ok(json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "GoFavorites",
            "version": "1.0.0",
            "description": "Stores the favourites of an investment platform's users. Every \
                operation is a NATS request with a reply.",
            "license": {
                "name": "Apache 2.0",
                "url": "https://www.apache.org/licenses/LICENSE-2.0",
            },
        },
        "defaultContentType": "application/json",
        "servers": {"nats": {
            "host": "nats.example.com:4222",
            "protocol": "nats",
            "description": "A NATS server that has the caller's account, with the permissions of \
                nats/accounts.conf.",
        }},
        "channels": channels(&subjects),
        "operations": operations(),
        "components": {
            "parameters": {"shard": {
                "description": "The shard's id, 1 to 32 characters of a-z, 0-9 and -.",
            }},
            "messages": messages(),
            "schemas": schemas(),
        },
    }))
}

fn channels(subjects: &Subjects) -> Map<String, Value> {
    let mut channels = named(outside::channels());

    for operation in Operation::ALL {
        let name = operation.name();
        let summary = examples::summary(operation);
        let request = reference("messages", &format!("{}Request", camel(operation)));
        let reply = reference("messages", &format!("{}Reply", camel(operation)));

        let nearest = json!({
            "address": subjects.request(operation),
            "description": format!("{summary} Answered by the nearest worker."),
            "messages": {"request": request},
        });
        let on_shard = json!({
            "address": subjects.request_on_shard("{shard}", operation),
            "description": format!("{summary} Answered by a worker of that shard."),
            "parameters": {"shard": reference("parameters", "shard")},
            "messages": {"request": request},
        });
        let replies = json!({
            "address": null,
            "description": "The reply subject of the request.",
            "messages": {"reply": reply, "refusal": reference("messages", "refusal")},
        });

        channels.insert(name.to_owned(), nearest);
        channels.insert(format!("{name}OnShard"), on_shard);
        channels.insert(format!("{name}Reply"), replies);
    }

    channels
}

/// Returns the operations from the service's point of view.
fn operations() -> Map<String, Value> {
    let mut operations = named(outside::operations());

    for operation in Operation::ALL {
        let name = operation.name();

        for channel in [name.to_owned(), format!("{name}OnShard")] {
            let described = json!({
                "action": "receive",
                "channel": {"$ref": format!("#/channels/{channel}")},
                "summary": examples::summary(operation),
                "x-scope": operation.scope().map_or("", Scope::as_str),
                "reply": {"channel": {"$ref": format!("#/channels/{name}Reply")}},
            });
            operations.insert(channel, described);
        }
    }

    operations
}

fn messages() -> Map<String, Value> {
    let refusal = json!({"headers": schema("RefusalHeaders"), "payload": schema("Refusal")});
    let mut messages = named(outside::messages());
    messages.insert("refusal".to_owned(), refusal);

    for operation in Operation::ALL {
        let camel = camel(operation);
        let pascal = pascal(operation);
        let headers = match operation.scope() {
            None => "OpenHeaders",
            Some(Scope::Read) => "ReadHeaders",
            // What needs the scope of secrets is a write, or is one for some items.
            Some(Scope::Write | Scope::Secrets) => "WriteHeaders",
        };

        let request = json!({
            "headers": schema(headers),
            "payload": schema(&format!("{pascal}Request")),
            "examples": [{"payload": examples::example(operation)}],
        });
        let reply = json!({
            "headers": schema("ReplyHeaders"),
            "payload": schema(&format!("{pascal}Reply")),
        });
        messages.insert(format!("{camel}Request"), request);
        messages.insert(format!("{camel}Reply"), reply);
    }

    messages
}

fn schemas() -> Map<String, Value> {
    let shared = [
        headers(),
        numbers(),
        data::schemas(),
        items::schemas(),
        requests::in_batch(),
        replies::parts(),
        outside::schemas(),
    ];
    let mut schemas = named(shared.concat());

    for operation in Operation::ALL {
        let pascal = pascal(operation);
        schemas.insert(format!("{pascal}Request"), requests::request(operation));
        schemas.insert(format!("{pascal}Reply"), replies::reply(operation));
    }

    schemas
}

/// Returns the schemas of headers by name.
fn headers() -> Vec<(&'static str, Value)> {
    let content_type = json!({"enum": ["application/json", "application/cbor"]});
    let text = json!({"type": "string"});
    let open = json!({
        header::CONTENT_TYPE: content_type,
        header::REQUEST_TIMEOUT_MS: {"type": "string", "pattern": "^[0-9]+$"},
        header::TRACEPARENT: text,
    });
    let reply = json!({header::CONTENT_TYPE: content_type, header::REQUEST_ID: text});

    let mut read = open.clone();
    read[header::AUTHORIZATION] = json!({"type": "string", "pattern": "^[Bb]earer "});
    let mut write = read.clone();
    write[header::NATS_MSG_ID] = json!({
        "type": "string",
        "minLength": 1,
        "maxLength": RequestKey::LENGTH_MAX,
        "description": "Makes the write idempotent.",
    });
    let mut refusal = reply.clone();
    refusal[header::ERROR_CODE] =
        json!({"type": "string", "description": "The status of the refusal."});
    refusal[header::ERROR] = json!({"type": "string", "description": "code: message"});

    let all_of = |fields: &Value| -> Vec<String> {
        let fields = fields.as_object().into_iter().flatten();
        fields.map(|(name, _)| name.clone()).collect()
    };
    let required = |fields: Value, required: Vec<String>| json!({"type": "object", "properties": fields, "required": required});
    let token = || vec![header::AUTHORIZATION.to_owned()];
    let (of_reply, of_refusal) = (all_of(&reply), all_of(&refusal));

    vec![
        ("OpenHeaders", json!({"type": "object", "properties": open})),
        ("ReadHeaders", required(read, token())),
        ("WriteHeaders", required(write, token())),
        ("ReplyHeaders", required(reply, of_reply)),
        ("RefusalHeaders", required(refusal, of_refusal)),
    ]
}

/// Returns the schemas of what the service's tables list or bound, by name.
fn numbers() -> Vec<(&'static str, Value)> {
    let statuses: BTreeSet<u16> = Code::ALL.map(Code::status).into();
    let error = json!({
        "type": "object",
        "properties": {
            "code": {
                "description": "Stable, so branch on it. erased and storage_unavailable are \
                    reserved.",
                "enum": Code::ALL.map(Code::as_str),
            },
            "status": {"enum": statuses},
            "message": {"type": "string"},
            "details": {"type": "object"},
        },
        "required": ["code", "status", "message", "details"],
        "additionalProperties": false,
    });
    let version = json!({"type": "integer", "minimum": 0, "maximum": VERSION_MAX});

    vec![
        ("Consistency", consistency()),
        ("Error", error),
        ("Kind", kind()),
        ("Limit", limit()),
        ("Version", version),
    ]
}

/// Returns a reference to a schema of the document.
fn schema(name: &str) -> Value {
    reference("schemas", name)
}

fn reference(group: &str, name: &str) -> Value {
    json!({"$ref": format!("#/components/{group}/{name}")})
}

fn named(list: Vec<(&str, Value)>) -> Map<String, Value> {
    list.into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// Returns the name of the operation's messages, such as `tagsRename`.
fn camel(operation: Operation) -> String {
    let mut parts = operation.name().split('.');
    let first = parts.next().unwrap_or_default();

    parts.fold(first.to_owned(), |name, part| name + &capital(part))
}

/// Returns the name of the operation's schemas, such as `TagsRename`.
fn pascal(operation: Operation) -> String {
    operation.name().split('.').map(capital).collect()
}

fn capital(part: &str) -> String {
    let (first, rest) = part.split_at(part.len().min(1));

    first.to_ascii_uppercase() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references<'d>(value: &'d Value, found: &mut Vec<&'d str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn the_document_has_every_operation_and_all_that_it_refers_to() {
        let document = document().expect("the default prefix");

        for operation in Operation::ALL {
            let described = &document["operations"][operation.name()];
            assert!(described.is_object(), "{}", operation.name());
        }
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > Operation::ALL.len());
        for reference in found {
            let place = reference.strip_prefix('#').expect("in this document");
            assert!(document.pointer(place).is_some(), "{reference}");
        }
    }

    #[test]
    fn the_document_is_the_same_in_yaml() {
        let document = document().expect("the default prefix");

        let read: Value = serde_yaml_ng::from_str(&yaml(&document)).expect("YAML");

        assert_eq!(read, document);
    }
}
