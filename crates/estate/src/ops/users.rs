//! Users: list, show, create, update, delete, and their passwords.

use jiff::Timestamp;
use landreeve_core::error::{Faults, codes};
use landreeve_core::ids::{GrantId, GroupId, OuId, RoleId, UserId};
use landreeve_core::{
    Action, Error, ErrorKind, Fault, Grant, Input, Noun, OpCtx, Page, PageOf, Result, Scope, Secret,
};

use crate::builtin::ADMINISTRATOR;
use crate::estate::OwnedAct;
use crate::identity::authentication::{self, Origin};
use crate::identity::grants::{self, Assignment, GrantTarget, NewGrant, Role, Subject};
use crate::identity::{User, UserChange, UserFilter, groups, ous, password, sessions, users};
use crate::store::{Tx, taken};
use crate::{Estate, args};

#[derive(Debug, Clone)]
pub struct NewUser {
    pub name: String,
    pub email: String,
    pub full_name: String,
    /// Without one the user cannot sign in until one is set.
    pub password: Option<Secret>,
    pub grants: Vec<NewGrant>,
}

/// The caller's own record, which needs no permission.
pub async fn me(estate: &Estate, ctx: &OpCtx) -> Result<Option<User>> {
    let Some(id) = ctx.actor().user() else { return Ok(None) };
    users::get(&mut estate.store().read().await?, id).await
}

pub async fn user_list(estate: &Estate, ctx: &OpCtx, asked: &UserFilter, page: Page) -> Result<PageOf<User>> {
    estate.require_some(ctx, Noun::USER, Action::VIEW).await?;
    let below = ctx.authority().ou_path();
    users::list(&mut estate.store().read().await?, asked, below, page).await
}

/// Users belong to the whole estate; everyone can see their own record.
pub async fn user_get(estate: &Estate, ctx: &OpCtx, id: UserId) -> Result<User> {
    if ctx.actor().user() != Some(id) {
        estate.require_some(ctx, Noun::USER, Action::VIEW).await?;
    }
    users::get(&mut estate.store().read().await?, id).await?.ok_or_else(|| Error::not_found("user"))
}

pub async fn user_by_name(estate: &Estate, ctx: &OpCtx, name: &str) -> Result<User> {
    estate.require_some(ctx, Noun::USER, Action::VIEW).await?;
    let found = users::for_sign_in(&mut estate.store().read().await?, name).await?;
    found.map(|row| row.user).ok_or_else(|| Error::not_found("user"))
}

pub async fn user_create(estate: &Estate, ctx: &OpCtx, new: NewUser) -> Result<User> {
    estate.require_some(ctx, Noun::USER, Action::MANAGE).await?;
    let mut faults = Faults::default();
    faults.take(users::check_name(&new.name));
    if let Some(password) = &new.password {
        faults.take(password::check(password));
    }
    faults.finish()?;
    let hash = match new.password.clone() {
        Some(password) => Some(estate.authentication().gate().hash(password, &**estate.random()).await?),
        None => None,
    };
    let (id, now) = (estate.next::<UserId>(UserId::KIND).await?, estate.now());
    let (first_name, last_name) = users::split_name(&new.full_name);
    let user = User {
        id,
        name: new.name.clone(),
        email: new.email,
        first_name,
        last_name,
        enabled: true,
        confirmed: false,
        inviter: ctx.actor().user(),
        last_activity_at: None,
        password_changed_at: hash.is_some().then_some(now),
        created_at: now,
        updated_at: now,
        row_version: 1,
    };
    require_covers(estate, ctx, &new.grants).await?;
    let given = numbered(estate, new.grants).await?;
    let copy = user.clone();
    estate
        .change(ctx, OwnedAct::new("created", Noun::USER, id.0, new.name), move |tx| {
            Box::pin(async move {
                if !copy.email.is_empty() && users::has_email(tx, &copy.email).await? {
                    return Err(email_taken());
                }
                users::insert(tx, &copy, hash).await?;
                for (grant_id, grant) in &given {
                    grants::insert(tx, *grant_id, Subject::User(id), grant, now).await?;
                }
                tx.bump_epoch().await
            })
        })
        .await
        .map_err(|error| taken(error, "name"))?;
    Ok(user)
}

pub(crate) fn email_taken() -> Error {
    let message = "email is already taken";
    let fault = Fault::new("email", codes::TAKEN, "is already taken");
    Error { faults: vec![fault], ..Error::conflict(codes::TAKEN, message) }
}

