//! The port to backup repositories: files in snapshots, deduplicated and encrypted. `vault` implements it. It knows no
//! database and no policy.
//!
//! Every function blocks, some for hours: call them where a thread may wait.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use jiff::Timestamp;
pub use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind};
use crate::secret::Secret;
use crate::table::{Condition, Value};

/// Maximum length of a repository's address, in bytes.
pub const MAX_ADDRESS: usize = 1024;

/// Where a repository is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// An absolute path on this machine.
    Folder(PathBuf),
    /// A server that speaks restic's REST protocol: `https://host[:port]/path/`.
    Rest(String),
    /// A bucket of Amazon S3, or of a server that speaks its protocol.
    S3 {
        bucket: String,
        /// What the names of all objects begin with, without slashes around it. It may be empty.
        prefix: String,
        region: String,
        /// `https://host[:port]` of a server that is not Amazon's.
        endpoint: Option<String>,
    },
}

/// The region of a bucket whose address has none.
const DEFAULT_REGION: &str = "us-east-1";
const MAX_REGION: usize = 64;

/// A user's name and password at a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageLogin {
    pub user: String,
    pub password: Secret,
}

impl Address {
    /// Reads a path, or an address as restic writes it. The message is for the user.
    pub fn parse(text: &str) -> Result<Address, String> {
        match Address::parse_with_login(text)? {
            (_, Some(_)) => Err("contains a user name".to_owned()),
            (address, None) => Ok(address),
        }
    }

    /// The same, with a login in front of the host or bucket: `rest:https://user:password@host/`,
    /// `s3://ACCESS_KEY_ID:SECRET@bucket/`. It is not part of the address.
    pub fn parse_with_login(text: &str) -> Result<(Address, Option<StorageLogin>), String> {
        if text.len() > MAX_ADDRESS {
            return Err(format!("is longer than {MAX_ADDRESS} bytes"));
        }
        if text.chars().any(char::is_control) {
            return Err("contains a control character".to_owned());
        }
        if let Some(url) = text.strip_prefix("rest:") {
            return rest(url);
        }
        if let Some(place) = text.strip_prefix("s3:") {
            return s3(place);
        }
        let path = text.strip_prefix("file://").unwrap_or(text);
        if let Some((scheme, _)) = path.split_once(':').filter(|(scheme, _)| !scheme.contains('/')) {
            return Err(format!(
                "starts with `{scheme}:`, which is not supported; give the path of a folder, rest:https://… or s3://…"
            ));
        }
        if !Path::new(path).is_absolute() {
            return Err("is not an absolute path".to_owned());
        }
        Ok((Address::Folder(PathBuf::from(path)), None))
    }

