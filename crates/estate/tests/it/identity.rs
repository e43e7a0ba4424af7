//! Users: sign-in, lockout, sessions, and what an administrator can do to them.

use landreeve_core::ids::{OuId, UserId};
use landreeve_core::{Action, ErrorKind, Noun, OpCtx, Page, Permission, Result, Secret};
use landreeve_estate::ops::audit::{audit_list, write_counted};
use landreeve_estate::ops::groups::{group_create, group_delete, member_set};
use landreeve_estate::ops::sign_in::{
    bad_credential, by_password, by_principal, by_session, no_credential, operator, session_close,
    session_open,
};
use landreeve_estate::ops::users::{
    NewUser, first_user, grant, is_new, password_set, revoke, user_create, user_delete, user_get, user_update,
};
use landreeve_estate::ops::{AuditEvent, GrantTarget, NewGrant, Origin, Subject, User, UserChange};
use landreeve_estate::{Estate, args};

use crate::support::{Site, caller, exec, number, origin, rows};

conformance![
    the_first_user_is_created_once,
    accepts_the_password_and_rejects_a_wrong_one,
    five_failures_lock_for_five_minutes,
    failures_long_apart_do_not_lock,
    any_change_drops_a_cached_password,
    a_disabled_user_cannot_authenticate_in_any_way,
    a_ticket_signs_in_its_user_and_is_audited_once_a_minute,
    an_unknown_user_of_a_ticket_looks_like_a_disabled_one,
    sessions_end_when_idle,
    sessions_are_for_one_face_and_end_with_a_password_change,
    the_last_administrator_cannot_be_removed,
    all_faults_of_a_new_user_are_reported_together,
    members_get_the_grants_of_their_group,
    a_role_is_revoked_in_one_unit_and_immediately,
    callers_cannot_grant_permissions_they_do_not_hold,
    every_write_and_denial_leaves_one_event,
    unauthenticated_requests_become_one_event,
    a_repeated_denial_is_one_event_per_minute,
];

const ROLE_ADMINISTRATOR: landreeve_core::ids::RoleId = landreeve_core::ids::RoleId(1);

fn secret(text: &str) -> Secret {
    Secret::new(text)
}

async fn admin(estate: &Estate) -> User {
    first_user(estate, "admin", secret("correct horse")).await.unwrap().unwrap()
}

async fn sign_in(estate: &Estate, name: &str, password: &str) -> Result<OpCtx> {
    by_password(estate, name, secret(password), None, origin()).await
}

pub async fn person(estate: &Estate, name: &str, grants: Vec<NewGrant>) -> User {
    let new = NewUser {
        name: name.to_owned(),
        email: format!("{name}@example.com"),
        full_name: "Ada King Lovelace".to_owned(),
        password: Some(secret("correct horse")),
        grants,
    };
    user_create(estate, &operator(estate), new).await.unwrap()
}

fn administrator() -> NewGrant {
    NewGrant::Role(ROLE_ADMINISTRATOR, OuId::ROOT)
}

async fn the_first_user_is_created_once(site: &Site) {
    let estate = site.open().await;
    assert!(is_new(&estate).await.unwrap());
    let user = admin(&estate).await;
    assert_eq!((user.id, user.name.as_str()), (UserId(1), "admin"));
    assert!(!is_new(&estate).await.unwrap());
    assert!(first_user(&estate, "other", secret("other horse")).await.unwrap().is_none());
    assert_eq!(number(&estate, "SELECT count(*) FROM users").await, 1);
    let ctx = sign_in(&estate, "admin", "correct horse").await.unwrap();
    assert!(ctx.authority().allows_here(Permission::new(Noun::SETTING, Action::MANAGE)));
}

