//! Shared by the cases: a plane with its own store, functions that create facts, and SQL results as text.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow_cast::display::{ArrayFormatter, FormatOptions};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use landreeve_core::source::{CancellationToken, Query};
use landreeve_core::table::{EngineQuery, SqlEngine};
use landreeve_core::{Given, OpCtx, Page, Result};
use landreeve_delivery::changes::{CommitFacts, PullFacts, commits_push, pull_upsert};
use landreeve_delivery::deployments::{DeploymentFacts, deployment_create, deployment_info};
use landreeve_delivery::ids::{ChangeId, DeploymentId, IncidentId};
use landreeve_delivery::incidents::{IncidentFacts, incident_upsert};
use landreeve_delivery::{Delivery, ServiceName};
use landreeve_estate::args;
use landreeve_estate::ops::audit::audit_list;
use landreeve_estate::store::{Arg, Row};
use landreeve_testkit::Kit;

pub const DAY: Duration = Duration::from_secs(86_400);

pub struct World {
    pub kit: Kit,
    pub plane: Delivery,
    pub ctx: OpCtx,
    pub engine: Arc<dyn SqlEngine>,
}

pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// This many minutes after the start of 2026, within the clock's past.
pub fn minute(minutes: i64) -> Timestamp {
    Timestamp::from_second(1_767_225_600 + minutes * 60).unwrap()
}

pub fn service(identifier: &str) -> ServiceName {
    ServiceName { identifier: identifier.to_owned(), name: None }
}

/// A hash of 40 digits whose first seven are unique to the number.
pub fn sha(number: u32) -> String {
    format!("{:07x}{number:033x}", number * 7_919 + 3)
}

pub fn own(text: &str) -> Option<String> {
    Some(text.to_owned())
}

impl World {
    pub async fn sqlite() -> World {
        World::over(Kit::new().await)
    }

    pub async fn postgres() -> World {
        World::over(Kit::postgres().await)
    }

    fn over(kit: Kit) -> World {
        World { plane: kit.delivery(), ctx: kit.operator(), engine: kit.engine(), kit }
    }

    pub async fn deploy(&self, reference: &str, facts: DeploymentFacts) -> Result<DeploymentId> {
        deployment_create(&self.plane, &self.ctx, own(reference), facts.into()).await
    }

    pub async fn pull(
        &self,
        repository: &str,
        number: i64,
        opened: Timestamp,
        facts: PullFacts,
    ) -> Result<ChangeId> {
        pull_upsert(&self.plane, &self.ctx, repository.to_owned(), number, opened, facts.into()).await
    }

    pub async fn push(
        &self,
        repository: &str,
        branch: Option<&str>,
        commits: &[(u32, Timestamp)],
    ) -> Result<u64> {
        let commits: Vec<_> = commits.iter().map(|(number, at)| commit(*number, *at)).collect();
        let branch = branch.map(str::to_owned);
        commits_push(&self.plane, &self.ctx, repository.to_owned(), branch, commits.into()).await
    }

    pub async fn incident(
        &self,
        reference: &str,
        services: &[&str],
        started: Timestamp,
        resolved: Option<Timestamp>,
    ) -> IncidentId {
        let facts = IncidentFacts {
            started_at: Some(started),
            resolved_at: resolved.map_or(Given::Absent, Given::Value),
            services: Given::Value(services.iter().map(|name| service(name)).collect()),
            ..IncidentFacts::default()
        };
        incident_upsert(&self.plane, &self.ctx, reference.to_owned(), facts.into()).await.unwrap()
    }

    /// The changes of a deployment: `#7` for a pull request, the number for a commit.
    pub async fn brought(&self, reference: &str) -> BTreeSet<String> {
        let info = deployment_info(&self.plane, &self.ctx, reference).await.unwrap();
        assert_eq!(info.change_count, info.changes.len() as u64);
        let name = |change: landreeve_delivery::deployments::BroughtChange| match change.number {
            Some(number) => format!("#{number}"),
            None => u32::from_str_radix(&change.sha.unwrap()[7..], 16).unwrap().to_string(),
        };
        info.changes.into_iter().map(name).collect()
    }

    pub async fn explained(&self, reference: &str) -> String {
        deployment_info(&self.plane, &self.ctx, reference).await.unwrap().attribution
    }

    /// Rows from the metadata store itself.
    pub async fn rows(&self, sql: &'static str, values: Vec<Arg>) -> Vec<Row> {
        self.kit.estate.store().read().await.unwrap().all(sql, values).await.unwrap()
    }

    pub async fn number(&self, sql: &'static str) -> i64 {
        self.rows(sql, args![]).await[0].int(0).unwrap()
    }

    pub async fn audited(&self) -> u64 {
        audit_list(&self.kit.estate, &self.ctx, Page::first(1)).await.unwrap().total
    }

    /// The result of a statement over everything, with every value as text.
    pub async fn sql(&self, sql: &str) -> Vec<Vec<String>> {
        self.sql_as(&["/1/".to_owned()], sql).await
    }

    pub async fn sql_as(&self, reach: &[String], sql: &str) -> Vec<Vec<String>> {
        self.ask(reach, sql).await.unwrap_or_else(|error| panic!("{error}\n{sql}")).1
    }

    /// The column names and the rows.
    pub async fn ask(&self, reach: &[String], sql: &str) -> Result<(Vec<String>, Vec<Vec<String>>), String> {
        let query = Query {
            sql: sql.to_owned(),
            time_limit: Duration::from_secs(60),
            batch_rows: 1_024,
            batch_bytes: 1_024 * 1_024,
            decimals: Vec::new(),
        };
        let query = EngineQuery { query, variables: Vec::new(), max_rows: None };
        let tables = self.plane.catalog().seen_by(reach);
        let stream = self.engine.query(tables, query, CancellationToken::new()).await;
        let mut stream = stream.map_err(|error| error.message)?;
        let names = stream.schema.fields().iter().map(|field| field.name().clone()).collect();
        let format = FormatOptions::new().with_null("NULL");
        let mut rows = Vec::new();
        while let Some(batch) = stream.batches.next().await {
            let batch = batch.map_err(|error| error.message)?;
            let columns: Vec<_> = batch
                .columns()
                .iter()
                .map(|column| ArrayFormatter::try_new(column, &format).unwrap())
                .collect();
            for row in 0..batch.num_rows() {
                rows.push(columns.iter().map(|column| column.value(row).to_string()).collect());
            }
        }
        Ok((names, rows))
    }
}

pub fn commit(number: u32, at: Timestamp) -> CommitFacts {
    CommitFacts {
        sha: sha(number),
        committed_at: at,
        author_email: None,
        message: Some(format!("commit {number}\n\nand why")),
        parents: Vec::new(),
    }
}

/// A merged pull request to the default branch.
pub fn merged(number: u32, at: Timestamp) -> PullFacts {
    PullFacts { merged_at: Some(at), merge_commit_sha: Some(sha(number)), ..PullFacts::default() }
}

pub fn deployed(name: &str, at: Timestamp) -> DeploymentFacts {
    DeploymentFacts { deployed_at: Some(at), service: Some(service(name)), ..DeploymentFacts::default() }
}

/// At a commit in the repository `acme/shop`.
pub fn deployed_at(name: &str, at: Timestamp, commit: &str) -> DeploymentFacts {
    DeploymentFacts { repository: own("acme/shop"), commit_sha: own(commit), ..deployed(name, at) }
}

pub fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into_iter().collect()
}
