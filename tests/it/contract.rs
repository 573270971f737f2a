//! The contract, `docs/contract.md`: it names everything that a caller can meet, and its examples
//! go as they are shown.

use crate::asyncapi::Described;
use crate::harness::World;
use crate::pages::{blocks, section, text};
use crate::readme::{FLEETING, lasting_words};
use gofavorites::config::Settings;
use gofavorites::wire::{Code, Operation, Ordered, Scope};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const CONTRACT: &str = "docs/contract.md";

/// The fields of a request whose numbers are versions from earlier replies.
const VERSION_FIELDS: [&str; 6] = [
    "version",
    "since",
    "before",
    "min_version",
    "if_version",
    "if_owner_version",
];

/// The texts that are compared to the letter, even if they are numbers: those of the examples come
/// from known secrets and lists.
const EXACT: [&str; 1] = ["code"];

/// The objects whose numbers depend on how items are stored. Only their fields are compared.
const FLEETING_NUMBERS: [&str; 1] = ["bytes"];

/// The operations of whose reply the contract shows only a part.
const SHOWN_IN_PART: [&str; 1] = ["limits"];

/// The real version for each version that the contract shows.
type Versions = BTreeMap<u64, u64>;

/// Returns the request that the contract shows, with the real versions from earlier replies.
fn real_request(shown: &Value, versions: &Versions) -> Value {
    let real_field = |(name, value): (&String, &Value)| {
        let version = value
            .as_u64()
            .filter(|version| *version > 0 && VERSION_FIELDS.contains(&name.as_str()));
        let value = match version {
            Some(version) => versions[&version].into(),
            None => real_request(value, versions),
        };

        (name.clone(), value)
    };

    match shown {
        Value::Object(fields) => fields.iter().map(real_field).collect(),
        Value::Array(items) => items
            .iter()
            .map(|item| real_request(item, versions))
            .collect(),
        other => other.clone(),
    }
}

