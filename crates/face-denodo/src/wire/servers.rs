//! Servers on the wire.

use landreeve_core::{Error, Input, Result, Secret};
use landreeve_http::body::Fields;
use landreeve_promotion::ids::ClusterId;
use landreeve_promotion::leases::{LeaseState, Leases};
use landreeve_promotion::servers::{Server, ServerFacts, ServerType};
use serde::Serialize;
use utoipa::ToSchema;

use super::clusters::{flag, reference};
use super::environments::optional;
use super::input;

/// The dialect's words for what a server does.
const TYPES: [(&str, ServerType); 5] = [
    ("VDP", ServerType::Vdp),
    ("SCHEDULER", ServerType::Scheduler),
    ("ITP_BROWSER_POOL", ServerType::BrowserPool),
    ("ITP_VERIFICATION", ServerType::Verification),
    ("VDP_DATA_CATALOG", ServerType::DataCatalog),
];

fn word(kind: ServerType) -> &'static str {
    TYPES.iter().find(|(_, known)| *known == kind).map_or("VDP", |(word, _)| *word)
}

fn lease(state: LeaseState) -> &'static str {
    match state {
        LeaseState::Free => "FREE",
        LeaseState::Active => "ACTIVE",
        LeaseState::Grace => "GRACE",
        LeaseState::Inactive => "INACTIVE",
    }
}

/// A server, without its password.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerBody {
    id: i64,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    type_node: &'static str,
    #[serde(rename = "urlIP")]
    url_ip: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    url_port: Option<u16>,
    cluster_id: i64,
    use_kerberos: bool,
    use_pass_through: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_database: Option<String>,
    enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    license_alias: Option<String>,
    use_default_license_alias: bool,
    /// `ACTIVE` while the server shows that it is running, `GRACE` when that is overdue, `INACTIVE` once it was released or
    /// five days have passed, `FREE` before its first lease. An addition of this server.
    lease_state: &'static str,
}

impl ServerBody {
    pub fn new(server: Server, leases: &Leases) -> ServerBody {
        ServerBody {
            lease_state: lease(leases.get(&server.id).copied().unwrap_or(LeaseState::Free)),
            id: server.id.0,
            name: server.name,
            description: server.description,
            type_node: word(server.kind),
            url_ip: server.host,
            url_port: server.port,
            cluster_id: server.cluster.0,
            use_kerberos: server.use_kerberos,
            use_pass_through: server.use_pass_through,
            username: server.username,
            default_database: server.default_database,
            enabled: server.enabled,
            license_alias: server.license_alias,
            use_default_license_alias: server.use_default_license_alias,
        }
    }
}

/// The servers of an environment, in the order of deployments.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServerList {
    servers: Vec<ServerBody>,
}

impl ServerList {
    pub fn new(servers: Vec<Server>, leases: &Leases) -> ServerList {
        ServerList { servers: servers.into_iter().map(|server| ServerBody::new(server, leases)).collect() }
    }
}

#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "only describes the body; `read` reads it")]
pub struct ServerArguments {
    /// At most 100 characters for an embedded server.
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    #[schema(max_length = 4000)]
    description: Option<String>,
    /// Default: `VDP`. Other types are kept; nothing is deployed to them.
    #[schema(
        pattern = "^(VDP|SCHEDULER|ITP_BROWSER_POOL|ITP_VERIFICATION|VDP_DATA_CATALOG)$",
        example = "VDP"
    )]
    type_node: Option<String>,
    /// `embedded` for a node of this server, which is named after the server and made with it; otherwise the host of
    /// another Landreeve, reached over TLS, or `http://` and a loopback address.
    #[serde(rename = "urlIP")]
    #[schema(min_length = 1, max_length = 255, example = "embedded")]
    url_ip: String,
    /// Required if the server is not embedded.
    #[schema(minimum = 1, maximum = 65535)]
    url_port: Option<i64>,
    #[schema(minimum = 1, example = 7)]
    cluster_id: i64,
    /// Default: false. Kept; such a server is not deployed to.
    use_kerberos: Option<bool>,
    /// Default: false. Kept without effect.
    use_pass_through: Option<bool>,
    #[schema(max_length = 255)]
    username: Option<String>,
    /// Stored encrypted and never returned. Absent or only asterisks: the stored one is kept, unless the address changes;
    /// empty: it is removed.
    #[schema(max_length = 1000)]
    password: Option<String>,
    /// Kept without effect.
    #[schema(max_length = 255)]
    default_database: Option<String>,
    /// Default: true.
    enabled: Option<bool>,
    /// As for environments. Required if `useDefaultLicenseAlias` is false.
    #[schema(max_length = 255, example = "PRODUCTION_1")]
    license_alias: Option<String>,
    /// Default: true.
    use_default_license_alias: Option<bool>,
}

/// The plane's field as a member.
fn member(field: &str) -> String {
    match field {
        "cluster" => "clusterId".to_owned(),
        "host" => "urlIP".to_owned(),
        "port" => "urlPort".to_owned(),
        "kind" => "typeNode".to_owned(),
        other => input::camel(other),
    }
}

pub fn named(error: Error) -> Error {
    input::named(error, member)
}

/// A server. What a response has besides is accepted and ignored, so that clients can send one back.
pub fn read(body: &[u8]) -> Result<Input<ServerFacts>> {
    input::read(body, member, |body| {
        body.ignore(&["id", "leaseState"]);
        let port = body.optional("urlPort", |f| f.int(1..=65_535)).value();
        ServerFacts {
            cluster: reference(body, "clusterId").map(ClusterId),
            name: body.required("name", |f| f.text(1..=255)),
            description: optional(body, "description", 4_000),
            kind: body.optional("typeNode", |f| f.choice(&TYPES)).value().unwrap_or_default(),
            host: body.required("urlIP", |f| f.text(1..=255)),
            port: port.and_then(|port| u16::try_from(port).ok()),
            username: optional(body, "username", 255),
            password: password(body),
            default_database: optional(body, "defaultDatabase", 255),
            use_kerberos: flag(body, "useKerberos", false),
            use_pass_through: flag(body, "usePassThrough", false),
            enabled: flag(body, "enabled", true),
            license_alias: optional(body, "licenseAlias", 255),
            use_default_license_alias: flag(body, "useDefaultLicenseAlias", true),
        }
    })
}

/// Clients send asterisks where a form shows that there is a password.
fn password(body: &Fields<'_>) -> Option<Secret> {
    let stated = optional(body, "password", 1_000)?;
    let hidden = !stated.is_empty() && stated.chars().all(|c| c == '*');
    (!hidden).then(|| Secret::new(stated))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asterisks_stand_for_the_stored_password() {
        for (stated, read_as) in [
            (r#""password":"********""#, None),
            (r#""password":"************""#, None),
            (r#""password":"*""#, None),
            (r#""password":null"#, None),
            (r#""enabled":true"#, None),
            (r#""password":"""#, Some("")),
            (r#""password":"**x""#, Some("**x")),
        ] {
            let body = format!(r#"{{"name":"s","urlIP":"embedded","clusterId":1,{stated}}}"#);
            let facts = read(body.as_bytes()).unwrap().valid().unwrap();
            assert_eq!(facts.password.as_ref().map(Secret::reveal), read_as, "{stated}");
        }
    }

    #[test]
    fn every_type_has_a_word() {
        for kind in ServerType::ALL {
            assert!(TYPES.contains(&(word(kind), kind)), "{kind:?}");
        }
    }
}
