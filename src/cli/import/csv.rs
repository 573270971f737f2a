//! Instruments in a file of comma-separated values: a header, and an instrument on each line.
//!
//! The columns of an instrument's fields have their names. `tags` holds tags with semicolons
//! between them. Any other column is metadata of that name. An empty field is left out.
//!
//! A row stands on one line. So a quote that somebody forgot to close is noticed: without that
//! rule, it would make the lines that follow a part of its field.

use super::new_item::{InstrumentFields, NewItem};
use super::parsed::Parsed;
use crate::domain::ItemLimits;
use csv::{Reader, ReaderBuilder, StringRecord, Trim};

/// The columns that are fields of an instrument.
const FIELDS: [&str; 6] = ["isin", "type", "ticker", "mic", "currency", "name"];
/// The column of the tags.
const TAGS: &str = "tags";
/// How the line begins with which a spreadsheet may name the separator.
const SEPARATOR: &str = "sep=";
/// What ends a line. Old programs write a carriage return alone.
const LINE_ENDS: [char; 2] = ['\r', '\n'];

/// The names of the columns: those with a meaning in lower case, the others as they are.
struct Header(Vec<String>);

/// The rows of a file that are not empty.
struct Rows<'f> {
    file: &'f str,
    reader: Reader<&'f [u8]>,
    /// The byte up to which the lines are counted, and the line on which it stands.
    counted: (usize, u64),
}

/// A row, and the lines on which it begins and ends.
#[derive(Default)]
struct Row {
    fields: StringRecord,
    first_line: u64,
    last_line: u64,
    /// Whether a quote opens, and does not close before the file ends.
    is_open: bool,
}

/// Parses a file.
pub(super) fn parse(file: &str, limits: &ItemLimits) -> Result<Parsed, String> {
    let mut rows = Rows::of(file)?;
    let header = rows.next_row()?.unwrap_or_default();
    header.check_lines()?;
    let header = Header::parse(&header.fields)?;

    let mut parsed = Parsed::default();
    while let Some(row) = rows.next_row()? {
        let item = row
            .check_lines()
            .and_then(|()| header.parse_row(&row.fields, limits));
        parsed.push(format!("line {}", row.first_line), item);
    }

    Ok(parsed)
}

/// Returns whether a text looks like a file of instruments, by its header.
pub(super) fn is_table(text: &str) -> bool {
    let header = Rows::of(text).and_then(|mut rows| rows.next_row());
    let header = header.ok().flatten().unwrap_or_default();

    header.fields.iter().any(|name| {
        let name = name.to_lowercase();
        name == "isin" || name == "ticker"
    })
}

/// Returns whether a row or a line has more than separators.
fn is_filled(text: &str) -> bool {
    text.contains(char::is_alphanumeric)
}

/// Returns whether a field of a row begins with a quote; within a field it is only a character.
fn opens_quote(row: &str) -> bool {
    let quote = row.find('"').unwrap_or_default();
    let before = row[..quote].trim_end_matches(' ');

    before.is_empty() || before.ends_with([',', ';', '\t'])
}

/// Returns the separator that a line names, as spreadsheets do: `sep=;`.
fn named_separator(line: &str) -> Option<u8> {
    let line = line.trim_matches([' ', '"']);
    let (begin, separator) = line.split_at_checked(SEPARATOR.len())?;

    match separator.as_bytes() {
        [separator]
            if begin.eq_ignore_ascii_case(SEPARATOR) && !separator.is_ascii_alphanumeric() =>
        {
            Some(*separator)
        }
        _ => None,
    }
}

/// Returns the separator that a header has most often: some spreadsheets write semicolons or tabs.
fn usual_separator(header: &str) -> u8 {
    let count = |separator: &u8| header.bytes().filter(|byte| byte == separator).count();

    *b"\t;,".iter().max_by_key(|one| count(one)).unwrap_or(&b',')
}

impl<'f> Rows<'f> {
    /// Returns the rows from the header on.
    fn of(file: &'f str) -> Result<Self, String> {
        let first = file.split(LINE_ENDS).find(|line| is_filled(line));
        let first = first.unwrap_or_default();
        let named = named_separator(first);

        let reader = ReaderBuilder::new()
            .delimiter(named.unwrap_or_else(|| usual_separator(first)))
            .has_headers(false)
            .trim(Trim::All)
            .flexible(true)
            .from_reader(file.as_bytes());
        let mut rows = Self {
            file,
            reader,
            counted: (0, 1),
        };
        if named.is_some() {
            rows.next_row()?;
        }
        Ok(rows)
    }

