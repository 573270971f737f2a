//! The values that the service stores, as types that cannot hold an invalid value.
//!
//! Each type has one fallible constructor, and a file of its own or shared with closely related
//! types. This module is pure: it uses no other module, reads no clock except in
//! [`Timestamp::now`], and no environment except in `next`, which only test builds have. Types that
//! hold an owner's data print only their name in [`Debug`](std::fmt::Debug).

mod codes;
mod hidden;
mod instrument;
mod invalid;
mod isin;
mod item;
mod item_id;
mod kind;
mod labels;
mod limits;
mod market;
#[cfg(feature = "next")]
pub mod next;
mod opaque;
mod otp;
mod place;
mod rules;
mod text;
mod ticker;
mod timestamp;
mod version;

pub use codes::{Codes, CodesFacts, CodesRemains};
pub use hidden::Hidden;
pub use instrument::{Instrument, InstrumentInput, InstrumentType};
pub use invalid::Invalid;
pub use isin::Isin;
pub use item::{Data, Item};
pub use item_id::ItemId;
pub use kind::{Kind, KindName};
pub use labels::{Meta, Tags};
pub use limits::ItemLimits;
pub use market::{CurrencyCode, InstrumentName, Mic};
pub use otp::{Algorithm, CodeCheck, Moving, Otp, OtpFacts, OtpRemains, OtpSecret};
pub use place::Place;
pub use text::Text;
pub use ticker::Ticker;
pub use timestamp::Timestamp;
pub use version::Version;

pub(crate) use opaque::opaque_debug;
