//! The structure of the code: which module may name which, no circles, and one library in one
//! module.
//!
//! The layers stand in three places: here, in `src/lib.rs` and in ARCHITECTURE.md. They are
//! compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules by layer. A module may name the modules of lower layers, and of its own layer only
/// itself.
const LAYERS: [&[&str]; 7] = [
    &["domain"],
    &[
        "wire",
        "seal",
        "front",
        "requester",
        "breaker",
        "build",
        "secret_file",
    ],
    &["auth", "reference", "truth", "shard", "nats", "client"],
    &["owners", "feed"],
    &["handler", "maintenance"],
    &["app", "config", "telemetry", "shutdown", "dev"],
    &["cli"],
];

/// Modules of one layer where the first may name the second.
const ALLOWED: [(&str, &str); 5] = [
    ("app", "config"),
    ("app", "telemetry"),
    ("app", "shutdown"),
    ("telemetry", "config"),
    ("dev", "shutdown"),
];

/// The libraries that only some modules may use.
const LIBRARIES: [(&str, &[&str]); 4] = [
    ("sqlx::", &["shard"]),
    ("jetstream::", &["truth"]),
    ("aws_lc_rs::aead", &["seal"]),
    // The stand-in auth service signs what the module `auth` checks.
    ("jsonwebtoken::", &["auth", "dev"]),
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a text")
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The Rust files below a directory.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The path of a file below `src`, without its extension, in parts.
fn parts_of(file: &Path) -> Vec<String> {
    let relative = file.strip_prefix(source()).expect("below src");
    relative
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect()
}

/// The name that a text begins with.
fn first_name(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_')
        .collect()
}

/// The modules that a text names as `crate::module`.
fn modules_named(text: &str) -> BTreeSet<String> {
    text.split("crate::").skip(1).map(first_name).collect()
}

#[test]
fn no_module_names_one_of_a_higher_layer() {
    let files = files_below(&source());
    assert!(files.len() > 50, "the sources are there");

    let mut forbidden = Vec::new();
    let mut used = BTreeSet::new();
    for file in files {
        let module = parts_of(&file).remove(0);
        let Some(own) = layer_of(&module) else {
            continue;
        };

        for other in modules_named(&read(&file)) {
            let Some(theirs) = layer_of(&other) else {
                continue;
            };
            if let Some(allowed) = ALLOWED
                .iter()
                .find(|allowed| **allowed == (module.as_str(), other.as_str()))
            {
                used.insert(*allowed);
            } else if theirs > own || theirs == own && other != module {
                forbidden.push(format!("{} names {other}", file.display()));
            }
        }
    }

    assert!(forbidden.is_empty(), "{}", forbidden.join("\n"));
    let unused: Vec<_> = ALLOWED.iter().filter(|one| !used.contains(*one)).collect();
    assert!(unused.is_empty(), "allowed and not used: {unused:?}");
}

#[test]
fn every_module_has_a_layer() {
    let modules: BTreeSet<String> = files_below(&source())
        .iter()
        .map(|file| parts_of(file).remove(0))
        .filter(|module| !["lib", "main"].contains(&module.as_str()))
        .collect();

    let layered: BTreeSet<String> = LAYERS.concat().into_iter().map(str::to_owned).collect();

    assert_eq!(modules, layered);
}

/// The layer of each module as a table of a document has it: `| 3 | `owners` | …`.
fn layers_in(document: &str) -> Vec<BTreeSet<String>> {
    let mut layers = vec![BTreeSet::new(); LAYERS.len()];
    for line in document.lines() {
        let row = line.trim_start_matches("//! ");
        let mut cells = row.split('|').skip(1).map(str::trim);
        let Some(layer) = cells.next().and_then(|cell| cell.parse::<usize>().ok()) else {
            continue;
        };
        let modules = cells.next().unwrap_or_default();
        let names = modules.split('`').skip(1).step_by(2);
        if let Some(known) = layers.get_mut(layer) {
            known.extend(names.map(str::to_owned));
        }
    }
    layers
}

#[test]
fn the_documents_have_these_layers() {
    let here: Vec<BTreeSet<String>> = LAYERS
        .iter()
        .map(|layer| layer.iter().map(|module| (*module).to_owned()).collect())
        .collect();

    let map = read(&source().join("lib.rs"));
    assert_eq!(layers_in(&map), here, "src/lib.rs");

    let architecture = read(&source().with_file_name("ARCHITECTURE.md"));
    let (_, table) = architecture
        .split_once("| layer | module |")
        .expect("the table of layers");
    let (table, _) = table.split_once("\n\n").expect("an end of the table");
    assert_eq!(layers_in(table), here, "ARCHITECTURE.md");
}

/// What each item that a `mod.rs` re-exports comes from: `pub use read::{Consistency, Reading};`.
fn reexports(facade: &str) -> BTreeMap<String, String> {
    let mut origins = BTreeMap::new();
    for statement in facade.split("use ").skip(1) {
        let Some((path, _)) = statement.split_once(';') else {
            continue;
        };
        let Some((file, items)) = path.split_once("::") else {
            continue;
        };
        for item in items.trim_matches(['{', '}']).split(',') {
            origins.insert(item.trim().to_owned(), file.trim().to_owned());
        }
    }
    origins
}

/// The names that follow each `prefix` in a text: one, or all of a list in braces.
fn names_after<'t>(text: &'t str, prefix: &'t str) -> impl Iterator<Item = String> {
    text.split(prefix).skip(1).flat_map(|rest| {
        let names = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or_default(),
            None => rest
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .next()
                .unwrap_or_default(),
        };
        let names: Vec<String> = names
            .split(',')
            .map(|name| {
                name.trim()
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect()
            })
            .collect();
        names
    })
}

