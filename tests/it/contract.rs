//! What the contract promises: everything that a caller meets is named there, and its examples go as they say.

use crate::asyncapi::Described;
use crate::harness::World;
use crate::readme::{FLEETING, blocks, lasting_words, text};
use gofavorites::wire::{Code, Operation, Scope};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const CONTRACT: &str = "docs/contract.md";
/// The numbers in a request that stand for versions of earlier replies.
const VERSIONS: [&str; 6] = [
    "version",
    "since",
    "before",
    "min_version",
    "if_version",
    "if_owner_version",
];
/// Replies of which a part is shown.
const IN_PART: [&str; 1] = ["limits"];

/// Which real version stands where the contract shows one.
type Seen = BTreeMap<u64, u64>;

/// The contract's section of that heading.
fn section<'a>(contract: &'a str, heading: &str) -> &'a str {
    let (_, section) = contract
        .split_once(&format!("\n## {heading}\n"))
        .expect("a section for each operation");
    section.split("\n## ").next().expect("one part at least")
}

/// The request as it is sent, with the versions that really came back before.
fn real_request(shown: &Value, seen: &Seen) -> Value {
    let field = |(name, value): (&String, &Value)| {
        let version = value
            .as_u64()
            .filter(|version| *version > 0 && VERSIONS.contains(&name.as_str()));
        let value = match version {
            Some(version) => seen[&version].into(),
            None => real_request(value, seen),
        };
        (name.clone(), value)
    };
    match shown {
        Value::Object(fields) => fields.iter().map(field).collect(),
        Value::Array(values) => values
            .iter()
            .map(|value| real_request(value, seen))
            .collect(),
        other => other.clone(),
    }
}

/// Fails unless the reply is the shown one, but for what differs with each run. Versions are the same where the same are
/// shown.
fn same(name: &str, shown: &Value, real: &Value, seen: &mut Seen, in_part: bool) {
    match (shown, real) {
        (Value::Object(shown), Value::Object(real)) => {
            let all = in_part || shown.keys().eq(real.keys());
            assert!(
                all,
                "{name}: {:?} are shown, and {:?} there",
                shown.keys(),
                real.keys()
            );
            shown
                .iter()
                .for_each(|(key, value)| same(key, value, &real[key], seen, in_part));
        }
        (Value::Array(shown), Value::Array(real)) => {
            assert_eq!(shown.len(), real.len(), "{name}");
            std::iter::zip(shown, real)
                .for_each(|(shown, real)| same(name, shown, real, seen, in_part));
        }
        (Value::Number(shown), Value::Number(real))
            if ["version", "owner_version"].contains(&name) =>
        {
            let (shown, real) = (
                shown.as_u64().expect("a version"),
                real.as_u64().expect("a version"),
            );
            assert_eq!(
                *seen.entry(shown).or_insert(real),
                real,
                "{name}: {shown} is shown"
            );
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
async fn the_contracts_examples_go_as_it_says() {
    let world = World::start().await;
    let _a = world.worker("a").await;
    let (alice, described) = (world.caller("alice").await, Described::read());
    let (mut seen, mut asked, mut reply, mut operation) =
        (Seen::new(), Vec::new(), Value::Null, String::new());
    for (info, block) in blocks(&text(CONTRACT)) {
        let shown: Value = serde_json::from_str(&block).expect("JSON in the contract");
        match info.split(' ').collect::<Vec<_>>()[..] {
            ["json", "request", name] => {
                operation = name.to_owned();
                let request = real_request(&shown, &seen);
                assert!(
                    described.fits(described.request(name), &request),
                    "{request}"
                );
                reply = alice.ask(name, &request).await.body;
                let message = if reply.get("error").is_some() {
                    "refusal"
                } else {
                    "reply"
                };
                assert!(
                    described.fits(described.reply(name, message), &reply),
                    "{name}: {reply}"
                );
                asked.push(name.to_owned());
            }
            ["json", "reply"] => {
                same(
                    &operation,
                    &shown,
                    &reply,
                    &mut seen,
                    IN_PART.contains(&operation.as_str()),
                );
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
    let versions: Vec<&u64> = seen.values().collect();
    assert!(
        versions.windows(2).all(|pair| pair[0] < pair[1]),
        "a version that is shown as newer is: {seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_names_every_operation_code_and_limit() {
    let contract = text(CONTRACT);
    for operation in Operation::ALL {
        let needs = operation.scope().map_or("No token", Scope::as_str);
        assert!(
            section(&contract, operation.name()).contains(needs),
            "{operation:?}: {needs}"
        );
    }
    let (errors, reserved) = (section(&contract, "Errors"), section(&contract, "Reserved"));
    for code in Code::ALL {
        let (row, listed) = (
            format!("| {} | `{}` |", code.status(), code.as_str()),
            format!("`{}` ({})", code.as_str(), code.status()),
        );
        assert!(
            errors.contains(&row) || reserved.contains(&listed),
            "{code:?}"
        );
    }
    let limits = section(&contract, "Limits by name");
    let world = World::start().await;
    let _worker = world.worker("a").await;
    let told = world
        .caller("alice")
        .await
        .done("a.limits", &json!({}))
        .await;
    for (name, limit) in told["limits"].as_object().expect("limits by name") {
        let row = limits
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}` | ")))
            .expect("a row for each limit");
        let default = row.split(" | ").nth(1).expect("a default").replace(',', "");
        assert_eq!(default, limit["value"].to_string(), "{name}");
    }
}
