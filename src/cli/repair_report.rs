//! What `gofavorites repair` prints of an owner.

use super::output::count;
use crate::maintenance::{CopyReport, Damage, Losses, RepairOutcome, RepairReport, Verdict};
use serde_json::{Value, json};

/// Returns what was found of an owner, and what was or would be done.
pub(super) fn describe(outcome: &RepairOutcome, writes: bool) -> String {
    let found = &outcome.found;
    let mut lines = vec![
        format!("owner {}", found.owner),
        format!(
            "  bucket: version {}, {}; {}",
            found.bucket_version,
            count(found.bucket_records, "record"),
            describe_damage(&found.damage, &found.verdict)
        ),
    ];
    lines.extend(found.copies.iter().map(describe_copy));
    lines.extend(describe_verdict(found, outcome.version.is_some()));

    match outcome.version {
        Some(version) => lines.push(format!("  repaired: now at version {version}")),
        None if writes && found.verdict != Verdict::Sound => {
            lines.push("  not repaired: nothing was written".to_owned());
        }
        None => {}
    }
    for shard in &outcome.behind {
        lines.push(format!(
            "  shard {shard}: its copy differs from the bucket yet"
        ));
    }
    lines.join("\n") + "\n"
}

fn describe_damage(damage: &Damage, verdict: &Verdict) -> String {
    let counts = [
        (damage.missing, "missing"),
        (damage.older, "rolled back"),
        (damage.altered, "altered or forged"),
        (damage.unreadable, "no record at all"),
        (damage.surplus, "deleted long ago"),
    ];
    let mut parts: Vec<String> = counts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{what}: {number}"))
        .collect();
    if damage.key {
        parts.push("the owner's key is among them".to_owned());
    }
    if damage.floor {
        parts.push("the owner's floor is among them".to_owned());
    }

    match (parts.is_empty(), verdict) {
        (false, _) => parts.join(", "),
        (true, Verdict::Sound) => "complete".to_owned(),
        (true, _) => "not complete".to_owned(),
    }
}

fn describe_copy(copy: &CopyReport) -> String {
    let shard = &copy.shard;
    let Some(version) = copy.version else {
        return format!("  shard {shard}: no copy");
    };
    if !copy.complete {
        return format!("  shard {shard}: a copy at version {version}, not complete: not used");
    }

    let records = count(copy.records, "record");
    let ahead = match copy.ahead {
        0 => "the bucket has all of them".to_owned(),
        ahead => format!("the bucket lacks {ahead} of them"),
    };
    format!("  shard {shard}: a complete copy at version {version}, {records}; {ahead}")
}

fn describe_verdict(found: &RepairReport, is_done: bool) -> Vec<String> {
    let would = |done: &str, plan: &str| if is_done { done } else { plan }.to_owned();

    match found.verdict {
        Verdict::Sound => vec!["  nothing to repair".to_owned()],
        Verdict::NoCopy => vec![
            "  no shard has a complete copy: --accept-loss keeps what the bucket still has"
                .to_owned(),
        ],
        Verdict::Impossible(why) => vec![format!("  cannot be repaired: {why}")],
        Verdict::Repairable {
            records,
            losses,
            deleted,
        } => {
            let mut lines = Vec::new();
            if let Some(best) = best_copy(found) {
                let verb = would("took", "would take");
                lines.push(format!(
                    "  {verb} the copy of shard {best}, the newest complete one, and what the bucket has \
                     that is newer"
                ));
            }
            let verb = would("wrote", "would write");
            lines.push(format!("  {verb} {}", count(records, "record")));
            let verb = would("lost", "would lose");
            lines.push(format!("  {verb}: {}", describe_losses(losses, deleted)));
            lines
        }
    }
}

/// The shard with the newest complete copy.
fn best_copy(found: &RepairReport) -> Option<&str> {
    let complete = found.copies.iter().filter(|copy| copy.complete);
    let best = complete.max_by_key(|copy| copy.version)?;

    Some(&best.shard)
}

fn describe_losses(losses: Losses, deleted: usize) -> String {
    let mut parts = Vec::new();
    if losses.unproven {
        parts.push("records that no copy has, and whose number nobody knows".to_owned());
    }
    if losses.superseded > 0 {
        parts.push(format!(
            "the newest version of {}",
            count(losses.superseded, "record")
        ));
    }
    if losses.left_out > 0 {
        parts.push(format!(
            "{} of old copies that may have been deleted since",
            count(losses.left_out, "item")
        ));
    }
    if losses.diverged > 0 {
        parts.push(format!(
            "one of two states of {} with codes",
            count(losses.diverged, "item")
        ));
    }
    if deleted > 0 {
        parts.push(format!(
            "{} with codes, deleted because a code could be given out twice",
            count(deleted, "item")
        ));
    }

    if parts.is_empty() {
        "nothing".to_owned()
    } else {
        parts.join("; ")
    }
}

/// Returns the same for machines.
pub(super) fn to_json(outcomes: &[RepairOutcome]) -> Value {
    let owners: Vec<Value> = outcomes.iter().map(one_to_json).collect();
    json!({ "owners": owners })
}

fn one_to_json(outcome: &RepairOutcome) -> Value {
    let found = &outcome.found;
    let (verdict, writes, losses, deleted) = match found.verdict {
        Verdict::Sound => ("sound", 0, None, 0),
        Verdict::NoCopy => ("no_copy", 0, None, 0),
        Verdict::Impossible(_) => ("impossible", 0, None, 0),
        Verdict::Repairable {
            records,
            losses,
            deleted,
        } => ("repairable", records, Some(losses), deleted),
    };
    let reason = match found.verdict {
        Verdict::Impossible(why) => Some(why.to_string()),
        _ => None,
    };

    json!({
        "owner": found.owner.to_string(),
        "bucket": {
            "version": found.bucket_version,
            "records": found.bucket_records,
            "damage": found.damage,
        },
        "copies": found.copies,
        "verdict": verdict,
        "reason": reason,
        "writes": writes,
        "losses": losses,
        "deleted": deleted,
        "repaired_to": outcome.version,
        "behind": outcome.behind,
    })
}
