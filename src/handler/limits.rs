//! `limits`: the bounds on what callers send and get, each with its value and unit.

use super::failure::retry_soon;
use super::{Failure, Request, Service};
use crate::domain::ItemLimits;
use crate::owners::{
    Denied, OPENED_ITEM_BYTES, OPENED_TEXT_BYTES, Owners, Pace, SNAPSHOT_RECORD_BYTES,
};
use crate::wire::{Code, HeaderLimits, REFUSAL_BYTES, REPLY_HEADER_BYTES_MAX, Refusal};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Every bound on what callers send and get.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The limits of an item.
    pub item: ItemLimits,
    /// The longest body of a request. With its headers, among them a token of `limits.token_bytes`, it has to
    /// fit the NATS server's `max_payload`.
    pub request_bytes: usize,
    /// The longest body of a reply; at most 1,048,576. With its headers, less than 1 KiB, it has to fit the NATS
    /// server's `max_payload`: else the worker does not start, and after a reconnect to such a
    /// server its pages are smaller.
    pub reply_bytes: usize,
    /// How deep a body may be nested: 1 to 64.
    #[cfg_attr(test, schemars(extend("x-unit" = "levels")))]
    pub nesting: usize,
    /// The longest token.
    pub token_bytes: usize,
    /// The most living items of one owner; at most `limits.keys`.
    #[cfg_attr(test, schemars(extend("x-unit" = "items")))]
    pub items: usize,
    /// The most items of one owner, deleted ones included; at most 1,000, so that one read of the
    /// bucket returns them all.
    #[cfg_attr(test, schemars(extend("x-unit" = "keys")))]
    pub keys: usize,
    /// The most bytes of one owner's items as they are stored, deleted ones included; at least
    /// `limits.request_bytes`. A write that leaves the owner no larger passes above it too.
    pub owner_bytes: usize,
    /// The most operations in a batch: 1 to 500.
    #[cfg_attr(test, schemars(extend("x-unit" = "operations")))]
    pub batch: usize,
    /// Entries of a page, if the request names no number.
    #[cfg_attr(test, schemars(extend("x-unit" = "entries")))]
    pub page: usize,
    /// Entries of the largest page.
    #[cfg_attr(test, schemars(extend("x-unit" = "entries")))]
    pub page_max: usize,
    /// The time for a request that names none.
    pub deadline_ms: u64,
    /// The longest time for a request.
    pub deadline_max_ms: u64,
    /// The most requests under way in one worker; more are answered `overloaded` at once.
    #[cfg_attr(test, schemars(extend("x-unit" = "requests")))]
    pub in_flight: usize,
    /// The most requests of one owner under way in one worker; more are answered `overloaded` at
    /// once.
    #[cfg_attr(test, schemars(extend("x-unit" = "requests")))]
    pub owner_in_flight: usize,
    /// The most requests of one owner a second, in one worker; faster ones are answered
    /// `rate_limited`. A request counts once, once more for each 16 KiB of its body and of its
    /// reply, and once more for each ten operations of a batch. 0: no limit.
    #[cfg_attr(test, schemars(extend("x-unit" = "requests a second")))]
    pub rate_per_s: u64,
    /// Requests of one owner that may come at once after a pause, counted as for
    /// `limits.rate_per_s`.
    #[cfg_attr(test, schemars(extend("x-unit" = "requests")))]
    pub rate_burst: u64,
}

/// The limits in force: those of the settings, with replies that fit the NATS server's
/// `max_payload`.
#[derive(Clone, Debug)]
pub struct LimitsInForce {
    set: Arc<Limits>,
    max_payload: Arc<AtomicUsize>,
}

impl LimitsInForce {
    /// Takes the limits of the settings, and the server's `max_payload` in bytes; 0 is no bound.
    pub fn new(set: Limits, max_payload: usize) -> Self {
        Self {
            set: Arc::new(set),
            max_payload: Arc::new(AtomicUsize::new(max_payload)),
        }
    }

    /// The limits as they are now.
    pub fn current(&self) -> Limits {
        let mut limits = Limits::clone(&self.set);
        limits.reply_bytes = limits.reply_bytes.min(self.reply_capacity());
        limits
    }

    /// The largest body of a reply that the server takes, in bytes.
    pub fn reply_capacity(&self) -> usize {
        match self.max_payload.load(Ordering::Relaxed) {
            0 => usize::MAX,
            max_payload => max_payload.saturating_sub(REPLY_HEADER_BYTES_MAX),
        }
    }

