//! Executes a script on a copy of a catalog: all of it, or nothing.
//!
//! A statement that lacks something waits until that appears, so the order of a script does not matter. `create` makes
//! objects, `drop` removes them, `replan` looks at what depends on replaced views.

mod create;
mod drop;
mod replan;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use landreeve_core::table::ViewPlanner;

use self::replan::Replanned;
use super::{Catalog, Connection, Key, Kind, describe};
use crate::vql::ast::{Definition, Name, Statement};
use crate::vql::masked::without_passwords;
use crate::vql::place::{Fault, Place};
use crate::vql::script::Piece;

/// A statement of a script, or why it is none.
pub struct Input {
    pub piece: Piece,
    pub statement: Result<Statement, Fault>,
    /// Of a statement that creates a JDBC source: where its rows are.
    pub connection: Option<Result<Connection, String>>,
}

/// What became of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// In its script, starting at 0.
    pub index: usize,
    pub place: Place,
    /// As written; values of properties are not in it.
    pub text: String,
    pub end: End,
    pub message: String,
    /// Whether the message is what the statement was to return.
    pub has_output: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Executed,
    /// Kept without effect.
    Stored,
    Failed,
}

impl End {
    pub const fn as_str(self) -> &'static str {
        match self {
            End::Executed => "executed",
            End::Stored => "stored",
            End::Failed => "failed",
        }
    }
}

/// The end of a script.
pub struct Outcome {
    /// The new objects; only to be used if nothing failed.
    pub catalog: Catalog,
    pub statements: Vec<Done>,
    /// Views that no longer plan because something below them was replaced, with the reason.
    pub invalid: Vec<(Key, String)>,
    /// Views that would become too large or depend on themselves: nothing is applied.
    pub refused: Vec<(Key, String)>,
}

impl Outcome {
    pub fn failed(&self) -> bool {
        !self.refused.is_empty() || self.statements.iter().any(|done| done.end == End::Failed)
    }
}

/// Why a statement did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    place: Option<Place>,
    message: String,
    /// Its success may come with any of these.
    lacks: Vec<Key>,
}

impl Failure {
    fn new(message: impl Into<String>) -> Failure {
        Failure { place: None, message: message.into(), lacks: Vec::new() }
    }

    fn lacking(key: Key, message: impl Into<String>) -> Failure {
        Failure { lacks: vec![key], ..Failure::new(message) }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        Failure { place: Some(fault.place), ..Failure::new(fault.message) }
    }
}

/// What a statement did.
struct Success {
    end: End,
    message: String,
    /// What it created or replaced.
    appeared: Option<Key>,
}

impl Success {
    fn executed(appeared: Option<Key>) -> Success {
        Success { end: End::Executed, message: String::new(), appeared }
    }
}

struct Execution<'a> {
    catalog: Catalog,
    /// What depends directly on each object.
    users: BTreeMap<Key, BTreeSet<Key>>,
    planner: &'a mut dyn ViewPlanner,
    inputs: &'a [Input],
    /// The database that each statement is connected to.
    connected: Vec<Option<String>>,
    /// Counts statements that succeeded.
    step: usize,
    /// When the columns of a view last changed, and when a view was last planned.
    changed: BTreeMap<Key, usize>,
    planned: BTreeMap<Key, usize>,
    /// Wrappers that were replaced.
    rewrapped: BTreeSet<Key>,
}

/// Runs one script, or several as one. Never fails as a whole: the outcome says what each statement did, in their order.
pub fn execute(base: &Catalog, inputs: &[Input], planner: &mut dyn ViewPlanner) -> Outcome {
    let mut execution = Execution {
        catalog: base.clone(),
        users: base.users(),
        planner,
        inputs,
        connected: connected(inputs),
        step: 0,
        changed: BTreeMap::new(),
        planned: BTreeMap::new(),
        rewrapped: BTreeSet::new(),
    };
    let statements = execution.run();
    let failed = statements.iter().any(|done| done.end == End::Failed);
    let Replanned { invalid, refused } = if failed { Replanned::default() } else { execution.replan() };
    Outcome { catalog: execution.catalog, statements, invalid, refused }
}

/// CONNECT and CLOSE nest; where a statement stands decides its database, not when it succeeds. A script starts without
/// a database, whatever the one before it left open.
pub(crate) fn connected(inputs: &[Input]) -> Vec<Option<String>> {
    let mut stack: Vec<String> = Vec::new();
    let place = |input: &Input| {
        if input.piece.index == 0 {
            stack.clear();
        }
        match &input.statement {
            Ok(Statement::Connect { database }) => stack.push(database.clone()),
            Ok(Statement::Close) => drop(stack.pop()),
            _ => {}
        }
        stack.last().cloned()
    };
    inputs.iter().map(place).collect()
}

