//! What the service keeps, as types that cannot hold a wrong value.
//!
//! One parsed type a file, each with one fallible constructor. This room is pure: it names no other room, reads no
//! clock but for [`Timestamp::now`], and never prints what an owner keeps: such types show only their name to
//! [`Debug`](std::fmt::Debug).

mod instrument;
mod invalid;
mod isin;
mod item;
mod item_id;
mod kind;
mod labels;
mod limits;
mod market;
mod opaque;
mod rules;
mod text;
mod timestamp;
mod version;

pub use instrument::{Instrument, InstrumentInput, InstrumentType};
pub use invalid::Invalid;
pub use isin::Isin;
pub use item::{Data, Item};
pub use item_id::ItemId;
pub use kind::Kind;
pub use labels::{Meta, Tags};
pub use limits::ItemLimits;
pub use market::{CurrencyCode, InstrumentName, Mic, Ticker};
pub use text::Text;
pub use timestamp::Timestamp;
pub use version::Version;

pub(crate) use opaque::opaque_debug;
