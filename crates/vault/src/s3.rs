//! A repository in a bucket of Amazon S3, or of a server that speaks its protocol, with the names that restic gives its objects.
//! Every call is safe to repeat: a name is the hash of the content, an object is written completely or not at all, and none is
//! replaced by another.

mod http;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use landreeve_core::vault::{
    CancellationToken, ForeignLock, StorageLogin, VaultError, VaultErrorKind, VaultResult,
};
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ObjectMeta, ObjectStore as _, ObjectStoreExt as _, PutMode, PutPayload, RetryConfig,
};
use rustic_core::{BytesList, ErrorKind, FileType, Id, ReadBackend, RusticError, RusticResult, WriteBackend};

use self::http::{Failure, Sender, failure_of};
use crate::Remote;
use crate::storage::Storage;

/// For one call of the library, with everything that is repeated in it.
const CALL: Duration = Duration::from_secs(3_600);
/// A request is signed once, and a server accepts its time for 15 minutes.
const RETRY_WINDOW: Duration = Duration::from_secs(300);
const MAX_RETRIES: usize = 3;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(4);

/// Where a bucket is, as `Address::S3` has it.
pub struct Bucket<'a> {
    pub name: &'a str,
    pub prefix: &'a str,
    pub region: &'a str,
    pub endpoint: Option<&'a str>,
}

pub struct S3 {
    /// For messages: the address.
    place: String,
    store: AmazonS3,
    root: Path,
    remote: Remote,
    stop: CancellationToken,
    /// The server refuses to write an object only if it does not exist yet.
    is_unconditional: AtomicBool,
}

/// What a request does, and the permission that it needs.
#[derive(Clone, Copy)]
enum Action {
    List,
    Read,
    Write,
    Delete,
}

impl Action {
    fn verb(self) -> &'static str {
        match self {
            Action::List => "list",
            Action::Read => "read",
            Action::Write => "write",
            Action::Delete => "delete",
        }
    }

    fn permission(self) -> &'static str {
        match self {
            Action::List => "s3:ListBucket",
            Action::Read => "s3:GetObject",
            Action::Write => "s3:PutObject",
            Action::Delete => "s3:DeleteObject",
        }
    }
}

/// Why a call did not do what it should.
enum Trouble {
    Cancelled,
    Missing,
    Exists,
    /// The server does not know such a request.
    Unsupported,
    Other(VaultError),
}

