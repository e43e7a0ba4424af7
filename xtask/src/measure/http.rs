//! A minimal, cheap blocking HTTP/1.1 client over one keep-alive connection.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

/// Longer than the maximum of `wait=`.
const TIMEOUT: Duration = Duration::from_secs(120);
const BUFFER: usize = 256 * 1024;
/// How many bytes to keep of a body that is read only for its length.
const HEAD: usize = 4 * 1024;

pub struct Client {
    address: String,
    authorization: String,
    cookie: String,
    connection: BufReader<Timed>,
}

/// A stream that ends with an error at a given time.
struct Timed {
    stream: TcpStream,
    end: Option<Instant>,
    pause: Duration,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(end) = self.end {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
        }
        if !self.pause.is_zero() {
            std::thread::sleep(self.pause);
        }
        self.stream.read(buffer)
    }
}

/// Whether a request failed because it took too long for the client.
pub fn took_too_long(error: &anyhow::Error) -> bool {
    use io::ErrorKind::{TimedOut, WouldBlock};
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| matches!(cause.kind(), TimedOut | WouldBlock))
}

pub struct Reply {
    pub status: u16,
    pub content_type: String,
    /// The header `Location`, if there is one.
    pub location: String,
    /// The cookie that is set, as `NAME=VALUE`, if there is one.
    pub cookie: String,
    /// The body, or its first few kilobytes.
    pub body: String,
    /// Length of the whole body in bytes.
    pub length: u64,
}

impl Reply {
    pub fn expect(self, status: u16) -> Result<Self> {
        ensure!(self.status == status, "{} instead of {status}: {}", self.status, self.body);
        Ok(self)
    }

    /// The first scalar member with this name in the JSON body.
    pub fn field(&self, name: &str) -> Result<&str> {
        field(&self.body, name).with_context(|| format!("no `{name}` in {}", self.body))
    }
}

/// How much of a body to keep.
#[derive(Clone, Copy, PartialEq)]
enum Keep {
    All,
    Head,
}

impl Client {
    /// `address` is `http://HOST:PORT`; `authorization` is sent with each request if it is not empty.
    pub fn connect(address: &str, authorization: &str) -> Result<Self> {
        let place = address.strip_prefix("http://").context("not an http:// address")?;
        let stream = TcpStream::connect(place).with_context(|| place.to_owned())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self {
            address: place.to_owned(),
            authorization: authorization.to_owned(),
            cookie: String::new(),
            connection: BufReader::with_capacity(BUFFER, Timed { stream, end: None, pause: Duration::ZERO }),
        })
    }

    /// Sends a cookie, as `NAME=VALUE`, with each request.
    pub fn with_cookie(self, cookie: &str) -> Self {
        Self { cookie: cookie.to_owned(), ..self }
    }

    /// Requests fail at this time, even in the middle of a response, and the connection cannot be used after that.
    pub fn until(&mut self, end: Instant) {
        self.connection.get_mut().end = Some(end);
    }

    /// Pauses after every quarter of a megabyte that it receives.
    pub fn slow_down(&mut self, pause: Duration) {
        self.connection.get_mut().pause = pause;
    }

    pub fn get(&mut self, path: &str) -> Result<Reply> {
        self.send("GET", path, None, "", Keep::All)
    }

    pub fn post(&mut self, path: &str, body: &str) -> Result<Reply> {
        self.send("POST", path, Some(body), "", Keep::All)
    }

    /// Reads to the last byte but keeps only the start of the body; uses different credentials, and accepts only this
    /// media type if it is not empty.
    pub fn drain(&mut self, path: &str, authorization: &str, accept: &str) -> Result<Reply> {
        let usual = std::mem::replace(&mut self.authorization, authorization.to_owned());
        let reply = self.send("GET", path, None, accept, Keep::Head);
        self.authorization = usual;
        reply
    }

    fn send(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&str>,
        accept: &str,
        keep: Keep,
    ) -> Result<Reply> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.address);
        if !self.authorization.is_empty() {
            request.push_str(&format!("Authorization: {}\r\n", self.authorization));
        }
        if !self.cookie.is_empty() {
            request.push_str(&format!("Cookie: {}\r\n", self.cookie));
        }
        if !accept.is_empty() {
            request.push_str(&format!("Accept: {accept}\r\n"));
        }
        if let Some(body) = body {
            let length = body.len();
            request.push_str(&format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"));
        }
        request.push_str("\r\n");
        request.push_str(body.unwrap_or_default());
        self.connection.get_mut().stream.write_all(request.as_bytes())?;
        read_reply(&mut self.connection, keep).with_context(|| format!("{method} {path}"))
    }
}

fn read_reply(input: &mut impl BufRead, keep: Keep) -> Result<Reply> {
    let first = line(input)?;
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.with_context(|| format!("not HTTP: {first}"))?;
    let (mut length, mut chunked) = (None, false);
    let (mut content_type, mut location, mut cookie) = (String::new(), String::new(), String::new());
    loop {
        let header = line(input)?;
        let Some((name, value)) = header.split_once(':') else {
            ensure!(header.is_empty(), "not a header: {header}");
            break;
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.parse()?),
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "content-type" => content_type = value.to_owned(),
            "location" => location = value.to_owned(),
            "set-cookie" => cookie = value.split(';').next().unwrap_or_default().to_owned(),
            _ => {}
        }
    }
    let mut body = Body { bytes: Vec::new(), length: 0, keep };
    if chunked {
        body.chunks(input)?;
    } else if status != 204 {
        body.take(input, length.context("neither Content-Length nor chunks")?)?;
    }
    let Body { bytes, length, .. } = body;
    let body = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Reply { status, content_type, location, cookie, body, length })
}

