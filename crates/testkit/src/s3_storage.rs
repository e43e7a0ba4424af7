//! A server that speaks Amazon S3's protocol: moto, a program of its own, which keeps everything in memory. It listens on
//! 127.0.0.1 and stops when this is dropped. Where moto is not installed, tests that need it are skipped.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, Once, PoisonError};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Set by `cargo xtask test`: a Python that has moto.
const PYTHON: &str = "LANDREEVE_TEST_MOTO";
/// The bucket that every server has.
pub const BUCKET: &str = "landreeve-test";

pub struct S3Storage {
    server: Mutex<Child>,
    address: SocketAddr,
}

/// An access key and its secret.
#[derive(Debug, Clone)]
pub struct S3Key {
    pub id: String,
    pub secret: String,
}

impl Drop for S3Storage {
    fn drop(&mut self) {
        self.stop();
    }
}

impl S3Storage {
    /// Every key may do everything there. `None` if moto is not installed: the test is skipped.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    pub fn start() -> Option<S3Storage> {
        static TOLD: Once = Once::new();
        let python = std::env::var_os(PYTHON);
        let Some(storage) = S3Storage::run(python.as_deref().unwrap_or(OsStr::new("python3"))) else {
            assert!(python.is_none(), "{PYTHON} does not start moto");
            TOLD.call_once(|| eprintln!("SKIPPED the tests of S3 repositories: moto could not be started"));
            return None;
        };
        storage.expect("PUT", &format!("/{BUCKET}"), "s3", &[]);
        Some(storage)
    }

    fn run(python: &OsStr) -> Option<S3Storage> {
        let mut command = Command::new(python);
        command.args(["-c", include_str!("moto.py")]);
        let mut server =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().ok()?;
        let mut lines = BufReader::new(server.stderr.take()?);
        let mut line = String::new();
        let address = loop {
            line.clear();
            if lines.read_line(&mut line).ok()? == 0 {
                let _ = server.wait();
                return None;
            }
            if let Some((_, address)) = line.trim_end().split_once("Running on http://") {
                break address.parse().unwrap();
            }
        };
        // It stops at a full pipe.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Some(S3Storage { server: Mutex::new(server), address })
    }

    /// Nothing answers any more.
    pub fn stop(&self) {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = server.kill();
        let _ = server.wait();
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on only this key is accepted, and it may do only this: `s3:GetObject`, for example.
    pub fn only_allow(&self, actions: &[&str]) -> S3Key {
        let policy = serde_json::json!({
            "Version": "2012-10-17",
            "Statement": [{ "Effect": "Allow", "Action": actions, "Resource": "*" }],
        });
        self.iam("Action=CreateUser&UserName=backup");
        let key = self.iam("Action=CreateAccessKey&UserName=backup");
        let policy = utf8_percent_encode(&policy.to_string(), NON_ALPHANUMERIC).to_string();
        self.iam(&format!("Action=PutUserPolicy&UserName=backup&PolicyName=backup&PolicyDocument={policy}"));
        self.expect("POST", "/moto-api/reset-auth", "s3", b"0");
        let word = |name| elements(&key, name).next().unwrap();
        S3Key { id: word("AccessKeyId"), secret: word("SecretAccessKey") }
    }

    fn iam(&self, form: &str) -> String {
        let answer = self.expect("POST", "/", "iam", format!("{form}&Version=2010-05-08").as_bytes());
        String::from_utf8(answer).unwrap()
    }

    /// Names and sizes of the objects whose names begin so, in order.
    pub fn objects(&self, prefix: &str) -> Vec<(String, usize)> {
        let answer = self.expect("GET", &format!("/{BUCKET}?list-type=2&prefix={prefix}"), "s3", &[]);
        let text = String::from_utf8(answer).unwrap();
        assert!(text.contains("<IsTruncated>false"), "more than one page");
        let sizes = elements(&text, "Size").map(|size| size.parse().unwrap());
        elements(&text, "Key").zip(sizes).collect()
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        self.expect("GET", &format!("/{BUCKET}/{name}"), "s3", &[])
    }

    pub fn write(&self, name: &str, content: &[u8]) {
        self.expect("PUT", &format!("/{BUCKET}/{name}"), "s3", content);
    }

    pub fn delete(&self, name: &str) {
        self.expect("DELETE", &format!("/{BUCKET}/{name}"), "s3", &[]);
    }

    /// What it answers to a request that succeeds. It checks no signatures, and finds the service in the header.
    fn expect(&self, method: &str, path: &str, service: &str, content: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nAuthorization: AWS4-HMAC-SHA256 \
             Credential=test/20260101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n",
            self.address,
            content.len()
        );
        // With a form's type, a body is not an object's.
        let head = match service {
            "s3" => head.replace("x-www-form-urlencoded", "octet-stream"),
            _ => head,
        };
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(content).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let line = String::from_utf8_lossy(&answer[..end]).lines().next().unwrap().to_owned();
        assert!(line.starts_with("HTTP/1.1 2"), "{method} {path}: {line}");
        answer.split_off(end + 4)
    }
}

/// The texts of all elements with this name.
fn elements<'a>(text: &'a str, name: &str) -> impl Iterator<Item = String> + use<'a> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = text;
    std::iter::from_fn(move || {
        let (_, after) = rest.split_once(&open)?;
        let (inside, behind) = after.split_once(&close)?;
        rest = behind;
        Some(inside.to_owned())
    })
}
