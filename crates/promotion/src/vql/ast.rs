//! What VQL statements say, as typed values.

use std::fmt;

use landreeve_core::Secret;

/// A statement. Objects are created as `Definition`s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    EnterSingleUserMode,
    ExitSingleUserMode,
    Connect {
        database: String,
    },
    Close,
    Create {
        replace: bool,
        name: Name,
        definition: Definition,
    },
    /// Keeps these clauses with the database.
    AlterDatabase {
        name: String,
        clauses: Vec<Clause>,
    },
    Drop(Drop),
    Describe(Describe),
    /// Kept as text and returned by DESC, but without effect.
    Keep {
        replace: bool,
        name: Name,
        kept: Kept,
    },
}

/// The name of an object; without a database it is the connected one's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    pub database: Option<String>,
    pub name: String,
}

impl Name {
    pub fn new(name: impl Into<String>) -> Name {
        Name { database: None, name: name.into() }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.database {
            Some(database) => write!(f, "{database}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// What is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Definition {
    Database(Database),
    Folder { description: Option<String> },
    Source(Source),
    Wrapper(Wrapper),
    Table(Table),
    View(View),
    Interface(Interface),
}

impl Definition {
    /// The clauses that are kept without effect.
    pub fn clauses(&self) -> &[Clause] {
        match self {
            Definition::Database(database) => &database.clauses,
            Definition::Folder { .. } => &[],
            Definition::Source(source) => &source.clauses,
            Definition::Wrapper(wrapper) => &wrapper.clauses,
            Definition::Table(table) => &table.clauses,
            Definition::View(view) => &view.clauses,
            Definition::Interface(view) => &view.clauses,
        }
    }
}

/// A clause that is kept without effect, as canonical text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// In upper case.
    pub word: String,
    /// Everything after the word, without the `=`.
    pub text: String,
    /// Whether there is a `=`.
    pub assigned: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Database {
    pub description: Option<String>,
    pub clauses: Vec<Clause>,
}

/// The kinds of source that are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKind {
    Jdbc,
    /// Delimited text.
    Df,
    Json,
}

impl SourceKind {
    pub const ALL: [SourceKind; 3] = [SourceKind::Jdbc, SourceKind::Df, SourceKind::Json];

    /// As a keyword, in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            SourceKind::Jdbc => "jdbc",
            SourceKind::Df => "df",
            SourceKind::Json => "json",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub access: Access,
    pub folder: Option<String>,
    pub description: Option<String>,
    pub clauses: Vec<Clause>,
}

/// How a source is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    Jdbc { uri: String, user: Option<String>, password: Option<Secret> },
    Text(TextFile),
    Json { path: String },
}

impl Source {
    pub const fn kind(&self) -> SourceKind {
        match self.access {
            Access::Jdbc { .. } => SourceKind::Jdbc,
            Access::Text(_) => SourceKind::Df,
            Access::Json { .. } => SourceKind::Json,
        }
    }
}

/// A file of delimited text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFile {
    pub path: String,
    pub charset: Charset,
    pub delimiter: String,
    pub end_of_line: String,
    /// The first line has the names of the columns.
    pub header: bool,
    /// Rows that do not match the columns are left out instead of being an error.
    pub ignore_errors: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Charset {
    #[default]
    Utf8,
    Latin1,
}

impl Charset {
    pub const fn as_str(self) -> &'static str {
        match self {
            Charset::Utf8 => "UTF-8",
            Charset::Latin1 => "ISO-8859-1",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapper {
    pub kind: SourceKind,
    pub source: String,
    pub relation: Relation,
    /// Empty: not given.
    pub outputs: Vec<Output>,
    pub folder: Option<String>,
    pub clauses: Vec<Clause>,
}

/// What a wrapper reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    Table { catalog: Option<String>, schema: Option<String>, name: String },
    Sentence(String),
    File,
}

/// A field of a wrapper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub name: String,
    /// The column in the source.
    pub column: String,
    /// A Java class.
    pub class: String,
    /// `sourcetypesize` and others, in the order in which they are written.
    pub properties: Vec<(String, String)>,
    pub not_null: bool,
    /// `(OPT)`, `SORTABLE` and others, in upper case.
    pub flags: Vec<String>,
}

impl Output {
    pub fn property(&self, name: &str) -> Option<&str> {
        let found = self.properties.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// A base view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub i18n: Option<String>,
    pub columns: Vec<Column>,
    pub folder: Option<String>,
    pub description: Option<String>,
    pub primary_key: Vec<String>,
    /// Kind and name; without one, the view has no rows that could be read.
    pub wrapper: Option<(SourceKind, Name)>,
    pub clauses: Vec<Clause>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub column_type: ColumnType,
    pub not_null: bool,
    pub description: Option<String>,
    /// Other properties (`sourcetypeid = '4'`), in the order in which they are written.
    pub properties: Vec<(String, String)>,
}

/// VQL's types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnType {
    Int,
    Long,
    Float,
    Double,
    /// Without a size it has the wrapper's, otherwise (38,10).
    Decimal,
    Text,
    Boolean,
    Blob,
    LocalDate,
    Time,
    Timestamp,
    TimestampTz,
}

impl ColumnType {
    pub const ALL: [ColumnType; 12] = [
        ColumnType::Int,
        ColumnType::Long,
        ColumnType::Float,
        ColumnType::Double,
        ColumnType::Decimal,
        ColumnType::Text,
        ColumnType::Boolean,
        ColumnType::Blob,
        ColumnType::LocalDate,
        ColumnType::Time,
        ColumnType::Timestamp,
        ColumnType::TimestampTz,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            ColumnType::Int => "int",
            ColumnType::Long => "long",
            ColumnType::Float => "float",
            ColumnType::Double => "double",
            ColumnType::Decimal => "decimal",
            ColumnType::Text => "text",
            ColumnType::Boolean => "boolean",
            ColumnType::Blob => "blob",
            ColumnType::LocalDate => "localdate",
            ColumnType::Time => "time",
            ColumnType::Timestamp => "timestamp",
            ColumnType::TimestampTz => "timestamptz",
        }
    }

