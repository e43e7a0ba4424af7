//! A connection to PostgreSQL that breaks: the relay of the tests, and how the store reacts.

use std::time::Duration;

use landreeve_core::{Error, ErrorKind};
use landreeve_estate::store::{Location, StoreOptions};
use landreeve_estate::{Estate, EstateOptions, args};
use sqlx::{Connection as _, PgConnection};

use crate::inventory::full;
use crate::relay::Relay;
use crate::support::{BOUND, Site, caller, number, postgres_url};

#[tokio::test]
async fn a_commit_can_lose_its_answer() {
    let relay = Relay::to(&postgres_url()).await;
    let mut conn = PgConnection::connect(&relay.url(&postgres_url())).await.unwrap();
    // Only a COMMIT is cut.
    relay.cut_commits(1);
    sqlx::query("SELECT 1").execute(&mut conn).await.unwrap();
    sqlx::query("BEGIN").execute(&mut conn).await.unwrap();
    let (id,): (String,) =
        sqlx::query_as("SELECT pg_current_xact_id()::text").fetch_one(&mut conn).await.unwrap();
    assert!(sqlx::query("COMMIT").execute(&mut conn).await.is_err());
    assert_eq!(*relay.commits_cut().borrow(), 1);
    let mut conn = PgConnection::connect(&relay.url(&postgres_url())).await.unwrap();
    let (status,): (String,) =
        sqlx::query_as("SELECT pg_xact_status($1::xid8)").bind(id).fetch_one(&mut conn).await.unwrap();
    assert_eq!(status, "committed");
}

