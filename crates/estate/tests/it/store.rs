//! The store itself: writes, group commit, notices, values, ids.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use landreeve_core::ids::RunId;
use landreeve_core::{Error, ErrorKind, IdKind};
use landreeve_estate::store::{Arg, Notice, is_taken};
use landreeve_estate::{Estate, args};

use crate::support::{BOUND, Site, exec, number, rows};

conformance![
    concurrent_writes_are_independent,
    a_failed_write_leaves_nothing_and_sends_no_notice,
    a_panicking_write_does_not_affect_others,
    a_dropped_write_still_commits,
    a_write_that_waits_for_anything_else_fails,
    a_write_that_continues_after_a_failed_statement_fails,
    a_pipelined_statement_fails_only_its_write,
    a_presumed_change_that_did_not_happen_is_corrected,
    conflicting_writes_all_commit,
    a_write_waiting_for_a_lock_does_not_block_others,
    a_name_that_is_taken_is_a_conflict,
    values_round_trip,
    rejects_text_that_not_both_databases_can_store,
    ids_are_never_issued_twice,
    a_closed_store_says_so,
    an_intact_store_has_no_damage,
];

async fn insert(estate: &Estate, name: String, value: &'static str) -> landreeve_core::Result<()> {
    estate
        .store()
        .write(move |tx| {
            Box::pin(async move {
                tx.exec("INSERT INTO facts (name, value) VALUES ($1, $2)", args![name, value]).await.map(drop)
            })
        })
        .await
}

async fn concurrent_writes_are_independent(site: &Site) {
    let estate = site.open().await;
    let before = number(&estate, "SELECT count(*) FROM facts").await;
    let mut tasks = Vec::new();
    for index in 0..300 {
        let estate = estate.clone();
        tasks.push(tokio::spawn(async move {
            let write = estate.store().write(move |tx| {
                Box::pin(async move {
                    let name = format!("fact {index}");
                    tx.exec("INSERT INTO facts (name, value) VALUES ($1, $2)", args![name, "x"]).await?;
                    match index % 10 {
                        // Fails by itself, and by the database.
                        3 => Err(Error::conflict("no", "changed its mind")),
                        7 => {
                            tx.exec("INSERT INTO facts (name, value) VALUES ('store_id', 'x')", args![]).await
                        }
                        _ => Ok(1),
                    }
                })
            });
            (index, write.await)
        }));
    }
    for task in tasks {
        let (index, answer) = task.await.unwrap();
        match index % 10 {
            3 => assert_eq!(answer.unwrap_err().code, "no"),
            7 => assert!(is_taken(&answer.unwrap_err())),
            _ => assert_eq!(answer.unwrap(), 1, "{index}"),
        }
    }
    let after = number(&estate, "SELECT count(*) FROM facts").await;
    assert_eq!(after - before, 240, "every other write is kept, and nothing of the failed ones");
}

async fn a_failed_write_leaves_nothing_and_sends_no_notice(site: &Site) {
    let estate = site.open().await;
    let mut told = estate.store().notices().runs();
    let epoch = estate.store().notices().epoch();
    let failed = estate
        .store()
        .write::<(), _>(|tx| {
            Box::pin(async move {
                tx.run_changed(RunId(7)).await?;
                tx.bump_epoch().await?;
                tx.exec("DELETE FROM ous", args![]).await?;
                Err(Error::conflict("no", "changed its mind"))
            })
        })
        .await;
    assert_eq!(failed.unwrap_err().code, "no");
    assert!(told.is_empty());
    assert_eq!(estate.store().notices().epoch(), epoch);
    assert_eq!(number(&estate, "SELECT count(*) FROM ous").await, 1);
    assert_eq!(number(&estate, "SELECT value FROM epochs").await, 1);
    // The writer's thread blocks in the middle of the transaction: a write may not wait for anything else.
    let (inside, entered) = tokio::sync::oneshot::channel();
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let both = Arc::new(std::sync::Mutex::new((Some(inside), gate)));
    let store = estate.store().clone();
    let writing = tokio::spawn(async move {
        store
            .write(move |tx| {
                Box::pin(async move {
                    tx.run_changed(RunId(8)).await?;
                    tx.bump_epoch().await?;
                    let mut both = both.lock().unwrap();
                    both.0.take().unwrap().send(()).unwrap();
                    both.1.recv_timeout(BOUND).unwrap();
                    Ok(())
                })
            })
            .await
    });
    entered.await.unwrap();
    // Readers outside the transaction see nothing of it, and no notice has been sent.
    assert_eq!(number(&estate, "SELECT value FROM epochs").await, 1);
    assert!(told.is_empty());
    assert_eq!(estate.store().notices().epoch(), epoch);
    go.send(()).unwrap();
    writing.await.unwrap().unwrap();
    assert_eq!(told.recv().await.unwrap(), RunId(8), "the first notice is of the write that was kept");
    assert_eq!(estate.store().notices().epoch(), epoch + 1);
    assert_eq!(number(&estate, "SELECT value FROM epochs").await, 2);
}

