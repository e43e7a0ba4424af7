//! A user, in both versions.

use landreeve_core::Result;
use landreeve_estate::ops::{User, UserChange};
use landreeve_http::body::{Field, NullIs, Rules, Unknown, json_object, read_object};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::link::{Base, Link};
use super::{is_nothing, time};
use landreeve_estate::ops::access::Access;

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

#[derive(Debug, Serialize, ToSchema)]
struct AccessControl {
    role_id: String,
    organizational_unit_ids: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct UserLinks {
    #[serde(rename = "_self")]
    own: Link,
    #[serde(rename = "update-user")]
    update: Link,
    #[serde(rename = "delete-user")]
    delete: Link,
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
    pub fn new(base: &Base, user: &User, access: Option<Vec<Access>>, shape: Shape) -> UserBody {
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
                update: base.link("patch", &href),
                delete: base.link("delete", &href),
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

/// What can be changed on a user.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UserUpdate {
    #[schema(min_length = 1, max_length = 255)]
    #[expect(dead_code, reason = "only documents the body; `read_change` parses it and collects all faults")]
    full_name: Option<String>,
    #[expect(dead_code, reason = "only documents the body; `read_change` parses it and collects all faults")]
    is_enabled: Option<bool>,
}

/// Documented, but not supported by this API yet.
const ROLES: [&str; 3] =
    ["access_control_configuration_updates", "assigned_role", "organizational_unit_assignment_updates"];

/// Clients send every member; those they do not want to change are `null` or empty.
pub fn read_change(body: &[u8]) -> Result<UserChange> {
    let rules = Rules { null: NullIs::Absent, unknown: Unknown::Report };
    read_object(&json_object(body)?, "", rules, |body| {
        for name in ROLES {
            if body.raw(name).is_some_and(|value| !is_nothing(value)) {
                let message = "cannot be changed through this API yet; use the command line";
                body.fault(name, "not_available", message);
            }
        }
        UserChange {
            full_name: body.optional("full_name", |field| field.text(1..=255)).value(),
            email: None,
            enabled: body.optional("is_enabled", Field::bool).value(),
        }
    })
}
