//! What this program is and what it was built from.

use crate::domain::Timestamp;

/// Name, version, commit and date of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    /// The service's name.
    pub name: &'static str,
    /// Its version (Semantic Versioning 2.0.0).
    pub version: &'static str,
    /// The commit it was built from, 40 hexadecimal digits, or `unknown`.
    pub commit: &'static str,
    /// When it was built, RFC 3339 in UTC; `SOURCE_DATE_EPOCH` where that was set.
    pub built_at: String,
}

impl BuildInfo {
    /// Of this very program.
    pub fn of_this_program() -> Self {
        let seconds: i64 = env!("GOFAVORITES_BUILT_AT").parse().unwrap_or_default();
        Self {
            name: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            commit: env!("GOFAVORITES_COMMIT"),
            built_at: Timestamp::from_millis(seconds * 1_000).to_rfc3339(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_knows_what_it_is() {
        let build = BuildInfo::of_this_program();
        assert_eq!(build.name, "gofavorites");
        assert!(build.commit == "unknown" || build.commit.len() == 40);
        assert!(build.built_at.ends_with('Z'));
    }
}
