//! The estate's settings.

use landreeve_core::{Action, Input, Noun, OpCtx, Result};

use super::datasources::SCHEDULES;
use crate::Estate;
use crate::builtin;
use crate::estate::OwnedAct;
use crate::schedules;
use crate::settings::{self, Settings};

pub use crate::settings::NAMES;

pub async fn settings_get(estate: &Estate, ctx: &OpCtx) -> Result<Settings> {
    estate.require_some(ctx, Noun::SETTING, Action::VIEW).await?;
    estate.settings().await
}

/// Changes settings by name, all or none.
pub async fn settings_update(
    estate: &Estate,
    ctx: &OpCtx,
    changes: impl Into<Input<Vec<(String, String)>>>,
) -> Result<Settings> {
    estate.require_everywhere(ctx, Noun::SETTING, Action::MANAGE).await?;
    let changes = changes.into().checked(|changes, faults| settings::check(changes, faults))?;
    let detail = changes.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(", ");
    let now = estate.now();
    let act = OwnedAct { action: "updated", noun: Noun::SETTING, noun_id: None, detail };
    estate
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                // First, so that a concurrent change waits, and each builds on the other.
                tx.bump_epoch().await?;
                let mut settings = settings::read(tx).await?;
                let zone = settings.time_zone.clone();
                settings.change(&changes)?;
                settings::write(tx, &settings).await?;
                if settings.time_zone != zone {
                    // Nightly schedules follow the new zone.
                    let zone = &settings.time_zone;
                    schedules::move_zone(tx, builtin::PLANE, SCHEDULES, zone, now).await?;
                }
                Ok(settings)
            })
        })
        .await
}
