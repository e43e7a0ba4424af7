//! A repository on a server that speaks restic's REST protocol, version 2: a file is one resource, a folder lists names and
//! sizes. Every call is safe to repeat, because a file's name is the hash of its content.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use landreeve_core::outbound::{HttpAnswer, HttpBody, HttpCall, HttpError, HttpErrorKind, HttpLimits};
use landreeve_core::vault::{
    CancellationToken, ForeignLock, StorageLogin, VaultError, VaultErrorKind, VaultResult,
};
use rustic_core::{BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend};
use serde::Deserialize;

use crate::Remote;
use crate::storage::Storage;

const VERSION: &str = "application/vnd.x.restic.rest.v2";
/// Of a file or a list. Our packs have at most 64 MiB; restic's may be set to 128 MiB.
const MAX_ANSWER: u64 = 1 << 30;
const LIMITS: HttpLimits = HttpLimits {
    connect: Duration::from_secs(30),
    whole: Duration::from_secs(3_600),
    idle: Duration::from_secs(60),
    max_answer_bytes: MAX_ANSWER,
};
/// How often a call that may work later is made, and the pause before the second time, which doubles.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

pub struct Rest {
    /// With a slash at its end.
    url: String,
    authorization: Option<String>,
    remote: Remote,
    stop: CancellationToken,
}

/// One file in a list.
#[derive(Deserialize)]
struct Listed {
    name: String,
    size: u64,
}

/// An answer that is complete.
struct Answered {
    status: u16,
    body: Bytes,
}

struct Ask<'a> {
    method: &'a str,
    path: String,
    /// The bytes of a file that are wanted: the first, and how many.
    range: Option<(u32, u32)>,
    content: Bytes,
}

impl Ask<'_> {
    fn new(method: &str, path: String) -> Ask<'_> {
        Ask { method, path, range: None, content: Bytes::new() }
    }
}

impl Rest {
    pub fn new(url: String, login: Option<&StorageLogin>, remote: Remote, stop: CancellationToken) -> Rest {
        let authorization = login.map(|login| {
            format!("Basic {}", STANDARD.encode(format!("{}:{}", login.user, login.password.reveal())))
        });
        Rest { url, authorization, remote, stop }
    }

    /// Called on threads of the library, where it may block.
    fn ask(&self, ask: &Ask<'_>) -> VaultResult<Answered> {
        self.remote.runtime.block_on(async {
            let mut pause = FIRST_PAUSE;
            for last in (1..=TRIES).map(|number| number == TRIES) {
                let failed = match self.once(ask).await {
                    Ok(answered) if answered.status < 500 && answered.status != 429 => return Ok(answered),
                    Ok(answered) => format!("{} answered {}", self.url, answered.status),
                    Err(error) if error.kind == HttpErrorKind::Cancelled => {
                        return Err(VaultError::cancelled());
                    }
                    Err(error) if !may_work_later(error.kind) => return Err(unavailable(error.message)),
                    Err(error) => error.message,
                };
                if last {
                    return Err(unavailable(failed));
                }
                tokio::select! {
                    () = self.stop.cancelled() => return Err(VaultError::cancelled()),
                    () = tokio::time::sleep(pause) => {}
                }
                pause *= 2;
            }
            Err(unavailable(format!("{} does not answer", self.url)))
        })
    }

    async fn once(&self, ask: &Ask<'_>) -> Result<Answered, HttpError> {
        let mut headers = vec![("accept".to_owned(), VERSION.as_bytes().to_vec())];
        if let Some(authorization) = &self.authorization {
            headers.push(("authorization".to_owned(), authorization.as_bytes().to_vec()));
        }
        if let Some((first, count)) = ask.range {
            let end = u64::from(first) + u64::from(count) - 1;
            headers.push(("range".to_owned(), format!("bytes={first}-{end}").into_bytes()));
        }
        let body = match ask.method {
            "POST" => HttpBody::Bytes(ask.content.clone()),
            _ => HttpBody::Empty,
        };
        let call = HttpCall {
            method: ask.method.to_owned(),
            url: format!("{}{}", self.url, ask.path),
            headers,
            body,
            limits: LIMITS,
            authorities: Vec::new(),
            allow_plain: self.url.starts_with("http://"),
            cancel: self.stop.clone(),
        };
        let HttpAnswer { status, body: mut parts, .. } = self.remote.http.send(call).await?;
        let mut body = BytesMut::new();
        while let Some(part) = parts.next().await {
            body.extend_from_slice(&part?);
        }
        Ok(Answered { status, body: body.freeze() })
    }

    /// The answer, if it is one that the protocol has for this call.
    fn expect(&self, ask: &Ask<'_>, expected: &[u16]) -> VaultResult<Answered> {
        let answered = self.ask(ask)?;
        if expected.contains(&answered.status) {
            return Ok(answered);
        }
        let message = match answered.status {
            401 => format!("{} does not accept the user name or password", self.url),
            403 => format!("{} refuses {} {}", self.url, ask.method, ask.path),
            404 => format!("{} has no {}", self.url, ask.path),
            status => format!("{} answered {status} to {} {}", self.url, ask.method, ask.path),
        };
        Err(unavailable(message))
    }

