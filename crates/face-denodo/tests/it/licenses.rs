//! The License Manager, the states of leases, and requests that pages of other sites send.

use std::net::IpAddr;
use std::sync::Arc;

use axum::{Extension, Router};
use landreeve_core::Permission;
use landreeve_estate::ops::Network;
use landreeve_face_denodo::license_manager::{self, ROUTES};
use landreeve_http::Limits;
use landreeve_http::listener::Inbound;
use landreeve_promotion::leases::POLL;
use landreeve_testkit::limits::{Limited, stated_limits_are_enforced};
use landreeve_testkit::skeleton::{self, Credential, Dialect, Refusal, Routes};
use landreeve_testkit::{Answer, Ask, Kit, PASSWORD, everything, follow};
use serde_json::{Value, json};

use crate::{Face, fails, problems};

const RELEASE: &str = "/externalShutdown?nodeIp=embedded&port=9999&product=VDP";

/// A License Manager with a server that holds a lease, for requests from this machine.
struct Manager {
    face: Face,
    router: Router,
    server: i64,
    environment: i64,
}

pub fn router_of(face: &Face, networks: &[&str]) -> Router {
    let trusted_networks = networks.iter().map(|text| Network::parse(text).unwrap()).collect();
    let options = license_manager::Options { trusted_networks };
    license_manager::router(face.plane.clone(), options).unwrap().into()
}

/// The router as a listener would call it for a connection from this address.
pub fn from(address: &str, router: &Router) -> Router {
    let inbound = Inbound {
        peer: (address.parse::<IpAddr>().unwrap(), 40_000).into(),
        address: address.into(),
        uri: http::Uri::from_static("/"),
        secure: false,
        public_url: None,
        limits: Arc::new(Limits::default()),
    };
    router.clone().layer(Extension(inbound))
}

impl Manager {
    async fn new() -> Manager {
        let face = Face::new().await;
        let cluster = face.cluster().await;
        let body = json!({ "name": "dev", "urlIP": "embedded", "urlPort": 9_999, "clusterId": cluster.id.0 });
        let server = Ask::post("/servers").basic("admin", PASSWORD).json(&body).send(&face.router).await;
        let server = server.json()["id"].as_i64().unwrap();
        let router = from("127.0.0.1", &router_of(&face, &["127.0.0.0/8", "::1/128"]));
        let manager = Manager { face, router, server, environment: cluster.environment.0 };
        manager.poll().await;
        manager
    }

    async fn poll(&self) {
        follow(&self.face.kit.estate, "promotion", POLL).await;
    }

    async fn shown(&self, path: String) -> Value {
        let answer = Ask::get(path).basic("admin", PASSWORD).send(&self.face.router).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// As the server itself and the list of its environment show it.
    async fn state(&self) -> String {
        let server = self.shown(format!("/servers/{}", self.server)).await;
        let list = self.shown(format!("/environments/{}/servers", self.environment)).await;
        assert_eq!(list["servers"], json!([server]));
        server["leaseState"].as_str().unwrap().to_owned()
    }

    async fn get(&self, path: impl Into<String>) -> Answer {
        Ask::get(path).send(&self.router).await
    }
}

impl Dialect for Manager {
    const ROUTES: Routes = ROUTES;
    const BASE: &'static str = "";

    fn kit(&self) -> &Kit {
        &self.face.kit
    }

    fn router(&self) -> &Router {
        &self.router
    }

    async fn ask(&self, method: &str, path: &str) -> Ask {
        let parameters = if path == "/externalShutdown" { "?nodeIp=h&port=1&product=VDP" } else { "" };
        Ask::new(method, format!("{path}{parameters}"))
    }

    async fn caller(&self, _: &[Permission]) -> Credential {
        Credential::None
    }

    fn strangers(&self) -> Vec<Credential> {
        Vec::new()
    }

    fn refused(&self, answer: &Answer, why: Refusal) {
        panic!("{why:?}: no route takes a credential: {}", answer.body);
    }

    fn open(&self, answer: &Answer) {
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    fn allowed(&self, _: &str, answer: &Answer) {
        self.open(answer);
    }

    fn named(&self, answer: &Answer) -> Vec<String> {
        problems(answer)
    }
}

/// Its requests have only the parameter that is tried, so that it can also be missing.
struct Bare(Manager);

impl Limited for Bare {
    fn router(&self) -> &Router {
        &self.0.router
    }

    fn base(&self) -> &'static str {
        ""
    }

    async fn valid(&self, method: &str, path: &str) -> Ask {
        Ask::new(method, path)
    }

