//! The handle that the plane's use cases work through.

use std::sync::Arc;
use std::time::Duration;

use landreeve_core::source::ResultCodec;
use landreeve_estate::Estate;
use landreeve_estate::store::MigrationSet;

/// The plane's tables.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    component: "analytics",
    sqlite: &[include_str!("../migrations/sqlite/0001_analytics.sql")],
    postgres: &[include_str!("../migrations/postgres/0001_analytics.sql")],
};

#[derive(Debug, Clone)]
pub struct AnalyticsOptions {
    /// A result that grows beyond this, as it is kept, ends its execution *failed*.
    pub max_result_bytes: u64,
    pub query_time_limit: Duration,
}

impl Default for AnalyticsOptions {
    fn default() -> AnalyticsOptions {
        AnalyticsOptions {
            max_result_bytes: 10 * 1_024 * 1_024 * 1_024,
            query_time_limit: Duration::from_secs(1_800),
        }
    }
}

#[derive(Clone)]
pub struct Analytics {
    estate: Estate,
    codec: Arc<dyn ResultCodec>,
    options: AnalyticsOptions,
    /// Names of the built-in snippets, which the dialect that introduced them chose.
    builtin: BuiltinSnippets,
}

/// What the built-in snippets are called. Their meaning is the plane's, their names come with the wiring.
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
        Analytics { estate, codec, options, builtin }
    }

    pub fn estate(&self) -> &Estate {
        &self.estate
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
