//! A user, in both versions.

use landreeve_core::{Input, Result, Secret};
use landreeve_estate::ops::access::Access;
use landreeve_estate::ops::members::{MemberChange, NewAccess, NewMember, RoleChange};
use landreeve_estate::ops::{User, UserChange, UserFilter};
use landreeve_http::body::{Field, Fields, NullIs, Rules, Unknown, json_object, read_input};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::filter::{Op, Rule};
use super::link::{Base, Link};
use super::list::Asked;
use super::time;

/// The members in the order of the dialect's own example.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserBody {
    full_name: String,
    email: String,
    /// Whether an invited user has signed in.
    is_confirmed: bool,
    id: String,
    is_enabled: bool,
    last_activity_timestamp: Option<String>,
    inviter: Option<String>,
    /// Version 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_password_change_timestamp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    organizational_unit_count: Option<usize>,
    /// Version 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    access_control_configuration: Option<Vec<AccessControl>>,
    /// Version 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    assigned_role: Option<String>,
    /// Version 1, not in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    assigned_organizational_unit_ids: Option<Vec<String>>,
    #[serde(rename = "_links")]
    links: UserLinks,
}

/// In the order of the dialect's own example.
#[derive(Debug, Serialize, ToSchema)]
struct UserLinks {
    #[serde(rename = "_self")]
    own: Link,
    #[serde(rename = "update-user", skip_serializing_if = "Option::is_none")]
    update: Option<Link>,
    #[serde(rename = "delete-user", skip_serializing_if = "Option::is_none")]
    delete: Option<Link>,
}

#[derive(Debug, Serialize, ToSchema)]
struct AccessControl {
    role_id: String,
    organizational_unit_ids: Vec<String>,
}

/// What the caller may do to a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct May {
    pub update: bool,
    pub delete: bool,
}

/// Which members a body has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Version 1 after a change: exactly what the dialect's example has.
    Common,
    FirstItem,
    First,
    Second,
}

impl Shape {
    pub fn item(version: u32) -> Shape {
        if version == 1 { Shape::FirstItem } else { Shape::Second }
    }

    pub fn single(version: u32) -> Shape {
        if version == 1 { Shape::First } else { Shape::Second }
    }

    pub fn changed(version: u32) -> Shape {
        if version == 1 { Shape::Common } else { Shape::Second }
    }

    pub fn has_access(self) -> bool {
        self != Shape::Common
    }
}

impl UserBody {
    pub fn new(base: &Base, user: &User, access: Option<Vec<Access>>, shape: Shape, may: May) -> UserBody {
        let href = format!("/users/{}", user.id);
        let first = matches!(shape, Shape::First | Shape::FirstItem);
        let access = access.as_deref();
        UserBody {
            full_name: user.full_name(),
            email: user.email.clone(),
            is_confirmed: user.confirmed,
            id: user.id.to_string(),
            is_enabled: user.enabled,
            last_activity_timestamp: user.last_activity_at.map(time),
            inviter: user.inviter.map(|inviter| inviter.to_string()),
            last_password_change_timestamp: user
                .password_changed_at
                .filter(|_| shape == Shape::Second)
                .map(time),
            organizational_unit_count: access.map(|access| units(access).len()),
            access_control_configuration: access.filter(|_| shape == Shape::Second).map(configuration),
            assigned_role: access.filter(|_| first).and_then(|access| Some(access.first()?.role.to_string())),
            assigned_organizational_unit_ids: access.filter(|_| shape == Shape::First).map(units),
            links: UserLinks {
                own: base.get(&href),
                update: may.update.then(|| base.link("patch", &href)),
                delete: may.delete.then(|| base.link("delete", &href)),
            },
        }
    }
}

fn configuration(access: &[Access]) -> Vec<AccessControl> {
    let one = |access: &Access| AccessControl {
        role_id: access.role.to_string(),
        organizational_unit_ids: access.units.iter().map(ToString::to_string).collect(),
    };
    access.iter().map(one).collect()
}

/// Every unit once.
fn units(access: &[Access]) -> Vec<String> {
    let mut units: Vec<_> = access.iter().flat_map(|access| &access.units).map(ToString::to_string).collect();
    units.sort_unstable();
    units.dedup();
    units
}

/// Version 1 has only the first.
pub const FILTER: [Rule; 3] = [
    Rule::text("name", &[Op::Contains]),
    Rule::text("role_id", &[Op::Eq]),
    Rule::text("organizational_unit_id", &[Op::Eq]),
];

/// The users that a list's filter selects.
pub fn filter(asked: &Asked) -> UserFilter {
    let uuid = |field: &str| asked.conditions.text(field, Op::Eq).map(|text| Uuid::parse_str(text).ok());
    let (role, unit) = (uuid("role_id"), uuid("organizational_unit_id"));
    let name = asked.conditions.text("name", Op::Contains).map(str::to_owned);
    UserFilter {
        name: name.filter(|name| !name.is_empty()),
        // What is malformed is the id of nothing.
        nothing: role == Some(None) || unit == Some(None),
        role: role.flatten(),
        unit: unit.flatten(),
    }
}

