//! The operations of the service: one operation a file, each with its input, its rule and its call.
//!
//! A request arrives here with its headers parsed. It is admitted, then its body is decoded. A
//! handler answers with a body or a refusal. No handler talks to NATS, the bucket or Postgres
//! itself: it reads and writes data through [`Owners`] only.

mod batch;
mod body;
mod changes;
mod codes_add;
mod codes_take;
mod condition;
mod cursor;
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
mod secret_data;
mod tags;
mod tags_rename;
mod usage;
mod version;
mod write;

pub use body::{Body, FixedBody};
pub use failure::Failure;
pub use guesses::Guesses;
pub use limits::{Limits, LimitsInForce};
pub use request::Request;
pub use version::body as version_body;

use crate::auth::Authenticator;
use crate::build::BuildInfo;
use crate::owners::Owners;
use crate::reference::ReferenceClient;
use crate::wire::Operation;
use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};
use request::Call;
use std::sync::Arc;

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
    /// The answer to `version`, from [`version_body`].
    pub version: Arc<FixedBody>,
}

impl Service {
    /// Handles one request, and returns the body of its reply.
    ///
    /// # Errors
    /// The [`Failure`] that the caller gets instead, as [`Failure::refusal`].
    pub async fn handle(&self, request: Request) -> Result<Body, Failure> {
        match request.operation {
            Operation::Version => version::version(self, request),
            Operation::Limits => limits::limits(self, request).map(Body::from),
            operation => {
                let call = request.admit(self).await?;
                self.answer(operation, call).await
            }
        }
    }

    /// Runs an operation of an authenticated caller. Each is on the heap, because together they
    /// would be too large for a thread's stack.
    fn answer(&self, operation: Operation, call: Call) -> BoxFuture<'_, Result<Body, Failure>> {
        match operation {
            Operation::Put => put::put(self, call).boxed(),
            Operation::Get => get::get(self, call).boxed(),
            Operation::List => list::list(self, call).boxed(),
            Operation::Delete => delete::delete(self, call).boxed(),
            Operation::Changes => changes::changes(self, call).boxed(),
            Operation::History => history::history(self, call).boxed(),
            Operation::Restore => restore::restore(self, call).boxed(),
            Operation::Batch => batch::batch(self, call).boxed(),
            Operation::Move => move_item::move_item(self, call).boxed(),
            Operation::Tags => tags::tags(self, call).boxed(),
            Operation::TagsRename => tags_rename::tags_rename(self, call).boxed(),
            Operation::Lookup => lookup::lookup(self, call).boxed(),
            Operation::Usage => usage::usage(self, call).boxed(),
            Operation::OtpCode => otp_code::otp_code(self, call).boxed(),
            Operation::OtpVerify => otp_verify::otp_verify(self, call).boxed(),
            Operation::CodesTake => codes_take::codes_take(self, call).boxed(),
            Operation::CodesAdd => codes_add::codes_add(self, call).boxed(),
            Operation::Version | Operation::Limits => {
                ready(Err(Failure::internal("an operation without a token"))).boxed()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest that an operation may be, in bytes. It is allocated and moved for each request.
    const OPERATION_BYTES_MAX: usize = 8 << 10;

    fn bytes_of<'s, F: Future>(_operation: impl Fn(&'s Service, Call) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_few_requests_need_is_no_part_of_all() {
        let table = [
            ("get", bytes_of(get::get)),
            ("list", bytes_of(list::list)),
            ("changes", bytes_of(changes::changes)),
            ("put", bytes_of(put::put)),
            ("batch", bytes_of(batch::batch)),
        ];

        for (name, bytes) in table {
            assert!(bytes <= OPERATION_BYTES_MAX, "{name}: {bytes} bytes");
        }
    }
}