impl S3 {
    /// `place`: the address, for messages.
    pub fn new(
        place: String,
        bucket: &Bucket<'_>,
        login: Option<&StorageLogin>,
        remote: Remote,
        stop: CancellationToken,
    ) -> VaultResult<S3> {
        let login = login.ok_or_else(|| {
            let message = format!(
                "{place} needs an access key: state it as s3://ACCESS_KEY_ID:SECRET@{}/…",
                bucket.name
            );
            unavailable(message)
        })?;
        let root = Path::parse(bucket.prefix).map_err(|error| unavailable(format!("{place}: {error}")))?;
        let allow_plain = bucket.endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
        let retry = RetryConfig {
            backoff: BackoffConfig { init_backoff: FIRST_PAUSE, max_backoff: MAX_PAUSE, base: 2.0 },
            max_retries: MAX_RETRIES,
            retry_timeout: RETRY_WINDOW,
        };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket.name)
            .with_region(bucket.region)
            .with_access_key_id(&login.user)
            .with_secret_access_key(login.password.reveal())
            // A name with dots is not in the certificate of Amazon's hosts.
            .with_virtual_hosted_style_request(bucket.endpoint.is_none() && !bucket.name.contains('.'))
            // A bucket with object lock accepts nothing without a checksum.
            .with_checksum_algorithm(Checksum::SHA256)
            .with_allow_http(allow_plain)
            .with_retry(retry)
            .with_http_connector(Sender { http: remote.http.clone(), allow_plain, stop: stop.clone() });
        if let Some(endpoint) = bucket.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let store = builder.build().map_err(|error| unavailable(format!("{place}: {error}")))?;
        Ok(S3 { place, store, root, remote, stop, is_unconditional: AtomicBool::new(false) })
    }

    /// Called on threads of the library, where it may block.
    fn wait<T>(
        &self,
        action: Action,
        name: &str,
        done: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, Trouble> {
        self.remote.runtime.block_on(async {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => Err(Trouble::Cancelled),
                done = tokio::time::timeout(CALL, done) => match done {
                    Ok(done) => done.map_err(|error| self.trouble(action, name, &error)),
                    Err(_) => {
                        let message = format!(
                            "{} did not {} {name} within {} minutes",
                            self.place,
                            action.verb(),
                            CALL.as_secs() / 60
                        );
                        Err(Trouble::Other(unavailable(message)))
                    }
                },
            }
        })
    }

    fn trouble(&self, action: Action, name: &str, error: &object_store::Error) -> Trouble {
        match error {
            object_store::Error::NotFound { .. } => return Trouble::Missing,
            object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
                return Trouble::Exists;
            }
            _ => {}
        }
        let place = &self.place;
        let message = match failure_of(error) {
            Some(Failure::Cancelled) => return Trouble::Cancelled,
            Some(Failure::Unsent(message)) => format!("{place}: {message}"),
            Some(Failure::Refused { status: 501, .. }) => return Trouble::Unsupported,
            Some(Failure::Refused { code, .. }) if code == "NoSuchKey" => return Trouble::Missing,
            Some(Failure::Refused { status, code, region }) => {
                self.refusal(action, name, *status, code, region.as_deref())
            }
            None => format!("{place}: cannot {} {name}: {error}", action.verb()),
        };
        Trouble::Other(unavailable(message))
    }

    /// What a refusal means, and what to do.
    fn refusal(&self, action: Action, name: &str, status: u16, code: &str, region: Option<&str>) -> String {
        let (place, verb) = (&self.place, action.verb());
        match (status, code) {
            (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidClientTokenId") | (401, _) => {
                format!("{place} does not accept the access key or its secret ({code}): check both")
            }
            (_, "RequestTimeTooSkewed") => {
                format!("{place} refuses the time of this machine: set its clock")
            }
            (_, "NoSuchBucket") => {
                format!("{place}: the bucket does not exist; create it, or check its name and endpoint")
            }
            (301 | 302 | 307 | 308, _) | (400, "AuthorizationHeaderMalformed") => match region {
                Some(region) => format!("{place}: the bucket is in another region; state ?region={region}"),
                None => format!("{place}: the bucket is in another region; state it as ?region=…"),
            },
            (_, "AccessDenied" | "AllAccessDisabled") | (403, _) => format!(
                "{place} refuses to {verb} {name}: the access key needs the permission {}",
                action.permission()
            ),
            (416, _) => format!("{place}: {name} is shorter than it should be"),
            (_, "") => format!("{place} answered {status} when asked to {verb} {name}"),
            _ => format!("{place} answered {status} ({code}) when asked to {verb} {name}"),
        }
    }

    fn path(&self, kind: FileType, id: &Id) -> Path {
        let name = id.to_hex();
        let name = name.as_str();
        match kind {
            FileType::Config => self.root.clone().join("config"),
            FileType::Pack => self.root.clone().join("data").join(&name[..2]).join(name),
            _ => self.root.clone().join(kind.dirname()).join(name),
        }
    }

    /// All objects in one of the repository's folders.
    fn list_folder(&self, folder: &str) -> VaultResult<Vec<ObjectMeta>> {
        let path = self.root.clone().join(folder);
        let listed = self.wait(Action::List, folder, self.store.list(Some(&path)).try_collect());
        listed.map_err(|trouble| self.error(Action::List, folder, trouble))
    }

    /// `None` if there is no such object.
    fn read(&self, path: &Path) -> VaultResult<Option<Bytes>> {
        let name = self.short(path);
        let read = self.wait(Action::Read, name, async { self.store.get(path).await?.bytes().await });
        match read {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Trouble::Missing) => Ok(None),
            Err(trouble) => Err(self.error(Action::Read, name, trouble)),
        }
    }

    /// The name of an object below the prefix.
    fn short<'a>(&self, path: &'a Path) -> &'a str {
        let name = path.as_ref();
        name.strip_prefix(self.root.as_ref()).unwrap_or(name).trim_start_matches('/')
    }

    fn error(&self, action: Action, name: &str, trouble: Trouble) -> VaultError {
        match trouble {
            Trouble::Cancelled => VaultError::cancelled(),
            Trouble::Missing => unavailable(format!("{} has no {name}", self.place)),
            Trouble::Exists => unavailable(format!("{} already has {name}", self.place)),
            Trouble::Unsupported => {
                unavailable(format!("{} does not know how to {} {name}", self.place, action.verb()))
            }
            Trouble::Other(error) => error,
        }
    }

    fn list_kind(&self, kind: FileType) -> VaultResult<Vec<(Id, u32)>> {
        if kind == FileType::Config {
            let config = self.read(&self.path(kind, &Id::default()))?;
            let size = |bytes: Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            return Ok(config.map(|bytes| (Id::default(), size(bytes))).into_iter().collect());
        }
        let mut found = Vec::new();
        for ObjectMeta { location, size, .. } in self.list_folder(kind.dirname())? {
            let name = location.filename().unwrap_or_default();
            let Some(id) = Some(name).filter(|name| name.len() == 64).and_then(|name| name.parse().ok())
            else {
                continue;
            };
            // Other objects are not the repository's.
            if self.path(kind, &id) != location {
                continue;
            }
            let size = u32::try_from(size).map_err(|_| unavailable(format!("{name} is too large")))?;
            found.push((id, size));
        }
        Ok(found)
    }

    fn write(&self, path: &Path, content: Bytes) -> VaultResult<()> {
        let name = self.short(path);
        if !self.is_unconditional.load(Ordering::Relaxed) {
            match self.put(path, content.clone(), PutMode::Create) {
                Ok(()) => return Ok(()),
                // It is what we wanted if the answer to an earlier try was lost.
                Err(Trouble::Exists) => return self.compare(path, &content),
                Err(Trouble::Unsupported) => self.is_unconditional.store(true, Ordering::Relaxed),
                Err(trouble) => return Err(self.error(Action::Write, name, trouble)),
            }
        }
        if self.read(path)?.is_some() {
            return self.compare(path, &content);
        }
        let put = self.put(path, content, PutMode::Overwrite);
        put.map_err(|trouble| self.error(Action::Write, name, trouble))
    }

    fn put(&self, path: &Path, content: Bytes, mode: PutMode) -> Result<(), Trouble> {
        let put = self.store.put_opts(path, PutPayload::from(content), mode.into());
        self.wait(Action::Write, self.short(path), put).map(drop)
    }

    /// An object that exists is never replaced by another.
    fn compare(&self, path: &Path, content: &Bytes) -> VaultResult<()> {
        let (place, name) = (&self.place, self.short(path));
        let message = match self.read(path)? {
            Some(there) if there == content => return Ok(()),
            None => format!("{place}: something else is writing or deleting {name}; try again"),
            Some(_) if name == "config" => format!(
                "{place} already has a repository, which something else created meanwhile; attach it with its password"
            ),
            Some(_) => format!(
                "{place} already has {name} with another content; check the repository, and delete this object if it is damaged"
            ),
        };
        Err(unavailable(message))
    }
}

