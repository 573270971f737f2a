//! Every subject of the service, spelled in one place.

use super::Operation;
use crate::domain::Invalid;

/// The subjects of one worker: those that reach any worker, and those that reach its shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subjects {
    any: String,
    shards: String,
    shard: String,
}

/// The version of the contract, which is a part of every subject.
const CONTRACT_VERSION: &str = "v1";
/// The maximum length of a prefix, in bytes: a subject must stay well within a server's limit.
const PREFIX_BYTES_MAX: usize = 128;
/// The maximum length of a shard id, in bytes.
const SHARD_BYTES_MAX: usize = 32;

impl Subjects {
    /// Creates the subjects under this prefix of a worker of this shard.
    ///
    /// A prefix, such as `favorites`, is one or more parts of letters, digits, `_` and `-`, with
    /// dots between them. A shard id is 1 to 32 lower-case letters, digits and `-`.
    ///
    /// # Errors
    /// [`Invalid`] for `prefix` or `shard`.
    pub fn new(prefix: &str, shard: &str) -> Result<Self, Invalid> {
        let is_part = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        };

        if prefix.len() > PREFIX_BYTES_MAX || !prefix.split('.').all(is_part) {
            let reason = format!(
                "must be parts of A-Z, a-z, 0-9, _ and - with dots between, at most \
                 {PREFIX_BYTES_MAX} bytes"
            );
            return Err(Invalid::new("prefix", reason));
        }
        if !is_shard_id(shard) {
            return Err(Invalid::new(
                "shard",
                format!("must be 1 to {SHARD_BYTES_MAX} of a-z, 0-9 and -"),
            ));
        }

        let any = format!("{prefix}.{CONTRACT_VERSION}");
        Ok(Self {
            shards: format!("{any}.shard"),
            any,
            shard: shard.to_owned(),
        })
    }

    /// Returns the subjects that the worker subscribes to, without duplicates.
    ///
    /// The wildcard is `*`, which stands for one part. A pattern with `>` for both kinds of
    /// subjects would also match the requests to other shards.
    pub fn subscriptions(&self) -> Vec<String> {
        let names = Operation::ALL.iter().map(|one| one.name());
        let own = format!("{}.{}", self.shards, self.shard);
        let dotted = names.filter(|name| name.contains('.'));

        [&self.any, &own]
            .into_iter()
            .flat_map(|base| {
                std::iter::once("*")
                    .chain(dotted.clone())
                    .map(move |name| format!("{base}.{name}"))
            })
            .collect()
    }

    /// Returns the operation that a request on this subject asks for.
    ///
    /// Returns `None` if the name is no operation of this version, or if the subject is not one of
    /// this worker's: outside the prefix, or of another shard. Directly under the prefix, `shard`
    /// is an ordinary name, and no operation has it.
    pub fn operation_of(&self, subject: &str) -> Option<Operation> {
        let name = match below(subject, &self.shards) {
            Some(rest) => below(rest, &self.shard)?,
            None => below(subject, &self.any)?,
        };

        Operation::parse(name)
    }

    /// Returns the subject that reaches the nearest worker.
    pub fn request(&self, operation: Operation) -> String {
        format!("{}.{}", self.any, operation.name())
    }

    /// Returns the subject that reaches a worker of this shard.
    pub fn request_on_shard(&self, shard: &str, operation: Operation) -> String {
        format!("{}.{shard}.{}", self.shards, operation.name())
    }

    /// Returns the id of the worker's own shard.
    pub fn shard(&self) -> &str {
        &self.shard
    }
}

fn is_shard_id(id: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';

    (1..=SHARD_BYTES_MAX).contains(&id.len()) && id.bytes().all(is_allowed)
}

