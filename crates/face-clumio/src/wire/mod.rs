//! The wire format, with conversions from the estate's types.

pub mod alerts;
pub mod audit;
pub mod backups;
pub mod consolidated;
pub mod datasources;
pub mod error;
pub mod filter;
pub mod link;
pub mod list;
pub mod policies;
pub mod records;
pub mod restores;
pub mod roles;
pub mod settings;
pub mod tasks;
pub mod units;
pub mod users;

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use jiff::Timestamp;
use landreeve_core::{Action, Error, Noun, OpCtx, Permission};
use landreeve_http::Failure;
use serde::Serialize;
use serde_json::Value;

use crate::version::Resource;

/// A JSON body with the media type of its resource and version.
pub struct Answer<T> {
    pub resource: &'static Resource,
    pub version: u32,
    pub body: T,
}

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        let media_type = self.resource.media_type(self.version);
        match serde_json::to_vec(&self.body) {
            Ok(body) => ([(CONTENT_TYPE, media_type)], body).into_response(),
            Err(error) => Failure(Error::internal(error)).into_response(),
        }
    }
}

/// The account of everything here, and its region.
pub const ACCOUNT: &str = "000000000000";
pub const REGION: &str = "local";
/// The type of every database that can be backed up.
pub const RESOURCE_TYPE: &str = "aws_rds_instance";

/// Whether the caller may do this, for links.
pub fn may(ctx: &OpCtx, permission: (Noun, Action), (path, id): (&str, i64)) -> bool {
    ctx.authority().allows(Permission::new(permission.0, permission.1), path, id)
}

/// `1985-04-12T23:20:50Z`
fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Whether a member that clients always send says nothing.
pub fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(is_nothing),
        Value::Bool(_) | Value::Number(_) => false,
    }
}
