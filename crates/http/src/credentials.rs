//! Parses the credential of a request. Whether it is valid is checked elsewhere.
//!
//! This module knows no dialect's scheme names, and must never log or print a secret.

use ::cookie::{Cookie, SameSite};
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};
use landreeve_core::Secret;

/// Limits, so that later hashing and comparing is limited too.
pub const MAX_SCHEME: usize = 32;
pub const MAX_NAME: usize = 256;
pub const MAX_PASSWORD: usize = 1_024;
/// The longest real token is a Kerberos ticket with many groups. (Larger than the default of `[limits] header_bytes`.)
pub const MAX_TOKEN: usize = 64 * 1_024;
pub const MAX_COOKIE: usize = 4 * 1_024;

/// Some clients leave out the padding, or get the last bits wrong.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The `Authorization` header of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// No header, or an empty one.
    None,
    Basic {
        name: String,
        password: Secret,
    },
    /// Any other scheme, its name in lower case.
    Scheme {
        scheme: String,
        token: Secret,
    },
    /// A token without a scheme, which one dialect has; it is malformed in all others.
    Bare(Secret),
    /// Not a valid credential: several headers, no token, invalid base64, too long.
    Malformed,
}

impl Credential {
    pub fn from_headers(headers: &HeaderMap) -> Credential {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        match (values.next(), values.next()) {
            (None, _) => Credential::None,
            (Some(value), None) => Credential::parse(value.as_bytes()),
            (Some(_), Some(_)) => Credential::Malformed,
        }
    }

    pub fn parse(value: &[u8]) -> Credential {
        let value = value.trim_ascii();
        if value.is_empty() {
            return Credential::None;
        }
        parse(value).unwrap_or(Credential::Malformed)
    }
}

/// Why a credential does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwanted {
    /// There is no credential.
    Missing,
    /// It has another scheme or is malformed; with a message for the caller.
    Wrong(&'static str),
}

const UNREADABLE: Unwanted = Unwanted::Wrong("the Authorization header cannot be read");

impl Credential {
    /// Name and password, for dialects that use Basic.
    pub fn basic(self) -> Result<(String, Secret), Unwanted> {
        match self {
            Credential::Basic { name, password } => Ok((name, password)),
            Credential::None => Err(Unwanted::Missing),
            Credential::Scheme { .. } => Err(Unwanted::Wrong("the scheme must be Basic")),
            Credential::Bare(_) | Credential::Malformed => Err(UNREADABLE),
        }
    }

    /// The token, for dialects that use Bearer.
    pub fn bearer(self) -> Result<Secret, Unwanted> {
        match self {
            Credential::Scheme { scheme, token } if scheme == "bearer" => Ok(token),
            Credential::None => Err(Unwanted::Missing),
            Credential::Basic { .. } | Credential::Scheme { .. } => {
                Err(Unwanted::Wrong("the scheme must be Bearer"))
            }
            Credential::Bare(_) | Credential::Malformed => Err(UNREADABLE),
        }
    }
}

impl Unwanted {
    /// `None` if there was no credential.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Unwanted::Missing => None,
            Unwanted::Wrong(reason) => Some(reason),
        }
    }
}

/// The bytes of a token in base64, which may lack its padding.
pub fn from_base64(token: &str) -> Option<Vec<u8>> {
    LENIENT.decode(token).ok()
}

/// The text of a token for a header.
pub fn to_base64(token: &[u8]) -> String {
    LENIENT.encode(token)
}

fn parse(value: &[u8]) -> Option<Credential> {
    let Some(end) = value.iter().position(u8::is_ascii_whitespace) else { return bare(value) };
    let (scheme, token) = value.split_at(end);
    let token = token.trim_ascii();
    let scheme = std::str::from_utf8(scheme).ok()?;
    let scheme_ok = scheme.len() <= MAX_SCHEME && scheme.bytes().all(|byte| byte.is_ascii_graphic());
    if !scheme_ok || token.is_empty() || token.len() > MAX_TOKEN {
        return None;
    }
    if scheme.eq_ignore_ascii_case("basic") {
        return basic(token);
    }
    let printable = token.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    let token = std::str::from_utf8(token).ok().filter(|_| printable)?;
    Some(Credential::Scheme { scheme: scheme.to_ascii_lowercase(), token: Secret::new(token) })
}

