//! Opens a file so that nothing can be written, attached or loaded, and translates errors.

use std::collections::HashMap;
use std::fs::Metadata;
use std::ops::Deref;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use landreeve_core::source::{SourceError, SourceErrorKind};
use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::{Bounds, errors, sqlite::functions};

/// Matching a pattern uses stack for each wildcard; SQLite's own limit is 50,000 bytes.
const MAX_PATTERN_BYTES: i32 = 1_000;
/// Nested expressions use stack too.
const DEEPEST_EXPRESSION: i32 = 500;

/// Pragmas that only read, and take at most a name.
const HARMLESS_PRAGMAS: [&str; 16] = [
    "table_info",
    "table_xinfo",
    "table_list",
    "index_list",
    "index_info",
    "index_xinfo",
    "foreign_key_list",
    "function_list",
    "collation_list",
    "compile_options",
    "module_list",
    "pragma_list",
    "data_version",
    "schema_version",
    "user_version",
    "encoding",
];
/// Those of them whose argument is a name and not a value to set.
const PRAGMAS_WITH_NAME: [&str; 7] = [
    "table_info",
    "table_xinfo",
    "table_list",
    "index_list",
    "index_info",
    "index_xinfo",
    "foreign_key_list",
];

/// Functions with access to the file system or the process.
const BARRED_FUNCTIONS: [&str; 5] = ["load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"];

/// An open file, which is in use until this is dropped.
pub(super) struct Opened {
    connection: Connection,
    _use: InUse,
}

impl Deref for Opened {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// Device and inode.
type Identity = (u64, u64);

/// The files that are open in this process, by path, each with the number of its connections.
static IN_USE: LazyLock<Mutex<HashMap<PathBuf, (Identity, usize)>>> = LazyLock::new(Mutex::default);

/// A connection to the file at this path.
///
/// SQLite finds the files beside a database by name. If a database in WAL mode is replaced while we read it, the next
/// connection would open the new file, but the shared memory of the old one, and truncate it, which ends the process.
#[derive(Debug)]
struct InUse(PathBuf);

impl InUse {
    fn of(path: &Path, identity: Identity) -> Result<InUse, SourceError> {
        let mut files = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, connections) = files.entry(path.to_owned()).or_insert((identity, 0));
        if *known != identity {
            let message = format!(
                "the file {} was replaced while statements still read the previous one; try again when they have ended",
                path.display()
            );
            return Err(errors::connect(message));
        }
        *connections += 1;
        Ok(InUse(path.to_owned()))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut files = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, connections)) = files.get_mut(&self.0) {
            *connections -= 1;
            if *connections == 0 {
                files.remove(&self.0);
            }
        }
    }
}

pub(super) fn open(path: &Path, bounds: Bounds) -> Result<Opened, SourceError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let (connection, in_use) = unexchanged(path, || {
        Connection::open_with_flags(path, flags).map_err(|failure| {
            errors::connect(format!(
                "could not open the file {}: {}",
                path.display(),
                error(&failure, None).message
            ))
        })
    })?;
    harden(&connection, bounds).map_err(|failure| {
        errors::connect(format!(
            "could not use the file {}: {}",
            path.display(),
            error(&failure, None).message
        ))
    })?;
    Ok(Opened { connection, _use: in_use })
}

/// The file (device and inode) of a path without symbolic links. `None`: there is no such file.
fn identity(path: &Path) -> Option<Identity> {
    let found = path.symlink_metadata().ok().filter(Metadata::is_file)?;
    let direct = path.canonicalize().is_ok_and(|resolved| resolved == path);
    direct.then(|| (found.dev(), found.ino()))
}

/// SQLite opens by name: it checks every part of the path for symbolic links, and then opens the whole path. The path
/// must name the same file before and after, so that we notice if a folder was replaced in between.
fn unexchanged<T>(
    path: &Path,
    open: impl FnOnce() -> Result<T, SourceError>,
) -> Result<(T, InUse), SourceError> {
    let before = identity(path).ok_or_else(|| {
        errors::connect(format!("the file {} does not exist or is not a file", path.display()))
    })?;
    let in_use = InUse::of(path, before)?;
    let opened = open()?;
    if identity(path) != Some(before) {
        let message = format!("the file {} was replaced while it was being opened", path.display());
        return Err(errors::connect(message));
    }
    Ok((opened, in_use))
}

fn harden(connection: &Connection, bounds: Bounds) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    // SQLite's own limit is a gigabyte, which a single `zeroblob` could use. It is for values and for rows.
    let length = i32::try_from(bounds.max_value_bytes).unwrap_or(i32::MAX);
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, length)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, MAX_PATTERN_BYTES)?;
    connection.set_limit(Limit::SQLITE_LIMIT_EXPR_DEPTH, DEEPEST_EXPRESSION)?;
    connection.set_limit(Limit::SQLITE_LIMIT_WORKER_THREADS, 0)?;
    connection.pragma_update(None, "query_only", true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    functions::register(connection, length)?;
    connection.authorizer(Some(authorize))
}

fn authorize(context: AuthContext<'_>) -> Authorization {
    let allowed = match context.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => true,
        AuthAction::Function { function_name } => {
            !BARRED_FUNCTIONS.iter().any(|barred| function_name.eq_ignore_ascii_case(barred))
        }
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let named = |list: &[&str]| list.iter().any(|known| pragma_name.eq_ignore_ascii_case(known));
            named(&HARMLESS_PRAGMAS) && (pragma_value.is_none() || named(&PRAGMAS_WITH_NAME))
        }
        _ => false,
    };
    if allowed { Authorization::Allow } else { Authorization::Deny }
}

