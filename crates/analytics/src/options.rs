//! Small things that several nouns of the plane need: the audit line of an act, a taken name as a fault, a datasource
//! that a noun names, a row that is read to be changed.

use jiff::Timestamp;
use landreeve_core::ids::DatasourceId;
use landreeve_core::{Action, Error, ErrorKind, Fault, Noun, OpCtx, Permission, Result, clock};
use landreeve_estate::args;
use landreeve_estate::ops::OwnedAct;
use landreeve_estate::store::{Dialect, Tx};

/// What a filter or a snippet names must be there and open to whoever names it.
pub(crate) async fn check_datasource(tx: &mut Tx, ctx: &OpCtx, id: Option<DatasourceId>) -> Result<()> {
    let Some(id) = id else { return Ok(()) };
    let row = tx
        .opt(
            "SELECT o.path, d.builtin FROM datasources d JOIN ous o ON o.id = d.ou_id WHERE d.id = $1",
            args![id],
        )
        .await?;
    let open = match row {
        None => false,
        Some(row) => {
            // A built-in source is in every unit: it is where the caller is.
            let builtin = row.text_opt(1)?.is_some();
            let path = if builtin { ctx.authority().ou_path().to_owned() } else { row.text(0)? };
            [Action::View, Action::Use]
                .into_iter()
                .any(|action| ctx.authority().allows(Permission::new(Noun::Datasource, action), &path, id.0))
        }
    };
    if open {
        return Ok(());
    }
    Err(Error::fault("datasource", "unknown", "is not a datasource that this caller can see"))
}

/// Holds a row until the transaction ends, so that what is read after this is what is changed. PostgreSQL lets two
/// transactions read before either writes; SQLite has one writer, so nothing is needed there.
pub(crate) async fn lock(tx: &mut Tx, postgres: &'static str, id: i64) -> Result<()> {
    match tx.dialect() {
        Dialect::Sqlite => Ok(()),
        Dialect::Postgres => tx.opt(postgres, args![id]).await.map(drop),
    }
}

/// Each change has a time of its own, however the clock goes: it tells one state from the next.
pub(crate) fn after(before: Timestamp, now: Timestamp) -> Timestamp {
    now.max(clock::from_micros(before.as_microsecond() + 1))
}

pub(crate) fn act(action: &'static str, noun: Noun, id: i64, name: &str) -> OwnedAct {
    OwnedAct::new(action, noun, id, name)
}

/// A name that is taken is a fault of the field that holds it.
pub(crate) fn taken(error: Error, field: &'static str) -> Error {
    if error.kind == ErrorKind::Conflict && error.code == "taken" {
        return Error { faults: vec![Fault::new(field, "taken", "is taken already")], ..error };
    }
    error
}
