//! Which of our crates can depend on which; dependencies point one way.

use super::{Report, TextFile};

/// Faces, each with the plane that it translates.
const FACES: [(&str, &str); 5] = [
    ("face-cluvio", "analytics"),
    ("face-dx", "delivery"),
    ("face-denodo", "promotion"),
    ("face-cloverdx", "jobs"),
    ("face-clumio", "protection"),
];
/// Crates that a face must not even list as dependencies.
const CLIENTS: [&str; 5] = ["sqlx", "tokio-postgres", "mysql_async", "rusqlite", "datafusion"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    Core,
    Estate,
    /// drivers, engine, kerberos, vault: each behind a port of core
    Beside,
    Plane,
    Http,
    Face,
    Console,
    /// server and testkit: they wire everything
    Top,
}

/// The layer of a crate, by the name of its folder; `None` if the table does not list it.
pub fn layer(name: &str) -> Option<Layer> {
    Some(match name {
        "core" => Layer::Core,
        "estate" => Layer::Estate,
        "drivers" | "engine" | "kerberos" | "vault" => Layer::Beside,
        "http" => Layer::Http,
        "console" => Layer::Console,
        "server" | "testkit" => Layer::Top,
        _ if FACES.iter().any(|(_, plane)| *plane == name) => Layer::Plane,
        _ if FACES.iter().any(|(face, _)| *face == name) => Layer::Face,
        _ => return None,
    })
}

/// Whether crate `from` can depend on crate `to`.
fn is_allowed(from: &str, to: &str) -> bool {
    let Some(layer) = layer(from) else { return false };
    match layer {
        Layer::Core => false,
        Layer::Estate | Layer::Beside | Layer::Http => to == "core",
        Layer::Plane => matches!(to, "core" | "estate"),
        Layer::Console => matches!(to, "core" | "http" | "estate"),
        Layer::Face => matches!(to, "core" | "http" | "estate") || FACES.contains(&(from, to)),
        Layer::Top => true,
    }
}

pub fn check(files: &[TextFile], report: &mut Report) {
    for file in files {
        let is_xtask = file.path == "xtask/Cargo.toml";
        let name = file.in_crate().filter(|name| file.path == format!("crates/{name}/Cargo.toml"));
        let Some(name) = name.or(is_xtask.then_some("xtask")) else { continue };
        let manifest = Manifest::parse(&file.text);
        if let Some(line) = manifest.features {
            report.add_at(&file.path, line, "[features]: our own crates have none; there is one build");
        }
        if !is_xtask && layer(name).is_none() {
            let message =
                format!("`{name}` is missing in xtask/src/tidy/edges.rs: add what it can depend on");
            report.add(&file.path, message);
            continue;
        }
        for dependency in &manifest.dependencies {
            check_one(file, name, dependency, report);
        }
    }
}

fn check_one(file: &TextFile, from: &str, dependency: &Dependency, report: &mut Report) {
    let Dependency { line, package, renamed, dev } = dependency;
    if layer(from) == Some(Layer::Face) && CLIENTS.contains(&package.as_str()) {
        report.add_at(&file.path, *line, format!("a face must not depend on `{package}`"));
    }
    let to = if package == "landreeve" { Some("server") } else { package.strip_prefix("landreeve-") };
    let Some(to) = to else { return };
    if *renamed {
        report.add_at(&file.path, *line, format!("`{package}` is renamed: call it by its name"));
    }
    let is_for_tests = *dev && to == "testkit";
    if !is_for_tests && !is_allowed(from, to) {
        report.add_at(
            &file.path,
            *line,
            format!("`{from}` must not depend on `{to}`; see docs/architecture.md"),
        );
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Dependency {
    line: usize,
    package: String,
    /// Whether it is listed under another name, with `package = "…"`.
    renamed: bool,
    dev: bool,
}

/// What tidy needs of a `Cargo.toml`.
#[derive(Debug, Default)]
struct Manifest {
    dependencies: Vec<Dependency>,
    /// The line of a `[features]` table.
    features: Option<usize>,
}

/// The table that a line belongs to.
enum Table {
    Other,
    /// `[dependencies]`, `[target.….dev-dependencies]`: every key is a dependency.
    Dependencies {
        dev: bool,
    },
    /// `[dependencies.name]`: every key is a property of the last dependency.
    OneDependency,
}

impl Manifest {
    fn parse(text: &str) -> Self {
        let mut manifest = Self::default();
        let mut table = Table::Other;
        let mut depth = 0; // of brackets in a value that continues over several lines
        for (index, line) in text.lines().enumerate() {
            let line = without_comment(line).trim();
            let continues = depth > 0;
            if !continues && line.starts_with('[') {
                table = manifest.enter(line.trim_matches(['[', ']', ' ']), index + 1);
                continue;
            }
            depth += bracket_balance(line);
            let Some((key, value)) = line.split_once('=').filter(|_| !continues) else { continue };
            let (name, property) = split_key(key.trim());
            match table {
                Table::Other => {}
                Table::Dependencies { dev } => {
                    // `a.workspace = true` and `a.package = "b"` are two lines about one dependency.
                    let package = if property == Some("package") { string(value) } else { package_in(value) };
                    manifest.add(index + 1, name, package, dev);
                }
                Table::OneDependency if key.trim() == "package" => {
                    if let (Some(last), Some(package)) = (manifest.dependencies.last_mut(), string(value)) {
                        last.renamed = last.package != package;
                        last.package = package.to_owned();
                    }
                }
                Table::OneDependency => {}
            }
        }
        manifest
    }

    fn enter(&mut self, header: &str, line: usize) -> Table {
        if header == "features" {
            self.features = Some(line);
            return Table::Other;
        }
        // `target.'cfg(unix)'.dependencies` counts like `dependencies`.
        let header = match header.strip_prefix("target.") {
            Some(rest) => rest.find("dependencies").map_or("", |at| {
                let start = rest[..at].rfind('.').map_or(0, |dot| dot + 1);
                &rest[start..]
            }),
            None => header,
        };
        let (kind, name) = header.split_once('.').map_or((header, None), |(kind, name)| (kind, Some(name)));
        let dev = match kind {
            "dependencies" | "build-dependencies" => false,
            "dev-dependencies" => true,
            _ => return Table::Other,
        };
        let Some(name) = name else { return Table::Dependencies { dev } };
        self.add(line, split_key(name).0, None, dev);
        Table::OneDependency
    }

    fn add(&mut self, line: usize, name: &str, package: Option<&str>, dev: bool) {
        let renamed = package.is_some_and(|package| package != name);
        let package = package.unwrap_or(name).to_owned();
        self.dependencies.push(Dependency { line, package, renamed, dev });
    }
}

fn without_comment(line: &str) -> &str {
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') => return &line[..at],
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            _ => {}
        }
    }
    line
}

