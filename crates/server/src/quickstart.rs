//! `landreeve quickstart`: a server with a sample estate, new keys, and three commands to copy.

use std::time::Duration;

use landreeve_analytics::dashboards::{self, DashboardDetails, LayoutBox};
use landreeve_analytics::reports::{self, ReportDetails};
use landreeve_core::ids::DatasourceId;
use landreeve_core::{Input, OpCtx, Page, RunState, page};
use landreeve_estate::ops::keys::{self, NewKey};
use landreeve_estate::ops::runs::{self, RunRef};
use landreeve_estate::ops::{Api, RunFilter, datasources, sign_in, users};
use landreeve_estate::upkeep::SAMPLE_DATA;

use crate::cli::{ServeArgs, scope_grants};
use crate::open::Opened;
use crate::output;
use crate::serve::{Server, initial_password_file};

const NAME: &str = "quickstart";
const SAMPLE_WAIT: Duration = Duration::from_secs(60);

pub async fn quickstart(args: ServeArgs) -> anyhow::Result<()> {
    let server = Server::start(&args).await?;
    server
        .run(async |opened, address, sample| {
            if let Err(error) = introduce(opened, address, sample).await {
                output::complain(&format!("could not prepare the quickstart: {error:#}"));
            }
        })
        .await
}

async fn introduce(opened: &Opened, address: &str, sample: DatasourceId) -> anyhow::Result<()> {
    let ctx = sign_in::operator(&opened.estate);
    wait_for_sample(opened, &ctx).await?;
    let shown = opened.estate.hash_ids().encode_grouped(sample);
    content(opened, &ctx, sample).await?;
    let (cluvio, dx, clumio) = fresh_keys(opened, &ctx).await?;
    let password = match std::fs::read_to_string(initial_password_file(&opened.data_dir)) {
        Ok(text) => format!("password {}", text.trim()),
        Err(_) => "with the password that you set".to_owned(),
    };
    output::say(&format!(
        "\nLandreeve is ready.\n\n  \
         Console and API catalog  {address}/\n  \
         Sign in as               admin, {password}\n  \
         Cluvio API key           {cluvio}\n  \
         DX API key               {dx}\n  \
         Clumio API token         {clumio}\n\n\
         Three commands to copy:\n\n\
         # 1. Run a query on the sample data (TPC-H) and wait for it\n\
         curl -s -X POST '{address}/cluvio/datasources/{shown}/executions?wait=30' \\\n  \
         -H 'Authorization: Api {cluvio}' -H 'Content-Type: application/json' \\\n  \
         -d '{{\"sql_query\": \"select o_orderpriority, count(*) as orders from orders group by 1 order by 1\"}}'\n\n\
         # 2. List the datasources\n\
         curl -s '{address}/cluvio/datasources' -H 'Authorization: Api {cluvio}'\n\n\
         # 3. The same query from this machine, as a table\n\
         {program} query --data-dir {data_dir} 'select o_orderpriority, count(*) as orders from orders group by 1 order by 1'\n\n\
         Ctrl-C stops the server.",
        program = program(),
        data_dir = opened.data_dir.display(),
    ));
    Ok(())
}

fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "landreeve".to_owned())
}

/// Waits until the sample's file exists.
async fn wait_for_sample(opened: &Opened, ctx: &OpCtx) -> anyhow::Result<()> {
    let filter = RunFilter { kinds: vec![SAMPLE_DATA], ..RunFilter::default() };
    let found = runs::run_list(&opened.estate, ctx, &filter, Page::first(1)).await?;
    if let Some(run) = found.items.first()
        && !run.state.is_final()
    {
        let run = runs::run_wait(&opened.estate, ctx, RunRef::Id(run.id), &[], SAMPLE_WAIT).await?;
        anyhow::ensure!(
            run.state == RunState::Succeeded,
            "the sample data is not ready yet; it is being created"
        );
    }
    Ok(())
}

/// Replaces the keys of an earlier quickstart, because their secrets cannot be shown again.
async fn fresh_keys(opened: &Opened, ctx: &OpCtx) -> anyhow::Result<(String, String, String)> {
    let estate = &opened.estate;
    for key in page::collect(|after| keys::key_list(estate, ctx, Some(NAME), after)).await? {
        keys::key_delete(estate, ctx, key.id).await?;
    }
    let mut grants = Vec::new();
    let manage = |name: &&&str| name.starts_with("Manage");
    let labels: Vec<String> = landreeve_face_cluvio::permissions::NAMES
        .iter()
        .filter(manage)
        .map(|name| (*name).to_owned())
        .collect();
    for label in &labels {
        let parsed = landreeve_face_cluvio::permissions::parse(estate.hash_ids(), label);
        grants.extend(parsed.map_err(|why| anyhow::anyhow!(why))?);
    }
    let new =
        |api, user, grants, labels| NewKey { api, name: NAME.to_owned(), ou: None, user, grants, labels };
    let (_, cluvio) = keys::key_create(estate, ctx, new(Api::Analytics, None, grants, labels)).await?;
    let scopes = [
        "datacloud:write",
        "datacloud:query",
        "snapshots:read",
        "snapshots:admin",
        "users:read",
        "users:write",
    ];
    let scopes = scopes.map(str::to_owned).to_vec();
    let opened = scope_grants(&scopes)?;
    let (_, dx) = keys::key_create(estate, ctx, new(Api::Delivery, None, opened, scopes)).await?;
    let admin = users::user_by_name(estate, ctx, "admin").await?.id;
    let token = new(Api::Protection, Some(admin), Vec::new(), Vec::new());
    let (_, clumio) = keys::key_create(estate, ctx, token).await?;
    Ok((cluvio.reveal().to_owned(), dx.reveal().to_owned(), clumio.reveal().to_owned()))
}

const REPORT: &str = "select {o_orderdate:aggregation} as period, count(*) as orders, sum(o_totalprice) as total \
                      from orders where {o_orderdate=timerange} group by 1 order by 1";

/// A dashboard with a report, so that the lists are not empty.
async fn content(opened: &Opened, ctx: &OpCtx, sample: DatasourceId) -> anyhow::Result<()> {
    let plane = &opened.analytics;
    if !dashboards::dashboard_list(plane, ctx, None).await?.items.is_empty() {
        return Ok(());
    }
    // The sample must exist, because the report refers to it.
    datasources::datasource_get(&opened.estate, ctx, sample).await?;
    let details = DashboardDetails {
        name: "Orders".to_owned(),
        description: Some("Orders of the sample data over time.".to_owned()),
        ..DashboardDetails::default()
    };
    let dashboard = dashboards::dashboard_create(plane, ctx, details).await?;
    let report = ReportDetails {
        name: "Orders over time".to_owned(),
        sql: REPORT.to_owned(),
        chart_type: Some("line".to_owned()),
        dashboard: Some(dashboard.id),
        datasource: Some(sample),
        ..ReportDetails::default()
    };
    let report = reports::report_create(plane, ctx, report).await?;
    let id = opened.estate.hash_ids().encode_grouped(report.id);
    let place = Input::of(move |details: &mut DashboardDetails| {
        details.layout =
            vec![LayoutBox { kind: "report".to_owned(), id, row: 0, column: 0, width: 12, height: 8 }];
    });
    dashboards::dashboard_update(plane, ctx, dashboard.id, place).await?;
    Ok(())
}
