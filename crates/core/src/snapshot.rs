//! The port to consistent copies of the users' databases, for backups. `drivers` implements it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::ids::BoxFuture;
use crate::schema::ColumnInfo;
use crate::source::{CancellationToken, ConnectSpec, QueryStream, SourceError};

#[derive(Debug, Clone)]
pub struct SnapshotOptions {
    /// An empty folder for the files of the snapshot. The caller deletes it.
    pub scratch: PathBuf,
    /// How long to wait for a table that another session has locked.
    pub lock_timeout: Duration,
    /// How many tables are read at the same time, where a database can do so: what `Snapshots::connections` was asked for.
    pub readers: usize,
    /// In which order rows are read, where a database stores them in another one than that of their key.
    pub row_order: RowOrder,
    /// A larger value is an error.
    pub max_value_bytes: usize,
    pub tools: Tools,
}

/// In which order the rows of a table are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RowOrder {
    /// Later backups have the same rows in the same places.
    #[default]
    Key,
    /// As they are stored, which takes the database less.
    Physical,
}

/// Programs of the databases' makers, as names or paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    pub pg_dump: PathBuf,
    pub pg_restore: PathBuf,
}

impl Default for Tools {
    fn default() -> Tools {
        Tools { pg_dump: "pg_dump".into(), pg_restore: "pg_restore".into() }
    }
}

/// What a snapshot contains.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    pub server_version: String,
    /// What a new database must have in common with it, by names that its driver knows.
    pub settings: BTreeMap<String, String>,
    /// The programs that made its files, each with its version.
    pub tools: BTreeMap<String, String>,
    pub tables: Vec<SnapshotTable>,
    pub files: Vec<SnapshotFile>,
    /// What it does not contain, or not as of its moment. For users, one sentence each.
    pub warnings: Vec<String>,
}

/// A file of a snapshot, in the scratch folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    /// What it is called in a backup.
    pub name: String,
    pub path: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotTable {
    pub schema: String,
    pub name: String,
    /// The statement that creates it, where the database keeps one.
    pub definition: Option<String>,
    pub columns: Vec<ColumnInfo>,
    pub rows: TableRows,
    /// The partitioned table (schema, name) that it is a part of.
    pub partition_of: Option<(String, String)>,
    /// The table (schema, name) that its rows are written to instead, because they may belong to another part of it there.
    pub through: Option<(String, String)>,
}

/// Where the rows of a table are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableRows {
    /// In one of the files: so many, if they can be counted.
    InFile(Option<u64>),
    /// They can be read, in the order of these columns.
    Readable(Vec<String>),
}

/// A database as it was at one moment, for as long as this exists.
pub trait Snapshot: Send + Sync {
    fn contents(&self) -> &Contents;

    /// How many tables can be read at the same time.
    fn readers(&self) -> usize {
        1
    }

    /// The rows of a readable table, by its position. Every call has a session of its own until its stream ends; where a
    /// snapshot has one connection, a call fails until the stream before it was read to its end.
    fn rows<'a>(
        &'a self,
        table: usize,
        batch_rows: usize,
        batch_bytes: usize,
    ) -> BoxFuture<'a, Result<QueryStream, SourceError>>;

    /// Ends it when everything has been read. An error: what was read is not of one moment.
    fn end(self: Box<Self>) -> BoxFuture<'static, Result<(), SourceError>>;
}

/// Takes snapshots of one kind of database. Everything ends when the token is cancelled.
pub trait Snapshots: Send + Sync + 'static {
    /// How many connections a snapshot uses at a time whose tables are read by so many readers at the same time.
    fn connections(&self, readers: usize) -> usize;

    fn take<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        options: SnapshotOptions,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Box<dyn Snapshot>, SourceError>>;
}
