//! SQL snippets on the wire.

use landreeve_analytics::ids::SnippetId;
use landreeve_analytics::snippets::{Snippet, SnippetDetails};
use landreeve_core::hashid::HashIds;
use landreeve_core::ids::DatasourceId;
use landreeve_core::{Input, Result};
use landreeve_http::body::Fields;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Time, ToMany, ToOne, datasources};
use crate::input::{Names, Patch, document, to_one};

pub const KIND: &str = "sql_snippets";
pub const NAMES: Names = Names(&["datasource"]);

#[derive(Debug, Serialize, ToSchema)]
pub struct SqlSnippet {
    #[schema(read_only, example = "qw1x-7w2l-7rd5")]
    pub id: String,
    #[serde(rename = "type")]
    #[schema(example = "sql_snippets")]
    pub kind: &'static str,
    pub attributes: SnippetAttributes,
    pub relationships: SnippetRelationships,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SnippetAttributes {
    /// The name in SQL: `[revenue]`.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z_][A-Za-z0-9_]*$", example = "revenue")]
    pub name: String,
    #[schema(max_length = 65536)]
    pub description: String,
    /// The text that replaces the name: at most 256 KiB.
    #[schema(max_length = 262144, example = "sum(o_totalprice)")]
    pub sql: String,
    #[schema(read_only)]
    pub created_at: Time,
    #[schema(read_only)]
    pub updated_at: Time,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SnippetRelationships {
    /// Only tells editors whose names to offer.
    pub datasource: ToOne,
    /// The ones that its text uses.
    #[schema(read_only)]
    pub sql_snippets: ToMany,
}

pub fn render(snippet: &Snippet, uses: &[SnippetId], ids: &HashIds) -> SqlSnippet {
    let details = &snippet.details;
    SqlSnippet {
        id: ids.encode_grouped(snippet.id),
        kind: KIND,
        attributes: SnippetAttributes {
            name: details.name.clone(),
            description: details.description.clone(),
            sql: details.sql.clone(),
            created_at: Time(snippet.created_at),
            updated_at: Time(snippet.updated_at),
        },
        relationships: SnippetRelationships {
            datasource: ToOne::to(ids, datasources::KIND, details.datasource),
            sql_snippets: ToMany::to(ids, KIND, uses.iter().copied()),
        },
    }
}

/// `id` is the one in the path; `None` if the snippet is being created.
pub fn read(body: &[u8], ids: &HashIds, id: Option<&str>) -> Result<Input<Patch<SnippetDetails>>> {
    let read = document(body, KIND, id, attributes, |fields| {
        fields.ignore(&["sql_snippets"]);
        let mut patch: Patch<SnippetDetails> = Patch::new();
        let decode = |text: &str| ids.decode_grouped::<DatasourceId>(text);
        patch.take(to_one(fields, "datasource", datasources::KIND, decode), |details, id| {
            details.datasource = id;
        });
        patch
    })?;
    let read = read.map(|(attributes, relationships), _| attributes.and(relationships));
    Ok(read.named(|field| NAMES.pointer(field)))
}

fn attributes(fields: &Fields<'_>) -> Patch<SnippetDetails> {
    let mut patch: Patch<SnippetDetails> = Patch::new();
    fields.ignore(&["created_at", "updated_at"]);
    let text = |name: &str, most: usize| fields.optional(name, |field| field.text(0..=most));
    patch.take(text("name", 1_024), |details, name| {
        details.name = name.unwrap_or_default();
    });
    patch.take(text("description", 65_536), |details, text| details.description = text.unwrap_or_default());
    patch.take(text("sql", usize::MAX), |details, sql| details.sql = sql.unwrap_or_default());
    patch
}
