//! The top-level modules of these crates must not use one another in circles.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;
use super::{Report, TextFile};

/// Their folders in `crates/`. Add a crate once its circles are gone, and never remove one.
const CRATES: [&str; 1] = ["analytics"];

type Graph = BTreeMap<String, BTreeSet<String>>;

pub fn check(files: &[TextFile], report: &mut Report) {
    for name in CRATES {
        let folder = format!("crates/{name}/src/");
        let sources: Vec<(&str, &TextFile)> = files
            .iter()
            .filter(|file| file.is_rust() && !file.is_test())
            .filter_map(|file| Some((module(file.path.strip_prefix(&folder)?), file)))
            .filter(|(module, _)| !matches!(*module, "lib" | "main"))
            .collect();
        let modules: BTreeSet<&str> = sources.iter().map(|(module, _)| *module).collect();
        let mut graph = Graph::new();
        for (module, file) in &sources {
            let used = graph.entry((*module).to_owned()).or_default();
            let source = Source::read(file);
            let code: Vec<&str> = source
                .code
                .lines()
                .enumerate()
                .filter(|(at, _)| !source.is_test_line(at + 1))
                .map(|(_, line)| line)
                .collect();
            let named = named(&code.join("\n"));
            used.extend(named.into_iter().filter(|name| name != module && modules.contains(name.as_str())));
        }
        for circle in circles(&graph) {
            let circle: Vec<&str> = circle.iter().map(String::as_str).collect();
            report.add(&folder, format!("modules use one another in a circle: {}", circle.join(", ")));
        }
    }
}

/// `filters.rs` and `lang/parse.rs` belong to the modules `filters` and `lang`.
fn module(path: &str) -> &str {
    let first = path.split_once('/').map_or(path, |(folder, _)| folder);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// The names after `crate::` in paths, also inside braces.
fn named(code: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut found = BTreeSet::new();
    for (_, rest) in code.match_indices("crate::").map(|(at, all)| (at, &code[at + all.len()..])) {
        match rest.strip_prefix('{') {
            None => drop(found.insert(word(rest))),
            Some(list) => {
                let mut depth = 0_usize;
                let mut start = 0;
                for (at, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => {
                            found.insert(word(&list[start..at]));
                            break;
                        }
                        '}' => depth -= 1,
                        ',' if depth == 0 => {
                            found.insert(word(&list[start..at]));
                            start = at + 1;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

/// Groups of modules in which each reaches every other.
fn circles(graph: &Graph) -> Vec<BTreeSet<String>> {
    let reach = |from: &str| {
        let mut seen = BTreeSet::new();
        let mut open = vec![from.to_owned()];
        while let Some(next) = open.pop() {
            for used in graph.get(&next).into_iter().flatten() {
                if seen.insert(used.clone()) {
                    open.push(used.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> = graph.keys().map(|name| (name, reach(name))).collect();
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for (name, reaches) in &reached {
        if !reaches.contains(*name) || found.iter().any(|circle| circle.contains(*name)) {
            continue;
        }
        let returns = |other: &&String| reached.get(other).is_some_and(|back| back.contains(*name));
        found.push(reaches.iter().filter(returns).cloned().collect());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> TextFile {
        TextFile { path: format!("crates/analytics/src/{path}"), text: text.to_owned() }
    }

    #[test]
    fn reports_circles_but_not_chains() {
        let chain = [
            file("lib.rs", "mod a; mod b; mod c; use crate::a::X;"),
            file("a.rs", "use crate::{b::{Y, Z}, c};\n"),
            file("b/mod.rs", "use crate::c::W;\n// use crate::a;\n"),
            file("c.rs", "#[cfg(test)]\nmod tests {\n    use crate::a::X;\n}\n"),
        ];
        let mut report = Report::default();
        check(&chain, &mut report);
        assert_eq!(report.0, Vec::<String>::new());
        let mut circle = Vec::from(chain);
        circle.push(file("c/deep.rs", "fn f() { crate::a::g() }"));
        check(&circle, &mut report);
        assert_eq!(report.0, ["crates/analytics/src/: modules use one another in a circle: a, b, c"]);
    }
}