    /// `date`, which VQL keeps for old scripts, is an instant.
    pub fn find(word: &str) -> Option<ColumnType> {
        let word = match word {
            "date" => "timestamptz",
            "integer" => "int",
            "bigint" => "long",
            "varchar" | "string" | "xml" => "text",
            other => other,
        };
        ColumnType::ALL.into_iter().find(|known| known.as_str() == word)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    pub folder: Option<String>,
    pub description: Option<String>,
    pub primary_key: Vec<String>,
    /// The SELECT as its author wrote it, with values in place of properties.
    pub select: String,
    /// Where the SELECT starts in the statement's text.
    pub select_at: usize,
    pub clauses: Vec<Clause>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub columns: Vec<Column>,
    pub folder: Option<String>,
    pub description: Option<String>,
    /// Without one it has columns, but no rows that could be read.
    pub implementation: Option<Name>,
    pub clauses: Vec<Clause>,
}

/// The kinds of object that are kept without effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeptKind {
    Association,
    Jar,
    Map,
    Policy,
    Role,
    Setting,
    Statistics,
    Tag,
    Type,
    User,
    WebService,
    WebSetting,
    /// Layout and cache of a view.
    ViewOption,
    /// CHOWN
    Owner,
    /// GRANT and REVOKE in ALTER USER and ALTER ROLE.
    Grant,
    /// Deployments of web services.
    Deployment,
}

impl KeptKind {
    pub const ALL: [KeptKind; 16] = [
        KeptKind::Association,
        KeptKind::Jar,
        KeptKind::Map,
        KeptKind::Policy,
        KeptKind::Role,
        KeptKind::Setting,
        KeptKind::Statistics,
        KeptKind::Tag,
        KeptKind::Type,
        KeptKind::User,
        KeptKind::WebService,
        KeptKind::WebSetting,
        KeptKind::ViewOption,
        KeptKind::Owner,
        KeptKind::Grant,
        KeptKind::Deployment,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            KeptKind::Association => "association",
            KeptKind::Jar => "jar",
            KeptKind::Map => "map",
            KeptKind::Policy => "policy",
            KeptKind::Role => "role",
            KeptKind::Setting => "setting",
            KeptKind::Statistics => "statistics",
            KeptKind::Tag => "tag",
            KeptKind::Type => "type",
            KeptKind::User => "user",
            KeptKind::WebService => "webservice",
            KeptKind::WebSetting => "websetting",
            KeptKind::ViewOption => "view option",
            KeptKind::Owner => "owner",
            KeptKind::Grant => "grant",
            KeptKind::Deployment => "deployment",
        }
    }

    /// Whether it belongs to a database; the others are the node's.
    pub const fn in_database(self) -> bool {
        matches!(
            self,
            KeptKind::Association
                | KeptKind::Map
                | KeptKind::Statistics
                | KeptKind::Type
                | KeptKind::WebService
                | KeptKind::ViewOption
                | KeptKind::Owner
                | KeptKind::Deployment
        )
    }

    /// Whether its statement begins with CREATE, and so can have OR REPLACE.
    pub const fn is_created(self) -> bool {
        !matches!(
            self,
            KeptKind::Setting
                | KeptKind::WebSetting
                | KeptKind::ViewOption
                | KeptKind::Owner
                | KeptKind::Grant
                | KeptKind::Deployment
        )
    }
}

/// A statement that is kept. Another with the same kind and name takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    pub kind: KeptKind,
    /// Canonical text, without CREATE.
    pub text: String,
    /// The number of rows of a view, from its statistics.
    pub rows: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drop {
    pub target: Target,
    pub name: Name,
    pub if_exists: bool,
    pub cascade: bool,
}

/// What a DROP is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Database,
    Folder,
    Source(SourceKind),
    Wrapper(SourceKind),
    /// Base views, views and interface views.
    View,
    Kept(KeptKind),
}

/// `DESC VQL …`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Describe {
    pub what: Described,
    pub options: Options,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Described {
    Database(String),
    Elements(Vec<Element>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element {
    View(Name),
    Source(SourceKind, Name),
}

/// What the text of DESC contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// First drops what it creates.
    pub drop_elements: bool,
    /// Writes CREATE OR REPLACE.
    pub replace_existing: bool,
    /// Writes properties in place of what differs between environments.
    pub include_properties: bool,
    /// Includes everything the objects depend on.
    pub include_dependencies: bool,
}