impl Execution<'_> {
    fn run(&mut self) -> Vec<Done> {
        let mut done: Vec<Option<Done>> = self.inputs.iter().map(|_| None).collect();
        let mut failures: BTreeMap<usize, Failure> = BTreeMap::new();
        let mut waiting: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
        for next in 0..self.inputs.len() {
            let mut ready = VecDeque::from([next]);
            while let Some(index) = ready.pop_front() {
                match self.statement(index) {
                    Ok(success) => {
                        self.step += 1;
                        failures.remove(&index);
                        if let Some(key) = &success.appeared {
                            let waiting = waiting.remove(key).unwrap_or_default();
                            ready.extend(waiting.into_iter().filter(|index| failures.contains_key(index)));
                        }
                        self.report(&mut done, index, success.end, None, success.message);
                    }
                    Err(failure) => {
                        for key in &failure.lacks {
                            waiting.entry(key.clone()).or_default().push(index);
                        }
                        failures.insert(index, failure);
                    }
                }
            }
        }
        for (index, failure) in failures {
            self.report(&mut done, index, End::Failed, failure.place, failure.message);
        }
        done.into_iter().flatten().collect()
    }

    fn report(
        &self,
        done: &mut [Option<Done>],
        index: usize,
        end: End,
        place: Option<Place>,
        message: String,
    ) {
        let (Some(slot), Some(input)) = (done.get_mut(index), self.inputs.get(index)) else { return };
        let text = without_passwords(&input.piece.written);
        let has_output = end == End::Executed && matches!(input.statement, Ok(Statement::Describe(_)));
        let place = place.unwrap_or(input.piece.place);
        *slot = Some(Done { index: input.piece.index, place, text, end, message, has_output });
    }

    fn statement(&mut self, index: usize) -> Result<Success, Failure> {
        let Some(input) = self.inputs.get(index) else { return Err(Failure::new("no such statement")) };
        let statement = input.statement.as_ref().map_err(|fault| Failure::from(fault.clone()))?;
        match statement {
            Statement::EnterSingleUserMode | Statement::ExitSingleUserMode | Statement::Close => {
                Ok(Success::executed(None))
            }
            Statement::Connect { database } => {
                self.database(database)?;
                Ok(Success::executed(None))
            }
            Statement::Create { replace, name, definition } => {
                let key = self.create(index, *replace, name, definition)?;
                let words: Vec<&str> =
                    definition.clauses().iter().map(|clause| clause.word.as_str()).collect();
                let message = match words.as_slice() {
                    [] => String::new(),
                    words => format!("kept without effect: {}", words.join(", ")),
                };
                Ok(Success { message, ..Success::executed(Some(key)) })
            }
            Statement::AlterDatabase { name, clauses } => {
                self.alter_database(name, clauses)?;
                Ok(Success { end: End::Stored, ..Success::executed(None) })
            }
            Statement::Keep { replace, name, kept } => {
                let key = self.keep(index, *replace, name, kept)?;
                Ok(Success { end: End::Stored, ..Success::executed(Some(key)) })
            }
            Statement::Drop(drop) => {
                self.drop(index, drop)?;
                Ok(Success::executed(None))
            }
            Statement::Describe(wanted) => {
                let database = self.connected.get(index).and_then(Option::as_deref);
                let text = describe::text(&self.catalog, database, wanted).map_err(Failure::new)?;
                Ok(Success { message: text, ..Success::executed(None) })
            }
        }
    }

    /// A database that exists.
    fn database(&self, name: &str) -> Result<(), Failure> {
        let key = Key::database(name);
        if self.catalog.contains(&key) {
            return Ok(());
        }
        Err(Failure::lacking(key, format!("Database '{name}' not found")))
    }

    /// The database of an object: the one in its name, or the connected one.
    fn database_of(&self, index: usize, name: &Name) -> Result<String, Failure> {
        let connected = self.connected.get(index).cloned().flatten();
        let database = name.database.clone().or(connected);
        let database = database.ok_or_else(|| {
            Failure::new("no database is connected; write CONNECT DATABASE before this statement")
        })?;
        self.database(&database)?;
        Ok(database)
    }

    /// Puts an object in its place and keeps what is known about dependants.
    fn put(&mut self, key: Key, object: super::Object) {
        if let Some(before) = self.catalog.get(&key).cloned() {
            for needed in &before.needs {
                if let Some(users) = self.users.get_mut(needed) {
                    users.remove(&key);
                }
            }
            if matches!(key.kind, Kind::Wrapper(_)) {
                self.rewrapped.insert(key.clone());
            }
        }
        // Even if it has the same columns as before: a view above it may have been invalid already.
        if key.kind == Kind::View {
            self.changed.insert(key.clone(), self.step);
        }
        for needed in &object.needs {
            self.users.entry(needed.clone()).or_default().insert(key.clone());
        }
        if key.kind == Kind::View {
            self.planned.insert(key.clone(), self.step);
        }
        self.catalog.insert(key, object);
    }

    fn take(&mut self, key: &Key) {
        if let Some(before) = self.catalog.remove(key) {
            for needed in &before.needs {
                if let Some(users) = self.users.get_mut(needed) {
                    users.remove(key);
                }
            }
        }
    }

    /// What depends directly on an object.
    fn users_of(&self, key: &Key) -> BTreeSet<Key> {
        self.users.get(key).cloned().unwrap_or_default()
    }

    /// The definition of an object, if it has one.
    fn definition(&self, key: &Key) -> Option<&Definition> {
        self.catalog.get(key).and_then(|object| object.definition())
    }
}
