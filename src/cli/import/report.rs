//! What an import prints at its end.

use super::plan::{Entry, Outcome};
use super::source::Source;
use serde_json::{Value, json};

/// What became of the entries of some files.
pub(super) struct Report<'r> {
    pub sources: &'r [Source],
    pub entries: &'r [Entry],
    pub dry_run: bool,
}

impl Report<'_> {
    /// Returns how many entries have failed.
    pub fn failed(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    fn count(&self, counts: impl Fn(&Outcome) -> bool) -> usize {
        let outcomes = self.entries.iter().map(|entry| &entry.outcome);

        outcomes.filter(|outcome| counts(outcome)).count()
    }

    /// Returns the report for machines.
    pub fn json(&self) -> Value {
        let files = self.sources.iter();
        let files: Vec<Value> = files
            .map(|source| json!({"file": source.name, "format": source.format.as_str()}))
            .collect();
        let entries: Vec<Value> = self.entries.iter().map(|entry| self.row(entry)).collect();

        json!({
            "dry_run": self.dry_run,
            "files": files,
            "entries": entries,
            "added": self.count(|outcome| *outcome == Outcome::Added),
            "replaced": self.count(|outcome| *outcome == Outcome::Replaced),
            "already_there": self.count(|outcome| *outcome == Outcome::AlreadyThere),
            "differ": self.count(|outcome| *outcome == Outcome::Differs),
            "failed": self.failed(),
        })
    }

    fn row(&self, entry: &Entry) -> Value {
        let mut row = json!({"file": self.sources[entry.file].name, "place": entry.place});
        if let Some(item) = &entry.item {
            row["kind"] = json!(item.kind());
            row["id"] = json!(item.id);
        }
        row["outcome"] = json!(match &entry.outcome {
            Outcome::Added => "added",
            Outcome::Replaced => "replaced",
            Outcome::AlreadyThere => "already_there",
            Outcome::Differs => "differs",
            Outcome::Failed(_) => "failed",
        });
        if let Outcome::Failed(reason) = &entry.outcome {
            row["reason"] = json!(reason);
        }

        row
    }

    /// Returns the report for people: the format of each file, a line for each entry, and a line
    /// that counts.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (number, source) in self.sources.iter().enumerate() {
            let of_file = self.entries.iter().filter(|entry| entry.file == number);
            let entries: Vec<&Entry> = of_file.collect();
            let count = match entries.len() {
                1 => "1 entry".to_owned(),
                count => format!("{count} entries"),
            };

            text += &format!("{}: {}, {count}\n", source.name, source.format.as_str());
            for entry in entries {
                text += &self.line(entry);
            }
        }

        text + &self.summary()
    }

    fn line(&self, entry: &Entry) -> String {
        let item = entry.item.as_ref().map(|item| item.describe());
        let item = item.unwrap_or_default();
        let would = if self.dry_run { "would be " } else { "" };
        let what = match &entry.outcome {
            Outcome::Added => format!("{would}added {item}"),
            Outcome::Replaced => format!("{would}replaced {item}"),
            Outcome::AlreadyThere => format!("already there {item}"),
            Outcome::Differs => format!("differs, and is left alone: {item}"),
            Outcome::Failed(reason) => format!("failed: {reason}"),
        };

        match entry.place.as_str() {
            "" => format!("  {what}\n"),
            place => format!("  {place}: {what}\n"),
        }
    }

    fn summary(&self) -> String {
        let dry_run = if self.dry_run {
            "nothing was written: "
        } else {
            ""
        };
        let replaced = match self.count(|outcome| *outcome == Outcome::Replaced) {
            0 => String::new(),
            count => format!("{count} replaced, "),
        };

        format!(
            "{dry_run}{} added, {replaced}{} already there, {} differ, {} failed\n",
            self.count(|outcome| *outcome == Outcome::Added),
            self.count(|outcome| *outcome == Outcome::AlreadyThere),
            self.count(|outcome| *outcome == Outcome::Differs),
            self.failed(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::import::format::Format;
    use crate::cli::import::new_item::NewItem;
    use crate::domain::{ItemLimits, Otp};
    use zeroize::Zeroizing;

    fn entries() -> Vec<Entry> {
        let otp = Otp::parse("otpauth://totp/Bank:alice?secret=MZXW6YTB").expect("valid");
        let item = NewItem::otp(otp, &ItemLimits::default()).expect("valid");
        let outcomes = [
            Outcome::Added,
            Outcome::AlreadyThere,
            Outcome::Differs,
            Outcome::Failed("it is wrong".to_owned()),
        ];

        let numbered = outcomes.into_iter().enumerate();
        numbered
            .map(|(number, outcome)| Entry {
                file: 0,
                place: format!("line {}", number + 1),
                item: (number < 3).then(|| item.clone()),
                repeats: None,
                outcome,
            })
            .collect()
    }

    fn sources() -> [Source; 1] {
        [Source {
            name: "keys.txt".to_owned(),
            format: Format::Otpauth,
            content: Zeroizing::new(Vec::new()),
        }]
    }

    #[test]
    fn each_entry_has_a_line() {
        let (sources, entries) = (sources(), entries());
        let mut report = Report {
            sources: &sources,
            entries: &entries,
            dry_run: false,
        };

        assert_eq!(
            report.text(),
            "keys.txt: otpauth, 4 entries\n\
             \x20 line 1: added otp Bank:alice: Bank alice (totp)\n\
             \x20 line 2: already there otp Bank:alice: Bank alice (totp)\n\
             \x20 line 3: differs, and is left alone: otp Bank:alice: Bank alice (totp)\n\
             \x20 line 4: failed: it is wrong\n\
             1 added, 1 already there, 1 differ, 1 failed\n"
        );
        report.dry_run = true;
        let text = report.text();
        assert!(text.contains("line 1: would be added otp"), "{text}");
        assert!(text.contains("\nnothing was written: 1 added, "), "{text}");
    }

    #[test]
    fn machines_get_the_same() {
        let (sources, entries) = (sources(), entries());
        let report = Report {
            sources: &sources,
            entries: &entries,
            dry_run: false,
        };

        let json = report.json();

        assert_eq!(json["files"][0]["format"], "otpauth");
        assert_eq!(
            json["entries"][0],
            json!({"file": "keys.txt", "place": "line 1", "kind": "otp", "id": "Bank:alice",
                   "outcome": "added"})
        );
        assert_eq!(
            json["entries"][3],
            json!({"file": "keys.txt", "place": "line 4", "outcome": "failed",
                   "reason": "it is wrong"})
        );
        assert_eq!(
            [&json["added"], &json["differ"], &json["failed"]],
            [1, 1, 1]
        );
        assert!(!json.to_string().contains("MZXW6YTB"));
    }
}
