//! What a family of metrics is.

/// A family of metrics: what it is called, what it means, and where its numbers come from.
pub(super) struct Family {
    /// The name of its samples, for a histogram without their endings.
    pub name: &'static str,
    pub kind: Kind,
    /// The labels of its samples.
    pub labels: &'static [&'static str],
    pub help: &'static str,
    pub source: Source,
}

/// What kind of numbers a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
    /// The number is always 1, and the labels say something.
    Info,
}

/// Where a family's numbers stand in a worker's answer. Paths are JSON pointers; each gives no
/// sample where the answer has no number.
pub(super) enum Source {
    /// A number or a truth value.
    Field(&'static str),
    /// For each value of the family's last label a number or a truth value.
    Fields(&'static [(&'static str, &'static str)]),
    /// For each value of the family's last label, whether the field has that text.
    FieldsAre(&'static str, &'static [(&'static str, &'static str)]),
    /// Whether the field has that text.
    FieldIs(&'static str, &'static str),
    /// One sample for each of the texts that the field may have: 1 for the one that it has.
    OneOf(&'static str, &'static [&'static str]),
    /// A time in RFC 3339.
    Moment(&'static str),
    /// A part of each operation.
    Operations(OperationSource),
    /// How many reasons each part gives.
    Reasons,
    /// The texts at these paths, one for each of the family's last labels.
    Texts(&'static [&'static str]),
    /// How many workers of each shard answered.
    Workers,
    /// Whether the workers could be asked.
    Success,
    /// When they were asked.
    ScrapeTime,
}

/// Where numbers stand in an operation's part of a worker's answer.
pub(super) enum OperationSource {
    /// A number, at a JSON pointer.
    Field(&'static str),
    /// The count of each code.
    Refusals,
    /// The times that requests took.
    Times,
}

impl Family {
    /// The base unit, which is a part of the name.
    pub fn unit(&self) -> Option<&'static str> {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);

        ["seconds", "bytes"]
            .into_iter()
            .find(|unit| name.ends_with(unit))
    }
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Info => "info",
        }
    }
}
