//! The operations of the service: one operation a file, each with its input, its rule and its call.
//!
//! A request arrives here with its headers parsed and its body decoded. A handler answers with a
//! body or a refusal. No handler talks to NATS, the bucket or Postgres itself: it reads and writes
//! data through [`Owners`] only.

mod batch;
mod changes;
mod codes_add;
mod codes_take;
mod condition;
mod delete;
mod epoch;
mod failure;
mod freshness;
mod get;
mod guesses;
mod history;
mod item_name;
mod limits;
mod list;
mod lookup;
mod move_item;
mod otp_code;
mod otp_verify;
mod page;
mod put;
mod quota;
mod reference;
mod request;
mod restore;
mod tags;
mod tags_rename;
mod usage;
mod version;
mod write;

pub use failure::Failure;
pub use guesses::Guesses;
pub use limits::{Limits, LimitsInForce};
pub use request::Request;

use crate::auth::Authenticator;
use crate::build::BuildInfo;
use crate::owners::Owners;
use crate::reference::ReferenceClient;
use crate::wire::Operation;
use serde_json::Value;

/// What all handlers share.
#[derive(Clone)]
pub struct Service {
    /// The owners' data.
    pub owners: Owners,
    /// Verifies callers' tokens.
    pub auth: Authenticator,
    /// Checks that instruments exist; `None` if the settings name no reference service.
    pub reference: Option<ReferenceClient>,
    /// The bounds on what callers send and get.
    pub limits: LimitsInForce,
    /// The wrong one-time passwords of each item.
    pub guesses: Guesses,
    /// The version and build of this program.
    pub build: BuildInfo,
    /// This worker's shard.
    pub shard: String,
}

impl Service {
    /// Handles one request, and returns the body of its reply.
    ///
    /// # Errors
    /// The [`Failure`] that the caller gets instead, as [`Failure::refusal`].
    pub async fn handle(&self, request: Request) -> Result<Value, Failure> {
        match request.operation {
            Operation::Put => put::put(self, request.admit(self).await?).await,
            Operation::Get => get::get(self, request.admit(self).await?).await,
            Operation::List => list::list(self, request.admit(self).await?).await,
            Operation::Delete => delete::delete(self, request.admit(self).await?).await,
            Operation::Changes => changes::changes(self, request.admit(self).await?).await,
            Operation::History => history::history(self, request.admit(self).await?).await,
            Operation::Restore => restore::restore(self, request.admit(self).await?).await,
            Operation::Batch => batch::batch(self, request.admit(self).await?).await,
            Operation::Move => move_item::move_item(self, request.admit(self).await?).await,
            Operation::Tags => tags::tags(self, request.admit(self).await?).await,
            Operation::TagsRename => {
                tags_rename::tags_rename(self, request.admit(self).await?).await
            }
            Operation::Lookup => lookup::lookup(self, request.admit(self).await?).await,
            Operation::Usage => usage::usage(self, request.admit(self).await?).await,
            Operation::OtpCode => otp_code::otp_code(self, request.admit(self).await?).await,
            Operation::OtpVerify => otp_verify::otp_verify(self, request.admit(self).await?).await,
            Operation::CodesTake => codes_take::codes_take(self, request.admit(self).await?).await,
            Operation::CodesAdd => codes_add::codes_add(self, request.admit(self).await?).await,
            Operation::Version => version::version(self, request),
            Operation::Limits => limits::limits(self, request),
        }
    }
}