    /// Whether only this machine reaches it, as far as the address says.
    pub fn is_local(&self) -> bool {
        matches!(self, Address::Folder(_))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Folder(path) => write!(f, "{}", path.display()),
            Address::Rest(url) => write!(f, "rest:{url}"),
            Address::S3 { bucket, prefix, region, endpoint } => {
                let slash = if prefix.is_empty() { "" } else { "/" };
                write!(f, "s3://{bucket}{slash}{prefix}")?;
                let mut separator = '?';
                if region != DEFAULT_REGION {
                    write!(f, "{separator}region={region}")?;
                    separator = '&';
                }
                match endpoint {
                    Some(endpoint) => write!(f, "{separator}endpoint={endpoint}"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// `https://[user:password@]host[:port]/path/`. Without TLS only on this machine, because the login is sent as text.
fn rest(url: &str) -> Result<(Address, Option<StorageLogin>), String> {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme @ ("https" | "http"), rest)) => (scheme, rest),
        _ => return Err("is not rest:https://host/path".to_owned()),
    };
    let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, host) = match place.rsplit_once('@') {
        Some((login, host)) => (Some(login), host),
        None => (None, place),
    };
    let bare = bare_host(host)?;
    if path.contains(['?', '#', ' ']) || path.split('/').any(|part| part == "..") {
        return Err("has a path that is not allowed".to_owned());
    }
    if scheme == "http" && !is_this_machine(bare) {
        return Err("is not encrypted: use rest:https://…".to_owned());
    }
    let login = match login.map(|login| login.split_once(':')) {
        None => None,
        Some(Some((user, password))) if !user.is_empty() => {
            Some(StorageLogin { user: user.to_owned(), password: Secret::new(password) })
        }
        Some(_) => return Err("has a login that is not user:password".to_owned()),
    };
    let path = path.trim_end_matches('/');
    let slash = if path.is_empty() { "" } else { "/" };
    Ok((Address::Rest(format!("{scheme}://{host}/{path}{slash}")), login))
}

/// A host without its port and without the brackets of an IPv6 address.
fn bare_host(host: &str) -> Result<&str, String> {
    let bare = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((inside, _)) => inside,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    if bare.is_empty() {
        return Err("has no host".to_owned());
    }
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || ".-_:[]".contains(letter);
    if !host.chars().all(allowed) {
        return Err("has a host that is not allowed".to_owned());
    }
    Ok(bare)
}

fn is_this_machine(bare: &str) -> bool {
    matches!(bare, "localhost" | "127.0.0.1" | "::1")
}

/// `//[ACCESS_KEY_ID:SECRET@]bucket[/prefix][?region=…&endpoint=…]`. No message contains any part of a login, also if it is
/// not where it belongs.
fn s3(text: &str) -> Result<(Address, Option<StorageLogin>), String> {
    let rest = text.strip_prefix("//").ok_or("is not s3://bucket/prefix")?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    if query.contains('@') {
        return Err("has an @ after the `?`; a secret with `?` is not supported".to_owned());
    }
    // A secret may contain slashes and @, a bucket and a prefix never an @.
    let (login, place) = match place.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, place),
    };
    let login = match login.map(|login| login.split_once(':')) {
        None => None,
        Some(Some((id, secret))) if !id.is_empty() && !secret.is_empty() => {
            Some(StorageLogin { user: id.to_owned(), password: Secret::new(secret) })
        }
        Some(_) => return Err("has a login that is not ACCESS_KEY_ID:SECRET".to_owned()),
    };
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    if bucket.is_empty() {
        return Err("has no bucket".to_owned());
    }
    if !is_bucket(bucket) {
        return Err("has a bucket that is not 3 to 63 lowercase letters, digits, hyphens and dots".to_owned());
    }
    let prefix = prefix.trim_end_matches('/');
    if !prefix.is_empty() && prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("has a prefix with a part that is empty, `.` or `..`".to_owned());
    }
    let (mut region, mut endpoint) = (None, None);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let known = match name {
            "region" => region.replace(region_of(value)?).is_some(),
            "endpoint" => endpoint.replace(endpoint_of(value)?).is_some(),
            _ => return Err("has a parameter that is neither region nor endpoint".to_owned()),
        };
        if known {
            return Err(format!("states the {name} twice"));
        }
    }
    let address = Address::S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        region: region.unwrap_or_else(|| DEFAULT_REGION.to_owned()),
        endpoint,
    };
    Ok((address, login))
}

/// Amazon's rules for names of buckets.
fn is_bucket(name: &str) -> bool {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = |byte: Option<u8>| byte.is_some_and(is_alphanumeric);
    (3..=63).contains(&name.len())
        && name.bytes().all(|byte| is_alphanumeric(byte) || matches!(byte, b'-' | b'.'))
        && ends(name.bytes().next())
        && ends(name.bytes().last())
        && !name.contains("..")
        && name.parse::<std::net::Ipv4Addr>().is_err()
}

/// It becomes part of a host name.
fn region_of(value: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if value.is_empty() || value.len() > MAX_REGION || !value.bytes().all(allowed) {
        return Err("has a region that is not a name such as eu-central-1".to_owned());
    }
    Ok(value.to_owned())
}

