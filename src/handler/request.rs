//! A request on its way to its operation: first authenticated and admitted, then decoded. A decoded
//! body takes many times the memory of its bytes, so only a caller who is known gets that far.

use super::epoch;
use super::failure::within;
use super::{Failure, Service};
use crate::auth::Principal;
use crate::owners::{Account, Admission, Cost};
use crate::seal::OwnerKey;
use crate::wire::{
    BodyLimits, Code, Fields, Operation, Refusal, RequestHeaders, Scope, TraceContext, Value,
    canonical, decode,
};
use bytes::Bytes;
use std::sync::{Arc, OnceLock};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// A request whose headers can be read.
pub struct Request {
    /// The operation that its subject names.
    pub operation: Operation,
    /// Its parsed headers.
    pub headers: RequestHeaders,
    /// Its body as it was sent.
    pub body: Bytes,
    /// When the caller's time is up.
    pub deadline: Instant,
    /// Whether the worker was busy when it came.
    pub is_busy: bool,
    /// Set when the request is admitted as one of its owner's.
    pub account: Arc<OnceLock<Account>>,
}

/// A request of an authenticated caller.
pub(super) struct Call {
    pub caller: Principal,
    pub owner: OwnerKey,
    pub fields: Fields,
    pub deadline: Instant,
    /// The caller's request id, and the canonical bytes of the request.
    pub request: Option<(String, Zeroizing<Vec<u8>>)>,
    /// The caller's trace context, to be passed on.
    pub trace: Option<TraceContext>,
    /// Is charged what the request costs beyond what its body shows.
    pub account: Account,
    /// Counts the request as one of the owner's until it ends.
    _admission: Admission,
}

impl Request {
    /// Authenticates the caller and admits the request within the owner's limits. The owner comes
    /// from the auth service's verdict and from nowhere else.
    pub(super) async fn admit(mut self, service: &Service) -> Result<Call, Failure> {
        let caller = self.authenticate(service).await?;
        let owner = service.owners.owner(caller.user());
        tracing::Span::current().record("owner", tracing::field::display(owner));

        let limits = service.limits.current();
        let cost = Cost::of_request(self.body.len());
        let (mut admission, account) = service
            .owners
            .admit(&owner, limits.pace(), cost)
            .map_err(|denied| limits.denied(denied))?;
        let is_write = self.operation.scope() != Some(Scope::Read);
        admission
            .wait_for_turn(is_write, self.is_busy, self.deadline)
            .await;
        let body = self.decode(service)?;
        // Those beyond the limit are not executed.
        let operations = operations(self.operation, &body).min(limits.batch);
        account.charge(Cost::of_operations(operations));
        // It is set nowhere else.
        let _ = self.account.set(account.clone());

        let request = self.headers.request_id.map(|id| {
            let body = canonical(self.operation.name(), &body);
            (id.as_str().to_owned(), body)
        });
        let mut fields = Fields::of(body)?;
        epoch::check(self.operation, &mut fields, service, &owner, self.deadline).await?;

        Ok(Call {
            caller,
            owner,
            fields,
            deadline: self.deadline,
            request,
            trace: self.headers.trace,
            account,
            _admission: admission,
        })
    }

    /// Decodes the body of an operation that needs no token.
    pub(super) fn fields(&self, service: &Service) -> Result<Fields, Refusal> {
        Fields::of(self.decode(service)?)
    }

    fn decode(&self, service: &Service) -> Result<Value, Refusal> {
        let limits = BodyLimits {
            nesting: service.limits.current().nesting,
        };

        decode(&self.body, self.headers.encoding, &limits)
    }

    /// Asks the auth service who the caller is, and checks that the token allows the operation.
    async fn authenticate(&mut self, service: &Service) -> Result<Principal, Failure> {
        let token = self.headers.token.take().ok_or_else(|| {
            Refusal::new(
                Code::Unauthenticated,
                "no token: send the header Authorization: Bearer <token>",
            )
        })??;

        let verified = service.auth.verify(&token, self.headers.trace.as_ref());
        let caller = within(self.deadline, verified).await??;

        if let Some(scope) = self.operation.scope() {
            require(&caller, scope)?;
        }
        Ok(caller)
    }
}

/// The number of operations in the body of a batch.
fn operations(operation: Operation, body: &Value) -> usize {
    match operation {
        Operation::Batch => body.list_length("ops"),
        _ => 0,
    }
}

/// Refuses a caller whose token lacks the scope.
pub(super) fn require(caller: &Principal, scope: Scope) -> Result<(), Refusal> {
    if caller.may(scope) {
        return Ok(());
    }
    Err(Refusal::forbidden(scope.as_str()))
}
