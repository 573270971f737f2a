//! The two marks of the bucket: what all workers of all shards have to agree on.
//!
//! - `_formats` permits a format of records. Only newer workers can read a newer format, so an
//!   operator raises the mark once all workers are new enough. It never goes down.
//! - `_epoch` names the history of the bucket. The first shard that accepts a loss of history
//!   replaces it, so that no version of the lost history passes for one of the new.

use super::api::Ack;
use super::append::{EXPECTED_SEQUENCE, EXPECTED_SUBJECT};
use super::bucket::Bucket;
use super::error::TruthError;
use super::fetch::number;
use crate::requester::CallError;
use crate::seal::{Format, RecordName, random};
use async_nats::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// The longest text of a mark, in bytes.
const MARK_BYTES_MAX: usize = 64;
/// How often a mark is written again after another writer was faster.
const WRITE_TRIES_MAX: usize = 5;

/// A mark in the bucket.
struct Mark {
    text: String,
    sequence: u64,
}

#[derive(Clone, Copy)]
enum MarkName {
    Formats,
    Epoch,
}

impl MarkName {
    fn as_str(self) -> &'static str {
        match self {
            Self::Formats => "_formats",
            Self::Epoch => "_epoch",
        }
    }
}

/// Returns how often an operator has accepted a loss before this epoch began.
pub fn losses(epoch: &str) -> u64 {
    let count = epoch.split_once('-').map(|(count, _)| count);
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Returns how many losses the next name counts, if the bucket has the name `present` and the shard
/// that accepts a loss followed the history `known`; `None` if the loss was accepted before.
fn losses_after(present: Option<&str>, known: Option<&str>) -> Option<u64> {
    let present = present.map(losses);
    let known = known.map(losses);

    match (present, known) {
        (Some(present), Some(known)) if present > known => None,
        (present, known) => Some(present.max(known).unwrap_or_default() + 1),
    }
}

impl Bucket {
    /// The newest format that this worker may write, as it last read the mark.
    pub fn format(&self) -> Format {
        match self.marks.format.load(Ordering::Relaxed) {
            0 => Format::One,
            number => Format::from_number(number).unwrap_or(Format::NEWEST),
        }
    }

    /// The name of the bucket's history, as this worker last read it; `None` if it has none yet.
    pub fn epoch(&self) -> Option<String> {
        let epoch = self.marks.epoch.read();
        epoch.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the marks. Returns the number of the permitted format; `None` without a mark.
    pub async fn read_marks(&self) -> Result<Option<u8>, TruthError> {
        let formats = self.read_mark(MarkName::Formats).await?;
        let number = formats.map(|mark| format_number(&mark)).transpose()?;
        let epoch = self.read_mark(MarkName::Epoch).await?;

        self.marks
            .format
            .fetch_max(number.unwrap_or_default(), Ordering::Relaxed);
        let mut known = self
            .marks
            .epoch
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *known = epoch.map(|mark| mark.text);

        Ok(number)
    }

    /// Permits that format, unless the mark permits it already. Returns the number that the mark
    /// has then.
    pub async fn permit_format(&self, format: Format) -> Result<u8, TruthError> {
        for _ in 0..WRITE_TRIES_MAX {
            let mark = self.read_mark(MarkName::Formats).await?;
            let permitted = mark.as_ref().map(format_number).transpose()?;
            if let Some(permitted) = permitted.filter(|number| *number >= format.number()) {
                return Ok(permitted);
            }

            let text = format.number().to_string();
            self.write_mark(MarkName::Formats, mark.as_ref(), text)
                .await?;
        }

        Err(CallError::Busy.into())
    }

    /// Gives the bucket's history a name, unless it has one. Returns the name.
    pub async fn begin_epoch(&self) -> Result<String, TruthError> {
        self.change_epoch(|present| present.is_none().then_some(0))
            .await
    }

    /// Gives the bucket's history another name, because a loss is accepted. `known` is the name of
    /// the history that the accepting shard followed. If the bucket's name counts more losses than
    /// that, another shard has accepted this loss before. Returns the name.
    ///
    /// The name alone proves nothing: a bucket that was restored has the name of its backup.
    pub async fn replace_epoch(&self, known: Option<&str>) -> Result<String, TruthError> {
        self.change_epoch(|present| losses_after(present, known))
            .await
    }

    /// Gives the bucket's history the name that counts the losses which `next` returns for the
    /// present name; keeps the present one if it returns `None`.
    async fn change_epoch(
        &self,
        next: impl Fn(Option<&str>) -> Option<u64>,
    ) -> Result<String, TruthError> {
        for _ in 0..WRITE_TRIES_MAX {
            let mark = self.read_mark(MarkName::Epoch).await?;
            let present = mark.as_ref().map(|mark| mark.text.as_str());
            let Some(losses) = next(present) else {
                return Ok(present.unwrap_or_default().to_owned());
            };

            let text = format!("{losses}-{}", URL_SAFE_NO_PAD.encode(random::<9>()));
            if self
                .write_mark(MarkName::Epoch, mark.as_ref(), text.clone())
                .await?
            {
                return Ok(text);
            }
        }

        Err(CallError::Busy.into())
    }

    /// Returns whether the bucket has any owner's record.
    pub(super) async fn has_owners(&self) -> Result<bool, TruthError> {
        let keys = format!("{}.*.{}", self.root(), RecordName::Key);
        let message = self.message(json!({ "last_by_subj": keys })).await?;

        Ok(message.is_some())
    }

    async fn read_mark(&self, name: MarkName) -> Result<Option<Mark>, TruthError> {
        let query = json!({ "last_by_subj": self.mark_subject(name) });
        let Some(message) = self.message(query).await? else {
            return Ok(None);
        };

        let text = String::from_utf8(message.payload.to_vec())
            .ok()
            .filter(|text| text.len() <= MARK_BYTES_MAX)
            .ok_or(TruthError::Unreadable("a mark"))?;
        let sequence = number(&message, "Nats-Sequence")
            .ok_or(TruthError::Unreadable("a message without sequence"))?;
        Ok(Some(Mark { text, sequence }))
    }

    /// Writes a mark in the place of `before`. Returns whether it did: another may be faster.
    async fn write_mark(
        &self,
        name: MarkName,
        before: Option<&Mark>,
        text: String,
    ) -> Result<bool, TruthError> {
        let subject = self.mark_subject(name);
        let expected = before.map(|mark| mark.sequence).unwrap_or_default();
        let mut headers = HeaderMap::new();
        headers.insert(EXPECTED_SEQUENCE, expected.to_string());
        headers.insert(EXPECTED_SUBJECT, subject.as_str());

        let reply = self
            .requester
            .ask(
                self.published(&subject),
                headers,
                text.into(),
                self.deadline(),
            )
            .await?;
        let ack: Ack = serde_json::from_slice(&reply.payload)
            .map_err(|_| TruthError::Unreadable("an acknowledgement"))?;

        match ack.error {
            None => Ok(true),
            Some(error) if error.is_conflict() => Ok(false),
            Some(error) if error.is_full() => Err(TruthError::Full),
            Some(error) => Err(error.into()),
        }
    }

    fn mark_subject(&self, name: MarkName) -> String {
        format!("{}.{}", self.root(), name.as_str())
    }
}

fn format_number(mark: &Mark) -> Result<u8, TruthError> {
    let number = mark.text.trim().parse();
    number.map_err(|_| TruthError::Unreadable("the mark of the formats"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_says_how_often_a_loss_was_accepted() {
        assert_eq!(losses("0-AAAA"), 0);
        assert_eq!(losses("3-x-y"), 3);
        assert_eq!(losses("another form"), 0);
    }

    #[test]
    fn a_loss_is_accepted_once_whatever_name_the_bucket_has() {
        let next = |present, known| losses_after(present, known);

        assert_eq!(next(Some("0-a"), Some("0-a")), Some(1));
        assert_eq!(
            next(Some("1-b"), Some("0-a")),
            None,
            "another shard was first"
        );
        assert_eq!(next(Some("0-a"), Some("1-b")), Some(2), "an old backup");
        assert_eq!(next(Some("0-c"), Some("0-a")), Some(1), "made again");
        assert_eq!(
            next(None, Some("2-a")),
            Some(3),
            "made again, without a name"
        );
        assert_eq!(next(Some("1-a"), None), Some(2), "it never followed one");
    }
}
