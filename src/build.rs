//! The name, version, commit and date of this program.

use crate::domain::Timestamp;

/// Name, version, commit and date of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildInfo {
    /// The service's name.
    pub name: &'static str,
    /// The service's version (Semantic Versioning 2.0.0).
    pub version: &'static str,
    /// The commit of the source, 40 hexadecimal digits, or `unknown`.
    pub commit: &'static str,
    /// The time of the build, RFC 3339 in UTC; `SOURCE_DATE_EPOCH` if that was set.
    pub built_at: String,
}

impl BuildInfo {
    /// Returns the information about the running program.
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
    fn a_build_has_a_name_a_commit_and_a_date() {
        let build = BuildInfo::of_this_program();

        assert_eq!(build.name, "gofavorites");
        assert!(build.commit == "unknown" || build.commit.len() == 40);
        assert!(build.built_at.ends_with('Z'));
    }
}
