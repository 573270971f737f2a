//! Whether an instrument is real: asks the reference service, before the put is decided.

use super::Service;
use super::failure::retry_soon;
use crate::domain::Instrument;
use crate::reference::{Answer, OnSilence, Question};
use crate::wire::{Code, Refusal, TraceContext};

/// Checks that the instrument exists, and fills in what the caller left out. Does nothing if the
/// settings name no reference service.
///
/// # Errors
/// `unknown_instrument`, or `reference_unavailable` if there is no answer and the settings do not
/// accept that.
pub(super) async fn confirm(
    service: &Service,
    instrument: &mut Instrument,
    trace: Option<&TraceContext>,
) -> Result<(), Refusal> {
    let Some(reference) = &service.reference else {
        return Ok(());
    };
    let Some(question) = Question::about(instrument) else {
        return Ok(());
    };

    match (
        reference.ask(&question, trace).await,
        reference.on_silence(),
    ) {
        (Ok(Answer::Found(known)), _) => {
            instrument.fill_in(known.ticker, known.mic, known.currency, known.name);
            Ok(())
        }
        (Ok(Answer::Unknown), _) => Err(unknown(&question)),
        (Err(_), OnSilence::Accept) => Ok(()),
        (Err(_), OnSilence::Refuse) => Err(retry_soon(
            Code::ReferenceUnavailable,
            "the reference service does not answer, so the instrument cannot be checked: ask again",
        )),
    }
}

/// The refusal of an instrument that the reference service does not know, by the field that names
/// it.
fn unknown(question: &Question) -> Refusal {
    let field = question.field();

    Refusal::new(
        Code::UnknownInstrument,
        format!("{field}: the reference service knows no such instrument: check what names it"),
    )
    .field(field)
}
