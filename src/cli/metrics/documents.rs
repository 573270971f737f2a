//! What documents, dashboard and alerts say about the families, compared with the table.

use super::families::families;
use super::family::{Family, Kind, OperationSource, Source};
use crate::wire::{Code, Operation};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const DASHBOARD: &str = "deploy/monitoring/dashboard.json";
const ALERTS: &str = "deploy/monitoring/alerts.yaml";

fn text(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(path).expect("a file")
}

/// The row of a family in `docs/operations.md`.
fn row(family: &Family) -> String {
    let labels: Vec<String> = family
        .labels
        .iter()
        .map(|label| format!("`{label}`"))
        .collect();

    format!(
        "| `{}` | {} | {} | {} |",
        family.name,
        family.kind.as_str(),
        labels.join(", "),
        family.help
    )
    .replace("|  |", "| |")
}

/// What the alerts, the panels and the variables of the dashboard ask Prometheus for.
fn expressions() -> Vec<String> {
    let rules: Value = serde_yaml_ng::from_str(&text(ALERTS)).expect("YAML");
    let rules = rules["groups"].as_array().into_iter().flatten();
    let rules = rules.flat_map(|group| group["rules"].as_array().expect("rules"));
    let of_alerts = rules.map(|rule| rule["expr"].as_str().expect("text").to_owned());

    let dashboard: Value = serde_json::from_str(&text(DASHBOARD)).expect("JSON");
    let mut found: Vec<String> = of_alerts.collect();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            found.push(target["expr"].as_str().expect("text").to_owned());
        }
    }
    for variable in dashboard["templating"]["list"].as_array().expect("a list") {
        found.extend(variable["query"]["query"].as_str().map(str::to_owned));
    }
    found
}

/// The names that an expression has, with what follows each.
fn names(expression: &str) -> impl Iterator<Item = (&str, &str)> {
    expression.match_indices("gofavorites_").map(|(at, _)| {
        let rest = &expression[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        rest.split_at(end.unwrap_or(rest.len()))
    })
}

fn find(name: &str) -> Option<&'static Family> {
    families().find(|family| match family.kind {
        Kind::Histogram => ["_bucket", "_sum", "_count"]
            .iter()
            .any(|ending| name.strip_suffix(ending) == Some(family.name)),
        _ => family.name == name,
    })
}

/// The values that a label of a family can have, if they are known.
fn values(family: &Family, label: &str) -> Option<BTreeSet<String>> {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let firsts =
        |fields: &[(&str, &str)]| fields.iter().map(|(name, _)| (*name).to_owned()).collect();

    match (&family.source, label) {
        (Source::OneOf(_, states), "state") => Some(texts(states)),
        (Source::Operations(OperationSource::Refusals), "code") => {
            Some(texts(&Code::ALL.map(Code::as_str)))
        }
        (_, "operation") => Some(texts(&Operation::ALL.map(Operation::name))),
        (Source::Fields(fields) | Source::FieldsAre(_, fields), _)
            if family.labels.last() == Some(&label) =>
        {
            Some(firsts(fields))
        }
        _ => None,
    }
}

/// Checks the labels that follow a family's name: `{label="value",…}`.
fn check_matchers(family: &Family, rest: &str, expression: &str) {
    let Some((matchers, _)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
        return;
    };
    for matcher in matchers.split(',') {
        let (label, value) = matcher.split_once(['=', '!']).expect("a matcher");
        assert!(family.labels.contains(&label), "{label} in {expression}");

        let value = value.trim_start_matches(['=', '~']).trim_matches('"');
        if let Some(known) = values(family, label).filter(|_| !value.starts_with('$')) {
            for one in value.split('|') {
                assert!(known.contains(one), "{one} in {expression}");
            }
        }
    }
}

/// The labels by which an expression groups, joins or asks.
fn grouping_labels(expression: &str) -> BTreeSet<&str> {
    let lists = ["by (", "on (", "group_left (", "ignoring ("].into_iter();
    let lists = lists.flat_map(|word| expression.split(word).skip(1));

    let labels = lists.flat_map(|rest| rest.split(')').next().unwrap_or_default().split(','));
    labels
        .map(str::trim)
        .filter(|label| !label.is_empty())
        .collect()
}

