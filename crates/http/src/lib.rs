//! What every face and the server share of HTTP: listeners and their limits, the layer around a face, credentials,
//! bodies read with all their faults, cursors, references, health.
//!
//! A face is written against it like this:
//! - handlers return [`Outcome`]; `?` on any `core::Result` makes a [`Failure`], and the face's [`Render`] function,
//!   its one table from error kinds to statuses and bodies, is called in one place, with what it may know of the
//!   request ([`FaceRequest`]);
//! - the extractors of [`extract`] fail the same way, and so do unknown paths and methods, a panic, and [`csrf`];
//! - [`Origin`] (peer address, request id) is an extractor, for the call that checks the credential;
//! - the face's last act is [`Face::wrap`] around its router. The server mounts the result under the face's prefix
//!   or on a listener of its own, and adds [`compress::layer`] outside.
//!
//! What must not enter: the name of a dialect, an error kind's status, a store, a use case.

pub mod body;
pub mod compress;
pub mod credentials;
pub mod csrf;
pub mod cursor;
pub mod extract;
pub mod face;
pub mod failure;
pub mod health;
pub mod limits;
pub mod listener;
pub mod negotiate;
pub mod openapi;

pub use credentials::Credential;
pub use face::{Face, FaceRequest, Origin, Render};
pub use failure::{Failure, Outcome, code};
pub use limits::{BodyLimits, Limits, LiveLimits};
pub use listener::{ListenOptions, Listener, Stop, TlsFiles};
