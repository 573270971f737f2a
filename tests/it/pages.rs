//! Reads the documents: their sections, their blocks of code, and the commands in those.

use crate::markdown::Page;
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the text of a document.
pub(crate) fn text(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(path).expect("a document")
}

/// Returns the paths of all documents.
pub(crate) fn documents() -> Vec<PathBuf> {
    let mut documents = Vec::new();
    let mut directories = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR"))];

    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy();

            let foreign = name.starts_with('.') || name == "target" || name == "node_modules";
            if path.is_dir() && !foreign {
                directories.push(path);
            } else if name.ends_with(".md") {
                documents.push(path);
            }
        }
    }

    documents
}

/// Returns a document's section of that heading.
pub(crate) fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let (_, section) = document
        .split_once(&format!("\n## {heading}\n"))
        .expect("a section of that heading");

    section.split("\n## ").next().expect("one part at least")
}

/// Returns the fenced blocks of a text in their order: their language and what stands in them.
pub(crate) fn blocks(text: &str) -> Vec<(String, String)> {
    let blocks = Page::read(text).blocks;

    blocks
        .into_iter()
        .map(|block| (block.language, block.text))
        .collect()
}

/// A command of a page, and what it has to be refused with: a code, or a text that it prints.
pub(crate) struct Step {
    pub command: String,
    pub refused: Option<String>,
}

/// Returns the commands of a block: one for each line. A backslash continues a line, and a command
/// with a here document takes all lines up to `END`.
pub(crate) fn steps(block: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut refused = None;
    let mut in_here_document = false;

    for line in block.replace("\\\n", " ").lines() {
        if in_here_document {
            let step = steps.last_mut().expect("a here document has a command");
            step.command.push('\n');
            step.command.push_str(line);
            in_here_document = line != "END";
        } else if let Some(code) = line.strip_prefix("# refused: ") {
            refused = Some(code.to_owned());
        } else {
            steps.push(Step {
                command: line.to_owned(),
                refused: refused.take(),
            });
            in_here_document = line.ends_with("<<'END'");
        }
    }

    steps
}
