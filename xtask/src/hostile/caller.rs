//! Runs one statement as a client would: submits it, waits for its end, reads its result, or cancels it when it takes too
//! long.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::measure::http::{self, Client, Reply};
use crate::measure::server::Access;

/// How long a client waits for a statement before it cancels it, and as long again for a result.
const LIMIT: Duration = Duration::from_secs(20);
/// How long a cancelled statement can take to end.
const CANCEL: Duration = Duration::from_secs(30);
/// How long a request can take besides the time that it asks the server to wait.
const RESPOND: Duration = Duration::from_secs(20);
const MAX_WAIT: u64 = 20;
/// A longer message helps no reader, and the server stores it with the run.
const MAX_MESSAGE: usize = 10_000;

/// Codes that do not tell the reader what is wrong with the statement. The databases stay up, so a lost connection means
/// that the server closed it.
const UNCLEAR: [&str; 4] = ["", "internal", "internal_error", "connection_lost"];

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// SQL over the server's own delivery data.
    Delivery,
    Postgres,
    MariaDb,
    Sqlite,
}

impl Target {
    pub fn name(self) -> &'static str {
        match self {
            Self::Delivery => "engine",
            Self::Postgres => "PostgreSQL",
            Self::MariaDb => "MariaDB",
            Self::Sqlite => "SQLite",
        }
    }
}

/// How a statement or a download ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    Succeeded,
    /// With a clear error of the API.
    Refused {
        code: String,
        message: String,
    },
    /// The client's time limit was over, and the server ended the statement.
    Cancelled,
    Failed(String),
}

impl Ending {
    /// An error that the API reports.
    pub fn refused(code: String, message: String) -> Self {
        if UNCLEAR.contains(&code.as_str()) {
            return Self::Failed(format!("not a clear error: code `{code}`, {message:.200}"));
        }
        if message.len() > MAX_MESSAGE {
            return Self::Failed(format!("an error message of {} bytes: {code}", message.len()));
        }
        Self::Refused { code, message }
    }

    /// An HTTP response that is not the expected one.
    pub fn of(reply: &Reply) -> Self {
        let Reply { status, body, .. } = reply;
        if *status < 400 || *status >= 500 && *status != 503 {
            return Self::Failed(format!("HTTP {status}: {body:.200}"));
        }
        let word = http::text(body, "code").or_else(|| http::text(body, "error"));
        let message = http::text(body, "detail").or_else(|| http::text(body, "message"));
        Self::refused(word.unwrap_or_default(), message.unwrap_or_default())
    }

    /// An error of the client: the time is over, or the connection is.
    fn broken(error: &anyhow::Error) -> Self {
        Self::Failed(format!("{error:#}"))
    }
}

/// A client that has credentials for every target.
#[derive(Clone)]
pub struct Caller {
    pub address: String,
    /// The header `Authorization` for SQL over delivery data.
    pub delivery: String,
    pub postgres: Access,
    pub mariadb: Access,
    pub sqlite: Access,
}

impl Caller {
    /// `pause` is the time between two reads of a slow reader.
    pub fn run(&self, target: Target, sql: &str, pause: Duration) -> Ending {
        let ran = match self.access(target) {
            None => self.on_delivery(sql),
            Some(access) => self.on_source(access, sql, pause),
        };
        ran.unwrap_or_else(|error| Ending::broken(&error))
    }

    /// `None`: the target is not a datasource.
    pub fn access(&self, target: Target) -> Option<&Access> {
        match target {
            Target::Delivery => None,
            Target::Postgres => Some(&self.postgres),
            Target::MariaDb => Some(&self.mariadb),
            Target::Sqlite => Some(&self.sqlite),
        }
    }

    fn on_source(&self, access: &Access, sql: &str, pause: Duration) -> Result<Ending> {
        match self.execute(access, sql)? {
            Ok(id) => self.read(access, &id, "application/json", pause),
            Err(ending) => Ok(ending),
        }
    }