/// The labels in the names of series, `{{shard}}`, and in the texts of alerts, `{{ $labels.shard }}`.
fn labels_shown(text: &str) -> BTreeSet<String> {
    let templates = text
        .split("{{")
        .skip(1)
        .filter_map(|rest| rest.split("}}").next());

    templates
        .map(|template| template.trim().trim_start_matches("$labels."))
        .filter(|template| !template.starts_with('$'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn each_family_has_its_row_in_operations() {
    let document = text("docs/operations.md");
    let section = document.split_once("\n## Metrics\n").expect("a section").1;
    let section = section.split("\n## ").next().expect("a part");
    let rows: Vec<&str> = section
        .lines()
        .filter(|line| line.starts_with("| `gofavorites_"))
        .collect();

    let expected: Vec<String> = families().map(row).collect();
    assert_eq!(rows, expected, "the rows are:\n{}\n", expected.join("\n"));
}

#[test]
fn dashboard_and_alerts_ask_for_families_that_exist() {
    let all_labels: BTreeSet<&str> = families()
        .flat_map(|family| family.labels)
        .copied()
        .collect();
    let expressions = expressions();
    assert!(expressions.len() > 40, "{}", expressions.len());

    for expression in &expressions {
        assert!(expression.contains("gofavorites_"), "{expression}");
        for (name, rest) in names(expression) {
            let family = find(name).unwrap_or_else(|| panic!("{name} in {expression}"));
            check_matchers(family, rest, expression);
        }
        for label in grouping_labels(expression) {
            let is_known = all_labels.contains(label) || label == "le";
            assert!(is_known, "{label} in {expression}");
        }
    }

    for file in [ALERTS, DASHBOARD] {
        for label in labels_shown(&text(file)) {
            let is_known = all_labels.contains(&*label) || ["le", "instance"].contains(&&*label);
            assert!(is_known, "{label} in {file}");
        }
    }
}

#[test]
fn each_family_is_on_the_dashboard_or_in_an_alert() {
    let expressions = expressions();
    let asked: BTreeSet<&str> = expressions
        .iter()
        .flat_map(|expression| names(expression))
        .filter_map(|(name, _)| Some(find(name)?.name))
        .collect();

    let forgotten: Vec<&str> = families()
        .map(|family| family.name)
        .filter(|name| !asked.contains(name))
        .collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
}

#[test]
fn each_alert_has_its_section_and_a_pointer_to_it() {
    let rules: Value = serde_yaml_ng::from_str(&text(ALERTS)).expect("YAML");
    let rules = rules["groups"].as_array().into_iter().flatten();
    let rules = rules.flat_map(|group| group["rules"].as_array().expect("rules"));
    let mut alerts = BTreeSet::new();
    for rule in rules {
        let name = rule["alert"].as_str().expect("a name");
        alerts.insert(name.to_owned());

        let anchor = name.to_ascii_lowercase();
        let runbook = format!("../../docs/operations.md#{anchor}");
        assert_eq!(rule["annotations"]["runbook_url"], runbook);
        for annotation in ["summary", "description"] {
            assert!(rule["annotations"][annotation].is_string(), "{name}");
        }
        assert!(rule["for"].is_string(), "{name}");
        let severity = rule["labels"]["severity"].as_str().unwrap_or_default();
        assert!(["critical", "warning"].contains(&severity), "{name}");
    }

    let document = text("docs/operations.md");
    let headings = document
        .lines()
        .filter_map(|line| line.strip_prefix("### "));
    let headings: BTreeSet<String> = headings
        .filter(|heading| heading.starts_with("GoFavorites"))
        .map(str::to_owned)
        .collect();
    assert_eq!(headings, alerts);
}

#[test]
fn each_panel_has_a_unit_and_a_description() {
    let dashboard: Value = serde_json::from_str(&text(DASHBOARD)).expect("JSON");

    let panels = dashboard["panels"].as_array().expect("panels");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let title = &panel["title"];
        let has = |text: &Value| text.as_str().is_some_and(|text| !text.is_empty());
        assert!(has(&panel["description"]), "{title}");
        assert!(has(&panel["fieldConfig"]["defaults"]["unit"]), "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
    }
}
