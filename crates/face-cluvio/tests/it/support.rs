//! The test server: an estate in a temporary folder, both routers, keys, and a driver that does as the statement says.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use axum::Router;
use axum::body::{Body, to_bytes};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Request, StatusCode};
use landreeve_analytics::AnalyticsOptions;
use landreeve_core::datasource::DatabaseType;
use landreeve_core::ids::{BoxFuture, DatasourceId, UserId};
use landreeve_core::schema::{Catalog, ColumnInfo, LogicalType, SchemaInfo, TableInfo, TableKind, describe};
use landreeve_core::source::{
    ByteStream, CancellationToken, ConnectSpec, Driver, Drivers, EncodeOptions, Query, QueryStream,
    ResultCodec, ResultWriter, ServerInfo, SessionZone, SourceError, SourceErrorKind,
};
use landreeve_core::{OpCtx, Secret};
use landreeve_estate::ops::keys::{NewKey, key_create, key_set_enabled};
use landreeve_estate::ops::users::{NewUser, first_user, user_create};
use landreeve_estate::ops::{Api, sign_in};
use landreeve_estate::random::SeededRandom;
use landreeve_estate::secrets::SealKey;
use landreeve_estate::{Estate, EstateOptions};
use landreeve_face_cluvio::{BUILTIN_SNIPPETS, Options, api_router, data_router, permissions};
use landreeve_testkit::{MockClock, Site};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::documented::{self, Received};

pub struct World {
    pub estate: Estate,
    pub operator: OpCtx,
    pub clock: Arc<MockClock>,
    pub api: Router,
    pub data: Router,
    /// A key with every permission that the dialect can name.
    pub key: String,
    pub site: Site,
}

pub const EVERYTHING: [&str; 8] = [
    "Manage Datasources",
    "Manage Dashboards",
    "Manage Filters",
    "Manage SQL Snippets",
    "Manage Users",
    "Manage User Groups",
    "Manage Organization",
    "Manage Alerts",
];

impl World {
    pub async fn new() -> World {
        World::at(Site::sqlite()).await
    }

    pub async fn at(site: Site) -> World {
        std::fs::write(site.data().join("files/shop.db"), b"").unwrap();
        let random = Arc::new(SeededRandom::new(7));
        let (plane, slot) =
            landreeve_analytics::plane(Arc::new(FakeCodec), AnalyticsOptions::default(), BUILTIN_SNIPPETS);
        let estate = Estate::open(EstateOptions {
            seal: SealKey::generate(&*random),
            random,
            drivers: Arc::new(FakeDrivers),
            cores: 1,
            ..site.with_planes(vec![plane])
        });
        let estate = estate.await.unwrap();
        let plane = slot.get().unwrap();
        let store = estate.store().clone();
        tokio::spawn(async move { store.listen(CancellationToken::new()).await });
        estate.start_runs(landreeve_estate::runs::Role::Node { home: None }).await.unwrap();
        let operator = sign_in::operator(&estate);
        let api = api_router(plane.clone(), Options::default()).unwrap().into();
        let data = data_router(plane, Options::default()).unwrap().into();
        let clock = Arc::clone(&site.clock);
        let mut world = World { estate, operator, clock, api, data, key: String::new(), site };
        world.key = world.key_with(&EVERYTHING).await;
        world
    }

    pub async fn key_with(&self, names: &[&str]) -> String {
        let grants = names.iter().flat_map(|name| permissions::parse(self.estate.hash_ids(), name).unwrap());
        self.key_for(grants.collect(), None).await
    }

    /// A key that acts as a user, with the user's permissions.
    pub async fn key_of(&self, user: UserId) -> String {
        self.key_for(Vec::new(), Some(user)).await
    }

    async fn key_for(
        &self,
        grants: Vec<landreeve_estate::ops::keys::NewKeyGrant>,
        user: Option<UserId>,
    ) -> String {
        let new = NewKey {
            api: Api::Analytics,
            name: "test".to_owned(),
            ou: None,
            user,
            grants,
            labels: Vec::new(),
        };
        key_create(&self.estate, &self.operator, new).await.unwrap().1.reveal().to_owned()
    }

    pub async fn disabled_key(&self) -> String {
        let new = NewKey {
            api: Api::Analytics,
            name: "off".to_owned(),
            ou: None,
            user: None,
            grants: Vec::new(),
            labels: Vec::new(),
        };
        let (key, secret) = key_create(&self.estate, &self.operator, new).await.unwrap();
        key_set_enabled(&self.estate, &self.operator, key.id, false).await.unwrap();
        secret.reveal().to_owned()
    }

    /// The first user, an administrator.
    pub async fn administrator(&self) -> UserId {
        let user = first_user(&self.estate, "admin", Secret::new("correct horse battery")).await.unwrap();
        user.unwrap().id
    }

