//! Small things that several nouns of the plane need: a request for options, the audit line of an act, a datasource
//! that a noun names, a row that is read to be changed.

use std::time::Duration;

use landreeve_core::ids::DatasourceId;
use landreeve_core::{Action, Error, Noun, OpCtx, Permission, Result};
use landreeve_estate::args;
use landreeve_estate::ops::OwnedAct;
use landreeve_estate::store::{Dialect, Tx};
use tokio::time::Instant;

/// A request for options: the variables whose options are being found just now, and until when. Drop-downs can depend
/// on one another; one that depends on itself is an error, and all of them together have one deadline.
pub(crate) struct Asking {
    variables: Vec<String>,
    until: Instant,
}

const TOGETHER: Duration = Duration::from_secs(15);

impl Default for Asking {
    fn default() -> Asking {
        Asking { variables: Vec::new(), until: Instant::now() + TOGETHER }
    }
}

impl Asking {
    pub fn begin(&mut self, name: &str) -> Result<()> {
        if self.variables.iter().any(|known| known == name) {
            let message = format!("the options of {name} depend on themselves");
            return Err(Error::fault(format!("parameters.filters.{name}"), "cycle", message));
        }
        self.variables.push(name.to_owned());
        Ok(())
    }

    pub fn end(&mut self) {
        self.variables.pop();
    }

    /// What the next query may take.
    pub fn time_left(&self) -> Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Asking::too_late()) } else { Ok(left) }
    }

    pub fn too_late() -> Error {
        let message = format!(
            "the options cannot be read: they, and those that they depend on, took more than {} seconds together",
            TOGETHER.as_secs()
        );
        Error::fault("query", "options", message)
    }
}

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

pub(crate) fn act(action: &'static str, noun: Noun, id: i64, name: &str) -> OwnedAct {
    OwnedAct::new(action, noun, id, name)
}
