//! Encryption, its key, and the tokens that the server signs.

use landreeve_core::{ErrorKind, Secret};
use landreeve_estate::ops::DatasourceDetails;
use landreeve_estate::ops::datasources::{datasource_create, datasource_get};
use landreeve_estate::ops::secrets::{nodes_running, rotate};
use landreeve_estate::ops::sign_in::{data_token, open_data_token, operator};
use landreeve_estate::random::SeededRandom;
use landreeve_estate::runs::recover;
use landreeve_estate::secrets::SealKey;
use landreeve_estate::{Estate, EstateOptions, args};

use crate::support::{Site, all_datasources, exec, number};

conformance![
    rejects_another_key,
    a_rotation_encrypts_everything_again,
    a_rotation_sees_the_nodes_that_use_the_old_key,
    data_tokens_survive_a_rotation_and_then_expire,
    a_server_with_the_old_key_cannot_encrypt_more,
    rejects_invalid_tokens,
];

pub fn postgres_details(name: &str) -> DatasourceDetails {
    DatasourceDetails {
        name: name.to_owned(),
        host: Some("192.0.2.1".to_owned()),
        password: Some(Secret::new("hunter2")),
        service_key: Some(Secret::new("trombone")),
        ..DatasourceDetails::default()
    }
}

async fn rejects_another_key(site: &Site) {
    site.open().await.store().close().await;
    let other = SealKey::generate(&SeededRandom::new(8));
    let (mine, theirs) = (site.key.fingerprint(), other.fingerprint());
    let error = Estate::open(EstateOptions { seal: other, ..site.options() }).await.err().unwrap();
    assert_eq!((error.kind, error.code), (ErrorKind::PreconditionFailed, "wrong_key"));
    assert!(error.message.contains(&mine) && error.message.contains(&theirs), "{error}");
}

async fn a_rotation_encrypts_everything_again(site: &Site) {
    let estate = site.open().await;
    let ctx = operator(&estate);
    let kept = datasource_create(&estate, &ctx, postgres_details("kept"), Vec::new()).await.unwrap();
    data_token(&estate, "some data").await.unwrap();
    let new = SealKey::generate(&SeededRandom::new(8));
    // The datasource and the signing key.
    assert_eq!(rotate(&estate, &ctx, new.clone()).await.unwrap(), 2);
    let seen = datasource_get(&estate, &ctx, kept.id).await.unwrap();
    assert_eq!(seen.datasource.details.password.as_ref().unwrap().reveal(), "hunter2");
    let later = datasource_create(&estate, &ctx, postgres_details("later"), Vec::new()).await.unwrap();
    estate.store().close().await;

    let error = Estate::open(site.options()).await.err().expect("the old key is rejected");
    assert_eq!(error.code, "wrong_key");
    assert!(error.message.contains(&new.fingerprint()), "{error}");
    let estate = Estate::open(EstateOptions { seal: new, ..site.options() }).await.unwrap();
    for id in [kept.id, later.id] {
        let seen = datasource_get(&estate, &operator(&estate), id).await.unwrap();
        assert_eq!(seen.datasource.details.password.as_ref().unwrap().reveal(), "hunter2");
        assert_eq!(seen.datasource.details.service_key.as_ref().unwrap().reveal(), "trombone");
    }
}

async fn a_rotation_sees_the_nodes_that_use_the_old_key(site: &Site) {
    let estate = site.open().await;
    let ctx = operator(&estate);
    assert!(nodes_running(&estate, &ctx, "here").await.unwrap().is_empty());
    let now = estate.now();
    let registered = estate.store().write(move |tx| {
        Box::pin(async move { recover::register_node(tx, 999, "other", Some("there"), now).await })
    });
    registered.await.unwrap();
    assert_eq!(nodes_running(&estate, &ctx, "here").await.unwrap(), ["other"]);
    // This place's own node has stopped: its lock is held.
    assert!(nodes_running(&estate, &ctx, "there").await.unwrap().is_empty());
    exec(&estate, "UPDATE nodes SET seen_at = 1", args![]).await;
    assert!(nodes_running(&estate, &ctx, "here").await.unwrap().is_empty(), "it stopped long ago");
}

async fn data_tokens_survive_a_rotation_and_then_expire(site: &Site) {
    let estate = site.open().await;
    let token = data_token(&estate, "result 7").await.unwrap();
    site.clock.seconds(10);
    rotate(&estate, &operator(&estate), SealKey::generate(&SeededRandom::new(8))).await.unwrap();
    assert_eq!(open_data_token(&estate, &token).await.unwrap(), "result 7");
    let after = data_token(&estate, "result 8").await.unwrap();
    site.clock.seconds(289);
    assert_eq!(open_data_token(&estate, &token).await.unwrap(), "result 7");
    site.clock.seconds(1);
    let error = open_data_token(&estate, &token).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated);
    assert_eq!(open_data_token(&estate, &after).await.unwrap(), "result 8");
    site.clock.seconds(10);
    assert_eq!(open_data_token(&estate, &after).await.unwrap_err().kind, ErrorKind::Unauthenticated);
}

/// A second node (or a concurrent request) with the old key must not leave values that cannot be decrypted.
async fn a_server_with_the_old_key_cannot_encrypt_more(site: &Site) {
    let (one, other) = (site.open().await, site.open().await);
    rotate(&one, &operator(&one), SealKey::generate(&SeededRandom::new(8))).await.unwrap();
    let refused = datasource_create(&other, &operator(&other), postgres_details("late"), Vec::new()).await;
    let error = refused.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::PreconditionFailed, "wrong_key"), "{error}");
    data_token(&other, "x").await.expect_err("it cannot sign with a key that it cannot decrypt");
    assert_eq!(number(&one, "SELECT count(*) FROM datasources").await, 0);
    assert!(all_datasources(&one, &operator(&one)).await.unwrap().is_empty());
    data_token(&one, "x").await.unwrap();
}

async fn rejects_invalid_tokens(site: &Site) {
    let estate = site.open().await;
    let token = data_token(&estate, "mine").await.unwrap();
    let (head, tail) = token.rsplit_once('.').unwrap();
    let other = data_token(&estate, "other").await.unwrap();
    let stranger = other.rsplit_once('.').unwrap().1;
    // {"alg":"none"} with its own claims.
    let unsigned = "eyJhbGciOiJub25lIn0.eyJrZXkiOiJtaW5lIiwiZXhwIjo5OTk5OTk5OTk5fQ.";
    for wrong in ["", "x", "a.b.c", head, &format!("{head}.{stranger}"), &format!("{head}.x{tail}"), unsigned]
    {
        let error = open_data_token(&estate, wrong).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unauthenticated, "{wrong}");
    }
}
