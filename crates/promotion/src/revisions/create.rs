//! Makes revisions: from an uploaded script, or from the elements of a server's database.

use std::sync::Arc;

use landreeve_core::error::Faults;
use landreeve_core::{Action, Error, Input, OpCtx, Result, clock};
use landreeve_estate::args;
use landreeve_estate::ops::{self, OwnedAct};
use landreeve_estate::secrets::Sealed;
use landreeve_estate::store::{Arg, Tx};
use sha2::{Digest as _, Sha256};

use super::{Flags, ReplaceMode, Revision, RevisionType, SCRIPT, VALUES, owner_of};
use crate::access;
use crate::environments::{self, Environment};
use crate::ids::{ClusterId, EnvironmentId, RevisionId, ServerId};
use crate::nouns::{ENVIRONMENT, REVISION, VIRTUAL_NODE};
use crate::plane::Promotion;
use crate::selection::{self, Description, Selection};
use crate::servers::{self, ServerType};
use crate::stored::{StoredFlags, StoredSourceValues};
use crate::vql::properties::{self, Properties};

/// Maximum size of a script.
pub const MAX_VQL_BYTES: usize = 32 * 1_024 * 1_024;
/// Maximum number of revisions in a unit.
pub const MAX_REVISIONS: i64 = 100_000;
/// Maximum number of elements that a request names.
pub const MAX_ELEMENTS: usize = 10_000;
/// Maximum number of characters.
pub const MAX_NAME: usize = 255;
pub const MAX_DESCRIPTION: usize = 4_000;

/// An uploaded script.
#[derive(Debug, Clone)]
pub struct NewRevision {
    pub name: String,
    pub description: Option<String>,
    /// UTF-8, with or without a byte order mark.
    pub vql: Vec<u8>,
    pub replace: ReplaceMode,
    /// A Java `.properties` file: the values where the script comes from.
    pub properties: Option<Vec<u8>>,
}

/// Elements of a server's database.
#[derive(Debug, Clone)]
pub struct FromServer {
    pub name: String,
    pub description: Option<String>,
    pub server: ServerRef,
    pub database: String,
    /// `Insert` or `Delete`.
    pub kind: RevisionType,
    /// The names of views, datasources and wrappers, and the paths of folders; `None`: everything.
    pub elements: Option<Vec<String>>,
    pub replace: ReplaceMode,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerRef {
    Id(ServerId),
    /// A name, or an id as text.
    Named(String),
}

/// A revision that is about to be stored.
struct Draft {
    name: String,
    description: Option<String>,
    kind: RevisionType,
    replace: ReplaceMode,
    flags: Flags,
    text: Description,
}

/// Stores an uploaded script as it is. Whether it can be executed is found out when it is validated.
pub async fn revision_upload(plane: &Promotion, ctx: &OpCtx, new: Input<NewRevision>) -> Result<Revision> {
    plane.estate().require_here(ctx, REVISION, Action::MANAGE).await?;
    let draft = new.parsed(|new, faults| {
        check_texts(&new.name, new.description.as_deref(), faults);
        let vql = script(new.vql, faults);
        let properties = new.properties.map_or_else(Properties::new, |file| values(&file, faults));
        Draft {
            name: new.name,
            description: new.description,
            kind: RevisionType::Vql,
            replace: new.replace,
            flags: Flags::default(),
            text: Description { vql, properties },
        }
    })?;
    store(plane, ctx, draft).await
}

fn check_texts(name: &str, description: Option<&str>, faults: &mut Faults) {
    check_text("name", name, 1..=MAX_NAME, faults);
    if name.chars().any(|char| char.is_control() && char != '\0') {
        faults.push("name", "character", "must not contain control characters");
    }
    if let Some(description) = description {
        check_text("description", description, 0..=MAX_DESCRIPTION, faults);
    }
}

fn check_text(field: &str, text: &str, length: std::ops::RangeInclusive<usize>, faults: &mut Faults) {
    let count = text.chars().count();
    if count < *length.start() {
        faults.push(field, "length", "must not be empty");
    } else if count > *length.end() {
        faults.push(field, "length", format!("must have at most {} characters, has {count}", length.end()));
    }
    if text.contains('\0') {
        faults.push(field, "character", "must not contain the character U+0000");
    }
}

/// The text of a script, without a byte order mark.
fn script(bytes: Vec<u8>, faults: &mut Faults) -> String {
    let mut text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.utf8_error().valid_up_to() + 1;
            faults.push("vql", "encoding", format!("must be UTF-8, and its byte {at} is not"));
            return String::new();
        }
    };
    if text.starts_with(MARK) {
        text.drain(..MARK.len_utf8());
    }
    if text.trim().is_empty() {
        faults.push("vql", "length", "must not be empty");
    } else if text.len() > MAX_VQL_BYTES {
        let (most, has) = (MAX_VQL_BYTES >> 20, text.len());
        faults.push("vql", "length", format!("must have at most {most} MiB, has {has} bytes"));
    }
    text
}

/// A byte order mark.
const MARK: char = '\u{feff}';

fn values(file: &[u8], faults: &mut Faults) -> Properties {
    properties::read(file).unwrap_or_else(|why| {
        faults.push("properties", "format", format!("cannot be read: {why}"));
        Properties::new()
    })
}

