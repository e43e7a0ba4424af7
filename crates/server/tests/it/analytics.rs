//! Queries on real databases through the Cluvio dialect: types, parameters, time zones, limits, errors.

use serde_json::{Value, json};

use crate::support::{Address, Client, Server, address, postgres, postgres_database};

struct Source {
    client: Client,
    id: String,
    server: Server,
}

fn network(kind: &str, address: &Address, database: &str) -> Value {
    json!({
        "name": kind, "database_type": kind, "host": address.host, "port": address.port,
        "username": address.user, "password": address.password, "database": database,
        "data_time_zone": "UTC", "update_schema_nightly": false,
    })
}

async fn source(attributes: Value) -> Source {
    source_on(Server::start(), attributes).await
}

async fn source_on(server: Server, attributes: Value) -> Source {
    let client = server.client(&server.key());
    let id = client.datasource(attributes).await;
    Source { client, id, server }
}

async fn on_postgres() -> (Source, Address) {
    let (name, address) = postgres_database().await;
    (source(network("postgres", &address, &name)).await, address)
}

async fn on_mariadb(variable: &str) -> Source {
    source(network("mariadb", &address(variable), "mysql")).await
}

async fn on_sqlite() -> Source {
    let server = Server::start();
    server.wait_for_sample();
    std::fs::copy(server.data_dir.join("sample/tpch.db"), server.data_dir.join("files/s.db")).unwrap();
    let attributes = json!({
        "name": "s", "database_type": "sqlite", "database": "s.db", "data_time_zone": "UTC",
        "update_schema_nightly": false,
    });
    source_on(server, attributes).await
}

impl Source {
    async fn rows(&self, sql: &str) -> Value {
        self.client.query(&self.id, sql).await["rows"].clone()
    }

    async fn with(&self, sql: &str, parameters: Value) -> Value {
        let body = json!({ "sql_query": sql, "parameters": parameters });
        self.client.query_with(&self.id, &body).await
    }

