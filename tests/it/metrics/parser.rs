//! A strict reader of OpenMetrics text, as far as the program writes it.

use std::collections::BTreeMap;

/// What was read: the number of each sample, by its name with its labels.
pub(super) type Samples = BTreeMap<String, f64>;

/// A family that was announced.
#[derive(Default)]
struct Family {
    name: String,
    kind: String,
    unit: String,
    help: String,
}

/// Reads a text. Fails if it breaks a rule of OpenMetrics 1.0.
#[track_caller]
pub(super) fn parse(text: &str) -> Samples {
    let body = text.strip_suffix("# EOF\n").expect("an end");
    assert!(!body.contains("# EOF"), "more than one end");
    assert!(body.is_empty() || body.ends_with('\n'), "a half line");

    let mut families: BTreeMap<String, String> = BTreeMap::new();
    let mut family = Family::default();
    let mut samples = Samples::new();
    for line in body.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            check_announcement(&family, line);
            let (name, number) = line.rsplit_once(' ').expect("a number");
            let labels = check_name(&family, name);
            check_labels(labels, line);
            let number: f64 = number.parse().expect(line);
            assert!(number >= 0.0 && number.is_finite(), "{line}");
            let former = samples.insert(name.to_owned(), number);
            assert_eq!(former, None, "twice: {line}");
            continue;
        };

        let mut words = comment.splitn(3, ' ');
        let mut word = || words.next().expect(line).to_owned();
        let (keyword, name, text) = (word(), word(), word());
        if keyword == "TYPE" {
            let former = families.insert(name.clone(), text.clone());
            assert_eq!(former, None, "twice: {line}");
            family = Family {
                name: name.clone(),
                kind: text.clone(),
                ..Family::default()
            };
        }
        assert_eq!(name, family.name, "{line}");
        match keyword.as_str() {
            "TYPE" => {}
            "UNIT" => family.unit = text,
            "HELP" => family.help = text,
            _ => panic!("a comment: {line}"),
        }
    }

    check_histograms(&families, &samples);
    samples
}

/// Checks what was said about a family before its first sample.
fn check_announcement(family: &Family, line: &str) {
    let Family {
        name, unit, help, ..
    } = family;
    assert!(name.starts_with("gofavorites_"), "{line}");
    assert!(!help.is_empty(), "no help: {name}");

    let base = ["_seconds", "_bytes"]
        .into_iter()
        .find(|unit| name.ends_with(unit));
    assert_eq!(
        base.unwrap_or_default().trim_start_matches('_'),
        unit,
        "{name}"
    );
}

/// Checks that a sample's name fits its family, and returns its labels.
fn check_name<'l>(family: &Family, sample: &'l str) -> &'l str {
    let (name, labels) = match sample.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}').expect(sample)),
        None => (sample, ""),
    };

    let ending = name.strip_prefix(&family.name).expect(sample);
    let is_right = match family.kind.as_str() {
        "counter" => ending == "_total",
        "gauge" => ending.is_empty(),
        "info" => ending == "_info",
        "histogram" => ["_bucket", "_sum", "_count"].contains(&ending),
        other => panic!("{other}"),
    };
    assert!(is_right, "{sample} is no {}", family.kind);
    labels
}

/// Checks the labels: names, quotes, and what has to be escaped.
fn check_labels(labels: &str, line: &str) {
    let mut rest = labels;
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").expect(line);
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(!name.is_empty() && name.chars().all(is_name), "{line}");

        let mut is_escaped = false;
        let end = value.find(|c| {
            let is_end = c == '"' && !is_escaped;
            assert!(!is_escaped || "\\\"n".contains(c), "{line}");
            is_escaped = c == '\\' && !is_escaped;
            is_end
        });
        rest = &value[end.expect(line) + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

/// Checks that no bucket of a histogram has fewer than the one before, and that the last has all.
fn check_histograms(families: &BTreeMap<String, String>, samples: &Samples) {
    for (family, _) in families.iter().filter(|(_, kind)| *kind == "histogram") {
        let counts = samples.iter().filter_map(|(name, count)| {
            let labels = name.strip_prefix(&format!("{family}_count{{"))?;
            Some((labels.trim_end_matches('}'), *count))
        });
        for (labels, count) in counts {
            let bucket = format!("{family}_bucket{{{labels},le=\"");
            let mut buckets: Vec<(f64, f64)> = samples
                .iter()
                .filter_map(|(name, number)| {
                    let bound = name.strip_prefix(&bucket)?.strip_suffix("\"}")?;
                    Some((bound.parse().expect("a bound"), *number))
                })
                .collect();
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));

            assert!(buckets.len() > 2, "{labels}");
            assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{buckets:?}");
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{labels}");
        }
    }
}