/// `https://host[:port]`, as a request is signed for it: in lower case, and without the scheme's own port. Without TLS only on
/// this machine, because the data's names and the requests could be changed on their way.
fn endpoint_of(value: &str) -> Result<String, String> {
    let (scheme, host) = match value.split_once("://") {
        Some((scheme @ ("https" | "http"), host)) => (scheme, host.strip_suffix('/').unwrap_or(host)),
        _ => return Err("has an endpoint that is not https://host[:port]".to_owned()),
    };
    let bare = bare_host(host).map_err(|_| "has an endpoint that is not https://host[:port]".to_owned())?;
    if scheme == "http" && !is_this_machine(bare) {
        return Err("has an endpoint that is not encrypted: use https://…".to_owned());
    }
    let default = if scheme == "http" { ":80" } else { ":443" };
    let host = host.strip_suffix(default).unwrap_or(host);
    Ok(format!("{scheme}://{}", host.to_ascii_lowercase()))
}

/// What it takes to open a repository.
#[derive(Debug, Clone)]
pub struct RepositorySpec {
    pub address: Address,
    /// At the storage, if it wants one.
    pub login: Option<StorageLogin>,
    pub password: Secret,
    /// Nothing is ever deleted in it.
    pub append_only: bool,
}

/// An error from a repository.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct VaultError {
    pub kind: VaultErrorKind,
    /// For the user: what failed and what to do. Without secrets.
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VaultErrorKind {
    /// The place has no repository.
    Missing,
    /// The place already has a repository, or other files.
    Exists,
    /// The password opens none of the repository's keys.
    WrongPassword,
    /// The snapshot or file does not exist.
    NotFound,
    /// What is stored is not what was written.
    Damaged,
    /// Another program has locked the repository.
    Locked,
    /// The repository is append-only.
    AppendOnly,
    /// The place cannot be reached, read or written.
    Unavailable,
    /// What should be saved could not be read to its end.
    Source,
    Cancelled,
    /// A bug of ours or of the library.
    Internal,
}

impl VaultError {
    pub fn new(kind: VaultErrorKind, message: impl Into<String>) -> VaultError {
        VaultError { kind, message: message.into() }
    }

    pub fn cancelled() -> VaultError {
        VaultError::new(VaultErrorKind::Cancelled, "it was cancelled")
    }

    /// As use cases return it.
    pub fn into_error(self) -> Error {
        let (kind, code) = match self.kind {
            VaultErrorKind::Missing => (ErrorKind::Unavailable, "no_repository"),
            VaultErrorKind::Exists => (ErrorKind::Conflict, "repository_exists"),
            VaultErrorKind::WrongPassword => (ErrorKind::Unavailable, "wrong_password"),
            VaultErrorKind::NotFound => return Error::not_found("backup").saying(self.message),
            VaultErrorKind::Damaged => (ErrorKind::Unavailable, "damaged"),
            VaultErrorKind::Locked => (ErrorKind::Unavailable, "locked"),
            VaultErrorKind::AppendOnly => (ErrorKind::Conflict, "append_only"),
            VaultErrorKind::Unavailable | VaultErrorKind::Source => (ErrorKind::Unavailable, "unavailable"),
            VaultErrorKind::Cancelled => (ErrorKind::Unavailable, "cancelled"),
            VaultErrorKind::Internal => (ErrorKind::Internal, "internal"),
        };
        Error::new(kind, code, self.message)
    }
}

pub type VaultResult<T> = Result<T, VaultError>;

/// A snapshot's id: 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotId(String);

impl SnapshotId {
    pub fn parse(text: &str) -> Option<SnapshotId> {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 64 && text.bytes().all(is_hex)).then(|| SnapshotId(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a snapshot says of itself, besides its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotHead {
    pub time: Timestamp,
    /// Shown by restic as the host.
    pub host: String,
    pub label: String,
    pub tags: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub id: SnapshotId,
    pub head: SnapshotHead,
}

/// A file to save.
pub struct NewFile {
    /// Relative, with `/`. Files come in the order of their paths, folder by folder.
    pub path: String,
    /// Exactly as many bytes as `content` gives.
    pub size: u64,
    pub content: Box<dyn Read + Send>,
}

/// The files to save. An error ends the snapshot: nothing of it can be seen.
pub type NewFiles = Box<dyn Iterator<Item = VaultResult<NewFile>> + Send>;

/// What saving a snapshot did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    pub id: SnapshotId,
    pub files: u64,
    pub bytes_read: u64,
    /// What the repository has grown by, compressed and encrypted.
    pub bytes_added: u64,
}

/// A lock that another program (restic) has in a repository. Ours has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignLock {
    pub name: String,
    /// By the storage's clock, if it tells. restic refreshes a lock that it still needs every five minutes: there is a new
    /// one then.
    pub since: Option<Timestamp>,
}

/// How much `check` reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckDepth {
    /// Whether everything that snapshots refer to exists.
    Structure,
    /// Every byte as well.
    Data,
}

