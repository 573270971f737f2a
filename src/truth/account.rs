//! How near the bucket's account is to the storage that it may use: a limit of which the stream knows
//! nothing.

use super::bucket::Bucket;
use super::error::TruthError;
use super::fullness::AccountFill;
use async_nats::HeaderMap;
use bytes::Bytes;
use serde::Deserialize;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::sleep;
use tracing::debug;

/// How often the account is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// What the server says of the account.
#[derive(Deserialize)]
struct AccountReply {
    #[serde(flatten)]
    use_in_all: Option<Use>,
    /// What streams with that many replicas use, by `R1`, `R3` and so on, if each of them has limits
    /// of its own.
    #[serde(default)]
    tiers: HashMap<String, Use>,
}

#[derive(Clone, Copy, Deserialize)]
struct Use {
    storage: u64,
    limits: Limits,
}

#[derive(Clone, Copy, Deserialize)]
struct Limits {
    /// Without a limit the server reports -1.
    max_storage: i64,
}

impl From<Use> for AccountFill {
    fn from(found: Use) -> Self {
        Self {
            bytes: found.storage,
            bytes_max: u64::try_from(found.limits.max_storage).ok(),
        }
    }
}

impl Bucket {
    /// Looks again and again at how much storage the bucket's account uses. Never returns.
    pub async fn watch_account(&self) {
        loop {
            if !self.reading().is_open() {
                match self.look_at_account().await {
                    Ok(fill) => self.full.note_account(fill),
                    Err(error) => debug!(%error, "cannot look at the bucket's account"),
                }
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Returns how much storage the bucket's account uses; `None` if the server does not tell.
    async fn look_at_account(&self) -> Result<Option<AccountFill>, TruthError> {
        let subject = self.settings.account_api();
        let asked = self
            .requester
            .ask(subject, HeaderMap::new(), Bytes::new(), self.deadline());
        let reply: AccountReply = serde_json::from_slice(&asked.await?.payload)
            .map_err(|_| TruthError::Unreadable("an answer about the account"))?;

        let tier = format!("R{}", self.settings.replicas);
        let found = reply.tiers.get(&tier).copied().or(reply.use_in_all);
        Ok(found.map(AccountFill::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_without_a_limit_is_never_nearly_full() {
        let reply = r#"{"storage": 9, "limits": {"max_storage": -1}}"#;
        let reply: AccountReply = serde_json::from_str(reply).expect("an answer");

        let fill = reply.use_in_all.map(AccountFill::from).expect("its use");

        assert_eq!((fill.bytes, fill.percent()), (9, None));
    }

    #[test]
    fn an_error_tells_nothing_of_the_account() {
        let reply = r#"{"error": {"code": 503, "err_code": 10039}}"#;
        let reply: AccountReply = serde_json::from_str(reply).expect("an answer");

        assert!(reply.use_in_all.is_none());
    }
}
