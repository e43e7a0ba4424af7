//! `cargo xtask tidy`: the architecture rules that a machine can check.
//!
//! It lists every violation with its place and the remedy. Four rules allow exceptions: a line that ends in
//! `// tidy: allow RULE: REASON`, where the rule is `vendor name`, `clock`, `sleep` or `word`.

mod circles;
mod edges;
mod functions;
mod layout;
mod papers;
mod snapshots;
mod source;
mod words;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};

/// A text file of the repository: tracked, or new and not ignored.
struct TextFile {
    /// Relative to the root, with `/` between folders.
    path: String,
    text: String,
}

impl TextFile {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// `crates/NAME/…` gives NAME.
    fn in_crate(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split_once('/').map(|(name, _)| name)
    }

    /// Whether the whole file is test code: integration tests, benches and `tests.rs` next to a module.
    fn is_test(&self) -> bool {
        let (folders, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        folders.split('/').any(|folder| folder == "tests" || folder == "benches")
            || name == "tests.rs"
            || name.ends_with("_tests.rs")
    }
}

/// The violations found so far.
#[derive(Default)]
struct Report(Vec<String>);

impl Report {
    fn add(&mut self, path: &str, message: impl AsRef<str>) {
        self.0.push(format!("{path}: {}", message.as_ref()));
    }

    fn add_at(&mut self, path: &str, line: usize, message: impl AsRef<str>) {
        self.0.push(format!("{path}:{line}: {}", message.as_ref()));
    }
}

pub fn command(args: &[String]) -> Result<ExitCode> {
    ensure!(args.is_empty(), "tidy takes no arguments");
    let root = crate::root()?;
    let files = read_tree(&root)?;
    let report = check(&root, &files);
    for violation in &report.0 {
        println!("{violation}");
    }
    if report.0.is_empty() {
        println!("tidy: {} files, no violations", files.len());
        return Ok(ExitCode::SUCCESS);
    }
    println!("tidy: {} violations in {} files", report.0.len(), files.len());
    Ok(ExitCode::FAILURE)
}

fn check(root: &Path, files: &[TextFile]) -> Report {
    let mut report = Report::default();
    edges::check(files, &mut report);
    circles::check(files, &mut report);
    for file in files {
        words::check_prose(file, &mut report);
    }
    for file in files.iter().filter(|file| file.is_rust()) {
        let source = source::Source::read(file);
        words::check(file, &source, &mut report);
        functions::check(file, &source, &mut report);
        layout::check_file(file, &source, &mut report);
    }
    layout::check_tree(files, &mut report);
    papers::check(root, files, &mut report);
    snapshots::check(files, &mut report);
    report
}

fn read_tree(root: &Path) -> Result<Vec<TextFile>> {
    let mut paths = match git_listing(root) {
        Some(paths) => paths,
        None => {
            eprintln!("tidy: no git, or not a clone: checking every file outside of target/");
            let mut paths = Vec::new();
            walk(root, "", &mut paths)?;
            paths
        }
    };
    paths.sort();
    paths.dedup();
    let mut files = Vec::new();
    for path in paths {
        // Listed but unreadable: removed and not yet staged, or a link to a folder.
        let Ok(bytes) = fs::read(root.join(&path)) else { continue };
        if let Ok(text) = String::from_utf8(bytes)
            && !text.contains('\0')
        {
            files.push(TextFile { path, text });
        }
    }
    ensure!(files.iter().any(|file| file.path == "Cargo.toml"), "{}: nothing found", root.display());
    Ok(files)
}

fn git_listing(root: &Path) -> Option<Vec<String>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .ok()?;
    if !listed.status.success() {
        return None;
    }
    let listing = String::from_utf8(listed.stdout).ok()?;
    Some(listing.split_terminator('\0').map(str::to_owned).collect())
}

fn walk(root: &Path, folder: &str, paths: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = format!("{folder}{name}");
        if entry.file_type()?.is_dir() {
            if !matches!(path.as_str(), ".git" | "target" | "landreeve-data") {
                walk(root, &format!("{path}/"), paths)?;
            }
        } else {
            paths.push(path);
        }
    }
    Ok(())
}
