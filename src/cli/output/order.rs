//! JSON with its fields in the order of the contract. Fields that the contract does not know follow
//! in the order of their names.

use crate::wire::yaml_in_order;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

/// The fields of what commands print, in their order.
pub(super) const FIELDS: [&str; 92] = [
    // Replies and their parts.
    "error",
    "code",
    "exit_code",
    "status",
    "message",
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
    "total",
    "remaining",
    "codes",
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
    // What replies end with.
    "valid",
    "valid_for_s",
    "more",
    "complete",
    "owner_version",
    "floor",
    "epoch",
    "next_cursor",
    "notify",
    "local",
    "stale",
    "details",
    "request_id",
];

/// A value that is written in that order.
struct Ordered<'v>(&'v Value);

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
    fields.sort_by_key(|(name, _)| rank(name));

    fields
}

fn rank(name: &str) -> usize {
    let position = FIELDS.iter().position(|field| *field == name);

    position.unwrap_or(FIELDS.len())
}

/// Returns the value as JSON on several lines.
pub(in crate::cli) fn pretty_json(value: &Value) -> String {
    serde_json::to_string_pretty(&Ordered(value)).unwrap_or_else(|_| format!("{value:#}"))
}

/// Returns the value as JSON on one line.
pub(in crate::cli) fn json_line(value: &Value) -> String {
    serde_json::to_string(&Ordered(value)).unwrap_or_else(|_| value.to_string())
}

/// Returns the value as YAML.
pub(super) fn ordered_yaml(value: &Value) -> String {
    yaml_in_order(value, &FIELDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    #[test]
    fn an_item_is_written_as_in_the_contract() {
        let text = concat!(
            r#"{"item":{"kind":"instrument","id":"US0378331005","data":{"isin":"US0378331005","#,
            r#""type":"stock","ticker":"AAPL","name":"Apple"},"meta":{"b":"1","c":"2"},"#,
            r#""tags":["x"],"place":"V","version":3,"created_at":"T","updated_at":"T"},"#,
            r#""owner_version":3,"another":[{"z":1}]}"#
        );
        let value: Value = serde_json::from_str(text).expect("JSON");

        assert_eq!(json_line(&value), text);
        let read: Value = serde_json::from_str(&pretty_json(&value)).expect("JSON");
        assert_eq!(read, value);
    }

    #[test]
    fn each_field_has_one_place() {
        assert_eq!(BTreeSet::from(FIELDS).len(), FIELDS.len());
        assert_eq!(json_line(&json!({"b": 1, "a": 2})), r#"{"a":2,"b":1}"#);
    }
}
