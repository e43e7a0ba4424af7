//! The Web API over the wire: query runs, datafeeds, teams and people, the rate limit.

use landreeve_core::RunState;
use landreeve_delivery::feeds::feed_create;
use landreeve_estate::ops::Api;
use landreeve_estate::ops::runs::{RunRef, run_wait};
use landreeve_face_dx::{Options, router};
use landreeve_testkit::{Ask, Kit, everything};
use serde_json::{Value, json};

use crate::data_cloud::Client;
use crate::{face, fails, faults, view};

async fn with_one_deployment<'a>(kit: &'a Kit, router: &'a axum::Router) -> Client<'a> {
    let client = Client::new(kit, router, &["datacloud:write", "datacloud:query", "snapshots:read"]).await;
    let deploy = json!({ "reference_id": "d", "deployed_at": "2026-01-10T12:00:00Z", "service": "checkout",
        "metadata": { "region": "eu" } });
    Client::done(&client.post("api/deployments.create", &deploy).await);
    client
}

/// Submits a statement, waits until it ends, and returns the run's id.
async fn executed(client: &Client<'_>, body: &Value) -> String {
    let answer = client.post("studio.queryRuns.execute", body).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(answer.header("retry-after"), "1");
    let id = answer.json()["query_run"]["id"].as_str().unwrap().to_owned();
    assert!(answer.header("location").ends_with(&format!("/studio.queryRuns.info?id={id}")));
    let run = client.kit.estate.hash_ids().decode_plain(&id).unwrap();
    let which = RunRef::Id(run);
    let bound = std::time::Duration::from_secs(30);
    let ended = run_wait(&client.kit.estate, &client.kit.operator(), which, &[], bound).await.unwrap();
    assert!(ended.state.is_final());
    id
}

#[tokio::test]
async fn a_statement_runs_and_its_rows_are_read() {
    let (kit, router) = face().await;
    kit.start_delivery(&kit.delivery()).await;
    let client = with_one_deployment(&kit, &router).await;
    let body = json!({
        "sql": "select service, count(*) as n, max(deployed_at) as at from deployments \
                where service in ($services) and success = $ok group by 1",
        "variables": { "services": ["checkout", "search"], "ok": true }
    });
    let id = executed(&client, &body).await;
    let info = client.get(&format!("studio.queryRuns.info?id={id}")).await.json();
    assert_eq!(info["query_run"]["status"], "succeeded", "{info}");
    let results = client.get(&format!("studio.queryRuns.results?id={id}")).await;
    let expected = r#"{"ok":true,"results":{"columns":["service","n","at"],"rows":[["checkout",1,"2026-01-10T12:00:00.000000+00:00"]],"row_count":1,"truncated":false}}"#;
    assert_eq!((results.status, results.body.as_str()), (200, expected));
    // As CSV, from an address that does not need a key.
    let redirect = client.get(&format!("studio.queryRuns.results?id={id}&format=csv")).await;
    assert_eq!(redirect.status, 303);
    let path = redirect.header("location").to_owned();
    let path = path.strip_prefix("http://estate.example").unwrap();
    let csv = Ask::get(path).send(&router).await;
    assert_eq!((csv.status, csv.header("content-type")), (200, "text/csv; charset=utf-8"));
    assert_eq!(csv.body.replace("\r\n", "\n"), "service,n,at\ncheckout,1,2026-01-10T12:00:00.000000+00:00\n");
    kit.clock.advance(std::time::Duration::from_secs(301));
    fails(&Ask::get(path).send(&router).await, 422, "invalid_auth");
    fails(
        &client.get(&format!("studio.queryRuns.results?id={id}&format=xml")).await,
        422,
        "invalid_arguments",
    );
}

