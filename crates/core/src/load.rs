//! The port to new databases: making them and filling them, for restores. `drivers` implements it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::pin::Pin;

use arrow_array::RecordBatch;
use futures_core::Stream;

use crate::ids::BoxFuture;
use crate::snapshot::Tools;
use crate::source::{CancellationToken, ConnectSpec, SourceError};

/// The definitions in a backup, and how to use them.
#[derive(Debug, Clone)]
pub struct Definitions {
    /// What the snapshot wrote.
    pub file: PathBuf,
    /// An empty folder for the programs that read it.
    pub scratch: PathBuf,
    /// Also who owns what, and who may do what.
    pub owners: bool,
    /// `None`: everything.
    pub only: Option<Choice>,
    pub tools: Tools,
}

/// Some of the tables of a backup, and schemas of which everything is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choice {
    pub schemas: BTreeSet<String>,
    /// Schema and name.
    pub tables: BTreeSet<(String, String)>,
}

/// Definitions come in two parts: tables can be filled between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// What rows need: schemas, types, tables.
    BeforeRows,
    /// What needs rows: keys, indexes, references, triggers, the state of sequences.
    AfterRows,
}

/// The rows of one table.
pub type Rows = Pin<Box<dyn Stream<Item = Result<RecordBatch, SourceError>> + Send>>;

/// Fills databases of one kind, with sessions of its own: those that read stay read-only. Everything ends when the token
/// is cancelled.
pub trait Loader: Send + Sync + 'static {
    /// Makes a database on the server of `spec`, or takes one that is empty.
    fn create<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        name: &'a str,
        settings: &'a BTreeMap<String, String>,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<(), SourceError>>;

    /// Carries out one part of the definitions in the database of `spec`. Returns what of the choice had to be left out, one
    /// sentence each.
    fn define<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        definitions: &'a Definitions,
        stage: Stage,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<Vec<String>, SourceError>>;

    /// Writes all rows, or none. Returns their number.
    fn load<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        table: (&'a str, &'a str),
        columns: &'a [String],
        rows: Rows,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<u64, SourceError>>;
}