/// The position refers to `sql`.
pub(super) fn error(error: &rusqlite::Error, sql: Option<&str>) -> SourceError {
    match error {
        rusqlite::Error::SqlInputError { error, msg, sql: input, offset } => {
            let before = usize::try_from(*offset).ok().and_then(|offset| input.get(..offset));
            let position = before.filter(|_| sql.is_some()).map(|text| text.chars().count() + 1);
            SourceError { position: position.and_then(|at| u32::try_from(at).ok()), ..failure(error, msg) }
        }
        rusqlite::Error::SqliteFailure(error, message) => {
            let text = message.clone().unwrap_or_else(|| error.to_string());
            failure(error, &text)
        }
        rusqlite::Error::MultipleStatement => SourceError::new(
            SourceErrorKind::NotReadOnly,
            "several statements are not allowed; send one at a time",
        ),
        other => SourceError::new(SourceErrorKind::Query, other.to_string()),
    }
}

fn failure(error: &rusqlite::ffi::Error, message: &str) -> SourceError {
    let (kind, code) = match error.code {
        ErrorCode::OperationInterrupted => (SourceErrorKind::Cancelled, "SQLITE_INTERRUPT"),
        ErrorCode::AuthorizationForStatementDenied => (SourceErrorKind::NotReadOnly, "SQLITE_AUTH"),
        ErrorCode::ReadOnly => (SourceErrorKind::NotReadOnly, "SQLITE_READONLY"),
        ErrorCode::NotADatabase => (SourceErrorKind::Connect, "SQLITE_NOTADB"),
        ErrorCode::CannotOpen => (SourceErrorKind::Connect, "SQLITE_CANTOPEN"),
        ErrorCode::PermissionDenied => (SourceErrorKind::Connect, "SQLITE_PERM"),
        ErrorCode::DatabaseBusy => (SourceErrorKind::Query, "SQLITE_BUSY"),
        ErrorCode::DatabaseLocked => (SourceErrorKind::Query, "SQLITE_LOCKED"),
        ErrorCode::DatabaseCorrupt => (SourceErrorKind::Query, "SQLITE_CORRUPT"),
        ErrorCode::SystemIoFailure => (SourceErrorKind::Lost, "SQLITE_IOERR"),
        ErrorCode::TooBig => (SourceErrorKind::Query, "SQLITE_TOOBIG"),
        // SQLite reports a function that the authorizer denied as a plain error.
        _ if message.starts_with("not authorized") => (SourceErrorKind::NotReadOnly, "SQLITE_AUTH"),
        _ => (SourceErrorKind::Query, "SQLITE_ERROR"),
    };
    let message =
        if code == "SQLITE_NOTADB" { "the file is not a SQLite database (or is encrypted)" } else { message };
    SourceError { code: Some(code.to_owned()), ..SourceError::new(kind, errors::words(message)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_a_symbolic_link_in_any_part_of_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("real")).unwrap();
        let file = root.join("real/one.db");
        Connection::open(&file).unwrap().execute_batch("CREATE TABLE t (n)").unwrap();
        std::os::unix::fs::symlink(root.join("real"), root.join("folder")).unwrap();
        std::os::unix::fs::symlink(&file, root.join("link.db")).unwrap();
        assert!(open(&file, Bounds::default()).is_ok());
        for link in ["link.db", "folder/one.db", "real/../real/one.db"] {
            assert!(open(&root.join(link), Bounds::default()).is_err(), "{link}");
        }
        // SQLite itself also rejects a link in the middle.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        assert!(Connection::open_with_flags(root.join("folder/one.db"), flags).is_err());
        assert!(Connection::open_with_flags(&file, flags).is_ok());
    }

    #[test]
    fn detects_a_folder_replaced_while_opening() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["mine", "theirs"] {
            std::fs::create_dir(root.join(name)).unwrap();
            std::fs::write(root.join(name).join("one.db"), "").unwrap();
        }
        let path = root.join("mine/one.db");
        assert!(unexchanged(&path, || Ok(())).is_ok());
        let exchanged = unexchanged(&path, || {
            std::fs::rename(root.join("mine"), root.join("away")).unwrap();
            std::os::unix::fs::symlink(root.join("theirs"), root.join("mine")).unwrap();
            Ok(())
        });
        assert!(exchanged.unwrap_err().message.contains("replaced"));
        std::fs::remove_file(root.join("mine")).unwrap();
        std::fs::rename(root.join("away"), root.join("mine")).unwrap();
        let replaced = unexchanged(&path, || {
            std::fs::rename(root.join("theirs/one.db"), &path).unwrap();
            Ok(())
        });
        assert!(replaced.unwrap_err().message.contains("replaced"), "another file with the same name");
    }

    /// Without the check, the second connection ends the process.
    #[test]
    fn a_file_can_be_replaced_while_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let fill = "PRAGMA journal_mode = WAL; CREATE TABLE t (n); INSERT INTO t VALUES (1), (2), (3);";
        let writers = ["one.db", "two.db"].map(|name| {
            let writer = Connection::open(root.join(name)).unwrap();
            writer.execute_batch(fill).unwrap();
            writer
        });
        let path = root.join("one.db");
        let first = open(&path, Bounds::default()).unwrap();
        let mut statement = first.prepare("SELECT n FROM t ORDER BY n").unwrap();
        let mut rows = statement.query([]).unwrap();
        rows.next().unwrap();
        std::fs::rename(root.join("two.db"), &path).unwrap();
        assert!(
            open(&path, Bounds::default())
                .err()
                .unwrap()
                .message
                .contains("was replaced while statements still read")
        );
        assert!(rows.next().unwrap().is_some());
        drop(rows);
        drop(statement);
        drop(first);
        drop(writers);
        let count = open(&path, Bounds::default())
            .unwrap()
            .query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
        assert_eq!(count.unwrap(), 3);
    }
}