/// Callers cannot grant permissions they do not have: otherwise managing users or keys in one unit would give access to
/// everything.
pub(crate) async fn require_covers(estate: &Estate, ctx: &OpCtx, given: &[NewGrant]) -> Result<()> {
    let mut conn = estate.store().read().await?;
    let (mut all, mut faults) = (Vec::new(), Faults::default());
    let roles = grants::roles(&mut conn).await?;
    for (index, grant) in given.iter().enumerate() {
        let (permissions, target) = match grant {
            NewGrant::Role(role, ou) => {
                let role = roles.iter().find(|known| known.id == *role);
                if role.is_none() {
                    faults.push(format!("grants.{index}"), "unknown", "names an unknown role");
                }
                (role.map(|role| role.permissions.clone()).unwrap_or_default(), GrantTarget::Subtree(*ou))
            }
            NewGrant::Permission(permission, target) => (vec![*permission], target.clone()),
        };
        let scope = match target {
            GrantTarget::Resource(id) => Some(Scope::Resources(vec![id])),
            GrantTarget::Subtree(ou) => ous::get(&mut conn, ou).await?.map(|ou| Scope::Subtree(ou.path)),
        };
        match scope {
            Some(scope) => all
                .extend(permissions.into_iter().map(|permission| Grant { permission, scope: scope.clone() })),
            None => faults.push(format!("grants.{index}"), "unknown", "names an unknown organizational unit"),
        }
    }
    drop(conn);
    faults.finish()?;
    require_held(estate, ctx, Noun::ROLE, None, &all).await
}

/// The same, for acting on a user: setting the password, creating a key, deleting the account.
pub(crate) async fn require_covers_user(estate: &Estate, ctx: &OpCtx, user: UserId) -> Result<()> {
    if ctx.actor().user() == Some(user) {
        return Ok(());
    }
    let mut conn = estate.store().read().await?;
    let groups = groups::of_user(&mut conn, user).await?;
    let held = grants::of_user(&mut conn, user, &groups).await?;
    drop(conn);
    let held: Vec<Grant> = held.into_iter().map(|(grant, _)| grant).collect();
    require_held(estate, ctx, Noun::USER, Some(user.0), &held).await
}

/// The same, for the grants that a group's members get.
pub(crate) async fn require_covers_group(estate: &Estate, ctx: &OpCtx, group: GroupId) -> Result<()> {
    let held = grants::of(&mut estate.store().read().await?, Subject::Group(group)).await?;
    let held: Vec<Grant> = held.into_iter().map(|(grant, _)| grant).collect();
    require_held(estate, ctx, Noun::GROUP, Some(group.0), &held).await
}

async fn require_held(
    estate: &Estate,
    ctx: &OpCtx,
    noun: Noun,
    id: Option<i64>,
    grants_given: &[Grant],
) -> Result<()> {
    if grants::covers(ctx.authority(), grants_given) {
        return Ok(());
    }
    let error = Error::forbidden("you cannot grant permissions you do not hold");
    Err(estate.refused(ctx, noun, id, error).await)
}

/// Assigns ids to the grants before the transaction that inserts them.
pub(crate) async fn numbered(estate: &Estate, grants: Vec<NewGrant>) -> Result<Vec<(GrantId, NewGrant)>> {
    let mut numbered = Vec::with_capacity(grants.len());
    for grant in grants {
        numbered.push((estate.next::<GrantId>(GrantId::KIND).await?, grant));
    }
    Ok(numbered)
}

pub async fn user_update(estate: &Estate, ctx: &OpCtx, id: UserId, change: UserChange) -> Result<User> {
    if ctx.actor().user() != Some(id) || change.enabled.is_some() {
        estate.require_some(ctx, Noun::USER, Action::MANAGE).await?;
    }
    if ctx.actor().user() != Some(id) || change.enabled.is_some() {
        require_covers_user(estate, ctx, id).await?;
    }
    if ctx.actor().user() == Some(id) && change.enabled.is_some() {
        return Err(Error::conflict(
            "own_status",
            "you cannot change your own status; ask another administrator",
        ));
    }
    let now = estate.now();
    estate
        .change(ctx, OwnedAct::new("updated", Noun::USER, id.0, describe(&change)), move |tx| {
            Box::pin(async move { apply(tx, id, change, now).await })
        })
        .await
}