async fn a_panicking_write_does_not_affect_others(site: &Site) {
    let estate = site.open().await;
    for _ in 0..20 {
        let failed = estate
            .store()
            .write::<(), _>(|tx| {
                Box::pin(async move {
                    tx.exec("DELETE FROM ous", args![]).await?;
                    panic!("told to panic")
                })
            })
            .await;
        assert_eq!(failed.unwrap_err().kind, ErrorKind::Internal);
    }
    insert(&estate, "after".into(), "x").await.unwrap();
    for _ in 0..20 {
        assert_eq!(number(&estate, "SELECT count(*) FROM ous").await, 1);
    }
}

async fn a_dropped_write_still_commits(site: &Site) {
    let estate = site.open().await;
    let mut changes = estate.store().notices().runs();
    let mut asking = Box::pin(estate.store().write(move |tx| {
        Box::pin(async move {
            tx.exec("INSERT INTO facts (name, value) VALUES ('late', 'x')", args![]).await?;
            tx.run_changed(RunId(9)).await
        })
    }));
    // The first poll hands over the write.
    assert!(futures_util::poll!(&mut asking).is_pending());
    drop(asking);
    let told = tokio::time::timeout(BOUND, changes.recv()).await.unwrap();
    assert_eq!(told.unwrap(), RunId(9));
    assert_eq!(number(&estate, "SELECT count(*) FROM facts WHERE name = 'late'").await, 1);
}

/// What a closure must not wait for, and how the error says so.
async fn a_write_that_waits_for_anything_else_fails(site: &Site) {
    let estate = site.open().await;
    let (other, ctx) = (estate.clone(), landreeve_estate::ops::sign_in::operator(&estate));
    let cases: [(&str, Waits); 7] = [
        ("another write", |estate, _| Box::pin(async move { insert(&estate, "inner".into(), "x").await })),
        ("a connection for reading", |estate, _| {
            Box::pin(async move { estate.store().read().await.map(drop) })
        }),
        ("a connection for scanning", |estate, _| {
            Box::pin(async move { estate.store().scan().await.map(drop) })
        }),
        ("a new id", |estate, _| {
            Box::pin(async move { estate.next::<RunId>(IdKind("conformance")).await.map(drop) })
        }),
        ("the epoch", |estate, _| Box::pin(async move { estate.epoch().await.map(drop) })),
        ("waits for something else", |_, _| Box::pin(std::future::pending())),
        ("waits for something else", |_, tx| {
            Box::pin(async move {
                tx.exec("DELETE FROM ous", args![]).await?;
                tokio::task::yield_now().await;
                Ok(())
            })
        }),
    ];
    for (what, waits) in cases {
        let (plain, audited) = (other.clone(), other.clone());
        let written =
            estate.store().write::<(), _>(move |tx| Box::pin(async move { waits(plain, tx).await }));
        let act = landreeve_estate::ops::OwnedAct::new("tested", landreeve_core::Noun::RUN, 1, "");
        let changed =
            estate.change::<(), _>(&ctx, act, move |tx| Box::pin(async move { waits(audited, tx).await }));
        for outcome in [written.await, changed.await] {
            let error = outcome.expect_err(what);
            assert_eq!(error.kind, ErrorKind::Internal, "{what}: {error}");
            assert!(error.message.contains(what), "{what}: {error}");
            // The use case is in the name of its closure.
            assert!(error.message.contains("a_write_that_waits_for_anything_else_fails"), "{error}");
        }
    }
    assert_eq!(number(&estate, "SELECT count(*) FROM ous").await, 1, "such a write is rolled back");
    insert(&estate, "after".into(), "x").await.unwrap();
    assert_eq!(number(&estate, "SELECT count(*) FROM facts WHERE name IN ('inner', 'after')").await, 1);
}