#[tokio::test]
async fn held_data_arrives_later() {
    let relay = Relay::to(&postgres_url()).await;
    let mut conn = PgConnection::connect(&relay.url(&postgres_url())).await.unwrap();
    relay.hold();
    let mut asking = tokio::spawn(async move { sqlx::query("SELECT 1").execute(&mut conn).await.map(drop) });
    tokio::select! {
        biased;
        _ = &mut asking => panic!("answered while everything is held"),
        () = tokio::task::yield_now() => relay.pass(),
    }
    asking.await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_are_stranded_cut_and_refused() {
    let relay = Relay::to(&postgres_url()).await;
    let through = relay.url(&postgres_url());
    let mut old = PgConnection::connect(&through).await.unwrap();
    relay.strand();
    let mut new = PgConnection::connect(&through).await.unwrap();
    tokio::select! {
        _ = sqlx::query("SELECT 1").execute(&mut old) => panic!("a stranded connection answered"),
        done = sqlx::query("SELECT pg_sleep(0.05)").execute(&mut new) => drop(done.unwrap()),
    }
    relay.cut();
    assert!(sqlx::query("SELECT 1").execute(&mut new).await.is_err());
    relay.refuse();
    assert!(PgConnection::connect(&through).await.is_err());
    relay.pass();
    PgConnection::connect(&through).await.unwrap().close().await.unwrap();
}

/// An estate whose metadata is reached through a relay, with a short time limit.
struct Through {
    site: Site,
    relay: Relay,
    estate: Estate,
}

impl Through {
    async fn open(limit: Duration) -> Through {
        let site = Site::postgres().await;
        let Location::Postgres(url) = &site.location else { panic!("the site is on PostgreSQL") };
        let relay = Relay::to(url).await;
        let options = EstateOptions {
            location: Location::Postgres(relay.url(url)),
            store: StoreOptions { statement_limit: limit },
            ..site.options()
        };
        let estate = Estate::open(options).await.unwrap();
        Through { site, relay, estate }
    }

    /// The result of every kind of access.
    async fn outcomes(&self) -> [(&'static str, Result<(), Error>); 3] {
        [
            ("a write", write(&self.estate, "outcome").await),
            ("a read", read(&self.estate).await),
            ("the epoch", self.estate.epoch().await.map(drop)),
        ]
    }

    async fn remove(self) {
        self.estate.store().close().await;
        self.site.remove().await;
    }
}

async fn write(estate: &Estate, name: &str) -> Result<(), Error> {
    let name = name.to_owned();
    let written = estate.store().write(move |tx| {
        Box::pin(async move {
            let sql = "INSERT INTO facts (name, value) VALUES ($1, 'x') ON CONFLICT (name) DO NOTHING";
            tx.exec(sql, args![name]).await.map(drop)
        })
    });
    written.await
}

async fn read(estate: &Estate) -> Result<(), Error> {
    estate.store().read().await?.one("SELECT count(*) FROM facts", args![]).await.map(drop)
}

fn assert_unavailable(what: &str, outcome: Result<(), Error>) {
    let error = outcome.expect_err(what);
    assert_eq!(error.kind, ErrorKind::Unavailable, "{what}: {error}");
}

const LIMIT: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_database_is_unavailable_and_connected_to_again() {
    let through = Through::open(LIMIT).await;
    for (what, outcome) in through.outcomes().await {
        assert!(outcome.is_ok(), "{what}: {outcome:?}");
    }
    through.relay.hold();
    let asking = tokio::time::timeout(BOUND, async {
        let (written, found) = tokio::join!(write(&through.estate, "held"), read(&through.estate));
        // By now, what was read before can no longer be used.
        (written, found, through.estate.epoch().await)
    });
    let (written, found, epoch) = asking.await.expect("nothing waits long for a silent database");
    assert_unavailable("a write", written);
    assert_unavailable("a read", found);
    assert_unavailable("the epoch", epoch.map(drop));
    through.relay.pass();
    for (what, outcome) in through.outcomes().await {
        assert!(outcome.is_ok(), "{what}: {outcome:?}");
    }
    // A held write may have arrived after all, but completely or not at all.
    through.remove().await;
}

/// After a failover the old connections no longer respond, and new ones reach the new machine.
#[tokio::test(flavor = "multi_thread")]
async fn stranded_connections_are_replaced() {
    let through = Through::open(LIMIT).await;
    // Several concurrent readers, so that the pool has connections that go stale.
    let readers = (0..8).map(|_| read(&through.estate));
    futures_util::future::try_join_all(readers).await.unwrap();
    for (what, outcome) in through.outcomes().await {
        assert!(outcome.is_ok(), "{what}: {outcome:?}");
    }
    through.relay.strand();
    // The reader of the epoch tries another connection automatically. It has to read, because of a change.
    through.estate.store().notices().tell(landreeve_estate::store::Notice::Authority);
    tokio::time::timeout(BOUND, through.estate.epoch()).await.unwrap().unwrap();
    // It did not respond, so no other older connection is trusted.
    tokio::time::timeout(BOUND, read(&through.estate)).await.unwrap().unwrap();
    tokio::time::timeout(BOUND, write(&through.estate, "after")).await.unwrap().unwrap();
    through.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_are_replaced_without_an_error() {
    let through = Through::open(LIMIT).await;
    for (what, outcome) in through.outcomes().await {
        assert!(outcome.is_ok(), "{what}: {outcome:?}");
    }
    through.relay.cut();
    assert!(write(&through.estate, "after a cut").await.is_ok());
    through.estate.epoch().await.unwrap();
    through.remove().await;
}

/// A proxy whose database is down accepts and closes.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_accepts_and_closes_is_unavailable() {
    let through = Through::open(LIMIT).await;
    through.relay.refuse();
    for (what, outcome) in through.outcomes().await {
        assert_unavailable(what, outcome);
    }
    through.relay.pass();
    for (what, outcome) in through.outcomes().await {
        assert!(outcome.is_ok(), "{what}: {outcome:?}");
    }
    let error = Estate::open(EstateOptions {
        location: Location::parse("postgres://unknown@127.0.0.1:1/none"),
        ..through.site.options()
    });
    assert_eq!(error.await.err().unwrap().kind, ErrorKind::Unavailable);
    through.remove().await;
}

/// If the answer to a COMMIT is lost, the caller learns that the outcome is unknown; the write exists once.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_commit_is_unavailable_and_the_write_exists() {
    let through = Through::open(LIMIT).await;
    write(&through.estate, "warm").await.unwrap();
    through.relay.cut_commits(1);
    assert_unavailable("a write", write(&through.estate, "lost answer").await);
    assert_eq!(*through.relay.commits_cut().borrow(), 1);
    let sql = "SELECT count(*) FROM facts WHERE name = 'lost answer'";
    assert_eq!(number(&through.estate, sql).await, 1);
    through.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_closes_while_its_database_is_silent() {
    let through = Through::open(LIMIT).await;
    write(&through.estate, "before").await.unwrap();
    through.relay.hold();
    let estate = through.estate.clone();
    let writing = tokio::spawn(async move { write(&estate, "held").await });
    let closed = tokio::time::timeout(BOUND, through.estate.store().close()).await;
    assert!(closed.is_ok(), "closing waits for a silent database");
    assert_unavailable("a write", writing.await.unwrap());
    through.relay.pass();
    through.site.remove().await;
}

/// The server cancels a statement that takes too long, and the connection remains usable.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_too_long_is_unavailable() {
    let through = Through::open(LIMIT).await;
    let slept = through
        .estate
        .store()
        .write(|tx| Box::pin(async move { tx.exec("SELECT pg_sleep(60)", args![]).await.map(drop) }));
    assert_unavailable("a write", slept.await);
    let mut conn = through.estate.store().read().await.unwrap();
    assert_unavailable("a read", conn.all("SELECT pg_sleep(60)", args![]).await.map(drop));
    drop(conn);
    for (what, outcome) in through.outcomes().await {
        assert!(outcome.is_ok(), "{what}: {outcome:?}");
    }
    through.remove().await;
}

/// A request uses what was cached when it started: the store is not queried again.
#[tokio::test(flavor = "multi_thread")]
async fn one_read_of_the_epoch_serves_a_request() {
    use landreeve_core::{Action, Noun, Permission};
    use landreeve_estate::ops::datasources::{datasource_create, datasource_get};
    let through = Through::open(LIMIT).await;
    let manage = Permission::new(Noun::DATASOURCE, Action::MANAGE);
    let view = Permission::new(Noun::DATASOURCE, Action::VIEW);
    let ctx = caller(&through.estate, None, &[manage, view]).await;
    let made = datasource_create(&through.estate, &ctx, full(), Vec::new()).await.unwrap();
    // This process knows of its own change, so the next request starts after it.
    let ctx = caller(&through.estate, None, &[manage, view]).await;
    datasource_get(&through.estate, &ctx, made.id).await.unwrap();
    through.relay.hold();
    datasource_get(&through.estate, &ctx, made.id).await.unwrap();
    // This process knows of a change, so the store is queried, and does not respond.
    through.estate.store().notices().tell(landreeve_estate::store::Notice::Authority);
    assert_unavailable("a read", datasource_get(&through.estate, &ctx, made.id).await.map(drop));
    through.relay.pass();
    through.remove().await;
}

/// A request on any node that begins after the acknowledgement sees the change, although nodes use an epoch for a moment
/// without asking the database again. These nodes do not listen to each other.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_visible_on_every_node_when_it_is_acknowledged() {
    let site = Site::postgres().await;
    let [here, there] = [site.open().await, site.open().await];
    let over = tokio_util::sync::CancellationToken::new();
    let asking = tokio::spawn({
        let (there, over) = (there.clone(), over.clone());
        async move {
            // There is always an epoch that was read a moment ago.
            while !over.is_cancelled() {
                there.epoch().await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    for _ in 0..100 {
        let before = there.epoch().await.unwrap();
        here.store().write(|tx| Box::pin(tx.bump_epoch())).await.unwrap();
        let after = there.epoch().await.unwrap();
        assert!(after > before, "an acknowledged change is not visible: {after}");
    }
    over.cancel();
    asking.await.unwrap();
    here.store().close().await;
    there.store().close().await;
    site.remove().await;
}
