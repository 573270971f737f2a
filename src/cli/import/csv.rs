//! Instruments in a file of comma-separated values: a header, and an instrument on each line.
//!
//! The columns of an instrument's fields have their names. `tags` holds tags with semicolons
//! between them. Any other column is metadata of that name. An empty field is left out.

use super::new_item::{InstrumentFields, NewItem};
use super::parsed::Parsed;
use crate::domain::ItemLimits;
use csv::{Reader, ReaderBuilder, StringRecord, Trim};

/// The columns that are fields of an instrument.
const FIELDS: [&str; 6] = ["isin", "type", "ticker", "mic", "currency", "name"];
/// The column of the tags.
const TAGS: &str = "tags";

/// The names of the columns: those with a meaning in lower case, the others as they are.
struct Header(Vec<String>);

/// Parses a file.
pub(super) fn parse(file: &str, limits: &ItemLimits) -> Result<Parsed, String> {
    let mut reader = reader(file);
    let header = reader
        .headers()
        .map_err(|_| "the header cannot be read".to_owned())
        .and_then(Header::parse)?;

    let mut parsed = Parsed::default();
    let mut row = StringRecord::new();
    loop {
        match reader.read_record(&mut row) {
            Ok(false) => return Ok(parsed),
            Ok(true) => {
                // A spreadsheet may end with rows that are empty.
                if row.iter().any(|field| !field.is_empty()) {
                    let place = format!("line {}", line_of(&row, file));
                    parsed.push(place, header.parse_row(&row, limits));
                }
            }
            // The text is UTF-8, and rows may have any length: there is nothing else that fails.
            Err(_) => return Err("the file is not comma-separated text".to_owned()),
        }
    }
}

/// Returns a reader of the file's rows. The separator is the one that the header has most often:
/// some spreadsheets write semicolons or tabs.
fn reader(file: &str) -> Reader<&[u8]> {
    let header = file.lines().next().unwrap_or_default();
    let count = |separator: &u8| header.bytes().filter(|byte| byte == separator).count();
    let separator = *b"\t;,".iter().max_by_key(|one| count(one)).unwrap_or(&b',');

    ReaderBuilder::new()
        .delimiter(separator)
        .trim(Trim::All)
        .flexible(true)
        .from_reader(file.as_bytes())
}

/// Returns the line on which a row begins. The position that the reader has for a row is that of
/// the empty lines before it.
fn line_of(row: &StringRecord, file: &str) -> u64 {
    let Some(position) = row.position() else {
        return 0;
    };
    let at = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let rest = file.as_bytes().get(at..).unwrap_or_default();
    let skipped = rest.iter().take_while(|byte| b"\r\n".contains(byte));

    position.line() + skipped.filter(|byte| **byte == b'\n').count() as u64
}

