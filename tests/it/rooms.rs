//! The rooms of the house: who may name whom.

use std::fs;
use std::path::Path;

/// The rooms by floor; a room may name its own floor's rooms only where it is itself.
const FLOORS: [&[&str]; 7] = [
    &["domain"],
    &["wire", "seal", "exchange", "breaker", "build"],
    &["auth", "truth", "shard"],
    &["owners"],
    &["handler"],
    &["app", "config", "telemetry", "shutdown", "dev"],
    &["cli"],
];

/// Rooms of one floor that may name one another.
const NEIGHBOURS: [(&str, &str); 5] = [
    ("app", "config"),
    ("telemetry", "config"),
    ("dev", "shutdown"),
    ("seal", "wire"),
    ("dev", "telemetry"),
];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn files(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The rooms that a text names as `crate::room`.
fn named(text: &str) -> Vec<String> {
    let parts = text.split("crate::").skip(1);
    parts
        .map(|rest| {
            rest.chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                .collect()
        })
        .collect()
}

#[test]
fn no_room_names_one_above_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&source, &mut found);
    assert!(found.len() > 50, "the sources are there");
    let mut faults = Vec::new();
    for file in found {
        let relative = file.strip_prefix(&source).expect("below src");
        let room = relative
            .components()
            .next()
            .expect("a name")
            .as_os_str()
            .to_string_lossy()
            .replace(".rs", "");
        let Some(own) = floor(&room) else { continue };
        for other in named(&fs::read_to_string(&file).expect("a text")) {
            let Some(theirs) = floor(&other) else {
                continue;
            };
            let neighbours = NEIGHBOURS.contains(&(room.as_str(), other.as_str()));
            if theirs > own || theirs == own && other != room && !neighbours {
                faults.push(format!("{} names {other}", relative.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn each_library_is_used_in_its_room_only() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&source, &mut found);
    for (library, rooms) in [
        ("sqlx::", &["shard"][..]),
        ("jetstream::", &["truth"]),
        ("aws_lc_rs::aead", &["seal"]),
        // The stand-in auth service signs what the auth room checks.
        ("jsonwebtoken::", &["auth", "dev"]),
    ] {
        for file in &found {
            let relative = file
                .strip_prefix(&source)
                .expect("below src")
                .to_string_lossy()
                .into_owned();
            let uses = fs::read_to_string(file).expect("a text").contains(library);
            let allowed = rooms.iter().any(|room| relative.starts_with(room));
            assert!(!uses || allowed, "{relative} uses {library}");
        }
    }
}
