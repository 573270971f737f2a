//! What is written and read, as the contract describes it in `docs/contract.md`.

use super::error::{ClientError, Refused, parse};
use crate::domain::opaque_debug;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

/// An item as it is read.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "RawItem")]
pub struct Item {
    /// The kind: `instrument`, `text`, `otp` or `codes`; or one that only newer workers know.
    pub kind: String,
    /// The id, one of its kind.
    pub id: String,
    /// The version of the item's last change.
    pub version: u64,
    /// What the item holds.
    pub content: Content,
    /// Metadata of the caller's choice.
    pub meta: BTreeMap<String, String>,
    /// The tags.
    pub tags: BTreeSet<String>,
    /// The place in the owner's list; `None` for a deleted item.
    pub place: Option<String>,
    /// When the item's present life began (RFC 3339); `None` for a deleted item.
    pub created_at: Option<String>,
    /// When the item was last changed or deleted (RFC 3339).
    pub updated_at: String,
}

/// What a read has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read<T> {
    /// What was read.
    pub value: T,
    /// Whether it may be old: the bucket was out of reach, and the shard answered from its copy. Reads
    /// with [`Consistency::Strong`] are never stale.
    pub stale: bool,
}

impl<T> Read<T> {
    pub(super) fn map<U>(self, map: impl FnOnce(T) -> U) -> Read<U> {
        Read {
            value: map(self.value),
            stale: self.stale,
        }
    }
}

impl<T> Deref for Read<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// What an item holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A financial instrument.
    Instrument(Instrument),
    /// A text.
    Text(String),
    /// A secret from which one-time passwords are made.
    Otp(Otp),
    /// A list of one-time codes.
    Codes(CodeList),
    /// The item is deleted.
    Deleted,
    /// The item is of a kind that this library, or the worker that answered, does not know.
    Unknown,
}

/// A financial instrument. It is identified by `isin`, or else by `mic` and `ticker`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instrument {
    /// The ISIN (ISO 6166).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isin: Option<String>,
    /// `stock`, `bond`, `fund`, `etf`, `currency`, `future`, `option`, `index`, `commodity`,
    /// `crypto` or `other`.
    pub r#type: String,
    /// The symbol on the market.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticker: Option<String>,
    /// The market (ISO 10383).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mic: Option<String>,
    /// The currency (ISO 4217, or `GBX` and the like).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// The name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A one-time-password secret as it is read.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Otp {
    /// `totp`, `hotp` or `steam`.
    pub r#type: String,
    /// Who issued the secret.
    pub issuer: Option<String>,
    /// The account that it is for.
    pub account: Option<String>,
    /// `SHA1`, `SHA256` or `SHA512`.
    pub algorithm: String,
    /// The digits of a code.
    pub digits: u8,
    /// TOTP and Steam: the seconds for which a code is valid.
    pub period_s: Option<u32>,
    /// HOTP: the counter that is used next.
    pub counter: Option<u64>,
    /// The `otpauth` URI; only if the item was revealed.
    pub uri: Option<String>,
    /// The secret in Base32; only if the item was revealed.
    pub secret: Option<String>,
}

/// A list of one-time codes as it is read.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct CodeList {
    /// How many codes are left.
    pub remaining: u32,
    /// How many codes the list has, those that were taken included.
    pub total: u32,
    /// The codes that are left; only if the item was revealed.
    pub codes: Option<Vec<String>>,
    /// The codes that were taken; only if the item was revealed.
    pub taken: Option<Vec<String>>,
}

opaque_debug!(Put, BatchOperation, OtpCode, TakenCode);

impl std::fmt::Debug for Otp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Otp")
            .field("type", &self.r#type)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for CodeList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CodeList")
            .field("remaining", &self.remaining)
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

/// An item in the form of the wire.
#[derive(Deserialize)]
struct RawItem {
    kind: String,
    id: String,
    version: u64,
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    data: Value,
    #[serde(default)]
    meta: BTreeMap<String, String>,
    #[serde(default)]
    tags: BTreeSet<String>,
    place: Option<String>,
    created_at: Option<String>,
    updated_at: String,
}

impl TryFrom<RawItem> for Item {
    type Error = ClientError;

    fn try_from(raw: RawItem) -> Result<Self, ClientError> {
        #[derive(Deserialize)]
        struct Text {
            text: String,
        }

        let content = match raw.kind.as_str() {
            _ if raw.deleted => Content::Deleted,
            _ if raw.data.is_null() => Content::Unknown,
            "instrument" => Content::Instrument(parse(raw.data)?),
            "text" => Content::Text(parse::<Text>(raw.data)?.text),
            "otp" => Content::Otp(parse(raw.data)?),
            "codes" => Content::Codes(parse(raw.data)?),
            _ => Content::Unknown,
        };

        Ok(Self {
            content,
            kind: raw.kind,
            id: raw.id,
            version: raw.version,
            meta: raw.meta,
            tags: raw.tags,
            place: raw.place,
            created_at: raw.created_at,
            updated_at: raw.updated_at,
        })
    }
}

/// Names an item.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ItemName {
    /// The kind.
    pub kind: String,
    /// The id. That of an instrument is its ISIN, or `MIC:TICKER`.
    pub id: String,
}

