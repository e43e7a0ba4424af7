//! Shared by the rows of every noun: audit entries, the datasource that a row refers to, locking a row before changing
//! it. Does not belong here: code for a single noun.

use landreeve_core::ids::DatasourceId;
use landreeve_core::{Error, Noun, OpCtx, Result};
use landreeve_estate::args;
use landreeve_estate::ops::{self, OwnedAct};
use landreeve_estate::store::{Dialect, Tx};

/// The datasource of a filter or snippet must exist, and the author must be able to see it.
pub(crate) async fn check_datasource(tx: &mut Tx, ctx: &OpCtx, id: Option<DatasourceId>) -> Result<()> {
    let Some(id) = id else { return Ok(()) };
    if ops::datasources::datasource_visible(tx, ctx, id).await? {
        return Ok(());
    }
    Err(Error::fault("datasource", "unknown", "is not a datasource that you can see"))
}

/// Locks a row until the transaction ends, so that what is read next is also what is changed. PostgreSQL lets two
/// transactions read before either writes; SQLite has only one writer, so it needs no lock.
pub(crate) async fn lock(tx: &mut Tx, postgres: &'static str, id: i64) -> Result<()> {
    match tx.dialect() {
        Dialect::Sqlite => Ok(()),
        Dialect::Postgres => tx.opt(postgres, args![id]).await.map(drop),
    }
}

pub(crate) fn act(action: &'static str, noun: Noun, id: i64, name: &str) -> OwnedAct {
    OwnedAct::new(action, noun, id, name)
}
