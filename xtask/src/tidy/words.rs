//! Names that are allowed in some places only (the store, the database clients, the clock, vendors), and words that are
//! not allowed anywhere.

use super::edges::{Layer, layer};
use super::source::{Source, closing_brace, find_word, line_of};
use super::{Report, TextFile};

const VENDORS: [&str; 4] = ["cluvio", "denodo", "cloverdx", "clumio"];
const CLIENTS: [&str; 5] = ["tokio_postgres", "mysql_async", "rusqlite", "datafusion", "rustic_core"];

/// Words without an honest use, and what to write instead. They are searched in whole files, comments and text
/// included. A line in which one is a name says `// tidy: allow word: REASON`.
const UNWANTED: [(&str, &str); 5] = [
    ("nobody", "say who: the caller, the server, no user"),
    ("whoever", "say who: the caller, the reader, anyone who"),
    ("somebody", "say who: a user, another process"),
    ("anew", "again"),
    ("unless told", "[default: …]"),
];
/// Prefixes of identifiers, and the one to use instead.
const UNWANTED_PREFIXES: [(&str, &str); 1] = [("MOST_", "MAX_")];
/// This file, which has to contain them.
const WORD_LIST: &str = "xtask/src/tidy/words.rs";

/// The only file with unsafe code; the lint of the compiler allows the crate to have more.
const UNSAFE_FILE: &str = "crates/kerberos/src/ffi.rs";

/// Whole files that can read the machine's clock. To allow a single line, write `// tidy: allow clock: REASON`.
const CLOCK_FILES: [&str; 4] =
    ["crates/core/src/clock.rs", "crates/drivers/examples/", "crates/testkit/", "xtask/"];

pub fn check(file: &TextFile, source: &Source, report: &mut Report) {
    let mut search = Search { file, source, report };
    search.everywhere();
    let Some(name) = file.in_crate() else { return };
    let layer = layer(name);
    if matches!(layer, Some(Layer::Face | Layer::Console)) || file.path.starts_with("crates/server/src/cli") {
        search.store();
    }
    if !matches!(name, "estate" | "core") {
        search.refuse("OpCtx::new", true, "only `estate` creates an OpCtx, by checking a credential");
    }
    // testkit creates and drops the databases of its estates; it reads none.
    if !matches!(name, "estate" | "testkit") {
        search.refuse("sqlx", true, "use the metadata database through `estate` only");
    }
    if matches!(layer, Some(Layer::Core | Layer::Http | Layer::Console | Layer::Plane | Layer::Face)) {
        for client in CLIENTS {
            search.refuse(client, layer == Some(Layer::Face), "use it through a port in `core` only");
        }
    }
    if layer == Some(Layer::Plane) {
        search.plane();
    }
}

/// Checks a Rust file or a document for unwanted words.
pub fn check_prose(file: &TextFile, report: &mut Report) {
    if file.path == WORD_LIST || !(file.is_rust() || file.path.ends_with(".md")) {
        return;
    }
    for (index, line) in file.text.lines().enumerate() {
        let lower = line.to_ascii_lowercase();
        let words = UNWANTED.iter().filter(|(word, _)| find_word(&lower, word).next().is_some());
        let prefixes = UNWANTED_PREFIXES.iter().filter(|(prefix, _)| has_prefix(line, prefix));
        for (word, instead) in words.chain(prefixes) {
            if !allows(line, "word") {
                report.add_at(&file.path, index + 1, format!("`{word}`: write it another way ({instead})"));
            }
        }
    }
}

/// Whether an identifier in the line starts with `prefix`.
fn has_prefix(line: &str, prefix: &str) -> bool {
    line.match_indices(prefix).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// Whether the line ends in `// tidy: allow RULE: REASON`.
fn allows(line: &str, rule: &str) -> bool {
    let reason = line.split_once(&format!("// tidy: allow {rule}:")).map(|(_, reason)| reason.trim());
    reason.is_some_and(|reason| !reason.is_empty())
}

struct Search<'a> {
    file: &'a TextFile,
    source: &'a Source,
    report: &'a mut Report,
}

