//! Which settings a running worker takes up from a changed file, and which settings differ.

use super::{Role, Settings};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What takes up a setting that has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uptake {
    /// The log.
    LogFilter,
    /// The limits of requests, for the next request.
    Limits,
    /// The keys of the auth service.
    AuthKeys,
    /// The connections to NATS that use it: one, or, if there is none here, those without a server
    /// of their own. They are opened again.
    Servers,
    /// All connections to NATS. They are opened again.
    Connections,
    /// One connection to NATS. It is opened again.
    Connection(Role),
    /// New connections to Postgres, if they lead to the same database.
    Postgres,
    /// `gofavorites maintain`, for its next round. A worker does not use it.
    Maintain,
    /// Nothing before the next start.
    Restart,
}

/// What takes up each setting. A name that ends with a dot stands for all settings that begin with
/// it. The first one that fits counts.
const UPTAKES: [(&str, Uptake); 38] = [
    ("log.filter", Uptake::LogFilter),
    ("log.format", Uptake::Restart),
    ("limits.", Uptake::Limits),
    ("auth.verdict_keys", Uptake::AuthKeys),
    ("auth.verdict_keys_file", Uptake::AuthKeys),
    ("auth.token_keys", Uptake::AuthKeys),
    ("auth.token_keys_file", Uptake::AuthKeys),
    ("auth.algorithms", Uptake::AuthKeys),
    ("auth.verify_subject", Uptake::Restart),
    ("auth.revoked_subject", Uptake::Restart),
    ("auth.issuer", Uptake::Restart),
    ("auth.audience", Uptake::Restart),
    ("auth.token_issuers", Uptake::Restart),
    ("auth.cache_ttl_ms", Uptake::Restart),
    ("auth.cache_entries", Uptake::Restart),
    ("auth.verdict_max_age_ms", Uptake::Restart),
    ("auth.leeway_ms", Uptake::Restart),
    ("auth.timeout_ms", Uptake::Restart),
    ("auth.in_flight", Uptake::Restart),
    ("nats.url", Uptake::Servers),
    ("nats.queue_messages", Uptake::Restart),
    ("nats.ignore_discovered", Uptake::Connections),
    ("nats.tls.", Uptake::Connections),
    ("nats.front.inbox_prefix", Uptake::Restart),
    ("nats.auth.inbox_prefix", Uptake::Restart),
    ("nats.truth.inbox_prefix", Uptake::Restart),
    ("nats.front.", Uptake::Connection(Role::Front)),
    ("nats.auth.", Uptake::Connection(Role::Auth)),
    ("nats.truth.", Uptake::Connection(Role::Truth)),
    ("postgres.url", Uptake::Postgres),
    ("postgres.url_file", Uptake::Postgres),
    ("postgres.connections", Uptake::Restart),
    ("postgres.call_ms", Uptake::Restart),
    ("maintain.", Uptake::Maintain),
    ("worker.", Uptake::Restart),
    ("shard.", Uptake::Restart),
    ("keys.", Uptake::Restart),
    ("reference.", Uptake::Restart),
];

/// Sections of which nothing changes before the next start.
const FIXED_SECTIONS: [&str; 6] = [
    "truth.",
    "read.",
    "write.",
    "projection.",
    "retention.",
    "retry.",
];

/// Returns what takes up the setting of that name; `None` if there is no such setting.
pub fn uptake(name: &str) -> Option<Uptake> {
    let is_meant = |pattern: &str| match pattern.ends_with('.') {
        true => name.starts_with(pattern),
        false => name == pattern,
    };
    if FIXED_SECTIONS.into_iter().any(is_meant) {
        return Some(Uptake::Restart);
    }

    let row = UPTAKES.iter().find(|(pattern, _)| is_meant(pattern));
    row.map(|(_, uptake)| *uptake)
}

/// Returns the names of the settings that differ.
pub(super) fn differing(one: &Settings, other: &Settings) -> BTreeSet<String> {
    let differ_openly = differing_names(&one.named(), &other.named());

    let secrets = std::iter::zip(one.secrets(), other.secrets());
    let differ_secretly = secrets
        .filter(|((_, one), (_, other))| one != other)
        .map(|((name, _), _)| name.to_owned());

    differ_openly.into_iter().chain(differ_secretly).collect()
}

/// Returns the names that have different values, or that only one side has.
pub(super) fn differing_names<T: PartialEq>(
    one: &BTreeMap<String, T>,
    other: &BTreeMap<String, T>,
) -> BTreeSet<String> {
    one.keys()
        .chain(other.keys())
        .filter(|name| one.get(*name) != other.get(*name))
        .cloned()
        .collect()
}

