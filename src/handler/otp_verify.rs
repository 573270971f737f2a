//! `otp.verify`: checks a code, and uses it up if it is right.

use super::body::Body;
use super::item_name::ItemName;
use super::otp_code::{now_s, secret};
use super::request::Call;
use super::secret_data::{otp_parts, with_data};
use super::{Failure, Limits, Service};
use crate::domain::{CodeCheck, Kind, Version};
use crate::owners::{Decision, Draft, Outcome, Snapshot};
use crate::wire::{Code, Fields, Refusal};
use serde_json::json;
use std::sync::atomic::Ordering;
use zeroize::Zeroizing;

/// The longest code that is checked, in bytes. The longest real one has 8.
const CODE_BYTES_MAX: usize = 32;

/// `{id, code}`
struct OtpVerify {
    item: ItemName,
    /// The code as it was typed, without spaces.
    code: Zeroizing<String>,
}

/// Why a code is not accepted.
enum NotAccepted {
    Wrong(Version),
    AlreadyUsed(Version),
    Refused(Refusal),
}

impl OtpVerify {
    fn parse(mut fields: Fields, limits: &Limits) -> Result<Self, Failure> {
        let item = ItemName::take_id(Kind::Otp, &mut fields, limits)?;
        let code = Zeroizing::new(fields.require_text("code")?);
        fields.finish()?;

        let code = Zeroizing::new(code.replace(' ', ""));
        if code.is_empty() || code.len() > CODE_BYTES_MAX {
            let message = format!("code: must be 1 to {CODE_BYTES_MAX} bytes");
            return Err(Refusal::new(Code::InvalidItem, message)
                .field("code")
                .into());
        }
        Ok(Self { item, code })
    }

    fn decide(&self, snapshot: &Snapshot) -> Result<Decision<NotAccepted>, Failure> {
        let Some(item) = self.item.living(snapshot)? else {
            let refusal = self.item.not_found(snapshot);
            return Ok(Decision::Refuse(NotAccepted::Refused(refusal)));
        };
        let otp = secret(snapshot, &item)?;

        Ok(match otp.check(&self.code, now_s()) {
            CodeCheck::Right(used) => {
                Decision::Write(Draft::one(with_data(&item, otp_parts(&used))?))
            }
            CodeCheck::AlreadyUsed => {
                Decision::Refuse(NotAccepted::AlreadyUsed(snapshot.version()))
            }
            CodeCheck::Wrong => Decision::Refuse(NotAccepted::Wrong(snapshot.version())),
        })
    }
}

/// Answers `{valid, reason?, owner_version}`.
pub(super) async fn otp_verify(service: &Service, call: Call) -> Result<Body, Failure> {
    let request = OtpVerify::parse(call.fields, &service.limits.current())?;

    let guess = service.guesses.begin(&call.owner, &request.item.id)?;
    let intent = request.item.intent(call.request).urgent();
    // A wrong code counts however the request ends.
    let decide = |snapshot: &Snapshot| {
        let decision = request.decide(snapshot);
        let is_wrong = matches!(decision, Ok(Decision::Refuse(NotAccepted::Wrong(_))));
        guess.is_wrong.store(is_wrong, Ordering::Relaxed);
        decision
    };
    let outcome = service
        .owners
        .write(call.caller.user(), &intent, call.deadline, decide)
        .await?;

    let refused = |reason: &str, version: Version| json!({"valid": false, "reason": reason, "owner_version": version.get()});
    match outcome {
        Outcome::Written(receipt) => {
            guess.is_wrong.store(false, Ordering::Relaxed);
            let reply = json!({"valid": true, "owner_version": receipt.owner_version().get()});
            Ok(Body::from(reply).mark_pending(receipt.local))
        }
        Outcome::Refused(NotAccepted::Wrong(version)) => Ok(refused("wrong", version).into()),
        Outcome::Refused(NotAccepted::AlreadyUsed(version)) => {
            Ok(refused("already_used", version).into())
        }
        Outcome::Refused(NotAccepted::Refused(refusal)) => Err(refusal.into()),
        Outcome::Failed(failure) => Err(failure.into()),
    }
}