    /// Runs an execution that must end *failed*; returns its message.
    async fn fails(&self, sql: &str) -> String {
        let execution = self.client.execute(&self.id, &json!({ "sql_query": sql })).await;
        let attributes = &execution["data"]["attributes"];
        assert_eq!(attributes["execution_status"], "failed", "{execution}");
        attributes["error_message"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn postgres_values_keep_all_digits() {
    let (source, _) = on_postgres().await;
    let found = source
        .client
        .query(
            &source.id,
            "select 9007199254740993::int8 as big, 1.10::numeric(10,2) as exact, 'NaN'::float8 as nan, \
             'infinity'::float8 as inf, timestamptz '2024-07-01 12:00:00+00' as at, \
             timestamp '2024-07-01 12:00:00.5' as local, date '12024-01-01' as far, '{1,2}'::int[] as list, \
             true as yes, null::text as nothing, '{\"a\": [1]}'::json as doc, '\\x00ff'::bytea as raw",
        )
        .await;
    let keys: Vec<_> = found.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["columns", "row_count", "truncated", "timestamp", "time_zone", "rows"]);
    assert_eq!(
        found["rows"].to_string(),
        json!([[
            9_007_199_254_740_993_i64, "1.10", "NaN", "Infinity", "2024-07-01T12:00:00.000000+00:00",
            "2024-07-01T12:00:00.500000", "12024-01-01", "{1,2}", true, null, { "a": [1] }, "AP8="
        ]])
        .to_string()
    );
    assert_eq!(found["columns"][1]["encoding"], "string");
    let strings = source.client.execute(&source.id, &json!({ "sql_query": "select 1::int8 as n" })).await;
    let id = strings["data"]["id"].as_str().unwrap();
    let grant = source.client.get(&format!("/cluvio/executions/{id}/data")).await.expect(200);
    let (key, token) = (grant["data_key"].as_str().unwrap(), grant["data_access_token"].as_str().unwrap());
    let found = source.client.data(&format!("{key}?integers=string"), token, "*/*").await.expect(200);
    assert_eq!(found["rows"], json!([["1"]]));
    let csv = source.client.data(key, token, "text/csv").await;
    assert_eq!(String::from_utf8_lossy(&csv.body).lines().collect::<Vec<_>>(), ["n", "1"]);
    let parquet = source.client.data(key, token, "application/vnd.apache.parquet").await;
    assert_eq!(&parquet.body[..4], b"PAR1");
    let foreign = source.client.data("r-00000000-0000-4000-8000-000000000000", token, "*/*").await;
    assert_eq!(foreign.status, 403);
    assert_eq!(source.client.data(key, "nonsense", "*/*").await.status, 401);
}

#[tokio::test]
async fn writes_are_refused_and_change_nothing() {
    let (source, address) = on_postgres().await;
    postgres(&address.url, "create table t (n int); insert into t values (1)").await;
    for sql in [
        "insert into t values (2)",
        "select 1; insert into t values (2)",
        "do $$ begin perform set_config('transaction_read_only','off',true); insert into t values (2); commit; end $$",
        "with x as (insert into t values (2) returning n) select * from x",
        "select * into u from t",
        "set transaction read write",
        "copy t from stdin",
        "call nothing()",
        "begin",
    ] {
        let message = source.fails(sql).await;
        assert!(!message.is_empty(), "{sql}");
    }
    assert_eq!(source.rows("select n from t").await, json!([[1]]));
    let maria = on_mariadb("LANDREEVE_TEST_MARIADB").await;
    for sql in [
        "set session transaction read write; insert into t values (1)",
        "set session transaction read write",
        "select 1 into outfile '/tmp/landreeve-outfile'",
        "create table never (n int)",
        "load data local infile '/etc/passwd' into table t",
    ] {
        maria.fails(sql).await;
    }
    let sqlite = on_sqlite().await;
    for sql in
        ["attach 'x.db' as x", "pragma writable_schema = on", "delete from region", "vacuum into 'x.db'"]
    {
        sqlite.fails(sql).await;
    }
    assert_eq!(sqlite.rows("select count(*) from region").await, json!([[5]]));
}

#[tokio::test]
async fn database_error_messages_are_passed_on() {
    let (source, _) = on_postgres().await;
    let execution =
        source.client.execute(&source.id, &json!({ "sql_query": "select nothing from nowhere" })).await;
    let attributes = &execution["data"]["attributes"];
    assert_eq!(attributes["execution_status"], "failed");
    assert!(
        attributes["error_message"].as_str().unwrap().contains("relation \"nowhere\" does not exist"),
        "{execution}"
    );
    let id = execution["data"]["id"].as_str().unwrap();
    assert_eq!(source.client.get(&format!("/cluvio/executions/{id}/data")).await.status, 204);
}

/// Both daylight saving changes in Berlin in 2024, on each database: counts the instants on each local day.
async fn days_in_berlin(source: &Source, times: &str) {
    let sql = format!(
        "select {{ts:day}} as day, count(*) as n from ({times}) t where {{ts=timerange}} group by 1 order by 1"
    );
    let berlin =
        |start: i64, end: i64| json!({ "timerange": format!("{start}~{end}"), "tz": "Europe/Berlin" });
    // 2024-03-30T23:00Z is midnight of the 31st in Berlin; that day has 23 hours.
    let spring = source.with(&sql, berlin(1_711_839_600, 1_711_922_399)).await;
    assert_eq!(spring["rows"], json!([["2024-03-31", 23]]), "{spring}");
    // 2024-10-26T22:00Z is midnight of the 27th; that day has 25 hours.
    let autumn = source.with(&sql, berlin(1_729_980_000, 1_730_069_999)).await;
    assert_eq!(autumn["rows"], json!([["2024-10-27", 25]]), "{autumn}");
}

#[tokio::test]
async fn days_follow_the_time_zone_on_postgres() {
    let (source, _) = on_postgres().await;
    let hours = "select timestamptz '2024-01-01 00:00:00+00' + n * interval '1 hour' as ts from generate_series(0, 8783) n";
    days_in_berlin(&source, hours).await;
}

#[tokio::test]
async fn days_follow_the_time_zone_in_the_built_in_engine() {
    let server = Server::start();
    let client = server.client(&server.key());
    let all = client.get("/cluvio/datasources").await.expect(200);
    let built_in = |source: &&Value| source["attributes"]["database_type"] == "landreeve_delivery";
    let id =
        all["data"].as_array().unwrap().iter().find(built_in).unwrap()["id"].as_str().unwrap().to_owned();
    let source = Source { client, id, server };
    let hours = "select n.value::timestamptz as ts from generate_series(timestamp '2024-01-01 00:00:00', \
                 timestamp '2024-12-31 23:00:00', interval '1 hour') n";
    days_in_berlin(&source, hours).await;
    // A zone with a half-hour offset.
    let sql = format!(
        "select {{ts:hour}} as hour, count(*) as n from ({hours}) t where {{ts=timerange}} group by 1 order by 1 limit 1"
    );
    let kolkata = json!({ "timerange": "1711839600~1711843199", "tz": "Asia/Kolkata" });
    let data = source.with(&sql, kolkata).await;
    assert_eq!(data["rows"], json!([["2024-03-31T04:00:00.000000+05:30", 1]]), "{data}");
}

const MARIADB_HOURS: &str = "select timestamp('2024-01-01') + interval seq hour as ts from seq_0_to_8783";

#[tokio::test]
async fn days_follow_the_time_zone_on_mariadb() {
    days_in_berlin(&on_mariadb("LANDREEVE_TEST_MARIADB").await, MARIADB_HOURS).await;
}

#[tokio::test]
async fn days_follow_the_time_zone_on_mariadb_without_zone_tables() {
    let source = on_mariadb("LANDREEVE_TEST_MARIADB_NO_ZONES").await;
    // The schema refresh detects that the server has no time zone tables.
    let refresh = source
        .client
        .post(&format!("/cluvio/datasources/{}/refresh", source.id), &json!({}))
        .await
        .expect(200);
    let id = refresh["execution_id"].as_str().unwrap();
    let done = source.client.get(&format!("/cluvio/executions/{id}?wait=30")).await.expect(200);
    assert_eq!(done["data"]["attributes"]["execution_status"], "completed", "{done}");
    days_in_berlin(&source, MARIADB_HOURS).await;
    let body = json!({
        "sql_query": format!("select {{ts:day}} from ({MARIADB_HOURS}) t"), "parameters": { "tz": "Europe/Berlin" },
    });
    let refused =
        source.client.post(&format!("/cluvio/datasources/{}/executions", source.id), &body).await.expect(422);
    assert!(refused.to_string().contains("mysql_tzinfo_to_sql"), "{refused}");
}

#[tokio::test]
async fn days_follow_the_time_zone_on_sqlite() {
    let hours = "with recursive h(n) as (select 0 union all select n + 1 from h where n < 8783) \
                 select datetime('2024-01-01', n || ' hours') as ts from h";
    days_in_berlin(&on_sqlite().await, hours).await;
}

#[tokio::test]
async fn filters_snippets_and_their_errors() {
    let source = on_sqlite().await;
    let client = &source.client;
    let document = |attributes: Value| json!({ "data": { "attributes": attributes } });
    let snippet = document(json!({ "name": "europe", "sql": "n_regionkey = 3" }));
    client.post("/cluvio/sql_snippets", &snippet).await.expect(201);
    let filter = document(json!({
        "name": "Nation", "variable_name": "nation", "control_type": "dropdown", "value_type": "text",
        "values": ["FRANCE", "GERMANY"], "value_names": ["France", null],
    }));
    let made = client.post("/cluvio/filters", &filter).await.expect(201);
    let id = made["data"]["id"].as_str().unwrap();
    let options = client.get(&format!("/cluvio/filters/{id}/options")).await.expect(200);
    assert_eq!(options["values"], json!(["FRANCE", "GERMANY"]));
    let kept = json!({ "data": {
        "attributes": {
            "name": "Region", "variable_name": "region", "control_type": "dropdown", "value_type": "text",
            "options_type": "static_sql", "query": "select r_name from region order by 1 limit 2",
        },
        "relationships": { "datasource": { "data": { "type": "datasources", "id": source.id } } },
    } });
    let made = client.post("/cluvio/filters", &kept).await.expect(201);
    let id = made["data"]["id"].as_str().unwrap();
    for _ in 0..2 {
        let options = client.get(&format!("/cluvio/filters/{id}/options")).await.expect(200);
        assert_eq!(options["values"], json!(["AFRICA", "AMERICA"]));
    }
    let trail = source.server.say(&["audit", "list", "--format", "csv", "--limit", "500"]);
    assert_eq!(trail.matches(",options_read,filter,").count(), 1, "the second read is cached: {trail}");
    let sql = "select n_name from nation where [europe] and {n_name=nation} order by 1";
    let chosen =
        |value: &str| json!({ "filters": [{ "variable_name": "nation", "selected_values": [value] }] });
    let found = source.with(sql, chosen("FRANCE")).await;
    assert_eq!(found["rows"], json!([["FRANCE"]]));
    let path = format!("/cluvio/datasources/{}/executions", source.id);
    let outside =
        client.post(&path, &json!({ "sql_query": sql, "parameters": chosen("SPAIN") })).await.expect(422);
    assert!(outside["errors"][0]["detail"].as_str().unwrap().contains("SPAIN"), "{outside}");
    assert_eq!(outside["errors"][0]["source"]["pointer"], "/parameters/filters/0/selected_values");
    let hostile =
        client.post(&path, &json!({ "sql_query": sql, "parameters": chosen("x' or '1'='1") })).await;
    assert_eq!(hostile.status, 422);

    let cycle = document(json!({ "name": "a", "sql": "[a]" }));
    assert!(client.post("/cluvio/sql_snippets", &cycle).await.expect(422).to_string().contains("cycle"));
    let r = client.post(&path, &json!({ "sql_query": "select 1", "r_query": "1" })).await.expect(422);
    assert_eq!(r["errors"][0]["source"]["pointer"], "/r_query");
    let all = json!({ "sql_query": "select {o_orderdate:aggregation}", "parameters": { "aggregation": "all_time" } });
    assert_eq!(client.post(&path, &all).await.status, 422);
    let mars = json!({ "sql_query": "select 1", "parameters": { "tz": "Mars/Olympus" } });
    assert_eq!(
        client.post(&path, &mars).await.expect(422)["errors"][0]["source"]["pointer"],
        "/parameters/tz"
    );
}

/// Whatever compression a client asks for, the download ends as it should; `curl` fails if the connection breaks off.
#[tokio::test]
async fn results_are_downloaded_with_every_compression() {
    let source = on_sqlite().await;
    let execution = source.client.execute(&source.id, &json!({ "sql_query": "select * from nation" })).await;
    let id = execution["data"]["id"].as_str().unwrap();
    let grant = source.client.get(&format!("/cluvio/executions/{id}/data")).await.expect(200);
    let (key, token) = (&grant["data_key"].as_str().unwrap(), &grant["data_access_token"].as_str().unwrap());
    let address = format!("{}/cluvio-data/data/{key}", source.server.address);
    let formats = [
        "application/json",
        "text/csv",
        "application/vnd.apache.parquet",
        "application/vnd.apache.arrow.stream",
    ];
    for format in formats {
        for encoding in ["identity", "gzip", "deflate", "br", "zstd", "gzip, deflate, br, zstd"] {
            let headers = [
                format!("Authorization: Data {token}"),
                format!("Accept: {format}"),
                format!("Accept-Encoding: {encoding}"),
            ];
            let mut curl = std::process::Command::new("curl");
            curl.args(["-sS", "--fail", "-o", "/dev/null", &address]);
            curl.args(headers.iter().flat_map(|header| ["-H", header]));
            let ended = curl.output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr);
            assert!(ended.status.success(), "{format}, {encoding}: {said}");
        }
    }
}

#[tokio::test]
async fn results_over_the_limit_fail_and_leave_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("landreeve.toml");
    std::fs::write(&file, "[analytics]\nmax_result_bytes = 1000000\n").unwrap();
    let server = Server::start_with(&["--config", file.to_str().unwrap()]);
    let (name, address) = postgres_database().await;
    let source = source_on(server, network("postgres", &address, &name)).await;
    let message = source.fails("select md5(n::text) from generate_series(1, 200000) n").await;
    assert!(message.contains("1000000") && message.contains("max_result_bytes"), "{message}");
    let left = std::fs::read_dir(source.server.data_dir.join("blobs/results"));
    assert!(left.map_or(0, Iterator::count) == 0, "part of the result was left behind");
}