    /// Runs a statement on a datasource; returns the id of the completed execution.
    pub fn execute(&self, access: &Access, sql: &str) -> Result<Result<String, Ending>> {
        let mut clock = Clock::start();
        let mut client = Client::connect(&self.address, &access.authorization)?;
        let path = format!("/cluvio/datasources/{}/executions?wait={MAX_WAIT}", access.datasource);
        clock.allow(&mut client);
        let mut shown = client.post(&path, &format!(r#"{{"sql_query":{}}}"#, http::quoted(sql)))?;
        if shown.status != 200 {
            return Ok(Err(Ending::of(&shown)));
        }
        let path = format!("/cluvio/executions/{}", shown.field("execution_id")?);
        loop {
            match shown.field("execution_status")? {
                "completed" => return Ok(Ok(shown.field("execution_id")?.to_owned())),
                "queued" | "starting" | "running" => {}
                _ if clock.cancelled => return Ok(Err(Ending::Cancelled)),
                status => return Ok(Err(failure(&shown, "error_code", "error_message", status))),
            }
            clock.allow(&mut client);
            if clock.is_time_to_cancel()? {
                client.post(&format!("{path}/cancel"), "")?;
            }
            shown = client.get(&format!("{path}?wait={}", clock.wait()))?;
            if shown.status != 200 {
                return Ok(Err(Ending::of(&shown)));
            }
        }
    }

    /// Reads the whole result of an execution.
    pub fn read(&self, access: &Access, id: &str, format: &str, pause: Duration) -> Result<Ending> {
        let mut client = Client::connect(&self.address, &access.authorization)?;
        client.until(Instant::now() + RESPOND);
        let (path, authorization) = access.grant(&mut client, id)?;
        let mut client = Client::connect(&self.address, "")?;
        client.slow_down(pause);
        client.until(Instant::now() + LIMIT);
        drained(client.drain(&path, &authorization, format))
    }

    fn on_delivery(&self, sql: &str) -> Result<Ending> {
        let mut clock = Clock::start();
        let mut client = Client::connect(&self.address, &self.delivery)?;
        clock.allow(&mut client);
        let submitted =
            client.post("/dx/studio.queryRuns.execute", &format!(r#"{{"sql":{}}}"#, http::quoted(sql)))?;
        if submitted.status != 202 {
            return Ok(Ending::of(&submitted));
        }
        let id = submitted.field("id")?;
        loop {
            clock.allow(&mut client);
            let shown = client.get(&format!("/dx/studio.queryRuns.info?id={id}"))?;
            if shown.status != 200 {
                return Ok(Ending::of(&shown));
            }
            match shown.field("status")? {
                "succeeded" => break,
                "queued" | "running" => {}
                _ if clock.cancelled => return Ok(Ending::Cancelled),
                status => return Ok(failure(&shown, "code", "message", status)),
            }
            if clock.is_time_to_cancel()? {
                client.post("/dx/studio.queryRuns.cancel", &format!(r#"{{"id":"{id}"}}"#))?;
            }
            clock.pause();
        }
        client.until(Instant::now() + LIMIT);
        let rows = client.get(&format!("/dx/studio.queryRuns.results?id={id}"))?;
        if rows.status != 200
            && let failed @ Ending::Failed(_) = Ending::of(&rows)
        {
            return Ok(failed);
        }
        let file = client.get(&format!("/dx/studio.queryRuns.results?id={id}&format=csv"))?;
        if file.status != 303 {
            return Ok(Ending::of(&file));
        }
        let path = file.location.strip_prefix(&self.address).context("the address of the rows as CSV")?;
        drained(client.drain(path, "", ""))
    }
}

/// How reading a result ended.
fn drained(read: Result<Reply>) -> Result<Ending> {
    match read {
        Ok(reply) if reply.status == 200 && reply.length > 0 => Ok(Ending::Succeeded),
        Ok(reply) => Ok(Ending::of(&reply)),
        Err(error) if http::took_too_long(&error) => Ok(Ending::Cancelled),
        Err(error) => Err(error),
    }
}

/// The error of a run that did not succeed.
fn failure(shown: &Reply, code: &str, message: &str, status: &str) -> Ending {
    match http::text(&shown.body, code) {
        Some(code) => Ending::refused(code, http::text(&shown.body, message).unwrap_or_default()),
        None => Ending::Failed(format!("{status} without an error")),
    }
}

/// The time of one statement.
struct Clock {
    begun: Instant,
    cancelled: bool,
}

impl Clock {
    fn start() -> Self {
        Self { begun: Instant::now(), cancelled: false }
    }

    /// Limits the next requests, which ask the server to wait.
    fn allow(&self, client: &mut Client) {
        client.until(Instant::now() + Duration::from_secs(MAX_WAIT) + RESPOND);
    }

    /// True once, when the time is over; an error if the statement has not ended long after that.
    fn is_time_to_cancel(&mut self) -> Result<bool> {
        let passed = self.begun.elapsed();
        if passed > LIMIT + CANCEL {
            bail!("it did not end within {} s of being cancelled", CANCEL.as_secs());
        }
        let now = !self.cancelled && passed >= LIMIT;
        self.cancelled |= now;
        Ok(now)
    }

    /// For how many seconds to ask the server to wait.
    fn wait(&self) -> u64 {
        let left = LIMIT.saturating_sub(self.begun.elapsed()).as_secs();
        if self.cancelled { 1 } else { left.clamp(1, MAX_WAIT) }
    }

    /// A pause before the next poll: short for statements that end immediately.
    fn pause(&self) {
        let pause = (self.begun.elapsed() / 10).clamp(Duration::from_millis(3), Duration::from_millis(200));
        std::thread::sleep(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply {
            status,
            content_type: String::new(),
            location: String::new(),
            cookie: String::new(),
            body: body.to_owned(),
            length: body.len() as u64,
        }
    }

    #[test]
    fn errors_of_the_api_are_refusals() {
        let refused =
            |code: &str, message: &str| Ending::Refused { code: code.into(), message: message.into() };
        let cluvio = r#"{"errors":[{"status":"422","code":"a","title":"T","detail":"no \"b\""}]}"#;
        assert_eq!(Ending::of(&reply(422, cluvio)), refused("a", "no \"b\""));
        let dx = r#"{"ok":false,"error":"unavailable","message":"m","error_details":{}}"#;
        assert_eq!(Ending::of(&reply(503, dx)), refused("unavailable", "m"));
    }

    #[test]
    fn everything_else_is_a_failure() {
        let error = r#"{"error":"internal_error","message":"m"}"#;
        let long = format!(r#"{{"error":"a","message":"{}"}}"#, "x".repeat(MAX_MESSAGE + 1));
        for (status, body) in
            [(500, error), (502, ""), (422, error), (404, ""), (200, "{}"), (422, long.as_str())]
        {
            assert!(matches!(Ending::of(&reply(status, body)), Ending::Failed(_)), "{status} {body:.50}");
        }
        let lost = Ending::refused("connection_lost".to_owned(), "connection closed".to_owned());
        assert!(matches!(lost, Ending::Failed(_)), "{lost:?}");
        assert!(matches!(drained(Ok(reply(200, ""))).unwrap(), Ending::Failed(_)));
        assert_eq!(drained(Ok(reply(200, "x"))).unwrap(), Ending::Succeeded);
        let run = reply(200, r#"{"execution_status":"failed","error_message":null,"error_code":null}"#);
        assert!(matches!(failure(&run, "error_code", "error_message", "failed"), Ending::Failed(_)));
    }
}
