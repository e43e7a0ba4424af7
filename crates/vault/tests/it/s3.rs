//! What only a repository in a bucket has: keys with permissions, and servers that fail in their own ways. Each error says what
//! to do.

use std::sync::{Arc, Mutex};

use landreeve_core::Secret;
use landreeve_core::ids::BoxFuture;
use landreeve_core::outbound::{HttpAnswer, HttpCall, HttpClient, HttpError};
use landreeve_core::vault::{
    Address, CancellationToken, CheckDepth, Repository, RepositorySpec, StorageLogin, Vault, VaultErrorKind,
    VaultResult,
};
use landreeve_testkit::{BUCKET, HttpRelay, Mishap, S3Key};
use landreeve_vault::{Remote, Repositories};

use crate::support::{Place, file, files, head, noise};

fn with_key(place: &Place, key: &S3Key) -> RepositorySpec {
    let login = StorageLogin { user: key.id.clone(), password: Secret::new(key.secret.as_str()) };
    RepositorySpec { login: Some(login), ..place.spec() }
}

/// The same server, by another address.
fn through(place: &Place, endpoint: &str) -> RepositorySpec {
    let address = Address::parse(&format!("s3://{BUCKET}/some/where?endpoint={endpoint}")).unwrap();
    RepositorySpec { address, ..place.spec() }
}

fn refused(tried: VaultResult<Box<dyn Repository>>, message: &str) {
    let error = tried.err().unwrap();
    assert_eq!(error.kind, VaultErrorKind::Unavailable, "{error}");
    assert!(error.message.contains(message), "{error}");
    assert!(!error.message.contains("se/c+ret"), "{error}");
}

#[test]
fn a_bucket_needs_an_access_key_and_the_network() {
    let login = StorageLogin { user: "AKIATEST".into(), password: Secret::new("se/c+ret") };
    let spec = |login| RepositorySpec {
        address: Address::parse("s3://bucket/a?region=eu-central-1").unwrap(),
        login,
        password: Secret::new("p"),
        append_only: false,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let open = |spec| landreeve_testkit::vault().open(&spec, CancellationToken::new());
    refused(open(spec(None)), "needs an access key: state it as s3://ACCESS_KEY_ID:SECRET@bucket/");
    let unconnected = Repositories::default();
    refused(unconnected.open(&spec(Some(login)), CancellationToken::new()), "cannot be reached here");
}

/// A client of servers that have nothing. It keeps what was called.
#[derive(Default)]
struct Empty(Mutex<Vec<String>>);

impl HttpClient for Empty {
    fn send(&self, call: HttpCall) -> BoxFuture<'_, Result<HttpAnswer, HttpError>> {
        assert_eq!(call.allow_plain, call.url.starts_with("http://"));
        self.0.lock().unwrap().push(format!("{} {}", call.method, call.url));
        let body = Box::pin(futures_util::stream::empty());
        Box::pin(async move { Ok(HttpAnswer { status: 404, headers: Vec::new(), body }) })
    }
}

#[test]
fn a_bucket_is_in_the_host_or_in_the_path() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (address, url) in [
        ("s3://bucket", "https://bucket.s3.us-east-1.amazonaws.com/config"),
        ("s3://bucket/a/b?region=eu-west-1", "https://bucket.s3.eu-west-1.amazonaws.com/a/b/config"),
        // A certificate has one level of names.
        ("s3://my.bucket/a?region=eu-west-1", "https://s3.eu-west-1.amazonaws.com/my.bucket/a/config"),
        ("s3://bucket/a?endpoint=https://host:9000", "https://host:9000/bucket/a/config"),
        ("s3://bucket?endpoint=http://localhost", "http://localhost/bucket/config"),
    ] {
        let empty = Arc::new(Empty::default());
        let remote = Remote { http: Arc::clone(&empty) as _, runtime: runtime.handle().clone() };
        let login = StorageLogin { user: "AKIATEST".into(), password: Secret::new("secret") };
        let spec = RepositorySpec {
            address: Address::parse(address).unwrap(),
            login: Some(login),
            password: Secret::new("p"),
            append_only: false,
        };
        let repositories = Repositories { remote: Some(remote), ..Repositories::default() };
        let error = repositories.open(&spec, CancellationToken::new()).err().unwrap();
        assert_eq!(error.kind, VaultErrorKind::Missing, "{error}");
        assert_eq!(*empty.0.lock().unwrap(), [format!("GET {url}")]);
    }
}

