//! Golden transcripts of the three generations of the dialect, and of what public clients send besides.
//!
//! `>` is a request with its headers, `>>` its body, `<` the status and the headers that matter, `<<` the body, as JSON where
//! it is JSON; `#` is a comment. `$name` is a number and `~name` a text that differs from run to run: the first response that
//! has it sets it, and later it must be the same. A path that begins with `:10091` is of the License Manager. Instead of a
//! method: `AWAIT` repeats a GET until the deployment has ended, `START` has runs executed from then on, `POLL` renews leases.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::Router;
use landreeve_core::Secret;
use landreeve_core::ids::{OuId, RunId};
use landreeve_estate::ops::NewGrant;
use landreeve_estate::ops::runs::{RunRef, run_wait};
use landreeve_estate::ops::users::{NewUser, role_list, user_create};
use landreeve_face_denodo::Options;
use landreeve_http::credentials::to_base64;
use landreeve_promotion::leases::POLL;
use landreeve_testkit::{Answer, Ask, PASSWORD, follow};
use serde_json::{Map, Value, json};

use crate::Face;
use crate::licenses::{from, router_of};

#[tokio::test]
async fn the_first_generation() {
    assert!(replay(include_str!("transcripts/first.txt")).await >= 40);
}

#[tokio::test]
async fn the_second_generation() {
    assert!(replay(include_str!("transcripts/second.txt")).await >= 30);
}

#[tokio::test]
async fn the_third_generation() {
    assert!(replay(include_str!("transcripts/third.txt")).await >= 20);
}

#[tokio::test]
async fn what_clients_send_besides() {
    assert!(replay(include_str!("transcripts/quirks.txt")).await >= 20);
}

/// As the text of the first generation says; its clients read an object.
#[tokio::test]
async fn the_id_of_a_deployment_alone() {
    let face = Face::new().await;
    let post = async |path: &str, body: Value| {
        let answer = Ask::post(path).basic("admin", PASSWORD).json(&body).send(&face.router).await;
        assert!([200, 201].contains(&answer.status), "{path}: {}", answer.body);
        answer.json()["id"].clone()
    };
    let environment = post("/environments", json!({ "name": "e" })).await;
    let cluster = post("/clusters", json!({ "name": "c", "environmentId": environment })).await;
    post("/servers", json!({ "name": "s", "urlIP": "embedded", "clusterId": cluster })).await;
    let revision = post("/revisions/loadFromVQL", json!({ "name": "r", "content": SCRIPT })).await;
    let options = Options { bare_deployment_id: true, ..Options::default() };
    let router = landreeve_face_denodo::router(face.kit.estate.clone(), face.plane.clone(), options);
    let router: Router = router.unwrap().into();
    // Below a prefix no reference is found with which the response is compared: it has the other form.
    let router = Router::new().nest("/solution-manager", router);
    let body = json!({ "revisionIds": [revision], "environmentId": environment });
    let ask = Ask::post("/solution-manager/deployments").basic("admin", PASSWORD).json(&body);
    let answer = ask.send(&router).await;
    let id: i64 = answer.body.parse().unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json;charset=UTF-8"));
    let path = format!("/deployments/{id}/progress");
    let shown = Ask::get(path).basic("admin", PASSWORD).send(&face.router).await.json();
    assert_eq!(shown["deploymentId"], id);
}

/// `CREATE OR REPLACE DATABASE d;` and a line break.
const SCRIPT: &str = "Q1JFQVRFIE9SIFJFUExBQ0UgREFUQUJBU0UgZDsK";

/// One request and its response.
#[derive(Debug, Default)]
struct Exchange<'a> {
    /// Of the request.
    line: usize,
    method: &'a str,
    path: &'a str,
    headers: Vec<(&'a str, &'a str)>,
    body: String,
    status: u16,
    answered: Vec<(&'a str, &'a str)>,
    answer: String,
}

