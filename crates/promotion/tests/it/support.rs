//! Shared by the cases: scripts executed on a catalog, and a plane with its own store.

use landreeve_core::OpCtx;
use landreeve_core::table::{SqlEngine as _, ViewPlanner};
use landreeve_promotion::apply::{Applied, Options, apply};
use landreeve_promotion::catalog::Catalog;
use landreeve_promotion::catalog::execute::{End, Input, Outcome, execute};
use landreeve_promotion::vql::properties::Properties;
use landreeve_promotion::vql::{self, script};
use landreeve_promotion::{Promotion, PromotionOptions};
use landreeve_testkit::Kit;

pub fn planner() -> Box<dyn ViewPlanner> {
    landreeve_testkit::engine().view_planner()
}

/// Executes a script; every JDBC source is a datasource of the inventory.
pub fn executed(base: &Catalog, text: &str) -> Outcome {
    let pieces = script::pieces(text, &Properties::new()).unwrap_or_else(|faults| panic!("{faults:?}"));
    let connection =
        landreeve_promotion::catalog::Connection::Inventory(landreeve_core::ids::DatasourceId(7));
    let inputs: Vec<Input> = pieces
        .into_iter()
        .map(|piece| Input { statement: vql::statement(&piece), piece, connection: Some(Ok(connection)) })
        .collect();
    execute(base, &inputs, &mut *planner())
}

/// The catalog after a script that succeeds.
pub fn after(base: &Catalog, text: &str) -> Catalog {
    let outcome = executed(base, text);
    assert!(!outcome.failed(), "{:?}\n{:?}", failures(&outcome), outcome.refused);
    outcome.catalog
}

/// What failed: the line of each statement, and why.
pub fn failures(outcome: &Outcome) -> Vec<String> {
    let failed = outcome.statements.iter().filter(|done| done.end == End::Failed);
    failed.map(|done| format!("{}: {}", done.place.line, done.message)).collect()
}

pub struct World {
    pub kit: Kit,
    pub plane: Promotion,
    pub ctx: OpCtx,
}

impl World {
    pub async fn sqlite() -> World {
        World::over(Kit::new().await).await
    }

    pub async fn postgres() -> World {
        World::over(Kit::postgres().await).await
    }

    async fn over(kit: Kit) -> World {
        let engine = kit.engine();
        let files = landreeve_testkit::files();
        let (plane, slot) =
            landreeve_promotion::plane(engine, files, true, Vec::new(), PromotionOptions::default());
        let kit = kit.reopen(vec![plane]).await;
        World { plane: slot.get().unwrap(), ctx: kit.operator(), kit }
    }

    pub async fn apply(&self, text: &str) -> Applied {
        self.apply_with(text, Options::default()).await
    }

    pub async fn apply_with(&self, text: &str, options: Options) -> Applied {
        apply(&self.plane, &self.ctx, "local", text.to_owned(), Properties::new(), options).await.unwrap()
    }

    pub async fn apply_filled(&self, text: &str, properties: Properties) -> Applied {
        apply(&self.plane, &self.ctx, "local", text.to_owned(), properties, Options::default()).await.unwrap()
    }

    /// The plane of a process that has read nothing yet.
    pub fn again(&self) -> Promotion {
        let estate = self.plane.estate().clone();
        let options = PromotionOptions::default();
        Promotion::new(estate, self.kit.engine(), landreeve_testkit::files(), true, options)
    }
}

/// Runs each of these functions on both metadata stores.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::World::sqlite().await).await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $name() {
                let world = super::World::postgres().await;
                let kit = super::$name(world).await;
                kit.remove().await;
            })*
        }
    };
}

pub(crate) use on_both;
