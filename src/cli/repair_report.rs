//! What `gofavorites repair` prints of an owner.

use super::output::count;
use crate::maintenance::{CopyReport, Damage, RepairOutcome, RepairReport, Verdict, Work};
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
    let would = |done: &'static str, plan| if is_done { done } else { plan };
    let mut lines = Vec::new();
    match found.verdict {
        Verdict::Sound => lines.push("  nothing to repair".to_owned()),
        Verdict::Impossible(why) => lines.push(format!("  cannot be repaired: {why}")),
        Verdict::NoCopy(_) => lines.push("  no shard has a complete copy".to_owned()),
        Verdict::Repairable(_) => {
            let verb = would("took", "would take");
            let best = best_copy(found).map(|best| {
                format!(
                    "  {verb} the copy of shard {best}, the newest complete one, and what the \
                     bucket has that is newer"
                )
            });
            lines.extend(best);
        }
    }

    if let Some(work) = found.verdict.work() {
        let verb = would("wrote", "would write");
        lines.push(format!("  {verb} {}", count(work.records, "record")));
        let verb = would("lost", "would lose");
        lines.push(format!("  {verb}: {}", describe_losses(&work)));
    }
    if found.verdict.loses() && !is_done {
        lines.push("  --accept-loss brings back what is left".to_owned());
    }
    lines
}

/// The shard with the newest complete copy.
fn best_copy(found: &RepairReport) -> Option<&str> {
    let complete = found.copies.iter().filter(|copy| copy.complete);
    let best = complete.max_by_key(|copy| copy.version)?;

    Some(&best.shard)
}

fn describe_losses(work: &Work) -> String {
    let Work {
        losses, deleted, ..
    } = *work;
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
    let verdict = match found.verdict {
        Verdict::Sound => "sound",
        Verdict::NoCopy(_) => "no_copy",
        Verdict::Impossible(_) => "impossible",
        Verdict::Repairable(_) => "repairable",
    };
    let work = found.verdict.work();
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
        "writes": work.map_or(0, |work| work.records),
        "losses": work.map(|work| work.losses),
        "deleted": work.map_or(0, |work| work.deleted),
        "repaired_to": outcome.version,
        "behind": outcome.behind,
    })
}