fn read(text: &str) -> Vec<Exchange<'_>> {
    let mut all: Vec<Exchange<'_>> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        let header = || rest.split_once(':').map(|(name, value)| (name, value.trim()));
        if mark == ">" && all.last().is_none_or(|last| last.status != 0) {
            let (method, path) = rest.split_once(' ').unwrap_or((rest, ""));
            // What is no request has no response.
            let status = u16::from(path.is_empty());
            all.push(Exchange { line: number, method, path, status, ..Exchange::default() });
            continue;
        }
        if mark.is_empty() || mark == "#" {
            continue;
        }
        let last = all.last_mut().unwrap_or_else(|| panic!("line {number}: no request"));
        match mark {
            ">" => last.headers.push(header().unwrap_or_else(|| panic!("line {number}: no header"))),
            ">>" => last.body.push_str(&format!("{rest}\n")),
            "<" if last.status == 0 => last.status = rest.parse().unwrap(),
            "<" => last.answered.push(header().unwrap_or_else(|| panic!("line {number}: no header"))),
            "<<" => last.answer.push_str(&format!("{rest}\n")),
            other => panic!("line {number}: {other:?} is no mark"),
        }
    }
    all
}

/// Returns how many requests there were.
async fn replay(text: &str) -> usize {
    let mut replay = Replay::new().await;
    let exchanges = read(text);
    for exchange in &exchanges {
        match exchange.method {
            "START" => replay.face.kit.start_planes().await,
            "POLL" => follow(&replay.face.kit.estate, "promotion", POLL).await,
            _ => {
                let answer = replay.answer(exchange).await;
                replay.compare(exchange, &answer);
            }
        }
    }
    exchanges.len()
}

struct Replay {
    face: Face,
    license_manager: Router,
    /// What `$name` and `~name` stand for.
    names: BTreeMap<String, String>,
}

impl Replay {
    /// With the user `jsmith`, who may deploy to staging.
    async fn new() -> Replay {
        let face = Face::new().await;
        let (estate, operator) = (&face.kit.estate, face.kit.operator());
        let roles = role_list(estate, &operator).await.unwrap();
        let role = roles.into_iter().find(|role| role.name == "solution_manager_promotion_staging").unwrap();
        let new = NewUser {
            name: "jsmith".to_owned(),
            email: String::new(),
            full_name: String::new(),
            password: Some(Secret::new(PASSWORD)),
            grants: vec![NewGrant::Role(role.id, OuId::ROOT)],
        };
        user_create(estate, &operator, new).await.unwrap();
        let encoded = |name: &str, text: String| (format!("~{name}"), to_base64(text.as_bytes()));
        let names = [
            encoded("admin", format!("admin:{PASSWORD}")),
            encoded("jsmith", format!("jsmith:{PASSWORD}")),
            encoded("wrong", "admin:admin".to_owned()),
            encoded("ticket1", "for admin 1".to_owned()),
        ];
        let license_manager = from("127.0.0.1", &router_of(&face, &["127.0.0.0/8"]));
        Replay { face, license_manager, names: names.into() }
    }

    async fn answer(&self, exchange: &Exchange<'_>) -> Answer {
        if exchange.method != "AWAIT" {
            return self.send(exchange, exchange.method).await;
        }
        let path = self.filled(exchange.path);
        let id = RunId(path.split('/').nth(2).unwrap().parse().unwrap());
        let (estate, operator) = (&self.face.kit.estate, self.face.kit.operator());
        for _ in 0..2_000 {
            let answer = self.send(exchange, "GET").await;
            if !["IN_PROGRESS", "PENDING", "QUEUED"].iter().any(|word| answer.json()["state"] == *word) {
                return answer;
            }
            run_wait(estate, &operator, RunRef::Id(id), &[], Duration::from_millis(50)).await.unwrap();
        }
        panic!("line {}: the deployment does not end", exchange.line);
    }