/// Which of a module's files names which other, through re-exports of its `mod.rs` too. A folder
/// counts as one file. The `mod.rs` itself only declares and gathers, and is left out.
fn imports_within(directory: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let facade = read(&directory.join("mod.rs"));
    let origins = reexports(&facade);
    let depth = parts_of(&directory.join("mod.rs")).len() - 1;
    let path = format!(
        "crate::{}::",
        parts_of(&directory.join("mod.rs"))[..depth].join("::")
    );

    let files: Vec<PathBuf> = files_below(directory)
        .into_iter()
        .filter(|file| *file != directory.join("mod.rs"))
        .collect();
    let names: BTreeSet<String> = files
        .iter()
        .map(|file| parts_of(file)[depth].clone())
        .collect();

    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in &files {
        let parts = parts_of(file);
        let own = parts[depth].clone();
        let nested = parts.len() - depth - usize::from(parts.ends_with(&["mod".to_owned()]));
        let above = "super::".repeat(nested);

        let text = read(file);
        // Without the unit tests, which may use what they like.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let mut named: BTreeSet<String> = names_after(code, &path).collect();
        for line in code.split("use ").skip(1) {
            if line.starts_with(&above) && !line[above.len()..].starts_with("super::") {
                named.extend(names_after(line, &above));
            }
        }

        for name in named {
            let target = origins.get(&name).cloned().unwrap_or(name);
            if target != own && names.contains(&target) {
                imports.entry(own.clone()).or_default().insert(target);
            }
        }
    }
    imports
}

/// The files that lie on a circle of imports.
fn circle(imports: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let mut left = imports.clone();
    loop {
        // A file that imports nothing that is left is on no circle.
        let done: Vec<String> = left
            .iter()
            .filter(|(_, targets)| targets.iter().all(|target| !left.contains_key(target)))
            .map(|(file, _)| file.clone())
            .collect();
        if done.is_empty() {
            return left.into_keys().collect();
        }
        for file in done {
            left.remove(&file);
        }
    }
}

#[test]
fn no_module_has_a_circle_of_files() {
    let directories: BTreeSet<PathBuf> = files_below(&source())
        .into_iter()
        .filter(|file| file.ends_with("mod.rs"))
        .filter_map(|file| file.parent().map(Path::to_owned))
        .collect();
    assert!(directories.len() > 10, "the modules are there");

    let mut circles = Vec::new();
    for directory in directories {
        let imports = imports_within(&directory);
        let circle = circle(&imports);
        if !circle.is_empty() {
            circles.push(format!(
                "{}: {circle:?} of {imports:?}",
                directory.display()
            ));
        }
    }
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

#[test]
fn a_circle_is_found() {
    let to = |targets: &[&str]| targets.iter().map(|name| (*name).to_owned()).collect();
    let mut imports = BTreeMap::from([
        ("a".to_owned(), to(&["b"])),
        ("b".to_owned(), to(&["c"])),
        ("d".to_owned(), to(&["a"])),
    ]);
    assert!(circle(&imports).is_empty());

    imports.insert("c".to_owned(), to(&["a"]));

    // `d` leads into the circle and is told with it.
    assert_eq!(circle(&imports), to(&["a", "b", "c", "d"]));
}

#[test]
fn each_library_is_used_in_its_module_only() {
    for file in files_below(&source()) {
        let module = parts_of(&file).remove(0);
        let text = read(&file);
        for (library, modules) in LIBRARIES {
            let allowed = modules.contains(&module.as_str());
            assert!(
                allowed || !text.contains(library),
                "{} uses {library}",
                file.display()
            );
        }
    }
}
