//! Name resolution: schemas, catalogs that fail or are slow, views, and the driver that selects a catalog.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::tz::TimeZone;
use landreeve_core::datasource::DatabaseType;
use landreeve_core::ids::{BoxFuture, DatasourceId};
use landreeve_core::source::{
    CancellationToken, ConnectSpec, Driver as _, Permit, Query, SourceError, SourceErrorKind, Target, TlsMode,
};
use landreeve_core::table::{Applies, Catalog, Listed, Reader, Table, TableName, Tables};
use landreeve_engine::EngineDriver;

use crate::support::{Bench, Facts, view};

fn facts(count: usize) -> Arc<dyn Table> {
    let mut rows = super::some_facts();
    rows.truncate(count);
    Arc::new(Facts::new(rows, Applies::Exact))
}

fn schemas() -> Tables {
    let named = |schema: &str, name: &str, sql: &str| (TableName::new(schema, name), view("public", sql));
    Tables {
        tables: vec![
            (TableName::new("public", "facts"), facts(1)),
            (TableName::new("Other Place", "facts"), facts(3)),
        ],
        views: vec![
            named("other", "both", "SELECT id FROM facts UNION ALL SELECT id FROM \"Other Place\".facts"),
            named("public", "more", "SELECT id FROM other.both UNION ALL SELECT 7"),
            named("public", "endless", "SELECT * FROM endless_too"),
            named("public", "endless_too", "SELECT * FROM endless"),
        ],
    }
}

#[tokio::test]
async fn names_have_schemas() {
    let bench = Bench::new(schemas());
    for (sql, count) in [
        ("select count(*) from facts", "1"),
        ("select count(*) from public.facts", "1"),
        ("select count(*) from \"Other Place\".facts", "3"),
        ("select count(*) from landreeve.\"Other Place\".facts", "3"),
        ("select count(*) from facts a join \"Other Place\".facts b on a.id = b.id", "1"),
        ("select count(*) from other.both", "4"),
        ("select count(*) from more where id = 7", "1"),
        ("with facts as (select 1) select count(*) from facts", "1"),
    ] {
        assert_eq!(bench.rows(sql).await, [count], "{sql}");
    }
    for sql in [
        "select * from nowhere.facts",
        "select * from other.facts",
        "select * from both",
        "select * from elsewhere.public.facts",
        "select * from endless",
    ] {
        let error = bench.ask(sql, &[]).await.unwrap_err();
        assert_eq!(error.kind, SourceErrorKind::Query, "{sql}: {error:?}");
    }
}

/// Records the names it is asked for, and fails or never answers.
struct Troubled {
    fails: bool,
    asked: Arc<Mutex<Vec<TableName>>>,
}

impl Catalog for Troubled {
    fn default_schema<'a>(&'a self, reader: &'a Reader) -> &'a str {
        reader.database.as_deref().unwrap_or("main")
    }

    fn resolve<'a>(
        &'a self,
        _: &'a Reader,
        names: &'a [TableName],
    ) -> BoxFuture<'a, Result<Tables, SourceError>> {
        self.asked.lock().unwrap().extend_from_slice(names);
        if self.fails {
            let error = SourceError::new(SourceErrorKind::Lost, "the catalog is away");
            return Box::pin(std::future::ready(Err(error)));
        }
        Box::pin(std::future::pending())
    }

    fn list<'a>(&'a self, _: &'a Reader) -> BoxFuture<'a, Result<Vec<Listed>, SourceError>> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_catalog_can_fail_and_be_slow() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let mut bench = Bench::new(Troubled { fails: true, asked: Arc::clone(&asked) });
    bench.tables.reader.database = Some("sales".to_owned());
    let error =
        bench.ask("select * from a join b.c on true where x in (select y from a)", &[]).await.unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (SourceErrorKind::Lost, "the catalog is away"));
    let mut names = asked.lock().unwrap().clone();
    names.sort();
    assert_eq!(names, [TableName::new("b", "c"), TableName::new("sales", "a")], "each name once");
    // A statement without names does not query the catalog.
    assert_eq!(bench.rows("select 1").await, ["1"]);
    let mut bench = Bench::new(Troubled { fails: false, asked: Arc::default() });
    bench.limit = Duration::from_millis(200);
    let error = bench.ask("select * from a", &[]).await.unwrap_err();
    assert_eq!(error.kind, SourceErrorKind::TimedOut);
    bench.limit = Duration::from_secs(20);
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let (answer, ()) = tokio::join!(bench.ask_until("select * from a", &[], cancel), async move {
        tokio::task::yield_now().await;
        stop.cancel();
    });
    assert_eq!(answer.unwrap_err().kind, SourceErrorKind::Cancelled);
}

fn spec(catalog: &str) -> ConnectSpec {
    ConnectSpec {
        datasource: DatasourceId(1),
        version: 1,
        database_type: DatabaseType::stored(catalog),
        target: Target::Tables { catalog: catalog.to_owned(), reader: Reader::default() },
        tls: TlsMode::Prefer,
        time_zone: TimeZone::UTC,
        max_connections: 1,
        permit: Permit::default(),
        connect_timeout: Duration::from_secs(10),
    }
}

#[tokio::test]
async fn the_target_selects_the_catalog() {
    let bench = Bench::new(schemas());
    let one: Arc<dyn Catalog> = Arc::new(super::tables(Facts::new(super::some_facts(), Applies::Exact)));
    let mut other = schemas();
    other.views.truncate(2);
    let other: Arc<dyn Catalog> = Arc::new(other);
    let catalogs = BTreeMap::from([("one".to_owned(), one), ("other".to_owned(), other)]);
    let driver = EngineDriver { engine: Arc::new(bench.engine), catalogs };
    let cancel = CancellationToken::new();
    let mut shown = Vec::new();
    for name in ["one", "other"] {
        let found = driver.introspect(&spec(name), true, cancel.clone()).await.unwrap();
        assert_eq!(found.default_schema.as_deref(), Some("public"));
        for schema in found.schemas {
            for table in schema.tables {
                shown.push(format!(
                    "{name} {}.{} {:?} {}",
                    schema.name,
                    table.name,
                    table.kind,
                    table.columns.len()
                ));
            }
        }
    }
    assert_eq!(
        shown,
        [
            "one public.daily View 2",
            "one public.facts Table 5",
            "one public.named View 3",
            "other Other Place.facts Table 5",
            "other other.both View 1",
            "other public.facts Table 5",
            "other public.more View 1",
        ]
    );
    let query = Query {
        sql: "select * from facts".to_owned(),
        time_limit: Duration::from_secs(10),
        batch_rows: 10,
        batch_bytes: 1_000,
        decimals: Vec::new(),
    };
    assert!(driver.query(&spec("other"), query.clone(), cancel.clone()).await.is_ok());
    let error = driver.query(&spec("none"), query, cancel).await.err().unwrap();
    assert_eq!(error.kind, SourceErrorKind::Connect);
}
