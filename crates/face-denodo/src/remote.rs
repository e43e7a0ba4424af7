//! Reaches nodes of other servers of this program: the client of `nodes`, over the port for outgoing HTTP.
//!
//! Every error of the connection, and every answer that is not one of a node, has the code `UNREACHABLE`: it is not known
//! then whether the node did what it was asked. Does not belong here: what follows from that.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt as _;
use landreeve_core::ids::BoxFuture;
use landreeve_core::outbound::{HttpBody, HttpCall, HttpClient, HttpError, HttpErrorKind, HttpLimits};
use landreeve_core::source::CancellationToken;
use landreeve_core::{Error, ErrorKind, Fault, Result, Secret};
use landreeve_promotion::access::{
    Application, NodeAccess, NodeChange, NodeDone, NodeState, NodeWork, RemoteNodes, RemotePlace, UNREACHABLE,
};
use landreeve_promotion::selection::{Description, Selection};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::nodes::MAX_BODY_MIB;
use crate::wire::node::{
    ApplicationBody, ApplyArguments, DescriptionArguments, DescriptionBody, DoneBody, NodeBody,
    PlanArguments, RollbackArguments,
};

/// The base path of this dialect on the main listener.
const BASE: &str = "/solution-manager/node";
const MAX_ANSWER: u64 = 8 << 20;
/// Characters of another server's message that are passed on.
const MAX_MESSAGE: usize = 2_000;

/// How long a node is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    pub connect: Duration,
    /// Until scripts are applied.
    pub apply: Duration,
    /// Until anything else is answered.
    pub other: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(5),
            apply: Duration::from_secs(600),
            other: Duration::from_secs(30),
        }
    }
}

/// All nodes on other machines.
pub struct Remote {
    http: Arc<dyn HttpClient>,
    /// CA certificates in PEM.
    authorities: Vec<String>,
    timeouts: Timeouts,
}

impl Remote {
    pub fn new(http: Arc<dyn HttpClient>, authorities: Vec<String>) -> Remote {
        Remote { http, authorities, timeouts: Timeouts::default() }
    }

    #[must_use]
    pub fn with_timeouts(self, timeouts: Timeouts) -> Remote {
        Remote { timeouts, ..self }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").finish_non_exhaustive()
    }
}

impl RemoteNodes for Remote {
    fn node(&self, place: RemotePlace) -> Box<dyn NodeAccess> {
        Box::new(RemoteNode {
            http: Arc::clone(&self.http),
            authorities: self.authorities.clone(),
            timeouts: self.timeouts,
            place,
        })
    }
}

struct RemoteNode {
    http: Arc<dyn HttpClient>,
    authorities: Vec<String>,
    timeouts: Timeouts,
    place: RemotePlace,
}

/// What is asked.
struct Request<'a> {
    method: &'static str,
    /// After the name of the node.
    rest: &'a str,
    body: Option<Vec<u8>>,
    /// It applies scripts, which takes longer than anything else.
    applies: bool,
}

