//! TLS listeners. The certificates are fixtures, valid for a hundred years, so that the tests need no tool.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use landreeve_http::{Limits, TlsFiles};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::Server;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Sends a request as a client that trusts only `certificate`; returns the response and the negotiated protocol.
async fn ask(
    server: &Server,
    certificate: &str,
    alpn: &[&[u8]],
) -> std::io::Result<(String, Option<Vec<u8>>)> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(fixture(certificate)).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let socket = TcpStream::connect(server.address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
    let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    if protocol.as_deref() == Some(b"h2") {
        return Ok((String::new(), protocol));
    }
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok((answer, protocol))
}

#[tokio::test]
async fn serves_tls_and_reloads_the_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let files = TlsFiles { certificate: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
    let install = |name: &str| {
        std::fs::copy(fixture(&format!("{name}.pem")), &files.certificate).unwrap();
        std::fs::copy(fixture(&format!("{name}.key")), &files.key).unwrap();
    };
    install("one");
    let router = Router::new().route("/", get(|| async { "sealed" }));
    let server = Server::start_with(Limits::default(), router, Some(files.clone())).await;

    let (answer, protocol) = ask(&server, "one.pem", &[b"http/1.1"]).await.unwrap();
    assert!(answer.ends_with("sealed") && protocol.as_deref() == Some(b"http/1.1"), "{answer}");
    let (_, protocol) = ask(&server, "one.pem", &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(protocol.as_deref(), Some(b"h2".as_slice()));
    assert!(ask(&server, "two.pem", &[]).await.is_err());
    assert!(!server.get("/").await.contains("sealed"));

    install("two");
    server.tls.as_ref().unwrap().reload().unwrap();
    assert!(ask(&server, "two.pem", &[]).await.unwrap().0.ends_with("sealed"));
    assert!(ask(&server, "one.pem", &[]).await.is_err());
}