/// Reads a line without the newline.
fn line(input: &mut impl BufRead) -> Result<String> {
    let mut text = String::new();
    input.read_line(&mut text)?;
    if !text.ends_with('\n') {
        bail!("the connection closed in the middle of a response");
    }
    text.truncate(text.trim_end().len());
    Ok(text)
}

struct Body {
    bytes: Vec<u8>,
    length: u64,
    keep: Keep,
}

impl Body {
    fn chunks(&mut self, input: &mut impl BufRead) -> Result<()> {
        loop {
            let head = line(input)?;
            let digits = head.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(digits, 16).with_context(|| format!("not a chunk: {head}"))?;
            if size == 0 {
                while !line(input)?.is_empty() {}
                return Ok(());
            }
            self.take(input, size)?;
            ensure!(line(input)?.is_empty(), "a chunk is longer than announced");
        }
    }

    fn take(&mut self, input: &mut impl BufRead, size: u64) -> Result<()> {
        self.length += size;
        if self.keep == Keep::All {
            let read = input.by_ref().take(size).read_to_end(&mut self.bytes)?;
            ensure!(read as u64 == size, "the connection closed in the middle of a body");
            return Ok(());
        }
        let mut left = usize::try_from(size)?;
        while left > 0 {
            let available = input.fill_buf()?;
            ensure!(!available.is_empty(), "the connection closed in the middle of a body");
            let used = available.len().min(left);
            let wanted = used.min(HEAD.saturating_sub(self.bytes.len()));
            self.bytes.extend_from_slice(&available[..wanted]);
            input.consume(used);
            left -= used;
        }
        Ok(())
    }
}

/// A JSON string.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            // Writing to a String cannot fail.
            '\0'..' ' => _ = write!(quoted, "\\u{:04x}", u32::from(character)),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// The first string with this name in a JSON text. Of the escapes only those of quotes and backslashes are decoded.
pub fn text(json: &str, name: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{name}\""))?;
    let mut characters = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?.chars();
    let mut found = String::new();
    loop {
        match characters.next()? {
            '"' => return Some(found),
            '\\' => match characters.next()? {
                escaped @ ('"' | '\\') => found.push(escaped),
                other => found.extend(['\\', other]),
            },
            other => found.push(other),
        }
    }
}

/// The first value with this name in a JSON text, without quotes. Values here contain no escapes.
fn field<'t>(json: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = json.split_once(&format!("\"{name}\""))?;
    let value = rest.trim_start().strip_prefix(':')?.trim_start();
    match value.strip_prefix('"') {
        Some(text) => text.split('"').next(),
        None => value.split([',', '}', ']', ' ', '\n']).next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(text: &str, keep: Keep) -> Result<Reply> {
        read_reply(&mut text.as_bytes(), keep)
    }

    #[test]
    fn reads_whole_bodies() {
        let counted = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nContent-Type: a/b\r\nSet-Cookie: S=1; Path=/\r\n\r\nabcHTTP";
        let read = reply(counted, Keep::All).unwrap();
        assert_eq!(read.cookie, "S=1");
        assert_eq!((read.status, read.body.as_str(), read.content_type.as_str()), (200, "abc", "a/b"));
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na;x=y\r\n0123456789\r\n0\r\n\r\n";
        let read = reply(chunked, Keep::All).unwrap();
        assert_eq!((read.body.as_str(), read.length), ("abc0123456789", 13));
        assert_eq!(reply("HTTP/1.1 204 No Content\r\n\r\n", Keep::All).unwrap().length, 0);
    }

    #[test]
    fn incomplete_bodies_are_errors() {
        assert!(reply("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", Keep::All).is_err());
        assert!(reply("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", Keep::Head).is_err());
        let cut = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
        assert!(reply(cut, Keep::All).is_err());
    }

    #[test]
    fn keeps_the_start_of_long_bodies() {
        let body = "begin".to_owned() + &"x".repeat(3 * HEAD);
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let read = reply(&text, Keep::Head).unwrap();
        assert_eq!((read.body.len(), read.length), (HEAD, body.len() as u64));
        assert!(read.body.starts_with("beginx"));
    }

    #[test]
    fn finds_fields() {
        let json = r#"{"data":{"id":"a-b","type":"x","attributes":{"n": 12,"t":true,"e":null}}}"#;
        assert_eq!(field(json, "id"), Some("a-b"));
        assert_eq!(field(json, "n"), Some("12"));
        assert_eq!(field(json, "t"), Some("true"));
        assert_eq!(field(json, "e"), Some("null"));
        assert_eq!(field(json, "no"), None);
    }

    #[test]
    fn quotes_and_reads_text() {
        assert_eq!(quoted("a\"b\\c\nd"), r#""a\"b\\c\u000ad""#);
        let json = r#"{"code":"x", "message": "no \"a\\b\" here\n", "next": null}"#;
        assert_eq!(text(json, "message").unwrap(), r#"no "a\b" here\n"#);
        assert_eq!(text(json, "next"), None);
        assert_eq!(text(r#"{"a":"cut"#, "a"), None);
    }
}