/// What is wrong with a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Otherwise it is harmless.
    pub is_error: bool,
    pub message: String,
}

/// What pruning did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Deleted now: unused for 23 hours or longer.
    pub bytes_deleted: u64,
    /// Unused now, and deleted by a later prune.
    pub bytes_marked: u64,
    /// Written again, because parts of it were unused.
    pub bytes_repacked: u64,
}

/// A checksum of rows that is the same in whatever order they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RowsHash(pub u128);

impl RowsHash {
    /// Of these rows and those.
    #[must_use]
    pub fn and(self, other: RowsHash) -> RowsHash {
        RowsHash(self.0.wrapping_add(other.0))
    }

    pub fn parse(text: &str) -> Option<RowsHash> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u128::from_str_radix(text, 16).ok().filter(|_| is_hex).map(RowsHash)
    }
}

impl fmt::Display for RowsHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The rows of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub rows: u64,
    pub hash: RowsHash,
    /// Of each column: its least and greatest value, or something beyond them, where they are known.
    pub bounds: Vec<Option<(Value, Value)>>,
}

/// Writes rows to a file, in the form in which backups keep them.
pub trait PartWriter: Send {
    /// Takes rows until the file is full, and returns how many it has taken.
    fn write(&mut self, batch: &RecordBatch) -> VaultResult<usize>;

    /// Whether the next row belongs to the next file. It depends on the rows: the same ones give the same files, also where
    /// there are other rows before them.
    fn is_full(&self) -> bool;

    fn finish(self: Box<Self>) -> VaultResult<Part>;
}

/// The rows of a part, batch by batch.
pub type PartRows = Box<dyn Iterator<Item = VaultResult<RecordBatch>> + Send>;

/// Which rows of a part are wanted.
#[derive(Debug, Clone)]
pub struct PartAsk {
    /// By position in the file; they come in the file's order.
    pub columns: Vec<usize>,
    /// Rows that do not meet them may come all the same.
    pub conditions: Vec<Condition>,
    pub batch_rows: usize,
}

/// Makes and opens repositories, and the files of rows in them.
pub trait Vault: Send + Sync {
    /// Makes a repository in an empty place.
    fn create(&self, spec: &RepositorySpec) -> VaultResult<Box<dyn Repository>>;

    /// `stop`: nothing is written any more once it is cancelled.
    fn open(&self, spec: &RepositorySpec, stop: CancellationToken) -> VaultResult<Box<dyn Repository>>;

    /// A new file for rows with these columns.
    fn part_writer(&self, path: &Path, schema: &SchemaRef) -> VaultResult<Box<dyn PartWriter>>;

    /// The rows of such a file.
    fn part_rows(&self, path: &Path) -> VaultResult<PartRows>;

    /// The columns of such a file in a repository.
    fn part_schema(&self, file: Arc<dyn StoredFile>) -> VaultResult<SchemaRef>;

    /// Some rows of such a file in a repository. No more of it is read than they need.
    fn part_scan(&self, file: Arc<dyn StoredFile>, ask: &PartAsk) -> VaultResult<PartRows>;

    /// The checksum that `PartWriter` computes, for rows from elsewhere.
    fn rows_hash(&self, batch: &RecordBatch) -> VaultResult<RowsHash>;
}

/// An open repository.
pub trait Repository: Send + Sync {
    /// Its own id, which never changes: 64 hexadecimal digits.
    fn id(&self) -> &str;

    /// The newest lock of another program. Saving and pruning must wait for one that is still needed.
    fn lock(&self) -> VaultResult<Option<ForeignLock>>;

    fn snapshots(&self) -> VaultResult<Vec<Snapshot>>;

    /// Saves all files, or nothing.
    fn save(&self, head: &SnapshotHead, files: NewFiles) -> VaultResult<Saved>;