fn unavailable(message: String) -> VaultError {
    VaultError::new(VaultErrorKind::Unavailable, message)
}

fn fault(error: VaultError) -> Box<RusticError> {
    RusticError::new(ErrorKind::Backend, error.message)
}

impl Storage for S3 {
    fn check_empty(&self) -> VaultResult<()> {
        let exists =
            |why: &str| Err(VaultError::new(VaultErrorKind::Exists, format!("{} {why}", self.place)));
        if !self.list_kind(FileType::Config)?.is_empty() {
            return exists("already has a repository");
        }
        let is_ours = |location: &Path| {
            let name = self.short(location);
            let (folder, inside) = name.split_once('/').unwrap_or((name, ""));
            // An empty object may stand for a folder.
            let is_folder = inside.is_empty() && ["", "data", "index", "snapshots"].contains(&folder);
            is_folder || matches!(folder, "keys" | "locks")
        };
        let root = Some(&self.root).filter(|root| !root.as_ref().is_empty());
        let first = self.store.list(root).try_filter(|object| {
            let is_other = !is_ours(&object.location);
            async move { is_other }
        });
        let other = self.wait(Action::List, "the prefix", async { std::pin::pin!(first).try_next().await });
        match other.map_err(|trouble| self.error(Action::List, "the prefix", trouble))? {
            Some(_) => exists("is not empty"),
            None => Ok(()),
        }
    }

