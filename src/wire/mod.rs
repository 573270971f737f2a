//! Converts bytes into types and back: subjects, headers, bodies, refusals.
//!
//! Everything that a caller sends is parsed here, into a complete typed value or into a
//! [`Refusal`]. This module is pure: it sends nothing, waits for nothing, and uses no module of
//! this crate except `domain`. Types that hold what a caller sent print only their name in
//! [`Debug`](std::fmt::Debug).

mod asyncapi;
mod canonical;
mod code;
mod codec;
mod error;
mod fields;
pub mod header;
mod item;
mod item_view;
mod order;
mod raw;
mod reply;
mod reply_subject;
mod schema;
mod subject;
mod subjects;
mod trace;
mod value;

pub use asyncapi::{document, yaml, yaml_in_order};
pub use canonical::canonical;
pub use code::Code;
pub use codec::{BodyLimits, Encoding, decode, encode, json_bytes};
pub use error::{REFUSAL_BYTES, Refusal};
pub use fields::Fields;
pub use header::{HeaderLimits, RequestHeaders, RequestKey, encoding_asked};
pub use item::{NewData, data_from};
pub use item_view::ItemView;
pub use order::{FIELDS, Ordered};
pub use reply::{REPLY_HEADER_BYTES_MAX, ReplyHeaders, error_headers, reply_headers};
pub use reply_subject::{ReplyError, ReplyWall};
pub use schema::request_schema;
pub use subject::{Operation, Scope};
pub use subjects::Subjects;
pub use trace::TraceContext;
pub use value::Value;
