//! The caller's trace context, which the worker passes on.

/// The content of a `traceparent` header (W3C Trace Context, level 1, §3.2).
///
/// The ids come from the caller and reveal nothing about an owner, so a log may show them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: String,
    parent_id: String,
    flags: u8,
}

/// The flags that are defined and passed on: sampled (level 1) and random trace id (level 2).
const DEFINED_FLAGS: u8 = 0b11;

impl TraceContext {
    /// Parses a header. Returns `None` if it is malformed, because such a header is ignored, not
    /// refused.
    ///
    /// Of an unknown version, the fields that version 00 defines are read, as the recommendation
    /// says.
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let version = lower_hex(parts.next()?, 2)?;
        let trace_id = lower_hex(parts.next()?, 32).filter(|id| !is_zero(id))?;
        let parent_id = lower_hex(parts.next()?, 16).filter(|id| !is_zero(id))?;
        let flags = u8::from_str_radix(lower_hex(parts.next()?, 2)?, 16).ok()?;

        let ends_well = match version {
            "ff" => false,
            "00" => parts.next().is_none(),
            _ => true,
        };

        ends_well.then(|| Self {
            trace_id: trace_id.to_owned(),
            parent_id: parent_id.to_owned(),
            flags: flags & DEFINED_FLAGS,
        })
    }

    /// Returns the header to pass on, in version 00.
    pub fn header(&self) -> String {
        format!("00-{}-{}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }

    /// Returns the id of the trace: 32 lower-case hexadecimal digits.
    pub fn trace_id(&self) -> &str {
        &self.trace_id
    }
}

fn lower_hex(text: &str, length: usize) -> Option<&str> {
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);

    (text.len() == length && text.bytes().all(is_hex)).then_some(text)
}

fn is_zero(id: &str) -> bool {
    id.bytes().all(|byte| byte == b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const PARENT: &str = "b7ad6b7169203331";

    #[test]
    fn a_well_formed_header_is_passed_on() {
        let header = format!("00-{TRACE}-{PARENT}-01");

        let trace = TraceContext::parse(&header).expect("well formed");

        assert_eq!(trace.header(), header);
        assert_eq!(trace.trace_id(), TRACE);
    }

    #[test]
    fn a_later_version_is_read_as_the_first() {
        let headers = [
            format!("01-{TRACE}-{PARENT}-ff-more"),
            format!("cc-{TRACE}-{PARENT}-03"),
        ];

        for header in headers {
            let trace = TraceContext::parse(&header).expect("well formed");
            assert_eq!(trace.header(), format!("00-{TRACE}-{PARENT}-03"));
        }
    }

    #[test]
    fn a_malformed_header_is_ignored() {
        let malformed = [
            String::new(),
            "00".to_owned(),
            format!("00-{TRACE}-{PARENT}"),
            format!("00-{TRACE}-{PARENT}-1"),
            format!("00-{TRACE}-{PARENT}-01-more"),
            format!("ff-{TRACE}-{PARENT}-01"),
            format!("0-{TRACE}-{PARENT}-01"),
            format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
            format!("00-{}-{PARENT}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{TRACE}x-{PARENT}-01"),
            format!("00-{TRACE}-{PARENT}-0é"),
        ];

        for header in malformed {
            assert_eq!(TraceContext::parse(&header), None, "{header}");
        }
    }
}
