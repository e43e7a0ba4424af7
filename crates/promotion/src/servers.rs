//! Servers: what is deployed to. One is a node of this store, or reached at an address.
//!
//! Does not belong here: talking to a server.

use std::net::IpAddr;

use landreeve_core::error::{Faults, codes};
use landreeve_core::ids::OuId;
use landreeve_core::{Action, Error, Fault, Input, OpCtx, Result, Secret};
use landreeve_estate::args;
use landreeve_estate::ops::{self, OwnedAct};
use landreeve_estate::secrets::Sealed;
use landreeve_estate::store::{Arg, Conn, Row, Tx, taken};

use crate::clusters::{self, Cluster};
use crate::environments::{self, Environment, check_alias};
use crate::ids::{ClusterId, EnvironmentId, ServerId, VirtualNodeId};
use crate::nouns::ENVIRONMENT;
use crate::plane::Promotion;
use crate::{nodes, text};

/// Of one environment.
const MAX_SERVERS: i64 = 1_000;
/// Characters of a password.
const MAX_PASSWORD: usize = 1_000;
/// Characters of the name of an embedded server: its node has the same name.
const MAX_NODE_NAME: usize = 100;
/// The host of a server that is a node of this store.
pub const EMBEDDED: &str = "embedded";
/// What a server's password is sealed for.
pub(crate) const CONTEXT: &str = "promotion_server";

/// What a server does. Only an engine is deployed to; the others are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServerType {
    #[default]
    Vdp,
    Scheduler,
    BrowserPool,
    Verification,
    DataCatalog,
}

impl ServerType {
    pub const ALL: [ServerType; 5] = [
        ServerType::Vdp,
        ServerType::Scheduler,
        ServerType::BrowserPool,
        ServerType::Verification,
        ServerType::DataCatalog,
    ];

    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            ServerType::Vdp => "engine",
            ServerType::Scheduler => "scheduler",
            ServerType::BrowserPool => "browser_pool",
            ServerType::Verification => "verification",
            ServerType::DataCatalog => "catalog",
        }
    }

    pub fn parse(text: &str) -> Option<ServerType> {
        ServerType::ALL.into_iter().find(|known| known.as_str() == text)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub id: ServerId,
    pub cluster: ClusterId,
    pub name: String,
    pub description: Option<String>,
    pub kind: ServerType,
    /// As it was stated: `embedded`, a host, or `http://` and a host.
    pub host: String,
    pub port: Option<u16>,
    /// Whether it is a node of this store.
    pub embedded: bool,
    /// Of an embedded server.
    pub node: Option<VirtualNodeId>,
    pub username: Option<String>,
    pub has_password: bool,
    pub default_database: Option<String>,
    pub use_kerberos: bool,
    pub use_pass_through: bool,
    pub enabled: bool,
    pub license_alias: Option<String>,
    pub use_default_license_alias: bool,
    /// From 1 within the cluster, without gaps.
    pub position: i64,
    pub row_version: i64,
}

/// What a caller states about a server: all of it, when it is created and when it is changed.
#[derive(Debug, Clone, Default)]
pub struct ServerFacts {
    /// Required.
    pub cluster: Option<ClusterId>,
    pub name: String,
    pub description: Option<String>,
    pub kind: ServerType,
    pub host: String,
    pub port: Option<u16>,
    pub username: Option<String>,
    /// `None` keeps the stored one; an empty one removes it.
    pub password: Option<Secret>,
    pub default_database: Option<String>,
    pub use_kerberos: bool,
    pub use_pass_through: bool,
    pub enabled: bool,
    pub license_alias: Option<String>,
    pub use_default_license_alias: bool,
}

impl ServerFacts {
    fn is_embedded(&self) -> bool {
        self.host == EMBEDDED
    }
}

