//! The part of an item's content that replies hide.

use super::{Codes, CodesRemains, OtpRemains, OtpSecret, opaque_debug};
use serde::{Deserialize, Serialize};

/// The part of an item that replies hide. A text and an instrument have none.
///
/// It is sealed apart from the rest of the item, so that it stays sealed in memory until it is
/// needed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hidden {
    /// The secret of a one-time-password item.
    Otp(OtpSecret),
    /// A list of one-time codes.
    Codes(Codes),
    /// What the deletion of a one-time-password item keeps.
    OtpRemains(OtpRemains),
    /// What the deletion of a list of codes keeps.
    CodesRemains(CodesRemains),
}

opaque_debug!(Hidden);
