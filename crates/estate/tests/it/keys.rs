//! Keys and tokens of the APIs, and the units they work in.

use landreeve_core::ids::{KeyId, OuId, UserId};
use landreeve_core::{Action, ErrorKind, Noun, OpCtx, Permission, Result, Secret};
use landreeve_estate::Estate;
use landreeve_estate::ops::keys::{
    NewKey, NewKeyGrant, key_create, key_delete, key_list, key_own, key_set_enabled,
};
use landreeve_estate::ops::ous::{ou_create, ou_current, ou_get, ou_list};
use landreeve_estate::ops::sign_in::{by_key, by_password, operator};
use landreeve_estate::ops::users::grant;
use landreeve_estate::ops::{Api, GrantTarget, Key, NewGrant, Ou, Subject};
use uuid::Uuid;

use crate::identity::person;
use crate::support::{Site, caller, key_with, origin};

conformance![
    a_key_is_valid_only_for_its_api,
    a_change_of_a_key_takes_effect_immediately,
    a_key_for_named_resources_grants_nothing_else,
    a_user_works_in_the_first_assigned_unit,
    a_requested_unit_must_be_reachable,
    a_key_of_a_unit_stays_in_it,
    keys_of_other_units_are_out_of_reach,
    unit_names_are_unique_per_parent,
];

const VIEW: Permission = Permission::new(Noun::DATASOURCE, Action::VIEW);

pub fn new_key(api: Api, user: Option<UserId>) -> NewKey {
    NewKey { api, name: "key".into(), ou: None, user, grants: Vec::new(), labels: Vec::new() }
}

pub async fn key_of(estate: &Estate, user: UserId, ou: Option<Uuid>) -> (Key, Secret) {
    let new = NewKey { ou, ..new_key(Api::Protection, Some(user)) };
    key_create(estate, &operator(estate), new).await.unwrap()
}

pub async fn by_token(estate: &Estate, token: &Secret, ou: Option<Uuid>) -> Result<OpCtx> {
    by_key(estate, Api::Protection, token.reveal(), ou, origin()).await
}

pub async fn unit(estate: &Estate, parent: Option<&Ou>, name: &str) -> Ou {
    let parent = parent.map(|parent| parent.uuid);
    ou_create(estate, &operator(estate), parent, name.into(), String::new()).await.unwrap()
}

async fn by(estate: &Estate, api: Api, secret: &Secret) -> Result<OpCtx> {
    by_key(estate, api, secret.reveal(), None, origin()).await
}

async fn a_key_is_valid_only_for_its_api(site: &Site) {
    let estate = site.open().await;
    let (key, secret) = key_with(&estate, None, &[VIEW]).await;
    assert!(secret.reveal().starts_with("lrc_") && secret.reveal().len() > 40);
    assert_eq!(key.hint, &secret.reveal()[..8]);
    let ctx = by(&estate, Api::Analytics, &secret).await.unwrap();
    assert_eq!(key_own(&estate, &ctx).await.unwrap().unwrap().id, key.id);
    assert!(ctx.authority().allows_here(VIEW));
    for api in [Api::Delivery, Api::Protection] {
        assert_eq!(by(&estate, api, &secret).await.unwrap_err().kind, ErrorKind::Unauthenticated);
    }
    for wrong in ["", "lrc_", "lrc_unknown", &secret.reveal()[1..]] {
        let error = by_key(&estate, Api::Analytics, wrong, None, origin()).await.unwrap_err();
        assert_eq!((error.kind, error.code), (ErrorKind::Unauthenticated, "invalid_auth"));
    }
    let kept = crate::support::rows(&estate, "SELECT secret_hash FROM keys", landreeve_estate::args![]).await;
    assert!(!kept[0].text(0).unwrap().contains(secret.reveal()), "only a hash is stored");
}