impl Settings {
    /// Returns each setting by its name, with secrets hidden.
    pub fn named(&self) -> BTreeMap<String, Value> {
        let mut named = BTreeMap::new();
        // This fails for a path that is not UTF-8. Neither TOML nor the environment gives one.
        let sections = serde_json::to_value(self).unwrap_or_default();

        flatten("", sections, &mut named);
        named
    }

    /// Returns the settings that are secrets, or may contain one, by their names.
    fn secrets(&self) -> [(&'static str, &str); 16] {
        let nats = &self.nats;
        let (front, auth, truth) = (&nats.front, &nats.auth, &nats.truth);

        [
            ("nats.url", &nats.url),
            ("nats.front.url", &front.url),
            ("nats.front.password", &front.password),
            ("nats.front.token", &front.token),
            ("nats.front.nkey_seed", &front.nkey_seed),
            ("nats.auth.url", &auth.url),
            ("nats.auth.password", &auth.password),
            ("nats.auth.token", &auth.token),
            ("nats.auth.nkey_seed", &auth.nkey_seed),
            ("nats.truth.url", &truth.url),
            ("nats.truth.password", &truth.password),
            ("nats.truth.token", &truth.token),
            ("nats.truth.nkey_seed", &truth.nkey_seed),
            ("postgres.url", &self.postgres.url),
            ("keys.identity", &self.keys.identity),
            ("keys.encryption", &self.keys.encryption),
        ]
    }
}

fn flatten(prefix: &str, value: Value, named: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(section) => {
            for (name, value) in section {
                let separator = if prefix.is_empty() { "" } else { "." };
                flatten(&format!("{prefix}{separator}{name}"), value, named);
            }
        }
        value => {
            named.insert(prefix.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Returns the settings with another value of one of them.
    fn with(name: &str, value: Value) -> Settings {
        let mut section = value;
        for part in name.rsplit('.') {
            section = json!({ part: section });
        }

        serde_json::from_value(section).expect("settings")
    }

    /// Returns two values that a setting may have, both different from its default.
    fn two_values(name: &str, default: &Value) -> [Value; 2] {
        match (name, default) {
            ("log.format", _) => [json!("human"), json!("json")],
            ("read.consistency", _) => [json!("strong"), json!("eventual")],
            ("reference.on_silence", _) => [json!("refuse"), json!("accept")],
            (_, Value::Bool(_)) => [json!(true), json!(false)],
            (_, Value::Number(_)) => [json!(7), json!(8)],
            (_, Value::Array(_)) => [json!(["one"]), json!(["other"])],
            // As a URL, the two differ in the password alone.
            (_, Value::String(_)) => [json!("nats://u:one@h"), json!("nats://u:other@h")],
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_is_known_of_every_setting_what_takes_it_up() {
        let settings = Settings::default().named();
        assert!(settings.len() > 100, "{}", settings.len());

        for name in settings.keys() {
            assert!(uptake(name).is_some(), "{name}");
        }
        assert_eq!(uptake("limits.items"), Some(Uptake::Limits));
        assert_eq!(uptake("auth.other"), None);
        assert_eq!(uptake("nats.front.inbox_prefix"), Some(Uptake::Restart));
    }

    #[test]
    fn every_row_is_of_some_setting() {
        let settings = Settings::default().named();
        let rows = UPTAKES.iter().map(|(pattern, _)| *pattern);

        for pattern in rows.chain(FIXED_SECTIONS) {
            let is_used = settings.keys().any(|name| match pattern.ends_with('.') {
                true => name.starts_with(pattern),
                false => name == pattern,
            });
            assert!(is_used, "{pattern}");
        }
    }

    #[test]
    fn each_setting_that_differs_is_named_and_no_other() {
        for (name, default) in Settings::default().named() {
            let [one, other] = two_values(&name, &default);
            let (one, other) = (with(&name, one), with(&name, other));

            let found = differing(&one, &other);

            assert_eq!(found.into_iter().collect::<Vec<_>>(), [name]);
            assert!(differing(&one, &one).is_empty());
        }
    }

    #[test]
    fn no_secret_stands_among_the_named_settings() {
        for (name, _) in Settings::default().secrets() {
            let named = with(name, json!("nats://u:hush@h")).named();

            assert!(!json!(named).to_string().contains("hush"), "{name}");
        }
    }
}
