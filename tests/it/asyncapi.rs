//! The AsyncAPI description of the contract, `nats/asyncapi.yaml`: it is what the program prints, it
//! matches the service, and its examples go.

use crate::harness::World;
use crate::pages::text;
use gofavorites::wire::{Code, Operation, Scope, Subjects, header, request_schema};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;

const DESCRIPTION: &str = "nats/asyncapi.yaml";

/// The AsyncAPI description.
pub(crate) struct Described(Value);

impl Described {
    /// Reads it from its file.
    pub(crate) fn read() -> Self {
        Self(serde_yaml_ng::from_str(&text(DESCRIPTION)).expect("YAML"))
    }

    /// Returns the value, or what it refers to.
    fn resolve<'s>(&'s self, value: &'s Value) -> &'s Value {
        let Some(reference) = value["$ref"].as_str() else {
            return value;
        };

        let pointer = reference.strip_prefix('#').expect("a place in this file");
        let target = self.0.pointer(pointer);

        self.resolve(target.unwrap_or_else(|| panic!("{reference} does not exist")))
    }

    /// Returns the schema of a channel's message.
    fn payload<'s>(&'s self, channel: &'s Value, message: &str) -> &'s Value {
        let message = self.resolve(&self.resolve(channel)["messages"][message]);

        self.resolve(&message["payload"])
    }

    /// Returns the schema of an operation's request.
    pub(crate) fn request(&self, operation: &str) -> &Value {
        let operation = &self.0["operations"][operation];

        self.payload(&operation["channel"], "request")
    }

    /// Returns the examples of an operation's request.
    fn examples(&self, operation: &str) -> Vec<Value> {
        let channel = self.resolve(&self.0["operations"][operation]["channel"]);
        let request = self.resolve(&channel["messages"]["request"]);
        let examples = request["examples"].as_array().into_iter().flatten();

        examples.map(|example| example["payload"].clone()).collect()
    }

    /// Returns the schema of an operation's `reply`, or of its `refusal`.
    pub(crate) fn reply(&self, operation: &str, message: &str) -> &Value {
        let operation = &self.0["operations"][operation];

        self.payload(&operation["reply"]["channel"], message)
    }

    /// Returns whether a value is valid by a schema. Knows the part of JSON Schema that the
    /// description uses.
    pub(crate) fn fits(&self, schema: &Value, value: &Value) -> bool {
        let schema = self.resolve(schema);

        has_type(schema, value)
            && is_within_bounds(schema, value)
            && is_listed(schema, value)
            && self.fits_one_of(schema, value)
            && self.items_fit(schema, value)
            && self.fields_fit(schema, value)
    }

    /// Returns whether the value fits exactly one of the alternatives, if there are any.
    fn fits_one_of(&self, schema: &Value, value: &Value) -> bool {
        let Some(alternatives) = schema["oneOf"].as_array() else {
            return true;
        };
        let fitting = alternatives
            .iter()
            .filter(|alternative| self.fits(alternative, value));

        fitting.count() == 1
    }

    fn items_fit(&self, schema: &Value, value: &Value) -> bool {
        let mut items = value.as_array().into_iter().flatten();

        items.all(|item| {
            schema
                .get("items")
                .is_none_or(|schema| self.fits(schema, item))
        })
    }

    fn fields_fit(&self, schema: &Value, value: &Value) -> bool {
        let has_all_required = names(&schema["required"])
            .iter()
            .all(|name| value.get(name).is_some());
        let mut fields = value.as_object().into_iter().flatten();

        has_all_required
            && fields.all(|(name, field)| {
                let schema = schema["properties"]
                    .get(name)
                    .or(schema.get("additionalProperties"));
                schema
                    .is_none_or(|schema| *schema != Value::Bool(false) && self.fits(schema, field))
            })
    }

    /// Asserts that a schema of the description has the same fields, required fields and rules as
    /// the service's own schema.
    fn assert_same_fields(&self, what: &str, described: &Value, real: &Value) {
        let described = self.resolve(described);
        let fields = |schema: &Value| -> Vec<String> {
            let fields = schema["properties"].as_object().into_iter().flatten();
            fields.map(|(name, _)| name.clone()).collect()
        };
        let required = |schema: &Value| BTreeSet::from_iter(names(&schema["required"]));

        assert_eq!(fields(described), fields(real), "{what}");
        assert_eq!(
            required(described),
            required(real),
            "{what}: what is required"
        );
        assert_eq!(
            described["additionalProperties"], real["additionalProperties"],
            "{what}"
        );

        for (name, real) in real["properties"].as_object().into_iter().flatten() {
            let field = self.resolve(&described["properties"][name]);
            for rule in ["enum", "const", "minimum", "maximum", "minItems"] {
                assert_eq!(field.get(rule), real.get(rule), "{what}.{name}: {rule}");
            }
        }
    }

    /// Asserts that the description of an operation matches the service.
    fn assert_operation(&self, name: &str, operation: Operation, subject: &str) {
        let described = &self.0["operations"][name];
        let channel = self.resolve(&described["channel"]);
        let request = self.resolve(&channel["messages"]["request"]);
        let headers = self.resolve(&request["headers"]);
        let scope = operation.scope().map_or("", Scope::as_str);
        // `otp.code` of HOTP, `otp.verify` and `codes.take` need the scope of secrets and are writes.
        let is_write = matches!(operation.scope(), Some(Scope::Write | Scope::Secrets));

        assert_eq!(described["action"], "receive", "{name}");
        assert_eq!(channel["address"], subject, "{name}");
        assert_eq!(described["x-scope"], scope, "{name}");
        self.assert_same_fields(
            name,
            self.payload(channel, "request"),
            &request_schema(operation),
        );

        let required = names(&headers["required"]);
        assert_eq!(
            required.contains(&header::AUTHORIZATION.to_owned()),
            operation.needs_token(),
            "{name}"
        );
        assert_eq!(
            headers["properties"].get(header::NATS_MSG_ID).is_some(),
            is_write,
            "{name}"
        );
    }
}