/// Asserts that a reply is the shown one, except for what differs from one run to the next. The
/// same shown version must be the same real version everywhere.
fn assert_shown(name: &str, shown: &Value, real: &Value, versions: &mut Versions, in_part: bool) {
    match (shown, real) {
        (Value::Object(shown), Value::Object(real)) if FLEETING_NUMBERS.contains(&name) => {
            assert!(shown.keys().eq(real.keys()), "{name}");
        }
        (Value::Object(shown), Value::Object(real)) => {
            assert!(
                in_part || shown.keys().eq(real.keys()),
                "{name}: {:?} are shown, the reply has {:?}",
                shown.keys(),
                real.keys()
            );

            for (key, value) in shown {
                assert_shown(key, value, &real[key], versions, in_part);
            }
        }
        (Value::Array(shown), Value::Array(real)) => {
            assert_eq!(shown.len(), real.len(), "{name}");

            for (shown, real) in std::iter::zip(shown, real) {
                assert_shown(name, shown, real, versions, in_part);
            }
        }
        (Value::Number(shown), Value::Number(real))
            if ["version", "owner_version"].contains(&name) =>
        {
            let shown = shown.as_u64().expect("a version");
            let real = real.as_u64().expect("a version");
            let expected = *versions.entry(shown).or_insert(real);

            assert_eq!(expected, real, "{name}: {shown} is shown");
        }
        (Value::String(shown), Value::String(real)) if EXACT.contains(&name) => {
            assert_eq!(shown, real, "{name}");
        }
        (Value::String(shown), Value::String(real)) if FLEETING.contains(&name) => {
            assert_eq!(shown.split('.').count(), real.split('.').count(), "{name}");
        }
        (Value::String(shown), Value::String(real)) => {
            assert_eq!(lasting_words(shown), lasting_words(real), "{name}");
        }
        (shown, real) => assert_eq!(shown, real, "{name}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contracts_examples_go_as_they_are_shown() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    let described = Described::read();
    let mut versions = Versions::new();
    let mut asked = Vec::new();
    let mut operation = String::new();
    let mut reply = Value::Null;

    for (info, block) in blocks(&text(CONTRACT)) {
        // The code of "How to connect" is run by the tests of the examples and of the tour.
        if ["go", "python", "sh", "ts"].contains(&info.as_str()) {
            continue;
        }
        let shown: Value = serde_json::from_str(&block).expect("JSON in the contract");

        match info.split(' ').collect::<Vec<_>>()[..] {
            ["json", "request", name] => {
                let request = real_request(&shown, &versions);
                assert!(
                    described.fits(described.request(name), &request),
                    "{request}"
                );

                // Addressed to the shard, because the name of an operation may have a dot.
                reply = alice.ask(&format!("a.{name}"), &request).await.body;
                let is_refusal = reply.get("error").is_some();
                let message = if is_refusal { "refusal" } else { "reply" };

                assert!(
                    described.fits(described.reply(name, message), &reply),
                    "{name}: {reply}"
                );

                operation = name.to_owned();
                asked.push(name.to_owned());
            }
            ["json", "reply"] => {
                let in_part = SHOWN_IN_PART.contains(&operation.as_str());
                assert_shown(&operation, &shown, &reply, &mut versions, in_part);
            }
            ["json"] => {}
            _ => panic!("a block of {info}"),
        }
    }

    for operation in Operation::ALL {
        assert!(
            asked.iter().any(|name| name == operation.name()),
            "{operation:?} has no example"
        );
    }

    let real_versions: Vec<&u64> = versions.values().collect();

    assert!(
        real_versions.windows(2).all(|pair| pair[0] < pair[1]),
        "a version that is shown as newer is newer: {versions:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_names_every_operation_code_and_limit() {
    let world = World::start().await;
    let mut settings = world.settings("a");
    settings.limits = Settings::default().limits;
    let _worker = world.worker_with(settings).await;
    let alice = world.caller("alice").await;
    let contract = text(CONTRACT);
    let errors = section(&contract, "Errors");
    let reserved = section(&contract, "Reserved");
    let limits = section(&contract, "Limits by name");

    for operation in Operation::ALL {
        let needs = operation.scope().map_or("No token", Scope::as_str);
        let section = section(&contract, operation.name());

        assert!(section.contains(needs), "{operation:?}: {needs}");
    }

    for code in Code::ALL {
        let row = format!("| {} | `{}` |", code.status(), code.as_str());
        let entry = format!("`{}` ({})", code.as_str(), code.status());

        assert!(
            errors.contains(&row) || reserved.contains(&entry),
            "{code:?}"
        );
    }

    let reply = alice.done("a.limits", &json!({})).await;
    for (name, limit) in reply["limits"].as_object().expect("limits by name") {
        let row_start = format!("| `{name}` | ");
        let row = limits
            .lines()
            .find(|line| line.starts_with(&row_start))
            .expect("a row for each limit");
        let default = row.split(" | ").nth(1).expect("a default").replace(',', "");

        assert_eq!(default, limit["value"].to_string(), "{name}");
    }
}

/// Returns JSON without the white space between its parts.
fn on_one_line(json: &str) -> String {
    let mut within_text = false;
    let mut escaped = false;
    let is_kept = |c: &char| {
        if *c == '"' && !escaped {
            within_text = !within_text;
        }
        escaped = *c == '\\' && !escaped;
        within_text || !c.is_whitespace()
    };

    json.chars().filter(is_kept).collect()
}

/// Returns JSON with its fields in the order of the contract.
fn in_order(json: &str) -> String {
    let value: Value = serde_json::from_str(json).expect("JSON");

    serde_json::to_string(&Ordered(&value)).expect("JSON")
}

#[test]
fn the_contract_shows_replies_in_one_order() {
    let contract = text(CONTRACT);
    let replies = blocks(&contract)
        .into_iter()
        .filter(|(info, _)| info == "json reply");
    let replies: Vec<String> = replies.map(|(_, reply)| reply).collect();

    assert!(replies.len() > 20, "the replies are there");
    for reply in replies {
        assert_eq!(on_one_line(&reply), in_order(&reply));
    }
}

/// Goal: what a person sees who sends a request by hand has the order of the contract.
#[tokio::test(flavor = "multi_thread")]
async fn replies_and_refusals_have_that_order() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    let alice = world.caller("alice").await;
    alice.put_text("a", "note", "milk").await;

    for (operation, first) in [
        ("get", "{\"item\":{\"kind\":\"text\",\"id\":\"note\","),
        (
            "changes",
            "{\"error\":{\"code\":\"bad_request\",\"status\":400,",
        ),
    ] {
        let subject = format!("favorites.v1.shard.a.{operation}");
        let body = r#"{"kind":"text","id":"note"}"#.into();
        let reply = alice
            .client
            .request_with_headers(subject, alice.headers(), body)
            .await
            .expect("a reply");
        let reply = String::from_utf8(reply.payload.to_vec()).expect("UTF-8");

        assert_eq!(reply, in_order(&reply));
        assert!(reply.starts_with(first), "{reply}");
    }
}