    /// Returns the next row. A spreadsheet may begin or end with rows that are empty.
    fn next_row(&mut self) -> Result<Option<Row>, String> {
        let mut fields = StringRecord::new();
        loop {
            let start = self.at();
            match self.reader.read_record(&mut fields) {
                Ok(false) => return Ok(None),
                Ok(true) if fields.iter().all(str::is_empty) => {}
                Ok(true) => {
                    let text = self.file.get(start..self.at()).unwrap_or_default();
                    let row = text.trim_start_matches(LINE_ENDS);
                    let start = start + text.len() - row.len();
                    let end = start + row.trim_end_matches(LINE_ENDS).len();

                    let quotes = row.matches('"').count();
                    let is_last = self.at() >= self.file.len();
                    return Ok(Some(Row {
                        is_open: is_last && quotes % 2 == 1 && opens_quote(row),
                        fields,
                        first_line: self.line_of(start),
                        last_line: self.line_of(end),
                    }));
                }
                // The text is UTF-8, and rows may have any length: there is nothing else that
                // fails.
                Err(_) => return Err("the file is not comma-separated text".to_owned()),
            }
        }
    }

    /// The byte up to which the file is read.
    fn at(&self) -> usize {
        usize::try_from(self.reader.position().byte()).unwrap_or(usize::MAX)
    }

    /// Returns the line on which that byte stands. It is never before one that was asked for.
    fn line_of(&mut self, at: usize) -> u64 {
        let bytes = self.file.as_bytes();
        let (counted, line) = self.counted;
        let ends_line = |at: &usize| match bytes.get(*at) {
            Some(b'\r') => bytes.get(at + 1) != Some(&b'\n'),
            byte => byte == Some(&b'\n'),
        };
        let line = line + (counted..at).filter(ends_line).count() as u64;

        self.counted = (at, line);
        line
    }
}

impl Row {
    /// Fails if the row does not stand on one line.
    fn check_lines(&self) -> Result<(), String> {
        if self.is_open && self.first_line == self.last_line {
            return Err("a quote opens that does not close".to_owned());
        }
        if self.first_line == self.last_line {
            return Ok(());
        }

        Err(format!(
            "a field has to be on one line, but a quote that opens in line {first} closes in line \
             {last}, or not at all: nothing of the lines {first} to {last} is imported",
            first = self.first_line,
            last = self.last_line,
        ))
    }
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

    #[test]
    fn a_row_that_spans_lines_is_refused_with_all_of_them() {
        let unclosed = "isin,note\nUS0378331005,\"bought early\nDE0007164600,x\nUS5949181045,y\n";
        let closed = "isin,note\r\nUS0378331005,\"a\r\n\r\nb\"\r\n\r\nDE0007164600,x\r\n";
        let header = "isin,\"note\nUS0378331005,x\n";
        let places = |file: &str| {
            let operations = operations(file).into_iter();
            let places = operations.map(|(place, item)| (place, item.err().unwrap_or_default()));
            places.collect::<Vec<(String, String)>>()
        };

        let unclosed = places(unclosed);
        let closed = places(closed);
        let header = parse(header, &ItemLimits::default()).err();

        assert_eq!(unclosed.len(), 1);
        assert_eq!(unclosed[0].0, "line 2");
        assert!(unclosed[0].1.contains("lines 2 to 4"), "{}", unclosed[0].1);
        assert_eq!(closed.len(), 2);
        assert!(closed[0].1.contains("lines 2 to 4"), "{}", closed[0].1);
        assert_eq!(closed[1], ("line 6".to_owned(), String::new()));
        assert!(header.expect("refused").contains("lines 1 to 2"));
    }

    #[test]
    fn rows_are_found_after_lines_of_any_kind() {
        for (file, line) in [
            ("\nisin;note\nUS0378331005;x\n", "line 3"),
            ("  \r\n;;\r\nisin;note\r\nUS0378331005;x", "line 4"),
            ("isin;note\r\rUS0378331005;x\r", "line 3"),
            ("sep=;\nisin;note\nUS0378331005;x\n", "line 3"),
            ("\"SEP=|\"\r\nisin|note\r\nUS0378331005|x\r\n", "line 3"),
            ("\nsep=\t\nisin\tnote\nUS0378331005\tx", "line 4"),
            ("sep=,\risin,note\rUS0378331005,x", "line 3"),
        ] {
            assert!(is_table(file), "{file:?}");

            let operations = operations(file);

            let [(place, Ok(operation))] = &operations[..] else {
                panic!("{file:?}: {operations:?}")
            };
            assert_eq!(place, line, "{file:?}");
            assert_eq!(operation["id"], "US0378331005");
            assert_eq!(operation["meta"], json!({"note": "x"}));
        }
    }
}