async fn accepts_the_password_and_rejects_a_wrong_one(site: &Site) {
    let estate = site.open().await;
    let user = person(&estate, "ada", vec![administrator()]).await;
    assert_eq!((user.first_name.as_str(), user.last_name.as_str()), ("Ada", "King Lovelace"));
    let ctx = sign_in(&estate, "ada", "correct horse").await.unwrap();
    assert_eq!(ctx.actor().user(), Some(user.id));
    let wrong = sign_in(&estate, "ada", "wrong horse").await.unwrap_err();
    let unknown = sign_in(&estate, "unknown", "wrong horse").await.unwrap_err();
    assert_eq!(wrong.kind, ErrorKind::Unauthenticated);
    assert_eq!(
        (wrong.code, &wrong.message),
        (unknown.code, &unknown.message),
        "known and unknown names look the same"
    );
    let seen = user_get(&estate, &operator(&estate), user.id).await.unwrap();
    assert!(seen.confirmed && seen.last_activity_at.is_some());
}

#[test]
fn unknown_names_cost_as_much_as_known_ones() {
    use landreeve_estate::identity::password::DUMMY_HASH;
    let hash = argon2::password_hash::PasswordHash::new(DUMMY_HASH)
        .expect("it is a hash, so verification does the work");
    assert_eq!(hash.hash.unwrap().len(), 32);
}

async fn five_failures_lock_for_five_minutes(site: &Site) {
    let estate = site.open().await;
    person(&estate, "ada", vec![administrator()]).await;
    for _ in 0..4 {
        assert_eq!(sign_in(&estate, "ada", "wrong horse").await.unwrap_err().code, "invalid_auth");
        site.clock.seconds(10);
    }
    sign_in(&estate, "ada", "correct horse").await.expect("four do not lock, and the count is reset");
    // A cached password is not an attempt, so let the cache expire first.
    site.clock.seconds(61);
    for _ in 0..5 {
        assert_eq!(sign_in(&estate, "ada", "wrong horse").await.unwrap_err().code, "invalid_auth");
    }
    site.clock.seconds(299);
    assert_eq!(sign_in(&estate, "ada", "correct horse").await.unwrap_err().code, "locked");
    site.clock.seconds(1);
    sign_in(&estate, "ada", "correct horse").await.unwrap();
}

async fn failures_long_apart_do_not_lock(site: &Site) {
    let estate = site.open().await;
    person(&estate, "ada", vec![administrator()]).await;
    for _ in 0..8 {
        assert_eq!(sign_in(&estate, "ada", "wrong horse").await.unwrap_err().code, "invalid_auth");
        site.clock.seconds(76);
    }
    sign_in(&estate, "ada", "correct horse").await.unwrap();
}

async fn a_ticket_signs_in_its_user_and_is_audited_once_a_minute(site: &Site) {
    let estate = site.open().await;
    let user = person(&estate, "ada", vec![administrator()]).await;
    let events = "SELECT count(*) FROM audit_events WHERE action = 'signed_in' AND detail = 'Kerberos'";
    for _ in 0..3 {
        let ctx = by_principal(&estate, "ada", origin()).await.unwrap();
        assert_eq!(ctx.actor().user(), Some(user.id));
    }
    assert_eq!(number(&estate, events).await, 1);
    let seen = user_get(&estate, &operator(&estate), user.id).await.unwrap();
    assert!(seen.confirmed && seen.last_activity_at.is_some());
    site.clock.seconds(60);
    by_principal(&estate, "ada", origin()).await.unwrap();
    assert_eq!(number(&estate, events).await, 2);

    // Wrong passwords lock the password, not the ticket; and a ticket does not unlock the password.
    for _ in 0..5 {
        sign_in(&estate, "ada", "wrong horse").await.unwrap_err();
    }
    site.clock.seconds(61);
    by_principal(&estate, "ada", origin()).await.unwrap();
    assert_eq!(sign_in(&estate, "ada", "correct horse").await.unwrap_err().code, "locked");
}

async fn an_unknown_user_of_a_ticket_looks_like_a_disabled_one(site: &Site) {
    let estate = site.open().await;
    let user = person(&estate, "ada", vec![administrator()]).await;
    person(&estate, "bob", vec![administrator()]).await;
    by_principal(&estate, "ada", origin()).await.unwrap();
    let change = UserChange { enabled: Some(false), ..UserChange::default() };
    user_update(&estate, &operator(&estate), user.id, change).await.unwrap();
    let disabled = by_principal(&estate, "ada", origin()).await.unwrap_err();
    let unknown = by_principal(&estate, "unknown", origin()).await.unwrap_err();
    assert_eq!((disabled.kind, disabled.code), (ErrorKind::Unauthenticated, "invalid_auth"));
    assert_eq!((disabled.code, &disabled.message), (unknown.code, &unknown.message));
    // Names are compared exactly.
    by_principal(&estate, "Bob", origin()).await.unwrap_err();
    by_principal(&estate, "bob", origin()).await.unwrap();
}