/// Characters of an email address.
const MAX_EMAIL: usize = 128;
/// Roles in one request.
const MAX_ROLES: usize = 20;
/// Units of a role in one request.
const MAX_UNITS: usize = 100;

/// A new user, in version 2. Version 1 has `assigned_role` and `organizational_unit_ids` in place of
/// `access_control_configuration`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UserWrite {
    /// Also the name to sign in with.
    #[schema(format = "email", max_length = 128)]
    #[expect(dead_code, reason = "only documents the body; `read_new` parses it and collects all faults")]
    email: String,
    #[schema(min_length = 1, max_length = 255)]
    #[expect(dead_code, reason = "only documents the body; `read_new` parses it and collects all faults")]
    full_name: String,
    /// Version 2 [default: no role].
    #[schema(max_items = 20)]
    #[expect(dead_code, reason = "only documents the body; `read_new` parses it and collects all faults")]
    access_control_configuration: Option<Vec<AccessWrite>>,
}

/// A role in units.
#[derive(Debug, Deserialize, ToSchema)]
struct AccessWrite {
    #[schema(format = "uuid")]
    #[expect(dead_code, reason = "only documents the body; `access` parses it and collects all faults")]
    role_id: String,
    #[schema(min_items = 1, max_items = 100)]
    #[expect(dead_code, reason = "only documents the body; `access` parses it and collects all faults")]
    organizational_unit_ids: Vec<String>,
}

/// What can be changed on a user, in version 2. Version 1 has `assigned_role` and
/// `organizational_unit_assignment_updates` (`add` and `remove`, both lists of ids) in place of
/// `access_control_configuration_updates`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UserUpdate {
    #[schema(min_length = 1, max_length = 255)]
    #[expect(dead_code, reason = "only documents the body; `read_change` parses it and collects all faults")]
    full_name: Option<String>,
    #[expect(dead_code, reason = "only documents the body; `read_change` parses it and collects all faults")]
    is_enabled: Option<bool>,
    /// Version 2.
    #[expect(dead_code, reason = "only documents the body; `read_change` parses it and collects all faults")]
    access_control_configuration_updates: Option<AccessUpdates>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct AccessUpdates {
    #[schema(max_items = 20)]
    #[expect(dead_code, reason = "only documents the body; `read_change` parses it and collects all faults")]
    add: Option<Vec<AccessWrite>>,
    #[schema(max_items = 20)]
    #[expect(dead_code, reason = "only documents the body; `read_change` parses it and collects all faults")]
    remove: Option<Vec<AccessWrite>>,
}

/// The caller's own profile.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ProfileUpdate {
    #[schema(min_length = 1, max_length = 255)]
    #[expect(
        dead_code,
        reason = "only documents the body; `read_profile` parses it and collects all faults"
    )]
    full_name: Option<String>,
}

/// A new password: with an uppercase letter, a lowercase letter, a digit and another character, without spaces.
#[derive(Debug, Deserialize, ToSchema)]
pub struct PasswordChange {
    #[expect(
        dead_code,
        reason = "only documents the body; `read_password` parses it and collects all faults"
    )]
    current_password: String,
    #[expect(
        dead_code,
        reason = "only documents the body; `read_password` parses it and collects all faults"
    )]
    new_password: String,
}

/// Clients send every member; those they do not want to change are `null` or empty.
const RULES: Rules = Rules { null: NullIs::Absent, unknown: Unknown::Report };

pub fn read_new(body: &[u8], version: u32) -> Result<Input<NewMember>> {
    let input = read_input(&json_object(body)?, RULES, |body| NewMember {
        email: body.required("email", |field| field.parse(email)),
        full_name: body.required("full_name", |field| field.text(1..=255)),
        access: match version {
            1 => NewAccess::One {
                role: body.optional("assigned_role", role).value().flatten(),
                units: body.optional("organizational_unit_ids", unit_ids).value().unwrap_or_default(),
            },
            _ => {
                let name = "access_control_configuration";
                NewAccess::Each(body.optional(name, access_list).value().unwrap_or_default())
            }
        },
    });
    Ok(input.named(match version {
        1 => {
            |field| field.replacen("units", "organizational_unit_ids", 1).replacen("role", "assigned_role", 1)
        }
        _ => |field| second(&field.replacen("access", "access_control_configuration", 1)),
    }))
}