    fn named(&self, answer: &Answer) -> Vec<String> {
        problems(answer)
    }
}

#[tokio::test]
async fn every_route_of_the_license_manager_is_open_and_documented() {
    let manager = Manager::new().await;
    skeleton::every_route_rejects_callers_without_permission(&manager).await;
    skeleton::the_reference_does_not_need_a_credential(&manager).await;
    let tried = stated_limits_are_enforced(&Bare(manager)).await;
    assert!(tried >= 6, "only {tried} limits");
}

#[tokio::test]
async fn a_lease_is_released_once() {
    let manager = Manager::new().await;
    assert_eq!(manager.state().await, "ACTIVE");
    let answer = manager.get(RELEASE).await;
    let message = "released the license of the VDP server embedded:9999";
    assert_eq!((answer.status, answer.json()), (200, json!({ "result": "OK", "message": message })));
    assert_eq!(answer.header("content-type"), "application/json;charset=UTF-8");
    assert_eq!(manager.state().await, "INACTIVE");
    let answer = manager.get(RELEASE).await;
    let message = "the VDP server embedded:9999 holds no license";
    assert_eq!((answer.status, answer.json()), (200, json!({ "result": "ERROR", "message": message })));
    let events = "SELECT detail, address, face FROM audit_events WHERE action = 'released'";
    let expected = ["lease of server dev", "127.0.0.1", "denodo"].map(str::to_owned);
    assert_eq!(manager.face.kit.rows(events).await, [expected]);
    // The server is still running.
    manager.poll().await;
    assert_eq!(manager.state().await, "ACTIVE");
    let second = json!({
        "name": "second", "urlIP": "embedded", "urlPort": 9_999, "clusterId": manager.face.cluster().await.id.0
    });
    let made = Ask::post("/servers").basic("admin", PASSWORD).json(&second).send(&manager.face.router).await;
    assert_eq!((made.status, &made.json()["leaseState"]), (201, &json!("FREE")));
    manager.poll().await;
    let message = "released the licenses of 2 VDP servers at embedded:9999";
    assert_eq!(manager.get(RELEASE).await.json(), json!({ "result": "OK", "message": message }));
}

#[tokio::test]
async fn every_combination_of_parameters_has_its_answer() {
    let manager = Manager::new().await;
    let hosts = [
        ("", None),
        ("nodeIp=", None),
        ("nodeIp=&hostDomainName=", None),
        ("nodeIp=embedded&hostDomainName=embedded", None),
        ("nodeIp=embedded", Some("embedded")),
        ("hostDomainName=embedded", Some("embedded")),
        ("nodeIp=embedded&hostDomainName=", Some("embedded")),
        ("nodeIp=&hostDomainName=embedded", Some("embedded")),
        ("nodeIp=Embedded", Some("Embedded")),
        ("nodeip=embedded", None),
    ];
    let ports = [
        ("", None),
        ("port=", None),
        ("port=x", None),
        ("port=0", None),
        ("port=65536", None),
        ("port=99.5", None),
        ("port=9999", Some(9_999)),
        ("port=1", Some(1)),
    ];
    let products =
        [("", None), ("product=", None), ("product=VDP", Some(true)), ("product=vdp", Some(false))];
    for (host, known_host) in hosts {
        for (port, known_port) in ports {
            for (product, known_product) in products {
                let answer = manager.get(format!("/externalShutdown?{host}&{port}&{product}")).await;
                let place = format!("{host}&{port}&{product}: {}", answer.body);
                let fields: Vec<&str> = [
                    known_host.is_none().then_some("host"),
                    known_port.is_none().then_some("port"),
                    known_product.is_none().then_some("product"),
                ]
                .into_iter()
                .flatten()
                .collect();
                if !fields.is_empty() {
                    let mut named = problems(&answer);
                    if let Some(first) = named.first_mut().filter(|_| known_host.is_none()) {
                        assert!(["nodeIp", "hostDomainName"].contains(&first.as_str()), "{place}");
                        "host".clone_into(first);
                    }
                    let named: Vec<&str> = named.iter().map(String::as_str).collect();
                    assert_eq!((answer.status, named), (400, fields), "{place}");
                    continue;
                }
                let found = (known_host, known_port, known_product);
                let held = found == (Some("embedded"), Some(9_999), Some(true));
                let result = if held { "OK" } else { "ERROR" };
                assert_eq!((answer.status, &answer.json()["result"]), (200, &json!(result)), "{place}");
                assert_eq!(manager.state().await, if held { "INACTIVE" } else { "ACTIVE" }, "{place}");
                manager.poll().await;
            }
        }
    }
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let manager = Manager::new().await;
    for (query, message) in [
        ("port=1&product=VDP", "nodeIp or hostDomainName is required"),
        ("nodeIp=a&hostDomainName=b&port=1&product=VDP", "hostDomainName cannot be combined with nodeIp"),
        ("nodeIp=a&product=VDP", "port is required"),
        ("nodeIp=a&port=x&product=VDP", "port must be a whole number"),
        ("", "nodeIp or hostDomainName is required; port is required; product is required"),
        ("nodeIp=%00&port=1&product=VDP", "text must not contain the character U+0000"),
    ] {
        fails(&manager.get(format!("/externalShutdown?{query}")).await, 400, message);
    }
    for (query, message) in [
        ("nodeIp=a&port=1&product=SCHEDULER", "unknown product \"SCHEDULER\"; only VDP is supported"),
        ("nodeIp=a&port=1&product=VDP", "no VDP server is registered with the host a and the port 1"),
        (
            "nodeIp=%ff&port=1&product=VDP",
            "no VDP server is registered with the host \u{fffd} and the port 1",
        ),
    ] {
        let answer = manager.get(format!("/externalShutdown?{query}&cores=4")).await;
        assert_eq!((answer.status, answer.json()), (200, json!({ "result": "ERROR", "message": message })));
    }
}

#[tokio::test]
async fn leases_are_released_only_from_trusted_networks() {
    let manager = Manager::new().await;
    let inside = router_of(&manager.face, &["10.1.0.0/16", "192.0.2.7"]);
    for (address, allowed) in [
        (Some("127.0.0.1"), false),
        (Some("10.2.0.1"), false),
        (Some("2002:a01:1::1"), false),
        (Some("::1"), false),
        (None, false),
        (Some("10.1.2.3"), true),
        (Some("::ffff:10.1.2.3"), true),
        (Some("192.0.2.7"), true),
    ] {
        let router = address.map_or_else(|| inside.clone(), |address| from(address, &inside));
        // What a proxy or the client says about the address does not count.
        let answer = Ask::get(RELEASE).header("x-forwarded-for", "10.1.0.1").send(&router).await;
        if allowed {
            assert_eq!((answer.status, &answer.json()["result"]), (200, &json!("OK")), "{address:?}");
            manager.poll().await;
        } else {
            fails(&answer, 403, "requests from this address are not allowed");
            assert_eq!(manager.state().await, "ACTIVE");
        }
        // The address comes before what is wrong with the request.
        let answer = Ask::get("/externalShutdown").send(&router).await;
        assert_eq!(answer.status, if allowed { 400 } else { 403 }, "{address:?}");
        assert_eq!(Ask::get("/pingLicenseManager").send(&router).await.status, 200, "{address:?}");
    }
}

#[tokio::test]
async fn the_ping_of_the_license_manager_looks_at_the_store() {
    let manager = Manager::new().await;
    let answer = manager.get("/pingLicenseManager").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "OK"));
    manager.face.kit.estate.store().close().await;
    for path in ["/pingLicenseManager", RELEASE] {
        let answer = manager.get(path).await;
        assert_eq!((answer.status, &answer.json()["status"]), (503, &json!(503)), "{path}");
    }
}