#[tokio::test]
async fn databases_that_are_down_slow_or_disconnect() {
    let (source, address) = on_postgres().await;
    let path = format!("/cluvio/datasources/{}/executions", source.id);
    let slow = source.client.post(&path, &json!({ "sql_query": "select pg_sleep(600)" })).await.expect(200);
    let id = slow["data"]["id"].as_str().unwrap().to_owned();
    // Counts the statements sleeping in the database. Starting one and ending a cancelled one take a moment.
    let sleepers = "select count(*) from pg_stat_activity where query like '%pg_sleep(600)%' and state = 'active' \
                   and datname = current_database() and pid <> pg_backend_pid()";
    let until = async |wanted: i64| {
        let mut found = Value::Null;
        for _ in 0..500 {
            found = source.rows(sleepers).await;
            if found == json!([[wanted]]) {
                return;
            }
        }
        panic!("{found} statements sleep in the database, not {wanted}");
    };
    until(1).await;
    let cancelled = source.client.post(&format!("/cluvio/executions/{id}/cancel"), &json!({})).await;
    assert_eq!(cancelled.status, 200);
    let ended = source.client.get(&format!("/cluvio/executions/{id}?wait=30")).await.expect(200);
    assert_eq!(ended["data"]["attributes"]["execution_status"], "cancelled", "{ended}");
    until(0).await;

    let broken = source.client.post(&path, &json!({ "sql_query": "select pg_sleep(600)" })).await.expect(200);
    let id = broken["data"]["id"].as_str().unwrap();
    let mut killed = false;
    for _ in 0..200 {
        let sql = "select pg_terminate_backend(pid) from pg_stat_activity \
                   where query like '%pg_sleep(600)%' and state = 'active' \
                   and datname = current_database() and pid <> pg_backend_pid()";
        let found = source.rows(sql).await;
        if found.as_array().is_some_and(|rows| !rows.is_empty()) {
            killed = true;
            break;
        }
    }
    assert!(killed);
    let ended = source.client.get(&format!("/cluvio/executions/{id}?wait=30")).await.expect(200);
    assert_eq!(ended["data"]["attributes"]["execution_status"], "failed", "{ended}");

    let mut nowhere = network("postgres", &address, "x");
    nowhere["port"] = json!(1);
    let down = source.client.datasource(nowhere).await;
    let tested =
        source.client.post(&format!("/cluvio/datasources/{down}/test"), &json!({})).await.expect(200);
    assert_eq!(tested["status"], "error");
    assert!(tested["error_message"].as_str().unwrap().contains('1'), "{tested}");
    let execution = source.client.execute(&down, &json!({ "sql_query": "select 1" })).await;
    assert_eq!(execution["data"]["attributes"]["execution_status"], "failed");
}