fn check(facts: &ServerFacts, faults: &mut Faults) {
    if facts.cluster.is_none() {
        faults.push("cluster", "required", "is required");
    }
    text::name(faults, "name", &facts.name);
    if facts.is_embedded() && facts.name.chars().count() > MAX_NODE_NAME {
        let message = format!("must have at most {MAX_NODE_NAME} characters if the server is embedded");
        faults.push("name", "length", message);
    }
    text::at_most(faults, "description", facts.description.as_deref(), text::LONG);
    check_address(facts, faults);
    text::at_most(faults, "username", facts.username.as_deref(), text::NAME);
    text::at_most(faults, "password", facts.password.as_ref().map(Secret::reveal), MAX_PASSWORD);
    text::at_most(faults, "default_database", facts.default_database.as_deref(), text::NAME);
    check_alias(faults, facts.license_alias.as_deref());
    if !facts.use_default_license_alias && facts.license_alias.is_none() {
        let message = "is required if the environment's alias is not used";
        faults.push("license_alias", codes::REQUIRED, message);
    }
}

fn check_address(facts: &ServerFacts, faults: &mut Faults) {
    if facts.is_embedded() {
        return;
    }
    let (host, plain) = split(&facts.host);
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    if facts.host.is_empty() || facts.host.chars().count() > text::NAME {
        faults.push("host", "length", format!("must have 1 to {} characters", text::NAME));
    } else if host.is_empty() || !host.chars().all(is_host) {
        let message = "must be embedded, the name or address of a host, or http:// and a loopback address";
        faults.push("host", "format", message);
    } else if plain && !is_loopback(host) {
        faults.push("host", "format", NOT_LOOPBACK);
    }
    match facts.port {
        // Whether it is embedded is not known.
        None if facts.host.is_empty() => {}
        None => faults.push("port", codes::REQUIRED, "is required if the server is not embedded"),
        Some(0) => faults.push("port", "range", "must be between 1 and 65535"),
        Some(_) => {}
    }
}

const NOT_LOOPBACK: &str =
    "must be a loopback address after http://; other hosts are reached over TLS, so leave http:// out";

/// A host, and whether it is reached without TLS.
fn split(host: &str) -> (&str, bool) {
    match host.strip_prefix("http://") {
        Some(host) => (host, true),
        None => (host, false),
    }
}

/// The same for a host that may be reached: passwords are sent over TLS, or to this machine.
pub(crate) fn address(host: &str) -> std::result::Result<(&str, bool), String> {
    match split(host) {
        (host, true) if !is_loopback(host) => Err(format!("has the host {host}, which {NOT_LOOPBACK}")),
        found => Ok(found),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The name of a server's node, in this store or on the other machine.
pub(crate) fn node_name(server: &str) -> String {
    let letter = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.') => c,
        _ => '-',
    };
    server.chars().map(letter).collect()
}

const COLUMNS: &str = "s.id, s.cluster_id, s.name, s.description, s.type, s.host, s.port, s.embedded, s.node_id, \
    s.username, CASE WHEN s.password_sealed IS NULL THEN 0 ELSE 1 END, s.default_database, s.use_kerberos, \
    s.use_pass_through, s.enabled, s.license_alias, s.use_default_license_alias, s.position, s.row_version";

fn from_row(row: &Row) -> Result<Server> {
    let port = row.int_opt(6)?.map(u16::try_from).transpose().map_err(Error::internal)?;
    Ok(Server {
        id: row.id(0)?,
        cluster: row.id(1)?,
        name: row.text(2)?,
        description: row.text_opt(3)?,
        kind: row.word(4, ServerType::parse)?,
        host: row.text(5)?,
        port,
        embedded: row.flag(7)?,
        node: row.id_opt(8)?,
        username: row.text_opt(9)?,
        has_password: row.flag(10)?,
        default_database: row.text_opt(11)?,
        use_kerberos: row.flag(12)?,
        use_pass_through: row.flag(13)?,
        enabled: row.flag(14)?,
        license_alias: row.text_opt(15)?,
        use_default_license_alias: row.flag(16)?,
        position: row.int(17)?,
        row_version: row.int(18)?,
    })
}

/// Without a check of permissions.
pub(crate) async fn find(conn: &mut Conn, id: ServerId) -> Result<Option<Server>> {
    let sql = format!("SELECT {COLUMNS} FROM promotion_servers s WHERE s.id = $1");
    conn.select(sql, args![id]).await?.first().map(from_row).transpose()
}

/// The enabled engines on other machines, in every unit.
pub(crate) async fn remote_engines(conn: &mut Conn) -> Result<Vec<Server>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM promotion_servers s WHERE s.enabled = 1 AND s.type = 'engine' AND s.embedded = 0 \
         ORDER BY s.id"
    );
    conn.select(sql, args![]).await?.iter().map(from_row).collect()
}