fn has_type(schema: &Value, value: &Value) -> bool {
    match schema["type"].as_str() {
        None => true,
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        Some(other) => panic!("a type {other}"),
    }
}

fn is_within_bounds(schema: &Value, value: &Value) -> bool {
    let minimum = schema["minimum"].as_u64();
    let maximum = schema["maximum"].as_u64();

    value.as_u64().is_none_or(|number| {
        minimum.is_none_or(|minimum| number >= minimum)
            && maximum.is_none_or(|maximum| number <= maximum)
    })
}

/// Returns whether the value is the constant of the schema, or one of its values.
fn is_listed(schema: &Value, value: &Value) -> bool {
    let is_constant = schema.get("const").is_none_or(|constant| constant == value);
    let is_in_enum = schema["enum"]
        .as_array()
        .is_none_or(|values| values.contains(value));

    is_constant && is_in_enum
}

/// Returns the texts of a list.
fn names(list: &Value) -> Vec<String> {
    list.as_array()
        .into_iter()
        .flatten()
        .map(|name| name.as_str().expect("a name").to_owned())
        .collect()
}

/// Returns all parts of a value that are references.
fn references(value: &Value) -> Vec<&Value> {
    let own = value.get("$ref").is_some().then_some(value);
    let fields = value
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.values());
    let items = value.as_array().into_iter().flatten();

    own.into_iter()
        .chain(fields.chain(items).flat_map(references))
        .collect()
}

#[test]
fn the_asyncapi_description_matches_the_service() {
    let described = Described::read();
    let schemas = &described.0["components"]["schemas"];
    let subjects = Subjects::new("favorites", "a").expect("well formed");

    assert_eq!(described.0["asyncapi"], "3.0.0");
    for reference in references(&described.0) {
        described.resolve(reference);
    }

    for operation in Operation::ALL {
        let name = operation.name();
        let on_shard = subjects.request_on_shard("{shard}", operation);
        described.assert_operation(name, operation, &subjects.request(operation));
        described.assert_operation(&format!("{name}OnShard"), operation, &on_shard);
    }

    let operations = described.0["operations"].as_object().expect("operations");
    assert_eq!(
        operations.len(),
        Operation::ALL.len() * 2 + 4,
        "and change notifications, both subjects of the auth service, and the reference service"
    );

    let in_batch = &request_schema(Operation::Batch)["properties"]["ops"]["items"]["oneOf"];
    described.assert_same_fields("PutInBatch", &schemas["PutInBatch"], &in_batch[0]);
    described.assert_same_fields("DeleteInBatch", &schemas["DeleteInBatch"], &in_batch[1]);

    let error = &schemas["Error"]["properties"];
    let statuses: BTreeSet<u16> = Code::ALL.map(Code::status).into();
    assert_eq!(names(&error["code"]["enum"]), Code::ALL.map(Code::as_str));
    assert_eq!(error["status"]["enum"], json!(statuses));
}

/// Returns what `gofavorites contract` prints.
fn printed(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_gofavorites"))
        .arg("contract")
        .args(arguments)
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{arguments:?}");

    String::from_utf8(output.stdout).expect("a text")
}

#[test]
fn the_program_prints_the_description_in_both_forms() {
    let yaml = printed(&[]);
    let json: Value = serde_json::from_str(&printed(&["--format", "json"])).expect("JSON");

    assert!(
        yaml == text(DESCRIPTION),
        "{DESCRIPTION} is out of date: `make contract` writes it"
    );
    assert_eq!(Described::read().0, json);
}

/// Each example is sent by an owner of its own, who has what the examples are about.
#[tokio::test(flavor = "multi_thread")]
async fn the_examples_go_on_a_running_worker() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    let described = Described::read();
    let uri = "otpauth://totp/mail?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    let items = [
        json!({"kind": "instrument", "data": {"isin": "US0378331005", "type": "stock"},
               "tags": ["tech"]}),
        json!({"kind": "text", "id": "note", "data": {"text": "Read the report."}}),
        json!({"kind": "otp", "id": "mail", "data": {"uri": uri}}),
        json!({"kind": "codes", "id": "recovery", "data": {"codes": ["13-57", "24-68"]}}),
    ];

    for operation in Operation::ALL {
        let name = operation.name();
        let owner = world.caller(&format!("owner-of-{name}")).await;
        let mut instrument_version = Value::Null;
        for item in items.iter().rev() {
            let stored = owner.done("a.put", item).await;
            instrument_version = stored["item"]["version"].clone();
        }

        let examples = described.examples(name);
        assert!(!examples.is_empty(), "{name} has no example");

        for mut request in examples {
            assert!(described.fits(described.request(name), &request), "{name}");
            // No document can know the versions of an installation.
            if request.get("version").is_some() {
                request["version"] = instrument_version.clone();
            }

            let reply = owner.done(&format!("a.{name}"), &request).await;

            assert!(
                described.fits(described.reply(name, "reply"), &reply),
                "{name}: {reply}"
            );
        }
    }
}
