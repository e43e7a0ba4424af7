//! The writer's connection to SQLite. A statement runs immediately on the calling thread, which is the writer's:
//! switching to another thread and back costs more than most statements. Does not belong here: use outside the writer,
//! which would block a thread that serves requests.

use std::path::Path;

use landreeve_core::{Error, Result};
use rusqlite::types::{FromSql, Value, ValueRef};
use rusqlite::{Connection, OpenFlags, Statement, ffi};

use super::conn::{Arg, Row, already_there, check, gone, unavailable};
use super::{BUSY_TIMEOUT, STATEMENTS};

/// Size of the page cache, in KiB.
const PAGES_KIB: i64 = 16 * 1_024;

/// The values of a row on this connection.
pub type Values = Box<[Value]>;

pub struct Direct {
    conn: Connection,
    /// A statement has failed since the last check.
    spoiled: bool,
}

impl Direct {
    /// Opens an existing file in WAL mode, with durable commits: what is committed is on disk.
    pub fn open(path: &Path) -> Result<Direct> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags).map_err(failed)?;
        conn.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        conn.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        conn.pragma_update(None, "foreign_keys", true).map_err(failed)?;
        conn.pragma_update(None, "cache_size", -PAGES_KIB).map_err(failed)?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(Direct { conn, spoiled: false })
    }

    /// Whether a statement has failed since the last call.
    pub fn take_spoiled(&mut self) -> bool {
        std::mem::take(&mut self.spoiled)
    }

    pub fn all(&mut self, sql: &str, args: &[Arg]) -> Result<Vec<Row>> {
        check(sql, args)?;
        let found = self.select(sql, args);
        self.spoiled |= found.is_err();
        found
    }

    fn select(&self, sql: &str, args: &[Arg]) -> Result<Vec<Row>> {
        let mut statement = self.conn.prepare_cached(sql).map_err(failed)?;
        bind(&mut statement, args)?;
        let columns = statement.column_count();
        let mut rows = statement.raw_query();
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let values: rusqlite::Result<Values> = (0..columns).map(|at| row.get(at)).collect();
            found.push(Row::Direct(values.map_err(failed)?));
        }
        Ok(found)
    }

    /// Number of changed rows.
    pub fn exec(&mut self, sql: &str, args: &[Arg]) -> Result<u64> {
        check(sql, args)?;
        let done = self.change(sql, args);
        self.spoiled |= done.is_err();
        done
    }

    fn change(&self, sql: &str, args: &[Arg]) -> Result<u64> {
        let mut statement = self.conn.prepare_cached(sql).map_err(failed)?;
        bind(&mut statement, args)?;
        Ok(statement.raw_execute().map_err(failed)? as u64)
    }
}

/// `$1` is the first value, wherever and however often it occurs.
fn bind(statement: &mut Statement<'_>, args: &[Arg]) -> Result<()> {
    for place in 1..=statement.parameter_count() {
        let name = statement.parameter_name(place).and_then(|name| name.strip_prefix('$'));
        let number = name.and_then(|digits| digits.parse::<usize>().ok());
        let arg = number.and_then(|number| args.get(number.checked_sub(1)?));
        match arg.ok_or_else(|| {
            Error::internal(format!("parameter {place} of a statement does not have a value"))
        })? {
            Arg::Int(value) => statement.raw_bind_parameter(place, value),
            Arg::Float(value) => statement.raw_bind_parameter(place, value),
            Arg::Text(value) => statement.raw_bind_parameter(place, value),
            Arg::Bytes(value) => statement.raw_bind_parameter(place, value),
            Arg::Sealed(value) => statement.raw_bind_parameter(place, value),
        }
        .map_err(failed)?;
    }
    Ok(())
}

fn value(values: &[Value], at: usize) -> Result<ValueRef<'_>> {
    let value = values.get(at).ok_or_else(|| Error::internal(format!("there is no column {at}")))?;
    Ok(ValueRef::from(value))
}

pub fn get<T: FromSql>(values: &[Value], at: usize) -> Result<Option<T>> {
    Option::column_result(value(values, at)?).map_err(Error::internal)
}

pub fn text(values: &[Value], at: usize) -> Result<Option<&str>> {
    value(values, at)?.as_str_or_null().map_err(Error::internal)
}

/// SQLITE_BUSY, SQLITE_LOCKED, SQLITE_READONLY, SQLITE_IOERR, SQLITE_FULL, including their extended codes.
pub fn is_down(code: i32) -> bool {
    let primary = code & 0xff;
    [ffi::SQLITE_BUSY, ffi::SQLITE_LOCKED, ffi::SQLITE_READONLY, ffi::SQLITE_IOERR, ffi::SQLITE_FULL]
        .contains(&primary)
}

fn failed(error: rusqlite::Error) -> Error {
    let Some(failure) = error.sqlite_error() else { return Error::internal(error) };
    match failure.extended_code {
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => gone(),
        ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY => already_there(),
        code if is_down(code) => unavailable(&error),
        _ => Error::internal(&error),
    }
}
