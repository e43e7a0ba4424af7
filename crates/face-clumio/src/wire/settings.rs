//! The general settings.

use landreeve_core::{Action, Input, Noun, OpCtx, Permission, Result};
use landreeve_estate::ops::general::{General, GeneralChange, MAX_NETWORKS};
use landreeve_http::body::{Field, NullIs, Rules, Unknown, json_object, read_input};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::link::{Base, Links};

#[derive(Debug, Serialize, ToSchema)]
pub struct SettingsBody {
    /// Seconds. Kept without effect.
    auto_logout_duration: i64,
    /// Addresses and networks from which this API and its links can be used.
    ip_allowlist: Vec<String>,
    /// Kept without effect.
    #[schema(value_type = Option<Object>)]
    organizational_unit_data_groups: Value,
    /// Seconds. Kept without effect.
    password_expiration_duration: i64,
    #[serde(rename = "_links")]
    links: Links,
}

impl SettingsBody {
    pub fn new(base: &Base, ctx: &OpCtx, general: General) -> SettingsBody {
        let manages = ctx.authority().allows_everywhere(Permission::new(Noun::SETTING, Action::MANAGE));
        let path = "/settings/general";
        SettingsBody {
            auto_logout_duration: general.auto_logout_seconds,
            ip_allowlist: general.allowlist,
            organizational_unit_data_groups: general.data_groups,
            password_expiration_duration: general.password_expiration_seconds,
            links: Links::new(base.get(path))
                .and(manages, "update-general-settings", || base.link("patch", path)),
        }
    }
}

/// What can be changed.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SettingsUpdate {
    #[schema(minimum = 600, maximum = 3600)]
    #[expect(dead_code, reason = "only documents the body; `read_change` parses it and collects all faults")]
    auto_logout_duration: Option<i64>,
    /// It must contain the address that the request comes from.
    #[schema(max_items = 100)]
    #[expect(dead_code, reason = "only documents the body; `read_change` parses it and collects all faults")]
    ip_allowlist: Option<Vec<String>>,
    #[expect(dead_code, reason = "only documents the body; `read_change` parses it and collects all faults")]
    organizational_unit_data_groups: Option<DataGroups>,
    #[schema(minimum = 2_592_000, maximum = 15_552_000)]
    #[expect(dead_code, reason = "only documents the body; `read_change` parses it and collects all faults")]
    password_expiration_duration: Option<i64>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct DataGroups {
    #[expect(dead_code, reason = "only documents the body; `groups` parses it and collects all faults")]
    aws: Option<DataGroup>,
    #[expect(dead_code, reason = "only documents the body; `groups` parses it and collects all faults")]
    microsoft365: Option<DataGroup>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct DataGroup {
    #[expect(dead_code, reason = "only documents the body; `groups` parses it and collects all faults")]
    is_editable: Option<bool>,
    #[serde(rename = "type")]
    #[schema(max_length = 64)]
    #[expect(dead_code, reason = "only documents the body; `groups` parses it and collects all faults")]
    kind: Option<String>,
}

/// Clients send every member; null is absent.
pub fn read_change(body: &[u8]) -> Result<Input<GeneralChange>> {
    let rules = Rules { null: NullIs::Absent, unknown: Unknown::Report };
    let input = read_input(&json_object(body)?, rules, |body| GeneralChange {
        auto_logout_seconds: body.optional("auto_logout_duration", |field| field.int(600..=3_600)).value(),
        password_expiration_seconds: body
            .optional("password_expiration_duration", |field| field.int(2_592_000..=15_552_000))
            .value(),
        data_groups: body.optional("organizational_unit_data_groups", groups).value(),
        allowlist: body
            .optional("ip_allowlist", |field| field.list(MAX_NETWORKS, |item| item.text(0..=64)))
            .value(),
    });
    Ok(input.named(|field| field.replacen("allowlist", "ip_allowlist", 1)))
}

fn groups(field: Field<'_>) -> Option<Value> {
    field.object(|fields| {
        let group = |name: &'static str| {
            let read = fields.optional(name, |field| {
                field.object(|fields| {
                    let editable = fields.optional("is_editable", Field::bool).value();
                    let kind = fields.optional("type", |field| field.text(0..=64)).value();
                    let members =
                        [("is_editable", editable.map(Value::Bool)), ("type", kind.map(Value::String))];
                    let given =
                        members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
                    Value::Object(given.collect::<Map<_, _>>())
                })
            });
            Some((name.to_owned(), read.value()?))
        };
        Value::Object(["aws", "microsoft365"].into_iter().filter_map(group).collect())
    })
}
