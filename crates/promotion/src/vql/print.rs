//! Objects as statements. The same object always has the same text, whatever its script looked like; a hash of these
//! texts identifies a catalog.

use std::fmt::Write as _;

use super::ast::{
    Access, Clause, Column, Database, Definition, Interface, Kept, Name, Output, Relation, Source,
    SourceKind, Table, Target, TextFile, View, Wrapper,
};
use super::cursor::{quoted, written};

/// How objects are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// CREATE OR REPLACE
    pub replace: bool,
    /// Properties in place of what differs between environments. A password is always a property.
    pub properties: bool,
    /// Without passwords, which are stored elsewhere.
    pub stored: bool,
}

/// The statement that creates an object of a database, without a semicolon.
pub fn create(database: &str, name: &str, definition: &Definition, style: Style) -> String {
    let mut out = String::from(if style.replace { "CREATE OR REPLACE " } else { "CREATE " });
    match definition {
        Definition::Database(found) => put_database(&mut out, name, found),
        Definition::Folder { description } => {
            put(&mut out, &format!("FOLDER {}", quoted(name)));
            if let Some(description) = description {
                put(&mut out, &format!(" DESCRIPTION {}", quoted(description)));
            }
        }
        Definition::Source(source) => {
            let property = Property { database, place: "datasources", kind: source.kind(), name };
            put_source(&mut out, name, source, &property, style);
        }
        Definition::Wrapper(wrapper) => {
            let property = Property { database, place: "views", kind: wrapper.kind, name };
            put_wrapper(&mut out, name, wrapper, &property, style);
        }
        Definition::Table(table) => put_table(&mut out, name, table),
        Definition::View(view) => put_view(&mut out, name, view),
        Definition::Interface(view) => put_interface(&mut out, name, view),
    }
    out
}

/// A statement without effect.
pub fn kept(kept: &Kept, style: Style) -> String {
    match (kept.kind.is_created(), style.replace) {
        (true, true) => format!("CREATE OR REPLACE {}", kept.text),
        (true, false) => format!("CREATE {}", kept.text),
        (false, _) => kept.text.clone(),
    }
}

/// The clauses of a database, each of which is an ALTER.
pub fn alter_database(name: &str, clause: &Clause) -> String {
    let text = if clause.text.is_empty() { String::new() } else { format!(" {}", clause.text) };
    format!("ALTER DATABASE {} {}{text}", written(name), clause.word)
}

/// A name as it must be written.
pub fn name(name: &str) -> String {
    written(name)
}

/// The statement that drops an object with everything that depends on it.
pub fn drop(target: Target, name: &str) -> Option<String> {
    let (what, name) = match target {
        Target::Database => ("DATABASE".to_owned(), written(name)),
        Target::Source(kind) => (format!("DATASOURCE {}", kind.as_str().to_uppercase()), written(name)),
        Target::Wrapper(kind) => (format!("WRAPPER {}", kind.as_str().to_uppercase()), written(name)),
        Target::View => ("VIEW".to_owned(), written(name)),
        // A folder can contain what is not written here.
        Target::Folder | Target::Kept(_) => return None,
    };
    Some(format!("DROP {what} IF EXISTS {name} CASCADE"))
}

/// The statement that drops a folder with everything in it.
pub fn drop_folder(path: &str) -> String {
    format!("DROP FOLDER IF EXISTS {} CASCADE", quoted(path))
}

/// The properties that `create` writes with `Style::properties`, and what they stand for. Passwords, which are stored
/// elsewhere, are not among them.
pub fn values(database: &str, name: &str, definition: &Definition) -> Vec<(String, String)> {
    if !is_part_of_property(database) || !is_part_of_property(name) {
        return Vec::new();
    }
    let (place, kind, found): (&str, SourceKind, Vec<(&str, &String)>) = match definition {
        Definition::Source(source) => {
            let found = match &source.access {
                Access::Jdbc { uri, user, .. } => {
                    let user = user.as_ref().map(|user| ("USERNAME", user));
                    [Some(("DATABASEURI", uri)), user].into_iter().flatten().collect()
                }
                Access::Text(TextFile { path, .. }) | Access::Json { path } => {
                    vec![("ROUTE.LOCAL.PATH", path)]
                }
            };
            ("datasources", source.kind(), found)
        }
        Definition::Wrapper(wrapper) => {
            let found = match &wrapper.relation {
                Relation::Table { catalog, schema, .. } => {
                    let named = [("CATALOGNAME", catalog), ("SCHEMANAME", schema)].into_iter();
                    named.filter_map(|(parameter, value)| Some((parameter, value.as_ref()?))).collect()
                }
                Relation::Sentence(_) | Relation::File => Vec::new(),
            };
            ("views", wrapper.kind, found)
        }
        _ => return Vec::new(),
    };
    let property = Property { database, place, kind, name };
    found.into_iter().map(|(parameter, value)| (property.name_of(parameter), value.clone())).collect()
}

