//! Checks file sizes, module docs, the files of every face, and that migrations come in pairs.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;
use super::{Report, TextFile};

const FILE_LIMIT: usize = 1000;
const FACE_FILES: [&str; 3] = ["lib.rs", "caller.rs", "error.rs"];

pub fn check_file(file: &TextFile, source: &Source, report: &mut Report) {
    let length = source.is_test.iter().filter(|test| !**test).count();
    if length > FILE_LIMIT {
        report.add(&file.path, format!("{length} lines besides tests; split it ({FILE_LIMIT} at most)"));
    }
    let is_module = file.path.starts_with("xtask/src/")
        || file.in_crate().is_some_and(|name| file.path.starts_with(&format!("crates/{name}/src/")));
    if is_module && !file.is_test() && !file.text.trim_start().starts_with("//!") {
        report.add(&file.path, "starts without `//!`: say in a line or two what the module is for");
    }
}

pub fn check_tree(files: &[TextFile], report: &mut Report) {
    let paths: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let faces: BTreeSet<&str> =
        files.iter().filter_map(TextFile::in_crate).filter(|name| name.starts_with("face-")).collect();
    for face in faces {
        for name in FACE_FILES {
            let path = format!("crates/{face}/src/{name}");
            if !paths.contains(path.as_str()) {
                report.add(&path, "is missing: all faces have the same files (router, caller, error body)");
            }
        }
    }
    check_migrations(&paths, report);
}

/// Checks that `…/sqlite/` and `…/postgres/` have the same file names.
fn check_migrations(paths: &BTreeSet<&str>, report: &mut Report) {
    let mut folders: BTreeMap<&str, [BTreeSet<&str>; 2]> = BTreeMap::new();
    for path in paths.iter().filter(|path| path.ends_with(".sql")) {
        let Some((folder, name)) = path.rsplit_once('/') else { continue };
        let Some((parent, database)) = folder.rsplit_once('/') else { continue };
        match database {
            "sqlite" => folders.entry(parent).or_default()[0].insert(name),
            "postgres" => folders.entry(parent).or_default()[1].insert(name),
            _ => continue,
        };
    }
    for (parent, [sqlite, postgres]) in folders {
        for name in sqlite.difference(&postgres) {
            report.add(&format!("{parent}/sqlite/{name}"), "has no counterpart of this name in postgres/");
        }
        for name in postgres.difference(&sqlite) {
            report.add(&format!("{parent}/postgres/{name}"), "has no counterpart of this name in sqlite/");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_come_in_pairs() {
        let paths =
            ["m/sqlite/1.sql", "m/postgres/1.sql", "m/sqlite/2.sql", "m/postgres/3.sql", "m/other/4.sql"];
        let mut report = Report::default();
        check_migrations(&paths.into_iter().collect(), &mut report);
        assert_eq!(report.0.len(), 2, "{:?}", report.0);
        assert!(report.0[0].starts_with("m/sqlite/2.sql: "));
        assert!(report.0[1].starts_with("m/postgres/3.sql: "));
    }

    #[test]
    fn faces_have_all_files() {
        let files = [TextFile { path: "crates/face-dx/src/lib.rs".to_owned(), text: String::new() }];
        let mut report = Report::default();
        check_tree(&files, &mut report);
        assert_eq!(report.0.len(), 2, "{:?}", report.0);
    }
}
