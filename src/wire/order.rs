//! The order of fields in what is sent and printed. It is for people alone: no program may rely on
//! it, and nothing that is stored or compared has it.
//!
//! Fields that have no place in the order follow in the order of their names.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::LazyLock;

/// The fields of replies, and of what commands print, in their order.
pub const FIELDS: [&str; 112] = [
    // Replies and their parts.
    "error",
    "code",
    "exit_code",
    "status",
    "message",
    "valid",
    "field",
    "reason",
    "service",
    "client",
    "shard",
    "tag",
    "item",
    "items",
    "results",
    "versions",
    "limits",
    "shards",
    "workers",
    "keys",
    "bytes",
    "used",
    "limit",
    "value",
    "unit",
    "contains",
    // An item.
    "kind",
    "id",
    "data",
    "isin",
    "type",
    "mic",
    "ticker",
    "currency",
    "issuer",
    "account",
    "algorithm",
    "digits",
    "period_s",
    "counter",
    "uri",
    "secret",
    "remaining",
    "total",
    "codes",
    "taken",
    "name",
    "text",
    "meta",
    "tags",
    "place",
    "version",
    "deleted",
    "unknown",
    "created_at",
    "updated_at",
    // A build, and what a worker reports about itself.
    "commit",
    "built_at",
    "started",
    "supports",
    "kinds",
    "operations",
    "formats",
    "state",
    "degraded",
    "reasons",
    "part",
    "why",
    "hosted",
    "projection",
    "sequence",
    "lag",
    "held",
    "held_by",
    "cache",
    "owners",
    "hit_rate",
    "truth",
    "last_record_age_ms",
    "reached_by",
    "history",
    "requests",
    "nats",
    "settings",
    "auth",
    "reference",
    "postgres",
    "tasks",
    // An import.
    "dry_run",
    "files",
    "entries",
    "file",
    "format",
    "outcome",
    "added",
    "replaced",
    "already_there",
    "differ",
    "failed",
    // What replies end with.
    "valid_for_s",
    "owner_version",
    "floor",
    "epoch",
    "next_cursor",
    "more",
    "complete",
    "notify",
    "local",
    "stale",
    "details",
    "log_id",
    "request_id",
];

/// The place of each field.
static PLACES: LazyLock<HashMap<&str, usize>> = LazyLock::new(|| {
    let places = FIELDS.iter().enumerate();
    places.map(|(place, name)| (*name, place)).collect()
});

/// A value that is written with its fields in that order, in whatever encoding.
pub struct Ordered<'v>(pub &'v Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => {
                let fields = ordered(fields);
                serializer.collect_map(fields.iter().map(|(name, value)| (name, Ordered(value))))
            }
            Value::Array(entries) => serializer.collect_seq(entries.iter().map(Ordered)),
            other => other.serialize(serializer),
        }
    }
}

/// Returns the fields in their order.
fn ordered(fields: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_by_cached_key(|(name, _)| place(name));

    fields
}

fn place(name: &str) -> usize {
    PLACES.get(name).copied().unwrap_or(FIELDS.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    fn in_order(value: &Value) -> String {
        serde_json::to_string(&Ordered(value)).expect("JSON")
    }

    #[test]
    fn an_item_is_written_as_in_the_contract() {
        let text = concat!(
            r#"{"item":{"kind":"instrument","id":"US0378331005","data":{"isin":"US0378331005","#,
            r#""type":"stock","ticker":"AAPL","name":"Apple"},"meta":{"b":"1","c":"2"},"#,
            r#""tags":["x"],"place":"V","version":3,"created_at":"T","updated_at":"T"},"#,
            r#""owner_version":3,"another":[{"z":1}]}"#
        );
        let value: Value = serde_json::from_str(text).expect("JSON");

        assert_eq!(in_order(&value), text);
    }

    #[test]
    fn each_field_has_one_place() {
        assert_eq!(BTreeSet::from(FIELDS).len(), FIELDS.len());
        assert_eq!(in_order(&json!({"b": 1, "a": 2})), r#"{"a":2,"b":1}"#);
    }
}