pub fn read_change(body: &[u8], version: u32) -> Result<Input<MemberChange>> {
    let input = read_input(&json_object(body)?, RULES, |body| MemberChange {
        user: UserChange {
            full_name: body.optional("full_name", |field| field.text(1..=255)).value(),
            email: None,
            enabled: body.optional("is_enabled", Field::bool).value(),
        },
        roles: match version {
            1 => {
                let name = "organizational_unit_assignment_updates";
                let (add, remove) = updates(body, name, unit_ids);
                RoleChange::One { role: body.optional("assigned_role", role).value().flatten(), add, remove }
            }
            _ => {
                let (add, remove) = updates(body, "access_control_configuration_updates", access_list);
                RoleChange::Each { add, remove }
            }
        },
    });
    Ok(input.named(match version {
        1 => |field| match field {
            "role" => "assigned_role".to_owned(),
            field => format!("organizational_unit_assignment_updates.{field}"),
        },
        _ => |field| format!("access_control_configuration_updates.{}", second(field)),
    }))
}

/// The names of version 2.
fn second(field: &str) -> String {
    field.replace(".role", ".role_id").replace(".units", ".organizational_unit_ids")
}

fn updates<T>(body: &Fields<'_>, name: &str, read: impl Fn(Field<'_>) -> Option<Vec<T>>) -> (Vec<T>, Vec<T>) {
    let both = body.optional(name, |field| {
        field.object(|fields| {
            let list = |name: &str| fields.optional(name, &read).value().unwrap_or_default();
            (list("add"), list("remove"))
        })
    });
    both.value().unwrap_or_default()
}

/// An empty one is none.
fn role(field: Field<'_>) -> Option<Option<Uuid>> {
    match field.value().as_str() {
        Some("") => Some(None),
        _ => uuid(field).map(Some),
    }
}

fn uuid(field: Field<'_>) -> Option<Uuid> {
    field.parse(|text| Uuid::parse_str(text).map_err(|_| "must be a UUID".to_owned()))
}

fn unit_ids(field: Field<'_>) -> Option<Vec<Uuid>> {
    field.list(MAX_UNITS, uuid)
}

fn access_list(field: Field<'_>) -> Option<Vec<Access>> {
    field.list(MAX_ROLES, |item| item.object(access))
}

fn access(fields: &Fields<'_>) -> Access {
    let role = fields.required("role_id", uuid);
    let units = fields.required("organizational_unit_ids", |field| match field.value().as_array() {
        Some(units) if units.is_empty() => field.fault("length", "must have at least 1 item"),
        _ => unit_ids(field),
    });
    Access { role, units }
}

fn email(text: &str) -> Result<String, String> {
    let valid = text.split_once('@').is_some_and(|(name, host)| {
        !name.is_empty() && !host.is_empty() && !host.contains('@') && !host.starts_with('.')
    });
    let plain = text.chars().all(|c| !c.is_control() && !c.is_whitespace() && c != ':');
    match text.len() <= MAX_EMAIL {
        false => Err(format!("must have at most {MAX_EMAIL} bytes")),
        true if valid && plain => Ok(text.to_owned()),
        true => Err("must be an email address".to_owned()),
    }
}

/// Only the full name can be changed.
pub fn read_profile(body: &[u8]) -> Result<Input<MemberChange>> {
    Ok(read_input(&json_object(body)?, RULES, |body| {
        let full_name = body.optional("full_name", |field| field.text(1..=255)).value();
        MemberChange { user: UserChange { full_name, ..UserChange::default() }, ..MemberChange::default() }
    }))
}

/// The current password and the new one.
pub fn read_password(body: &[u8]) -> Result<Input<(Secret, Secret)>> {
    Ok(read_input(&json_object(body)?, RULES, |body| {
        let current = body.required("current_password", |field| field.text(1..=MAX_PASSWORD));
        let new = body.required("new_password", |field| field.parse(new_password));
        (Secret::new(current), Secret::new(new))
    }))
}

/// Characters of any password.
const MAX_PASSWORD: usize = 256;

type IsInClass = fn(char) -> bool;

fn new_password(text: &str) -> Result<String, String> {
    let classes: [(IsInClass, &str); 4] = [
        (|c| c.is_uppercase(), "an uppercase letter"),
        (|c| c.is_lowercase(), "a lowercase letter"),
        (|c| c.is_numeric(), "a digit"),
        (|c| !c.is_alphanumeric() && !c.is_whitespace(), "a special character"),
    ];
    let mut wrong = Vec::new();
    if !(14..=64).contains(&text.chars().count()) {
        wrong.push("must have 14 to 64 characters".to_owned());
    }
    let missing = classes.into_iter().filter(|(is, _)| !text.chars().any(is)).map(|(_, name)| name);
    let missing: Vec<&str> = missing.collect();
    if !missing.is_empty() {
        wrong.push(format!("must contain {}", missing.join(", ")));
    }
    if text.chars().any(char::is_whitespace) {
        wrong.push("must not contain spaces".to_owned());
    }
    if wrong.is_empty() { Ok(text.to_owned()) } else { Err(wrong.join(" and ")) }
}