async fn any_change_drops_a_cached_password(site: &Site) {
    let estate = site.open().await;
    let user = person(&estate, "ada", vec![administrator()]).await;
    sign_in(&estate, "ada", "correct horse").await.unwrap();
    // Removing the stored hash shows whether the password is cached.
    let forget_hash = "UPDATE users SET password_hash = NULL";
    exec(&estate, forget_hash, args![]).await;
    sign_in(&estate, "ada", "correct horse").await.expect("it is cached");
    site.clock.seconds(60);
    sign_in(&estate, "ada", "correct horse").await.expect_err("for sixty seconds and no longer");
    let ctx = operator(&estate);
    password_set(&estate, &ctx, user.id, secret("better horse")).await.unwrap();
    sign_in(&estate, "ada", "better horse").await.unwrap();
    exec(&estate, forget_hash, args![]).await;
    sign_in(&estate, "ada", "better horse").await.expect("it is cached");
    let change = UserChange { email: Some("new@example.com".into()), ..UserChange::default() };
    user_update(&estate, &ctx, user.id, change).await.unwrap();
    sign_in(&estate, "ada", "better horse").await.expect_err("any change of the user drops it");
}

async fn a_disabled_user_cannot_authenticate_in_any_way(site: &Site) {
    let estate = site.open().await;
    admin(&estate).await;
    let user = person(&estate, "ada", vec![administrator()]).await;
    let ctx = sign_in(&estate, "ada", "correct horse").await.unwrap();
    let session = session_open(&estate, &ctx, "denodo").await.unwrap();
    let (_, token) = crate::keys::key_of(&estate, user.id, None).await;
    by_session(&estate, &session, "denodo", origin()).await.unwrap();
    crate::keys::by_token(&estate, &token, None).await.unwrap();
    let enabled = |enabled| UserChange { enabled: Some(enabled), ..UserChange::default() };
    let operator = operator(&estate);
    user_update(&estate, &operator, user.id, enabled(false)).await.unwrap();
    for refused in [
        sign_in(&estate, "ada", "correct horse").await,
        by_session(&estate, &session, "denodo", origin()).await,
        crate::keys::by_token(&estate, &token, None).await,
    ] {
        assert_eq!(refused.unwrap_err().kind, ErrorKind::Unauthenticated);
    }
    user_update(&estate, &operator, user.id, enabled(true)).await.unwrap();
    sign_in(&estate, "ada", "correct horse").await.unwrap();
    crate::keys::by_token(&estate, &token, None).await.unwrap();
    by_session(&estate, &session, "denodo", origin()).await.expect_err("a session does not come back");
    user_delete(&estate, &operator, user.id).await.unwrap();
    assert_eq!(
        crate::keys::by_token(&estate, &token, None).await.unwrap_err().kind,
        ErrorKind::Unauthenticated
    );
}

async fn sessions_end_when_idle(site: &Site) {
    let estate = site.open().await;
    person(&estate, "ada", vec![administrator()]).await;
    let ctx = sign_in(&estate, "ada", "correct horse").await.unwrap();
    let session = session_open(&estate, &ctx, "denodo").await.unwrap();
    for _ in 0..4 {
        site.clock.seconds(29 * 60);
        by_session(&estate, &session, "denodo", origin()).await.expect("each use extends it");
    }
    site.clock.seconds(30 * 60);
    let error = by_session(&estate, &session, "denodo", origin()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthenticated);
}

