//! The operations: their names and the scopes that they need.

/// An operation that a caller can request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Creates or replaces an item.
    Put,
    /// Returns an item.
    Get,
    /// Returns an owner's items, page by page.
    List,
    /// Deletes an item.
    Delete,
    /// Returns what changed since a version.
    Changes,
    /// Returns the kept versions of an item.
    History,
    /// Restores an earlier version of an item.
    Restore,
    /// Runs several puts and deletes in one request.
    Batch,
    /// Puts an item to another place in the owner's list.
    Move,
    /// Returns an owner's tags.
    Tags,
    /// Renames a tag on all items, or takes it away.
    TagsRename,
    /// Returns which of several items there are.
    Lookup,
    /// Returns how much of the owner's quotas is used.
    Usage,
    /// Returns the code of a one-time-password item.
    OtpCode,
    /// Checks a code of a one-time-password item.
    OtpVerify,
    /// Takes the next code of a list.
    CodesTake,
    /// Adds codes to a list.
    CodesAdd,
    /// Returns the build of the worker.
    Version,
    /// Returns the limits that the worker applies.
    Limits,
}

/// A permission of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Reads an owner's items.
    Read,
    /// Changes an owner's items.
    Write,
    /// Shows and uses secrets among the items.
    Secrets,
}

impl Operation {
    /// Every operation of this version.
    pub const ALL: [Self; 19] = [
        Self::Put,
        Self::Get,
        Self::List,
        Self::Delete,
        Self::Changes,
        Self::History,
        Self::Restore,
        Self::Batch,
        Self::Move,
        Self::Tags,
        Self::TagsRename,
        Self::Lookup,
        Self::Usage,
        Self::OtpCode,
        Self::OtpVerify,
        Self::CodesTake,
        Self::CodesAdd,
        Self::Version,
        Self::Limits,
    ];

    /// Returns the name, which ends the subject. It may contain a dot.
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
            Self::Move => "move",
            Self::Tags => "tags",
            Self::TagsRename => "tags.rename",
            Self::Lookup => "lookup",
            Self::Usage => "usage",
            Self::OtpCode => "otp.code",
            Self::OtpVerify => "otp.verify",
            Self::CodesTake => "codes.take",
            Self::CodesAdd => "codes.add",
            Self::Version => "version",
            Self::Limits => "limits",
        }
    }

    /// Returns the operation of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// Returns the scope that the token must have; `None` if any caller may request the operation.
    pub fn scope(self) -> Option<Scope> {
        match self {
            Self::Get
            | Self::List
            | Self::Changes
            | Self::History
            | Self::Tags
            | Self::Lookup
            | Self::Usage => Some(Scope::Read),
            Self::Put
            | Self::Delete
            | Self::Restore
            | Self::Batch
            | Self::Move
            | Self::TagsRename
            | Self::CodesAdd => Some(Scope::Write),
            Self::OtpCode | Self::OtpVerify | Self::CodesTake => Some(Scope::Secrets),
            Self::Version | Self::Limits => None,
        }
    }

    /// Returns whether a request may name the history of the bucket (`epoch`): one that names a
    /// version or a cursor.
    pub fn takes_epoch(self) -> bool {
        !matches!(
            self,
            Self::TagsRename
                | Self::OtpVerify
                | Self::CodesTake
                | Self::CodesAdd
                | Self::Version
                | Self::Limits
        )
    }

    /// Returns whether the operation needs a token.
    pub fn needs_token(self) -> bool {
        self.scope().is_some()
    }
}

impl Scope {
    /// Returns the scope as a token spells it (RFC 6749 §3.3).
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
            ("move", Some("favorites:write")),
            ("tags", Some("favorites:read")),
            ("tags.rename", Some("favorites:write")),
            ("lookup", Some("favorites:read")),
            ("usage", Some("favorites:read")),
            ("otp.code", Some("favorites:secrets")),
            ("otp.verify", Some("favorites:secrets")),
            ("codes.take", Some("favorites:secrets")),
            ("codes.add", Some("favorites:write")),
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
    fn every_operation_parses_from_its_name() {
        for one in Operation::ALL {
            assert_eq!(Operation::parse(one.name()), Some(one));
            assert_eq!(one.needs_token(), one.scope().is_some());
        }
        assert_eq!(Operation::parse("Put"), None);
    }

    #[test]
    fn no_operation_has_the_name_of_the_shard_subjects() {
        assert!(
            Operation::ALL
                .iter()
                .all(|one| one.name().split('.').next() != Some("shard"))
        );
    }
}