impl Header {
    fn parse(names: &StringRecord) -> Result<Self, String> {
        let names: Vec<String> = names
            .iter()
            .map(|name| {
                let lower = name.to_lowercase();
                if lower == TAGS || FIELDS.contains(&lower.as_str()) {
                    lower
                } else {
                    name.to_owned()
                }
            })
            .collect();

        let twice = (1..names.len()).find(|at| names[..*at].contains(&names[*at]));
        if let Some(at) = twice {
            return Err(format!("column {} has the name of another one", at + 1));
        }
        if let Some(at) = names.iter().position(String::is_empty) {
            return Err(format!("column {} has no name", at + 1));
        }

        let header = Self(names);
        if header.has("isin") || header.has("mic") && header.has("ticker") {
            return Ok(header);
        }
        Err("the header needs the column isin, or both mic and ticker".to_owned())
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|one| one == name)
    }

    fn parse_row(&self, row: &StringRecord, limits: &ItemLimits) -> Result<NewItem, String> {
        if row.len() != self.0.len() {
            return Err(format!(
                "it has {} fields, and the header has {}",
                row.len(),
                self.0.len()
            ));
        }

        let get = |name: &str| {
            let at = self.0.iter().position(|one| one == name);
            at.and_then(|at| row.get(at)).unwrap_or_default()
        };
        let r#type = get("type").to_lowercase();
        let fields = InstrumentFields {
            isin: get("isin"),
            r#type: &r#type,
            ticker: get("ticker"),
            mic: get("mic"),
            currency: get("currency"),
            name: get("name"),
        };
        let mut item = NewItem::instrument(&fields, limits)?;

        let tags = get(TAGS).split(';').map(str::trim);
        item.tags
            .extend(tags.filter(|tag| !tag.is_empty()).map(str::to_owned));
        for (name, value) in self.0.iter().zip(row) {
            let is_meta = name != TAGS && !FIELDS.contains(&name.as_str());
            if is_meta && !value.is_empty() {
                item.meta.insert(name.clone(), value.to_owned());
            }
        }
        Ok(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Returns the operation of each line, or why there is none.
    fn operations(file: &str) -> Vec<(String, Result<Value, String>)> {
        let parsed = parse(file, &ItemLimits::default()).expect("a header");

        let entries = parsed.entries.into_iter();
        entries
            .map(|found| (found.place, found.item.map(|item| item.operation(0))))
            .collect()
    }

    #[test]
    fn columns_are_fields_tags_or_metadata() {
        let file = "ISIN,Type,name,tags,Note,broker\n\
                    us0378331005,STOCK,\"Apple, Inc.\",tech; core;,bought early,\n\
                    \n\
                    DE0001102580,bond,,,,x\n\
                    ,,,, ,\n";

        let operations = operations(file);

        let [(first, apple), (second, bund)] = &operations[..] else {
            panic!("two lines")
        };
        let apple = apple.as_ref().expect("valid");
        assert_eq!(first, "line 2");
        assert_eq!(
            apple["data"],
            json!({"isin": "US0378331005", "type": "stock", "name": "Apple, Inc."})
        );
        assert_eq!(apple["tags"], json!(["core", "tech"]));
        assert_eq!(apple["meta"], json!({"Note": "bought early"}));
        assert_eq!(second, "line 4");
        assert_eq!(
            bund.as_ref().expect("valid")["meta"],
            json!({"broker": "x"})
        );
    }

    #[test]
    fn a_spreadsheet_may_write_semicolons_or_tabs() {
        for (separator, tags) in [(";", "\"a;b\""), ("\t", "a;b"), (",", "a;b")] {
            let file = ["mic,ticker,tags", "rtsx,SiZ6,TAGS"]
                .join("\r\n")
                .replace(',', separator)
                .replace("TAGS", tags);

            let operations = operations(&file);

            let operation = operations[0].1.as_ref().expect("valid");
            assert_eq!(operation["id"], "RTSX:SiZ6");
            assert_eq!(operation["tags"], json!(["a", "b"]));
        }
    }

    #[test]
    fn a_line_that_is_wrong_is_named_and_not_repeated() {
        let file = "isin,type\nUS0378331006,stock\nUS0378331005\nUS0378331005,share\n,stock\n\
                    US0378331005,stock";

        let operations = operations(file);

        let reasons: Vec<&String> = operations
            .iter()
            .filter_map(|(_, operation)| operation.as_ref().err())
            .collect();
        assert_eq!(reasons.len(), 4);
        assert!(reasons[0].starts_with("isin: the check digit"));
        assert_eq!(reasons[1], "it has 1 fields, and the header has 2");
        assert!(reasons[2].starts_with("type: must be one of"));
        assert!(reasons[3].starts_with("an instrument needs"));
        assert!(reasons.iter().all(|reason| !reason.contains("037833")));
    }

    #[test]
    fn a_header_has_to_identify_instruments() {
        for (header, reason) in [
            ("name,mic", "the header needs"),
            ("isin,ISIN", "column 2 has the name"),
            ("isin,note,note", "column 3 has the name"),
            ("isin,", "column 2 has no name"),
            ("", "the header needs"),
        ] {
            let refused = parse(header, &ItemLimits::default())
                .err()
                .expect("refused");

            assert!(refused.starts_with(reason), "{refused}");
        }
    }
}