async fn sessions_are_for_one_face_and_end_with_a_password_change(site: &Site) {
    let estate = site.open().await;
    let user = person(&estate, "ada", vec![administrator()]).await;
    let ctx = sign_in(&estate, "ada", "correct horse").await.unwrap();
    let session = session_open(&estate, &ctx, "denodo").await.unwrap();
    by_session(&estate, &session, "cloverdx", origin()).await.expect_err("it belongs to another face");
    person(&estate, "eve", vec![administrator()]).await;
    let stranger = sign_in(&estate, "eve", "correct horse").await.unwrap();
    session_close(&estate, &stranger, &session, "denodo").await.unwrap();
    by_session(&estate, &session, "denodo", origin()).await.expect("it is not theirs to end");
    session_close(&estate, &ctx, &session, "denodo").await.unwrap();
    session_close(&estate, &ctx, &session, "denodo").await.expect("ending a session twice succeeds");
    by_session(&estate, &session, "denodo", origin()).await.expect_err("it was ended");
    let out = "SELECT actor_name, noun, noun_id, detail FROM audit_events WHERE action = 'signed_out'";
    let out = rows(&estate, out, args![]).await;
    assert_eq!(out.len(), 1, "ending no session is not an event");
    assert_eq!((out[0].text(0).unwrap().as_str(), out[0].int(2).unwrap()), ("ada", user.id.0));
    assert_eq!((out[0].text(1).unwrap().as_str(), out[0].text(3).unwrap().as_str()), ("user", "denodo"));
    let session = session_open(&estate, &ctx, "denodo").await.unwrap();
    password_set(&estate, &ctx, user.id, secret("better horse")).await.unwrap();
    by_session(&estate, &session, "denodo", origin()).await.expect_err("a new password ends every session");
    let error = password_set(&estate, &ctx, user.id, secret("short")).await.unwrap_err();
    assert_eq!((error.kind, error.faults[0].field.as_str()), (ErrorKind::Invalid, "password"));
}

async fn the_last_administrator_cannot_be_removed(site: &Site) {
    let estate = site.open().await;
    let (first, ctx) = (admin(&estate).await, operator(&estate));
    let off = UserChange { enabled: Some(false), ..UserChange::default() };
    let refused = user_update(&estate, &ctx, first.id, off.clone()).await.unwrap_err();
    assert_eq!((refused.kind, refused.code), (ErrorKind::Conflict, "last_administrator"));
    assert_eq!(user_delete(&estate, &ctx, first.id).await.unwrap_err().code, "last_administrator");
    assert!(user_get(&estate, &ctx, first.id).await.unwrap().enabled, "a rejected change changes nothing");
    let own = sign_in(&estate, "admin", "correct horse").await.unwrap();
    assert_eq!(user_update(&estate, &own, first.id, off.clone()).await.unwrap_err().code, "own_status");
    assert_eq!(user_delete(&estate, &own, first.id).await.unwrap_err().code, "own_status");
    // Two administrators disable each other at the same time: one of them remains.
    let second = person(&estate, "second", vec![administrator()]).await;
    let (a, b) = tokio::join!(
        user_update(&estate, &ctx, first.id, off.clone()),
        user_update(&estate, &ctx, second.id, off.clone()),
    );
    assert!(a.is_ok() != b.is_ok(), "{a:?} {b:?}");
    assert_eq!(number(&estate, "SELECT count(*) FROM users WHERE enabled = 1").await, 1);
}

async fn all_faults_of_a_new_user_are_reported_together(site: &Site) {
    let estate = site.open().await;
    person(&estate, "ada", Vec::new()).await;
    let new = |name: &str, password: &str| NewUser {
        name: name.to_owned(),
        email: String::new(),
        full_name: String::new(),
        password: Some(secret(password)),
        grants: Vec::new(),
    };
    let ctx = operator(&estate);
    let error = user_create(&estate, &ctx, new("a b", "short")).await.unwrap_err();
    let fields: Vec<&str> = error.faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!((error.kind, fields), (ErrorKind::Invalid, vec!["name", "password"]));
    let error = user_create(&estate, &ctx, new("ada", "correct horse")).await.unwrap_err();
    assert_eq!(
        (error.kind, error.code, error.faults[0].field.as_str()),
        (ErrorKind::Conflict, "taken", "name")
    );
    assert_eq!(number(&estate, "SELECT count(*) FROM users").await, 1);
}

