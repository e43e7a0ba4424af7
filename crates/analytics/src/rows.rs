//! What the rows of every noun need: the audit line of an act, a datasource that a row names, a row that is read to be
//! changed. What must not enter: any one noun.

use landreeve_core::ids::DatasourceId;
use landreeve_core::{Error, Noun, OpCtx, Result};
use landreeve_estate::args;
use landreeve_estate::ops::{self, OwnedAct};
use landreeve_estate::store::{Dialect, Tx};

/// The datasource that a filter or a snippet names must exist, and its author must be able to see it.
pub(crate) async fn check_datasource(tx: &mut Tx, ctx: &OpCtx, id: Option<DatasourceId>) -> Result<()> {
    let Some(id) = id else { return Ok(()) };
    if ops::datasources::datasource_visible(tx, ctx, id).await? {
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

pub(crate) fn act(action: &'static str, noun: Noun, id: i64, name: &str) -> OwnedAct {
    OwnedAct::new(action, noun, id, name)
}