#[tokio::test]
async fn schemas_reports_and_dashboards() {
    let (source, address) = on_postgres().await;
    postgres(
        &address.url,
        "create table orders (id bigint primary key, placed timestamptz, total numeric(10,2))",
    )
    .await;
    let client = &source.client;
    let refresh =
        client.post(&format!("/cluvio/datasources/{}/refresh", source.id), &json!({})).await.expect(200);
    let id = refresh["execution_id"].as_str().unwrap();
    client.get(&format!("/cluvio/executions/{id}?wait=30")).await.expect(200);
    let grant =
        client.get(&format!("/cluvio/datasources/{}/schema?name=public", source.id)).await.expect(200);
    let (key, token) = (grant["data_key"].as_str().unwrap(), grant["data_access_token"].as_str().unwrap());
    let schema = client.data(key, token, "application/json").await.expect(200);
    assert_eq!(schema["tables"][0]["name"], "orders");
    assert_eq!(schema["tables"][0]["columns"][2]["type"], "numeric(10,2)", "{schema}");

    let document = |attributes: Value| json!({ "data": { "attributes": attributes } });
    let dashboard =
        client.post("/cluvio/dashboards", &document(json!({ "name": "Sales" }))).await.expect(201);
    let dashboard = dashboard["data"]["id"].as_str().unwrap();
    let report = json!({ "data": {
        "attributes": { "name": "Totals", "query": "select {placed:aggregation} as day, count(*) from orders group by 1" },
        "relationships": {
            "datasource": { "data": { "type": "datasources", "id": source.id } },
            "dashboard": { "data": { "type": "dashboards", "id": dashboard } },
        },
    }});
    let report = client.post("/cluvio/reports", &report).await.expect(201);
    let report = report["data"]["id"].as_str().unwrap();
    let run = client.post(&format!("/cluvio/reports/{report}/run?wait=30"), &json!({})).await.expect(200);
    assert_eq!(run["data"]["attributes"]["execution_status"], "completed", "{run}");
    let shown = client.get(&format!("/cluvio/dashboards/{dashboard}?include=reports")).await.expect(200);
    assert_eq!(shown["included"][0]["id"], report);
    assert_eq!(client.delete(&format!("/cluvio/dashboards/{dashboard}")).await.status, 204);
    assert_eq!(client.get(&format!("/cluvio/reports/{report}")).await.status, 404);
}