    pub async fn user(&self, name: &str) -> UserId {
        let new = NewUser {
            name: name.to_owned(),
            email: format!("{name}@example.com"),
            full_name: "Ada Lovelace".to_owned(),
            password: None,
            grants: Vec::new(),
        };
        user_create(&self.estate, &self.operator, new).await.unwrap().id
    }

    pub fn ask<'a>(&'a self, method: &'a str, path: &'a str) -> Ask<'a> {
        Ask {
            router: &self.api,
            method,
            path,
            headers: HeaderMap::new(),
            authorization: Some(format!("Api {}", self.key)),
            body: None,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path).send().await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path).json(&body).send().await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.ask("PATCH", path).json(&body).send().await
    }

    /// Sends a request with a token to the data server.
    pub fn fetch<'a>(&'a self, path: &'a str, token: &str) -> Ask<'a> {
        let ask = self.ask("GET", path);
        Ask { router: &self.data, authorization: Some(format!("Data {token}")), ..ask }
    }

    /// Creates a resource; returns its id.
    pub async fn made(&self, path: &str, attributes: Value, relationships: Value) -> String {
        let body = json!({"data": {"attributes": attributes, "relationships": relationships}});
        let answer = self.post(path, body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{path}: {}", answer.text);
        answer.json["data"]["id"].as_str().unwrap().to_owned()
    }

    pub async fn datasource(&self) -> String {
        let attributes =
            json!({"name": "Shop", "database_type": "sqlite", "database": "shop.db", "password": "pw"});
        self.made("/datasources", attributes, json!({})).await
    }

    /// Runs a statement until it ends; returns the execution's id.
    pub async fn ran(&self, datasource: &str, sql: &str) -> (String, Value) {
        let path = format!("/datasources/{datasource}/executions?wait=30");
        let answer = self.post(&path, json!({"sql_query": sql})).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        (answer.json["data"]["id"].as_str().unwrap().to_owned(), answer.json["data"]["attributes"].clone())
    }
}

pub fn related(kind: &str, id: &str) -> Value {
    json!({"data": {"type": kind, "id": id}})
}

pub struct Ask<'a> {
    router: &'a Router,
    method: &'a str,
    path: &'a str,
    headers: HeaderMap,
    authorization: Option<String>,
    body: Option<Vec<u8>>,
}

impl<'a> Ask<'a> {
    pub fn of(router: &'a Router, method: &'a str, path: &'a str) -> Ask<'a> {
        Ask { router, method, path, headers: HeaderMap::new(), authorization: None, body: None }
    }

    pub fn auth(mut self, value: Option<&str>) -> Ask<'a> {
        self.authorization = value.map(str::to_owned);
        self
    }

    pub fn key(self, key: &str) -> Ask<'a> {
        self.auth(Some(&format!("Api {key}")))
    }

    pub fn accept(mut self, value: &str) -> Ask<'a> {
        self.headers.insert(ACCEPT, value.parse().unwrap());
        self
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Ask<'a> {
        self.headers.insert(name, value.parse().unwrap());
        self
    }

    pub fn json(self, body: &Value) -> Ask<'a> {
        let text = body.to_string();
        self.body("application/vnd.api+json", &text)
    }

    /// An empty type means none.
    pub fn body(mut self, media_type: &str, text: &str) -> Ask<'a> {
        if !media_type.is_empty() {
            self.headers.insert(CONTENT_TYPE, media_type.parse().unwrap());
        }
        self.body = Some(text.as_bytes().to_vec());
        self
    }

    pub async fn send(self) -> Answer {
        let mut request = Request::builder().method(self.method).uri(self.path);
        *request.headers_mut().unwrap() = self.headers;
        if let Some(authorization) = self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let body = self.body.map_or_else(Body::empty, Body::from);
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, 100_000_000).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        let answer = Answer { status: parts.status, headers: parts.headers, text, json };
        let received = Received {
            method: self.method,
            path: self.path,
            status: answer.status.as_u16(),
            content_type: answer.header("content-type"),
            body: &answer.text,
        };
        // The codec is a fake, so rows are not as documented.
        if !answer.text.starts_with("Json ") {
            documented::check(self.router, received).await;
        }
        answer
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
    pub json: Value,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn attribute(&self, name: &str) -> &Value {
        &self.json["data"]["attributes"][name]
    }

    /// Pointers (or parameters) of the errors, sorted; also checks that the body is in the dialect's form.
    pub fn pointers(&self) -> Vec<String> {
        let errors = self.json["errors"].as_array().unwrap_or_else(|| panic!("no errors: {}", self.text));
        let mut found = Vec::new();
        for error in errors {
            assert_eq!(error["status"], self.status.as_str());
            for name in ["code", "title", "detail"] {
                assert!(error[name].as_str().is_some_and(|text| !text.is_empty()), "{name}: {error}");
            }
            let source = &error["source"];
            let place = source["pointer"].as_str().or(source["parameter"].as_str());
            found.push(place.unwrap_or_default().to_owned());
        }
        assert_eq!(self.header("content-type"), "application/vnd.api+json");
        found.sort();
        found
    }

    pub fn first_code(&self) -> &str {
        self.json["errors"][0]["code"].as_str().unwrap_or_default()
    }
}

