//! `landreeve user …`, `group …` and `ou …`.

use clap::{Args, Subcommand};
use landreeve_core::ids::{GroupId, OuId, RoleId, UserId};
use landreeve_core::{Page, page};
use landreeve_estate::ops::units::{self, UnitChange};
use landreeve_estate::ops::users::{self, NewUser};
use landreeve_estate::ops::{GroupFilter, NewGrant, Subject, UserChange, UserFilter, groups, ous};
use serde_json::json;
use uuid::Uuid;

use super::{Place, Session, read_password};
use crate::Usage;
use crate::output::{self, Format};
use crate::serve::initial_password_file;

#[derive(Debug, Args)]
pub struct Listing {
    #[command(flatten)]
    place: Place,
    /// Output format
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Args)]
pub struct Named {
    #[command(flatten)]
    place: Place,
    /// Name, as listings show it
    name: String,
}

#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Create a user
    #[command(
        after_help = "Example:\n  landreeve user create ada --full-name \"Ada Lovelace\" --role Analyst --password-stdin"
    )]
    Create(CreateUser),
    /// List the users
    #[command(after_help = "Example:\n  landreeve user list")]
    List(Listing),
    /// Enable a user again
    #[command(after_help = "Example:\n  landreeve user enable ada")]
    Enable(Named),
    /// Disable a user, so that they can no longer sign in
    #[command(after_help = "Example:\n  landreeve user disable ada")]
    Disable(Named),
    /// Delete a user
    #[command(after_help = "Example:\n  landreeve user delete ada")]
    Delete(Named),
    /// Set a user's password, read from standard input
    #[command(after_help = "Example:\n  landreeve user password ada")]
    Password(Named),
    /// Grant a role to a user, in a unit and everything below it
    #[command(after_help = "Example:\n  landreeve user grant ada Viewer")]
    Grant(GrantRole),
    /// Take a role back from a user, in the unit in which it was granted
    #[command(after_help = "Example:\n  landreeve user revoke ada Viewer")]
    Revoke(RoleOf),
    /// List the roles
    #[command(after_help = "Example:\n  landreeve user roles")]
    Roles(Listing),
}

#[derive(Debug, Args)]
pub struct CreateUser {
    #[command(flatten)]
    place: Place,
    /// Name to sign in with
    name: String,
    /// Read the password from standard input; without a password the user cannot sign in
    #[arg(long)]
    password_stdin: bool,
    /// Email address [default: none]
    #[arg(long, default_value = "", hide_default_value = true)]
    email: String,
    /// Full name [default: none]
    #[arg(long, default_value = "", hide_default_value = true)]
    full_name: String,
    /// Grant this role; list roles with `user roles` [default: none]
    #[arg(long)]
    role: Option<String>,
    /// Grant the role in this unit and everything below it [default: the root]
    #[arg(long, value_name = "UUID")]
    ou: Option<Uuid>,
}

#[derive(Debug, Args)]
pub struct GrantRole {
    #[command(flatten)]
    place: Place,
    /// Name of the user
    name: String,
    /// Grant this role; list roles with `user roles`
    #[arg(required_unless_present = "named_role")]
    role: Option<String>,
    /// Grant this role, in the former way
    #[arg(long = "role", value_name = "ROLE", hide = true, conflicts_with = "role")]
    named_role: Option<String>,
    /// Grant the role in this unit and everything below it [default: the root]
    #[arg(long, value_name = "UUID")]
    ou: Option<Uuid>,
}

#[derive(Debug, Args)]
pub struct RoleOf {
    #[command(flatten)]
    place: Place,
    /// Name of the user or group
    name: String,
    /// The role; list roles with `user roles`
    role: String,
    /// Unit of the grant, which includes everything below it [default: the root]
    #[arg(long, value_name = "UUID")]
    ou: Option<Uuid>,
}

