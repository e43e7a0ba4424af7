//! The ports to the users' databases and to the result formats. `drivers` implements both.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use arrow_array::RecordBatch;
use arrow_schema::{Field, SchemaRef};
use bytes::Bytes;
use futures_core::Stream;
use jiff::tz::TimeZone;

pub use tokio_util::sync::CancellationToken;

use crate::datasource::DatabaseType;
use crate::ids::{BoxFuture, DatasourceId};
use crate::load::Loader;
use crate::schema::Catalog;
use crate::secret::Secret;
use crate::snapshot::Snapshots;
use crate::table::{Reader, Table};

/// Where and how to connect. Everything has been checked: the address against `[outbound]`, a file path against the
/// configured roots.
#[derive(Debug, Clone)]
pub struct ConnectSpec {
    /// Connections are pooled per datasource and version: an update opens new ones and lets the old ones drain.
    pub datasource: DatasourceId,
    pub version: i64,
    pub database_type: DatabaseType,
    pub target: Target,
    pub tls: TlsMode,
    /// The session's time zone. If the server does not support it, the driver uses UTC and says so in `SessionZone`.
    pub time_zone: TimeZone,
    /// How many connections the datasource may have at a time. Everything that connects has a permit for one.
    pub max_connections: usize,
    pub permit: Permit,
    pub connect_timeout: Duration,
}

/// Permission to have one connection to a datasource. It is given back when its last copy is dropped, so a driver keeps a
/// copy for as long as it uses the connection, which may be longer than its statement. The default permits any number.
#[derive(Clone, Default)]
pub struct Permit(#[expect(dead_code, reason = "held, never read")] Option<Arc<dyn Send + Sync>>);

impl Permit {
    /// Dropping `held` gives the permit back.
    pub fn new(held: impl Send + Sync + 'static) -> Permit {
        Permit(Some(Arc::new(held)))
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Permit")
    }
}

/// How many connections to a datasource some work needs, of how many that the datasource may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    pub wanted: usize,
    pub limit: usize,
}

/// The permits for some work; for a datasource that may have fewer connections than were wanted, as many as it may have.
pub type Permits = BTreeMap<DatasourceId, Vec<Permit>>;

#[derive(Debug, Clone)]
pub enum Target {
    Network {
        host: String,
        port: u16,
        /// The addresses the host resolved to when it was checked; the driver connects to these and no others.
        addresses: Vec<std::net::SocketAddr>,
        username: String,
        password: Secret,
        database: String,
    },
    /// A SQLite file, opened read-only.
    File(PathBuf),
    /// Tables of this server, as one reader sees them.
    Tables {
        /// The server's name for the catalog that contains them.
        catalog: String,
        reader: Reader,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// Encrypted if the server supports it; the certificate is not checked.
    Prefer,
    /// Always encrypted; the certificate is not checked.
    Require,
    /// Always encrypted; certificate and host name are checked against the built-in roots and `[sources] ca_file`.
    Verify,
}

/// An error from a driver.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    pub kind: SourceErrorKind,
    /// For the user: the database's own message if there is one, otherwise what failed and what to do.
    pub message: String,
    /// The database's own error code (`42P01`, `1146`, `SQLITE_ERROR`).
    pub code: Option<String>,
    /// Position in the SQL, in characters, starting at 1.
    pub position: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceErrorKind {
    /// The host, port, TLS or credentials are wrong, or the server does not respond.
    Connect,
    /// The database refused the statement.
    Query,
    /// The statement could write or change the session; it was not sent.
    NotReadOnly,
    /// The connection broke during the query.
    Lost,
    TimedOut,
    Cancelled,
    /// A value or an option that this driver does not support; the message says what to write instead.
    Unsupported,
}

impl SourceError {
    pub fn new(kind: SourceErrorKind, message: impl Into<String>) -> SourceError {
        SourceError { kind, message: message.into(), code: None, position: None }
    }
}

/// What a connection test found out about the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    pub version: String,
    pub zone: SessionZone,
}

/// The time zone the session actually uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionZone {
    /// The requested one.
    AsAsked,
    /// UTC, because the server has no zone tables (common for MySQL). The parameter language must write out offsets.
    UtcForLackOfZoneTables,
}

#[derive(Debug, Clone)]
pub struct Query {
    /// A single read-only statement.
    pub sql: String,
    pub time_limit: Duration,
    /// Maximum size of a batch, in rows and approximately in bytes: this bounds the memory of a stream.
    pub batch_rows: usize,
    pub batch_bytes: usize,
    /// Digits, and digits after the point, of the columns that the reader wants as decimals of this size. A driver may
    /// return another type, but no value that does not fit. Empty: all columns as always.
    pub decimals: Vec<Option<(u8, i8)>>,
}

