//! Each relative link of a document leads to a file, and to a heading of it.

use crate::markdown::Page;
use crate::pages::documents;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Returns what is wrong with the links of these documents, all below a directory.
fn broken_links(root: &Path, documents: &[PathBuf]) -> Vec<String> {
    let root = root.canonicalize().expect("a directory");
    let pages: BTreeMap<PathBuf, Page> = documents
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).expect("a document");
            (path.canonicalize().expect("a file"), Page::read(&text))
        })
        .collect();

    let mut broken = Vec::new();
    for (path, page) in &pages {
        for link in page.links.iter().filter(|link| is_relative(&link.target)) {
            if let Err(problem) = follow(&root, &pages, path, &link.target) {
                let name = path.strip_prefix(&root).expect("below the directory");
                let (name, line, target) = (name.display(), link.line, &link.target);
                broken.push(format!("{name}:{line}: {target} {problem}"));
            }
        }
    }

    broken
}

fn is_relative(target: &str) -> bool {
    !target.contains("://") && !target.starts_with("mailto:")
}

/// Goes from a document to where a link of it leads, or returns why there is no such place.
fn follow(
    root: &Path,
    pages: &BTreeMap<PathBuf, Page>,
    from: &Path,
    target: &str,
) -> Result<(), &'static str> {
    let (file, anchor) = match target.split_once('#') {
        Some((file, anchor)) => (file, Some(anchor)),
        None => (target, None),
    };

    let mut path = from.to_owned();
    if !file.is_empty() {
        let place = from.parent().expect("a directory").join(file);
        path = place.canonicalize().map_err(|_| "leads to no file")?;
    }
    if !path.starts_with(root) {
        return Err("leads out of the repository");
    }

    let Some(anchor) = anchor else { return Ok(()) };
    // A directory is shown with its README.
    let page = pages
        .get(&path)
        .or_else(|| pages.get(&path.join("README.md")));
    match page {
        Some(page) if page.has_anchor(anchor) => Ok(()),
        _ => Err("leads to no heading"),
    }
}

#[test]
fn each_relative_link_of_the_documents_leads_somewhere() {
    let documents = documents();

    let broken = broken_links(Path::new(env!("CARGO_MANIFEST_DIR")), &documents);

    assert!(documents.len() > 25, "only {} documents", documents.len());
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(&path, text).expect("written");
        path
    };
    let first = write(
        "first.md",
        "# First\n\n[a](#first) [b](#second) [c](more/README.md#связь-1)\n[d](more/#связь)\n\
         [e](more/#none) [f](none.md)\n\n[g](../) [h](https://example.com/none) [i](plain.txt#L1)\n",
    );
    let more = write(
        "more/README.md",
        "## Связь\n\n## Связь\n\n[j](../first.md)\n",
    );
    write("plain.txt", "");

    let broken = broken_links(directory.path(), &[first, more]);

    assert_eq!(
        broken,
        [
            "first.md:3: #second leads to no heading",
            "first.md:5: more/#none leads to no heading",
            "first.md:5: none.md leads to no file",
            "first.md:7: ../ leads out of the repository",
            "first.md:7: plain.txt#L1 leads to no heading",
        ]
    );
}