const FOREIGN: &str = "the request comes from a page of another site";

/// Headers that only a browser on another site's page sends. Requests of these tests are for `estate.example`.
const OTHER_SITES: [(&str, &str); 5] = [
    ("origin", "https://evil.example"),
    ("origin", "http://estate.example:8080"),
    ("origin", "null"),
    ("sec-fetch-site", "cross-site"),
    ("sec-fetch-site", "same-site"),
];

#[tokio::test]
async fn pages_of_other_sites_change_nothing() {
    let face = Face::new().await;
    let Credential::Basic(name, password) = face.caller(&everything()).await else { panic!("no password") };
    let (mut writes, mut reads) = (0, 0);
    for (method, path, _) in landreeve_face_denodo::ROUTES {
        let ask = face.ask(method, path).await;
        for (header, value) in OTHER_SITES {
            let answer = ask.clone().header(header, value).basic(&name, &password).send(&face.router).await;
            if *method == "GET" {
                assert_ne!(answer.status, 403, "{method} {path} {header}: {value}");
                reads += 1;
            } else {
                fails(&answer, 403, FOREIGN);
                writes += 1;
            }
        }
        if *method == "GET" {
            continue;
        }
        // The same request from a page of our own, which was not refused for another reason.
        let own = ask.header("origin", "https://estate.example").header("sec-fetch-site", "same-origin");
        let answer = own.basic(&name, &password).send(&face.router).await;
        assert!((200..=204).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.body);
    }
    assert!(writes >= 5 * 20 && reads >= 5 * 20, "{writes} {reads}");
    // The paths in the singular, which are in no document.
    for path in ["/server/1", "/cluster/1", "/cluster/1/loadBalancingVariables"] {
        let ask = Ask::new("PUT", path).basic("admin", PASSWORD).header("origin", "https://evil.example");
        fails(&ask.send(&face.router).await, 403, FOREIGN);
    }
}

#[tokio::test]
async fn pages_of_other_sites_release_nothing() {
    let manager = Manager::new().await;
    for (name, value) in OTHER_SITES {
        fails(&Ask::get(RELEASE).header(name, value).send(&manager.router).await, 403, FOREIGN);
        let ping = Ask::get("/pingLicenseManager").header(name, value).send(&manager.router).await;
        assert_eq!(ping.status, 200, "{name}: {value}");
    }
    assert_eq!(manager.state().await, "ACTIVE");
    let own = Ask::get(RELEASE).header("origin", "http://estate.example").send(&manager.router).await;
    assert_eq!((own.status, &own.json()["result"]), (200, &json!("OK")));
}