async fn members_get_the_grants_of_their_group(site: &Site) {
    let estate = site.open().await;
    let (ctx, user) = (operator(&estate), person(&estate, "ada", Vec::new()).await);
    let manage = Permission::new(Noun::DATASOURCE, Action::MANAGE);
    let given = vec![NewGrant::Permission(manage, GrantTarget::Subtree(OuId::ROOT))];
    let group = group_create(&estate, &ctx, "data".into(), String::new(), given).await.unwrap();
    let may = || async {
        let ctx = sign_in(&estate, "ada", "correct horse").await.unwrap();
        ctx.authority().allows_here(manage)
    };
    assert!(!may().await);
    member_set(&estate, &ctx, group.id, user.id, true).await.unwrap();
    assert!(may().await);
    member_set(&estate, &ctx, group.id, user.id, false).await.unwrap();
    assert!(!may().await);
    member_set(&estate, &ctx, group.id, user.id, true).await.unwrap();
    group_delete(&estate, &ctx, group.id).await.unwrap();
    assert!(!may().await);
    let everyone = landreeve_core::ids::GroupId(1);
    assert_eq!(group_delete(&estate, &ctx, everyone).await.unwrap_err().code, "builtin");
    assert_eq!(member_set(&estate, &ctx, everyone, user.id, false).await.unwrap_err().code, "builtin");
    grant(
        &estate,
        &ctx,
        Subject::Group(everyone),
        vec![NewGrant::Permission(manage, GrantTarget::Subtree(OuId::ROOT))],
    )
    .await
    .unwrap();
    assert!(may().await, "it contains every user");
}

async fn a_role_is_revoked_in_one_unit_and_immediately(site: &Site) {
    let estate = site.open().await;
    let (first, ctx) = (admin(&estate).await, operator(&estate));
    let unit = crate::keys::unit(&estate, None, "Research").await;
    let user = person(&estate, "ada", vec![administrator()]).await;
    let (subject, again) = (Subject::User(user.id), NewGrant::Role(ROLE_ADMINISTRATOR, unit.id));
    grant(&estate, &ctx, subject, vec![administrator(), again]).await.unwrap();
    let may = || async {
        let ctx = sign_in(&estate, "ada", "correct horse").await.unwrap();
        ctx.authority().allows(Permission::new(Noun::USER, Action::MANAGE), "/1/", 0)
    };
    assert!(may().await);
    revoke(&estate, &ctx, subject, ROLE_ADMINISTRATOR, OuId::ROOT).await.unwrap();
    assert!(!may().await, "granted twice, revoked once");
    assert_eq!(number(&estate, "SELECT count(*) FROM grants WHERE role_id = 1").await, 2, "the unit's stays");
    let event = trail(&estate).await.remove(0);
    assert_eq!((event.action.as_str(), event.noun.as_str()), ("revoked", "role"));
    assert_eq!((event.noun_id, event.detail), (Some(1), format!("user {}", user.id)));
    let missing = revoke(&estate, &ctx, subject, ROLE_ADMINISTRATOR, OuId::ROOT).await.unwrap_err();
    assert_eq!(
        (missing.kind, missing.message.as_str()),
        (ErrorKind::NotFound, "the role is not granted in this unit")
    );
    let last = revoke(&estate, &ctx, Subject::User(first.id), ROLE_ADMINISTRATOR, OuId::ROOT).await;
    assert_eq!(last.unwrap_err().code, "last_administrator");
    // Who may manage roles cannot take away more than they have.
    let weak = caller(&estate, None, &[Permission::new(Noun::ROLE, Action::MANAGE)]).await;
    let refused = revoke(&estate, &weak, subject, ROLE_ADMINISTRATOR, unit.id).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Forbidden);
    revoke(&estate, &ctx, subject, ROLE_ADMINISTRATOR, unit.id).await.unwrap();
    // Of a group, for all its members.
    let made = group_create(&estate, &ctx, "bosses".into(), String::new(), vec![administrator()]).await;
    let group = made.unwrap();
    member_set(&estate, &ctx, group.id, user.id, true).await.unwrap();
    assert!(may().await);
    revoke(&estate, &ctx, Subject::Group(group.id), ROLE_ADMINISTRATOR, OuId::ROOT).await.unwrap();
    assert!(!may().await);
}

