//! Posts a month of generated history with curl, as a pipeline would, and compares the metrics from the command line,
//! from query runs and from an execution on the built-in source with those worked out by hand, on both stores.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Server, postgres_database};

const DAYS: u32 = 30;

/// The metrics of the history below, worked out by hand.
///
/// *checkout* is deployed daily at 12:00 with one pull request: opened at 02:00, merged at 11:00, on odd days with a
/// known first commit at 01:00, so it leads by 11 or 10 hours. *search* is deployed on even days at 18:00 with two
/// commits of 16:00 and 17:00. Incidents: on checkout on days 5 (13:00 to 14:00), 10 (13:00 to 16:00) and 15 (open); on
/// both on day 20 (19:00 to 20:00); on no service on day 25 (10:00 to 11:00).
fn expected(service: Option<&str>) -> Value {
    match service {
        None => json!({
            "deployment_frequency": [1.5, 45],
            // 15 x 1 h, 15 x 2 h, 15 x 10 h, 15 x 11 h
            "lead_time_seconds": [21_600.0, 60],
            "change_failure_rate": [5.0 / 45.0, 45],
            "change_failure_rate_dx": [5.0 / 45.0, 45],
            // 2 h, 4 h, and 2 h after the later of two deployments
            "recovery_seconds": [7_200.0, 3],
            // 1 h, 3 h, 1 h, 1 h
            "recovery_seconds_dx": [5_400.0, 4],
        }),
        Some("checkout") => json!({
            "deployment_frequency": [1.0, 30],
            "lead_time_seconds": [37_800.0, 30],
            "change_failure_rate": [4.0 / 30.0, 30],
            "change_failure_rate_dx": [4.0 / 30.0, 30],
            "recovery_seconds": [14_400.0, 3],
            "recovery_seconds_dx": [6_000.0, 3],
        }),
        Some(other) => panic!("no answer is known for {other}"),
    }
}

/// The same metrics, written in SQL as a user would.
const METRICS: &str = "\
with d as (select * from dora_deployments where environment = 'production' and success \
           and deployed_at >= $from and deployed_at < $to), \
c as (select * from dora_changes where environment = 'production' and deployed_at >= $from and deployed_at < $to), \
i as (select incident_id, min(recovery_seconds) as recovery, max(resolution_seconds) as resolution \
      from dora_incidents where started_at >= $from and started_at < $to group by incident_id) \
select (select count(*) from d) / 30.0 as deployment_frequency, \
       (select percentile_cont(0.5) within group (order by lead_time_seconds) from c) as lead_time_seconds, \
       (select count(*) filter (where failed) * 1.0 / count(*) from d) as change_failure_rate, \
       (select count(*) from i) * 1.0 / (select count(*) from d) as change_failure_rate_dx, \
       (select percentile_cont(0.5) within group (order by recovery) from i) as recovery_seconds, \
       (select avg(resolution) from i) as recovery_seconds_dx";

const FROM: &str = "2026-06-01T00:00:00Z";
const TO: &str = "2026-07-01T00:00:00Z";

/// Requests for one curl.
struct Posts<'a> {
    base: String,
    key: &'a str,
    config: String,
    count: usize,
}