#[test]
fn a_key_needs_its_secret_and_permissions() {
    let Some(place) = Place::s3() else { return };
    let saved = place.create().save(&head(), files(vec![file("a", noise(1, 1_000_000))])).unwrap();
    let key = place.server().only_allow(&["s3:GetObject", "s3:ListBucket", "s3:PutObject"]);
    let wrong = S3Key { secret: "wrong".to_owned(), ..key.clone() };
    let open = |key: &S3Key| place.repositories.open(&with_key(&place, key), CancellationToken::new());
    refused(open(&wrong), "does not accept the access key or its secret (SignatureDoesNotMatch): check both");
    let unknown = S3Key { id: "AKIAUNKNOWN".to_owned(), ..key.clone() };
    refused(open(&unknown), "does not accept the access key or its secret (InvalidAccessKeyId): check both");
    // A key that deletes nothing protects the history.
    let repository = open(&key).unwrap();
    repository.save(&head(), files(vec![file("a", noise(2, 1_000_000))])).unwrap();
    let error = repository.forget(std::slice::from_ref(&saved.id)).unwrap_err();
    assert_eq!(error.kind, VaultErrorKind::Unavailable, "{error}");
    let expected = format!("refuses to delete snapshots/{}", saved.id);
    assert!(error.message.contains(&expected), "{error}");
    assert!(error.message.contains("the access key needs the permission s3:DeleteObject"), "{error}");
    assert_eq!(open(&key).unwrap().snapshots().unwrap().len(), 2);
    assert!(repository.check(CheckDepth::Data).unwrap().is_empty());
}

#[test]
fn a_key_without_permissions_says_which() {
    let Some(place) = Place::s3() else { return };
    let key = place.server().only_allow(&["s3:GetObject"]);
    refused(
        place.repositories.create(&with_key(&place, &key)),
        "refuses to list the prefix: the access key needs the permission s3:ListBucket",
    );
}

#[test]
fn a_missing_bucket_is_not_created() {
    let Some(place) = Place::s3() else { return };
    let endpoint = format!("http://{}", place.server().address());
    let address = Address::parse(&format!("s3://no-such-bucket/a?endpoint={endpoint}")).unwrap();
    let spec = RepositorySpec { address, ..place.spec() };
    let message = "the bucket does not exist; create it, or check its name and endpoint";
    refused(place.repositories.create(&spec), message);
    refused(place.repositories.open(&spec, CancellationToken::new()), message);
}

#[test]
fn a_prefix_with_other_objects_has_no_room_for_a_repository() {
    let Some(place) = Place::s3() else { return };
    let server = place.server();
    // Next to the prefix, and empty objects that stand for folders.
    for (name, content) in [("some/where2/a", "b"), ("some/where/", ""), ("some/where/data/", "")] {
        server.write(name, content.as_bytes());
    }
    drop(place.create());
    place.open(&CancellationToken::new()).save(&head(), files(vec![file("a", "1")])).unwrap();
    server.delete("some/where/config");
    for (name, _) in server.objects("some/where/").into_iter().filter(|(name, _)| !name.contains("/keys/")) {
        server.delete(&name);
    }
    server.write("some/where/notes.txt", b"mine");
    let error = place.repositories.create(&place.spec()).err().unwrap();
    assert_eq!(error.kind, VaultErrorKind::Exists);
    assert!(error.message.ends_with("is not empty"), "{error}");
}

#[test]
fn a_prefix_may_have_any_letters() {
    let Some(place) = Place::s3() else { return };
    let address = format!("s3://{BUCKET}/a b/\u{fc}#%20+&=?endpoint=http://{}", place.server().address());
    let spec = RepositorySpec { address: Address::parse(&address).unwrap(), ..place.spec() };
    // Also in what is signed.
    let key =
        place.server().only_allow(&["s3:GetObject", "s3:ListBucket", "s3:PutObject", "s3:DeleteObject"]);
    let spec = RepositorySpec { login: with_key(&place, &key).login, ..spec };
    let repository = place.repositories.create(&spec).unwrap();
    let saved = repository.save(&head(), files(vec![file("a", noise(1, 1_000_000))])).unwrap();
    assert!(repository.check(CheckDepth::Data).unwrap().is_empty());
    repository.forget(std::slice::from_ref(&saved.id)).unwrap();
    assert!(repository.snapshots().unwrap().is_empty());
}