/// A single word. The name of a scheme alone is nothing.
fn bare(token: &[u8]) -> Option<Credential> {
    let valid = token.len() <= MAX_TOKEN && token.iter().all(u8::is_ascii_graphic);
    let token = std::str::from_utf8(token).ok().filter(|_| valid)?;
    let scheme = ["basic", "bearer", "negotiate"].iter().any(|scheme| token.eq_ignore_ascii_case(scheme));
    (!scheme).then(|| Credential::Bare(Secret::new(token)))
}

fn basic(token: &[u8]) -> Option<Credential> {
    let decoded = LENIENT.decode(token).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (name, rest) = decoded.split_at(colon);
    let password = rest.get(1..)?;
    if name.len() > MAX_NAME || password.len() > MAX_PASSWORD {
        return None;
    }
    // Decode both halves the same way, because a client uses one character set.
    let (name, password) = match (std::str::from_utf8(name), std::str::from_utf8(password)) {
        (Ok(name), Ok(password)) => (name.to_owned(), password.to_owned()),
        _ => (latin1(name), latin1(password)),
    };
    if name.chars().any(char::is_control) {
        return None;
    }
    Some(Credential::Basic { name, password: Secret::new(password) })
}

/// Older clients send Latin-1, whose bytes are the first 256 code points.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// A cookie's value. If several have the name, the first counts, because the more specific path comes first.
pub fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = lines.flat_map(Cookie::split_parse).flatten();
    let found = cookies.find(|cookie| cookie.name() == name && cookie.value().len() <= MAX_COOKIE)?;
    Some(found.value_trimmed().to_owned())
}