impl Posts<'_> {
    fn separate(&mut self) {
        if self.count > 0 {
            self.config.push_str("next\n");
        }
        self.count += 1;
        let key = self.key;
        let _ = writeln!(self.config, "silent\nrequest = POST\nheader = \"Authorization: Bearer {key}\"");
        let _ = writeln!(self.config, "write-out = \"%{{http_code}} \"");
    }

    /// Sends a JSON body with curl's default content type.
    fn json(&mut self, method: &str, body: &Value) {
        self.separate();
        let text = body.to_string().replace('\\', "\\\\").replace('"', "\\\"");
        let _ = writeln!(self.config, "url = \"{}/dx/api/{method}\"\ndata = \"{text}\"", self.base);
    }

    /// Sends all arguments in the query, without a body.
    fn query(&mut self, method: &str, query: &str) {
        self.separate();
        let _ = writeln!(self.config, "url = \"{}/dx/api/{method}?{query}\"", self.base);
    }

    fn send(self) {
        let mut curl = Command::new("curl")
            .args(["--config", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        curl.stdin.take().unwrap().write_all(self.config.as_bytes()).unwrap();
        let output = curl.wait_with_output().unwrap();
        let answers = String::from_utf8(output.stdout).unwrap();
        assert_eq!(answers.matches(r#"{"ok":true}200 "#).count(), self.count, "{answers}");
    }
}

fn sha(day: u32, commit: u32) -> String {
    format!("{:07x}{:033x}", day * 16 + commit, 0xc0ffee)
}

fn at(day: u32, hour: u32) -> String {
    format!("2026-06-{day:02}T{hour:02}:00:00Z")
}

fn pull_request(posts: &mut Posts<'_>, day: u32) {
    let mut body = json!({
        "repository": "acme/shop", "number": day, "created_at": at(day, 2), "merged_at": at(day, 11),
        "merge_commit_sha": sha(day, 0), "base_ref": "main", "author": { "email": "ann@example.com" },
    });
    if day % 2 == 1 {
        body["first_commit_at"] = json!(at(day, 1));
    }
    posts.json("pullRequests.upsert", &body);
}

fn one_day(posts: &mut Posts<'_>, day: u32) {
    // On every third day the pull request is reported after its deployment.
    if !day.is_multiple_of(3) {
        pull_request(posts, day);
    }
    let seconds = 1_780_272_000 + i64::from(day - 1) * 86_400 + 12 * 3_600;
    let short = &sha(day, 0)[..7];
    let query = format!(
        "reference_id=checkout-{day}&deployed_at={seconds}&service=checkout&repository=acme/shop&commit_sha={short}"
    );
    posts.query("deployments.create", &query);
    if day.is_multiple_of(3) {
        pull_request(posts, day);
    }
    // Sent twice, then to staging, then as failed: none of these count.
    posts.query("deployments.create", &query);
    let staging = json!({ "reference_id": format!("staging-{day}"), "deployed_at": at(day, 11), "service": "checkout",
        "repository": "acme/shop", "environment": "staging" });
    posts.json("deployments.create", &staging);
    let failed = json!({ "reference_id": format!("failed-{day}"), "deployed_at": at(day, 11), "service": "checkout",
        "repository": "acme/shop", "success": false });
    posts.json("deployments.create", &failed);
    if day.is_multiple_of(2) {
        let commits: Vec<Value> = [1, 2]
            .map(|commit| json!({ "sha": sha(day, commit), "committed_at": at(day, 15 + commit) }))
            .to_vec();
        posts.json("commits.push", &json!({ "repository": "acme/search", "commits": commits }));
        let deployed = json!({ "reference_id": format!("search-{day}"), "deployed_at": at(day, 18),
            "service": { "identifier": "search", "name": "Search" }, "repository": "acme/search",
            "commit_sha": sha(day, 2) });
        posts.json("deployments.create", &deployed);
    }
}

fn incidents(posts: &mut Posts<'_>) {
    let mut incident = |day: u32, hours: (u32, Option<u32>), services: Value| {
        let reference = format!("inc-{day}");
        let body = json!({ "reference_id": reference, "started_at": at(day, hours.0), "services": services });
        posts.json("incidents.upsert", &body);
        if let Some(resolved) = hours.1 {
            let body = json!({ "reference_id": reference, "resolved_at": at(day, resolved) });
            posts.json("incidents.upsert", &body);
        }
    };
    incident(5, (13, Some(14)), json!(["checkout"]));
    incident(10, (13, Some(16)), json!([{ "identifier": "checkout" }]));
    incident(15, (13, None), json!(["checkout"]));
    incident(20, (19, Some(20)), json!(["checkout", "search"]));
    incident(25, (10, Some(11)), json!([]));
}

fn post_history(server: &Server, key: &str) {
    let mut posts = Posts { base: server.address.clone(), key, config: String::new(), count: 0 };
    for day in 1..=DAYS {
        one_day(&mut posts, day);
    }
    incidents(&mut posts);
    // At the end of the interval, which is exclusive.
    let late = json!({ "reference_id": "july", "deployed_at": TO, "service": "checkout" });
    posts.json("deployments.create", &late);
    posts.send();
}

fn close(found: &Value, wanted: &Value) -> bool {
    let found = found.as_f64().or_else(|| found.as_str().and_then(|text| text.parse().ok()));
    found.zip(wanted.as_f64()).is_some_and(|(found, wanted)| (found - wanted).abs() < 1e-9)
}

fn check_command_line(server: &Server, extra: &[&str], service: Option<&str>) {
    let mut arguments = vec!["dora", "--from", "2026-06-01", "--to", "2026-07-01", "--format", "json"];
    arguments.extend(service.map(|name| ["--service", name]).into_iter().flatten());
    arguments.extend(extra);
    let shown: Value = serde_json::from_str(&server.say(&arguments)).unwrap();
    for (name, wanted) in expected(service).as_object().unwrap() {
        let metric = &shown[name];
        assert!(close(&metric["value"], &wanted[0]), "{name}: {metric}, not {wanted}");
        assert_eq!(metric["n"], wanted[1], "{name}");
        assert!(metric["definition"].as_str().unwrap().len() > 20);
    }
}

async fn check_query_run(server: &Server, key: &str) {
    let client = server.client(key);
    let http = reqwest::Client::new();
    let ask = |method: &str| {
        http.post(format!("{}/dx/{method}", server.address)).header("authorization", format!("Bearer {key}"))
    };
    let body = json!({ "sql": METRICS, "variables": { "from": FROM, "to": TO } });
    let submitted = ask("studio.queryRuns.execute").body(body.to_string()).send().await.unwrap();
    assert_eq!(submitted.status(), 202);
    let info = submitted.headers()["location"].to_str().unwrap().to_owned();
    let run = loop {
        let shown = http.get(&info).header("authorization", format!("Bearer {key}")).send().await.unwrap();
        let shown: Value = serde_json::from_slice(&shown.bytes().await.unwrap()).unwrap();
        if !matches!(shown["query_run"]["status"].as_str(), Some("queued" | "running")) {
            break shown;
        }
        // Polls as often as the rate limit allows.
        crate::support::pause(std::time::Duration::from_millis(500));
    };
    assert_eq!(run["query_run"]["status"], "succeeded", "{run}");
    drop(client);
    let results = run["query_run"]["results_url"].as_str().unwrap();
    let results = http.get(results).header("authorization", format!("Bearer {key}")).send().await.unwrap();
    let results: Value = serde_json::from_slice(&results.bytes().await.unwrap()).unwrap();
    check_row(&results["results"]["columns"], &results["results"]["rows"][0]);
}

fn check_row(columns: &Value, row: &Value) {
    let wanted = expected(None);
    for (at, column) in columns.as_array().unwrap().iter().enumerate() {
        let name = column.as_str().unwrap();
        assert!(close(&row[at], &wanted[name][0]), "{name}: {}, not {}", row[at], wanted[name]);
    }
}

async fn check_execution(server: &Server) {
    let client = server.client(&server.key());
    let all = client.get("/cluvio/datasources").await.expect(200);
    let built_in = all["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|source| source["attributes"]["database_type"] == "landreeve_delivery");
    let id = built_in.unwrap()["id"].as_str().unwrap().to_owned();
    let sql = METRICS
        .replace("$from", &format!("timestamptz '{FROM}'"))
        .replace("$to", &format!("timestamptz '{TO}'"));
    let data = client.query(&id, &sql).await;
    let columns: Vec<Value> =
        data["columns"].as_array().unwrap().iter().map(|column| column["name"].clone()).collect();
    check_row(&json!(columns), &data["rows"][0]);
    // The parameter language knows the source's dialect.
    let sql = "select {deployed_at:aggregation} as day, count(*) as n from dora_deployments \
               where {deployed_at=timerange} and success and environment = 'production' group by 1 order by 1";
    let parameters =
        json!({ "timerange": "2026-06-01T00:00:00Z~2026-06-03T23:59:59Z", "aggregation": "day" });
    let data = client.query_with(&id, &json!({ "sql_query": sql, "parameters": parameters })).await;
    assert_eq!(data["rows"], json!([["2026-06-01", 1], ["2026-06-02", 2], ["2026-06-03", 1]]), "{data}");
}

async fn month(server: Server, extra: &[&str]) {
    let mut arguments = vec!["key", "create", "--api", "dx", "--name", "ci"];
    let writer = server.say(&arguments);
    arguments.extend(["--scope", "datacloud:query"]);
    let reader = server.say(&arguments);
    post_history(&server, &writer);
    check_command_line(&server, extra, None);
    check_command_line(&server, extra, Some("checkout"));
    check_query_run(&server, &reader).await;
    check_execution(&server).await;
    let table = server.say(&["dora", "--from", "2026-06-01", "--to", "2026-07-01"]);
    assert!(table.contains("1.50 a day") && table.contains('█'), "{table}");
}

#[tokio::test]
async fn a_month_of_history_gives_the_expected_metrics_on_sqlite() {
    month(Server::start(), &[]).await;
}

#[tokio::test]
async fn a_month_of_history_gives_the_expected_metrics_on_postgresql() {
    let (_, address) = postgres_database().await;
    month(Server::start_with(&["--store", &address.url]), &["--store", &address.url]).await;
}

#[tokio::test]
async fn command_line_records_and_shows_a_deployment() {
    let server = Server::start();
    let arguments = [
        "deploys",
        "record",
        "--service",
        "checkout",
        "--reference-id",
        "r1",
        "--deployed-at",
        "2026-06-01T12:00:00Z",
        "--metadata",
        "region=eu",
    ];
    assert_eq!(server.say(&arguments), "r1");
    // An identical deployment is accepted again.
    assert_eq!(server.say(&arguments), "r1");
    let shown = server.say(&["deploys", "show", "r1"]);
    assert!(shown.contains("checkout to production") && shown.contains("neither a repository"), "{shown}");
    let other = server.cli(&[
        "deploys",
        "record",
        "--service",
        "search",
        "--reference-id",
        "r1",
        "--deployed-at",
        "2026-06-01",
    ]);
    assert_eq!(other.status.code(), Some(1));
    let wrong = server.cli(&["dora", "--tz", "Nowhere/Land"]);
    assert_eq!(wrong.status.code(), Some(2));
    let unknown = server.cli(&["dora", "--service", "chekout"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("chekout"), "{unknown:?}");
    let token = server.say(&["feed", "create", "services", "--sql", "select service from deployments"]);
    assert!(token.starts_with("lrf_"));
    assert!(server.say(&["feed", "list"]).contains("select service"));
    server.say(&["feed", "delete", "services"]);
    assert_eq!(server.cli(&["feed", "delete", "services"]).status.code(), Some(1));
}

/// Options of a drop-down over delivery data are not cached across units.
#[tokio::test]
async fn options_over_delivery_data_are_per_caller() {
    let server = Server::start();
    let unit = server.say(&["ou", "create", "Sales"]);
    server.say(&["deploys", "record", "--service", "of-the-root", "--deployed-at", "2026-06-01"]);
    let below = ["deploys", "record", "--service", "of-sales", "--deployed-at", "2026-06-01", "--ou", &unit];
    server.say(&below);
    let mut arguments = vec!["key", "create", "--api", "cluvio", "--name", "sales", "--ou", &unit];
    arguments.extend(["--permission", "Manage Datasources", "--permission", "Manage Filters"]);
    let (root, sales) = (server.client(&server.key()), server.client(&server.say(&arguments)));
    let all = sales.get("/cluvio/datasources").await.expect(200);
    let mut sources = all["data"].as_array().unwrap().iter();
    let source =
        sources.find(|source| source["attributes"]["database_type"] == "landreeve_delivery").unwrap();
    let filter = json!({ "data": {
        "attributes": {
            "name": "Service", "variable_name": "service", "control_type": "dropdown", "value_type": "text",
            "options_type": "static_sql", "query": "select identifier from deployment_services order by 1",
        },
        "relationships": { "datasource": { "data": { "type": "datasources", "id": source["id"] } } },
    } });
    let made = sales.post("/cluvio/filters", &filter).await.expect(201);
    let path = format!("/cluvio/filters/{}/options", made["data"]["id"].as_str().unwrap());
    let seen = root.get(&path).await.expect(200);
    assert_eq!(seen["values"], json!(["of-sales", "of-the-root"]));
    let seen = sales.get(&path).await.expect(200);
    assert_eq!(seen["values"], json!(["of-sales"]));
}
