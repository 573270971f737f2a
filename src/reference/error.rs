//! Why there is no answer of the reference service.

use crate::requester::CallError;

/// Why a question has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The service gave no answer in time.
    #[error("the reference service does not answer: {0}")]
    Unavailable(CallError),
    /// The maximum number of questions is under way.
    #[error("too many questions to the reference service are under way")]
    Busy,
    /// The service refused to answer.
    #[error("the reference service refuses to answer")]
    Refused,
    /// The answer is not the JSON object that is expected.
    #[error("the answer of the reference service cannot be read")]
    Unreadable,
    /// The answer is longer than what is read.
    #[error("the answer of the reference service is too long")]
    TooLong,
}