/// A name with its database.
pub fn full(name: &Name) -> String {
    match &name.database {
        Some(database) => format!("{}.{}", written(database), written(&name.name)),
        None => written(&name.name),
    }
}

fn put(out: &mut String, text: &str) {
    out.push_str(text);
}

/// The names of an object's properties (spec 2.1).
struct Property<'a> {
    database: &'a str,
    place: &'a str,
    kind: SourceKind,
    name: &'a str,
}

impl Property<'_> {
    fn name_of(&self, parameter: &str) -> String {
        let Property { database, place, kind, name } = self;
        format!("databases.{database}.{place}.{}.{name}.{parameter}", kind.as_str())
    }

    /// As a script names it.
    fn of(&self, parameter: &str) -> String {
        format!("${{{}}}", self.name_of(parameter))
    }

    /// The value as a literal, or its property.
    fn literal(&self, parameter: &str, value: &str, style: Style) -> String {
        let has_one =
            style.properties && is_part_of_property(self.database) && is_part_of_property(self.name);
        if has_one { format!("'{}'", self.of(parameter)) } else { quoted(value) }
    }
}

/// Whether a name can be part of the name of a property, which is written inside a literal.
pub fn is_part_of_property(name: &str) -> bool {
    !name.contains(['\'', '$', '{', '}', '\n'])
}

fn put_database(out: &mut String, name: &str, database: &Database) {
    put(out, &format!("DATABASE {}", written(name)));
    if let Some(description) = &database.description {
        put(out, &format!(" {}", quoted(description)));
    }
}

fn common(out: &mut String, folder: Option<&String>, description: Option<&String>) {
    if let Some(folder) = folder {
        put(out, &format!("\n    FOLDER = {}", quoted(folder)));
    }
    if let Some(description) = description {
        put(out, &format!("\n    DESCRIPTION = {}", quoted(description)));
    }
}

fn clauses(out: &mut String, clauses: &[Clause]) {
    for Clause { word, text, assigned } in clauses {
        put(out, &format!("\n    {word}"));
        if *assigned {
            put(out, " =");
        }
        if !text.is_empty() {
            put(out, &format!(" {text}"));
        }
    }
}

fn put_source(out: &mut String, name: &str, source: &Source, property: &Property<'_>, style: Style) {
    let kind = source.kind().as_str().to_uppercase();
    put(out, &format!("DATASOURCE {kind} {}", written(name)));
    common(out, source.folder.as_ref(), source.description.as_ref());
    let path = |path: &str| {
        let path = property.literal("ROUTE.LOCAL.PATH", path, style);
        format!("\n    ROUTE LOCAL 'LocalConnection' {path}")
    };
    match &source.access {
        Access::Jdbc { uri, user, password } => {
            put(out, &format!("\n    DATABASEURI = {}", property.literal("DATABASEURI", uri, style)));
            if let Some(user) = user {
                put(out, &format!("\n    USERNAME = {}", property.literal("USERNAME", user, style)));
            }
            if password.is_some() && !style.stored {
                let (password, encrypted) =
                    (property.of("USERPASSWORD"), property.of("USERPASSWORD.ENCRYPTED"));
                put(out, &format!("\n    USERPASSWORD = '{password}' {encrypted}"));
            }
        }
        Access::Text(file) => {
            put(out, &path(&file.path));
            put_file(out, file);
        }
        Access::Json { path: file } => put(out, &path(file)),
    }
    clauses(out, &source.clauses);
}

fn put_file(out: &mut String, file: &TextFile) {
    let escaped = |text: &str| quoted(&text.replace('\t', "\\t").replace('\r', "\\r").replace('\n', "\\n"));
    let flag = |value: bool| if value { "TRUE" } else { "FALSE" };
    let _ = write!(
        out,
        " CHARSET = {}\n    COLUMNDELIMITER = {} ENDOFLINEDELIMITER = {} HEADER = {} IGNOREMATCHINGERRORS = {}",
        quoted(file.charset.as_str()),
        escaped(&file.delimiter),
        escaped(&file.end_of_line),
        flag(file.header),
        flag(file.ignore_errors),
    );
}

