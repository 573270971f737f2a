//! The tables of docs/settings.md, made from the types: the comment on a field is its meaning, and
//! its default comes from `Default`. The text between the tables is written by hand.

use super::{Settings, SettingsError, sources};
use schemars::generate::SchemaSettings;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Set in the environment, it makes the test write the tables again.
const UPDATE: &str = "UPDATE_SETTINGS";

/// The first lines of a table of settings.
const HEADING: &str = "| setting | default | unit | meaning |\n|---|---|---|---|\n";

/// The units that the ends of names stand for. Another number names its unit as `x-unit`.
const UNITS: [(&str, &str); 7] = [
    ("_ms", "milliseconds"),
    ("_s", "seconds"),
    ("_h", "hours"),
    ("_d", "days"),
    ("_bytes", "bytes"),
    ("_entries", "entries"),
    ("_percent", "percent"),
];

/// Returns the settings that have no usable default.
fn required_settings() -> BTreeSet<String> {
    let Err(SettingsError::Invalid(problems)) = Settings::default().check() else {
        panic!("the defaults are not enough for a worker");
    };

    let names = problems.iter().flat_map(|one| sources::settings_of(one));
    names.map(str::to_owned).collect()
}

/// Returns the schema of a setting.
fn schema_of<'a>(settings: &'a Value, setting: &str) -> &'a Value {
    setting
        .split('.')
        .fold(settings, |schema, part| &schema["properties"][part])
}

/// Returns a default as the page has it, with its digits in groups.
fn default_cell(value: &str) -> String {
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return format!("`{value}`");
    }

    let mut grouped = String::new();
    for (index, digit) in value.chars().enumerate() {
        if index > 0 && (value.len() - index).is_multiple_of(3) {
            grouped.push('_');
        }
        grouped.push(digit);
    }
    format!("`{grouped}`")
}

/// Returns the unit of a number, and nothing for anything else.
fn unit<'a>(setting: &str, schema: &'a Value) -> &'a str {
    if schema["type"] != "integer" {
        return "";
    }

    let of_name = UNITS.iter().find(|(end, _)| setting.ends_with(end));
    let named = schema["x-unit"].as_str();
    named
        .or(of_name.map(|(_, unit)| *unit))
        .unwrap_or_else(|| panic!("{setting} has no unit"))
}

/// Returns the meaning: the comment without the form of a sentence.
fn meaning(setting: &str, schema: &Value) -> String {
    let comment = schema["description"].as_str().unwrap_or_default();
    assert!(!comment.is_empty(), "{setting} has no comment");
    assert!(!comment.contains("\n\n"), "{setting}: one paragraph only");

    let text = comment.replace('\n', " ");
    let text = text.strip_suffix('.').unwrap_or(&text);
    let (first, rest) = text.split_at(1);
    if rest.starts_with(|c: char| c.is_ascii_uppercase()) {
        return text.to_owned();
    }
    first.to_lowercase() + rest
}

/// Returns the rows of all settings, each with its section.
fn rows() -> Vec<(String, String)> {
    let inlined = SchemaSettings::default().with(|settings| settings.inline_subschemas = true);
    let schema = inlined.into_generator().into_root_schema_for::<Settings>();
    let required = required_settings();
    let defaults = Settings::default().shown().expect("TOML");

    let row = |(setting, default): (String, String)| {
        let schema = schema_of(schema.as_value(), &setting);
        let default = match required.contains(&setting) {
            true => "none".to_owned(),
            false => default_cell(&default),
        };
        let unit = unit(&setting, schema);
        let unit = if unit.is_empty() {
            " "
        } else {
            &format!(" {unit} ")
        };
        let meaning = meaning(&setting, schema);
        let section = setting.split('.').next().unwrap_or_default().to_owned();

        let row = format!("| `{setting}` | {default} |{unit}| {meaning} |\n");
        (section, row)
    };
    let values = sources::values_of(&defaults).expect("TOML");
    values.into_iter().map(row).collect()
}

/// Returns the section of a table's first row.
fn section_of(table: &str) -> &str {
    let setting = table
        .strip_prefix("| `")
        .and_then(|row| row.split_once('.'));
    setting.expect("a row of a setting").0
}

/// Returns the page with the tables of these rows.
fn with_tables(page: &str, rows: &[(String, String)]) -> String {
    let mut parts = page.split(HEADING);
    let mut out = parts.next().unwrap_or_default().to_owned();
    let mut left: BTreeSet<&String> = rows.iter().map(|(section, _)| section).collect();

    for part in parts {
        let section = section_of(part);
        let (_, text) = part.split_once("\n\n").expect("a text after the table");
        let table = rows.iter().filter(|(of, _)| of == section);
        let table: String = table.map(|(_, row)| row.as_str()).collect();

        left.retain(|one| *one != section);
        out += &format!("{HEADING}{table}\n{text}");
    }

    assert!(left.is_empty(), "docs/settings.md has no table of {left:?}");
    out
}

#[test]
fn the_page_of_settings_is_as_the_types_have_it() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    let kept = fs::read_to_string(&file).expect("a page");
    let page = with_tables(&kept, &rows());

    if std::env::var_os(UPDATE).is_some() {
        fs::write(&file, &page).expect("written");
        return;
    }
    let differs = page.lines().zip(kept.lines()).find(|(new, old)| new != old);
    assert!(
        page == kept,
        "make settings writes docs/settings.md again. First difference: {differs:?}"
    );
}