    fn list_folder(&self, folder: &str) -> VaultResult<Vec<Listed>> {
        let answered = self.expect(&Ask::new("GET", format!("{folder}/")), &[200, 404])?;
        if answered.status == 404 {
            return Ok(Vec::new());
        }
        serde_json::from_slice(&answered.body).map_err(|_| {
            unavailable(format!("{} does not list files as version 2 of the protocol does", self.url))
        })
    }

    fn list_kind(&self, kind: FileType) -> VaultResult<Vec<(Id, u32)>> {
        if kind == FileType::Config {
            let answered = self.expect(&Ask::new("GET", "config".to_owned()), &[200, 404])?;
            let size = u32::try_from(answered.body.len()).unwrap_or(u32::MAX);
            return Ok(if answered.status == 200 { vec![(Id::default(), size)] } else { Vec::new() });
        }
        let mut found = Vec::new();
        for Listed { name, size } in self.list_folder(kind.dirname())? {
            // Other files are not the repository's.
            let Some(id) = Some(&name).filter(|name| name.len() == 64).and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let size = u32::try_from(size).map_err(|_| unavailable(format!("{name} is too large")))?;
            found.push((id, size));
        }
        Ok(found)
    }

    fn write(&self, kind: FileType, id: &Id, content: Bytes) -> VaultResult<()> {
        let path = path(kind, id);
        let ask = Ask { content: content.clone(), ..Ask::new("POST", path.clone()) };
        let answered = self.expect(&ask, &[200, 201, 403, 409])?;
        if answered.status < 300 {
            return Ok(());
        }
        // A server that overwrites nothing refuses a file that it has, which is what we wanted if the answer to an earlier
        // try was lost.
        let there = self.expect(&Ask::new("GET", path.clone()), &[200, 404])?;
        if there.status == 200 && there.body == content {
            return Ok(());
        }
        Err(unavailable(format!("{} refuses to store {path}", self.url)))
    }
}

fn path(kind: FileType, id: &Id) -> String {
    match kind {
        FileType::Config => "config".to_owned(),
        _ => format!("{}/{}", kind.dirname(), id.to_hex().as_str()),
    }
}

fn may_work_later(kind: HttpErrorKind) -> bool {
    matches!(kind, HttpErrorKind::Unresolved | HttpErrorKind::Unreachable | HttpErrorKind::TimedOut)
}

fn unavailable(message: String) -> VaultError {
    VaultError::new(VaultErrorKind::Unavailable, message)
}

fn fault(error: VaultError) -> Box<RusticError> {
    RusticError::new(ErrorKind::Backend, error.message)
}

impl Storage for Rest {
    fn check_empty(&self) -> VaultResult<()> {
        let exists = |why: &str| Err(VaultError::new(VaultErrorKind::Exists, format!("{} {why}", self.url)));
        if !self.list_kind(FileType::Config)?.is_empty() {
            return exists("already has a repository");
        }
        for folder in ["data", "index", "snapshots"] {
            if !self.list_folder(folder)?.is_empty() {
                return exists("is not empty");
            }
        }
        Ok(())
    }

    fn lock(&self) -> VaultResult<Option<ForeignLock>> {
        let found = self.list_folder("locks")?.pop();
        Ok(found.map(|found| ForeignLock { name: found.name, since: None }))
    }

    fn remove_unfinished(&self, _: Timestamp) -> VaultResult<()> {
        Ok(())
    }
}

impl ReadBackend for Rest {
    fn location(&self) -> String {
        self.url.clone()
    }

    fn list_with_size(&self, kind: FileType) -> RusticResult<Vec<(Id, u32)>> {
        self.list_kind(kind).map_err(fault)
    }

    fn read_full(&self, kind: FileType, id: &Id) -> RusticResult<Bytes> {
        let answered = self.expect(&Ask::new("GET", path(kind, id)), &[200]).map_err(fault)?;
        Ok(answered.body)
    }

    fn read_partial(
        &self,
        kind: FileType,
        id: &Id,
        _: bool,
        offset: u32,
        length: u32,
    ) -> RusticResult<Bytes> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let ask = Ask { range: Some((offset, length)), ..Ask::new("GET", path(kind, id)) };
        let answered = self.expect(&ask, &[206, 200]).map_err(fault)?;
        // A server that knows no ranges sends the whole file.
        let (from, count) = match answered.status {
            206 => (0, length as usize),
            _ => (offset as usize, length as usize),
        };
        let end = from.saturating_add(count);
        if answered.body.len() < end {
            let message =
                format!("{} sent {} bytes of {}, not {end}", self.url, answered.body.len(), ask.path);
            return Err(fault(unavailable(message)));
        }
        Ok(answered.body.slice(from..end))
    }

    fn warmup_path(&self, kind: FileType, id: &Id) -> String {
        path(kind, id)
    }
}

impl WriteBackend for Rest {
    fn create(&self) -> RusticResult<()> {
        self.expect(&Ask::new("POST", "?create=true".to_owned()), &[200, 201]).map(drop).map_err(fault)
    }

    fn write_bytes(&self, kind: FileType, id: &Id, _: bool, content: BytesList) -> RusticResult<()> {
        let content = match content.slice() {
            [one] => one.clone(),
            parts => parts.concat().into(),
        };
        self.write(kind, id, content).map_err(fault)
    }

    fn remove(&self, kind: FileType, id: &Id, _: bool) -> RusticResult<()> {
        self.expect(&Ask::new("DELETE", path(kind, id)), &[200, 204, 404]).map(drop).map_err(fault)
    }
}