/// The servers of an environment by their position, cluster by cluster.
async fn of_environment(conn: &mut Conn, environment: EnvironmentId) -> Result<Vec<Server>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM promotion_servers s JOIN promotion_clusters c ON c.id = s.cluster_id \
         WHERE c.environment_id = $1 ORDER BY c.position, c.id, s.position, s.id"
    );
    conn.select(sql, args![environment]).await?.iter().map(from_row).collect()
}

/// The clusters of an environment with their servers, both in order of position.
pub(crate) async fn topology(
    conn: &mut Conn,
    environment: EnvironmentId,
) -> Result<Vec<(Cluster, Vec<Server>)>> {
    let clusters = clusters::of_environment(conn, environment).await?;
    let servers = of_environment(conn, environment).await?;
    let with_servers = |cluster: Cluster| {
        let own = servers.iter().filter(|server| server.cluster == cluster.id);
        let own: Vec<Server> = own.cloned().collect();
        (cluster, own)
    };
    Ok(clusters.into_iter().map(with_servers).collect())
}

/// The server, its cluster and its environment, if the caller may do this to that.
pub(crate) async fn seen(
    plane: &Promotion,
    ctx: &OpCtx,
    id: ServerId,
    action: Action,
) -> Result<(Server, Cluster, Environment)> {
    plane.estate().require_some(ctx, ENVIRONMENT, action).await?;
    let unknown = || Error::not_found("server");
    let (server, cluster, environment) = {
        let mut conn = plane.estate().store().read().await?;
        let server = find(&mut conn, id).await?.ok_or_else(unknown)?;
        let cluster = clusters::find(&mut conn, server.cluster).await?.ok_or_else(unknown)?;
        let environment = environments::find(&mut conn, cluster.environment).await?.ok_or_else(unknown)?;
        (server, cluster, environment)
    };
    environments::require(plane, ctx, &environment, action, "server").await?;
    Ok((server, cluster, environment))
}

/// The servers of an environment in the order of deployments.
pub async fn server_list(plane: &Promotion, ctx: &OpCtx, environment: EnvironmentId) -> Result<Vec<Server>> {
    environments::seen(plane, ctx, environment, Action::VIEW).await?;
    of_environment(&mut plane.estate().store().read().await?, environment).await
}

pub async fn server_get(plane: &Promotion, ctx: &OpCtx, id: ServerId) -> Result<Server> {
    seen(plane, ctx, id, Action::VIEW).await.map(|(server, _, _)| server)
}

/// A server of the caller's unit, by its name or else by its id.
pub async fn server_named(plane: &Promotion, ctx: &OpCtx, name: &str) -> Result<Server> {
    plane.estate().require_some(ctx, ENVIRONMENT, Action::VIEW).await?;
    // No row has the id 0.
    let id = name.parse::<i64>().unwrap_or(0);
    let sql =
        "SELECT s.id FROM promotion_servers s WHERE s.ou_id = $1 AND (s.name = $2 OR s.id = $3) LIMIT 2";
    let asked = args![ctx.authority().ou(), name, id];
    let rows = plane.estate().store().read().await?.all(sql, asked).await?;
    if rows.len() > 1 {
        return Err(text::ambiguous("server", name));
    }
    let id: ServerId = rows.first().ok_or_else(|| Error::not_found("server"))?.id(0)?;
    server_get(plane, ctx, id).await
}

/// Why facts without a cluster are refused.
fn incomplete(facts: Input<ServerFacts>) -> Error {
    let required = || Error::fault("cluster", codes::REQUIRED, "is required");
    facts.checked(check).err().unwrap_or_else(required)
}

