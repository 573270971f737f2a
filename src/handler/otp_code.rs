//! `otp.code`: the code of a one-time-password item, now or of the next counter.

use super::body::Body;
use super::failure::retry_soon;
use super::freshness::Freshness;
use super::item_name::ItemName;
use super::request::Call;
use super::secret_data::{otp_parts, with_data};
use super::write;
use super::{Failure, Service};
use crate::domain::{Data, Kind, Otp, Timestamp};
use crate::owners::{Draft, OpenedItem, Snapshot};
use crate::wire::{Code, Fields, Refusal};
use serde_json::{Value, json};

/// `{id, consistency?, min_version?}`
struct OtpCode {
    item: ItemName,
    freshness: Freshness,
}

impl OtpCode {
    fn parse(mut fields: Fields, service: &Service) -> Result<Self, Failure> {
        let item = ItemName::take_id(Kind::Otp, &mut fields, &service.limits.current())?;
        let freshness = Freshness::take(&mut fields, &service.owners)?;
        fields.finish()?;

        Ok(Self { item, freshness })
    }

    /// Decides on the owner's state: the item after the use of its next counter.
    fn decide(&self, snapshot: &Snapshot) -> Result<Draft, Failure> {
        let item = self.item.require(snapshot)?;
        let otp = secret(snapshot, &item)?;

        match otp.next_code() {
            Some((_, _, used)) => with_data(&item, otp_parts(&used)).map(Draft::one),
            None if otp.facts().counter().is_some() => {
                let message = "the greatest counter was used: put another secret";
                let refusal = Refusal::new(Code::InvalidItem, message).field("counter");
                Err(refusal.into())
            }
            None => {
                let message = "the item was put with another type meanwhile: ask again";
                Err(retry_soon(Code::Overloaded, message).into())
            }
        }
    }
}

/// Opens the secret of a living one-time-password item.
pub(super) fn secret(snapshot: &Snapshot, item: &OpenedItem) -> Result<Otp, Failure> {
    snapshot
        .otp(item)?
        .ok_or_else(|| Failure::internal("a one-time-password item without a secret"))
}

/// Returns whether the item is there and its codes follow a counter.
fn follows_a_counter(name: &ItemName, snapshot: &Snapshot) -> Result<bool, Failure> {
    let item = name.living(snapshot)?;
    let data = item.as_ref().and_then(|item| item.living()?.data.as_ref());

    Ok(matches!(data, Some(Data::Otp(facts)) if facts.counter().is_some()))
}

/// The reply with the code of the present step; `None` if the codes follow a counter.
fn code_of_now(snapshot: &Snapshot, item: &OpenedItem) -> Result<Option<Value>, Failure> {
    let otp = secret(snapshot, item)?;
    let Some(period_s) = otp.facts().period_s() else {
        return Ok(None);
    };

    let now_s = now_s();
    Ok(Some(json!({
        "code": otp.code(now_s / period_s).as_str(),
        "valid_for_s": period_s - now_s % period_s,
        "period_s": period_s,
        "owner_version": snapshot.version().get(),
    })))
}

/// Seconds since the Unix epoch.
pub(super) fn now_s() -> u64 {
    u64::try_from(Timestamp::now().millis() / 1_000).unwrap_or_default()
}

/// Answers `{code, valid_for_s, period_s, owner_version}`, or `{code, counter, version,
/// owner_version}`.
pub(super) async fn otp_code(service: &Service, call: Call) -> Result<Body, Failure> {
    let request = OtpCode::parse(call.fields, service)?;

    // The codes of a counter are written, so no read has to be as fresh as the caller asks for.
    let is_known_counter = match service.owners.in_memory(&call.owner) {
        Some(snapshot) => follows_a_counter(&request.item, &snapshot)?,
        None => false,
    };
    if !is_known_counter {
        let reading = request
            .freshness
            .read(&service.owners, &call.owner, call.deadline)
            .await?;
        match request.item.living(&reading.snapshot)? {
            Some(item) => {
                if let Some(reply) = code_of_now(&reading.snapshot, &item)? {
                    return Ok(Body::from(reply).mark_stale(&reading));
                }
            }
            None if reading.stale => return Err(request.item.not_found_by(&reading).into()),
            // The write below confirms that there is no item. A repeat of one that was done before
            // the item was deleted still gets its code.
            None => {}
        }
    }

    let intent = request.item.intent(call.request).urgent();
    let decide = |snapshot: &Snapshot| write::decision(request.decide(snapshot));
    let outcome = service
        .owners
        .write(call.caller.user(), &intent, call.deadline, decide)
        .await?;

    let receipt = write::written(outcome)?;
    let item = write::only_item(&receipt)?;
    let otp = secret(&*service.owners.held(&call.owner).await?, item)?;
    let next = otp.facts().counter().unwrap_or_default();
    let counter = next.saturating_sub(1);
    let reply = json!({
        "code": otp.code(counter).as_str(),
        "counter": counter,
        "version": item.version.get(),
        "owner_version": receipt.owner_version().get(),
    });
    Ok(Body::from(reply).mark_pending(receipt.local))
}
