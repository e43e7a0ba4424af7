//! Users with roles in units, changed as one.

use landreeve_core::ids::{OuId, RoleId};
use landreeve_core::{ErrorKind, OpCtx, Page};
use landreeve_estate::Estate;
use landreeve_estate::ops::access::{Access, access_of};
use landreeve_estate::ops::members::{
    MemberChange, NewAccess, NewMember, RoleChange, member_create, member_update,
};
use landreeve_estate::ops::ous::ou_create;
use landreeve_estate::ops::users::{grant, revoke, user_list};
use landreeve_estate::ops::{NewGrant, Subject, User, UserChange, UserFilter, sign_in};
use uuid::Uuid;

use crate::support::{Site, number};

conformance![
    a_change_of_roles_is_one_transaction,
    concurrent_changes_of_roles_do_not_mix,
    an_email_address_is_taken_once,
    users_are_found_by_role_and_unit,
];

fn operator(estate: &Estate) -> OpCtx {
    sign_in::operator(estate)
}

const ADMINISTRATOR: Uuid = Uuid::nil();
const VIEWER: Uuid = Uuid::from_u128(0x5000_0000_0000_0000_0000_0000_0000_0000);
const ANALYST: Uuid = Uuid::from_u128(0x4000_0000_0000_0000_0000_0000_0000_0000);

async fn member(estate: &Estate, email: &str, access: Vec<Access>) -> User {
    let new =
        NewMember { email: email.to_owned(), full_name: "A B".to_owned(), access: NewAccess::Each(access) };
    member_create(estate, &operator(estate), new).await.unwrap()
}

fn in_root(role: Uuid) -> Access {
    Access { role, units: vec![Uuid::nil()] }
}

async fn roles(estate: &Estate, user: &User) -> Vec<Access> {
    let all = access_of(estate, &operator(estate), &[user.id]).await.unwrap().unwrap();
    all.into_values().next().unwrap()
}

async fn a_change_of_roles_is_one_transaction(site: &Site) {
    let estate = site.open().await;
    let ctx = operator(&estate);
    let user = member(&estate, "ada@example.com", vec![in_root(ADMINISTRATOR)]).await;
    let unit = ou_create(&estate, &ctx, None, "Research".to_owned(), String::new()).await.unwrap();
    // The only administrator: the name, the new role and the revoked one stay as they were.
    let change = |remove: Uuid| MemberChange {
        user: UserChange { full_name: Some("Eve".to_owned()), ..UserChange::default() },
        roles: RoleChange::Each {
            add: vec![Access { role: VIEWER, units: vec![unit.uuid, unit.uuid] }],
            remove: vec![in_root(remove)],
        },
    };
    let events = "SELECT count(*) FROM audit_events";
    let before = number(&estate, events).await;
    let error = member_update(&estate, &ctx, user.id, change(ADMINISTRATOR)).await.unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "last_administrator"));
    assert_eq!(roles(&estate, &user).await, [in_root(ADMINISTRATOR)]);
    assert_eq!(number(&estate, "SELECT count(*) FROM users WHERE first_name = 'Eve'").await, 0);
    assert_eq!(number(&estate, events).await, before);
    let other = member(&estate, "bob@example.com", vec![in_root(ADMINISTRATOR)]).await;
    let changed = member_update(&estate, &ctx, user.id, change(ADMINISTRATOR)).await.unwrap();
    assert_eq!(changed.full_name(), "Eve");
    let expected = [Access { role: VIEWER, units: vec![unit.uuid] }];
    assert_eq!(roles(&estate, &user).await, expected);
    assert_eq!(number(&estate, events).await, before + 2, "the other user, and one for this change");
    let off = MemberChange {
        user: UserChange { enabled: Some(false), ..UserChange::default() },
        roles: RoleChange::Each { add: vec![in_root(VIEWER)], remove: Vec::new() },
    };
    let error = member_update(&estate, &ctx, other.id, off).await.unwrap_err();
    assert_eq!(error.code, "last_administrator");
    assert_eq!(roles(&estate, &other).await, [in_root(ADMINISTRATOR)]);
}

async fn concurrent_changes_of_roles_do_not_mix(site: &Site) {
    let estate = site.open().await;
    let ctx = operator(&estate);
    member(&estate, "boss@example.com", vec![in_root(ADMINISTRATOR)]).await;
    let user = member(&estate, "ada@example.com", vec![in_root(VIEWER)]).await;
    let change = |role| MemberChange {
        user: UserChange::default(),
        roles: RoleChange::One { role: Some(role), add: Vec::new(), remove: Vec::new() },
    };
    let both = tokio::join!(
        member_update(&estate, &ctx, user.id, change(ANALYST)),
        member_update(&estate, &ctx, user.id, change(ADMINISTRATOR)),
    );
    let failed = [&both.0, &both.1].into_iter().filter_map(|result| result.as_ref().err());
    assert!(failed.clone().count() <= 1);
    for error in failed {
        assert_eq!((error.kind, error.code), (ErrorKind::Conflict, "changed"));
    }
    assert_eq!(roles(&estate, &user).await.len(), 1, "one role, that of the last");
}

async fn an_email_address_is_taken_once(site: &Site) {
    let estate = site.open().await;
    member(&estate, "ada@example.com", Vec::new()).await;
    for email in ["ada@example.com", "Ada@Example.com"] {
        let access = NewAccess::Each(Vec::new());
        let new = NewMember { email: email.to_owned(), full_name: "A".to_owned(), access };
        let error = member_create(&estate, &operator(&estate), new).await.unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Conflict, "email is already taken"));
    }
}

async fn users_are_found_by_role_and_unit(site: &Site) {
    let estate = site.open().await;
    let ctx = operator(&estate);
    let unit = ou_create(&estate, &ctx, None, "Research".to_owned(), String::new()).await.unwrap();
    let ada = member(&estate, "ada@example.com", vec![in_root(VIEWER)]).await;
    let bob = member(&estate, "bob@example.com", vec![Access { role: VIEWER, units: vec![unit.uuid] }]).await;
    let found = async |asked: UserFilter| {
        let page = user_list(&estate, &ctx, &asked, Page::first(10)).await.unwrap();
        assert_eq!(page.total, page.items.len() as u64);
        page.items.into_iter().map(|user| user.id).collect::<Vec<_>>()
    };
    let all = UserFilter::default();
    assert_eq!(found(UserFilter { role: Some(VIEWER), ..all.clone() }).await, [ada.id, bob.id]);
    assert_eq!(found(UserFilter { unit: Some(unit.uuid), ..all.clone() }).await, [bob.id]);
    assert_eq!(found(UserFilter { role: Some(ANALYST), unit: Some(unit.uuid), ..all.clone() }).await, []);
    assert_eq!(found(UserFilter { name: Some("A B".to_owned()), ..all.clone() }).await.len(), 2);
    assert_eq!(found(UserFilter { nothing: true, ..all.clone() }).await, []);
    // A permission that is not a role does not count.
    let analyst = NewGrant::Role(RoleId(3), OuId::ROOT);
    grant(&estate, &ctx, Subject::User(ada.id), vec![analyst]).await.unwrap();
    assert_eq!(found(UserFilter { role: Some(ANALYST), ..all.clone() }).await, [ada.id]);
    revoke(&estate, &ctx, Subject::User(ada.id), RoleId(3), OuId::ROOT).await.unwrap();
    assert_eq!(found(UserFilter { role: Some(ANALYST), ..all }).await, []);
}