fn put_wrapper(out: &mut String, name: &str, wrapper: &Wrapper, property: &Property<'_>, style: Style) {
    let kind = wrapper.kind.as_str().to_uppercase();
    put(out, &format!("WRAPPER {kind} {}", written(name)));
    common(out, wrapper.folder.as_ref(), None);
    put(out, &format!("\n    DATASOURCENAME = {}", written(&wrapper.source)));
    match &wrapper.relation {
        Relation::Table { catalog, schema, name } => {
            if let Some(catalog) = catalog {
                put(out, &format!("\n    CATALOGNAME = {}", property.literal("CATALOGNAME", catalog, style)));
            }
            if let Some(schema) = schema {
                put(out, &format!("\n    SCHEMANAME = {}", property.literal("SCHEMANAME", schema, style)));
            }
            put(out, &format!("\n    RELATIONNAME = {}", quoted(name)));
        }
        Relation::Sentence(sentence) => put(out, &format!("\n    SQLSENTENCE = {}", quoted(sentence))),
        Relation::File => {}
    }
    if !wrapper.outputs.is_empty() {
        let outputs: Vec<String> = wrapper.outputs.iter().map(output).collect();
        put(out, &format!("\n    OUTPUTSCHEMA (\n        {}\n    )", outputs.join(",\n        ")));
    }
    clauses(out, &wrapper.clauses);
}

fn output(field: &Output) -> String {
    let mut out = format!("{} = {} : {}", written(&field.name), quoted(&field.column), quoted(&field.class));
    let (groups, words): (Vec<&String>, Vec<&String>) =
        field.flags.iter().partition(|flag| flag.starts_with('('));
    for flag in groups {
        put(&mut out, &format!(" {}", flag));
    }
    if !field.properties.is_empty() {
        put(&mut out, &format!(" ({})", properties(&field.properties)));
    }
    if field.not_null {
        put(&mut out, " NOT NULL");
    }
    for flag in words {
        put(&mut out, &format!(" {flag}"));
    }
    out
}

fn properties(properties: &[(String, String)]) -> String {
    let each = properties.iter().map(|(name, value)| {
        if value.is_empty() { written(name) } else { format!("{} = {}", written(name), quoted(value)) }
    });
    each.collect::<Vec<_>>().join(", ")
}

fn columns(columns: &[Column]) -> String {
    let each = columns.iter().map(|column| {
        let mut parts = Vec::new();
        if column.not_null {
            parts.push("notnull".to_owned());
        }
        if let Some(description) = &column.description {
            parts.push(format!("description = {}", quoted(description)));
        }
        if !column.properties.is_empty() {
            parts.push(properties(&column.properties));
        }
        let properties = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
        format!("{}:{}{properties}", written(&column.name), column.column_type.as_str())
    });
    format!("(\n        {}\n    )", each.collect::<Vec<_>>().join(",\n        "))
}

fn key(out: &mut String, columns: &[String]) {
    if !columns.is_empty() {
        let columns: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
        put(out, &format!("\n    PRIMARY KEY ( {} )", columns.join(", ")));
    }
}

fn put_table(out: &mut String, name: &str, table: &Table) {
    put(out, &format!("TABLE {}", written(name)));
    let i18n = table.i18n.as_ref().map(|i18n| format!(" I18N {}", written(i18n))).unwrap_or_default();
    put(out, &format!("{i18n} {}", columns(&table.columns)));
    common(out, table.folder.as_ref(), table.description.as_ref());
    key(out, &table.primary_key);
    clauses(out, &table.clauses);
    if let Some((kind, wrapper)) = &table.wrapper {
        let names: Vec<String> = table.columns.iter().map(|column| written(&column.name)).collect();
        put(out, &format!("\n    ADD SEARCHMETHOD {} (", written(&wrapper.name)));
        if !i18n.is_empty() {
            put(out, &format!("\n       {i18n}"));
        }
        put(out, &format!("\n        OUTPUTLIST ( {} )", names.join(", ")));
        put(out, &format!("\n        WRAPPER ({} {})\n    )", kind.as_str(), full(wrapper)));
    }
}

fn put_view(out: &mut String, name: &str, view: &View) {
    put(out, &format!("VIEW {}", written(name)));
    common(out, view.folder.as_ref(), view.description.as_ref());
    key(out, &view.primary_key);
    clauses(out, &view.clauses);
    put(out, &format!("\n    AS {}", view.select));
}

fn put_interface(out: &mut String, name: &str, view: &Interface) {
    put(out, &format!("INTERFACE VIEW {} {}", written(name), columns(&view.columns)));
    common(out, view.folder.as_ref(), view.description.as_ref());
    if let Some(implementation) = &view.implementation {
        put(out, &format!("\n    SET IMPLEMENTATION {}", full(implementation)));
    }
    clauses(out, &view.clauses);
}