/// A password that was sealed for a server, and the key's fingerprint.
type SealedPassword = (Sealed, String);

/// What happens to the stored password.
#[derive(Clone)]
enum Password {
    Keep,
    Remove,
    Set(SealedPassword),
}

impl Password {
    fn of(plane: &Promotion, id: ServerId, stated: Option<&Secret>) -> Result<Password> {
        let Some(stated) = stated else { return Ok(Password::Keep) };
        if stated.is_empty() {
            return Ok(Password::Remove);
        }
        let fingerprint = plane.estate().sealed_with();
        let sealed = plane.estate().seal(&format!("{CONTEXT}:{id}"), stated.reveal().as_bytes())?;
        Ok(Password::Set((sealed, fingerprint)))
    }

    async fn store(self, tx: &mut Tx, id: ServerId) -> Result<()> {
        let value = match self {
            Password::Keep => return Ok(()),
            Password::Remove => Arg::Bytes(None),
            Password::Set((sealed, fingerprint)) => {
                ops::secrets::still_sealed_with(tx, &fingerprint).await?;
                Arg::from(sealed)
            }
        };
        tx.exec("UPDATE promotion_servers SET password_sealed = $2 WHERE id = $1", vec![Arg::from(id), value])
            .await
            .map(drop)
    }

    fn remains(&self, before: bool) -> bool {
        match self {
            Password::Keep => before,
            Password::Remove => false,
            Password::Set(_) => true,
        }
    }
}

/// The server that facts describe. Its node and position are not known yet.
fn described(id: ServerId, cluster: ClusterId, facts: ServerFacts, has_password: bool) -> Server {
    Server {
        embedded: facts.is_embedded(),
        id,
        cluster,
        name: facts.name,
        description: facts.description,
        kind: facts.kind,
        host: facts.host,
        port: facts.port,
        node: None,
        username: facts.username,
        has_password,
        default_database: facts.default_database,
        use_kerberos: facts.use_kerberos,
        use_pass_through: facts.use_pass_through,
        enabled: facts.enabled,
        license_alias: facts.license_alias,
        use_default_license_alias: facts.use_default_license_alias,
        position: 0,
        row_version: 1,
    }
}

/// Creates a server at the end of its cluster. An embedded one gets a node.
pub async fn server_create(plane: &Promotion, ctx: &OpCtx, facts: Input<ServerFacts>) -> Result<Server> {
    let estate = plane.estate();
    estate.require_some(ctx, ENVIRONMENT, Action::MANAGE).await?;
    let Some(cluster) = facts.value().cluster else { return Err(incomplete(facts)) };
    let (_, environment) = clusters::seen(plane, ctx, cluster, Action::MANAGE).await?;
    let facts = facts.checked(check)?;
    let (id, now) = (estate.next::<ServerId>(ServerId::KIND).await?, estate.now());
    let password = Password::of(plane, id, facts.password.as_ref())?;
    let new = described(id, cluster, facts, password.remains(false));
    let (ou, environment) = (environment.ou, environment.id);
    let act = OwnedAct::new("created", ENVIRONMENT, environment.0, format!("server {}", new.name));
    estate
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                environments::lock(tx, environment).await?;
                free(tx, ou, &new).await?;
                let position = next_position(tx, environment, cluster).await?;
                let (node, made) = match new.embedded {
                    true => {
                        let (node, made) = nodes::find_or_make(tx, ou, &node_name(&new.name), now).await?;
                        (Some(node), made)
                    }
                    false => (None, false),
                };
                let new = Server { node, position, ..new };
                insert(tx, ou, &new, made, now).await?;
                password.store(tx, id).await?;
                Ok(new)
            })
        })
        .await
        .map_err(|error| taken(error, "name"))
}

