//! Checks that paths in documents exist, and that no file contains a path of one developer's machine.

use std::path::Path;

use super::{Report, TextFile};

/// Prefixes of names in backticks that are paths in this repository.
const ROOTS: [&str; 4] = ["crates/", "docs/", "xtask/", ".ci/"];

/// Folders at the top of a developer's machine. (Written without their slashes, since this file is checked too.)
const MACHINE_FOLDERS: [&str; 2] = ["work", "root"];

pub fn check(root: &Path, files: &[TextFile], report: &mut Report) {
    for file in files {
        if is_document(&file.path) {
            for (line, name) in paths_named(&file.text) {
                if !root.join(name).exists() {
                    report.add_at(&file.path, line, format!("`{name}` does not exist"));
                }
            }
        }
        for (line, folder) in machine_paths(&file.text) {
            let message = format!(
                "contains a path in /{folder} of one machine; use a relative path or a temporary directory"
            );
            report.add_at(&file.path, line, message);
        }
    }
}

fn is_document(path: &str) -> bool {
    matches!(path, "README.md" | "CONTRIBUTING.md")
        || path.strip_prefix("docs/").is_some_and(|name| name.ends_with(".md") && !name.contains('/'))
}

/// The repository's paths in backticks outside fenced blocks, with their lines.
fn paths_named(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let spans = line.split('`').skip(1).step_by(2);
            found.extend(spans.filter_map(path_in).map(|path| (index + 1, path)));
        }
    }
    found
}

fn path_in(span: &str) -> Option<&str> {
    // The first word may be followed by arguments, a line number (`a.rs:12`) or an item (`a.rs::f`).
    let path = span.split_whitespace().next()?.split(':').next()?;
    let is_pattern = path.contains(['*', '<', '{', '…', '$']) || path.contains("...");
    (ROOTS.iter().any(|root| path.starts_with(root)) && !is_pattern).then_some(path)
}

fn machine_paths(text: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for folder in MACHINE_FOLDERS {
            let path = format!("/{folder}/");
            let absolute = line.match_indices(&path).any(|(at, _)| {
                let before = line[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || "_-./~})".contains(c))
            });
            if absolute {
                found.push((index + 1, folder));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_paths_in_backticks() {
        let text = "See `crates/core` and `docs/a.md:3`, `.ci/run --x`, `crates/face-*`, `ls`.\n```\n`crates/no`\n```\n`xtask/src/main.rs`";
        let expected = [(1, "crates/core"), (1, "docs/a.md"), (1, ".ci/run"), (5, "xtask/src/main.rs")];
        assert_eq!(paths_named(text), expected);
    }

    #[test]
    fn finds_absolute_paths_of_a_machine() {
        let text = "a /w/ b\n\"/w/x\"\nhome/w/x\n/w/".replace('w', MACHINE_FOLDERS[0]);
        let lines: Vec<usize> = machine_paths(&text).into_iter().map(|(line, _)| line).collect();
        assert_eq!(lines, [1, 2, 4]);
    }
}
