//! An organizational unit, in both versions, which differ in the members about users.

use landreeve_core::{Action, Input, Noun, OpCtx, Result};
use landreeve_estate::ops::units::{NewUnit, Unit, UnitChange, UnitFilter, UnitUser};
use landreeve_http::body::{Field, Fields, NullIs, Rules, Unknown, json_object, read_input};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::filter::{Op, Rule};
use super::link::{Base, Links};
use super::list::Asked;
use super::restores::EmbeddedTask;
use super::tasks::TaskBody;
use super::{is_nothing, may};

/// Entities, or users, in one list of a request.
const MAX_ITEMS: usize = 100;
/// Characters of a name or a description.
const MAX_TEXT: usize = 129;

/// The only type of entity here.
const ENTITIES: [(&str, ()); 1] = [("aws_environment", ())];

#[derive(Debug, Serialize, ToSchema)]
pub struct UnitBody {
    id: String,
    name: String,
    description: String,
    /// Null for the global unit.
    parent_id: Option<String>,
    /// Units directly below it.
    children_count: u64,
    /// All units below it.
    descendant_ids: Vec<String>,
    /// Users with a role in it or below it.
    user_count: u64,
    /// Users with a role in it: at most 1000. In version 1 only their ids.
    users: UnitUsers,
    /// `aws` if there are environments in it or below it.
    configured_datasource_types: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_id: Option<String>,
    /// With `embed=read-task`.
    #[serde(rename = "_embedded", skip_serializing_if = "Option::is_none")]
    embedded: Option<EmbeddedTask>,
    #[serde(rename = "_links")]
    links: Links,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum UnitUsers {
    Second(Vec<UnitUserBody>),
    First(Vec<String>),
}

#[derive(Debug, Serialize, ToSchema)]
struct UnitUserBody {
    user_id: String,
    assigned_role: String,
}

impl UnitBody {
    pub fn new(base: &Base, ctx: &OpCtx, unit: &Unit, version: u32) -> UnitBody {
        let href = format!("/organizational-units/{}", unit.ou.uuid);
        let manages = may(ctx, (Noun::OU, Action::MANAGE), (&unit.ou.path, unit.ou.id.0));
        let above = unit.ou.parent.zip(unit.ou.path.strip_suffix(&format!("{}/", unit.ou.id)));
        let deletes = above.is_some_and(|(id, path)| may(ctx, (Noun::OU, Action::MANAGE), (path, id.0)))
            && unit.children == 0
            && !unit.has_datasources;
        let links = Links::new(base.get(&href))
            .and(manages, "patch-organizational-unit", || base.link("patch", &href))
            .and(manages && deletes, "delete-organizational-unit", || base.link("delete", &href));
        UnitBody {
            id: unit.ou.uuid.to_string(),
            name: unit.ou.name.clone(),
            description: unit.ou.description.clone(),
            parent_id: unit.parent.map(|parent| parent.to_string()),
            children_count: unit.children,
            descendant_ids: unit.descendants.iter().map(Uuid::to_string).collect(),
            user_count: unit.user_count,
            users: users(unit, version),
            configured_datasource_types: if unit.has_datasources { vec!["aws"] } else { Vec::new() },
            task_id: None,
            embedded: None,
            links,
        }
    }