async fn insert(tx: &mut Tx, ou: OuId, new: &Server, made: bool, now: jiff::Timestamp) -> Result<()> {
    tx.exec(
        "INSERT INTO promotion_servers (id, ou_id, cluster_id, name, description, type, host, port, embedded, node_id, \
         node_made, username, default_database, use_kerberos, use_pass_through, enabled, license_alias, \
         use_default_license_alias, position, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, \
         $13, $14, $15, $16, $17, $18, $19, $20)",
        args![
            new.id,
            ou,
            new.cluster,
            &new.name,
            new.description.clone(),
            new.kind.as_str(),
            &new.host,
            new.port.map(i64::from),
            new.embedded,
            new.node,
            made,
            new.username.clone(),
            new.default_database.clone(),
            new.use_kerberos,
            new.use_pass_through,
            new.enabled,
            new.license_alias.clone(),
            new.use_default_license_alias,
            new.position,
            now,
        ],
    )
    .await
    .map(drop)
}

/// Fails if another server of the unit has this name or this address.
async fn free(tx: &mut Tx, ou: OuId, server: &Server) -> Result<()> {
    let sql = "SELECT id FROM promotion_servers WHERE ou_id = $1 AND name = $2 AND id <> $3";
    if tx.opt(sql, args![ou, &server.name, server.id]).await?.is_some() {
        return Err(conflict("name", "is already taken"));
    }
    if server.embedded {
        return Ok(());
    }
    let sql = "SELECT name FROM promotion_servers WHERE ou_id = $1 AND host = $2 AND port = $3 AND embedded = 0 AND id <> $4";
    let port = server.port.map(i64::from);
    match tx.opt(sql, args![ou, &server.host, port, server.id]).await? {
        None => Ok(()),
        Some(row) => {
            Err(conflict("host", &format!("and port are already those of the server {}", row.text(0)?)))
        }
    }
}

fn conflict(field: &'static str, message: &str) -> Error {
    let faults = vec![Fault::new(field, codes::TAKEN, message)];
    Error { faults, ..Error::conflict("in_use", format!("{field} {message}")) }
}

/// The position after the last server of the cluster, whose environment is locked.
async fn next_position(tx: &mut Tx, environment: EnvironmentId, cluster: ClusterId) -> Result<i64> {
    let sql = "SELECT count(*) FROM promotion_servers s JOIN promotion_clusters c ON c.id = s.cluster_id \
               WHERE c.environment_id = $1";
    if tx.one(sql, args![environment]).await?.int(0)? >= MAX_SERVERS {
        let message = format!("an environment can have at most {MAX_SERVERS} servers");
        return Err(Error::fault("", "limit", message));
    }
    end_of(tx, environment, cluster).await
}

async fn end_of(tx: &mut Tx, environment: EnvironmentId, cluster: ClusterId) -> Result<i64> {
    // The cluster may have gone to another environment since it was read.
    let sql = "SELECT id FROM promotion_clusters WHERE id = $1 AND environment_id = $2";
    if tx.opt(sql, args![cluster, environment]).await?.is_none() {
        return Err(Error::not_found("cluster"));
    }
    let sql = "SELECT COALESCE(max(position), 0) FROM promotion_servers WHERE cluster_id = $1";
    Ok(tx.one(sql, args![cluster]).await?.int(0)? + 1)
}

/// Closes the gap that a server leaves behind.
async fn close_up(tx: &mut Tx, cluster: ClusterId, position: i64) -> Result<()> {
    tx.exec(
        "UPDATE promotion_servers SET position = position - 1, row_version = row_version + 1 \
         WHERE cluster_id = $1 AND position > $2",
        args![cluster, position],
    )
    .await
    .map(drop)
}

/// Where a server is moved from and to.
#[derive(Clone, Copy)]
struct Move {
    from: (EnvironmentId, ClusterId),
    to: (EnvironmentId, ClusterId),
}

impl Move {
    /// Locks the environments, and returns the server's position after the move.
    async fn begin(self, tx: &mut Tx, position: i64) -> Result<i64> {
        let ((old, from), (new, to)) = (self.from, self.to);
        if from == to {
            environments::lock(tx, old).await?;
            return Ok(position);
        }
        clusters::leave(tx, old, new).await?;
        if old == new { end_of(tx, new, to).await } else { next_position(tx, new, to).await }
    }

