//! A made-up next release, with which a test runs this one side by side.
//!
//! It is this program in a process with the environment variable [`VARIABLE`]: it knows one more
//! kind of item, `basket`, and adds a record of another name to each write. Only test builds have
//! it.

use std::sync::OnceLock;

/// The environment variable that makes a process play the next release.
pub const VARIABLE: &str = "GOFAVORITES_NEXT_RELEASE";
/// The name of the record that the next release adds to each write.
pub const RECORD_NAME: &str = "hint";
/// The class of that record.
pub const RECORD_CLASS: u8 = 3;

/// Returns whether this process plays the next release.
pub fn is_active() -> bool {
    static IS_ACTIVE: OnceLock<bool> = OnceLock::new();

    *IS_ACTIVE.get_or_init(|| std::env::var_os(VARIABLE).is_some())
}
