//! The store itself: writes, group commit, notices, values, ids.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use landreeve_core::ids::RunId;
use landreeve_core::{Error, ErrorKind, IdKind};
use landreeve_estate::Estate;
use landreeve_estate::args;
use landreeve_estate::store::{Arg, Notice, is_taken};

use crate::support::{BOUND, Site, exec, number, rows};

conformance![
    concurrent_writes_stand_apart,
    a_failed_write_leaves_nothing_and_tells_nobody,
    a_write_that_panics_harms_no_other,
    a_dropped_write_still_commits,
    a_name_that_is_taken_is_a_conflict,
    values_come_back_as_they_went,
    a_text_the_databases_cannot_both_hold_is_refused,
    ids_are_never_given_twice,
    a_closed_store_says_so,
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

async fn concurrent_writes_stand_apart(site: &Site) {
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
    assert_eq!(after - before, 240, "every other write stands, and nothing of the failed ones");
}

async fn a_failed_write_leaves_nothing_and_tells_nobody(site: &Site) {
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
    let reader = estate.clone();
    estate
        .store()
        .write(|tx| {
            Box::pin(async move {
                tx.run_changed(RunId(8)).await?;
                tx.bump_epoch().await?;
                // Whoever reads beside the transaction sees nothing of it, and nobody has been told.
                assert_eq!(number(&reader, "SELECT value FROM epochs").await, 1);
                assert!(reader.store().notices().runs().is_empty());
                assert_eq!(reader.store().notices().epoch(), 0);
                Ok(())
            })
        })
        .await
        .unwrap();
    assert_eq!(told.recv().await.unwrap(), RunId(8), "the first notice is of the write that stands");
    assert_eq!(estate.store().notices().epoch(), epoch + 1);
    assert_eq!(number(&estate, "SELECT value FROM epochs").await, 2);
}

async fn a_write_that_panics_harms_no_other(site: &Site) {
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
    let (reached, mut entered) = tokio::sync::watch::channel(false);
    let go = Arc::new(tokio::sync::Notify::new());
    let mut changes = estate.store().notices().runs();
    let (gate, store) = (Arc::clone(&go), estate.store().clone());
    let asking = tokio::spawn(async move {
        store
            .write(move |tx| {
                Box::pin(async move {
                    reached.send_replace(true);
                    gate.notified().await;
                    tx.exec("INSERT INTO facts (name, value) VALUES ('late', 'x')", args![]).await?;
                    tx.run_changed(RunId(9)).await
                })
            })
            .await
    });
    entered.wait_for(|entered| *entered).await.unwrap();
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    go.notify_one();
    let told = tokio::time::timeout(BOUND, changes.recv()).await.unwrap();
    assert_eq!(told.unwrap(), RunId(9));
    assert_eq!(number(&estate, "SELECT count(*) FROM facts WHERE name = 'late'").await, 1);
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

async fn values_come_back_as_they_went(site: &Site) {
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
    // SQLite keeps no negative zero and no NaN.
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
    // A NULL where a value must be is an error, not a zero.
    assert!(last.int(0).is_err() && last.float(1).is_err());
    assert!(last.text(2).is_err() && last.bytes(3).is_err());
}

async fn a_text_the_databases_cannot_both_hold_is_refused(site: &Site) {
    let estate = site.open().await;
    let error = insert(&estate, "nul\0byte".into(), "x").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
    assert!(error.message.contains("U+0000"), "{error}");
}

async fn ids_are_never_given_twice(site: &Site) {
    const KIND: IdKind = IdKind("conformance");
    let mut seen = HashSet::new();
    let given = Arc::new(AtomicUsize::new(0));
    // Two programs on one store, then one that opens it anew.
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
    assert!(seen.iter().all(|id| *id >= 2), "1 is left to what the first start makes");
}

async fn a_closed_store_says_so(site: &Site) {
    let estate = site.open().await;
    insert(&estate, "last".into(), "x").await.unwrap();
    estate.store().close().await;
    assert_eq!(insert(&estate, "later".into(), "x").await.unwrap_err().kind, ErrorKind::Unavailable);
    assert_eq!(estate.store().read().await.err().unwrap().kind, ErrorKind::Unavailable);
}

/// The copy that a backup takes, while the store is in use.
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

#[test]
fn notices_survive_their_text() {
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
