//! Scheme and host as the client wrote them, for faces that return absolute URLs.

use std::sync::Arc;

use http::request::Parts;
use http::uri::Authority;
use http::{Uri, header::HOST};
use url::Url;

use crate::listener::Inbound;

/// The URI as received, before any prefix was removed.
pub fn inbound_uri(parts: &Parts) -> &Uri {
    parts.extensions.get::<Inbound>().map_or(&parts.uri, |inbound| &inbound.uri)
}

/// The prefix under which the router is mounted, such as `/clumio`; empty at the root of a listener.
pub fn prefix(parts: &Parts) -> String {
    let whole = inbound_uri(parts).path();
    whole.strip_suffix(parts.uri.path()).unwrap_or(whole).trim_end_matches('/').to_owned()
}

/// `https://host[:port]`: the URL at which clients reach a listener, from its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    origin: Arc<str>,
    secure: bool,
}

impl PublicUrl {
    /// `None` unless the text is `http://` or `https://` with a host and nothing else.
    pub fn parse(text: &str) -> Option<PublicUrl> {
        let url = Url::parse(text).ok()?;
        let nothing_else = url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none();
        (matches!(url.scheme(), "http" | "https") && nothing_else).then(|| PublicUrl {
            origin: url.origin().ascii_serialization().into(),
            secure: url.scheme() == "https",
        })
    }

    pub fn is_secure(&self) -> bool {
        self.secure
    }

    pub fn as_str(&self) -> &str {
        &self.origin
    }
}

/// `https://host:port`, or empty if the client sent no host. The configured public URL takes precedence; without one, a
/// proxy in front of the server says which scheme the client used.
pub fn origin(parts: &Parts) -> String {
    let inbound = parts.extensions.get::<Inbound>();
    if let Some(public) = inbound.and_then(|inbound| inbound.public_url.as_ref()) {
        return public.origin.to_string();
    }
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let uri = inbound_uri(parts);
    let host = header(HOST.as_str()).and_then(|host| host.parse::<Authority>().ok());
    let Some(host) = host.or_else(|| uri.authority().cloned()) else { return String::new() };
    let secure = inbound.is_some_and(|inbound| inbound.secure);
    let ours = if secure { "https" } else { uri.scheme_str().unwrap_or("http") };
    let scheme =
        header("x-forwarded-proto").filter(|scheme| matches!(*scheme, "http" | "https")).unwrap_or(ours);
    format!("{scheme}://{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin_of(uri: &str, headers: &[(&str, &str)]) -> String {
        let request = headers
            .iter()
            .fold(http::Request::get(uri), |request, (name, value)| request.header(*name, *value));
        origin(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn host_comes_from_the_client_and_scheme_from_the_proxy() {
        assert_eq!(origin_of("/a", &[("host", "h:1")]), "http://h:1");
        assert_eq!(origin_of("/a", &[("host", "h:1"), ("x-forwarded-proto", "https")]), "https://h:1");
        assert_eq!(origin_of("https://h/a", &[]), "https://h");
        assert_eq!(origin_of("/a", &[("host", "h"), ("x-forwarded-proto", "gopher")]), "http://h");
        assert_eq!(origin_of("/a", &[]), "");
    }

    #[test]
    fn public_urls_are_a_scheme_and_a_host() {
        let read = |text: &str| PublicUrl::parse(text).map(|url| (url.origin.to_string(), url.is_secure()));
        assert_eq!(read("https://data.example.com"), Some(("https://data.example.com".into(), true)));
        assert_eq!(read("https://h:8443/"), Some(("https://h:8443".into(), true)));
        assert_eq!(read("http://h"), Some(("http://h".into(), false)));
        for wrong in
            ["", "h", "h:1", "ftp://h", "https://", "https://h/path", "https://h?x", "https://u@h", "//h"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
