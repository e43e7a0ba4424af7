//! Revisions on the wire, and the requests that make them.

use std::collections::BTreeMap;

use landreeve_core::error::Faults;
use landreeve_core::{Input, Page, PageOf, Result};
use landreeve_http::body::{Field, Fields, NullIs, Rules, Unknown, json_object, read_input};
use landreeve_http::extract::Query;
use landreeve_promotion::ids::{RevisionId, ServerId};
use landreeve_promotion::revisions::{
    DeployedOn, FromServer, NewRevision, ReplaceMode, Revision, RevisionType, ServerRef,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::time::millis;

/// Where each revision was deployed.
type Deployed = BTreeMap<RevisionId, Vec<DeployedOn>>;

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionList {
    start: u64,
    count: u32,
    /// Number of revisions that you can see, on all pages.
    num_elements: u64,
    revisions: Vec<RevisionBody>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionBody {
    id: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    name: String,
    /// `INSERT` and `DELETE` create and drop elements of a server; `VQL` was uploaded.
    #[serde(rename = "type")]
    #[schema(pattern = "^(INSERT|DELETE|VQL)$")]
    kind: &'static str,
    #[schema(pattern = "^(DO_NOT_REPLACE_EXISTING|REPLACE_EXISTING|DROP_ELEMENTS_BEFORE)$")]
    replace: &'static str,
    creation_user: String,
    creation_time: String,
    last_modified_user: String,
    last_modified_time: String,
    has_vql: bool,
    has_scheduler: bool,
    include_jars: bool,
    include_statistics: bool,
    use_default_database: bool,
    #[serde(rename = "includeI18N")]
    include_i18n: bool,
    include_server_properties: bool,
    include_web_container_properties: bool,
    include_jdbc_wrapper_properties: bool,
    include_vdp_dependencies: bool,
    /// SHA-256 of the script.
    content_hash: String,
    /// Left out if the revision was never deployed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    deployed_on: Vec<DeployedOnBody>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DeployedOnBody {
    id: i64,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    minimum_update_mandatory: bool,
}

/// The words for the modes.
pub const MODES: [(&str, ReplaceMode); 3] = [
    ("DO_NOT_REPLACE_EXISTING", ReplaceMode::DoNotReplace),
    ("REPLACE_EXISTING", ReplaceMode::Replace),
    ("DROP_ELEMENTS_BEFORE", ReplaceMode::DropBefore),
];

pub const fn mode(mode: ReplaceMode) -> &'static str {
    match mode {
        ReplaceMode::DoNotReplace => "DO_NOT_REPLACE_EXISTING",
        ReplaceMode::Replace => "REPLACE_EXISTING",
        ReplaceMode::DropBefore => "DROP_ELEMENTS_BEFORE",
    }
}

pub const fn kind(kind: RevisionType) -> &'static str {
    match kind {
        RevisionType::Insert => "INSERT",
        RevisionType::Delete => "DELETE",
        RevisionType::Vql => "VQL",
    }
}

impl RevisionList {
    pub fn new(found: PageOf<Revision>, mut deployed: Deployed) -> RevisionList {
        let PageOf { items, offset, limit, total } = found;
        let body = |revision: Revision| {
            let deployed = deployed.remove(&revision.id).unwrap_or_default();
            RevisionBody::new(revision, deployed)
        };
        let revisions = items.into_iter().map(body).collect();
        RevisionList { start: offset, count: limit, num_elements: total, revisions }
    }
}

impl RevisionBody {
    pub fn new(revision: Revision, deployed: Vec<DeployedOn>) -> RevisionBody {
        let flags = revision.flags;
        RevisionBody {
            id: revision.id.0,
            description: revision.description,
            name: revision.name,
            kind: kind(revision.kind),
            replace: mode(revision.replace),
            creation_user: revision.created_by,
            creation_time: millis(revision.created_at),
            last_modified_user: revision.modified_by,
            last_modified_time: millis(revision.modified_at),
            has_vql: true,
            has_scheduler: false,
            include_jars: flags.jars,
            include_statistics: flags.statistics,
            use_default_database: flags.default_database,
            include_i18n: flags.i18n,
            include_server_properties: flags.server_properties,
            include_web_container_properties: flags.web_container_properties,
            include_jdbc_wrapper_properties: flags.jdbc_wrapper_properties,
            include_vdp_dependencies: flags.dependencies,
            content_hash: revision.content_hash,
            deployed_on: deployed.into_iter().map(DeployedOnBody::new).collect(),
        }
    }
}

impl DeployedOnBody {
    fn new(deployed: DeployedOn) -> DeployedOnBody {
        DeployedOnBody {
            id: deployed.environment.0,
            name: deployed.name,
            description: deployed.description,
            minimum_update_mandatory: deployed.minimum_update_mandatory,
        }
    }
}