/// A role by its name, and a unit.
async fn role_in(session: &Session, role: &str, ou: Option<Uuid>) -> anyhow::Result<(RoleId, OuId)> {
    let estate = &session.opened.estate;
    let roles = users::role_list(estate, &session.ctx).await?;
    let names: Vec<&str> = roles.iter().map(|role| role.name.as_str()).collect();
    let found = roles
        .iter()
        .find(|known| known.name.eq_ignore_ascii_case(role))
        .ok_or_else(|| Usage(format!("unknown role {role:?}; use one of {}", names.join(", "))))?;
    let ou = match ou {
        Some(uuid) => ous::ou_get(estate, &session.ctx, uuid).await?.id,
        None => OuId::ROOT,
    };
    Ok((found.id, ou))
}

async fn role_grant(session: &Session, role: &str, ou: Option<Uuid>) -> anyhow::Result<NewGrant> {
    let (role, ou) = role_in(session, role, ou).await?;
    Ok(NewGrant::Role(role, ou))
}

async fn grant(session: Session, subject: Subject, role: &str, ou: Option<Uuid>) -> anyhow::Result<()> {
    let grant = role_grant(&session, role, ou).await?;
    users::grant(&session.opened.estate, &session.ctx, subject, vec![grant]).await?;
    session.changed().await
}

async fn revoke(session: Session, subject: Subject, role: &str, ou: Option<Uuid>) -> anyhow::Result<()> {
    let (role, ou) = role_in(&session, role, ou).await?;
    users::revoke(&session.opened.estate, &session.ctx, subject, role, ou).await?;
    session.changed().await
}

pub async fn user(command: UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::Create(args) => create_user(args).await,
        UserCommand::List(listing) => list_users(&listing).await,
        UserCommand::Enable(named) => set_enabled(&named, true).await,
        UserCommand::Disable(named) => set_enabled(&named, false).await,
        UserCommand::Delete(named) => {
            let session = Session::open(&named.place).await?;
            let id = find(&session, &named.name).await?;
            users::user_delete(&session.opened.estate, &session.ctx, id).await?;
            session.changed().await
        }
        UserCommand::Password(named) => {
            let session = Session::open(&named.place).await?;
            let password = read_password()?;
            let id = find(&session, &named.name).await?;
            users::password_set(&session.opened.estate, &session.ctx, id, password).await?;
            if named.name == "admin" {
                let _ = std::fs::remove_file(initial_password_file(&named.place.data_dir));
            }
            session.changed().await
        }
        UserCommand::Grant(args) => {
            let session = Session::open(&args.place).await?;
            let id = find(&session, &args.name).await?;
            let role = args.role.or(args.named_role).unwrap_or_default();
            grant(session, Subject::User(id), &role, args.ou).await
        }
        UserCommand::Revoke(args) => {
            let session = Session::open(&args.place).await?;
            let id = find(&session, &args.name).await?;
            revoke(session, Subject::User(id), &args.role, args.ou).await
        }
        UserCommand::Roles(listing) => {
            let session = Session::open(&listing.place).await?;
            let roles = users::role_list(&session.opened.estate, &session.ctx).await?;
            session.close().await;
            let rows = roles
                .into_iter()
                .map(|role| vec![json!(role.name), json!(role.description), json!(role.uuid.to_string())]);
            output::listing(listing.format, &["name", "description", "uuid"], rows.collect());
            Ok(())
        }
    }
}

async fn find(session: &Session, name: &str) -> anyhow::Result<UserId> {
    Ok(users::user_by_name(&session.opened.estate, &session.ctx, name).await?.id)
}

async fn create_user(args: CreateUser) -> anyhow::Result<()> {
    let session = Session::open(&args.place).await?;
    let password = if args.password_stdin { Some(read_password()?) } else { None };
    let grants = match &args.role {
        Some(role) => vec![role_grant(&session, role, args.ou).await?],
        None => Vec::new(),
    };
    let new = NewUser { name: args.name, email: args.email, full_name: args.full_name, password, grants };
    let user = users::user_create(&session.opened.estate, &session.ctx, new).await?;
    session.changed().await?;
    output::say(&user.id.to_string());
    Ok(())
}

