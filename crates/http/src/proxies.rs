//! Which address a request comes from when proxies are in front of the server.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, HeaderName};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

type Trusts = dyn Fn(IpAddr) -> bool + Send + Sync;

/// The proxies whose `X-Forwarded-For` is read. The default: none.
#[derive(Clone, Default)]
pub struct Proxies(Option<Arc<Trusts>>);

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Proxies(some)" } else { "Proxies(none)" })
    }
}

impl Proxies {
    pub fn new(trusts: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Proxies {
        Proxies(Some(Arc::new(trusts)))
    }

    /// The address of the client: the peer's, or, if the peer is a trusted proxy, the right-most address in its header that
    /// is not one. Clients can write whatever they like to the left of it.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let Some(trusts) = self.0.as_ref().filter(|trusts| trusts(peer)) else { return peer };
        let values = headers.get_all(X_FORWARDED_FOR).iter().map(|value| value.to_str().unwrap_or_default());
        let named: Vec<&str> = values.flat_map(|value| value.split(',')).collect();
        let mut client = peer;
        for text in named.into_iter().rev() {
            // What cannot be read ends the chain: nothing before it was written by a proxy that is known.
            let Some(address) = address(text.trim()) else { break };
            client = address;
            if !trusts(client) {
                break;
            }
        }
        client
    }
}

/// With or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse().ok().map(|socket: SocketAddr| socket.ip());
    bare.parse().ok().or_else(with_port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let proxies = Proxies::new(|address| address.is_loopback() || address.to_string().starts_with("10."));
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_right_most_untrusted_address_is_the_client() {
        for (peer, forwarded, expected) in [
            ("127.0.0.1", &[][..], "127.0.0.1"),
            ("127.0.0.1", &["192.0.2.1"], "192.0.2.1"),
            ("127.0.0.1", &["203.0.113.9, 192.0.2.1"], "192.0.2.1"),
            ("127.0.0.1", &["203.0.113.9", "192.0.2.1, 10.1.1.1"], "192.0.2.1"),
            ("127.0.0.1", &["127.0.0.1, 192.0.2.1 , 10.1.1.1"], "192.0.2.1"),
            ("127.0.0.1", &["10.0.0.7"], "10.0.0.7"),
            ("127.0.0.1", &["192.0.2.1:4711"], "192.0.2.1"),
            ("::1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("::1", &["[2001:db8::1]"], "2001:db8::1"),
            ("::1", &["2001:db8::1"], "2001:db8::1"),
            ("127.0.0.1", &["192.0.2.1, unknown"], "127.0.0.1"),
            ("127.0.0.1", &["192.0.2.1, unknown, 10.1.1.1"], "10.1.1.1"),
            ("127.0.0.1", &[""], "127.0.0.1"),
            ("127.0.0.1", &["\u{fc}"], "127.0.0.1"),
            // A peer that is not trusted cannot say who it is.
            ("192.0.2.66", &["127.0.0.1"], "192.0.2.66"),
            ("192.0.2.66", &["10.1.1.1, 192.0.2.1"], "192.0.2.66"),
        ] {
            assert_eq!(client(peer, forwarded), expected, "{peer} {forwarded:?}");
        }
        let headers = HeaderMap::from_iter([(X_FORWARDED_FOR, HeaderValue::from_static("192.0.2.1"))]);
        let peer: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(Proxies::default().client(peer, &headers), peer);
    }
}