#[tokio::test]
async fn json_has_a_thousand_rows_and_csv_has_all() {
    let (kit, router) = face().await;
    kit.start_delivery(&kit.delivery()).await;
    let client = Client::new(&kit, &router, &["datacloud:query"]).await;
    let id =
        executed(&client, &json!({ "sql": "select value from generate_series(1, 1500) order by 1" })).await;
    let shown = client.get(&format!("studio.queryRuns.results?id={id}")).await.json();
    let results = &shown["results"];
    assert_eq!((&results["row_count"], &results["truncated"]), (&json!(1_500), &json!(true)));
    let rows = results["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[999]), (1_000, &json!([1_000])));
    let redirect = client.get(&format!("studio.queryRuns.results?id={id}&format=csv")).await;
    let path = redirect.header("location").replace("http://estate.example", "");
    assert_eq!(Ask::get(path).send(&router).await.body.lines().count(), 1_501);
}

#[tokio::test]
async fn results_of_an_unfinished_run_are_409() {
    let (kit, router) = face().await;
    let client = with_one_deployment(&kit, &router).await;
    // No executor runs here.
    let answer = client.post("studio.queryRuns.execute", &json!({ "sql": "select 1" })).await;
    let id = answer.json()["query_run"]["id"].as_str().unwrap().to_owned();
    let early = client.get(&format!("studio.queryRuns.results?id={id}")).await;
    fails(&early, 409, "execution_not_complete");
    assert_eq!(early.header("retry-after"), "1");
    let cancelled = client.post("studio.queryRuns.cancel", &json!({ "id": id })).await;
    assert_eq!(cancelled.json()["query_run"]["status"], "failed");
    fails(&client.get(&format!("studio.queryRuns.results?id={id}")).await, 422, "query_run_failed");
}

#[tokio::test]
async fn forbidden_statements_fail_with_an_explanation() {
    let (kit, router) = face().await;
    kit.start_delivery(&kit.delivery()).await;
    let client = with_one_deployment(&kit, &router).await;
    let bad = json!({ "sql": " ", "variables": { "a": { "b": 1 } } });
    let refused = client.post("studio.queryRuns.execute", &bad).await;
    fails(&refused, 422, "invalid_arguments");
    assert_eq!(faults(&refused), [["sql", "required"], ["variables.a", "type"]]);
    for (sql, code, part) in [
        ("delete from deployments", "not_read_only", "SELECT"),
        ("select 1; select 2", "not_read_only", "exactly one SELECT"),
        ("select * from users", "sql_error", "users"),
        ("select * from main.deployments", "sql_error", "main.deployments"),
        ("select pg_read_file('/etc/passwd')", "sql_error", "pg_read_file"),
        ("select * from '/etc/passwd'", "sql_error", ""),
        ("select $missing", "sql_error", "$missing"),
        ("selec 1", "sql_error", ""),
    ] {
        let id = executed(&client, &json!({ "sql": sql })).await;
        let info = client.get(&format!("studio.queryRuns.info?id={id}")).await.json();
        let run = &info["query_run"];
        assert_eq!((&run["status"], &run["error"]["code"]), (&json!("failed"), &json!(code)), "{sql}: {run}");
        assert!(run["error"]["message"].as_str().unwrap().contains(part), "{sql}: {run}");
    }
}

#[tokio::test]
async fn a_feed_token_gives_access_to_its_rows() {
    let (kit, router) = face().await;
    let client = with_one_deployment(&kit, &router).await;
    let sql = "select service, environment, deployed_at from deployments where service = $service";
    let plane = kit.delivery();
    let (_, token) =
        feed_create(&plane, &kit.operator(), "by service".to_owned(), sql.to_owned()).await.unwrap();
    let path = format!("queries.datafeed?feed_token={}&var-service=checkout", token.reveal());
    let expected = json!({ "ok": true, "data": {
        "columns": ["service", "environment", "deployed_at"],
        "rows": [["checkout", "production", "2026-01-10T12:00:00Z"]],
        "truncated": false,
    }});
    assert_eq!(client.get(&path).await.json(), expected);
    let some = client.get(&format!("datacloud.{path}&columns=environment,service")).await.json();
    assert_eq!(some["data"]["rows"], json!([["production", "checkout"]]));
    fails(&client.get(&format!("{path}&columns=nothing")).await, 422, "invalid_arguments");
    fails(&client.get("queries.datafeed?feed_token=lrf_wrong").await, 422, "feed_not_found");
    fails(&client.get("queries.datafeed").await, 422, "invalid_arguments");
    // Callers in another unit cannot read it even with the token.
    let unit = kit.ou("Research").await;
    let (_, key) = kit.key_in(Api::Delivery, &everything(), Some(&unit)).await;
    fails(&Ask::get(format!("/{path}")).bearer(&key).send(&router).await, 422, "feed_not_found");
}

#[tokio::test]
async fn a_feed_reports_truncation() {
    let (kit, router) = face().await;
    let client = Client::new(&kit, &router, &["snapshots:read"]).await;
    let plane = kit.delivery();
    for (rows, shown, truncated) in [(999, 999, false), (1_000, 1_000, false), (1_001, 1_000, true)] {
        let sql = format!("select value from generate_series(1, {rows}) order by 1");
        let (_, token) = feed_create(&plane, &kit.operator(), format!("{rows} rows"), sql).await.unwrap();
        let answer = client.get(&format!("queries.datafeed?feed_token={}", token.reveal())).await.json();
        let data = &answer["data"];
        assert_eq!((data["rows"].as_array().unwrap().len(), &data["truncated"]), (shown, &json!(truncated)));
    }
}

#[tokio::test]
async fn teams_and_people_are_imported_and_shown() {
    let (kit, router) = face().await;
    let plane = kit.delivery();
    kit.start_delivery(&plane).await;
    let scopes = ["snapshots:read", "snapshots:admin", "users:read", "users:write"];
    let client = Client::new(&kit, &router, &scopes).await;
    for (email, github) in [("ann@example.com", "ann"), ("bob@example.com", "bob")] {
        let body = json!({ "email": email, "name": github, "github_username": github });
        assert_eq!(client.post("users.upsert", &body).await.status, 200);
    }
    fails(&client.post("users.update", &json!({ "email": "zoe@example.com" })).await, 422, "user_not_found");
    let wrong = json!({ "email": "unknown", "name": {}, "start_date": "yesterday" });
    let wrong = client.post("users.upsert", &wrong).await;
    assert_eq!(faults(&wrong), [["name", "type"], ["email", "format"], ["start_date", "format"]]);
    let found = client.get("users.findByGithubUsername?github_username=ANN").await.json();
    assert_eq!(found["user"]["email"], "ann@example.com");
    let page = client.get("users.list?page_size=1").await.json();
    assert_eq!((&page["total"], &page["total_pages"], &page["next_page"]), (&json!(2), &json!(2), &json!(2)));
    assert_eq!(client.get("users.list?page=2&page_size=1").await.json()["next_page"], json!(null));
    fails(&client.get("users.list?page=0").await, 422, "invalid_arguments");

    let teams = json!({ "email": "ann@example.com", "teams": [
        { "reference_id": "eng", "name": "Engineering", "team_lead_email": "ann@example.com" },
        { "reference_id": "pay", "name": "Payments", "parent_team_reference_id": "eng",
          "parent_team_name": "Engineering", "contributors": ["bob@example.com", "unknown@example.com"] },
    ]});
    let plan = client.post("orgfiles.teamHierarchy.preview", &teams).await.json();
    assert_eq!(plan["created"], json!(["eng", "pay"]));
    assert_eq!(plan["unknown_contributors"], json!(["unknown@example.com"]));
    assert_eq!(client.get("teams.list").await.json()["teams"], json!([]));
    Client::done(&client.post("orgfiles.teamHierarchy.process", &teams).await);
    let filter = landreeve_estate::ops::RunFilter::default();
    let runs = landreeve_estate::ops::runs::run_list(
        &kit.estate,
        &kit.operator(),
        &filter,
        landreeve_core::Page::first(10),
    )
    .await
    .unwrap();
    for run in &runs.items {
        assert_eq!(kit.ended(run).await.state, RunState::Succeeded);
    }
    let listed = client.get("teams.list").await.json();
    let (eng, pay) = (&listed["teams"][0], &listed["teams"][1]);
    assert_eq!(
        (&eng["name"], &eng["parent"], &eng["ancestors"]),
        (&json!("Engineering"), &json!(true), &json!(["LTE"]))
    );
    assert_eq!((&pay["ancestors"], &pay["contributors"]), (&json!(["LTE", eng["id"]]), &json!(1)));
    let info = client.get(&format!("teams.info?team_id={}", eng["id"].as_str().unwrap())).await.json();
    let ann = found["user"]["id"].clone();
    let lead = json!({ "id": ann, "name": "ann", "email": "ann@example.com", "avatar": null,
        "github_username": "ann", "developer": null, "tz": null });
    assert_eq!(info["team"]["lead"], lead);
    assert_eq!(client.get("teams.get?reference_id=eng").await.json(), info);
    let info = client.get("teams.info?reference_id=pay").await.json();
    assert_eq!(info["team"]["contributors"][0]["github_username"], "bob");
    fails(&client.get("teams.info?team_id=NTA4Nzc").await, 422, "team_not_found");
    let found = client.get("teams.findByMembers?team_emails=bob@example.com,x@example.com").await.json();
    assert_eq!(
        (&found["team"]["name"], &found["team"]["members"][0]["name"]),
        (&json!("Payments"), &json!("bob"))
    );
    fails(&client.get("teams.findByMembers?team_emails=x@example.com").await, 400, "no_users_found");
    let got = client.get("orgfiles.teamHierarchy.get").await.json();
    assert_eq!(
        (&got[1]["members"], &got[1]["parent_team_name"]),
        (&json!(["bob@example.com"]), &json!("Engineering"))
    );

    let mut seen = Vec::new();
    let mut next = String::new();
    loop {
        let page = client.get(&format!("teams.auditTrail?limit=2&cursor={next}")).await.json();
        seen.extend(page["events"].as_array().unwrap().clone());
        let Some(cursor) = page["response_metadata"]["next_cursor"].as_str() else { break };
        next = cursor.to_owned();
    }
    let told = |action: &str| {
        let of_that = seen.iter().filter(|event| event["action"] == action);
        of_that.map(|event| event["metadata"].clone()).collect::<Vec<_>>()
    };
    assert_eq!((told("create").len(), told("add_contributor").len()), (2, 1), "{seen:?}");
    assert_eq!(told("add_contributor")[0]["to"], "bob@example.com");
    // Teams and people are named as everywhere in this dialect.
    assert_eq!(told("change_parent"), [json!({ "from": null, "to": eng["id"] })]);
    assert_eq!(told("change_manager"), [json!({ "from": null, "to": ann })]);
    fails(&client.get("teams.auditTrail?cursor=nonsense").await, 422, "invalid_arguments");
    let circle = json!({ "teams": [
        { "reference_id": "a", "name": "A", "parent_team_reference_id": "b", "parent_team_name": "B" },
        { "reference_id": "b", "name": "B", "parent_team_reference_id": "a", "parent_team_name": "A" },
    ]});
    fails(&client.post("orgfiles.teamHierarchy.process", &circle).await, 422, "invalid_arguments");
    let wrong = json!({ "email": {}, "teams": [
        { "reference_id": "a", "name": {}, "parent_team_reference_id": "z", "parent_team_name": "Z" },
    ]});
    let wrong = client.post("orgfiles.teamHierarchy.preview", &wrong).await;
    let expected =
        [["teams.0.name", "type"], ["email", "type"], ["teams.0.parent_team_reference_id", "unknown"]];
    assert_eq!(faults(&wrong), expected);
    // Importing people does not create logins.
    assert_eq!(client.rows("select name from users").await, [["admin"]]);
}

#[tokio::test]
async fn the_web_api_has_a_rate_limit_per_account() {
    let kit = Kit::new().await;
    let options = Options { requests_per_minute: 3, ..Options::default() };
    let router: axum::Router = router(kit.delivery(), &options).unwrap().into();
    let (_, key) = kit.key(Api::Delivery, &view()).await;
    let info = || Ask::get("/auth.info").bearer(&key);
    for _ in 0..3 {
        assert_eq!(info().send(&router).await.status, 200);
    }
    let refused = info().send(&router).await;
    fails(&refused, 429, "rate_limited");
    assert_eq!(refused.header("retry-after"), "60");
    // The Data Cloud's methods have no such limit.
    for _ in 0..5 {
        let answer =
            Ask::get("/api/customData.getAllByReference?reference=x").bearer(&key).send(&router).await;
        fails(&answer, 422, "missing_scope");
    }
    let unit = kit.ou("Research").await;
    let (_, other) = kit.key_in(Api::Delivery, &[], Some(&unit)).await;
    assert_eq!(Ask::get("/auth.info").bearer(&other).send(&router).await.status, 200);
    kit.clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(info().send(&router).await.status, 200);
}

#[tokio::test]
async fn the_status_of_a_run_has_a_rate_limit() {
    let kit = Kit::new().await;
    let router: axum::Router = router(kit.delivery(), &Options::default()).unwrap().into();
    let client = with_one_deployment(&kit, &router).await;
    // No executor runs here.
    let mut ids = Vec::new();
    for _ in 0..2 {
        let answer = client.post("studio.queryRuns.execute", &json!({ "sql": "select 1" })).await;
        ids.push(answer.json()["query_run"]["id"].as_str().unwrap().to_owned());
    }
    let info = |at: usize| format!("studio.queryRuns.info?id={}", ids[at]);
    for _ in 0..10 {
        assert_eq!(client.get(&info(0)).await.status, 200);
    }
    let refused = client.get(&info(0)).await;
    fails(&refused, 429, "rate_limited");
    assert_eq!(refused.header("retry-after"), "5");
    assert_eq!(client.get(&info(1)).await.status, 200);
    kit.clock.advance(std::time::Duration::from_secs(5));
    assert_eq!(client.get(&info(0)).await.status, 200);
}