    async fn end(self, tx: &mut Tx, position: i64) -> Result<()> {
        if self.from.1 == self.to.1 { Ok(()) } else { close_up(tx, self.from.1, position).await }
    }
}

/// Replaces what is known of a server; its password stays if none is stated. In another cluster of the same unit, it is
/// the last one.
pub async fn server_update(
    plane: &Promotion,
    ctx: &OpCtx,
    id: ServerId,
    facts: Input<ServerFacts>,
) -> Result<Server> {
    let (before, _, environment) = seen(plane, ctx, id, Action::MANAGE).await?;
    let Some(cluster) = facts.value().cluster else { return Err(incomplete(facts)) };
    let mut target = (environment.id, environment.ou);
    if cluster != before.cluster {
        let (_, found) = clusters::seen(plane, ctx, cluster, Action::MANAGE).await?;
        target = (found.id, found.ou);
    }
    let facts = facts.checked(|facts, faults| {
        check(facts, faults);
        if target.1 != environment.ou {
            faults.push("cluster", "unit", "must be a cluster of the same organizational unit");
        }
        let moved = (&facts.host, facts.port) != (&before.host, before.port) && !facts.is_embedded();
        if moved && before.has_password && facts.password.is_none() {
            // Otherwise a caller who does not know the password could have it sent to a host of their own.
            faults.push("password", codes::REQUIRED, "is required when the address changes");
        }
    })?;
    let (ou, now) = (environment.ou, plane.estate().now());
    let way = Move { from: (environment.id, before.cluster), to: (target.0, cluster) };
    let password = Password::of(plane, id, facts.password.as_ref())?;
    let after = described(id, cluster, facts, password.remains(before.has_password));
    let in_place = in_place(&before, &after);
    let act = OwnedAct::new("updated", ENVIRONMENT, target.0.0, format!("server {}", after.name));
    plane
        .estate()
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                let position = way.begin(tx, before.position).await?;
                if !in_place {
                    environments::not_deploying(tx, way.from.0).await?;
                }
                free(tx, ou, &after).await?;
                // The node stays the same if the server is only renamed. One that an embedded server leaves is kept.
                let (node, made) = match (after.embedded, before.node) {
                    (false, _) => (None, Some(false)),
                    (true, Some(node)) => (Some(node), None),
                    (true, None) => {
                        let (node, made) = nodes::find_or_make(tx, ou, &node_name(&after.name), now).await?;
                        (Some(node), Some(made))
                    }
                };
                let after = Server { node, position, row_version: before.row_version + 1, ..after };
                write(tx, &after, made, before.row_version).await?;
                password.store(tx, id).await?;
                way.end(tx, before.position).await?;
                Ok(after)
            })
        })
        .await
        .map_err(|error| taken(error, "name"))
}

/// Whether a deployment in progress, and the way back from it, would still find the same server.
fn in_place(before: &Server, after: &Server) -> bool {
    let place =
        |server: &Server| (server.kind, server.embedded, server.host.clone(), server.port, server.enabled);
    place(before) == place(after)
}

/// `made`: whether its node is made with it; `None` if that stays as it is.
async fn write(tx: &mut Tx, after: &Server, made: Option<bool>, read: i64) -> Result<()> {
    tx.update_row(
        "server",
        "UPDATE promotion_servers SET cluster_id = $3, name = $4, description = $5, type = $6, host = $7, port = $8, \
         embedded = $9, node_id = $10, node_made = COALESCE($11, node_made), username = $12, default_database = $13, \
         use_kerberos = $14, use_pass_through = $15, enabled = $16, license_alias = $17, \
         use_default_license_alias = $18, position = $19, row_version = row_version + 1 \
         WHERE id = $1 AND row_version = $2",
        args![
            after.id,
            read,
            after.cluster,
            &after.name,
            after.description.clone(),
            after.kind.as_str(),
            &after.host,
            after.port.map(i64::from),
            after.embedded,
            after.node,
            made,
            after.username.clone(),
            after.default_database.clone(),
            after.use_kerberos,
            after.use_pass_through,
            after.enabled,
            after.license_alias.clone(),
            after.use_default_license_alias,
            after.position,
        ],
    )
    .await
}

