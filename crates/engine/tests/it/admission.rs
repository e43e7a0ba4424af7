//! Statements that read datasources which may have few connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use futures_util::StreamExt as _;
use landreeve_core::ids::{BoxFuture, DatasourceId};
use landreeve_core::source::{Connections, Permit, Permits, SourceError};
use landreeve_core::table::{
    Applies, BatchStream, Catalog, Condition, Flavour, Listed, Reader, Scan, Table, TableName, Tables,
};
use tokio::sync::Semaphore;

use crate::support::{Bench, texts};

const BATCHES: i64 = 20;
const ROWS: i64 = 1_000;

/// Rows from a datasource; it counts the connections that are in use.
struct Limited {
    datasource: DatasourceId,
    limit: usize,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

/// One scan's connection.
struct Open(Arc<AtomicUsize>, #[expect(dead_code, reason = "held")] Permit);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Table for Limited {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true)]))
    }

    fn applies(&self, _: &Condition) -> Applies {
        Applies::No
    }

    fn connections(&self) -> Option<(DatasourceId, usize)> {
        Some((self.datasource, self.limit))
    }

    fn scan(&self, scan: Scan) -> BatchStream {
        let now = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let open = Open(Arc::clone(&self.open), scan.permit);
        let schema = Arc::new(self.schema().project(&scan.columns).unwrap());
        let batches = futures_util::stream::iter(0..BATCHES).map(move |batch| {
            let _open = &open;
            let ids: ArrayRef =
                Arc::new((batch * ROWS..(batch + 1) * ROWS).map(Some).collect::<Int64Array>());
            let columns = scan.columns.iter().map(|_| Arc::clone(&ids)).collect();
            let options = RecordBatchOptions::new().with_row_count(Some(ROWS as usize));
            Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options).unwrap())
        });
        Box::pin(batches)
    }
}

/// Tables `a` and `b` of one datasource and `c` of another.
struct Few {
    tables: Tables,
    free: BTreeMap<DatasourceId, Arc<Semaphore>>,
}

impl Few {
    fn new(limit: usize) -> (Few, Arc<AtomicUsize>) {
        let most = Arc::new(AtomicUsize::new(0));
        let open: [Arc<AtomicUsize>; 2] = Default::default();
        let table = |name: &str, datasource: usize| {
            let table = Limited {
                datasource: DatasourceId(datasource as i64),
                limit,
                open: Arc::clone(&open[datasource]),
                most: Arc::clone(&most),
            };
            (TableName::new("public", name), Arc::new(table) as Arc<dyn Table>)
        };
        let tables = Tables { tables: vec![table("a", 0), table("b", 0), table("c", 1)], views: Vec::new() };
        let free = [0, 1].map(|datasource| (DatasourceId(datasource), Arc::new(Semaphore::new(limit))));
        (Few { tables, free: free.into() }, most)
    }
}

impl Catalog for Few {
    fn default_schema<'a>(&'a self, reader: &'a Reader) -> &'a str {
        self.tables.default_schema(reader)
    }

    fn resolve<'a>(
        &'a self,
        reader: &'a Reader,
        names: &'a [TableName],
    ) -> BoxFuture<'a, Result<Tables, SourceError>> {
        self.tables.resolve(reader, names)
    }

    fn flavour(&self) -> Flavour {
        Flavour::Vql
    }

    fn list<'a>(&'a self, reader: &'a Reader) -> BoxFuture<'a, Result<Vec<Listed>, SourceError>> {
        self.tables.list(reader)
    }

    fn admit(
        &self,
        wanted: BTreeMap<DatasourceId, Connections>,
    ) -> BoxFuture<'_, Result<Permits, SourceError>> {
        Box::pin(async move {
            let mut permits = Permits::new();
            for (datasource, connections) in wanted {
                let free = &self.free[&datasource];
                let of = permits.entry(datasource).or_default();
                for _ in 0..connections.wanted.min(connections.limit) {
                    of.push(Permit::new(Arc::clone(free).acquire_owned().await.unwrap()));
                }
            }
            Ok(permits)
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scans_take_turns() {
    for limit in [1, 2, 100] {
        let (catalog, most) = Few::new(limit);
        let free: Vec<_> = catalog.free.values().cloned().collect();
        let bench = Bench::new(catalog);
        for (sql, expected) in [
            ("select count(*) from a x join a y on x.id = y.id", "20000"),
            ("select count(*) from a x join b y on x.id = y.id join c z on z.id = x.id", "20000"),
            (
                "select sum(n) from (select count(*) as n from a union all select count(*) from b union all \
              select count(*) from a union all select count(*) from c)",
                "80000",
            ),
            ("select count(*) from a where id in (select id from b where id < 10)", "10"),
            (
                "select count(*) from (select id from a limit 5) x cross join (select id from a limit 4) y",
                "20",
            ),
            ("select max(id) from a where id < (select count(*) from a)", "19999"),
            ("select count(*) from a x left join a y on x.id = y.id + 1 where y.id is null", "1"),
        ] {
            let asked = tokio::time::timeout(bench.limit, bench.ask(sql, &[]));
            let found = asked.await.expect(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(texts(&found[0]), [expected], "{sql} with {limit}");
            for free in &free {
                // The last permits come back when the scans' tasks have ended.
                let all = free.acquire_many(limit as u32);
                drop(tokio::time::timeout(bench.limit, all).await.expect("all permits come back").unwrap());
            }
        }
        let most = most.load(Ordering::SeqCst);
        assert!(most <= limit, "{most} connections at a time instead of {limit}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_is_dropped_gives_everything_back() {
    let (catalog, _) = Few::new(1);
    let free: Vec<_> = catalog.free.values().cloned().collect();
    let bench = Bench::new(catalog);
    let stream = bench.start(
        "select x.id from a x join b y on x.id = y.id join c z on z.id = y.id",
        &[],
        Default::default(),
    );
    let mut stream = stream.await.unwrap();
    stream.batches.next().await.unwrap().unwrap();
    drop(stream);
    for free in &free {
        drop(tokio::time::timeout(bench.limit, free.acquire()).await.expect("given back").unwrap());
    }
}

/// While a statement waits for a connection, the engine executes others, although it has one place.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_waits_for_a_connection_keeps_no_place() {
    let (catalog, _) = Few::new(1);
    let busy = Arc::clone(&catalog.free[&DatasourceId(0)]).acquire_owned().await.unwrap();
    let bench = Arc::new(Bench::new(catalog));
    let waiting = Arc::clone(&bench);
    let waiting = tokio::spawn(async move { waiting.ask("select count(*) from a", &[]).await });
    for _ in 0..5 {
        let other = tokio::time::timeout(bench.limit, bench.ask("select count(*) from c", &[]));
        assert_eq!(texts(&other.await.expect("it runs").unwrap()[0]), ["20000"]);
    }
    assert!(!waiting.is_finished());
    drop(busy);
    assert_eq!(texts(&waiting.await.unwrap().unwrap()[0]), ["20000"]);
}
