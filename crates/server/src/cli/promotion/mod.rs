//! `landreeve env …`, `cluster …` and `server …`, and what the commands of the promotion plane share.

mod catalog;
pub mod deployments;
pub mod properties;
pub mod revisions;

use clap::Args;
use landreeve_core::OpCtx;
use landreeve_estate::ops::sign_in;
use uuid::Uuid;

pub use catalog::{ClusterCommand, EnvCommand, ServerCommand, cluster, env, server};

use super::{Place, Session};

// Where the estate is, and the unit to work in. (Not a doc comment, which would become every command's help.)
#[derive(Debug, Args)]
pub struct Unit {
    #[command(flatten)]
    place: Place,
    /// Organizational unit to work in [default: the root]
    #[arg(long, value_name = "UUID")]
    ou: Option<Uuid>,
}

/// Opens the store for work in a unit.
pub async fn open(unit: &Unit) -> anyhow::Result<(Session, OpCtx)> {
    let session = Session::open(&unit.place).await?;
    let ctx = match unit.ou {
        Some(ou) => sign_in::operator_in(&session.opened.estate, ou).await,
        None => Ok(session.ctx.clone()),
    };
    match ctx {
        Ok(ctx) => Ok((session, ctx)),
        Err(error) => {
            session.close().await;
            Err(error.into())
        }
    }
}

/// Closes the store, and tells a running server if something may have changed.
pub async fn finish<T>(session: Session, done: landreeve_core::Result<T>) -> anyhow::Result<T> {
    match done {
        Ok(done) => {
            session.changed().await?;
            Ok(done)
        }
        Err(error) => {
            session.close().await;
            Err(error.into())
        }
    }
}