type Waits = for<'t> fn(
    Estate,
    &'t mut landreeve_estate::store::Tx,
) -> landreeve_core::ids::BoxFuture<'t, landreeve_core::Result<()>>;

/// PostgreSQL would silently answer its COMMIT with a rollback; SQLite would keep the rest.
async fn a_write_that_continues_after_a_failed_statement_fails(site: &Site) {
    let estate = site.open().await;
    let outcome = estate.store().write(|tx| {
        Box::pin(async move {
            tx.exec("INSERT INTO facts (name, value) VALUES ('kept?', 'x')", args![]).await?;
            let _ = tx.exec("INSERT INTO facts (name, value) VALUES ('store_id', 'x')", args![]).await;
            Ok(())
        })
    });
    let error = outcome.await.unwrap_err();
    assert!(error.message.contains("continued after a statement had failed"), "{error}");
    assert_eq!(number(&estate, "SELECT count(*) FROM facts WHERE name = 'kept?'").await, 0);
}

/// An error of a statement that was not awaited is reported with the next one, or at the end.
async fn a_pipelined_statement_fails_only_its_write(site: &Site) {
    let estate = site.open().await;
    let mut tasks = Vec::new();
    for index in 0..60 {
        let estate = estate.clone();
        tasks.push(tokio::spawn(async move {
            let write = estate.store().write(move |tx| {
                Box::pin(async move {
                    let name = if index % 3 == 0 { "store_id".to_owned() } else { format!("sent {index}") };
                    tx.exec_later("INSERT INTO facts (name, value) VALUES ($1, 'x')", args![name]).await?;
                    if index % 2 == 0 {
                        tx.exec(
                            "UPDATE facts SET value = 'y' WHERE name = $1",
                            args![format!("sent {index}")],
                        )
                        .await?;
                    }
                    Ok(())
                })
            });
            (index, write.await)
        }));
    }
    for task in tasks {
        let (index, outcome) = task.await.unwrap();
        match outcome {
            Ok(()) => assert_ne!(index % 3, 0),
            Err(error) => assert!(is_taken(&error) && index % 3 == 0, "{index}: {error}"),
        }
    }
    assert_eq!(number(&estate, "SELECT count(*) FROM facts WHERE name LIKE 'sent %'").await, 40);
    assert_eq!(
        number(&estate, "SELECT count(*) FROM facts WHERE name LIKE 'sent %' AND value = 'y'").await,
        20
    );
}