impl<'a> Request<'a> {
    fn get(rest: &'a str) -> Request<'a> {
        Request { method: "GET", rest, body: None, applies: false }
    }

    fn post(rest: &'a str, body: &impl Serialize) -> Result<Request<'a>> {
        let body = serde_json::to_vec(body).map_err(Error::internal)?;
        Ok(Request { method: "POST", rest, body: Some(body), applies: false })
    }
}

impl RemoteNode {
    /// Asks the node, and reads what it answers.
    async fn ask<T: DeserializeOwned>(&self, request: Request<'_>) -> Result<T> {
        let (status, location, body) = self.exchange(request).await?;
        if !(200..300).contains(&status) {
            return Err(self.refusal(status, location.as_deref(), &body));
        }
        serde_json::from_slice(&body).map_err(|_| self.odd())
    }

    /// The status, where a redirect leads, and the body.
    async fn exchange(&self, request: Request<'_>) -> Result<(u16, Option<String>, Vec<u8>)> {
        let call = self.call(request)?;
        let answer = self.http.send(call).await.map_err(|error| self.unreachable(&error))?;
        let location = answer.headers.iter().find(|(name, _)| name == "location");
        let location = location.map(|(_, value)| String::from_utf8_lossy(value).into_owned());
        let mut body = Vec::new();
        let mut pieces = answer.body;
        while let Some(piece) = pieces.try_next().await.map_err(|error| self.unreachable(&error))? {
            body.extend_from_slice(&piece);
        }
        Ok((answer.status, location, body))
    }

    fn call(&self, request: Request<'_>) -> Result<HttpCall> {
        let place = &self.place;
        if place.username.contains(':') {
            return Err(self.refused("a user name with a colon cannot sign in there"));
        }
        if request.body.as_ref().is_some_and(|body| body.len() > MAX_BODY_MIB << 20) {
            let message = format!("the scripts together have more than {MAX_BODY_MIB} MiB");
            return Err(self.refused(&message));
        }
        let Timeouts { connect, apply, other } = self.timeouts;
        let whole = if request.applies { apply } else { other };
        let credential = STANDARD.encode(format!("{}:{}", place.username, place.password.reveal()));
        let authorization = Secret::new(format!("Basic {credential}"));
        let mut headers = vec![
            ("authorization".to_owned(), authorization.reveal().as_bytes().to_vec()),
            ("accept".to_owned(), b"application/json".to_vec()),
        ];
        if request.body.is_some() {
            headers.push(("content-type".to_owned(), b"application/json".to_vec()));
        }
        Ok(HttpCall {
            method: request.method.to_owned(),
            url: url(place, request.rest),
            headers,
            body: request.body.map_or(HttpBody::Empty, |body| HttpBody::Bytes(body.into())),
            // While it executes, a node says nothing.
            limits: HttpLimits { connect, whole, idle: connect + whole, max_answer_bytes: MAX_ANSWER },
            authorities: self.authorities.clone(),
            allow_plain: place.plain,
            cancel: CancellationToken::new(),
        })
    }

    fn server(&self) -> &str {
        &self.place.server
    }

    fn unreachable(&self, error: &HttpError) -> Error {
        use HttpErrorKind::{TimedOut, Unreachable, Unresolved};
        // Trying again can help only with these.
        let kind = match error.kind {
            Unreachable | TimedOut | Unresolved => ErrorKind::Unavailable,
            _ => ErrorKind::Conflict,
        };
        Error::new(kind, UNREACHABLE, format!("the server {} cannot be reached: {}", self.server(), error))
    }

    fn odd(&self) -> Error {
        let message = format!(
            "the server {} does not answer as a node does; check its address, and that it has the same version",
            self.server()
        );
        Error::conflict(UNREACHABLE, message)
    }

    /// Nothing was done.
    fn refused(&self, message: &str) -> Error {
        let message: String = message.chars().take(MAX_MESSAGE).collect();
        Error::conflict("node_refused", format!("the server {}: {message}", self.server()))
    }

    fn refusal(&self, status: u16, location: Option<&str>, body: &[u8]) -> Error {
        let (server, node, user) = (self.server(), &self.place.node, &self.place.username);
        if let (300..400, Some(location)) = (status, location) {
            let message = format!(
                "the server {server} redirects to {location:?}, which is not followed; set the address itself"
            );
            return Error::conflict(UNREACHABLE, message);
        }
        let Ok(refusal) = serde_json::from_slice::<Refusal>(body) else { return self.odd() };
        let message = &refusal.message;
        match status {
            401 => self.refused(&format!("the user {user} cannot sign in there: {message}")),
            403 => {
                self.refused(&format!("the user {user} is not a promotion administrator there: {message}"))
            }
            404 if message == "there is no such virtual node" => self.refused(&format!(
                "it has no node {node}; create it there: landreeve vql node create {node}"
            )),
            400 if !refusal.problems.is_empty() => {
                let fault = |problem: Problem| Fault::new(problem.field, "remote", problem.message);
                Error::invalid(refusal.problems.into_iter().map(fault).collect())
            }
            429 | 500..600 => {
                let message = format!("the server {server} cannot answer now: {status} {message}");
                let message: String = message.chars().take(MAX_MESSAGE).collect();
                Error::unavailable(UNREACHABLE, message)
            }
            400..500 => self.refused(message),
            _ => self.odd(),
        }
    }

    async fn report(&self, rest: &str) -> Result<(NodeState, Option<(String, Vec<NodeChange>)>)> {
        let body: NodeBody = self.ask(Request::get(rest)).await?;
        let report = body.read().ok_or_else(|| self.odd())?;
        if report.name == self.place.node { Ok((report.state, report.since)) } else { Err(self.odd()) }
    }

    async fn done(&self, request: Request<'_>) -> Result<NodeDone> {
        let body: DoneBody = self.ask(request).await?;
        body.read().ok_or_else(|| self.odd())
    }

    async fn application_by(&self, method: &'static str, key: &str) -> Result<Option<Application>> {
        let rest = format!("/applications/{key}");
        let body: ApplicationBody = self.ask(Request { method, ..Request::get(&rest) }).await?;
        body.read().ok_or_else(|| self.odd())
    }
}

/// `https://host:port/solution-manager/node/name…`
fn url(place: &RemotePlace, rest: &str) -> String {
    let scheme = if place.plain { "http" } else { "https" };
    let host = match place.host.contains(':') && !place.host.starts_with('[') {
        true => format!("[{}]", place.host),
        false => place.host.clone(),
    };
    format!("{scheme}://{host}:{}{BASE}/{}{rest}", place.port, place.node)
}

/// The body of an error.
#[derive(Deserialize)]
struct Refusal {
    message: String,
    #[serde(default)]
    problems: Vec<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    field: String,
    message: String,
}

impl NodeAccess for RemoteNode {
    fn state(&self) -> BoxFuture<'_, Result<NodeState>> {
        Box::pin(async move { self.report("").await.map(|(state, _)| state) })
    }

    fn changes(&self, since: NodeState) -> BoxFuture<'_, Result<Option<Vec<NodeChange>>>> {
        Box::pin(async move {
            let (_, found) = self.report(&format!("?since={}", since.version)).await?;
            Ok(found.filter(|(hash, _)| *hash == since.content_hash).map(|(_, changes)| changes))
        })
    }