impl Search<'_> {
    /// Reports every occurrence of `word` in code; in unit tests only with `in_tests`.
    fn refuse(&mut self, word: &str, in_tests: bool, why: &str) {
        for at in find_word(&self.source.code, word) {
            let line = line_of(&self.source.code, at);
            if in_tests || !self.source.is_test_line(line) {
                self.report.add_at(&self.file.path, line, format!("names `{word}`: {why}"));
            }
        }
    }

    fn everywhere(&mut self) {
        for word in ["todo!", "unimplemented!"] {
            self.refuse(word, true, "finish it, or return an error that says what is not available yet");
        }
        if self.file.path != UNSAFE_FILE {
            self.refuse("unsafe", true, "unsafe code belongs in crates/kerberos/src/ffi.rs only");
        }
        self.sleeps();
        if CLOCK_FILES.iter().any(|allowed| self.file.path.starts_with(allowed)) {
            return;
        }
        // Tokio's clock only measures spans and deadlines, and tests can stop it.
        let spans = ["use tokio::time::Instant;", "use tokio::time::{Instant"]
            .iter()
            .any(|line| self.source.code.contains(line));
        for word in ["SystemTime::now", "Instant::now"] {
            if spans && word == "Instant::now" {
                continue;
            }
            for at in find_word(&self.source.code, word) {
                let line = line_of(&self.source.code, at);
                if !self.source.is_test_line(line) && !self.is_allowed(line, "clock") {
                    let message = format!("`{word}`: take the time from the Clock port");
                    self.report.add_at(&self.file.path, line, message);
                }
            }
        }
    }

    /// A test that sleeps is slow on one machine and wrong on another. If there is nothing to wait for, as with another
    /// process, the line says `// tidy: allow sleep: REASON`.
    fn sleeps(&mut self) {
        for at in find_word(&self.source.code, "sleep") {
            let line = line_of(&self.source.code, at);
            if self.source.is_test_line(line) && !self.is_allowed(line, "sleep") {
                let message = "`sleep` in a test: wait for the event, or move the clock by hand";
                self.report.add_at(&self.file.path, line, message);
            }
        }
    }

    /// Reports `estate::store`, as a path or in a group of imports.
    fn store(&mut self) {
        const WHY: &str = "faces, console and command line call `estate::ops` and planes, never the store";
        let code = &self.source.code;
        let mut found = Vec::new();
        for word in ["estate", "landreeve_estate"] {
            for at in find_word(code, word) {
                let Some(path) = code[at + word.len()..].trim_start().strip_prefix("::") else { continue };
                let path = path.trim_start();
                let start = code.len() - path.len();
                if path.starts_with('{') {
                    found.extend(
                        group_members(code, start).filter(|(_, name)| *name == "store").map(|(at, _)| at),
                    );
                } else if first_word(path) == "store" {
                    found.push(at);
                }
            }
        }
        for at in found {
            self.report.add_at(&self.file.path, line_of(code, at), format!("names `estate::store`: {WHY}"));
        }
    }

    fn plane(&mut self) {
        self.refuse("axum", true, "a plane must not use HTTP");
        self.refuse("http::", true, "a plane must not use HTTP");
        for word in ["json!", "serde_json::json"] {
            self.refuse(word, false, "a plane must not use wire JSON; stored JSON has types in stored.rs");
        }
        for (index, text) in self.source.uncommented.lines().enumerate() {
            let text = text.to_lowercase();
            let Some(vendor) = VENDORS.iter().find(|vendor| text.contains(**vendor)) else { continue };
            if !self.is_allowed(index + 1, "vendor name") {
                let message = format!(
                    "names `{vendor}`: a plane must not name vendors; their words belong in the face"
                );
                self.report.add_at(&self.file.path, index + 1, message);
            }
        }
    }

    fn is_allowed(&self, line: usize, rule: &str) -> bool {
        allows(self.file.text.lines().nth(line - 1).unwrap_or_default(), rule)
    }
}

fn first_word(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    &text[..end]
}