/// Makes a revision of what a server has now. Its script has properties in place of what differs between environments.
pub async fn revision_from_server(
    plane: &Promotion,
    ctx: &OpCtx,
    from: Input<FromServer>,
) -> Result<Revision> {
    let estate = plane.estate();
    estate.require_here(ctx, REVISION, Action::USE).await?;
    estate.require_some(ctx, ENVIRONMENT, Action::VIEW).await?;
    estate.require_some(ctx, VIRTUAL_NODE, Action::VIEW).await?;
    let from = from.checked(check_from)?;
    let server = match &from.server {
        ServerRef::Id(id) => servers::server_get(plane, ctx, *id).await?,
        ServerRef::Named(name) => servers::server_named(plane, ctx, name).await?,
    };
    let environment = environment_of(plane, ctx, server.cluster).await?;
    if server.kind != ServerType::Vdp {
        let message = format!("the server {} has no virtual databases", server.name);
        return Err(Error::conflict("server_type", message));
    }
    let node = server.node.map_or(0, |id| id.0);
    estate.require(ctx, VIRTUAL_NODE, Action::VIEW, &environment.ou_path, node).await?;
    let FromServer { name, description, database, kind, elements, replace, .. } = from;
    let selection = Selection { database, kind, elements, replace };
    let text = access::of_server(plane, ctx, &server, None).await?.describe(selection).await?;
    let draft = Draft {
        name,
        description,
        kind,
        replace,
        flags: Flags { default_database: false, ..Flags::default() },
        text,
    };
    store(plane, ctx, draft).await
}

fn check_from(from: &FromServer, faults: &mut Faults) {
    check_texts(&from.name, from.description.as_deref(), faults);
    selection::check_parts(&from.database, from.kind, from.elements.as_deref(), faults);
}

async fn environment_of(plane: &Promotion, ctx: &OpCtx, cluster: ClusterId) -> Result<Environment> {
    let sql = "SELECT environment_id FROM promotion_clusters WHERE id = $1";
    let row = plane.estate().store().read().await?.opt(sql, args![cluster]).await?;
    let id: EnvironmentId = row.ok_or_else(|| Error::not_found("server"))?.id(0)?;
    environments::environment_get(plane, ctx, id).await
}

/// What is stored of a text.
struct Encrypted {
    content_hash: String,
    bytes: i64,
    script: Sealed,
    values: Option<Sealed>,
}

/// Encrypts a text on a thread of its own: it can have many megabytes.
async fn encrypted(plane: &Promotion, id: RevisionId, text: Description) -> Result<Encrypted> {
    let estate = plane.estate().clone();
    let encrypt = move || {
        let Description { vql, properties } = text;
        let values = match properties.is_empty() {
            true => None,
            false => {
                let stored =
                    serde_json::to_vec(&StoredSourceValues::of(properties)).map_err(Error::internal)?;
                Some(estate.seal(&format!("{VALUES}:{id}"), &stored)?)
            }
        };
        Ok(Encrypted {
            content_hash: hex::encode(Sha256::digest(&vql)),
            bytes: i64::try_from(vql.len()).unwrap_or(i64::MAX),
            script: estate.seal(&format!("{SCRIPT}:{id}"), vql.as_bytes())?,
            values,
        })
    };
    tokio::task::spawn_blocking(encrypt).await.map_err(Error::internal)?
}

async fn store(plane: &Promotion, ctx: &OpCtx, draft: Draft) -> Result<Revision> {
    let estate = plane.estate();
    let id = estate.next::<RevisionId>(RevisionId::KIND).await?;
    let Draft { name, description, kind, replace, flags, text } = draft;
    // Before it is used, so that the transaction notices another key.
    let fingerprint = estate.sealed_with();
    let encrypted = encrypted(plane, id, text).await?;
    let (now, by) = (clock::from_micros(estate.now().as_microsecond()), ctx.actor().name().to_owned());
    let revision = Revision {
        id,
        ou: ctx.authority().ou(),
        ou_path: ctx.authority().ou_path().to_owned(),
        name,
        description,
        kind,
        replace,
        content_hash: encrypted.content_hash,
        bytes: encrypted.bytes,
        flags,
        owner: owner_of(ctx),
        created_by: by.clone(),
        created_at: now,
        modified_by: by,
        modified_at: now,
        row_version: 1,
    };
    let act = OwnedAct::new("created", REVISION, id.0, revision.name.as_str());
    let (new, sealed) = (revision.clone(), Arc::new((encrypted.script, encrypted.values)));
    estate
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                ops::secrets::still_sealed_with(tx, &fingerprint).await?;
                insert(tx, &new, &sealed).await
            })
        })
        .await?;
    Ok(revision)
}

async fn insert(tx: &mut Tx, new: &Revision, sealed: &(Sealed, Option<Sealed>)) -> Result<()> {
    let counted = "SELECT count(*) FROM promotion_revisions WHERE ou_id = $1";
    if tx.one(counted, args![new.ou]).await?.int(0)? >= MAX_REVISIONS {
        let message = format!("the unit has {MAX_REVISIONS} revisions; delete some first");
        return Err(Error::conflict("limit", message));
    }
    let flags = serde_json::to_string(&StoredFlags::of(new.flags)).map_err(Error::internal)?;
    tx.exec(
        "INSERT INTO promotion_revisions (id, ou_id, name, description, type, replace_mode, content_hash, bytes, flags, \
         owner, created_by, created_at, modified_by, modified_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        args![
            new.id,
            new.ou,
            &new.name,
            new.description.as_deref(),
            new.kind.as_str(),
            new.replace.as_str(),
            &new.content_hash,
            new.bytes,
            flags,
            &new.owner,
            &new.created_by,
            new.created_at,
            &new.modified_by,
            new.modified_at,
        ],
    )
    .await?;
    let (script, values) = sealed;
    let values = values.clone().map_or(Arg::Bytes(None), Arg::from);
    tx.exec(
        "INSERT INTO promotion_revision_texts (revision_id, vql_sealed, properties_sealed) VALUES ($1, $2, $3)",
        args![new.id, script.clone(), values],
    )
    .await
    .map(drop)
}