struct FakeDrivers;

impl Drivers for FakeDrivers {
    fn driver(&self, _: DatabaseType) -> Option<Arc<dyn Driver>> {
        Some(Arc::new(FakeDriver))
    }
}

struct FakeDriver;

/// The queries that reached the fake driver in this process, with their time limits.
pub static LIMITS: Mutex<Vec<(String, Duration)>> = Mutex::new(Vec::new());

fn catalog() -> Catalog {
    let table = TableInfo {
        name: "orders".to_owned(),
        kind: TableKind::Table,
        row_count: Some(3),
        row_count_exact: true,
        columns: vec![ColumnInfo {
            name: "id".to_owned(),
            data_type: "bigint".to_owned(),
            nullable: false,
            position: 1,
        }],
    };
    Catalog {
        server_version: "Fake 1".to_owned(),
        default_schema: Some("main".to_owned()),
        schemas: vec![
            SchemaInfo { name: "main".to_owned(), tables: vec![table] },
            SchemaInfo { name: "other".to_owned(), tables: Vec::new() },
        ],
    }
}

impl Driver for FakeDriver {
    fn test<'a>(
        &'a self,
        spec: &'a ConnectSpec,
        _: CancellationToken,
    ) -> BoxFuture<'a, Result<ServerInfo, SourceError>> {
        Box::pin(async move {
            match spec.database_type {
                DatabaseType::MySql => Err(SourceError::new(SourceErrorKind::Connect, "connection refused")),
                _ => Ok(ServerInfo { version: "Fake 1".to_owned(), zone: SessionZone::AsAsked }),
            }
        })
    }

    fn introspect<'a>(
        &'a self,
        _: &'a ConnectSpec,
        _: bool,
        _: CancellationToken,
    ) -> BoxFuture<'a, Result<Catalog, SourceError>> {
        Box::pin(async { Ok(catalog()) })
    }

    /// `broken` fails as a database would, `slow` waits to be cancelled, anything else returns the numbers 1 and 2.
    fn query<'a>(
        &'a self,
        _: &'a ConnectSpec,
        query: Query,
        cancel: CancellationToken,
    ) -> BoxFuture<'a, Result<QueryStream, SourceError>> {
        Box::pin(async move {
            LIMITS.lock().unwrap().push((query.sql.clone(), query.time_limit));
            if query.sql.contains("broken") {
                let error = SourceError::new(SourceErrorKind::Query, "relation \"broken\" does not exist");
                return Err(SourceError { code: Some("42P01".to_owned()), position: Some(15), ..error });
            }
            if query.sql.contains("slow") {
                cancel.cancelled().await;
                return Err(SourceError::new(SourceErrorKind::Cancelled, "cancelled"));
            }
            let field = describe(Field::new("n", DataType::Int64, false), LogicalType::Integer, "bigint");
            let schema: SchemaRef = Arc::new(Schema::new(vec![field]));
            let column = Arc::new(Int64Array::from(vec![1, 2]));
            let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap();
            let batches = Box::pin(futures_util::stream::iter([Ok(batch)]));
            Ok(QueryStream { schema, batches })
        })
    }

    fn forget(&self, _: DatasourceId) {}
}

/// Stores only that there were rows, and records how it was asked to encode them.
struct FakeCodec;

struct FakeWriter;

impl ResultWriter for FakeWriter {
    fn write(&mut self, batch: &RecordBatch) -> std::io::Result<bytes::Bytes> {
        Ok(format!("{} rows;", batch.num_rows()).into())
    }

    fn finish(&mut self) -> std::io::Result<bytes::Bytes> {
        Ok("end".into())
    }
}

impl ResultCodec for FakeCodec {
    fn writer(&self, _: &SchemaRef) -> std::io::Result<Box<dyn ResultWriter>> {
        Ok(Box::new(FakeWriter))
    }

    fn encode(&self, _: ByteStream, options: EncodeOptions) -> ByteStream {
        let text = format!(
            "{:?} {} {} {} {}",
            options.format,
            options.row_count.unwrap_or_default(),
            options.integers_as_strings,
            options.time_zone.iana_name().unwrap_or_default(),
            char::from(options.csv_separator)
        );
        Box::pin(futures_util::stream::once(async move { Ok(bytes::Bytes::from(text)) }))
    }
}
