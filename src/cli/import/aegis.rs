//! The JSON export of Aegis. Groups become tags. Notes are left out, because people keep secrets in
//! them, and metadata are shown without being asked for.

use super::new_item::NewItem;
use super::otp_fields::{OtpFields, label};
use super::parsed::{Parsed, number, parse_entries, parse_json, text};
use crate::domain::ItemLimits;
use serde_json::Value;
use std::collections::HashMap;

/// Parses an export. One with a password is refused.
pub(super) fn parse(file: &str, limits: &ItemLimits) -> Result<Parsed, String> {
    let export = parse_json(file)?;
    let vault = &export["db"];
    if vault.is_string() || export["header"]["slots"].is_array() {
        return Err(
            "this export of Aegis is encrypted: in Aegis, export again as JSON without a password, \
             and delete the file after the import"
                .to_owned(),
        );
    }

    let entries = vault["entries"]
        .as_array()
        .ok_or("the file has no list db.entries: it is no export of Aegis")?;
    let groups = groups(vault);
    Ok(parse_entries(entries, |entry| {
        parse_entry(entry, &groups, limits)
    }))
}

/// Returns the names of the groups by their ids.
fn groups(vault: &Value) -> HashMap<&str, &str> {
    let groups = vault["groups"].as_array().into_iter().flatten();

    groups
        .filter_map(|group| Some((group["uuid"].as_str()?, group["name"].as_str()?)))
        .collect()
}

fn parse_entry(
    entry: &Value,
    groups: &HashMap<&str, &str>,
    limits: &ItemLimits,
) -> Result<NewItem, String> {
    let issuer = text(entry, "issuer")?;
    let info = &entry["info"];
    let otp = OtpFields {
        r#type: text(entry, "type")?,
        issuer,
        label: label(issuer, text(entry, "name")?),
        secret: text(info, "secret")?,
        algorithm: text(info, "algo")?,
        digits: number(info, "digits")?,
        period: number(info, "period")?,
        counter: number(info, "counter")?,
    }
    .parse()?;
    let mut item = NewItem::otp(otp, limits)?;

    let ids = entry["groups"].as_array().into_iter().flatten();
    let names = ids
        .filter_map(|id| groups.get(id.as_str()?).copied())
        // Exports of older versions have the group's name in the entry.
        .chain(entry["group"].as_str());
    item.tags
        .extend(names.filter(|name| !name.is_empty()).map(str::to_owned));

    Ok(item)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const EXPORT: &str = r#"{"version": 1, "header": {"slots": null, "params": null},
      "db": {"version": 3, "entries": [
        {"type": "totp", "uuid": "1", "name": "alice", "issuer": "Bank", "note": "hush",
         "icon": null,
         "info": {"secret": "MZXW6YTB", "algo": "SHA256", "digits": 8, "period": 60},
         "groups": ["g1", "gone"]},
        {"type": "hotp", "uuid": "2", "name": "bob", "issuer": "",  "note": "", "group": "Old",
         "info": {"secret": "MZXW6YTB", "algo": "SHA1", "digits": 6, "counter": 4}},
        {"type": "steam", "uuid": "3", "name": "carol", "issuer": "Steam",
         "info": {"secret": "MZXW6YTB", "algo": "SHA1", "digits": 5, "period": 30}},
        {"type": "motp", "uuid": "4", "name": "dave", "issuer": "",
         "info": {"secret": "e3152afee62599c8", "algo": "MD5", "digits": 6, "period": 10}}],
        "groups": [{"uuid": "g1", "name": "Money"}]}}"#;

    #[test]
    fn entries_are_read_with_their_groups_and_without_their_notes() {
        let parsed = parse(EXPORT, &ItemLimits::default()).expect("an export");

        let [alice, bob, carol, dave] = &parsed.entries[..] else {
            panic!("four entries")
        };
        let alice = alice.item.as_ref().expect("valid").operation(0);
        assert_eq!(alice["id"], "Bank:alice");
        assert_eq!(alice["tags"], json!(["Money"]));
        assert_eq!(alice["meta"], json!({}));
        assert_eq!(
            alice["data"]["uri"],
            "otpauth://totp/Bank:alice?secret=MZXW6YTB&issuer=Bank&algorithm=SHA256&digits=8&period=60"
        );
        let bob = bob.item.as_ref().expect("valid").operation(0);
        assert_eq!(bob["tags"], json!(["Old"]));
        assert!(carol.item.is_ok());
        assert_eq!(dave.place, "entry 4");
        assert!(dave.item.is_err());
    }

    #[test]
    fn an_encrypted_export_is_refused() {
        let file = r#"{"version": 1, "header": {"slots": [{"type": 1}], "params": {}},
          "db": "1rX0ajzsxNbh"}"#;

        let reason = parse(file, &ItemLimits::default()).err().expect("refused");

        assert!(reason.contains("without a password"), "{reason}");
    }

    #[test]
    fn another_file_is_refused() {
        for file in ["{}", r#"{"db": {}}"#, "[]", "x"] {
            assert!(parse(file, &ItemLimits::default()).is_err(), "{file}");
        }
    }
}