async fn set_enabled(named: &Named, enabled: bool) -> anyhow::Result<()> {
    let session = Session::open(&named.place).await?;
    let id = find(&session, &named.name).await?;
    let change = UserChange { enabled: Some(enabled), ..UserChange::default() };
    users::user_update(&session.opened.estate, &session.ctx, id, change).await?;
    session.changed().await
}

async fn list_users(listing: &Listing) -> anyhow::Result<()> {
    let session = Session::open(&listing.place).await?;
    let mut rows = Vec::new();
    let (mut page, all) = (Page::first(Page::MAX_LIMIT), UserFilter::default());
    loop {
        let part = users::user_list(&session.opened.estate, &session.ctx, &all, page).await?;
        let more = part.has_more();
        page.offset += part.items.len() as u64;
        rows.extend(part.items.into_iter().map(|user| {
            vec![
                json!(user.id.0),
                json!(user.name),
                json!(user.full_name()),
                json!(user.email),
                json!(user.enabled),
                json!(user.last_activity_at.map(|at| at.to_string())),
            ]
        }));
        if !more {
            break;
        }
    }
    session.close().await;
    output::listing(listing.format, &["id", "name", "full_name", "email", "enabled", "last_activity"], rows);
    Ok(())
}

#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Create a group
    #[command(after_help = "Example:\n  landreeve group create Editors --role Analyst")]
    Create {
        #[command(flatten)]
        place: Place,
        /// Name of the group
        name: String,
        /// Description of the group [default: none]
        #[arg(long, default_value = "", hide_default_value = true)]
        description: String,
        /// Grant this role to its members, at the root [default: none]
        #[arg(long)]
        role: Option<String>,
    },
    /// List the groups
    #[command(after_help = "Example:\n  landreeve group list")]
    List(Listing),
    /// Add a user to a group
    #[command(after_help = "Example:\n  landreeve group add Editors ada")]
    Add(Member),
    /// Remove a user from a group
    #[command(after_help = "Example:\n  landreeve group remove Editors ada")]
    Remove(Member),
    /// Grant a role to the members of a group, in a unit and everything below it
    #[command(after_help = "Example:\n  landreeve group grant Editors Analyst")]
    Grant(RoleOf),
    /// Take a role back from a group, in the unit in which it was granted
    #[command(after_help = "Example:\n  landreeve group revoke Editors Analyst")]
    Revoke(RoleOf),
    /// Delete a group
    #[command(after_help = "Example:\n  landreeve group delete Editors")]
    Delete(Named),
}

#[derive(Debug, Args)]
pub struct Member {
    #[command(flatten)]
    place: Place,
    /// Name of the group
    group: String,
    /// Name of the user
    user: String,
}

pub async fn group(command: GroupCommand) -> anyhow::Result<()> {
    match command {
        GroupCommand::Create { place, name, description, role } => {
            let session = Session::open(&place).await?;
            let grants = match role {
                Some(role) => vec![role_grant(&session, &role, None).await?],
                None => Vec::new(),
            };
            let group =
                groups::group_create(&session.opened.estate, &session.ctx, name, description, grants).await?;
            session.changed().await?;
            output::say(&group.id.to_string());
            Ok(())
        }
        GroupCommand::List(listing) => {
            let session = Session::open(&listing.place).await?;
            let asked = GroupFilter::default();
            let (estate, ctx) = (&session.opened.estate, &session.ctx);
            let all = page::collect(|after| groups::group_list(estate, ctx, &asked, after)).await?;
            session.close().await;
            let rows = all.into_iter().map(|group| {
                vec![
                    json!(group.id.0),
                    json!(group.name),
                    json!(group.description),
                    json!(group.members.len()),
                ]
            });
            output::listing(listing.format, &["id", "name", "description", "members"], rows.collect());
            Ok(())
        }
        GroupCommand::Add(member) => set_member(&member, true).await,
        GroupCommand::Remove(member) => set_member(&member, false).await,
        GroupCommand::Grant(args) => {
            let session = Session::open(&args.place).await?;
            let id = find_group(&session, &args.name).await?;
            grant(session, Subject::Group(id), &args.role, args.ou).await
        }
        GroupCommand::Revoke(args) => {
            let session = Session::open(&args.place).await?;
            let id = find_group(&session, &args.name).await?;
            revoke(session, Subject::Group(id), &args.role, args.ou).await
        }
        GroupCommand::Delete(named) => {
            let session = Session::open(&named.place).await?;
            let id = find_group(&session, &named.name).await?;
            groups::group_delete(&session.opened.estate, &session.ctx, id).await?;
            session.changed().await
        }
    }
}