#[test]
fn a_lock_tells_its_age() {
    let Some(place) = Place::s3() else { return };
    let repository = place.create();
    for name in ["5".repeat(64), "6".repeat(64)] {
        place.server().write(&format!("some/where/locks/{name}"), b"encrypted");
        let lock = repository.lock().unwrap().unwrap();
        assert!(lock.name == name || lock.name == "5".repeat(64), "{}", lock.name);
        assert!(lock.since.unwrap() > head().time);
    }
}

#[test]
fn a_server_that_is_gone_is_unavailable() {
    let Some(place) = Place::s3() else { return };
    let repository = place.create();
    let address = place.server().address();
    place.server().stop();
    let open = |stop| place.repositories.open(&place.spec(), stop);
    refused(open(CancellationToken::new()), &format!("cannot connect to {address}"));
    let error = repository.save(&head(), files(vec![file("a", "1")])).unwrap_err();
    assert_eq!(error.kind, VaultErrorKind::Unavailable, "{error}");
    let stopped = CancellationToken::new();
    stopped.cancel();
    assert_eq!(open(stopped).err().unwrap().kind, VaultErrorKind::Cancelled);
}

#[test]
fn what_may_work_later_is_repeated() {
    let Some(place) = Place::s3() else { return };
    let relay = place.runtime().block_on(HttpRelay::to(place.server().address()));
    let spec = through(&place, &format!("http://127.0.0.1:{}", relay.port()));
    drop(place.create());
    let repository = place.repositories.open(&spec, CancellationToken::new()).unwrap();
    let slow = "HTTP/1.1 503 Slow Down\r\ncontent-length: 37\r\nconnection: close\r\n\r\n<Error><Code>SlowDown</Code></Error>\n";
    // The server has the snapshot already when it is sent again.
    relay.mishap("PUT /landreeve-test/some/where/snapshots", Mishap::CutAnswer, 1);
    relay.mishap("PUT /landreeve-test/some/where/data", Mishap::Say(slow.to_owned()), 1);
    relay.mishap("PUT /landreeve-test/some/where/index", Mishap::Refuse, 1);
    let saved = repository.save(&head(), files(vec![file("a", noise(1, 1_000_000))])).unwrap();
    place.assert_intact();
    relay.mishap("POST", Mishap::CutAnswer, 1);
    repository.forget(std::slice::from_ref(&saved.id)).unwrap();
    assert!(place.files("snapshots").is_empty());
    // Not for ever.
    relay.seen();
    relay.mishap("GET", Mishap::Say(slow.to_owned()), usize::MAX);
    let error = repository.snapshots().unwrap_err();
    assert!(error.message.contains("answered 503 (SlowDown) when asked to list snapshots"), "{error}");
    assert_eq!(relay.seen().len(), 4);
}

#[test]
fn an_object_is_never_replaced() {
    let Some(place) = Place::s3() else { return };
    drop(place.create());
    let relay = place.runtime().block_on(HttpRelay::to(place.server().address()));
    let spec = through(&place, &format!("http://127.0.0.1:{}", relay.port()));
    let exists = "HTTP/1.1 412 Precondition Failed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let other = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nother";
    for (answer, message) in [
        (Some(other), "with another content; check the repository, and delete this object if it is damaged"),
        (None, "try again"),
    ] {
        let repository = place.repositories.open(&spec, CancellationToken::new()).unwrap();
        relay.mishap("PUT /landreeve-test/some/where/snapshots/", Mishap::Say(exists.to_owned()), 1);
        if let Some(answer) = answer {
            relay.mishap("GET /landreeve-test/some/where/snapshots/", Mishap::Say(answer.to_owned()), 1);
        }
        let error = repository.save(&head(), files(vec![file("a", "1")])).unwrap_err();
        assert_eq!(error.kind, VaultErrorKind::Unavailable, "{error}");
        assert!(error.message.contains(message), "{error}");
        assert!(place.files("snapshots").is_empty());
    }
}