/// A `Set-Cookie` header that opens a session which scripts and other sites cannot use. Without a secret it ends it.
pub fn session_cookie(name: &'static str, secret: Option<String>, secure: bool) -> String {
    let ends = secret.is_none();
    let mut cookie = Cookie::new(name, secret.unwrap_or_default());
    cookie.set_path("/");
    cookie.set_http_only(true);
    cookie.set_same_site(SameSite::Strict);
    if secure {
        cookie.set_secure(true);
    }
    if ends {
        cookie.make_removal();
    }
    cookie.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn basic_of(name: &str, password: &str) -> Credential {
        Credential::Basic { name: name.into(), password: Secret::new(password) }
    }

    fn scheme_of(scheme: &str, token: &str) -> Credential {
        Credential::Scheme { scheme: scheme.into(), token: Secret::new(token) }
    }

    #[test]
    fn parses_every_form_that_clients_send() {
        let bare = |token: &str| Credential::Bare(Secret::new(token));
        let cases: [(&[u8], Credential); 21] = [
            (b"", Credential::None),
            (b"   ", Credential::None),
            (b"Basic YWRtaW46cGFzczp3b3Jk", basic_of("admin", "pass:word")),
            (b"  basic   YWRtaW46  ", basic_of("admin", "")),
            (b"BASIC YTpi", basic_of("a", "b")),
            (b"Basic YTpiYw", basic_of("a", "bc")),
            (b"Basic YTpiYw==", basic_of("a", "bc")),
            (b"Basic YTr8", basic_of("a", "\u{fc}")),
            (b"Basic YTrDvA==", basic_of("a", "\u{fc}")),
            (b"Basic bm9jb2xvbg==", Credential::Malformed),
            (b"Basic !!!!", Credential::Malformed),
            (b"Basic", Credential::Malformed),
            (b"Bearer  abc.def ", scheme_of("bearer", "abc.def")),
            (b"Api\tkey", scheme_of("api", "key")),
            (b"Bearer a\xffb", Credential::Malformed),
            (b"bearer", Credential::Malformed),
            (b"Negotiate", Credential::Malformed),
            (b"Negotiate YII=", scheme_of("negotiate", "YII=")),
            (b" YIIC9QYGKwYBBQUC== ", bare("YIIC9QYGKwYBBQUC==")),
            (b"!!!!", bare("!!!!")),
            (b"a\xffb", Credential::Malformed),
        ];
        for (text, expected) in cases {
            assert_eq!(Credential::parse(text), expected, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn unwanted_credentials_have_a_reason() {
        let parse = |text: &str| Credential::parse(text.as_bytes());
        assert_eq!(parse("Basic YTpi").basic(), Ok(("a".to_owned(), Secret::new("b"))));
        assert_eq!(parse("Bearer t").bearer(), Ok(Secret::new("t")));
        for (wrong, basic, bearer) in [
            ("", None, None),
            ("Bearer t", Some("the scheme must be Basic"), None),
            ("Basic YTpi", None, Some("the scheme must be Bearer")),
            ("Api t", Some("the scheme must be Basic"), Some("the scheme must be Bearer")),
            (
                "Bearer",
                Some("the Authorization header cannot be read"),
                Some("the Authorization header cannot be read"),
            ),
            (
                "dG9rZW4=",
                Some("the Authorization header cannot be read"),
                Some("the Authorization header cannot be read"),
            ),
        ] {
            assert_eq!(parse(wrong).basic().err().and_then(Unwanted::reason), basic, "{wrong}");
            assert_eq!(parse(wrong).bearer().err().and_then(Unwanted::reason), bearer, "{wrong}");
        }
    }

    #[test]
    fn several_headers_and_long_ones_are_malformed() {
        let mut headers = HeaderMap::new();
        assert_eq!(Credential::from_headers(&headers), Credential::None);
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        assert_eq!(Credential::from_headers(&headers), scheme_of("bearer", "a"));
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        assert_eq!(Credential::from_headers(&headers), Credential::Malformed);
        for scheme in ["Bearer ", ""] {
            let long = format!("{scheme}{}", "x".repeat(MAX_TOKEN + 1));
            assert_eq!(Credential::parse(long.as_bytes()), Credential::Malformed);
        }
    }

    #[test]
    fn debug_output_contains_no_secret() {
        let printed = format!("{:?}", Credential::parse(b"Basic YWRtaW46aHVudGVyMg=="));
        assert!(printed.contains("admin") && !printed.contains("hunter2"));
        let printed = format!("{:?}", Credential::parse(b"YWRtaW46aHVudGVyMg=="));
        assert!(!printed.contains("YWRt"), "{printed}");
    }

    #[test]
    fn tokens_are_base64_with_or_without_padding() {
        for (text, bytes) in
            [("YII=", Some(&b"\x60\x82"[..])), ("YII", Some(&b"\x60\x82"[..])), ("", Some(&b""[..]))]
        {
            assert_eq!(from_base64(text).as_deref(), bytes, "{text}");
        }
        for wrong in ["!!!!", "YII=YII=", "Y-_I", "Y\nII"] {
            assert_eq!(from_base64(wrong), None, "{wrong}");
        }
        assert_eq!(to_base64(b"\x60\x82"), "YII=");
    }

    #[test]
    fn finds_cookies() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; JSESSIONID=\"abc\";b"));
        headers.append(COOKIE, HeaderValue::from_static("c=3=4; JSESSIONID=later"));
        assert_eq!(cookie(&headers, "JSESSIONID").as_deref(), Some("abc"));
        assert_eq!(cookie(&headers, "c").as_deref(), Some("3=4"));
        assert_eq!(cookie(&headers, "b"), None);
        assert_eq!(cookie(&headers, "ESSIONID"), None);
    }

    proptest! {
        #[test]
        fn never_panics(value in proptest::collection::vec(any::<u8>(), 0..200), basic in any::<bool>()) {
            let mut text = if basic { b"Basic ".to_vec() } else { Vec::new() };
            text.extend(value);
            let _ = Credential::parse(&text);
        }

        #[test]
        fn parse_reverses_encoding(name in "[^:\\p{Cc}]{0,40}", password in "\\PC{0,60}") {
            let token = LENIENT.encode(format!("{name}:{password}"));
            let read = Credential::parse(format!("Basic {token}").as_bytes());
            prop_assert_eq!(read, basic_of(&name, &password));
        }
    }
}