async fn find_group(session: &Session, name: &str) -> anyhow::Result<GroupId> {
    let asked = GroupFilter { name: Some(name.to_owned()), ..GroupFilter::default() };
    let found = groups::group_list(&session.opened.estate, &session.ctx, &asked, None).await?;
    let found = found.items.into_iter().next();
    found.map(|group| group.id).ok_or_else(|| landreeve_core::Error::not_found("group").into())
}

async fn set_member(member: &Member, inside: bool) -> anyhow::Result<()> {
    let session = Session::open(&member.place).await?;
    let group = find_group(&session, &member.group).await?;
    let user = find(&session, &member.user).await?;
    groups::member_set(&session.opened.estate, &session.ctx, group, user, inside).await?;
    session.changed().await
}

#[derive(Debug, Subcommand)]
pub enum OuCommand {
    /// Create an organizational unit
    #[command(after_help = "Example:\n  landreeve ou create Sales --description \"The sales team\"")]
    Create {
        #[command(flatten)]
        place: Place,
        /// Name of the unit
        name: String,
        /// Description of the unit [default: none]
        #[arg(long, default_value = "", hide_default_value = true)]
        description: String,
        /// Parent unit [default: the root]
        #[arg(long, value_name = "UUID")]
        parent: Option<Uuid>,
    },
    /// List the organizational units
    #[command(after_help = "Example:\n  landreeve ou list")]
    List(Listing),
    /// Change the name or the description of an organizational unit
    #[command(
        after_help = "Example:\n  landreeve ou update 11111111-2222-4333-8444-555555555555 --name \"Sales and support\""
    )]
    Update {
        #[command(flatten)]
        place: Place,
        /// UUID of the unit; list them with `ou list`
        unit: Uuid,
        /// New name [default: unchanged]
        #[arg(long)]
        name: Option<String>,
        /// New description [default: unchanged]
        #[arg(long)]
        description: Option<String>,
    },
    /// Delete an organizational unit, which must be empty
    #[command(after_help = "Example:\n  landreeve ou delete 11111111-2222-4333-8444-555555555555")]
    Delete {
        #[command(flatten)]
        place: Place,
        /// UUID of the unit; list them with `ou list`
        unit: Uuid,
    },
}

pub async fn ou(command: OuCommand) -> anyhow::Result<()> {
    match command {
        OuCommand::Create { place, name, description, parent } => {
            let session = Session::open(&place).await?;
            let ou = ous::ou_create(&session.opened.estate, &session.ctx, parent, name, description).await?;
            session.changed().await?;
            output::say(&ou.uuid.to_string());
            Ok(())
        }
        OuCommand::Update { place, unit, name, description } => {
            let session = Session::open(&place).await?;
            let change = UnitChange { name, description, ..UnitChange::default() };
            units::unit_update(&session.opened.estate, &session.ctx, unit, change).await?;
            session.changed().await
        }
        OuCommand::Delete { place, unit } => {
            let session = Session::open(&place).await?;
            units::unit_delete_now(&session.opened.estate, &session.ctx, unit).await?;
            session.changed().await
        }
        OuCommand::List(listing) => {
            let session = Session::open(&listing.place).await?;
            let (estate, ctx) = (&session.opened.estate, &session.ctx);
            let all = page::collect(|after| ous::ou_list(estate, ctx, after)).await?;
            session.close().await;
            let rows = all.into_iter().map(|ou| {
                vec![json!(ou.uuid.to_string()), json!(ou.name), json!(ou.path), json!(ou.description)]
            });
            output::listing(listing.format, &["uuid", "name", "path", "description"], rows.collect());
            Ok(())
        }
    }
}