impl ItemName {
    /// Names the item of this kind with this id.
    pub fn new(kind: impl Into<String>, id: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            id: id.into(),
        }
    }
}

/// An item to be written.
#[derive(Clone, PartialEq, Serialize)]
pub struct Put {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
    meta: BTreeMap<String, String>,
    tags: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    if_version: Option<u64>,
}

impl Put {
    /// An instrument. Its id is its ISIN, or `MIC:TICKER`.
    pub fn instrument(instrument: &Instrument) -> Self {
        Self::of("instrument", serde_json::json!(instrument))
    }

    /// A text.
    pub fn text(text: &str) -> Self {
        Self::of("text", serde_json::json!({"text": text}))
    }

    /// A one-time-password secret, from an `otpauth` URI.
    pub fn otp(uri: &str) -> Self {
        Self::of("otp", serde_json::json!({"uri": uri}))
    }

    /// A list of one-time codes.
    pub fn codes<C: AsRef<str>>(codes: &[C]) -> Self {
        let codes: Vec<&str> = codes.iter().map(AsRef::as_ref).collect();
        Self::of("codes", serde_json::json!({"codes": codes}))
    }

    fn of(kind: &'static str, data: Value) -> Self {
        Self {
            kind,
            id: None,
            data: Some(data),
            meta: BTreeMap::new(),
            tags: BTreeSet::new(),
            if_version: None,
        }
    }

    /// Gives the item this id. Without one, the service chooses a new id; that of an instrument is
    /// in its data.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Adds metadata. What the item had before is replaced.
    #[must_use]
    pub fn meta(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.meta.insert(name.into(), value.into());
        self
    }

    /// Adds a tag. What the item had before is replaced.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.insert(tag.into());
        self
    }

    /// Writes only if the item is at this version; 0: only if it does not exist.
    #[must_use]
    pub fn if_version(mut self, version: u64) -> Self {
        self.if_version = Some(version);
        self
    }
}

/// The result of a write of one item.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Written {
    /// The item as it is stored.
    pub item: Item,
    /// The owner's version.
    pub owner_version: u64,
}

/// How current a read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// What the nearest replica of the bucket has.
    Head,
    /// Everything that was acknowledged to any caller before. Never from an old copy: while the
    /// bucket is out of reach, the read is refused.
    Strong,
    /// The worker's own copy, if it is recent.
    Eventual,
}

/// One operation of a batch.
#[derive(Clone, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum BatchOperation {
    /// Writes an item.
    Put(Put),
    /// Deletes an item.
    Delete(ItemName),
}

/// Whether one refusal in a batch refuses all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchMode {
    /// All operations, or none.
    Atomic,
    /// Every operation that is not refused.
    Each,
}

/// The result of one operation of a batch.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchResult {
    /// The item as it is stored, or deleted.
    Item(Box<Item>),
    /// Why the operation was not executed.
    Error(Refused),
}

/// Which items to list. By default all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Filter {
    /// Only items of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Only items with this tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Only items without tags.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub untagged: bool,
}

/// A tag, and how many items have it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Tag {
    /// The tag.
    pub tag: String,
    /// How many living items have it.
    pub items: u32,
}

/// How much of the owner's limits is used.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Usage {
    /// Living items.
    pub items: UsedOf,
    /// Ids, those of kept deletions included.
    pub keys: UsedOf,
    /// The size of the items as they are stored.
    pub bytes: UsedOf,
}

/// A number and its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct UsedOf {
    /// What is used.
    pub used: u64,
    /// The limit.
    pub limit: u64,
}

/// A code of a one-time-password secret.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct OtpCode {
    /// The code.
    pub code: String,
    /// TOTP and Steam: how many seconds the code is still valid.
    pub valid_for_s: Option<u32>,
    /// HOTP: the counter that was used.
    pub counter: Option<u64>,
    /// The owner's version.
    pub owner_version: u64,
    /// TOTP and Steam: whether the secret is from a copy that could not be checked.
    #[serde(default)]
    pub stale: bool,
}

/// A code that was taken from a list.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct TakenCode {
    /// The code.
    pub code: String,
    /// How many are left.
    pub remaining: u32,
    /// The owner's version.
    pub owner_version: u64,
}

/// Whether a one-time password is right.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "RawVerdict")]
pub enum OtpVerdict {
    /// It is right, and was accepted. It is accepted only once.
    Valid,
    /// It is wrong.
    Wrong,
    /// It was right, and was accepted before.
    AlreadyUsed,
}

#[derive(Deserialize)]
struct RawVerdict {
    valid: bool,
    reason: Option<String>,
}

impl From<RawVerdict> for OtpVerdict {
    fn from(raw: RawVerdict) -> Self {
        match (raw.valid, raw.reason.as_deref()) {
            (true, _) => Self::Valid,
            (false, Some("already_used")) => Self::AlreadyUsed,
            (false, _) => Self::Wrong,
        }
    }
}