/// Returns what follows `base` and a dot, or `None` if nothing does.
fn below<'a>(subject: &'a str, base: &str) -> Option<&'a str> {
    subject
        .strip_prefix(base)?
        .strip_prefix('.')
        .filter(|rest| !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subjects() -> Subjects {
        Subjects::new("favorites", "eu-1").expect("valid")
    }

    #[test]
    fn a_worker_subscribes_to_any_and_to_its_own_shard() {
        // A name with a dot has a subscription of its own.
        let names = [
            "*",
            "tags.rename",
            "otp.code",
            "otp.verify",
            "codes.take",
            "codes.add",
        ];
        let expected: Vec<String> = ["favorites.v1", "favorites.v1.shard.eu-1"]
            .iter()
            .flat_map(|base| names.map(|name| format!("{base}.{name}")))
            .collect();

        assert_eq!(subjects().subscriptions(), expected);
    }

    #[test]
    fn only_subjects_of_this_worker_name_an_operation() {
        let subjects = subjects();
        let table = [
            ("favorites.v1.get", Some(Operation::Get)),
            ("favorites.v1.shard.eu-1.put", Some(Operation::Put)),
            ("favorites.v1.nonsense", None),
            ("favorites.v1.shard", None),
            ("favorites.v1.shard.eu-1.shard", None),
            ("favorites.v1.otp.code", Some(Operation::OtpCode)),
            ("favorites.v1.otp", None),
            ("favorites.v1.shard.eu-2.get", None),
            ("favorites.v1.shard.eu-1", None),
            ("favorites.v1.shard.eu-11.get", None),
            ("", None),
            ("favorites.v1", None),
            ("favorites.v1.", None),
            ("favorites.v2.get", None),
            ("favorites.v11.get", None),
            ("x.v1.get", None),
        ];

        for (subject, operation) in table {
            assert_eq!(subjects.operation_of(subject), operation, "{subject}");
        }
    }

    #[test]
    fn a_prefix_is_parts_with_dots_between() {
        let long = "a".repeat(129);
        let malformed = ["", ".", "a.", "a..b", "a b", "a.*", "a.>", "$a", "é", &long];

        let subjects = Subjects::new("a.B_c-1", "x").expect("valid");

        assert_eq!(subjects.request(Operation::Get), "a.B_c-1.v1.get");
        for prefix in malformed {
            let invalid = Subjects::new(prefix, "x").expect_err("this one is wrong");
            assert_eq!(invalid.field, "prefix", "{prefix}");
        }
    }

    #[test]
    fn a_shard_id_is_one_short_part() {
        let long = "a".repeat(33);
        let malformed = ["", "A", "a.b", "a_b", "*", &long];

        let subjects = Subjects::new("a", "x-9").expect("valid");

        assert_eq!(subjects.shard(), "x-9");
        for shard in malformed {
            let invalid = Subjects::new("a", shard).expect_err("this one is wrong");
            assert_eq!(invalid.field, "shard", "{shard}");
        }
    }

    /// Returns whether a subscription matches a subject, by the rules of NATS for `*`.
    fn matches(pattern: &str, subject: &str) -> bool {
        let pattern: Vec<_> = pattern.split('.').collect();
        let subject: Vec<_> = subject.split('.').collect();

        pattern.len() == subject.len()
            && pattern
                .iter()
                .zip(&subject)
                .all(|(expected, part)| *expected == "*" || expected == part)
    }

    proptest! {
        #[test]
        fn every_subject_has_its_operation_and_one_subscription(
            prefix in "[A-Za-z0-9_-]{1,8}(\\.[A-Za-z0-9_-]{1,8}){0,2}",
            shard in "[a-z0-9-]{1,32}",
            other in "[a-z0-9-]{1,32}",
        ) {
            let subjects = Subjects::new(&prefix, &shard).expect("valid");
            let subscriptions = subjects.subscriptions();
            let count = |subject: &str| {
                subscriptions.iter().filter(|pattern| matches(pattern, subject)).count()
            };

            for operation in Operation::ALL {
                let any = subjects.request(operation);
                let own = subjects.request_on_shard(&shard, operation);
                let elsewhere = subjects.request_on_shard(&other, operation);

                for subject in [any, own] {
                    prop_assert_eq!(subjects.operation_of(&subject), Some(operation));
                    prop_assert_eq!(count(&subject), 1);
                }
                prop_assert_eq!(subjects.operation_of(&elsewhere).is_some(), other == shard);
                prop_assert_eq!(count(&elsewhere) > 0, other == shard);
            }
        }
    }
}
