//! Reports snapshots that no test uses any more, and those that were never accepted.

use super::{Report, TextFile};

pub fn check(files: &[TextFile], report: &mut Report) {
    for file in files {
        if file.path.ends_with(".snap.new") {
            report.add(&file.path, "a snapshot that was not accepted: accept it, or remove it");
        }
        let Some(stem) = file.path.strip_suffix(".snap") else { continue };
        let Some((folder, stem)) = stem.rsplit_once("/snapshots/") else {
            report.add(&file.path, "snapshots belong in a folder `snapshots` next to their test");
            continue;
        };
        // `crate__module__test`, or the name that the assertion gives; a second one of a test ends in `-2`.
        let name = stem.rsplit("__").next().unwrap_or(stem);
        let test = name.rsplit_once('-').map_or(name, |(test, _)| test);
        let words = [format!("fn {test}("), format!("\"{name}\"")];
        let beside = files.iter().filter(|file| file.is_rust() && file.path.starts_with(folder));
        if !beside.into_iter().any(|file| words.iter().any(|word| file.text.contains(word))) {
            report.add(&file.path, format!("no test named {test} uses this snapshot: remove it"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_snapshots_without_a_test() {
        let file = |path: &str, text: &str| TextFile { path: path.to_owned(), text: text.to_owned() };
        let files = [
            file(
                "crates/a/src/tests/one.rs",
                "#[test]\nfn shown() { assert_snapshot!(x); assert_snapshot!(\"named\", y) }",
            ),
            file("crates/a/src/tests/snapshots/a__tests__one__shown.snap", ""),
            file("crates/a/src/tests/snapshots/a__tests__one__shown-2.snap", ""),
            file("crates/a/src/tests/snapshots/a__tests__one__named.snap", ""),
            file("crates/a/src/tests/snapshots/a__tests__one__gone.snap", ""),
            file("crates/a/src/tests/snapshots/a__tests__one__shown.snap.new", ""),
        ];
        let mut report = Report::default();
        check(&files, &mut report);
        assert_eq!(report.0.len(), 2, "{:?}", report.0);
        assert!(report.0[0].contains("gone") && report.0[1].contains("not accepted"), "{:?}", report.0);
    }
}
