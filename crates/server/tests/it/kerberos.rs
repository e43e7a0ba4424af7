//! Single sign-on with a real KDC, which `cargo xtask test` starts, and with curl as the client.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::support::{PROGRAM, Server, pause, said};

const SKIPPED: &str = "skipped: LANDREEVE_TEST_KRB5_CONFIG is not set: run `cargo xtask test`";
const ENVIRONMENTS: &str = "/solution-manager/environments";
const LOGIN: &str = "/solution-manager/login";
const SINGLE_SIGN_ON: &str = "/solution-manager/loginSingleSignOn";

/// The realm EXAMPLE.COM, and a folder for what a test creates.
struct Realm {
    /// With the keytabs next to it.
    config: PathBuf,
    folder: tempfile::TempDir,
}

/// What curl printed.
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn challenges(&self) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(name, _)| name.eq_ignore_ascii_case("www-authenticate"))
            .map(|(_, value)| value)
            .collect()
    }

    #[track_caller]
    fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.body);
        serde_json::from_str(&self.body).unwrap()
    }

    /// The one answer to every ticket that is not accepted.
    #[track_caller]
    fn refused(&self) {
        let message = "the Kerberos ticket is not accepted; it may have expired or been used before";
        assert_eq!(self.expect(401)["message"], message);
        assert_eq!(self.challenges(), ["Negotiate", "Basic realm=\"Solution Manager\""]);
    }
}

impl Realm {
    fn find() -> Option<Realm> {
        let config = PathBuf::from(std::env::var_os("LANDREEVE_TEST_KRB5_CONFIG")?);
        Some(Realm { config, folder: tempfile::tempdir().unwrap() })
    }

    fn server(&self, realms: &str) -> Server {
        self.server_with(realms, &self.config)
    }

    /// A server that accepts these realms, with this configuration of Kerberos. Its users are alice and bob, who is disabled.
    fn server_with(&self, realms: &str, krb5_conf: &Path) -> Server {
        let server = self.on(&self.folder.path().join("data"), realms, krb5_conf);
        for user in ["alice", "bob"] {
            server.say(&["user", "create", user, "--role", "developer"]);
        }
        server.say(&["user", "disable", "bob"]);
        server
    }

    fn on(&self, data_dir: &Path, realms: &str, krb5_conf: &Path) -> Server {
        let keytab = self.config.with_file_name("service.keytab");
        let text = format!("[kerberos]\nkeytab = {keytab:?}\nrealms = {realms}\n");
        let file = self.folder.path().join("landreeve.toml");
        std::fs::write(&file, text).unwrap();
        Server::with_variables(data_dir, &["--config", file.to_str().unwrap()], &[("KRB5_CONFIG", krb5_conf)])
    }

    /// Gets a ticket for a user and returns the file with it.
    fn ticket(&self, user: &str, lifetime: &str) -> PathBuf {
        let cache = self.folder.path().join(user.replace('/', "_"));
        let mut kinit = Command::new("kinit");
        kinit.env("KRB5_CONFIG", &self.config).args(["-l", lifetime, "-k", "-t"]);
        kinit.arg(self.config.with_file_name("users.keytab")).arg("-c").arg(&cache).arg(user);
        said(&kinit.output().unwrap());
        cache
    }

    fn curl(&self, cache: &Path) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-i", "--max-time", "60", "--negotiate", "-u", ":"]);
        curl.env("KRB5_CONFIG", &self.config).env("KRB5CCNAME", cache);
        curl
    }

    /// A request of curl with a ticket.
    fn get(&self, server: &Server, path: &str, cache: &Path) -> Reply {
        reply(&self.curl(cache).arg(url(server, path)).output().unwrap())
    }

    /// The token that curl would send, which no server has seen.
    fn token(&self, cache: &Path) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
        let mut curl = self.curl(cache);
        curl.args(["--ipv4", &url]).stdout(std::process::Stdio::null());
        let mut curl = curl.spawn().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let (mut head, mut part) = (Vec::new(), [0_u8; 4_096]);
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            let read = stream.read(&mut part).unwrap();
            assert!(read > 0, "curl closed the connection");
            head.extend(&part[..read]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        assert!(curl.wait().unwrap().success());
        let head = String::from_utf8(head).unwrap();
        let token = head.lines().find_map(|line| line.strip_prefix("Authorization: Negotiate "));
        token.unwrap_or_else(|| panic!("curl has no token: {head}")).to_owned()
    }
}

/// By the name in the service's key.
fn url(server: &Server, path: &str) -> String {
    format!("{}{path}", server.address.replace("127.0.0.1", "localhost"))
}

/// A request with this header.
fn with(server: &Server, path: &str, authorization: &str) -> Reply {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-i", "--max-time", "60", "-H", &format!("Authorization: {authorization}")]);
    reply(&curl.arg(url(server, path)).output().unwrap())
}

