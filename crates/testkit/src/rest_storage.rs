//! A storage that speaks restic's REST protocol, in memory. It refuses to overwrite a file and, if asked, to delete one. It
//! listens on 127.0.0.1, on a runtime of its own, and stops when it is dropped.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RANGE};
use http::{HeaderMap, Method, StatusCode};
use serde_json::json;
use tokio::runtime::Runtime;

const MAX_FILE: usize = 256 * 1_024 * 1_024;

/// What a storage holds: paths such as `/data/0123…`, and their content.
type Files = BTreeMap<String, Bytes>;

#[derive(Clone, Default)]
struct Shared {
    files: Arc<Mutex<Files>>,
    keeps_all: bool,
    /// `user:password` in base64.
    login: Option<String>,
    knows_no_ranges: bool,
}

pub struct RestStorage {
    address: SocketAddr,
    shared: Shared,
    runtime: Option<Runtime>,
}

impl Drop for RestStorage {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl RestStorage {
    /// For everybody, and it deletes what it is told to.
    pub fn start() -> RestStorage {
        RestStorage::with(Shared::default())
    }

    /// It refuses to delete anything but locks.
    pub fn that_keeps_all() -> RestStorage {
        RestStorage::with(Shared { keeps_all: true, ..Shared::default() })
    }

    /// It wants this login, as `user:password` in base64.
    pub fn with_login(login: &str) -> RestStorage {
        RestStorage::with(Shared { login: Some(login.to_owned()), ..Shared::default() })
    }

    /// It sends whole files only.
    pub fn without_ranges() -> RestStorage {
        RestStorage::with(Shared { knows_no_ranges: true, ..Shared::default() })
    }

    fn with(shared: Shared) -> RestStorage {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let router =
            Router::new().fallback(serve).layer(DefaultBodyLimit::max(MAX_FILE)).with_state(shared.clone());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        RestStorage { address, shared, runtime: Some(runtime) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its files, to look at and to damage.
    pub fn files(&self) -> MutexGuard<'_, Files> {
        lock(&self.shared)
    }
}

fn lock(shared: &Shared) -> MutexGuard<'_, Files> {
    shared.files.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(State(shared): State<Shared>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_FILE).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    if let Some(login) = &shared.login
        && head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok())
            != Some(&format!("Basic {login}"))
    {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let path = head.uri.path();
    if head.method == Method::POST && head.uri.query() == Some("create=true") {
        return StatusCode::OK.into_response();
    }
    let mut files = lock(&shared);
    match head.method {
        Method::GET if path.ends_with('/') => {
            let inside = files.iter().filter_map(|(name, content)| {
                let name = name.strip_prefix(path)?;
                Some(json!({ "name": name, "size": content.len() }))
            });
            let list = json!(inside.collect::<Vec<_>>()).to_string();
            ([(CONTENT_TYPE, "application/vnd.x.restic.rest.v2")], list).into_response()
        }
        Method::GET => match files.get(path) {
            Some(content) if !shared.knows_no_ranges => ranged(content, &head.headers),
            Some(content) => content.clone().into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        Method::HEAD => match files.get(path) {
            Some(content) => [(CONTENT_LENGTH, content.len())].into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        Method::POST if files.contains_key(path) => StatusCode::FORBIDDEN.into_response(),
        Method::POST => {
            files.insert(path.to_owned(), body);
            StatusCode::OK.into_response()
        }
        Method::DELETE if shared.keeps_all && !path.starts_with("/locks/") => {
            StatusCode::FORBIDDEN.into_response()
        }
        Method::DELETE => match files.remove(path) {
            Some(_) => StatusCode::OK.into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

/// Part of a file, for `bytes=FIRST-LAST` and `bytes=FIRST-`.
fn ranged(content: &Bytes, headers: &HeaderMap) -> Response {
    let Some(range) = headers.get(RANGE).and_then(|value| value.to_str().ok()?.strip_prefix("bytes=")) else {
        return content.clone().into_response();
    };
    let (first, last) = range.split_once('-').unwrap_or((range, ""));
    let first = first.parse::<usize>().unwrap_or(0);
    let end = last.parse::<usize>().map_or(content.len(), |last| (last + 1).min(content.len()));
    if first >= end {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    (StatusCode::PARTIAL_CONTENT, content.slice(first..end)).into_response()
}