#[test]
fn a_call_that_hangs_is_cancelled() {
    let Some(place) = Place::s3() else { return };
    drop(place.create());
    let relay = place.runtime().block_on(HttpRelay::to(place.server().address()));
    let spec = through(&place, &format!("http://127.0.0.1:{}", relay.port()));
    let stop = CancellationToken::new();
    let repository = place.repositories.open(&spec, stop.clone()).unwrap();
    relay.seen();
    relay.mishap("GET", Mishap::Hold, usize::MAX);
    let error = std::thread::scope(|scope| {
        let listing = scope.spawn(|| repository.snapshots().unwrap_err());
        while relay.seen().is_empty() {
            std::thread::yield_now();
        }
        stop.cancel();
        listing.join().unwrap()
    });
    assert_eq!(error.kind, VaultErrorKind::Cancelled, "{error}");
}

#[test]
fn a_bucket_in_another_region_says_which() {
    let Some(place) = Place::s3() else { return };
    let relay = place.runtime().block_on(HttpRelay::to(place.server().address()));
    let spec = through(&place, &format!("http://127.0.0.1:{}", relay.port()));
    let moved = "HTTP/1.1 301 Moved\r\nx-amz-bucket-region: eu-west-1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    relay.mishap("GET", Mishap::Say(moved.to_owned()), usize::MAX);
    refused(
        place.repositories.open(&spec, CancellationToken::new()),
        "the bucket is in another region; state ?region=eu-west-1",
    );
}

/// A client of a server without conditional writes, or one during whose first write of a kind of file something else happens.
struct Odd {
    inner: Arc<dyn HttpClient>,
    is_unconditional: bool,
    meanwhile: Mutex<Option<Meanwhile>>,
}

/// A part of the file's name, and what happens.
type Meanwhile = (&'static str, Box<dyn FnOnce() + Send>);

impl HttpClient for Odd {
    fn send(&self, call: HttpCall) -> BoxFuture<'_, Result<HttpAnswer, HttpError>> {
        let is_now = |(part, _): &mut Meanwhile| call.method == "PUT" && call.url.contains(*part);
        let meanwhile = self.meanwhile.lock().unwrap().take_if(is_now);
        if let Some((_, happens)) = meanwhile {
            std::thread::spawn(happens).join().unwrap();
        }
        if self.is_unconditional && call.headers.iter().any(|(name, _)| name == "if-none-match") {
            let body = Box::pin(futures_util::stream::empty());
            return Box::pin(async move { Ok(HttpAnswer { status: 501, headers: Vec::new(), body }) });
        }
        self.inner.send(call)
    }
}

/// The repositories of a place, by such a client.
fn odd(place: &Place, is_unconditional: bool, meanwhile: Option<Meanwhile>) -> Repositories {
    let Remote { http, runtime } = place.repositories.remote.clone().unwrap();
    let odd = Odd { inner: http, is_unconditional, meanwhile: Mutex::new(meanwhile) };
    Repositories { remote: Some(Remote { http: Arc::new(odd), runtime }), ..Repositories::default() }
}

#[test]
fn one_of_two_creations_wins() {
    // Without conditional writes, it is looked for the file just before it is written.
    for (is_unconditional, part) in [(false, "/config"), (true, "/keys/")] {
        let Some(place) = Place::s3() else { return };
        let (repositories, spec) = (place.repositories.clone(), place.spec());
        let other = Box::new(move || drop(repositories.create(&spec).unwrap()));
        let late = odd(&place, is_unconditional, Some((part, other)));
        let message =
            "already has a repository, which something else created meanwhile; attach it with its password";
        // Each makes up a password.
        refused(late.create(&RepositorySpec { password: Secret::new("another"), ..place.spec() }), message);
        // The other's is intact.
        place.open(&CancellationToken::new()).save(&head(), files(vec![file("a", "1")])).unwrap();
        place.assert_intact();
    }
}

#[test]
fn a_server_may_know_no_conditional_writes() {
    let Some(place) = Place::s3() else { return };
    let repositories = odd(&place, true, None);
    let repository = repositories.create(&place.spec()).unwrap();
    let saved = repository.save(&head(), files(vec![file("a", noise(1, 1_000_000))])).unwrap();
    place.assert_intact();
    let stored = repository.file(&saved.id, "a").unwrap();
    assert!(stored.read_at(300_000, 400_000).unwrap() == noise(1, 1_000_000)[300_000..700_000]);
}