/// The page of a list.
pub fn page(query: &Query) -> Result<Page> {
    let mut faults = Faults::default();
    query.unknown(&["start", "count"]).into_iter().for_each(|fault| faults.add(fault));
    let start = faults.take(query.int("start", 0..=i64::MAX)).flatten().unwrap_or(0);
    let count = faults.take(query.int("count", 1..=i64::from(Page::MAX_LIMIT))).flatten().unwrap_or(10);
    faults.finish()?;
    Ok(Page { offset: start.unsigned_abs(), limit: u32::try_from(count).unwrap_or(10) })
}

/// The body of an upload, for the reference.
#[derive(Debug, Serialize, ToSchema)]
pub struct Upload {
    #[schema(min_length = 1, max_length = 255, example = "Revision 1")]
    name: String,
    #[schema(max_length = 4000, example = "First revision")]
    description: Option<String>,
    /// The script as base64 of UTF-8, with or without a byte order mark; at most 32 MiB before it is encoded. White space
    /// in the base64 does not count.
    #[schema(format = Byte, example = "Q1JFQVRFIERBVEFCQVNFIGQ7Cg==")]
    content: String,
    /// Stored only: the script is executed as it is [default: REPLACE_EXISTING].
    #[schema(
        pattern = "^(DO_NOT_REPLACE_EXISTING|REPLACE_EXISTING|DROP_ELEMENTS_BEFORE)$",
        example = "REPLACE_EXISTING"
    )]
    replace: Option<String>,
    /// A Java `.properties` file as base64: the values where the script comes from.
    #[schema(format = Byte, example = "YS5VU0VSTkFNRT11Cg==")]
    properties: Option<String>,
}

/// The body of a revision of a server, for the reference.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selection {
    #[schema(min_length = 1, max_length = 255, example = "Revision 2")]
    name: String,
    #[schema(max_length = 4000, example = "Second revision")]
    description: Option<String>,
    #[schema(minimum = 1, example = 12)]
    server_id: i64,
    /// A virtual database of the server.
    #[schema(min_length = 1, example = "sales")]
    database: String,
    /// Whether the revision creates the elements or drops them.
    #[serde(rename = "type")]
    #[schema(pattern = "^(INSERT|DELETE)$", example = "INSERT")]
    kind: String,
    /// Names of views, datasources and wrappers, and paths of folders [default: everything in the database].
    #[schema(min_items = 1, max_items = 10000, example = json!(["orders"]))]
    elements: Option<Vec<String>>,
    /// What the revision does with elements that exist [default: REPLACE_EXISTING].
    #[schema(
        pattern = "^(DO_NOT_REPLACE_EXISTING|REPLACE_EXISTING|DROP_ELEMENTS_BEFORE)$",
        example = "REPLACE_EXISTING"
    )]
    replace: Option<String>,
}

const RULES: Rules = Rules { null: NullIs::Absent, unknown: Unknown::Report };

/// The plane checks the length of texts.
fn text(field: Field<'_>) -> Option<String> {
    field.text(0..=usize::MAX)
}

fn replace(body: &Fields<'_>) -> ReplaceMode {
    body.optional("replace", |field| field.choice(&MODES)).value().unwrap_or_default()
}

pub fn read_upload(body: &[u8]) -> Result<Input<NewRevision>> {
    let object = json_object(body)?;
    let input = read_input(&object, RULES, |body| NewRevision {
        name: body.required("name", text),
        description: body.optional("description", text).value(),
        vql: body.required("content", Field::base64),
        replace: replace(body),
        properties: body.optional("properties", Field::base64).value(),
    });
    Ok(input.named(field_name))
}

pub fn read_selection(body: &[u8]) -> Result<Input<FromServer>> {
    const KINDS: [(&str, RevisionType); 2] =
        [("INSERT", RevisionType::Insert), ("DELETE", RevisionType::Delete)];
    let object = json_object(body)?;
    let input = read_input(&object, RULES, |body| FromServer {
        name: body.required("name", text),
        description: body.optional("description", text).value(),
        server: ServerRef::Id(ServerId(body.required("serverId", |field| field.int(1..=i64::MAX)))),
        database: body.required("database", text),
        kind: body.required_or("type", RevisionType::Insert, |field| field.choice(&KINDS)),
        elements: body.optional("elements", |field| field.list(usize::MAX, text)).value(),
        replace: replace(body),
    });
    Ok(input.named(field_name))
}

/// The dialect's name of a field.
fn field_name(field: &str) -> String {
    let name = match field {
        "vql" => "content",
        "kind" => "type",
        "server" => "serverId",
        other => other,
    };
    name.to_owned()
}