/// Changes a user in this transaction.
pub(crate) async fn apply(tx: &mut Tx, id: UserId, change: UserChange, now: Timestamp) -> Result<User> {
    let mut user = users::get(tx, id).await?.ok_or_else(|| Error::not_found("user"))?;
    if let Some(full) = &change.full_name {
        (user.first_name, user.last_name) = users::split_name(full);
    }
    if let Some(email) = change.email {
        user.email = email;
    }
    if let Some(enabled) = change.enabled {
        user.enabled = enabled;
    }
    user.updated_at = now;
    users::update(tx, &user, now).await?;
    user.row_version += 1;
    tx.bump_epoch().await?;
    if !user.enabled {
        keep_an_administrator(tx).await?;
        sessions::delete_of(tx, id).await?;
    }
    Ok(user)
}

pub(crate) fn describe(change: &UserChange) -> String {
    let mut parts = Vec::new();
    if change.full_name.is_some() {
        parts.push("full name".to_owned());
    }
    if change.email.is_some() {
        parts.push("e-mail".to_owned());
    }
    if let Some(enabled) = change.enabled {
        parts.push(if enabled { "enabled".to_owned() } else { "disabled".to_owned() });
    }
    parts.join(", ")
}

/// Without an enabled administrator at the root, no one could be given access again.
pub(crate) async fn keep_an_administrator(tx: &mut Tx) -> Result<()> {
    let left = tx
        .one(
            "SELECT count(*) FROM users u JOIN grants g ON g.subject_kind = 'user' AND g.subject_id = u.id \
             WHERE u.enabled = 1 AND g.role_id = 1 AND g.ou_id = 1",
            args![],
        )
        .await?
        .int(0)?;
    if left == 0 {
        return Err(Error::conflict("last_administrator", "at least one administrator must remain enabled"));
    }
    Ok(())
}

pub async fn user_delete(estate: &Estate, ctx: &OpCtx, id: UserId) -> Result<()> {
    estate.require_some(ctx, Noun::USER, Action::MANAGE).await?;
    if ctx.actor().user() == Some(id) {
        return Err(Error::conflict(
            "own_status",
            "you cannot delete your own account; ask another administrator",
        ));
    }
    require_covers_user(estate, ctx, id).await?;
    estate
        .change(ctx, OwnedAct::new("deleted", Noun::USER, id.0, ""), move |tx| {
            Box::pin(async move {
                tx.bump_epoch().await?;
                users::get(tx, id).await?.ok_or_else(|| Error::not_found("user"))?;
                users::delete(tx, id).await?;
                keep_an_administrator(tx).await
            })
        })
        .await
}

/// Sets a password: the caller's own, or a user's that the caller manages. Ends the user's sessions.
pub async fn password_set(estate: &Estate, ctx: &OpCtx, id: UserId, new: Secret) -> Result<()> {
    if ctx.actor().user() != Some(id) {
        estate.require_some(ctx, Noun::USER, Action::MANAGE).await?;
    }
    require_covers_user(estate, ctx, id).await?;
    password::check(&new).map_err(|fault| Error::invalid(vec![fault]))?;
    let (hash, now) = (estate.authentication().gate().hash(new, &**estate.random()).await?, estate.now());
    estate
        .change(ctx, OwnedAct::new("updated", Noun::USER, id.0, "password"), move |tx| {
            Box::pin(async move {
                tx.bump_epoch().await?;
                users::get(tx, id).await?.ok_or_else(|| Error::not_found("user"))?;
                users::set_password(tx, id, hash, now).await?;
                sessions::delete_of(tx, id).await.map(drop)
            })
        })
        .await
}

/// Replaces the caller's own password. A wrong current one counts like a failed sign-in.
pub async fn password_change(
    estate: &Estate,
    ctx: &OpCtx,
    change: impl Into<Input<(Secret, Secret)>>,
) -> Result<()> {
    let Some(id) = ctx.actor().user() else {
        return Err(Error::forbidden("this credential does not belong to a user"));
    };
    let (current, new) = change.into().valid()?;
    let user = users::get(&mut estate.store().read().await?, id).await?;
    let user = user.ok_or_else(|| Error::not_found("user"))?;
    let origin = Origin { request_id: ctx.request_id(), address: ctx.address(), kind: ctx.kind() };
    match authentication::by_password(estate, &user.name, current, None, origin).await {
        Ok(_) => password_set(estate, ctx, id, new).await,
        Err(error) if error.kind == ErrorKind::Unauthenticated => {
            Err(Error::fault("current_password", "wrong", "is not the current password"))
        }
        Err(error) => Err(error),
    }
}