/// The first words inside the braces at `open`, with their positions (nested groups left out).
fn group_members(code: &str, open: usize) -> impl Iterator<Item = (usize, &str)> {
    let inside = &code[open + 1..closing_brace(code, open)];
    let mut depth = 0;
    let mut starts = vec![open + 1];
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            b',' if depth == 0 => starts.push(open + 1 + at + 1),
            _ => {}
        }
    }
    starts.into_iter().map(|start| {
        let text = &code[start..];
        let trimmed = text.trim_start();
        (start + text.len() - trimmed.len(), first_word(trimmed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(path: &str, text: &str) -> Vec<String> {
        let file = TextFile { path: path.to_owned(), text: text.to_owned() };
        let mut report = Report::default();
        check(&file, &Source::read(&file), &mut report);
        report.0
    }

    fn count(path: &str, text: &str) -> usize {
        violations(path, text).len()
    }

    #[test]
    fn refuses_the_store_in_faces_console_and_command_line() {
        for path in ["crates/face-dx/src/a.rs", "crates/console/src/a.rs", "crates/server/src/cli/key.rs"] {
            assert_eq!(count(path, "use landreeve_estate::store::Tx;"), 1);
            assert_eq!(count(path, "use landreeve_estate::{\n    ops::{a, store},\n    store::Tx,\n};"), 1);
            assert_eq!(count(path, "estate :: store::Store::open()"), 1);
            assert_eq!(
                count(path, "use landreeve_estate::ops; // estate::store\nlet a = \"estate::store\";"),
                0
            );
        }
        assert!(
            violations("crates/face-dx/src/a.rs", "x\nuse estate::{ops,\nstore};")[0].contains("a.rs:3:")
        );
        assert_eq!(count("crates/jobs/src/a.rs", "use landreeve_estate::store::Tx;"), 0);
        assert_eq!(count("crates/server/src/wiring.rs", "use landreeve_estate::store::Store;"), 0);
    }

    #[test]
    fn only_estate_creates_an_op_ctx() {
        assert_eq!(count("crates/server/src/a.rs", "let c = OpCtx::new(a);"), 1);
        assert_eq!(count("crates/estate/src/a.rs", "let c = OpCtx::new(a);"), 0);
    }

    #[test]
    fn database_clients_stay_behind_their_ports() {
        assert_eq!(count("crates/face-dx/src/a.rs", "use sqlx::A; use rusqlite::B;"), 2);
        assert_eq!(count("crates/server/src/a.rs", "use sqlx::A;"), 1);
        assert_eq!(count("crates/drivers/src/a.rs", "use rusqlite::B; use tokio_postgres::C;"), 0);
        assert_eq!(count("crates/estate/src/a.rs", "use sqlx::A;"), 0);
    }

    #[test]
    fn planes_use_no_wire_and_no_vendor_names() {
        let path = "crates/analytics/src/a.rs";
        assert_eq!(count(path, "use axum::Router;\nuse http::StatusCode;\nlet a = json!({});"), 3);
        assert_eq!(count(path, "let a = \"Cluvio\"; // and denodo"), 1);
        assert_eq!(count(path, "// Cluvio says so\nlet a = 1;"), 0);
        assert_eq!(count(path, "let a = \"clumio\"; // tidy: allow vendor name: a stored value"), 0);
        assert_eq!(count(path, "let a = \"clumio\"; // tidy: allow vendor name:"), 1);
        assert_eq!(count("crates/face-cluvio/src/a.rs", "use axum::Router; let a = \"cluvio\";"), 0);
    }

    #[test]
    fn time_comes_from_the_clock() {
        assert_eq!(count("crates/http/src/a.rs", "let a = std::time::Instant::now();"), 1);
        assert_eq!(
            count("crates/http/src/a.rs", "let a = Instant::now(); // tidy: allow clock: a span's length"),
            0
        );
        assert_eq!(count("crates/http/tests/it/main.rs", "let a = Instant::now();"), 0);
        assert_eq!(
            count("crates/http/src/a.rs", "#[cfg(test)]\nmod tests {\n    fn a() { Instant::now(); }\n}"),
            0
        );
    }

    #[test]
    fn refuses_unwanted_words_and_prefixes() {
        let lines = |path: &str, text: &str| {
            let mut report = Report::default();
            check_prose(&TextFile { path: path.to_owned(), text: text.to_owned() }, &mut report);
            report.0.len()
        };
        assert_eq!(lines("docs/a.md", "Nobody knows.\nSet it anew, unless told.\nbusybodies renew"), 3);
        assert_eq!(lines("crates/http/src/a.rs", "const MOST_ROWS: u8 = 1; // UTMOST_\nlet a = ALMOST_;"), 1);
        assert_eq!(lines("crates/http/src/a.rs", "\"nobody\" // tidy: allow word: a Unix account"), 0);
        assert_eq!(lines("crates/http/src/a.rs", "\"nobody\" // tidy: allow word:"), 1);
        assert_eq!(lines("crates/http/a.sql", "nobody"), 0);
        assert_eq!(lines(WORD_LIST, "nobody"), 0);
    }

    #[test]
    fn refuses_unsafe_code() {
        let text = "#![deny(unsafe_code)]\nfn a() { unsafe { b() } } // unsafe\nunsafe fn c() {}";
        assert_eq!(count("crates/http/src/a.rs", text), 2);
        assert_eq!(count("crates/kerberos/src/lib.rs", text), 2);
        assert_eq!(count(UNSAFE_FILE, text), 0);
    }

    #[test]
    fn refuses_unfinished_code() {
        assert_eq!(count("crates/http/src/a.rs", "fn a() { todo!() }\nfn b() { unimplemented!(\"x\") }"), 2);
    }
    #[test]
    fn refuses_sleeps_in_tests() {
        for call in ["std::thread::sleep(t)", "tokio::time::sleep(t).await"] {
            assert_eq!(count("crates/http/tests/it/a.rs", &format!("fn a() {{ {call}; }}")), 1, "{call}");
            let inside = format!("#[cfg(test)]\nmod tests {{\n    fn a() {{ {call}; }}\n}}");
            assert_eq!(count("crates/http/src/a.rs", &inside), 1, "{call}");
            let allowed = format!("fn a() {{ {call}; }} // tidy: allow sleep: another process");
            assert_eq!(count("crates/http/tests/it/a.rs", &allowed), 0, "{call}");
            assert_eq!(count("crates/http/src/a.rs", &format!("fn a() {{ {call}; }}")), 0, "{call}");
        }
    }
}