fn bracket_balance(line: &str) -> i32 {
    let mut quoted = false;
    line.chars().fold(0, |depth, c| {
        quoted ^= c == '"';
        match c {
            '[' | '{' if !quoted => depth + 1,
            ']' | '}' if !quoted => depth - 1,
            _ => depth,
        }
    })
}

/// `name`, `"name"` or `name.property`.
fn split_key(key: &str) -> (&str, Option<&str>) {
    match key.split_once('.') {
        Some((name, property)) => (name.trim().trim_matches('"'), Some(property.trim())),
        None => (key.trim_matches('"'), None),
    }
}

fn string(value: &str) -> Option<&str> {
    value.trim().strip_prefix('"')?.split('"').next()
}

/// `{ …, package = "x" }`
fn package_in(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("package")?;
    string(rest.trim_start().strip_prefix('=')?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(usize, String, bool, bool)> {
        let manifest = Manifest::parse(text);
        manifest.dependencies.into_iter().map(|d| (d.line, d.package, d.renamed, d.dev)).collect()
    }

    fn violations(path: &str, text: &str) -> Vec<String> {
        let mut report = Report::default();
        check(&[TextFile { path: path.to_owned(), text: text.to_owned() }], &mut report);
        report.0
    }

    #[test]
    fn parses_every_form_of_dependency() {
        let text = "\
[package]
name = \"x\" # landreeve-vault = 1
[dependencies]
landreeve-core.workspace = true
serde = { version = \"1\", features = [
    \"derive\",
] }
\"quoted\" = \"1\"
other = { package = \"landreeve-estate\", path = \"../estate\" }
[dependencies.landreeve-http]
workspace = true
[dependencies.alias]
package = \"landreeve-vault\"
[target.'cfg(unix)'.dependencies]
rustix.workspace = true
[target.\"cfg(unix)\".dev-dependencies.landreeve-jobs]
workspace = true
[dev-dependencies]
landreeve-testkit.workspace = true
[lints]
workspace = true
";
        let expected = [
            (4, "landreeve-core", false, false),
            (5, "serde", false, false),
            (8, "quoted", false, false),
            (9, "landreeve-estate", true, false),
            (10, "landreeve-http", false, false),
            (12, "landreeve-vault", true, false),
            (15, "rustix", false, false),
            (16, "landreeve-jobs", false, true),
            (19, "landreeve-testkit", false, true),
        ];
        assert_eq!(
            parsed(text),
            expected.map(|(line, name, renamed, dev)| (line, name.to_owned(), renamed, dev))
        );
    }

    #[test]
    fn dependencies_point_one_way() {
        let allowed = [
            ("estate", "core"),
            ("analytics", "estate"),
            ("face-cluvio", "analytics"),
            ("face-dx", "http"),
            ("console", "estate"),
            ("server", "face-dx"),
            ("testkit", "server"),
        ];
        for (from, to) in allowed {
            assert!(is_allowed(from, to), "{from} -> {to}");
        }
        let refused = [
            ("core", "estate"),
            ("estate", "drivers"),
            ("http", "estate"),
            ("analytics", "drivers"),
            ("analytics", "jobs"),
            ("face-cluvio", "delivery"),
            ("face-cluvio", "face-dx"),
            ("face-cluvio", "drivers"),
            ("console", "analytics"),
            ("jobs", "http"),
        ];
        for (from, to) in refused {
            assert!(!is_allowed(from, to), "{from} -> {to}");
        }
    }

    #[test]
    fn violations_name_file_and_line() {
        let path = "crates/core/Cargo.toml";
        let found = violations(path, "[dependencies]\nlandreeve-estate.workspace = true\n[features]\n");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("crates/core/Cargo.toml:3: [features]"), "{found:?}");
        assert!(found[1].starts_with("crates/core/Cargo.toml:2: `core` must not"), "{found:?}");
        assert_eq!(violations(path, "[dev-dependencies]\nlandreeve-testkit.workspace = true\n").len(), 0);
        assert_eq!(violations(path, "[dependencies]\nlandreeve-testkit.workspace = true\n").len(), 1);
        assert_eq!(
            violations("crates/face-dx/Cargo.toml", "[dependencies]\nsqlx.workspace = true\n").len(),
            1
        );
        assert_eq!(violations("crates/utils/Cargo.toml", "").len(), 1);
    }
}