/// On PostgreSQL, closures are told that their statement will change a row before it has. Many compete for few names, and
/// some fail: of each name exactly one is told so in the end, those after it see its row, and nothing of the others
/// remains.
async fn a_presumed_change_that_did_not_happen_is_corrected(site: &Site) {
    let estate = site.open().await;
    let mut tasks = Vec::new();
    for index in 0..400_usize {
        let estate = estate.clone();
        tasks.push(tokio::spawn(async move {
            let name = format!("presumed {}", index * 7 % 40);
            let write = estate.store().write(move |tx| {
                Box::pin(async move {
                    let sql = "INSERT INTO facts (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
                    let value = index.to_string();
                    let new = tx.exec_one(sql, args![&name, value]).await?;
                    if index % 11 == 3 {
                        return Err(Error::conflict("no", "changed its mind"));
                    }
                    if !new && index % 2 == 0 {
                        let sql = "UPDATE facts SET value = value || '+' WHERE name = $1 AND value = $2";
                        if tx.exec_one(sql, args![&name, index.to_string()]).await? {
                            return Err(Error::internal("presumed, because there is no such row"));
                        }
                    }
                    Ok(new)
                })
            });
            (index, write.await)
        }));
    }
    let mut new = Vec::new();
    for task in tasks {
        let (index, outcome) = task.await.unwrap();
        match outcome {
            Ok(true) => new.push(index),
            Ok(false) => assert_ne!(index % 11, 3),
            Err(error) => assert!(error.code == "no" && index % 11 == 3, "{index}: {error}"),
        }
    }
    let found = rows(&estate, "SELECT value FROM facts WHERE name LIKE 'presumed %'", args![]).await;
    let mut found: Vec<usize> = found.iter().map(|row| row.text(0).unwrap().parse().unwrap()).collect();
    found.sort_unstable();
    new.sort_unstable();
    assert_eq!(found, new, "a write was told that it was the first if and only if its row exists");
    assert_eq!(found.len(), 40);
}