    /// A file of a snapshot, to read from any position.
    fn file(&self, snapshot: &SnapshotId, path: &str) -> VaultResult<Box<dyn StoredFile>>;

    fn check(&self, depth: CheckDepth) -> VaultResult<Vec<Finding>>;

    /// Deletes snapshots; their data is deleted by `prune`. Those that do not exist are ignored.
    fn forget(&self, snapshots: &[SnapshotId]) -> VaultResult<()>;

    /// Deletes data that no snapshot needs any more, in two steps of which the second follows 23 hours later at the
    /// earliest, so that a snapshot that is being written meanwhile loses nothing. Files that were not finished a day
    /// before `now` are removed.
    fn prune(&self, now: Timestamp) -> VaultResult<Pruned>;
}

/// A file in a repository. It is checked against its hash as it is read.
pub trait StoredFile: Send + Sync {
    fn size(&self) -> u64;

    /// At most `length` bytes from a position; fewer only at the end.
    fn read_at(&self, position: u64, length: usize) -> VaultResult<Bytes>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_absolute_paths_or_servers() {
        for (text, shown) in
            [("/srv/backup", "/srv/backup"), ("file:///srv/a b", "/srv/a b"), ("/a:b", "/a:b")]
        {
            assert_eq!(Address::parse(text).unwrap().to_string(), shown);
        }
        for (text, shown, login) in [
            ("rest:https://host", "rest:https://host/", None),
            ("rest:https://host:8000/a/b", "rest:https://host:8000/a/b/", None),
            ("rest:https://host/a/b//", "rest:https://host/a/b/", None),
            ("rest:http://localhost:8000", "rest:http://localhost:8000/", None),
            ("rest:http://[::1]:8000/", "rest:http://[::1]:8000/", None),
            ("rest:https://ann:p@ss:word@host/a", "rest:https://host/a/", Some(("ann", "p@ss:word"))),
        ] {
            let (address, found) = Address::parse_with_login(text).unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(Address::parse(shown).unwrap(), address, "{shown}");
            let found = found.as_ref().map(|login| (login.user.as_str(), login.password.reveal()));
            assert_eq!(found, login, "{text}");
        }
        for (text, message) in [
            ("", "is not an absolute path"),
            ("backup", "is not an absolute path"),
            ("../backup", "is not an absolute path"),
            (
                "gs://bucket/a",
                "starts with `gs:`, which is not supported; give the path of a folder, rest:https://… or s3://…",
            ),
            ("/a\nb", "contains a control character"),
            ("rest:host", "is not rest:https://host/path"),
            ("rest:ftp://host", "is not rest:https://host/path"),
            ("rest:https:///a", "has no host"),
            ("rest:https://host?a=b", "has a host that is not allowed"),
            ("rest:https://host\\a", "has a host that is not allowed"),
            ("rest:http://localhost:80@host/", "is not encrypted: use rest:https://…"),
            ("rest:https://host/a?b", "has a path that is not allowed"),
            ("rest:https://host/a/../b", "has a path that is not allowed"),
            ("rest:http://host/a", "is not encrypted: use rest:https://…"),
            ("rest:https://user@host/", "has a login that is not user:password"),
            ("rest:https://:p@host/", "has a login that is not user:password"),
            ("rest:https://user:p@host/", "contains a user name"),
        ] {
            assert_eq!(Address::parse(text).unwrap_err(), message, "{text}");
        }
        assert!(Address::parse(&format!("/{}", "a".repeat(MAX_ADDRESS))).is_err());
    }