/// A result as it arrives. Dropping it before its end cancels the statement in the database.
pub struct QueryStream {
    pub schema: SchemaRef,
    pub batches: Pin<Box<dyn Stream<Item = Result<RecordBatch, SourceError>> + Send>>,
}

/// A kind of database. Every call ends when the token is cancelled, and the cancel is passed on to the database.
pub trait Driver: Send + Sync + 'static {
    fn test<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<ServerInfo, SourceError>>;

    fn introspect<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        row_counts: bool,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Catalog, SourceError>>;

    /// Runs one statement in a read-only transaction and rolls it back.
    fn query<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        query: Query,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<QueryStream, SourceError>>;

    /// Closes the idle connections of a datasource that was changed or deleted.
    fn forget(&self, datasource: DatasourceId);
}

/// All drivers, by database type.
pub trait Drivers: Send + Sync + 'static {
    fn driver(&self, database_type: DatabaseType) -> Option<Arc<dyn Driver>>;

    /// What takes snapshots of such a database, if it can be backed up.
    fn snapshots(&self, _: DatabaseType) -> Option<Arc<dyn Snapshots>> {
        None
    }

    /// What fills such a database, if backups can be restored into one.
    fn loader(&self, _: DatabaseType) -> Option<Arc<dyn Loader>> {
        None
    }
}

/// A file of rows as a table.
#[derive(Debug, Clone)]
pub struct TextSource {
    /// Open for reading; its position does not matter.
    pub file: Arc<std::fs::File>,
    /// For errors, as its owner wrote it.
    pub name: String,
    pub format: TextFormat,
    /// The columns to be read, with their types.
    pub schema: SchemaRef,
    /// Where each of these columns is in a row.
    pub fields: Vec<TextField>,
    /// How many fields a row has, if it has no names.
    pub width: usize,
    /// Rows that do not match the columns are left out instead of being an error.
    pub skip_faults: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextField {
    /// In the header, or in an object.
    pub name: String,
    /// Without a header, starting at 0.
    pub position: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    Delimited {
        delimiter: u8,
        /// A line ends here, or with any line break if this is a part of one.
        end_of_line: u8,
        /// The first row has the names of the columns.
        header: bool,
        /// ISO-8859-1 instead of UTF-8.
        latin1: bool,
    },
    /// An array of flat objects, or one object a line.
    Json,
}

/// Reads files of rows.
pub trait TextFiles: Send + Sync + 'static {
    fn table(&self, source: TextSource) -> Arc<dyn Table>;
}

/// The format in which a result is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResultFormat {
    Json,
    Csv,
    ArrowStream,
    Parquet,
}

/// A column of JSON rows.
#[derive(Debug)]
pub struct JsonColumn<'a> {
    pub field: &'a Field,
    /// Whether its numbers are JSON strings.
    pub quoted: bool,
}

/// What a JSON document has around its array of rows: each dialect has its own document.
pub trait Envelope: std::fmt::Debug + Send + Sync {
    /// Writes everything before the array.
    fn head(&self, columns: &[JsonColumn<'_>], out: &mut Vec<u8>) -> std::io::Result<()>;

    /// Everything after the array.
    fn tail(&self) -> &[u8];
}

#[derive(Debug, Clone)]
pub struct EncodeOptions {
    pub format: ResultFormat,
    /// For JSON; without one, the document is the array of rows.
    pub envelope: Option<Arc<dyn Envelope>>,
    /// Instants are shown in this zone.
    pub time_zone: TimeZone,
    /// How many rows there must be; fewer are an error. `None`: that is not known before.
    pub row_count: Option<u64>,
    /// Returns no more rows than this.
    pub most_rows: Option<u64>,
    pub csv_separator: u8,
    /// 64-bit integers as JSON strings, for clients whose numbers are doubles.
    pub integers_as_strings: bool,
}

pub type ByteStream = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// Writes a result in the form in which it is stored (compressed Arrow IPC), batch by batch.
pub trait ResultWriter: Send {
    /// Appends the batch and returns the bytes that are ready to be stored.
    fn write(&mut self, batch: &RecordBatch) -> std::io::Result<Bytes>;

    /// The bytes that end the stream.
    fn finish(&mut self) -> std::io::Result<Bytes>;
}

/// The result encoders, as planes and faces see them.
pub trait ResultCodec: Send + Sync + 'static {
    fn writer(&self, schema: &SchemaRef) -> std::io::Result<Box<dyn ResultWriter>>;

    /// Converts the stored form to a format, streaming, with bounded memory.
    fn encode(&self, kept: ByteStream, options: EncodeOptions) -> ByteStream;
}