/// Managing users, groups or roles in one part of the tree does not give access to anything more.
async fn callers_cannot_grant_permissions_they_do_not_hold(site: &Site) {
    let estate = site.open().await;
    let boss = admin(&estate).await;
    let manage = |noun| Permission::new(noun, Action::MANAGE);
    let ctx = caller(
        &estate,
        None,
        &[manage(Noun::USER), manage(Noun::GROUP), manage(Noun::ROLE), manage(Noun::KEY)],
    )
    .await;
    let user = person(&estate, "ada", Vec::new()).await;
    let forbidden = |result: Result<()>, what: &str| {
        assert_eq!(result.expect_err(what).kind, ErrorKind::Forbidden, "{what}");
    };
    forbidden(grant(&estate, &ctx, Subject::User(user.id), vec![administrator()]).await, "granting a role");
    let new = NewUser {
        name: "eve".into(),
        email: String::new(),
        full_name: String::new(),
        password: None,
        grants: vec![administrator()],
    };
    forbidden(user_create(&estate, &ctx, new).await.map(drop), "a user with a role");
    let made = group_create(&estate, &ctx, "all".into(), String::new(), vec![administrator()]).await;
    forbidden(made.map(drop), "a group with a role");
    forbidden(password_set(&estate, &ctx, boss.id, secret("better horse")).await, "another's password");
    forbidden(user_delete(&estate, &ctx, boss.id).await, "deleting a more powerful user");
    let group =
        group_create(&estate, &operator(&estate), "bosses".into(), String::new(), vec![administrator()])
            .await
            .unwrap();
    forbidden(member_set(&estate, &ctx, group.id, user.id, true).await, "joining a more powerful group");
    let key = crate::keys::new_key(landreeve_estate::ops::Api::Protection, Some(boss.id));
    let made = landreeve_estate::ops::keys::key_create(&estate, &ctx, key).await;
    forbidden(made.map(drop), "a key that acts as a more powerful user");
    // Permissions that the caller has can be granted.
    let same = vec![NewGrant::Permission(manage(Noun::USER), GrantTarget::Subtree(OuId::ROOT))];
    grant(&estate, &ctx, Subject::User(user.id), same).await.unwrap();
    password_set(&estate, &ctx, user.id, secret("better horse")).await.unwrap();
}

async fn trail(estate: &Estate) -> Vec<AuditEvent> {
    let page = audit_list(estate, &operator(estate), Page::first(1_000)).await.unwrap();
    assert_eq!(page.total as usize, page.items.len());
    page.items
}

async fn every_write_and_denial_leaves_one_event(site: &Site) {
    let estate = site.open().await;
    let user = person(&estate, "ada", Vec::new()).await;
    let ctx = sign_in(&estate, "ada", "correct horse").await.unwrap();
    let before = trail(&estate).await.len();
    user_create(
        &estate,
        &ctx,
        NewUser {
            name: "eve".into(),
            email: String::new(),
            full_name: String::new(),
            password: None,
            grants: Vec::new(),
        },
    )
    .await
    .unwrap_err();
    let events = trail(&estate).await;
    assert_eq!(events.len(), before + 1);
    let event = &events[0];
    assert_eq!(
        (event.action.as_str(), event.outcome.as_str(), event.noun.as_str()),
        ("refused", "refused", "user")
    );
    assert_eq!((event.actor_kind.as_str(), event.actor_id), ("user", Some(user.id.0)));
    assert_eq!((event.face.as_str(), event.address.as_deref()), ("cluvio", Some("192.0.2.7")));
    assert_eq!(event.request_id, origin().request_id);
    let change = UserChange { email: Some("a@example.com".into()), ..UserChange::default() };
    user_update(&estate, &ctx, user.id, change).await.unwrap();
    let events = trail(&estate).await;
    assert_eq!(events.len(), before + 2);
    assert_eq!((events[0].action.as_str(), events[0].noun_id), ("updated", Some(user.id.0)));
    assert!(!events.iter().any(|event| event.detail.contains("horse")), "no secret is in the trail");
    // A failed change leaves no event.
    let unknown = UserId(999);
    user_update(&estate, &operator(&estate), unknown, UserChange::default()).await.unwrap_err();
    assert_eq!(trail(&estate).await.len(), before + 2);
}