    #[test]
    fn buckets_have_a_prefix_a_region_and_an_endpoint() {
        let endpoint = "endpoint=https://host:9000";
        let tls = "s3://bucket?endpoint=https://host";
        for (text, shown, login) in [
            ("s3://bucket", "s3://bucket", None),
            ("s3://my.bucket-1//", "s3://my.bucket-1", None),
            ("s3://bucket/a b/c%20/?", "s3://bucket/a b/c%20", None),
            ("s3://bucket/a?region=us-east-1", "s3://bucket/a", None),
            ("s3://bucket/a?region=eu-central-1", "s3://bucket/a?region=eu-central-1", None),
            (&format!("s3://bucket/a?{endpoint}/"), &format!("s3://bucket/a?{endpoint}"), None),
            (
                &format!("s3://bucket/a?{endpoint}&region=garage"),
                &format!("s3://bucket/a?region=garage&{endpoint}"),
                None,
            ),
            ("s3://bucket?endpoint=https://HOST:443", tls, None),
            ("s3://bucket?endpoint=http://[::1]:80/", "s3://bucket?endpoint=http://[::1]", None),
            ("s3://AKIA:se/c+r:e@t/@bucket/a", "s3://bucket/a", Some(("AKIA", "se/c+r:e@t/"))),
            ("s3://AKIA:secret%2F@bucket?region=a", "s3://bucket?region=a", Some(("AKIA", "secret%2F"))),
        ] {
            let (address, found) = Address::parse_with_login(text).unwrap();
            assert!(!address.is_local());
            assert_eq!(address.to_string(), shown);
            assert_eq!(Address::parse(shown).unwrap(), address, "{shown}");
            let found = found.as_ref().map(|login| (login.user.as_str(), login.password.reveal()));
            assert_eq!(found, login, "{text}");
        }
        let expected =
            Address::S3 { bucket: "abc".into(), prefix: "a/b".into(), region: "x".into(), endpoint: None };
        assert_eq!(Address::parse("s3://abc/a/b/?region=x"), Ok(expected));
    }

    #[test]
    fn refuses_malformed_buckets() {
        let bucket = "has a bucket that is not 3 to 63 lowercase letters, digits, hyphens and dots";
        let prefix = "has a prefix with a part that is empty, `.` or `..`";
        let region = "has a region that is not a name such as eu-central-1";
        let endpoint = "has an endpoint that is not https://host[:port]";
        let login = "has a login that is not ACCESS_KEY_ID:SECRET";
        let long = format!("s3://{}", "a".repeat(64));
        for (text, message) in [
            ("s3:https://host/bucket", "is not s3://bucket/prefix"),
            ("s3:bucket", "is not s3://bucket/prefix"),
            ("s3://", "has no bucket"),
            ("s3:///a", "has no bucket"),
            ("s3://ab", bucket),
            (&long, bucket),
            ("s3://Bucket", bucket),
            ("s3://bucket-/a", bucket),
            ("s3://.bucket", bucket),
            ("s3://my..bucket", bucket),
            ("s3://10.0.0.1", bucket),
            ("s3://buck_et", bucket),
            ("s3://bücket", bucket),
            ("s3://bucket//a", prefix),
            ("s3://bucket/a//b", prefix),
            ("s3://bucket/a/../b", prefix),
            ("s3://bucket/.", prefix),
            ("s3://bucket/a\nb", "contains a control character"),
            ("s3://bucket?region=", region),
            ("s3://bucket?region=a.b", region),
            ("s3://bucket?region=a/b", region),
            ("s3://bucket?endpoint=host", endpoint),
            ("s3://bucket?endpoint=https://", endpoint),
            ("s3://bucket?endpoint=https://host/path", endpoint),
            ("s3://bucket?endpoint=ftp://host", endpoint),
            ("s3://bucket?endpoint=http://host", "has an endpoint that is not encrypted: use https://…"),
            ("s3://bucket?Region=a", "has a parameter that is neither region nor endpoint"),
            ("s3://bucket?region=a&region=a", "states the region twice"),
            ("s3://AKIA@bucket", login),
            ("s3://:secret@bucket", login),
            ("s3://AKIA:@bucket", login),
            ("s3://AKIA:se?cret@bucket", "has an @ after the `?`; a secret with `?` is not supported"),
        ] {
            assert_eq!(Address::parse_with_login(text).unwrap_err(), message, "{text}");
        }
        assert_eq!(Address::parse("s3://AKIA:secret@bucket").unwrap_err(), "contains a user name");
    }

    #[test]
    fn snapshot_ids_are_hexadecimal() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(SnapshotId::parse(&id).unwrap().to_string(), id);
        for bad in ["", "latest", &id[1..], &id.to_uppercase(), &format!("{id}0")] {
            assert_eq!(SnapshotId::parse(bad), None, "{bad}");
        }
    }
}