    /// The same, with the task that moves its entities.
    pub fn with_task(self, base: &Base, task: i64, embedded: Option<TaskBody>) -> UnitBody {
        let links = self.links.and(true, "read-task", || base.get(&format!("/tasks/{task}")));
        let embedded = embedded.map(EmbeddedTask::new);
        UnitBody { task_id: Some(task.to_string()), embedded, links, ..self }
    }
}

fn users(unit: &Unit, version: u32) -> UnitUsers {
    if version == 1 {
        let mut ids: Vec<String> = unit.users.iter().map(|(user, _)| user.to_string()).collect();
        ids.dedup();
        return UnitUsers::First(ids);
    }
    let body = |(user, role): &(_, Uuid)| UnitUserBody {
        user_id: landreeve_core::ids::UserId::to_string(user),
        assigned_role: role.to_string(),
    };
    UnitUsers::Second(unit.users.iter().map(body).collect())
}

pub const FILTER: [Rule; 3] =
    [Rule::text("parent_id", &[Op::Eq]), Rule::text("name", &[Op::Contains]), Rule::text("id", &[Op::In])];

/// The units that a list's filter selects. What is malformed is the id of nothing.
pub fn filter(asked: &Asked) -> UnitFilter {
    let conditions = &asked.conditions;
    let parent = conditions.text("parent_id", Op::Eq).map(|text| Uuid::parse_str(text).ok());
    let name = conditions.text("name", Op::Contains).filter(|text| !text.is_empty());
    let ids = conditions.texts("id", Op::In);
    UnitFilter {
        nothing: parent == Some(None),
        parent: parent.flatten(),
        name: name.map(str::to_owned),
        ids: ids.map(|ids| ids.into_iter().filter_map(|text| Uuid::parse_str(text).ok()).collect()),
    }
}

/// A new unit.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UnitWrite {
    #[schema(min_length = 1, max_length = 129)]
    #[expect(dead_code, reason = "only documents the body; `read_new` parses it and collects all faults")]
    name: String,
    #[schema(max_length = 129)]
    #[expect(dead_code, reason = "only documents the body; `read_new` parses it and collects all faults")]
    description: Option<String>,
    /// Default: the unit that the caller works in.
    #[schema(format = "uuid")]
    #[expect(dead_code, reason = "only documents the body; `read_new` parses it and collects all faults")]
    parent_id: Option<String>,
    /// Environments that move to the unit.
    #[schema(max_items = 100)]
    #[expect(dead_code, reason = "only documents the body; `read_new` parses it and collects all faults")]
    entities: Option<Vec<UnitEntityWrite>>,
    /// In version 1 a list of ids; the role is the first one that the user has.
    #[schema(max_items = 100)]
    #[expect(dead_code, reason = "only documents the body; `read_new` parses it and collects all faults")]
    users: Option<Vec<UnitUserWrite>>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct UnitEntityWrite {
    #[expect(dead_code, reason = "only documents the body; `entity` parses it and collects all faults")]
    primary_entity: UnitPrimaryEntity,
}

#[derive(Debug, Deserialize, ToSchema)]
struct UnitPrimaryEntity {
    #[schema(format = "uuid")]
    #[expect(dead_code, reason = "only documents the body; `entity` parses it and collects all faults")]
    id: String,
    #[serde(rename = "type")]
    #[schema(pattern = "^(aws_environment)$")]
    #[expect(dead_code, reason = "only documents the body; `entity` parses it and collects all faults")]
    kind: String,
}

#[derive(Debug, Deserialize, ToSchema)]
struct UnitUserWrite {
    #[schema(pattern = "^[0-9]+$")]
    #[expect(dead_code, reason = "only documents the body; `user` parses it and collects all faults")]
    user_id: String,
    /// To add, by default the first role that the user has; to remove, all roles in the unit.
    #[schema(format = "uuid")]
    #[expect(dead_code, reason = "only documents the body; `user` parses it and collects all faults")]
    assigned_role: Option<String>,
}

/// What can be changed on a unit.
#[derive(Debug, Deserialize, ToSchema)]
pub struct UnitUpdate {
    #[schema(min_length = 1, max_length = 129)]
    #[expect(dead_code, reason = "only documents the body; `read_change` parses it and collects all faults")]
    name: Option<String>,
    #[schema(max_length = 129)]
    #[expect(dead_code, reason = "only documents the body; `read_change` parses it and collects all faults")]
    description: Option<String>,
    #[expect(dead_code, reason = "only documents the body; `read_change` parses it and collects all faults")]
    entities: Option<UnitEntityUpdates>,
    #[expect(dead_code, reason = "only documents the body; `read_change` parses it and collects all faults")]
    users: Option<UnitUserUpdates>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct UnitEntityUpdates {
    /// Environments that move to the unit.
    #[schema(max_items = 100)]
    #[expect(dead_code, reason = "only documents the body; `read_change` parses it and collects all faults")]
    add: Option<Vec<UnitEntityWrite>>,
    /// Environments of the unit that move to its parent.
    #[schema(max_items = 100)]
    #[expect(dead_code, reason = "only documents the body; `read_change` parses it and collects all faults")]
    remove: Option<Vec<UnitEntityWrite>>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct UnitUserUpdates {
    #[schema(max_items = 100)]
    #[expect(dead_code, reason = "only documents the body; `read_change` parses it and collects all faults")]
    add: Option<Vec<UnitUserWrite>>,
    #[schema(max_items = 100)]
    #[expect(dead_code, reason = "only documents the body; `read_change` parses it and collects all faults")]
    remove: Option<Vec<UnitUserWrite>>,
}

/// Clients send every member; null is absent.
const RULES: Rules = Rules { null: NullIs::Absent, unknown: Unknown::Report };

pub fn read_new(body: &[u8], version: u32) -> Result<Input<NewUnit>> {
    let input = read_input(&json_object(body)?, RULES, |body| NewUnit {
        parent: body.optional("parent_id", parent).value().flatten(),
        name: body.required("name", |field| field.text(1..=MAX_TEXT)),
        description: body
            .optional("description", |field| field.text(0..=MAX_TEXT))
            .value()
            .unwrap_or_default(),
        datasources: body.optional("entities", entities).value().unwrap_or_default(),
        users: body.optional("users", |field| user_list(field, version)).value().unwrap_or_default(),
    });
    Ok(input.named(match version {
        1 => |field| new_names(field).replace(".user_id", ""),
        _ => new_names,
    }))
}

fn new_names(field: &str) -> String {
    match field.split_once('.') {
        None if field == "parent" => "parent_id".to_owned(),
        Some(("datasources", at)) => format!("entities.{at}.primary_entity.id"),
        _ => user_names(field),
    }
}

fn user_names(field: &str) -> String {
    let field =
        field.strip_suffix(".user").map(|at| format!("{at}.user_id")).unwrap_or_else(|| field.to_owned());
    field.strip_suffix(".role").map(|at| format!("{at}.assigned_role")).unwrap_or(field)
}

pub fn read_change(body: &[u8], version: u32) -> Result<Input<UnitChange>> {
    let input = read_input(&json_object(body)?, RULES, |body| {
        if body.raw("protection_groups").is_some_and(|value| !is_nothing(value)) {
            body.fault("protection_groups", "not_available", "are not available");
        }
        let (add, remove) = updates(body, "entities", entities);
        let (add_users, remove_users) = updates(body, "users", |field| user_list(field, version));
        UnitChange {
            name: body.optional("name", |field| field.text(1..=MAX_TEXT)).value(),
            description: body.optional("description", |field| field.text(0..=MAX_TEXT)).value(),
            add,
            remove,
            add_users,
            remove_users,
        }
    });
    Ok(input.named(match version {
        1 => |field| change_names(field).replace(".user_id", ""),
        _ => change_names,
    }))
}

fn change_names(field: &str) -> String {
    match field.split_once('.') {
        Some((list @ ("add" | "remove"), at)) => format!("entities.{list}.{at}.primary_entity.id"),
        Some(("add_users", at)) => format!("users.add.{}", user_names(at)),
        Some(("remove_users", at)) => format!("users.remove.{}", user_names(at)),
        _ => field.to_owned(),
    }
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
fn parent(field: Field<'_>) -> Option<Option<Uuid>> {
    match field.value().as_str() {
        Some("") => Some(None),
        _ => uuid(field).map(Some),
    }
}

fn uuid(field: Field<'_>) -> Option<Uuid> {
    field.parse(|text| Uuid::parse_str(text).map_err(|_| "must be a UUID".to_owned()))
}

fn entities(field: Field<'_>) -> Option<Vec<Uuid>> {
    field.list(MAX_ITEMS, |item| item.object(entity))
}

fn entity(fields: &Fields<'_>) -> Uuid {
    // What an environment belongs to is not told apart here.
    fields.ignore(&["parent_entity"]);
    fields.required("primary_entity", |field| {
        field.object(|fields| {
            fields.required("type", |field| field.choice(&ENTITIES));
            fields.required("id", uuid)
        })
    })
}

fn user_list(field: Field<'_>, version: u32) -> Option<Vec<UnitUser>> {
    field.list(MAX_ITEMS, |item| match version {
        1 => user_id(item).map(|user| UnitUser { user, role: None }),
        _ => item.object(user),
    })
}

fn user(fields: &Fields<'_>) -> UnitUser {
    UnitUser {
        user: fields.required("user_id", user_id),
        role: fields.optional("assigned_role", parent).value().flatten(),
    }
}

fn user_id(field: Field<'_>) -> Option<i64> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let wrong = "must be the id of a user: a number as a string";
    field.parse(|text| text.parse().ok().filter(|_| digits(text)).ok_or_else(|| wrong.to_owned()))
}