    /// Takes another `max_payload`. Returns whether it is another.
    pub fn set_max_payload(&self, max_payload: usize) -> bool {
        self.max_payload.swap(max_payload, Ordering::Relaxed) != max_payload
    }

    /// Which limits of the settings the server's `max_payload` is too small for, each with what to
    /// change.
    pub fn payload_problems(&self) -> Vec<String> {
        self.set
            .payload_problems(self.max_payload.load(Ordering::Relaxed))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            item: ItemLimits::default(),
            request_bytes: 262_144,
            reply_bytes: 786_432,
            nesting: 16,
            token_bytes: 8_192,
            items: 500,
            keys: 1_000,
            owner_bytes: 4 << 20,
            batch: 100,
            page: 50,
            page_max: 500,
            deadline_ms: 5_000,
            deadline_max_ms: 30_000,
            in_flight: 1_024,
            owner_in_flight: 64,
            rate_per_s: 50,
            rate_burst: 200,
        }
    }
}

impl Limits {
    /// Each limit by its name, with value and unit, including those of the owners' cache and
    /// writes.
    pub fn described(&self, owners: &Owners) -> Value {
        let (cache_bytes, retries) = owners.bounds();
        let owners = [
            ("cache_bytes", cache_bytes, "bytes"),
            ("write_retries", retries, "times"),
        ];

        let table = self.table().into_iter().chain(owners);
        let limits = table
            .map(|(name, value, unit)| (name.to_owned(), json!({"value": value, "unit": unit})));
        Value::Object(limits.collect())
    }

    /// The approximate memory of the largest permitted owner, in bytes: of the sealed records, of
    /// the opened ones, and of the refusals that one batch keeps.
    pub fn heaviest_owner_bytes(&self) -> u64 {
        let sealed = self
            .items
            .saturating_mul(self.record_bytes())
            .min(self.owner_bytes.saturating_add(self.refused_bytes()));

        let texts = (2 * self.item.meta_entries + self.item.tags) as u64;
        let record = SNAPSHOT_RECORD_BYTES + OPENED_ITEM_BYTES + texts * OPENED_TEXT_BYTES;
        sealed.saturating_mul(2) as u64 + self.keys as u64 * record
    }

    /// The approximate size of the largest possible record, in bytes. Its item may be the last one
    /// of a batch whose other operations were refused; their refusals are stored with the item.
    pub fn record_bytes(&self) -> usize {
        self.request_bytes.saturating_add(self.refused_bytes())
    }

    /// The most bytes of the refusals that are stored with a batch.
    pub(super) fn refused_bytes(&self) -> usize {
        self.batch
            .saturating_mul(REFUSAL_BYTES)
            .min(self.reply_bytes)
    }

    /// The limits on the headers of a request.
    pub fn headers(&self) -> HeaderLimits {
        HeaderLimits {
            token_bytes: self.token_bytes,
        }
    }

    /// Which limits a server's `max_payload` is too small for, each with what to change. The server
    /// counts headers and body together; 0 is no bound.
    fn payload_problems(&self, max_payload: usize) -> Vec<String> {
        let sizes = [
            ("reply_bytes", self.reply_bytes, REPLY_HEADER_BYTES_MAX),
            (
                "request_bytes",
                self.request_bytes,
                self.headers().request_header_bytes(),
            ),
        ];
        let is_too_large = |body: usize, headers: usize| {
            max_payload > 0 && body.saturating_add(headers) > max_payload
        };

        sizes
            .into_iter()
            .filter(|(_, body, headers)| is_too_large(*body, *headers))
            .map(|(name, body, headers)| {
                let most = max_payload.saturating_sub(headers);
                format!(
                    "limits.{name} is {body}, with up to {headers} bytes of headers, and the NATS \
                     server's max_payload is {max_payload}: set limits.{name} to at most {most}, \
                     or raise max_payload"
                )
            })
            .collect()
    }

    /// The limits on the requests of one owner.
    pub(super) fn pace(&self) -> Pace {
        Pace {
            in_flight: self.owner_in_flight,
            per_s: self.rate_per_s,
            burst: self.rate_burst,
        }
    }

