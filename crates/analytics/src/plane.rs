//! The handle that the plane's use cases use.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use landreeve_core::ids::BoxFuture;
use landreeve_core::source::ResultCodec;
use landreeve_core::{OpCtx, Result};
use landreeve_estate::Estate;
use landreeve_estate::memory::PerEpoch;
use landreeve_estate::ops::OwnedAct;
use landreeve_estate::plane::{NounSpec, Plane, PlaneParts, SettingsSection, Slot};
use landreeve_estate::runs::Executor;
use landreeve_estate::store::{MigrationSet, Tx};
use serde::Deserialize;

use crate::dashboards::Dashboard;
use crate::executions::{QUERY, QueryExecutor};
use crate::ids::DashboardId;
use crate::nouns;

/// The plane's tables.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    component: "analytics",
    sqlite: &[
        include_str!("../migrations/sqlite/0001_analytics.sql"),
        include_str!("../migrations/sqlite/0002_row_versions.sql"),
    ],
    postgres: &[
        include_str!("../migrations/postgres/0001_analytics.sql"),
        include_str!("../migrations/postgres/0002_row_versions.sql"),
    ],
};

/// The plane, and where to find its handle once the estate is open.
pub fn plane(
    codec: Arc<dyn ResultCodec>,
    options: AnalyticsOptions,
    builtin: BuiltinSnippets,
) -> (Plane, Slot<Analytics>) {
    let slot = Slot::default();
    let filled = slot.clone();
    let plane = Plane {
        migrations: MIGRATIONS,
        ids: crate::ids::KINDS,
        kinds: vec![QUERY],
        settings: Some(SETTINGS),
        nouns: [nouns::DASHBOARD, nouns::REPORT, nouns::FILTER, nouns::SNIPPET]
            .map(NounSpec::content)
            .to_vec(),
        open: Box::new(move |estate| {
            let plane = Analytics::new(estate.clone(), codec, options, builtin);
            filled.fill(plane.clone());
            let executors: Vec<(_, Arc<dyn Executor>)> = vec![(QUERY.kind, Arc::new(QueryExecutor(plane)))];
            Ok(PlaneParts { executors, ..PlaneParts::default() })
        }),
        ..Plane::new("analytics")
    };
    (plane, slot)
}

pub const SETTINGS: SettingsSection =
    SettingsSection { name: "analytics", defaults: include_str!("../settings.default.toml") };

/// The plane's section of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnalyticsOptions {
    /// A stored result larger than this fails its execution.
    pub max_result_bytes: u64,
    pub query_seconds: NonZeroU64,
}

impl AnalyticsOptions {
    pub fn query_time_limit(&self) -> Duration {
        Duration::from_secs(self.query_seconds.get())
    }
}

impl Default for AnalyticsOptions {
    fn default() -> AnalyticsOptions {
        AnalyticsOptions {
            max_result_bytes: 10 * 1_024 * 1_024 * 1_024,
            query_seconds: const { NonZeroU64::new(1_800).unwrap() },
        }
    }
}

#[derive(Clone)]
pub struct Analytics {
    estate: Estate,
    codec: Arc<dyn ResultCodec>,
    options: AnalyticsOptions,
    /// Names of the built-in snippets, chosen by the dialect that introduced them.
    builtin: BuiltinSnippets,
    /// Dashboards as seen from a unit.
    dashboards: Arc<PerEpoch<(DashboardId, String), Arc<Dashboard>>>,
}

/// How many dashboards are cached.
const DASHBOARDS: usize = 1_024;

/// Names of the built-in snippets. The plane defines their meaning; the wiring sets the names.
#[derive(Debug, Clone, Copy)]
pub struct BuiltinSnippets {
    pub user_email: &'static str,
    pub user_first_name: &'static str,
    pub user_last_name: &'static str,
    pub user_role: &'static str,
    pub dashboard_name: &'static str,
    pub dashboard_id: &'static str,
}

impl Analytics {
    pub fn new(
        estate: Estate,
        codec: Arc<dyn ResultCodec>,
        options: AnalyticsOptions,
        builtin: BuiltinSnippets,
    ) -> Analytics {
        Analytics { estate, codec, options, builtin, dashboards: Arc::new(PerEpoch::new(DASHBOARDS)) }
    }

    pub fn estate(&self) -> &Estate {
        &self.estate
    }

    /// A write with its audit event that changes how dashboards or their contents look.
    pub(crate) async fn change<T, F>(&self, ctx: &OpCtx, act: OwnedAct, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        let changed = self.estate.change(ctx, act, |tx| {
            Box::pin(async move {
                let value = work(tx).await?;
                tx.bump_epoch().await?;
                Ok(value)
            })
        });
        changed.await
    }

    pub(crate) fn dashboards(&self) -> &PerEpoch<(DashboardId, String), Arc<Dashboard>> {
        &self.dashboards
    }

    pub fn codec(&self) -> &dyn ResultCodec {
        &*self.codec
    }

    pub fn options(&self) -> &AnalyticsOptions {
        &self.options
    }

    pub(crate) fn builtin(&self) -> &BuiltinSnippets {
        &self.builtin
    }
}