/// Two programs whose writes lock the same two rows in opposite order, many concurrently: PostgreSQL aborts one of two
/// that wait for each other, and the store retries it.
async fn conflicting_writes_all_commit(site: &Site) {
    if site.is_sqlite() {
        return;
    }
    let both = [site.open().await, site.open().await];
    exec(&both[0], "INSERT INTO facts (name, value) VALUES ('a', '0'), ('b', '0')", args![]).await;
    let mut tasks = Vec::new();
    for index in 0..200_usize {
        let estate = both[index % 2].clone();
        tasks.push(tokio::spawn(async move {
            let order = if index % 2 == 0 { ["a", "b"] } else { ["b", "a"] };
            let write = estate.store().write(move |tx| {
                Box::pin(async move {
                    for name in order {
                        let sql = "UPDATE facts SET value = CAST(CAST(value AS BIGINT) + 1 AS TEXT) WHERE name = $1";
                        tx.exec(sql, args![name]).await?;
                    }
                    Ok(())
                })
            });
            write.await
        }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let sum = "SELECT sum(CAST(value AS BIGINT))::bigint FROM facts WHERE name IN ('a', 'b')";
    assert_eq!(number(&both[0], sum).await, 400, "each write counted once in each row");
}

/// A long write has locked a row; a write that wants the row waits separately, and no other write waits.
async fn a_write_waiting_for_a_lock_does_not_block_others(site: &Site) {
    if site.is_sqlite() {
        return;
    }
    const TOUCH: &str = "UPDATE facts SET value = value || 'x' WHERE name = 'hot'";
    let estate = site.open().await;
    insert(&estate, "hot".into(), "x").await.unwrap();
    let (inside, entered) = tokio::sync::oneshot::channel();
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let both = Arc::new(std::sync::Mutex::new((Some(inside), gate)));
    let store = estate.store().clone();
    let long = tokio::spawn(async move {
        let write = store.write_alone(move |tx| {
            Box::pin(async move {
                tx.exec(TOUCH, args![]).await?;
                let mut both = both.lock().unwrap();
                both.0.take().unwrap().send(()).unwrap();
                both.1.recv_timeout(BOUND).unwrap();
                Ok(())
            })
        });
        write.await
    });
    entered.await.unwrap();
    let mut waiting =
        Box::pin(estate.store().write(|tx| Box::pin(async move { tx.exec(TOUCH, args![]).await })));
    // The first poll queues it before the others.
    assert!(futures_util::poll!(&mut waiting).is_pending());
    for index in 0..10 {
        insert(&estate, format!("beside {index}"), "x").await.unwrap();
    }
    assert!(futures_util::poll!(&mut waiting).is_pending());
    go.send(()).unwrap();
    long.await.unwrap().unwrap();
    assert_eq!(waiting.await.unwrap(), 1);
    let kept = rows(&estate, "SELECT value FROM facts WHERE name = 'hot'", args![]).await;
    assert_eq!(kept[0].text(0).unwrap(), "xxx");
}

async fn a_name_that_is_taken_is_a_conflict(site: &Site) {
    let estate = site.open().await;
    insert(&estate, "one".into(), "first").await.unwrap();
    let error = insert(&estate, "one".into(), "second").await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "taken"));
    assert!(is_taken(&error));
    let kept = rows(&estate, "SELECT value FROM facts WHERE name = 'one'", args![]).await;
    assert_eq!(kept[0].text(0).unwrap(), "first");
}

async fn values_round_trip(site: &Site) {
    let estate = site.open().await;
    exec(
        &estate,
        if site.is_sqlite() {
            "CREATE TABLE kinds (n BIGINT, i BIGINT, f DOUBLE PRECISION, t TEXT, b BLOB)"
        } else {
            "CREATE TABLE kinds (n BIGINT, i BIGINT, f DOUBLE PRECISION, t TEXT, b BYTEA)"
        },
        args![],
    )
    .await;
    let texts = ["", " ", "\t\n", "O'Brien", "żółć 🦀 \u{10FFFF}", "null", "a\\b%_$1"];
    // SQLite stores neither negative zero nor NaN.
    let floats = [0.0, -0.1, 1.5, f64::MIN_POSITIVE, f64::MAX, f64::MIN, f64::INFINITY, f64::NEG_INFINITY];
    let integers = [0, 1, -1, i64::MAX, i64::MIN, 1 << 53, (1 << 53) + 1];
    let bytes: [Vec<u8>; 3] = [Vec::new(), vec![0, 255, 39, 92], (0..=255).collect()];
    const COUNT: usize = 8;
    for n in 0..COUNT {
        let mut bound: Vec<Arg> = args![
            i64::try_from(n).unwrap(),
            integers[n % integers.len()],
            floats[n % floats.len()],
            texts[n % texts.len()],
        ];
        bound.extend(args![bytes[n % bytes.len()].clone()]);
        exec(&estate, "INSERT INTO kinds (n, i, f, t, b) VALUES ($1, $2, $3, $4, $5)", bound).await;
    }
    let none: Vec<Arg> = args![100_i64, None::<i64>, Arg::Float(None), None::<String>, None::<Vec<u8>>,];
    exec(&estate, "INSERT INTO kinds (n, i, f, t, b) VALUES ($1, $2, $3, $4, $5)", none).await;
    let found = rows(&estate, "SELECT i, f, t, b FROM kinds ORDER BY n", args![]).await;
    for (n, row) in found.iter().take(COUNT).enumerate() {
        assert_eq!(row.int(0).unwrap(), integers[n % integers.len()]);
        assert_eq!(row.float(1).unwrap().to_bits(), floats[n % floats.len()].to_bits());
        assert_eq!(row.text(2).unwrap(), texts[n % texts.len()]);
        assert_eq!(row.bytes(3).unwrap(), bytes[n % bytes.len()]);
        assert_eq!(row.text_opt(2).unwrap().as_deref(), Some(texts[n % texts.len()]));
    }
    let last = &found[COUNT];
    assert_eq!((last.int_opt(0).unwrap(), last.text_opt(2).unwrap()), (None, None));
    assert_eq!((last.float_opt(1).unwrap(), last.bytes_opt(3).unwrap()), (None, None));
    // A NULL where a value is required is an error, not a zero.
    assert!(last.int(0).is_err() && last.float(1).is_err());
    assert!(last.text(2).is_err() && last.bytes(3).is_err());
}

async fn rejects_text_that_not_both_databases_can_store(site: &Site) {
    let estate = site.open().await;
    let error = insert(&estate, "nul\0byte".into(), "x").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
    assert!(error.message.contains("U+0000"), "{error}");
}

async fn ids_are_never_issued_twice(site: &Site) {
    const KIND: IdKind = IdKind("conformance");
    let mut seen = HashSet::new();
    let given = Arc::new(AtomicUsize::new(0));
    // Two programs on one store, then one that opens it again.
    let both = [site.open().await, site.open().await];
    let mut tasks = Vec::new();
    for index in 0..16 {
        let (estate, given) = (both[index % 2].clone(), Arc::clone(&given));
        tasks.push(tokio::spawn(async move {
            let mut ids = Vec::new();
            for _ in 0..50 {
                ids.push(estate.ids().next(KIND).await.unwrap());
                given.fetch_add(1, Ordering::SeqCst);
            }
            ids
        }));
    }
    for task in tasks {
        seen.extend(task.await.unwrap());
    }
    for estate in both {
        estate.store().close().await;
    }
    let reopened = site.open().await;
    for _ in 0..200 {
        seen.insert(reopened.ids().next(KIND).await.unwrap());
    }
    assert_eq!(seen.len(), given.load(Ordering::SeqCst) + 200);
    assert!(seen.iter().all(|id| *id >= 2), "1 is reserved for the first start");
}

async fn a_closed_store_says_so(site: &Site) {
    let estate = site.open().await;
    insert(&estate, "last".into(), "x").await.unwrap();
    estate.store().close().await;
    assert_eq!(insert(&estate, "later".into(), "x").await.unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!(estate.store().read().await.err().unwrap().kind, ErrorKind::Unavailable);
}

/// The copy for a backup, while the store is in use.
#[tokio::test]
async fn a_copy_of_sqlite_is_a_store() {
    let site = Site::sqlite();
    let estate = site.open().await;
    insert(&estate, "kept".into(), "x").await.unwrap();
    let target = site.dir.path().join("copy.db");
    estate.store().copy(&target).await.unwrap();
    insert(&estate, "later".into(), "x").await.unwrap();
    let options = landreeve_estate::EstateOptions {
        location: landreeve_estate::store::Location::Sqlite(target),
        ..site.options()
    };
    let copy = Estate::open(options).await.unwrap();
    assert_eq!(copy.store_id(), estate.store_id());
    let names = "SELECT count(*) FROM facts WHERE name IN ('kept', 'later')";
    assert_eq!((number(&copy, names).await, number(&estate, names).await), (1, 2));
}

async fn an_intact_store_has_no_damage(site: &Site) {
    let estate = site.open().await;
    let token = tokio_util::sync::CancellationToken::new();
    assert_eq!(estate.store().check(token.clone()).await.unwrap(), Vec::<String>::new());
    if !site.is_sqlite() {
        exec(&estate, "CREATE EXTENSION IF NOT EXISTS amcheck", args![]).await;
        assert_eq!(estate.store().check(token).await.unwrap(), Vec::<String>::new());
    }
}

/// Bytes in the middle of the file are overwritten.
#[tokio::test]
async fn damage_to_a_store_file_is_found() {
    let site = Site::sqlite();
    let estate = site.open().await;
    for index in 0..2_000 {
        insert(&estate, format!("fact {index}"), "x").await.unwrap();
    }
    estate.store().close().await;
    let landreeve_estate::store::Location::Sqlite(path) = &site.location else { panic!("a file") };
    assert!(landreeve_estate::ops::backup::file_check(path).await.unwrap().is_empty());
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8_192].fill(0xa5);
    std::fs::write(path, &bytes).unwrap();
    assert!(!landreeve_estate::ops::backup::file_check(path).await.unwrap().is_empty());
    bytes[..100].fill(0);
    std::fs::write(path, &bytes).unwrap();
    assert!(!landreeve_estate::ops::backup::file_check(path).await.unwrap().is_empty());
}

#[test]
fn notices_round_trip_through_text() {
    for notice in [
        Notice::Authority,
        Notice::Run(RunId(7)),
        Notice::Queue(landreeve_core::PoolName::LONG),
        Notice::Held,
        Notice::Outbox,
        Notice::Schedule,
    ] {
        assert_eq!(Notice::parse(&notice.as_text()), Some(notice));
    }
    assert_eq!(Notice::parse("run:x"), None);
    assert_eq!(Notice::parse("something newer"), None);
}