/// Grants more permissions to a user, group or key.
pub async fn grant(
    estate: &Estate,
    ctx: &OpCtx,
    subject: Subject,
    grants_given: Vec<NewGrant>,
) -> Result<()> {
    estate.require_some(ctx, Noun::ROLE, Action::MANAGE).await?;
    require_covers(estate, ctx, &grants_given).await?;
    let (given, now) = (numbered(estate, grants_given).await?, estate.now());
    let detail = format!("{} {}", subject.kind(), subject.id());
    let act = OwnedAct { action: "granted", noun: Noun::ROLE, noun_id: None, detail };
    estate
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                for (id, grant) in &given {
                    grants::insert(tx, *id, subject, grant, now).await?;
                }
                tx.bump_epoch().await
            })
        })
        .await
}

/// Takes a role in a unit back from a user, group or key. What the subject holds of it elsewhere stays.
pub async fn revoke(estate: &Estate, ctx: &OpCtx, subject: Subject, role: RoleId, ou: OuId) -> Result<()> {
    estate.require_some(ctx, Noun::ROLE, Action::MANAGE).await?;
    require_covers(estate, ctx, &[NewGrant::Role(role, ou)]).await?;
    let detail = format!("{} {}", subject.kind(), subject.id());
    let act = OwnedAct { action: "revoked", noun: Noun::ROLE, noun_id: Some(role.0), detail };
    estate
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                if !grants::revoke_role(tx, subject, role, ou).await? {
                    return Err(Error::not_found("grant").saying("the role is not granted in this unit"));
                }
                tx.bump_epoch().await?;
                // Other grants have nothing to do with it, even where administrators are members of a group.
                match (subject, role, ou) {
                    (Subject::User(_), ADMINISTRATOR, OuId::ROOT) => keep_an_administrator(tx).await,
                    _ => Ok(()),
                }
            })
        })
        .await
}

pub async fn assignments(estate: &Estate, ctx: &OpCtx, subject: Subject) -> Result<Vec<Assignment>> {
    if ctx.actor().user().map(Subject::User) != Some(subject) {
        estate.require_some(ctx, Noun::USER, Action::VIEW).await?;
    }
    grants::assignments(&mut estate.store().read().await?, subject).await
}

pub async fn role_list(estate: &Estate, ctx: &OpCtx) -> Result<Vec<Role>> {
    estate.require_some(ctx, Noun::USER, Action::VIEW).await?;
    grants::roles(&mut estate.store().read().await?).await
}

/// Creates the first user, with all permissions. `None` if there is already a user.
pub async fn first_user(estate: &Estate, name: &str, password: Secret) -> Result<Option<User>> {
    let ctx = super::sign_in::operator(estate);
    let hash = estate.authentication().gate().hash(password, &**estate.random()).await?;
    let (grant, now) = (estate.next::<GrantId>(GrantId::KIND).await?, estate.now());
    let user = User {
        id: UserId(1),
        name: name.to_owned(),
        email: String::new(),
        first_name: "Administrator".to_owned(),
        last_name: String::new(),
        enabled: true,
        confirmed: true,
        inviter: None,
        last_activity_at: None,
        password_changed_at: Some(now),
        created_at: now,
        updated_at: now,
        row_version: 1,
    };
    let copy = user.clone();
    let made = estate
        .change(&ctx, OwnedAct::new("created", Noun::USER, 1, "the first user"), move |tx| {
            Box::pin(async move {
                if tx.one("SELECT count(*) FROM users", args![]).await?.int(0)? > 0 {
                    return Err(Error::conflict(codes::NOT_FIRST, "there is already a user"));
                }
                users::insert(tx, &copy, Some(hash)).await?;
                crate::bootstrap::grant_everything(tx, grant, Subject::User(copy.id), now).await?;
                tx.bump_epoch().await
            })
        })
        .await;
    match made {
        Ok(()) => Ok(Some(user)),
        Err(error) if error.code == codes::NOT_FIRST => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether there is any user yet.
pub async fn is_new(estate: &Estate) -> Result<bool> {
    let mut conn = estate.store().read().await?;
    Ok(conn.one("SELECT count(*) FROM users", args![]).await?.int(0)? == 0)
}