fn reply(output: &Output) -> Reply {
    let text = said(output).replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

#[test]
fn a_ticket_signs_in() {
    let Some(realm) = Realm::find() else {
        eprintln!("{SKIPPED}");
        return;
    };
    let server = realm.server(r#"{ "EXAMPLE.COM" = "" }"#);
    let alice = realm.ticket("alice", "1h");
    for path in [LOGIN, SINGLE_SIGN_ON] {
        let reply = realm.get(&server, path, &alice);
        assert_eq!(reply.expect(200)["userName"], "alice");
        assert!(reply.challenges()[0].starts_with("Negotiate "), "{}", reply.head);
        assert!(reply.head.contains("JSESSIONID="), "{}", reply.head);
    }
    // Without a session too.
    let reply = realm.get(&server, ENVIRONMENTS, &alice);
    assert_eq!(reply.expect(200), serde_json::json!([]));
    // The token alone, as older clients send it.
    let reply = with(&server, SINGLE_SIGN_ON, &realm.token(&alice));
    assert_eq!(reply.expect(200)["userName"], "alice");
}

#[test]
fn a_ticket_counts_once_even_after_a_restart() {
    let Some(realm) = Realm::find() else {
        eprintln!("{SKIPPED}");
        return;
    };
    let realms = r#"{ "EXAMPLE.COM" = "" }"#;
    let mut server = realm.server(realms);
    let token = realm.token(&realm.ticket("alice", "1h"));
    let negotiate = format!("Negotiate {token}");
    with(&server, LOGIN, &negotiate).expect(200);
    for authorization in [&negotiate, &token] {
        with(&server, LOGIN, authorization).refused();
    }
    server.kill();
    let server = realm.on(&server.data_dir, realms, &realm.config);
    with(&server, LOGIN, &negotiate).refused();
}

#[test]
fn other_tickets_are_refused() {
    let Some(realm) = Realm::find() else {
        eprintln!("{SKIPPED}");
        return;
    };
    let server = realm.server(r#"{ "EXAMPLE.COM" = "" }"#);
    // A disabled user, one that does not exist here, and a name that is not a user's.
    for user in ["bob", "carol", "other/admin"] {
        let token = realm.token(&realm.ticket(user, "1h"));
        with(&server, LOGIN, &format!("Negotiate {token}")).refused();
    }
    // NTLM, something else in base64, and half a ticket.
    let token = realm.token(&realm.ticket("alice", "1h"));
    for wrong in ["TlRMTVNTUAABAAAAB4IIAA==", "Z2FyYmFnZQ==", &token[..token.len() / 8 * 4]] {
        with(&server, LOGIN, &format!("Negotiate {wrong}")).refused();
        with(&server, SINGLE_SIGN_ON, wrong).refused();
    }
    let reply = with(&server, LOGIN, "Negotiate !!!");
    assert_eq!(reply.expect(401)["message"], "the token in the Authorization header is not base64");
    // The ticket of the parts is still good.
    with(&server, LOGIN, &format!("Negotiate {token}")).expect(200);
}

#[test]
fn realms_that_are_not_listed_are_refused() {
    let Some(realm) = Realm::find() else {
        eprintln!("{SKIPPED}");
        return;
    };
    let server = realm.server(r#"{ "OTHER.EXAMPLE.COM" = "" }"#);
    let token = realm.token(&realm.ticket("alice", "1h"));
    with(&server, LOGIN, &format!("Negotiate {token}")).refused();
}

#[test]
fn expired_tickets_are_refused() {
    let Some(realm) = Realm::find() else {
        eprintln!("{SKIPPED}");
        return;
    };
    // By default, clocks may differ by five minutes.
    let strict = realm.folder.path().join("krb5.conf");
    let text = std::fs::read_to_string(&realm.config).unwrap();
    let changed = text.replace("[libdefaults]\n", "[libdefaults]\nclockskew = 4\n");
    assert_ne!(changed, text);
    std::fs::write(&strict, changed).unwrap();
    let server = realm.server_with(r#"{ "EXAMPLE.COM" = "" }"#, &strict);
    let alice = realm.ticket("alice", "4s");
    let (first, second) = (realm.token(&alice), realm.token(&alice));
    with(&server, LOGIN, &format!("Negotiate {first}")).expect(200);
    pause(Duration::from_secs(10));
    with(&server, LOGIN, &format!("Negotiate {second}")).refused();
}

#[test]
fn a_server_without_keys_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("landreeve.toml");
    let text = "[kerberos]\nkeytab = \"/nonexistent/keytab\"\nrealms = { \"EXAMPLE.COM\" = \"\" }\n";
    std::fs::write(&file, text).unwrap();
    let mut serve = Command::new(PROGRAM);
    serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path().join("data"));
    let output = serve.arg("--config").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Without the library it says that.
    assert!(!output.status.success() && said.contains("[kerberos] keytab"), "{said}");
}