async fn a_change_of_a_key_takes_effect_immediately(site: &Site) {
    let estate = site.open().await;
    let (key, secret) = key_with(&estate, None, &[VIEW]).await;
    let ctx = operator(&estate);
    for _ in 0..3 {
        by(&estate, Api::Analytics, &secret).await.unwrap();
    }
    for _ in 0..10 {
        key_set_enabled(&estate, &ctx, key.id, false).await.unwrap();
        assert_eq!(by(&estate, Api::Analytics, &secret).await.unwrap_err().kind, ErrorKind::Unauthenticated);
        key_set_enabled(&estate, &ctx, key.id, true).await.unwrap();
        by(&estate, Api::Analytics, &secret).await.unwrap();
    }
    key_delete(&estate, &ctx, key.id).await.unwrap();
    assert_eq!(by(&estate, Api::Analytics, &secret).await.unwrap_err().kind, ErrorKind::Unauthenticated);
    assert_eq!(key_delete(&estate, &ctx, KeyId(999)).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(crate::support::number(&estate, "SELECT count(*) FROM grants").await, 0);
}

async fn a_key_for_named_resources_grants_nothing_else(site: &Site) {
    let estate = site.open().await;
    let grants = vec![NewKeyGrant { permission: VIEW, resources: vec![7, 9] }];
    let new = NewKey { grants, ..new_key(Api::Analytics, None) };
    let (_, secret) = key_create(&estate, &operator(&estate), new).await.unwrap();
    let ctx = by(&estate, Api::Analytics, &secret).await.unwrap();
    for (id, allowed) in [(7, true), (8, false), (9, true)] {
        assert_eq!(ctx.authority().allows(VIEW, "/1/", id), allowed, "{id}");
    }
    assert!(!ctx.authority().allows_here(VIEW) && ctx.authority().allows_some(VIEW));
}

async fn a_user_works_in_the_first_assigned_unit(site: &Site) {
    let estate = site.open().await;
    let (left, right) = (unit(&estate, None, "left").await, unit(&estate, None, "right").await);
    let below = unit(&estate, Some(&left), "below").await;
    let view = |ou: &Ou| NewGrant::Permission(VIEW, GrantTarget::Subtree(ou.id));
    let user = person(&estate, "ada", vec![view(&left), view(&right)]).await;
    let sign_in = |ou| by_password(&estate, "ada", Secret::new("correct horse"), ou, origin());
    let ctx = sign_in(None).await.unwrap();
    assert_eq!(ou_current(&estate, &ctx).await.unwrap().id, left.id);
    let names: Vec<String> =
        ou_list(&estate, &ctx, None).await.unwrap().items.into_iter().map(|ou| ou.name).collect();
    assert_eq!(names, ["left", "below"]);
    assert_eq!(ou_get(&estate, &ctx, right.uuid).await.unwrap_err().kind, ErrorKind::NotFound);
    ou_get(&estate, &ctx, below.uuid).await.unwrap();
    let (_, token) = key_of(&estate, user.id, None).await;
    assert_eq!(by_token(&estate, &token, None).await.unwrap().authority().ou(), left.id);
}

async fn a_requested_unit_must_be_reachable(site: &Site) {
    let estate = site.open().await;
    let (left, right) = (unit(&estate, None, "left").await, unit(&estate, None, "right").await);
    let below = unit(&estate, Some(&left), "below").await;
    let grants = vec![NewGrant::Permission(VIEW, GrantTarget::Subtree(left.id))];
    let user = person(&estate, "ada", grants).await;
    let (_, token) = key_of(&estate, user.id, None).await;
    for (wanted, reachable) in [
        (left.uuid, true),
        (below.uuid, true),
        (right.uuid, false),
        (Uuid::nil(), false),
        (Uuid::from_u128(7), false),
    ] {
        let password =
            by_password(&estate, "ada", Secret::new("correct horse"), Some(wanted), origin()).await;
        let token = by_token(&estate, &token, Some(wanted)).await;
        for answer in [password, token] {
            match answer {
                Ok(ctx) => {
                    assert!(reachable && ctx.authority().ou_path().starts_with(&left.path), "{wanted}")
                }
                Err(error) => assert!(!reachable && error.kind == ErrorKind::Forbidden, "{wanted} {error}"),
            }
        }
    }
    grant(
        &estate,
        &operator(&estate),
        Subject::User(user.id),
        vec![NewGrant::Permission(VIEW, GrantTarget::Subtree(right.id))],
    )
    .await
    .unwrap();
    let ctx = by_token(&estate, &token, Some(right.uuid)).await.expect("a grant takes effect immediately");
    assert_eq!(ctx.authority().ou(), right.id);
}

/// A key's unit takes precedence over one that a request names.
async fn a_key_of_a_unit_stays_in_it(site: &Site) {
    let estate = site.open().await;
    let (left, right) = (unit(&estate, None, "left").await, unit(&estate, None, "right").await);
    let below = unit(&estate, Some(&left), "below").await;
    let grants = vec![NewGrant::Role(landreeve_core::ids::RoleId(1), OuId::ROOT)];
    let user = person(&estate, "ada", grants).await;
    let (_, token) = key_of(&estate, user.id, Some(left.uuid)).await;
    assert_eq!(by_token(&estate, &token, None).await.unwrap().authority().ou(), left.id);
    assert_eq!(by_token(&estate, &token, Some(below.uuid)).await.unwrap().authority().ou(), below.id);
    for other in [right.uuid, Uuid::nil()] {
        assert_eq!(by_token(&estate, &token, Some(other)).await.unwrap_err().kind, ErrorKind::Forbidden);
    }
    let (_, secret) = key_with(&estate, Some(right.uuid), &[VIEW]).await;
    let ctx = by(&estate, Api::Analytics, &secret).await.unwrap();
    assert_eq!(ctx.authority().ou_path(), right.path);
    assert!(ctx.authority().allows_here(VIEW) && !ctx.authority().allows(VIEW, &left.path, 7));
}

async fn keys_of_other_units_are_out_of_reach(site: &Site) {
    let estate = site.open().await;
    let (left, right) = (unit(&estate, None, "left").await, unit(&estate, None, "right").await);
    let (mine, _) = key_with(&estate, Some(left.uuid), &[VIEW]).await;
    let (theirs, _) = key_with(&estate, Some(right.uuid), &[VIEW]).await;
    let ctx = caller(&estate, Some(left.uuid), &[Permission::new(Noun::KEY, Action::MANAGE)]).await;
    let listed: Vec<KeyId> =
        key_list(&estate, &ctx, None, None).await.unwrap().items.into_iter().map(|key| key.id).collect();
    assert!(listed.contains(&mine.id) && !listed.contains(&theirs.id), "{listed:?}");
    for refused in
        [key_set_enabled(&estate, &ctx, theirs.id, false).await, key_delete(&estate, &ctx, theirs.id).await]
    {
        assert_eq!(refused.unwrap_err().kind, ErrorKind::NotFound);
    }
    key_set_enabled(&estate, &ctx, mine.id, false).await.unwrap();
    key_delete(&estate, &ctx, mine.id).await.unwrap();
}

async fn unit_names_are_unique_per_parent(site: &Site) {
    let estate = site.open().await;
    let left = unit(&estate, None, "left").await;
    let same = ou_create(&estate, &operator(&estate), None, "left".into(), String::new()).await.unwrap_err();
    assert_eq!((same.kind, same.code, same.faults[0].field.as_str()), (ErrorKind::Conflict, "taken", "name"));
    unit(&estate, Some(&left), "left").await;
    let error = ou_create(&estate, &operator(&estate), None, String::new(), String::new()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    let ctx = caller(&estate, Some(left.uuid), &[Permission::new(Noun::OU, Action::VIEW)]).await;
    let refused = ou_create(&estate, &ctx, None, "new".into(), String::new()).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Forbidden);
    let ctx = caller(&estate, Some(left.uuid), &[Permission::new(Noun::OU, Action::MANAGE)]).await;
    let made = ou_create(&estate, &ctx, None, "new".into(), String::new()).await.unwrap();
    assert!(made.path.starts_with(&left.path), "it is created below the caller's unit");
    let outside = ou_create(&estate, &ctx, Some(Uuid::nil()), "out".into(), String::new()).await.unwrap_err();
    assert_eq!(outside.kind, ErrorKind::NotFound);
}

/// Only on PostgreSQL: SQLite has one server, and other programs notify it of their changes.
#[tokio::test]
async fn a_change_on_another_node_is_visible_immediately() {
    let site = Site::postgres().await;
    let (one, other) = (site.open().await, site.open().await);
    let (key, secret) = key_with(&one, None, &[VIEW]).await;
    by(&other, Api::Analytics, &secret).await.unwrap();
    for _ in 0..10 {
        key_set_enabled(&one, &operator(&one), key.id, false).await.unwrap();
        assert!(by(&other, Api::Analytics, &secret).await.is_err());
        key_set_enabled(&one, &operator(&one), key.id, true).await.unwrap();
        by(&other, Api::Analytics, &secret).await.unwrap();
    }
    site.remove().await;
}
