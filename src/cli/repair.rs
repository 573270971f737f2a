//! `gofavorites repair`: puts an owner whose records in the bucket are not complete back from the
//! shards' copies.

use super::failed::CommandError;
use super::output::{count, print, print_json};
use super::owner::subject_of;
use super::wait::{Wait, with_exit_code};
use super::{Settings, repair_report};
use crate::app::OperatorSession;
use crate::config;
use crate::maintenance::{AcceptLoss, RepairOutcome, RepairShard, Repairer, Verdict};
use crate::seal::{OwnerKey, UserId};
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

/// Repair an owner whose records in the bucket are not complete, from the shards' copies.
///
/// Without --yes it only prints what it finds and what it would do. Give the settings of a worker of
/// every shard: what is missing comes back from the complete copies that these shards have, and what
/// the bucket has that is newer stays. All shards serve on. It writes as the first shard's worker
/// does, never removes a record, and may be interrupted and run again. Ends with 1 if it cannot
/// repair the owner.
#[derive(Args)]
#[command(after_help = "Examples:
  gofavorites repair --owner VCd6… --config shard-a.toml --config shard-b.toml
  gofavorites repair --sub alice --config shard-a.toml --config shard-b.toml --yes
  gofavorites repair --all --config shard-a.toml --yes")]
#[command(group = clap::ArgGroup::new("whom").required(true))]
pub(super) struct Repair {
    /// The settings of a worker, a TOML file; once for each shard
    #[arg(long, value_name = "CONFIG", env = "GOFAVORITES_CONFIG")]
    config: Vec<OsString>,
    /// Log what log.filter names, not only warnings and errors
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    wait: Wait,
    /// The owner, as logs and `verify` name it
    #[arg(long, group = "whom", value_parser = parse_owner, allow_hyphen_values = true)]
    owner: Option<OwnerKey>,
    /// The user's subject at the auth service
    #[arg(long, group = "whom")]
    sub: Option<String>,
    /// A file with a token of the user, a JWT, which has the subject; it is not verified
    #[arg(long, value_name = "FILE", group = "whom")]
    token_file: Option<PathBuf>,
    /// Every owner of these shards for whom `verify` finds that the bucket is at fault
    #[arg(long, group = "whom")]
    all: bool,
    /// The issuer of the auth service's verdicts [default: the setting auth.issuer]
    #[arg(long, conflicts_with_all = ["owner", "all"])]
    iss: Option<String>,
    /// Write what is missing
    #[arg(long)]
    yes: bool,
    /// Bring back what is left also if something is lost, or may be: callers then begin again, and
    /// items that give out each code once are deleted. Name every shard first
    #[arg(long)]
    accept_loss: bool,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

fn parse_owner(text: &str) -> Result<OwnerKey, String> {
    OwnerKey::parse(text).ok_or_else(|| "an owner has 22 characters".to_owned())
}

impl Repair {
    pub async fn run(self) -> anyhow::Result<()> {
        let settings = self.settings()?;
        let mut sessions = Vec::with_capacity(settings.len());
        for one in &settings {
            let session = OperatorSession::open(one, "gofavorites repair", self.wait.limit());
            sessions.push(session.await.map_err(with_exit_code)?);
        }

        let shards = std::iter::zip(&settings, &sessions).map(|(settings, session)| RepairShard {
            name: settings.shard.id.clone(),
            operator: session.operator.clone(),
        });
        let repairer = Repairer::new(shards.collect())
            .ok_or_else(|| CommandError::usage("--config: give the settings of a shard"))?;
        for session in &sessions {
            session.operator.check_continuity().await?;
        }

        let Some(first) = sessions.first() else {
            return Ok(());
        };
        first
            .within_rights(self.repair(&repairer, &settings[0], first))
            .await
            .map_err(with_exit_code)
    }

    /// Reads the settings of each shard.
    fn settings(&self) -> anyhow::Result<Vec<config::Settings>> {
        let files: Vec<Option<OsString>> = if self.config.is_empty() {
            vec![None]
        } else {
            self.config.iter().cloned().map(Some).collect()
        };

        let mut all: Vec<config::Settings> = Vec::new();
        for config in files {
            let settings = Settings { config }.load()?;
            if all.is_empty() {
                crate::telemetry::start_command(&settings.log, self.verbose)?;
            }
            if all.iter().any(|one| one.shard.id == settings.shard.id) {
                let shard = &settings.shard.id;
                let message = format!("--config: two files are of shard {shard}");
                return Err(CommandError::usage(message).into());
            }
            all.push(settings);
        }
        Ok(all)
    }

    async fn repair(
        &self,
        repairer: &Repairer,
        settings: &config::Settings,
        session: &OperatorSession,
    ) -> anyhow::Result<()> {
        let owners = match self.owner {
            Some(owner) => vec![owner],
            None if self.all => repairer.broken_owners().await?,
            None => {
                let issuer = self.iss.as_ref().unwrap_or(&settings.auth.issuer);
                let subject = subject_of(self.sub.as_deref(), self.token_file.as_deref())?;
                vec![
                    session
                        .operator
                        .keyring
                        .owner(&UserId::new(issuer, subject)),
                ]
            }
        };

        let mut outcomes = Vec::with_capacity(owners.len());
        for owner in &owners {
            let outcome = self.repair_one(repairer, owner).await?;
            if !self.json {
                print(&repair_report::describe(&outcome, self.yes))?;
            }
            outcomes.push(outcome);
        }
        if self.json {
            print_json(&repair_report::to_json(&outcomes))?;
        } else {
            print(&self.format_end(&outcomes))?;
        }

        self.check(&outcomes)
    }

    async fn repair_one(
        &self,
        repairer: &Repairer,
        owner: &OwnerKey,
    ) -> anyhow::Result<RepairOutcome> {
        if !self.yes {
            return Ok(RepairOutcome {
                found: repairer.examine(owner).await?,
                version: None,
                behind: Vec::new(),
            });
        }

        let accept = if self.accept_loss {
            AcceptLoss::Yes
        } else {
            AcceptLoss::No
        };
        Ok(repairer.repair(owner, accept).await?)
    }

    fn format_end(&self, outcomes: &[RepairOutcome]) -> String {
        let repaired = outcomes.iter().filter(|one| one.version.is_some()).count();
        let owners = count(outcomes.len(), "owner");

        if self.yes {
            format!("{owners}: {repaired} repaired\n")
        } else {
            format!("{owners}: a dry run, nothing was written; --yes writes\n")
        }
    }

    /// Fails if an owner cannot be repaired, or is not.
    fn check(&self, outcomes: &[RepairOutcome]) -> anyhow::Result<()> {
        if let [one] = outcomes
            && one.found.bucket_records == 0
            && one.found.copies.iter().all(|copy| copy.version.is_none())
        {
            let message = "this owner has no record in the bucket, and is on none of these shards";
            return Err(CommandError::not_found(message).into());
        }

        let is_left = |one: &&RepairOutcome| {
            let verdict = &one.found.verdict;
            let is_possible = verdict.work().is_some() && (self.accept_loss || !verdict.loses());

            *verdict != Verdict::Sound && one.version.is_none() && (self.yes || !is_possible)
        };
        let left = outcomes.iter().filter(is_left).count();
        if left > 0 {
            let message = format!("{} cannot be repaired so", count(left, "owner"));
            return Err(CommandError::differs(message).into());
        }
        if outcomes.iter().any(|one| !one.behind.is_empty()) {
            let message =
                "the bucket is repaired, and a shard's copy differs yet: run verify there";
            return Err(CommandError::differs(message).into());
        }
        Ok(())
    }
}
