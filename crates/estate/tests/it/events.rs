//! The outbox: events with their change, in order, at least once, to subscribers that do not block one another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use landreeve_core::ids::{BoxFuture, DatasourceId, EventId, OuId};
use landreeve_core::source::CancellationToken;
use landreeve_core::{Error, Result, RunState};
use landreeve_estate::events::{DatasourceChange, Delivered, Event, Subscriber, append, dispatch, register};
use landreeve_estate::ops::datasources::{datasource_create, datasource_delete, datasource_schema};
use landreeve_estate::upkeep::OnChange;
use landreeve_estate::{Estate, args};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::secrets::postgres_details;
use crate::support::{BOUND, Node, Site, catalog, exec, number};

conformance![
    an_event_is_committed_with_its_change,
    events_arrive_in_order_and_once,
    each_subscriber_keeps_its_position,
    a_failing_subscriber_backs_off_and_blocks_no_other,
    an_event_of_a_newer_program_is_skipped,
    unseen_events_are_not_purged,
    a_removed_subscriber_holds_nothing_back,
    a_cursor_moves_once_for_a_batch,
    the_inventory_handles_an_event_twice,
    a_new_datasource_is_read_automatically,
];

struct Recorder {
    name: &'static str,
    seen: watch::Sender<Vec<i64>>,
    failing: AtomicBool,
    tried: AtomicUsize,
}

impl Recorder {
    fn new(name: &'static str) -> Arc<Recorder> {
        Arc::new(Recorder {
            name,
            seen: watch::channel(Vec::new()).0,
            failing: AtomicBool::new(false),
            tried: AtomicUsize::new(0),
        })
    }

    async fn until(&self, count: usize) -> Vec<i64> {
        let mut seen = self.seen.subscribe();
        let found = tokio::time::timeout(BOUND, seen.wait_for(|seen| seen.len() >= count)).await;
        found.expect("the events did not arrive").unwrap().clone()
    }

    /// Waits for this event; others may arrive in between.
    async fn until_event(&self, id: i64) {
        let mut seen = self.seen.subscribe();
        let found = tokio::time::timeout(BOUND, seen.wait_for(|seen| seen.contains(&id))).await;
        found.expect("the event did not arrive").unwrap();
    }

    fn seen(&self) -> Vec<i64> {
        self.seen.borrow().clone()
    }

    fn tried(&self) -> usize {
        self.tried.load(Ordering::SeqCst)
    }

    fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }
}

impl Subscriber for Recorder {
    fn name(&self) -> &'static str {
        self.name
    }

    fn handle<'a>(&'a self, event: &'a Delivered) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.tried.fetch_add(1, Ordering::SeqCst);
            if self.failing.load(Ordering::SeqCst) {
                return Err(Error::unavailable("test", "told to fail"));
            }
            self.seen.send_modify(|seen| seen.push(event.id.0));
            Ok(())
        })
    }
}

