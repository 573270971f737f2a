//! A request on its way to its operation: first decoded, then authenticated and admitted.

use super::epoch;
use super::failure::within;
use super::{Failure, Service};
use crate::auth::Principal;
use crate::owners::Admission;
use crate::seal::OwnerKey;
use crate::wire::{
    Code, Fields, Operation, Refusal, RequestHeaders, Scope, TraceContext, Value, canonical,
};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// A request whose headers and body can be read.
pub struct Request {
    /// The operation that its subject names.
    pub operation: Operation,
    /// Its parsed headers.
    pub headers: RequestHeaders,
    /// Its body.
    pub body: Value,
    /// When the caller's time is up.
    pub deadline: Instant,
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
        let admission = service
            .owners
            .admit(&owner, &limits.pace())
            .map_err(|denied| limits.denied(denied))?;

        let request = self.headers.request_id.map(|id| {
            let body = canonical(self.operation.name(), &self.body);
            (id.as_str().to_owned(), body)
        });
        let mut fields = Fields::of(self.body)?;
        epoch::check(self.operation, &mut fields, service, &owner, self.deadline).await?;

        Ok(Call {
            caller,
            owner,
            fields,
            deadline: self.deadline,
            request,
            trace: self.headers.trace,
            _admission: admission,
        })
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

/// Refuses a caller whose token lacks the scope.
pub(super) fn require(caller: &Principal, scope: Scope) -> Result<(), Refusal> {
    if caller.may(scope) {
        return Ok(());
    }
    Err(Refusal::forbidden(scope.as_str()))
}