    /// The refusal of a request beyond the limits on its owner.
    pub(super) fn denied(&self, denied: Denied) -> Refusal {
        match denied {
            Denied::TooMany => retry_soon(
                Code::Overloaded,
                "this owner has too many requests under way: ask again",
            )
            .with("in_flight", self.owner_in_flight),
            Denied::TooFast { wait, used } => {
                let retry_after_ms =
                    u64::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX);
                Refusal::retry_later(
                    Code::RateLimited,
                    "this owner sends requests too fast: ask again later",
                    retry_after_ms,
                )
                .with("used", used)
                .with("limit", self.rate_burst)
                .with("rate_per_s", self.rate_per_s)
            }
        }
    }

    /// Each limit's name, value and unit.
    fn table(&self) -> [(&'static str, u64, &'static str); 27] {
        let item = &self.item;
        let count = |n: usize| n as u64;

        [
            ("request_bytes", count(self.request_bytes), "bytes"),
            ("reply_bytes", count(self.reply_bytes), "bytes"),
            ("nesting", count(self.nesting), "levels"),
            ("token_bytes", count(self.token_bytes), "bytes"),
            ("id_bytes", count(item.id_bytes), "bytes"),
            ("meta_entries", count(item.meta_entries), "entries"),
            ("meta_key_bytes", count(item.meta_key_bytes), "bytes"),
            ("meta_value_bytes", count(item.meta_value_bytes), "bytes"),
            ("tags", count(item.tags), "tags"),
            ("tag_bytes", count(item.tag_bytes), "bytes"),
            ("text_bytes", count(item.text_bytes), "bytes"),
            ("codes", count(item.codes), "codes"),
            ("code_bytes", count(item.code_bytes), "bytes"),
            ("items", count(self.items), "items"),
            ("keys", count(self.keys), "keys"),
            ("owner_bytes", count(self.owner_bytes), "bytes"),
            ("batch", count(self.batch), "operations"),
            ("page", count(self.page), "entries"),
            ("page_max", count(self.page_max), "entries"),
            ("deadline_ms", self.deadline_ms, "milliseconds"),
            ("deadline_max_ms", self.deadline_max_ms, "milliseconds"),
            ("in_flight", count(self.in_flight), "requests"),
            ("owner_in_flight", count(self.owner_in_flight), "requests"),
            (
                "rate_per_s",
                self.rate_per_s,
                "requests a second, 0 is unbounded",
            ),
            ("rate_burst", self.rate_burst, "requests"),
            ("name_bytes", count(item.name_bytes), "bytes"),
            ("ticker_bytes", count(item.ticker_bytes), "bytes"),
        ]
    }
}

/// Answers `{limits: {<name>: {value, unit}}}`.
pub(super) fn limits(service: &Service, request: Request) -> Result<Value, Failure> {
    request.fields(service)?.finish()?;
    Ok(json!({ "limits": service.limits.current().described(&service.owners) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_to_hold_the_body_and_its_headers() {
        let limits = Limits {
            request_bytes: 1,
            reply_bytes: 1_000,
            ..Limits::default()
        };
        let problems = |max_payload| limits.payload_problems(max_payload).join("\n");
        let needed = 1_000 + REPLY_HEADER_BYTES_MAX;

        // The headers of a request are the longer ones.
        assert!(problems(10_000).is_empty());
        let error = problems(needed - 1);
        assert!(
            error.contains("limits.reply_bytes to at most 999"),
            "{error}"
        );
        assert!(error.contains("limits.request_bytes"), "{error}");
        assert!(problems(0).is_empty(), "no bound");
    }

    #[test]
    fn the_defaults_fit_the_servers_default() {
        assert!(Limits::default().payload_problems(1 << 20).is_empty());
    }

    #[test]
    fn a_smaller_payload_lowers_the_reply_bytes_in_force() {
        let limits = LimitsInForce::new(Limits::default(), 1 << 20);
        assert_eq!(limits.current().reply_bytes, 786_432);

        assert!(limits.set_max_payload(10_000));
        assert!(!limits.set_max_payload(10_000));
        assert_eq!(
            limits.current().reply_bytes,
            10_000 - REPLY_HEADER_BYTES_MAX
        );
        assert_eq!(limits.payload_problems().len(), 2);

        limits.set_max_payload(0);
        assert_eq!(limits.current().reply_bytes, 786_432);
        assert_eq!(limits.reply_capacity(), usize::MAX);
    }
}