/// Deletes a server, also the node that was made with it.
pub async fn server_delete(plane: &Promotion, ctx: &OpCtx, id: ServerId) -> Result<()> {
    let (server, _, environment) = seen(plane, ctx, id, Action::MANAGE).await?;
    let (ou, ids) = (environment.ou, plane.estate().hash_ids().clone());
    let environment = environment.id;
    let act = OwnedAct::new("deleted", ENVIRONMENT, environment.0, format!("server {}", server.name));
    plane
        .estate()
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                environments::not_deploying(tx, environment).await?;
                let sql = "SELECT s.cluster_id, s.position, CASE WHEN s.node_made = 1 THEN s.node_id END \
                           FROM promotion_servers s JOIN promotion_clusters c ON c.id = s.cluster_id \
                           WHERE s.id = $1 AND c.environment_id = $2";
                let row = tx.opt(sql, args![id, environment]).await?;
                let row = row.ok_or_else(|| Error::not_found("server"))?;
                let (cluster, position) = (row.id::<ClusterId>(0)?, row.int(1)?);
                let made: Vec<VirtualNodeId> = row.id_opt(2)?.into_iter().collect();
                tx.exec("DELETE FROM promotion_servers WHERE id = $1", args![id]).await?;
                close_up(tx, cluster, position).await?;
                nodes::delete_made(tx, &ids, ou, &made).await
            })
        })
        .await
}

/// The nodes that were made with the servers of a cluster.
pub(crate) async fn nodes_made_in_cluster(tx: &mut Tx, cluster: ClusterId) -> Result<Vec<VirtualNodeId>> {
    let sql = "SELECT DISTINCT node_id FROM promotion_servers WHERE cluster_id = $1 AND node_made = 1 \
               AND node_id IS NOT NULL ORDER BY node_id";
    tx.all(sql, args![cluster]).await?.iter().map(|row| row.id(0)).collect()
}

/// The nodes that were made with the servers of an environment.
pub(crate) async fn nodes_made_in_environment(
    tx: &mut Tx,
    environment: EnvironmentId,
) -> Result<Vec<VirtualNodeId>> {
    let sql = "SELECT DISTINCT s.node_id FROM promotion_servers s JOIN promotion_clusters c ON c.id = s.cluster_id \
               WHERE c.environment_id = $1 AND s.node_made = 1 AND s.node_id IS NOT NULL ORDER BY s.node_id";
    tx.all(sql, args![environment]).await?.iter().map(|row| row.id(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_after_its_server() {
        for (server, node) in [("Dev 1", "dev-1"), ("a.b_c-d", "a.b_c-d"), ("É/x", "--x"), ("local", "local")]
        {
            assert_eq!(node_name(server), node);
        }
    }

    #[test]
    fn an_address_is_a_host_with_a_port() {
        for (host, port, faults) in [
            ("embedded", None, ""),
            ("embedded", Some(1), ""),
            ("vdp.example.com", Some(9_999), ""),
            ("10.0.0.1", Some(1), ""),
            ("::1", Some(1), ""),
            ("http://127.0.0.1", Some(1), ""),
            ("http://[::1]", Some(1), ""),
            ("http://localhost", Some(1), ""),
            ("vdp.example.com", None, "port"),
            ("vdp.example.com", Some(0), "port"),
            ("http://10.0.0.1", Some(1), "host"),
            ("http://", Some(1), "host"),
            ("https://vdp.example.com", Some(1), "host"),
            ("vdp.example.com/x", Some(1), "host"),
            ("user@host", Some(1), "host"),
            ("", None, "host"),
        ] {
            let mut found = Faults::default();
            let facts = ServerFacts { host: host.to_owned(), port, ..ServerFacts::default() };
            check_address(&facts, &mut found);
            let found = found.finish().map_err(|error| error.faults).err().unwrap_or_default();
            let found: Vec<_> = found.into_iter().map(|fault| fault.field).collect();
            assert_eq!(found.join(" "), faults, "{host} {port:?}");
        }
    }
}
