//! Every subject of the service, spelled in one place.

use super::Operation;
use crate::domain::Invalid;

/// The subjects of one worker: those that reach any worker and those that reach its shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subjects {
    any: String,
    shards: String,
    shard: String,
}

/// The version of the contract, which every subject holds.
const CONTRACT: &str = "v1";
/// The longest prefix, in bytes: a subject must stay well within what a server takes.
const PREFIX_BYTES: usize = 128;
/// The longest shard id, in bytes.
const SHARD_BYTES: usize = 32;

impl Subjects {
    /// The subjects under that prefix (such as `favorites`: one or more parts of letters, digits, `_` and `-`, with
    /// dots between them) of a worker of that shard (1 to 32 of lower-case letters, digits and `-`).
    ///
    /// # Errors
    /// [`Invalid`] for `prefix` or `shard`.
    pub fn new(prefix: &str, shard: &str) -> Result<Self, Invalid> {
        let part = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
        };
        if prefix.len() > PREFIX_BYTES || !prefix.split('.').all(part) {
            let reason = format!(
                "must be parts of A-Z, a-z, 0-9, _ and - with dots between, at most {PREFIX_BYTES}"
            );
            return Err(Invalid::new("prefix", reason));
        }
        if !is_shard(shard) {
            return Err(Invalid::new(
                "shard",
                format!("must be 1 to {SHARD_BYTES} of a-z, 0-9 and -"),
            ));
        }
        let any = format!("{prefix}.{CONTRACT}");
        Ok(Self {
            shards: format!("{any}.shard"),
            any,
            shard: shard.to_owned(),
        })
    }

    /// What the worker subscribes to, each once. Wildcards of one part and not of many: one pattern above both would
    /// also take the requests that another shard was asked.
    pub fn subscriptions(&self) -> Vec<String> {
        self.subscriptions_to(Operation::ALL.iter().map(|one| one.name()))
    }

    fn subscriptions_to<'a>(&self, names: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
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

    /// The operation that a request on that subject asks for; `None` if the name is no operation of this version, or the
    /// subject is not one of this worker's: outside the prefix, or another shard's. Under the prefix, `shard` itself is a
    /// name like any other, and no operation.
    pub fn operation_of(&self, subject: &str) -> Option<Operation> {
        let name = match below(subject, &self.shards) {
            Some(rest) => below(rest, &self.shard)?,
            None => below(subject, &self.any)?,
        };
        Operation::parse(name)
    }

    /// The subject that reaches the nearest worker.
    pub fn request(&self, operation: Operation) -> String {
        format!("{}.{}", self.any, operation.name())
    }

    /// The subject that reaches a worker of that shard.
    pub fn request_on_shard(&self, shard: &str, operation: Operation) -> String {
        format!("{}.{shard}.{}", self.shards, operation.name())
    }

    /// The id of the worker's own shard.
    pub fn shard(&self) -> &str {
        &self.shard
    }
}

fn is_shard(id: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=SHARD_BYTES).contains(&id.len()) && id.bytes().all(allowed)
}

/// What follows `base` and a dot, if that is not nothing.
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
    fn each_subject_is_subscribed_to_once() {
        assert_eq!(
            subjects().subscriptions(),
            ["favorites.v1.*", "favorites.v1.shard.eu-1.*"]
        );
        let dotted = subjects().subscriptions_to(["put", "otp.code", "codes.take"].into_iter());
        let expected = [
            "favorites.v1.*",
            "favorites.v1.otp.code",
            "favorites.v1.codes.take",
            "favorites.v1.shard.eu-1.*",
            "favorites.v1.shard.eu-1.otp.code",
            "favorites.v1.shard.eu-1.codes.take",
        ];
        assert_eq!(dotted, expected);
    }

    #[test]
    fn only_an_operation_on_a_subject_of_this_worker_is_one() {
        let subjects = subjects();
        for (subject, operation) in [
            ("favorites.v1.get", Some(Operation::Get)),
            ("favorites.v1.shard.eu-1.put", Some(Operation::Put)),
            ("favorites.v1.nonsense", None),
            ("favorites.v1.shard", None),
            ("favorites.v1.shard.eu-1.shard", None),
            ("favorites.v1.otp.code", None),
            ("favorites.v1.shard.eu-2.get", None),
            ("favorites.v1.shard.eu-1", None),
            ("favorites.v1.shard.eu-11.get", None),
            ("", None),
            ("favorites.v1", None),
            ("favorites.v1.", None),
            ("favorites.v2.get", None),
            ("favorites.v11.get", None),
            ("x.v1.get", None),
        ] {
            assert_eq!(subjects.operation_of(subject), operation, "{subject}");
        }
    }

    #[test]
    fn prefix_and_shard_have_a_form() {
        assert_eq!(
            Subjects::new("a.B_c-1", "x")
                .expect("valid")
                .request(Operation::Get),
            "a.B_c-1.v1.get"
        );
        for prefix in [
            "",
            ".",
            "a.",
            "a..b",
            "a b",
            "a.*",
            "a.>",
            "$a",
            "é",
            &"a".repeat(129),
        ] {
            assert_eq!(
                Subjects::new(prefix, "x")
                    .expect_err("this one is wrong")
                    .field,
                "prefix",
                "{prefix}"
            );
        }
        assert_eq!(Subjects::new("a", "x-9").expect("valid").shard(), "x-9");
        for shard in ["", "A", "a.b", "a_b", "*", &"a".repeat(33)] {
            assert_eq!(
                Subjects::new("a", shard)
                    .expect_err("this one is wrong")
                    .field,
                "shard",
                "{shard}"
            );
        }
    }

    /// Whether a subscription takes a subject, by the rules of NATS for `*`.
    fn takes(pattern: &str, subject: &str) -> bool {
        let (pattern, subject): (Vec<_>, Vec<_>) =
            (pattern.split('.').collect(), subject.split('.').collect());
        pattern.len() == subject.len()
            && pattern
                .iter()
                .zip(&subject)
                .all(|(want, part)| *want == "*" || want == part)
    }

    proptest! {
        #[test]
        fn every_subject_leads_back_to_its_operation_and_is_taken_once(
            prefix in "[A-Za-z0-9_-]{1,8}(\\.[A-Za-z0-9_-]{1,8}){0,2}",
            shard in "[a-z0-9-]{1,32}",
            other in "[a-z0-9-]{1,32}",
        ) {
            let subjects = Subjects::new(&prefix, &shard).expect("valid");
            for operation in Operation::ALL {
                for subject in [subjects.request(operation), subjects.request_on_shard(&shard, operation)] {
                    prop_assert_eq!(subjects.operation_of(&subject), Some(operation));
                    prop_assert_eq!(subjects.subscriptions().iter().filter(|one| takes(one, &subject)).count(), 1);
                }
                let elsewhere = subjects.request_on_shard(&other, operation);
                let taken = subjects.subscriptions().iter().any(|one| takes(one, &elsewhere));
                prop_assert_eq!(subjects.operation_of(&elsewhere).is_some(), other == shard);
                prop_assert_eq!(taken, other == shard);
            }
        }
    }
}
