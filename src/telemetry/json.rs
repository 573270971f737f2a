//! A line of the log as one JSON object (RFC 8259): the event's fields, and its span's under `span`.
//!
//! The fields of a span are kept as the JSON that stands in each of its lines, so a line is written
//! once from its parts. The library's own format reads that JSON again for each line.

use std::fmt::{self, Write};
use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime as Clock};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// The target of what libraries say through the `log` crate. Fields then name the true target.
const LOG_CRATE: &str = "log";
const LOG_CRATE_TARGET: &str = "log.target";
const LOG_CRATE_FIELDS: &str = "log.";

/// Writes an event as a line.
pub(super) struct JsonLine;

/// Writes the fields of a span as members of a JSON object, each followed by a comma.
pub(super) struct JsonMembers;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        out.write_str(r#"{"timestamp":""#)?;
        Clock.format_time(&mut out)?;
        write!(out, r#"","level":"{}","#, event.metadata().level())?;

        let mut members = Members::of(&mut out);
        members.is_from_log_crate = event.metadata().target() == LOG_CRATE;
        event.record(&mut members);
        let target = members.target.take();
        members.result?;
        out.write_str(r#""target":"#)?;
        write_text(
            &mut out,
            target.as_deref().unwrap_or(event.metadata().target()),
        )?;

        if let Some(span) = context.lookup_current() {
            out.write_str(r#","span":{"#)?;
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                out.write_str(fields)?;
            }
            out.write_str(r#""name":"#)?;
            write_text(&mut out, span.name())?;
            out.write_char('}')?;
        }
        out.write_str("}\n")
    }
}

impl<'w> FormatFields<'w> for JsonMembers {
    fn format_fields<R: RecordFields>(&self, mut out: Writer<'w>, fields: R) -> fmt::Result {
        let mut members = Members::of(&mut out);
        fields.record(&mut members);
        members.result
    }

    fn add_fields(
        &self,
        current: &'w mut FormattedFields<Self>,
        fields: &Record<'_>,
    ) -> fmt::Result {
        self.format_fields(current.as_writer(), fields)
    }
}

/// Writes each field that it visits as a member with a comma after it.
struct Members<'o, W> {
    out: &'o mut W,
    is_from_log_crate: bool,
    /// The true target of an event from the `log` crate.
    target: Option<String>,
    result: fmt::Result,
}

impl<'o, W: Write> Members<'o, W> {
    fn of(out: &'o mut W) -> Self {
        Self {
            out,
            is_from_log_crate: false,
            target: None,
            result: Ok(()),
        }
    }

    /// Writes the member, whose value is JSON.
    fn json(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        self.member(field, |out| out.write_fmt(value));
    }

    fn member(&mut self, field: &Field, value: impl FnOnce(&mut W) -> fmt::Result) {
        if self.is_from_log_crate && field.name().starts_with(LOG_CRATE_FIELDS) {
            return;
        }
        if self.result.is_ok() {
            self.result = write_text(self.out, field.name())
                .and_then(|()| self.out.write_char(':'))
                .and_then(|()| value(self.out))
                .and_then(|()| self.out.write_char(','));
        }
    }
}

impl<W: Write> Visit for Members<'_, W> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.json(field, format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.json(field, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.json(field, format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity.
        if value.is_finite() {
            self.json(field, format_args!("{value}"));
        } else {
            self.json(field, format_args!("null"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if self.is_from_log_crate && field.name() == LOG_CRATE_TARGET {
            self.target = Some(value.to_owned());
        }
        self.member(field, |out| write_text(out, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.member(field, |out| {
            out.write_char('"')?;
            write!(Escaped(out), "{value:?}")?;
            out.write_char('"')
        });
    }
}

/// Writes a JSON string.
fn write_text(out: &mut impl Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    Escaped(out).write_str(text)?;
    out.write_char('"')
}

/// Escapes what may not stand in a JSON string as it is.
struct Escaped<'o, W>(&'o mut W);

impl<W: Write> Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c < ' ' || c == '"' || c == '\\') {
            self.0.write_str(&rest[..at])?;
            match rest.as_bytes()[at] {
                b'\n' => self.0.write_str("\\n")?,
                byte @ (b'"' | b'\\') => write!(self.0, "\\{}", char::from(byte))?,
                byte => write!(self.0, "\\u{byte:04x}")?,
            }
            // Each of them is one byte.
            rest = &rest[at + 1..];
        }

        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::util::SubscriberInitExt as _;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns the lines that this logs, without their times.
    fn logged(log: impl FnOnce()) -> Vec<Value> {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(JsonMembers)
            .event_format(JsonLine)
            .with_writer(move || writer.clone())
            .finish();

        let guard = subscriber.set_default();
        log();
        drop(guard);

        let bytes = std::mem::take(&mut *kept.0.lock().expect("no panic"));
        let text = String::from_utf8(bytes).expect("text");
        assert!(text.is_empty() || text.ends_with('\n'));
        let line = |line| {
            let mut line: Value = serde_json::from_str(line).expect("JSON");
            let time = line["timestamp"].take();
            let time = time.as_str().expect("a time");
            assert!(time.len() == 27 && time.ends_with('Z'), "{time}");
            line
        };
        text.lines().map(line).collect()
    }

    #[test]
    fn a_line_has_the_events_fields_and_its_spans() {
        let lines = logged(|| {
            let span = tracing::info_span!("request", id = "a\"b", owner = tracing::field::Empty);
            span.record("owner", tracing::field::display("o"));
            let _entered = span.enter();
            tracing::warn!(
                count = 2u64,
                below = -1,
                half = 0.5,
                is_new = true,
                "tab\there\n"
            );
        });

        let target = "gofavorites::telemetry::json::tests";
        let span = json!({"id": "a\"b", "owner": "o", "name": "request"});
        let expected = json!({
            "timestamp": null, "level": "WARN", "count": 2, "below": -1, "half": 0.5, "is_new": true,
            "message": "tab\there\n", "target": target, "span": span,
        });
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn what_json_cannot_say_is_said_otherwise() {
        let lines = logged(|| {
            let error = io::Error::other("bell \u{7} and back\\slash");
            tracing::error!(%error, nothing = f64::NAN, debug = ?"quoted");
        });

        assert_eq!(lines[0]["error"], "bell \u{7} and back\\slash");
        assert_eq!(lines[0]["nothing"], Value::Null);
        assert_eq!(lines[0]["debug"], "\"quoted\"");
        assert!(lines[0].get("span").is_none());
    }
}
