//! The one table of operations.

/// What a caller can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Creates or replaces an item.
    Put,
    /// One item.
    Get,
    /// An owner's items, page by page.
    List,
    /// Deletes an item.
    Delete,
    /// What changed since a version.
    Changes,
    /// An item as it was.
    History,
    /// Puts an item back as it was.
    Restore,
    /// Several puts and deletes in one go.
    Batch,
    /// What is running here.
    Version,
    /// The limits in force here.
    Limits,
}

/// What a token must allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// To read an owner's items.
    Read,
    /// To change them.
    Write,
    /// To see secrets among them, beside one of the others.
    Secrets,
}

impl Operation {
    /// Every operation of this version.
    pub const ALL: [Self; 10] = [
        Self::Put,
        Self::Get,
        Self::List,
        Self::Delete,
        Self::Changes,
        Self::History,
        Self::Restore,
        Self::Batch,
        Self::Version,
        Self::Limits,
    ];

    /// The last part of its subject; it may hold a dot.
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Changes => "changes",
            Self::History => "history",
            Self::Restore => "restore",
            Self::Batch => "batch",
            Self::Version => "version",
            Self::Limits => "limits",
        }
    }

    /// The operation of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// The scope that a token must have; none for what anyone may ask.
    pub fn scope(self) -> Option<Scope> {
        match self {
            Self::Get | Self::List | Self::Changes | Self::History => Some(Scope::Read),
            Self::Put | Self::Delete | Self::Restore | Self::Batch => Some(Scope::Write),
            Self::Version | Self::Limits => None,
        }
    }

    /// Whether a token is needed at all.
    pub fn needs_token(self) -> bool {
        self.scope().is_some()
    }
}

impl Scope {
    /// The scope as a token names it (RFC 6749 §3.3).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "favorites:read",
            Self::Write => "favorites:write",
            Self::Secrets => "favorites:secrets",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_that_of_the_contract() {
        let table = [
            ("put", Some("favorites:write")),
            ("get", Some("favorites:read")),
            ("list", Some("favorites:read")),
            ("delete", Some("favorites:write")),
            ("changes", Some("favorites:read")),
            ("history", Some("favorites:read")),
            ("restore", Some("favorites:write")),
            ("batch", Some("favorites:write")),
            ("version", None),
            ("limits", None),
        ];
        assert_eq!(
            Operation::ALL.map(|one| (one.name(), one.scope().map(Scope::as_str))),
            table
        );
        assert_eq!(Scope::Secrets.as_str(), "favorites:secrets");
    }

    #[test]
    fn every_name_leads_back_to_its_operation() {
        for one in Operation::ALL {
            assert_eq!(Operation::parse(one.name()), Some(one));
            assert_eq!(one.needs_token(), one.scope().is_some());
        }
        assert_eq!(Operation::parse("Put"), None);
    }

    #[test]
    fn no_operation_is_hidden_by_the_subjects_of_shards() {
        assert!(
            Operation::ALL
                .iter()
                .all(|one| one.name().split('.').next() != Some("shard"))
        );
    }
}