struct Dispatcher {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Dispatcher {
    async fn start(estate: &Estate, recorders: &[&Arc<Recorder>]) -> Dispatcher {
        let subscribers =
            recorders.iter().map(|recorder| Arc::clone(*recorder) as Arc<dyn Subscriber>).collect::<Vec<_>>();
        register(estate, &subscribers).await.unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(dispatch(estate.clone(), subscribers, stop.clone()));
        Dispatcher { stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// A dispatcher whose subscribers have received one event.
async fn started(estate: &Estate, recorders: &[&Arc<Recorder>]) -> Dispatcher {
    let dispatcher = Dispatcher::start(estate, recorders).await;
    tell(estate).await;
    for recorder in recorders {
        recorder.until(1).await;
    }
    dispatcher
}

fn event() -> Event {
    Event::DatasourceChanged { datasource: DatasourceId(7), change: DatasourceChange::Updated }
}

async fn tell(estate: &Estate) {
    let now = estate.now();
    estate
        .store()
        .write(move |tx| Box::pin(async move { append(tx, OuId::ROOT, &event(), now).await }))
        .await
        .unwrap();
}

async fn an_event_is_committed_with_its_change(site: &Site) {
    let estate = site.open().await;
    let now = estate.now();
    tell(&estate).await;
    let failed: Result<()> = estate
        .store()
        .write(move |tx| {
            Box::pin(async move {
                append(tx, OuId::ROOT, &event(), now).await?;
                Err(Error::conflict("no", "changed its mind"))
            })
        })
        .await;
    failed.unwrap_err();
    tell(&estate).await;
    let ids = crate::support::rows(&estate, "SELECT id FROM outbox ORDER BY id", args![]).await;
    let ids: Vec<i64> = ids.iter().map(|row| row.int(0).unwrap()).collect();
    assert_eq!(ids, [1, 2], "numbers without a gap: a cursor never skips one that commits late");
}

async fn events_arrive_in_order_and_once(site: &Site) {
    let node = site.node(1).await;
    let (one, other) = (Recorder::new("one"), Recorder::new("other"));
    let dispatcher = started(&node.estate, &[&one, &other]).await;
    let tasks: Vec<_> = (0..5)
        .map(|_| {
            let estate = node.estate.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    tell(&estate).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let wanted: Vec<i64> = (1..=251).collect();
    assert_eq!(one.until(251).await, wanted);
    assert_eq!(other.until(251).await, wanted);
    dispatcher.stop().await;
}

async fn each_subscriber_keeps_its_position(site: &Site) {
    let node = site.node(1).await;
    let old = Recorder::new("old");
    started(&node.estate, &[&old]).await.stop().await;
    // Nothing is delivered now, as if the server had been killed between the change and the delivery.
    tell(&node.estate).await;
    tell(&node.estate).await;
    let new = Recorder::new("new");
    let dispatcher = Dispatcher::start(&node.estate, &[&old, &new]).await;
    assert_eq!(old.until(3).await, [1, 2, 3]);
    tell(&node.estate).await;
    assert_eq!(old.until(4).await, [1, 2, 3, 4]);
    assert_eq!(new.until(1).await, [4], "it does not receive earlier events");
    dispatcher.stop().await;
}

/// Two more events for the steady subscriber, the second once it has the first: by then the other one has had a turn in
/// which it could see the first. Returns the last one's number.
async fn turn(node: &Node, steady: &Recorder) -> i64 {
    let mut id = 0;
    for _ in 0..2 {
        tell(&node.estate).await;
        id = number(&node.estate, "SELECT max(id) FROM outbox").await;
        steady.until_event(id).await;
    }
    id
}

async fn a_failing_subscriber_backs_off_and_blocks_no_other(site: &Site) {
    let node = site.node(1).await;
    let (weak, steady) = (Recorder::new("weak"), Recorder::new("steady"));
    let dispatcher = started(&node.estate, &[&weak, &steady]).await;
    weak.fail(true);
    turn(&node, &steady).await;
    assert_eq!(weak.tried(), 2, "one success, one failure");
    turn(&node, &steady).await;
    assert_eq!(weak.tried(), 2, "not before a second has passed");
    for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        let before = weak.tried();
        site.clock.seconds(pause - 1);
        turn(&node, &steady).await;
        assert_eq!(weak.tried(), before, "not before {pause} s");
        site.clock.seconds(1);
        turn(&node, &steady).await;
        assert_eq!(weak.tried(), before + 1, "after {pause} s");
    }
    assert_eq!(weak.seen(), [1], "the others continued without it");
    weak.fail(false);
    site.clock.seconds(300);
    let last = turn(&node, &steady).await;
    weak.until_event(last).await;
    assert_eq!(weak.seen(), steady.seen(), "nothing was lost");
    let error = "SELECT count(*) FROM subscribers WHERE failures > 0 OR last_error IS NOT NULL";
    dispatcher.stop().await;
    assert_eq!(number(&node.estate, error).await, 0);
}

async fn an_event_of_a_newer_program_is_skipped(site: &Site) {
    let node = site.node(1).await;
    let recorder = Recorder::new("one");
    started(&node.estate, &[&recorder]).await.stop().await;
    for _ in 0..4 {
        tell(&node.estate).await;
    }
    for (id, body) in [
        (2_i64, r#"{"event":"moon_landed","version":9}"#),
        (4, r#"{"event":"datasource_changed","version":2,"datasource":7,"change":"moved"}"#),
    ] {
        exec(&node.estate, "UPDATE outbox SET body = $2 WHERE id = $1", args![id, body]).await;
    }
    let dispatcher = Dispatcher::start(&node.estate, &[&recorder]).await;
    assert_eq!(recorder.until(3).await, [1, 3, 5]);
    dispatcher.stop().await;
}

async fn unseen_events_are_not_purged(site: &Site) {
    const LEFT: &str = "SELECT count(*) FROM outbox WHERE kind = 'datasource_changed'";
    let node = site.node(1).await;
    let (weak, steady) = (Recorder::new("weak"), Recorder::new("steady"));
    let dispatcher = started(&node.estate, &[&weak, &steady]).await;
    weak.fail(true);
    for _ in 0..3 {
        turn(&node, &steady).await;
    }
    assert_eq!(node.purge().await.state, RunState::Succeeded);
    assert_eq!(number(&node.estate, LEFT).await, 6, "only the first has been seen by both");
    weak.fail(false);
    site.clock.seconds(1);
    let last = turn(&node, &steady).await;
    weak.until_event(last).await;
    dispatcher.stop().await;
    assert_eq!(node.purge().await.state, RunState::Succeeded);
    assert_eq!(number(&node.estate, LEFT).await, 0);
}

async fn a_removed_subscriber_holds_nothing_back(site: &Site) {
    let node = site.node(1).await;
    // From a plane that this program no longer has.
    exec(
        &node.estate,
        "INSERT INTO subscribers (name, cursor_id, failures, retry_at) VALUES ('gone', 0, 0, 0)",
        args![],
    )
    .await;
    let steady = Recorder::new("steady");
    let dispatcher = started(&node.estate, &[&steady]).await;
    turn(&node, &steady).await;
    dispatcher.stop().await;
    assert_eq!(node.purge().await.state, RunState::Succeeded);
    let left = "SELECT count(*) FROM outbox WHERE kind = 'datasource_changed'";
    assert_eq!(number(&node.estate, left).await, 0);
}

async fn a_cursor_moves_once_for_a_batch(site: &Site) {
    let node = site.node(1).await;
    let steady = Recorder::new("steady");
    register(&node.estate, &[Arc::clone(&steady) as Arc<dyn Subscriber>]).await.unwrap();
    for _ in 0..40 {
        tell(&node.estate).await;
    }
    exec(&node.estate, "CREATE TABLE moves (cursor_id BIGINT)", args![]).await;
    if site.is_sqlite() {
        let sql = "CREATE TRIGGER moved AFTER UPDATE OF cursor_id ON subscribers BEGIN \
                   INSERT INTO moves VALUES (NEW.cursor_id); END";
        exec(&node.estate, sql, args![]).await;
    } else {
        let sql = "CREATE FUNCTION moved() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                   INSERT INTO moves VALUES (NEW.cursor_id); RETURN NEW; END $$";
        exec(&node.estate, sql, args![]).await;
        let sql = "CREATE TRIGGER moved AFTER UPDATE OF cursor_id ON subscribers FOR EACH ROW \
                   EXECUTE FUNCTION moved()";
        exec(&node.estate, sql, args![]).await;
    }
    let dispatcher = Dispatcher::start(&node.estate, &[&steady]).await;
    steady.until(40).await;
    dispatcher.stop().await;
    assert_eq!(number(&node.estate, "SELECT count(*) FROM moves").await, 1);
}

/// Fails when two nodes deliver an event at the same time.
struct Alone {
    inside: std::sync::Mutex<std::collections::HashSet<i64>>,
    handled: watch::Sender<usize>,
}

impl Subscriber for Alone {
    fn name(&self) -> &'static str {
        "alone"
    }

    fn handle<'a>(&'a self, event: &'a Delivered) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            assert!(
                self.inside.lock().unwrap().insert(event.id.0),
                "event {} is being delivered twice",
                event.id.0
            );
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            self.inside.lock().unwrap().remove(&event.id.0);
            self.handled.send_modify(|count| *count += 1);
            Ok(())
        })
    }
}

/// Only on PostgreSQL: SQLite has one server.
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_never_deliver_an_event_at_the_same_time() {
    let site = Site::postgres().await;
    let (one, other) = (site.node(1).await, site.node(1).await);
    let alone = Arc::new(Alone { inside: std::sync::Mutex::default(), handled: watch::channel(0).0 });
    let subscribers = || vec![Arc::clone(&alone) as Arc<dyn Subscriber>];
    register(&one.estate, &subscribers()).await.unwrap();
    let stop = CancellationToken::new();
    let tasks =
        [&one, &other].map(|node| tokio::spawn(dispatch(node.estate.clone(), subscribers(), stop.clone())));
    for _ in 0..200 {
        tell(&one.estate).await;
    }
    let mut handled = alone.handled.subscribe();
    tokio::time::timeout(BOUND, handled.wait_for(|count| *count >= 200)).await.unwrap().unwrap();
    stop.cancel();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*alone.handled.borrow(), 200);
    site.remove().await;
}

fn inventory(estate: &Estate) -> OnChange {
    OnChange { estate: estate.clone() }
}

async fn the_inventory_handles_an_event_twice(site: &Site) {
    let estate = site.open().await;
    let ctx = landreeve_estate::ops::sign_in::operator(&estate);
    let made = datasource_create(&estate, &ctx, postgres_details("one"), Vec::new()).await.unwrap();
    let delivered = |id, change| Delivered {
        id: EventId(id),
        ou: OuId::ROOT,
        at: estate.now(),
        event: Event::DatasourceChanged { datasource: made.id, change },
    };
    let subscriber = inventory(&estate);
    const RUNS: &str = "SELECT count(*) FROM runs WHERE kind = 'schema_refresh'";
    for (id, change, runs) in [
        (1, DatasourceChange::Created, 1),
        (1, DatasourceChange::Created, 1),
        (2, DatasourceChange::Updated, 1),
        (3, DatasourceChange::Reconnected, 2),
        (3, DatasourceChange::Reconnected, 2),
    ] {
        subscriber.handle(&delivered(id, change)).await.unwrap();
        assert_eq!(number(&estate, RUNS).await, runs, "{id} {change:?}");
    }
    let both =
        tokio::join!(async { subscriber.handle(&delivered(9, DatasourceChange::Created)).await }, async {
            subscriber.handle(&delivered(9, DatasourceChange::Created)).await
        },);
    both.0.unwrap();
    both.1.unwrap();
    assert_eq!(number(&estate, RUNS).await, 3);
    datasource_delete(&estate, &ctx, made.id).await.unwrap();
    subscriber.handle(&delivered(10, DatasourceChange::Created)).await.expect("it is gone, and that is fine");
    subscriber.handle(&delivered(11, DatasourceChange::Deleted)).await.unwrap();
}

async fn a_new_datasource_is_read_automatically(site: &Site) {
    let node = site.node(2).await;
    let stop = CancellationToken::new();
    let subscribers: Vec<Arc<dyn Subscriber>> = vec![Arc::new(inventory(&node.estate))];
    register(&node.estate, &subscribers).await.unwrap();
    let task = tokio::spawn(dispatch(node.estate.clone(), subscribers, stop.clone()));
    let made = datasource_create(&node.estate, &node.ctx, postgres_details("one"), Vec::new()).await.unwrap();
    node.until_number("SELECT count(*) FROM runs WHERE kind = 'schema_refresh' AND state = 'succeeded'", 1)
        .await;
    let (read, at) = datasource_schema(&node.estate, &node.ctx, made.id).await.unwrap().unwrap();
    assert_eq!((read, at), (catalog(), node.estate.now()));
    let seen =
        landreeve_estate::ops::datasources::datasource_get(&node.estate, &node.ctx, made.id).await.unwrap();
    assert_eq!((seen.datasource.total_rows, seen.datasource.total_rows_exact), (Some(3), Some(true)));
    assert_eq!(seen.datasource.server_version.as_deref(), Some("fake 1"));
    stop.cancel();
    task.await.unwrap();
}