    fn lock(&self) -> VaultResult<Option<ForeignLock>> {
        let locks = self.list_folder("locks")?;
        let named = locks.into_iter().filter(|lock| self.short(&lock.location).starts_with("locks/"));
        Ok(named.max_by_key(|lock| lock.last_modified).map(|lock| ForeignLock {
            name: lock.location.filename().unwrap_or_default().to_owned(),
            since: Timestamp::from_second(lock.last_modified.timestamp()).ok(),
        }))
    }

    fn remove_unfinished(&self, _: Timestamp) -> VaultResult<()> {
        Ok(())
    }
}

impl ReadBackend for S3 {
    fn location(&self) -> String {
        self.place.clone()
    }

    fn list_with_size(&self, kind: FileType) -> RusticResult<Vec<(Id, u32)>> {
        self.list_kind(kind).map_err(fault)
    }

    fn read_full(&self, kind: FileType, id: &Id) -> RusticResult<Bytes> {
        let path = self.path(kind, id);
        let read = self.read(&path).map_err(fault)?;
        read.ok_or_else(|| fault(self.error(Action::Read, self.short(&path), Trouble::Missing)))
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
        let path = self.path(kind, id);
        let name = self.short(&path);
        let start = u64::from(offset);
        let range = start..start + u64::from(length);
        let read = self.wait(Action::Read, name, self.store.get_range(&path, range));
        let bytes = read.map_err(|trouble| fault(self.error(Action::Read, name, trouble)))?;
        if bytes.len() != length as usize {
            let message = format!("{} sent {} bytes of {name}, not {length}", self.place, bytes.len());
            return Err(fault(unavailable(message)));
        }
        Ok(bytes)
    }

    fn warmup_path(&self, kind: FileType, id: &Id) -> String {
        self.path(kind, id).to_string()
    }
}

impl WriteBackend for S3 {
    /// A bucket has no folders to make.
    fn create(&self) -> RusticResult<()> {
        Ok(())
    }

    fn write_bytes(&self, kind: FileType, id: &Id, _: bool, content: BytesList) -> RusticResult<()> {
        let content = match content.slice() {
            [one] => one.clone(),
            parts => parts.concat().into(),
        };
        self.write(&self.path(kind, id), content).map_err(fault)
    }

    fn remove(&self, kind: FileType, id: &Id, _: bool) -> RusticResult<()> {
        let path = self.path(kind, id);
        let name = self.short(&path);
        match self.wait(Action::Delete, name, self.store.delete(&path)) {
            Ok(()) | Err(Trouble::Missing) => Ok(()),
            Err(trouble) => Err(fault(self.error(Action::Delete, name, trouble))),
        }
    }
}