async fn unauthenticated_requests_become_one_event(site: &Site) {
    let estate = site.open().await;
    let from = |last: u8| Origin { address: Some([192, 0, 2, last].into()), ..origin() };
    for _ in 0..7 {
        drop(no_credential(&estate, from(1)));
    }
    for _ in 0..3 {
        drop(bad_credential(&estate, from(1), "no"));
        drop(no_credential(&estate, from(2)));
    }
    assert!(trail(&estate).await.is_empty(), "they are counted first");
    write_counted(&estate, false).await.unwrap();
    write_counted(&estate, false).await.unwrap();
    let mut told: Vec<(Option<String>, String)> =
        trail(&estate).await.into_iter().map(|event| (event.address, event.detail)).collect();
    told.sort();
    let expected = [
        ("192.0.2.1", "invalid_auth: 3 requests"),
        ("192.0.2.1", "not_authed: 7 requests"),
        ("192.0.2.2", "not_authed: 3 requests"),
    ];
    assert_eq!(told, expected.map(|(address, detail)| (Some(address.to_owned()), detail.to_owned())));
    // The memory for them is bounded, whatever they send.
    for index in 0..5_000_u32 {
        drop(no_credential(
            &estate,
            Origin { address: Some(std::net::Ipv4Addr::from(index).into()), ..origin() },
        ));
    }
    write_counted(&estate, false).await.unwrap();
    assert!(number(&estate, "SELECT count(*) FROM audit_events").await < 1_100);
}

async fn a_repeated_denial_is_one_event_per_minute(site: &Site) {
    let estate = site.open().await;
    let weak = caller(&estate, None, &[]).await;
    let before = trail(&estate).await.len();
    let path = weak.authority().ou_path();
    let refused = |noun: Noun, id: i64| estate.require(&weak, noun, Action::MANAGE, path, id);
    let details = || async {
        let events = trail(&estate).await;
        let new = events.len() - before;
        events.into_iter().take(new).map(|event| event.detail).collect::<Vec<_>>()
    };
    for _ in 0..1_000 {
        refused(Noun::DATASOURCE, 1).await.unwrap_err();
    }
    assert_eq!(details().await.len(), 1, "a thousand times the same");
    refused(Noun::DATASOURCE, 2).await.unwrap_err();
    refused(Noun::RUN, 1).await.unwrap_err();
    estate.require(&weak, Noun::DATASOURCE, Action::VIEW, path, 1).await.unwrap_err();
    assert_eq!(details().await.len(), 4, "another object, another noun, another reason");
    write_counted(&estate, false).await.unwrap();
    assert_eq!(details().await.len(), 4, "the minute is not over");

    site.clock.seconds(61);
    refused(Noun::DATASOURCE, 1).await.unwrap_err();
    let told = details().await;
    assert!(told.len() == 5 && told[0].ends_with("; 999 more before"), "{told:?}");
    for _ in 0..5 {
        refused(Noun::DATASOURCE, 1).await.unwrap_err();
    }
    site.clock.seconds(61);
    write_counted(&estate, false).await.unwrap();
    let told = details().await;
    assert!(told.len() == 6 && told[0].ends_with("; 5 more"), "{told:?}");

    // However many objects are requested.
    for id in 0..5_000 {
        refused(Noun::DATASOURCE, id).await.unwrap_err();
    }
    assert!(details().await.len() < 6 + 40, "{}", details().await.len());
    write_counted(&estate, true).await.unwrap();
    let told = details().await;
    assert!(told.iter().any(|detail| detail == "of several kinds; 4967 more"), "{told:?}");
}
