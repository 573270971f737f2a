//! `gofavorites owner`: tells an operator which owner a user is, and how the owner is.

use super::CommandSettings;
use super::failed::CommandError;
use super::output::{count, print, print_json};
use super::wait::{Wait, with_exit_code};
use crate::app::OperatorSession;
use crate::auth::unverified_subject;
use crate::config;
use crate::maintenance::{OwnerRecords, OwnerReport};
use crate::seal::UserId;
use crate::secret_file::read_secret;
use crate::shard::OwnerState;
use clap::Args;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Show under which name a user's records are stored, and how the owner is.
///
/// Logs and `verify` name owners by a keyed hash. This command computes it for a user of the auth
/// service, and shows what the bucket and this shard have of the owner: versions, counts and times,
/// and nothing that the owner wrote. It takes the settings of a worker of the shard, and prints
/// neither subject nor token.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites owner --sub alice --config shard-a.toml
  gofavorites owner --token-file alice.token --config shard-a.toml --json")]
pub(super) struct Owner {
    #[command(flatten)]
    settings: CommandSettings,
    #[command(flatten)]
    wait: Wait,
    /// The user's subject at the auth service
    #[arg(long, required_unless_present = "token_file")]
    sub: Option<String>,
    /// A file with a token of the user, a JWT, which has the subject; it is not verified
    #[arg(long, value_name = "FILE", conflicts_with = "sub")]
    token_file: Option<PathBuf>,
    /// The issuer of the auth service's verdicts [default: the setting auth.issuer]
    #[arg(long)]
    iss: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

impl Owner {
    pub async fn run(self) -> anyhow::Result<()> {
        let settings = self.settings.read()?;
        let issuer = self.iss.as_ref().unwrap_or(&settings.auth.issuer);
        let subject = subject_of(self.sub.as_deref(), self.token_file.as_deref())?;
        let user = UserId::new(issuer, subject);
        let session = OperatorSession::open(&settings, "gofavorites owner", self.wait.limit())
            .await
            .map_err(with_exit_code)?;

        let operator = &session.operator;
        let owner = operator.keyring.owner(&user);
        let report = async { Ok(operator.report_owner(&owner).await?) };
        let report = session
            .within_rights(report)
            .await
            .map_err(with_exit_code)?;

        let shard = &settings.shard.id;
        let name = owner.to_string();
        if self.json {
            print_json(&to_json(&name, shard, &report))?;
        } else {
            let place = operator.store.place();
            let of_shard = describe_copy(&report);
            print(&format!("owner {name}\n"))?;
            print(&describe_records(report.bucket.as_ref(), &settings))?;
            print(&format!("shard {shard} ({place}): {of_shard}\n"))?;
        }

        if report.bucket.is_none() && report.copy.is_none() {
            let message = "this owner has no record in the bucket, and is not on this shard: the \
                           user wrote nothing yet, or subject or issuer are wrong";
            return Err(CommandError::not_found(message).into());
        }
        Ok(())
    }
}

/// Returns the subject of a user: the one that is given, or that of the token in the file.
pub(super) fn subject_of(sub: Option<&str>, token_file: Option<&Path>) -> anyhow::Result<String> {
    let Some(file) = token_file else {
        return match sub.unwrap_or_default() {
            "" => Err(CommandError::usage("--sub: a subject is not empty").into()),
            subject => Ok(subject.to_owned()),
        };
    };

    let subject = unverified_subject(&read_secret(file)?);
    subject.ok_or_else(|| {
        CommandError::usage("--token-file: the token is no JWT with a sub; use --sub").into()
    })
}

fn describe_records(records: Option<&OwnerRecords>, settings: &config::Settings) -> String {
    let Some(records) = records else {
        return "bucket: no record\n".to_owned();
    };

    let limits = &settings.limits;
    format!(
        "bucket: version {}, last written {}; {} of {}, {} of {} with deleted ones, {}; deletions \
         forgotten up to version {}\n",
        records.version,
        records.written_at.to_rfc3339(),
        count(records.items as u64, "item"),
        limits.items,
        count(records.keys as u64, "key"),
        limits.keys,
        count(records.bytes as u64, "byte"),
        records.floor,
    )
}

fn describe_copy(report: &OwnerReport) -> String {
    let Some(copy) = &report.copy else {
        return "not hosted: the owner sent no request here yet, or was evicted".to_owned();
    };

    let seen = copy.seen_at.to_rfc3339();
    match (copy.erased_at, copy.is_complete) {
        (Some(erased_at), _) => format!("erased {}", erased_at.to_rfc3339()),
        (None, false) => format!("hosting is under way; last seen {seen}"),
        (None, true) => format!(
            "hosted since {}, {}; last seen {seen}",
            copy.hosted_at.to_rfc3339(),
            describe_version(copy, report.bucket.as_ref()),
        ),
    }
}

fn describe_version(copy: &OwnerState, records: Option<&OwnerRecords>) -> String {
    let version = copy.version;

    match records {
        Some(records) if records.version > version => {
            format!("at version {version}, behind the bucket")
        }
        Some(records) if records.version == version => {
            format!("at version {version}, as in the bucket")
        }
        _ => format!("at version {version}"),
    }
}

fn to_json(owner: &str, shard: &str, report: &OwnerReport) -> Value {
    let bucket = report.bucket.as_ref().map(|records| {
        json!({
            "version": records.version.get(),
            "written_at": records.written_at.to_rfc3339(),
            "floor": records.floor.get(),
            "items": records.items,
            "keys": records.keys,
            "bytes": records.bytes,
        })
    });
    let copy = report.copy.as_ref().map(|copy| {
        json!({
            "version": copy.version.get(),
            "complete": copy.is_complete,
            "hosted_at": copy.hosted_at.to_rfc3339(),
            "seen_at": copy.seen_at.to_rfc3339(),
            "erased_at": copy.erased_at.map(|at| at.to_rfc3339()),
        })
    });

    json!({"owner": owner, "shard": shard, "bucket": bucket, "copy": copy})
}
