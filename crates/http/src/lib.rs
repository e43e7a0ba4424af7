//! The HTTP code that all faces and the server share: listeners and their limits, the layer around a face, credentials,
//! request bodies with all their errors, cursors, API references, health.
//!
//! A face uses it like this:
//! - Handlers return [`Outcome`]. `?` converts any `core::Result` to a [`Failure`], and the face's [`Render`] function,
//!   its only table from error kinds to statuses and bodies, is called in one place, with the parts of the request that
//!   it needs ([`FaceRequest`]).
//! - The extractors of [`extract`] fail the same way, and so do unknown paths and methods, panics, and [`csrf`].
//! - [`Origin`] (peer address, request id) is an extractor, for the call that checks the credential.
//! - Finally the face wraps its router with [`Face::wrap`]. The server mounts the result under the face's prefix or on a
//!   separate listener, and puts [`compress::Compressed`] around it.
//!
//! ```no_run
//! use std::sync::Arc;
//! use axum::{Json, Router, response::{IntoResponse, Response}, routing::get};
//! use http::{HeaderMap, StatusCode};
//! use landreeve_core::{Error, ErrorKind, Random};
//! use landreeve_http::body::{NullIs, Rules, Unknown, json_object, read_object};
//! use landreeve_http::extract::{Body, Path};
//! use landreeve_http::{Credential, Face, FaceRequest, FaceRouter, Origin, Outcome, code};
//!
//! // error.rs: the only table, exhaustive, exceptions by code first
//! fn render(error: &Error, _request: &FaceRequest) -> Response {
//!     let status = match (error.kind, error.code) {
//!         (_, code::INVALID_JSON) => StatusCode::BAD_REQUEST,
//!         (ErrorKind::Unauthenticated, _) => StatusCode::UNAUTHORIZED,
//!         // … every other kind …
//!         _ => StatusCode::INTERNAL_SERVER_ERROR,
//!     };
//!     (status, Json(serde_json::json!({ "error": error.message }))).into_response()
//! }
//!
//! // thing.rs
//! async fn create(headers: HeaderMap, origin: Origin, Path(_id): Path<String>, Body(body): Body) -> Outcome {
//!     let _credential = Credential::from_headers(&headers); // caller.rs checks it and returns an `OpCtx`
//!     let rules = Rules { null: NullIs::Absent, unknown: Unknown::Ignore };
//!     let (name, port) = read_object(&json_object(&body)?, "", rules, |body| {
//!         let name = body.required("name", |f| f.text(1..=255));
//!         (name, body.optional("port", |f| f.int(1..=65_535)).value())
//!     })?;
//!     Ok((StatusCode::CREATED, format!("{name} {port:?} {}", origin.request_id)).into_response())
//! }
//!
//! pub fn router(random: Arc<dyn Random>) -> FaceRouter {
//!     let routes = Router::new().route("/things/{id}", get(|| async { "thing" }).post(create));
//!     Face::new("example", random, render).wrap(routes)
//! }
//! ```
//!
//! This crate knows no dialect, no status for an error kind, no store and no use case.

pub mod body;
pub mod compress;
pub mod credentials;
pub mod csrf;
mod current;
pub mod cursor;
pub mod document;
pub mod extract;
pub mod face;
pub mod failure;
pub mod health;
pub mod limits;
pub mod listener;
pub mod mount;
pub mod negotiate;
pub mod openapi;
pub mod proxies;
pub mod rate;
pub mod rendered;
pub mod site;
mod streamed;

pub use credentials::Credential;
pub use current::CurrentRequest;
pub use document::{Document, Items};
pub use face::{Face, FaceRequest, FaceRouter, Origin, Render};
pub use failure::{Failure, Outcome, code};
pub use limits::{BodyLimits, Limits, LiveLimits};
pub use listener::{ListenOptions, Listener, Stop, TlsFiles};
pub use mount::Mounts;
pub use proxies::Proxies;
pub use rendered::Rendered;
pub use streamed::streamed;