    async fn send(&self, exchange: &Exchange<'_>, method: &str) -> Answer {
        let path = self.filled(exchange.path);
        let (router, path) = match path.strip_prefix(":10091") {
            Some(rest) => (&self.license_manager, rest),
            None => (&self.face.router, path.as_str()),
        };
        let mut ask = Ask::new(method, path);
        for (name, value) in &exchange.headers {
            ask = ask.header(name, self.filled(value));
        }
        if !exchange.body.is_empty() {
            ask = ask.header("content-type", "application/json").body(self.filled(&exchange.body));
        }
        ask.send(router).await
    }

    /// With every name replaced, which must be known. In JSON a number has no quotes.
    fn filled(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        while let Some((at, name)) = first_name(&filled).map(|(at, name)| (at, name.to_owned())) {
            let value = self.names.get(&name).unwrap_or_else(|| panic!("{name} in {text:?} is not known"));
            let quoted = format!("\"{name}\"");
            let from = at.saturating_sub(1);
            let is_quoted = filled.get(from..).is_some_and(|rest| rest.starts_with(&quoted));
            if name.starts_with('$') && is_quoted {
                filled.replace_range(from..from + quoted.len(), value);
            } else {
                filled.replace_range(at..at + name.len(), value);
            }
        }
        filled
    }

    fn compare(&mut self, exchange: &Exchange<'_>, answer: &Answer) {
        let place = format!("line {}: {} {}", exchange.line, exchange.method, exchange.path);
        assert_eq!(answer.status, exchange.status, "{place}: {}", answer.body);
        for (name, expected) in &exchange.answered {
            let values = answer.headers.get_all(*name).iter().map(|value| value.to_str().unwrap());
            let found = values.collect::<Vec<_>>().join(", ");
            self.text(expected, &found, &format!("{place}: {name}"));
        }
        match serde_json::from_str::<Value>(&exchange.answer) {
            Ok(expected) => {
                assert_eq!(answer.header("content-type"), "application/json;charset=UTF-8", "{place}");
                self.json(&expected, &answer.json(), &place);
            }
            Err(_) => assert_eq!(answer.body.trim_end(), exchange.answer.trim_end(), "{place}"),
        }
    }

    fn json(&mut self, expected: &Value, found: &Value, place: &str) {
        match (expected, found) {
            (Value::Object(expected), Value::Object(found)) => {
                let names =
                    |object: &Map<String, Value>| object.keys().cloned().collect::<BTreeSet<String>>();
                assert_eq!(names(found), names(expected), "{place}");
                for (name, value) in expected {
                    self.json(value, &found[name], &format!("{place}.{name}"));
                }
            }
            (Value::Array(expected), Value::Array(found)) => {
                assert_eq!(found.len(), expected.len(), "{place}: {found:?}");
                for (at, value) in expected.iter().enumerate() {
                    self.json(value, &found[at], &format!("{place}[{at}]"));
                }
            }
            (Value::String(name), Value::Number(number)) if name.starts_with('$') => {
                self.text(name, &number.to_string(), place);
            }
            (Value::String(expected), Value::String(found)) if !expected.starts_with('$') => {
                self.text(expected, found, place);
            }
            _ => assert_eq!(found, expected, "{place}"),
        }
    }

    /// The same text, in which one name may be unknown.
    fn text(&mut self, expected: &str, found: &str, place: &str) {
        if let Some((at, name)) = first_name(expected)
            && !self.names.contains_key(name)
        {
            let (before, after) = (&expected[..at], &expected[at + name.len()..]);
            let value = found.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            let value = value.filter(|value| !value.is_empty());
            let value = value.unwrap_or_else(|| panic!("{place}: {found:?} is not {expected:?}"));
            self.names.insert(name.to_owned(), value.to_owned());
            return;
        }
        assert_eq!(found, self.filled(expected), "{place}");
    }
}

/// The first `$name` or `~name`, and where it is.
fn first_name(text: &str) -> Option<(usize, &str)> {
    text.match_indices(['$', '~']).find_map(|(at, _)| {
        let rest = text.get(at + 1..)?;
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        (length > 0).then(|| (at, &text[at..at + 1 + length]))
    })
}