    fn plan(&self, work: NodeWork) -> BoxFuture<'_, Result<NodeDone>> {
        Box::pin(async move { self.done(Request::post("/plan", &PlanArguments::new(work))?).await })
    }

    fn apply(&self, work: NodeWork, expected: NodeState, key: String) -> BoxFuture<'_, Result<NodeDone>> {
        Box::pin(async move {
            let arguments = ApplyArguments::new(work, expected.content_hash, key);
            let request = Request { applies: true, ..Request::post("/apply", &arguments)? };
            self.done(request).await
        })
    }

    fn application(&self, key: String) -> BoxFuture<'_, Result<Option<Application>>> {
        Box::pin(async move { self.application_by("GET", &key).await })
    }

    fn withdraw(&self, key: String) -> BoxFuture<'_, Result<Option<Application>>> {
        Box::pin(async move { self.application_by("DELETE", &key).await })
    }

    fn rollback(&self, to: i64, expected: NodeState) -> BoxFuture<'_, Result<NodeState>> {
        Box::pin(async move {
            let arguments = RollbackArguments::new(to, expected.content_hash);
            let body: NodeBody = self.ask(Request::post("/rollback", &arguments)?).await?;
            body.read().map(|report| report.state).ok_or_else(|| self.odd())
        })
    }

    fn text(&self) -> BoxFuture<'_, Result<String>> {
        Box::pin(async move {
            let body: DescriptionBody = self.ask(Request::get("/description")).await?;
            Ok(body.read().vql)
        })
    }

    fn describe(&self, selection: Selection) -> BoxFuture<'_, Result<Description>> {
        Box::pin(async move {
            let request = Request::post("/description", &DescriptionArguments::new(selection))?;
            let body: DescriptionBody = self.ask(request).await?;
            Ok(body.read())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_urls() {
        for (host, plain, expected) in [
            ("vdp.example.com", false, "https://vdp.example.com:9999/solution-manager/node/prod-1/plan"),
            ("::1", false, "https://[::1]:9999/solution-manager/node/prod-1/plan"),
            ("[::1]", true, "http://[::1]:9999/solution-manager/node/prod-1/plan"),
            ("127.0.0.1", true, "http://127.0.0.1:9999/solution-manager/node/prod-1/plan"),
        ] {
            let place = RemotePlace {
                server: "Prod 1".to_owned(),
                host: host.to_owned(),
                port: 9_999,
                plain,
                node: "prod-1".to_owned(),
                username: "u".to_owned(),
                password: Secret::new("p"),
            };
            assert_eq!(url(&place, "/plan"), expected);
        }
    }
}
