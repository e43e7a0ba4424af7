//! Scheme and host as the client wrote them, for faces that answer with absolute addresses.

use http::request::Parts;
use http::uri::Authority;
use http::{Uri, header::HOST};

use crate::listener::Inbound;

/// The address as it came in, before any prefix was taken off.
pub fn inbound_uri(parts: &Parts) -> &Uri {
    parts.extensions.get::<Inbound>().map_or(&parts.uri, |inbound| &inbound.uri)
}

/// `https://host:port`, or nothing when the client named no host. A proxy in front says which scheme the client used.
pub fn origin(parts: &Parts) -> String {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let uri = inbound_uri(parts);
    let host = header(HOST.as_str()).and_then(|host| host.parse::<Authority>().ok());
    let Some(host) = host.or_else(|| uri.authority().cloned()) else { return String::new() };
    let secure = parts.extensions.get::<Inbound>().is_some_and(|inbound| inbound.secure);
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
    fn the_client_names_the_host_and_a_proxy_the_scheme() {
        assert_eq!(origin_of("/a", &[("host", "h:1")]), "http://h:1");
        assert_eq!(origin_of("/a", &[("host", "h:1"), ("x-forwarded-proto", "https")]), "https://h:1");
        assert_eq!(origin_of("https://h/a", &[]), "https://h");
        assert_eq!(origin_of("/a", &[("host", "h"), ("x-forwarded-proto", "gopher")]), "http://h");
        assert_eq!(origin_of("/a", &[]), "");
    }
}
