//! The description of the contract for machines: what it says is so.

use crate::readme::text;
use gofavorites::wire::{Code, Operation, Scope, Subjects, header, request_schema};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const DESCRIPTION: &str = "nats/asyncapi.yaml";

/// The description for machines.
pub(crate) struct Described(Value);

impl Described {
    /// As the file has it.
    pub(crate) fn read() -> Self {
        Self(serde_yaml_ng::from_str(&text(DESCRIPTION)).expect("YAML"))
    }

    /// What stands there, wherever that is written.
    fn at<'s>(&'s self, found: &'s Value) -> &'s Value {
        match found["$ref"].as_str() {
            Some(place) => {
                let there = self
                    .0
                    .pointer(place.strip_prefix('#').expect("a place in this file"));
                self.at(there.unwrap_or_else(|| panic!("{place} is not there")))
            }
            None => found,
        }
    }

    /// The schema of a channel's message.
    fn payload<'s>(&'s self, channel: &'s Value, message: &str) -> &'s Value {
        self.at(&self.at(&self.at(channel)["messages"][message])["payload"])
    }

    /// The schema of an operation's request.
    pub(crate) fn request(&self, operation: &str) -> &Value {
        self.payload(&self.0["operations"][operation]["channel"], "request")
    }

    /// The schema of an operation's `reply`, or of its `refusal`.
    pub(crate) fn reply(&self, operation: &str, message: &str) -> &Value {
        self.payload(
            &self.0["operations"][operation]["reply"]["channel"],
            message,
        )
    }

    /// Whether a value has the form of a schema, so far as this file uses JSON Schema.
    pub(crate) fn fits(&self, schema: &Value, value: &Value) -> bool {
        let schema = self.at(schema);
        let kind = match schema["type"].as_str() {
            None => true,
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("string") => value.is_string(),
            Some("integer") => value.is_u64(),
            Some("boolean") => value.is_boolean(),
            Some(other) => panic!("a type {other}"),
        };
        let bounded = value.as_u64().is_none_or(|number| {
            let least = schema["minimum"]
                .as_u64()
                .is_none_or(|least| number >= least);
            least && schema["maximum"].as_u64().is_none_or(|most| number <= most)
        });
        kind && bounded
            && schema.get("const").is_none_or(|only| only == value)
            && schema["enum"]
                .as_array()
                .is_none_or(|some| some.contains(value))
            && schema["oneOf"]
                .as_array()
                .is_none_or(|some| some.iter().filter(|one| self.fits(one, value)).count() == 1)
            && value
                .as_array()
                .into_iter()
                .flatten()
                .all(|one| schema.get("items").is_none_or(|s| self.fits(s, one)))
            && names(&schema["required"])
                .iter()
                .all(|name| value.get(name).is_some())
            && value.as_object().into_iter().flatten().all(|(name, one)| {
                let known = schema["properties"]
                    .get(name)
                    .or(schema.get("additionalProperties"));
                known.is_none_or(|schema| *schema != Value::Bool(false) && self.fits(schema, one))
            })
    }

    /// Fails unless a schema of the description takes the same fields, and needs the same, as the service's own.
    fn same_fields(&self, what: &str, described: &Value, real: &Value) {
        let described = self.at(described);
        let fields = |schema: &Value| {
            schema["properties"]
                .as_object()
                .map(|all| all.keys().cloned().collect::<Vec<_>>())
        };
        assert_eq!(
            fields(described).unwrap_or_default(),
            fields(real).unwrap_or_default(),
            "{what}"
        );
        let sorted = |schema: &Value| BTreeSet::from_iter(names(&schema["required"]));
        assert_eq!(sorted(described), sorted(real), "{what}: what is required");
        assert_eq!(
            described["additionalProperties"], real["additionalProperties"],
            "{what}"
        );
        for (name, real) in real["properties"].as_object().into_iter().flatten() {
            let field = self.at(&described["properties"][name]);
            for rule in ["enum", "const", "minimum", "maximum", "minItems"] {
                assert_eq!(field.get(rule), real.get(rule), "{what}.{name}: {rule}");
            }
        }
    }
}

/// The texts of a list.
fn names(list: &Value) -> Vec<String> {
    list.as_array()
        .into_iter()
        .flatten()
        .map(|name| name.as_str().expect("a name").to_owned())
        .collect()
}

/// Every place that a value refers to.
fn references(value: &Value) -> Vec<&Value> {
    let own = value.get("$ref").is_some().then_some(value);
    let below = value
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.values());
    let below = below.chain(value.as_array().into_iter().flatten());
    own.into_iter().chain(below.flat_map(references)).collect()
}

#[test]
fn the_description_for_machines_is_that_of_the_service() {
    let described = Described::read();
    assert_eq!(described.0["asyncapi"], "3.0.0");
    references(&described.0)
        .into_iter()
        .for_each(|reference| _ = described.at(reference));
    let subjects = Subjects::new("favorites", "a").expect("well formed");
    for operation in Operation::ALL {
        let name = operation.name();
        let on_shard = subjects.request_on_shard("{shard}", operation);
        for (name, subject) in [
            (name.to_owned(), subjects.request(operation)),
            (format!("{name}OnShard"), on_shard),
        ] {
            let told = &described.0["operations"][&name];
            let channel = described.at(&told["channel"]);
            assert_eq!(
                (&told["action"], &channel["address"]),
                (&json!("receive"), &json!(subject))
            );
            assert_eq!(
                told["x-scope"],
                operation.scope().map_or("", Scope::as_str),
                "{name}"
            );
            described.same_fields(
                &name,
                described.payload(channel, "request"),
                &request_schema(operation),
            );
            let headers = &described.at(&described.at(&channel["messages"]["request"])["headers"]);
            assert_eq!(
                names(&headers["required"]).contains(&header::AUTHORIZATION.to_owned()),
                operation.needs_token()
            );
            let is_write = operation.scope() == Some(Scope::Write);
            assert_eq!(
                headers["properties"].get(header::NATS_MSG_ID).is_some(),
                is_write,
                "{name}"
            );
        }
    }
    let operations = described.0["operations"]
        .as_object()
        .expect("operations")
        .len();
    assert_eq!(
        operations,
        Operation::ALL.len() * 2 + 3,
        "beside them the bell, and both of the auth service"
    );
    let in_batch = &request_schema(Operation::Batch)["properties"]["ops"]["items"]["oneOf"];
    for (at, name) in ["PutInBatch", "DeleteInBatch"].into_iter().enumerate() {
        described.same_fields(
            name,
            &described.0["components"]["schemas"][name],
            &in_batch[at],
        );
    }
    let error = &described.0["components"]["schemas"]["Error"]["properties"];
    assert_eq!(names(&error["code"]["enum"]), Code::ALL.map(Code::as_str));
    let statuses: BTreeSet<u16> = Code::ALL.map(Code::status).into();
    assert_eq!(error["status"]["enum"], json!(statuses));
}
