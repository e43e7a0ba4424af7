//! Organizational units as administrators see them: with what is below them, and who has roles in them.

use std::collections::BTreeMap;

use landreeve_core::ids::{OuId, UserId};
use landreeve_core::{Page, PageOf, Result};
use uuid::Uuid;

use super::ous::{Ou, from_row};
use super::{Place, Visibility};
use crate::args;
use crate::store::{Conn, Listing, Row, Where};

/// At most so many users are named for a unit.
pub const MAX_USERS: i64 = 1_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    pub ou: Ou,
    pub parent: Option<Uuid>,
    /// Units directly below it.
    pub children: u64,
    /// All units below it.
    pub descendants: Vec<Uuid>,
    /// Users with a role in it or below it.
    pub user_count: u64,
    /// Users with a role in it, and the role: at most `MAX_USERS`.
    pub users: Vec<(UserId, Uuid)>,
    /// Whether there are datasources in it or below it.
    pub has_datasources: bool,
}

/// Limits a list of units. A field that is `None` does not limit it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFilter {
    pub parent: Option<Uuid>,
    /// Part of the name. Case matters.
    pub name: Option<String>,
    pub ids: Option<Vec<Uuid>>,
    /// It selects nothing, whatever else it says.
    pub nothing: bool,
}

const LISTING: Listing = Listing {
    columns: "o.id, o.uuid, o.parent_id, o.path, o.name, o.description, o.created_at, o.updated_at, p.uuid, \
              (SELECT count(*) FROM ous c WHERE c.parent_id = o.id), \
              (SELECT count(DISTINCT g.subject_id) FROM grants g JOIN ous b ON b.id = g.ou_id \
               WHERE g.subject_kind = 'user' AND g.role_id IS NOT NULL \
               AND substr(b.path, 1, length(o.path)) = o.path), \
              (SELECT count(*) FROM (SELECT 1 FROM datasources d JOIN ous b ON b.id = d.ou_id \
               WHERE d.builtin IS NULL AND substr(b.path, 1, length(o.path)) = o.path LIMIT 1) found)",
    from: "ous o LEFT JOIN ous p ON p.id = o.parent_id",
    order: "o.path",
    size: None,
};
const PLACE: Place = Place::named("o.id", "o.id IN ($$)");

fn unit(row: &Row) -> Result<Unit> {
    let parent = row.text_opt(8)?.map(|text| text.parse().map_err(landreeve_core::Error::internal));
    Ok(Unit {
        ou: from_row(row)?,
        parent: parent.transpose()?,
        children: row.int(9)?.unsigned_abs(),
        descendants: Vec::new(),
        user_count: row.int(10)?.unsigned_abs(),
        users: Vec::new(),
        has_datasources: row.int(11)? > 0,
    })
}

/// A numbered page, parents first.
pub async fn page(
    conn: &mut Conn,
    visibility: &Visibility,
    asked: &UnitFilter,
    page: Page,
) -> Result<PageOf<Unit>> {
    let mut wanted = Where::new(conn.dialect());
    visibility.narrow(&mut wanted, &PLACE)?;
    if asked.nothing {
        wanted.and("1 = 0");
    }
    if let Some(parent) = asked.parent {
        wanted.and_value("p.uuid = $$", parent.to_string());
    }
    if let Some(name) = &asked.name {
        wanted.and_contains("o.name", name);
    }
    if let Some(ids) = &asked.ids {
        let ids: Vec<String> = ids.iter().map(Uuid::to_string).collect();
        wanted.and_texts("o.uuid", &ids)?;
    }
    let mut found = wanted.numbered(conn, &LISTING, page, unit).await?;
    complete(conn, &mut found.items).await?;
    Ok(found)
}

pub async fn get(conn: &mut Conn, id: OuId) -> Result<Option<Unit>> {
    let sql = format!("SELECT {} FROM {} WHERE o.id = $1", LISTING.columns, LISTING.from);
    let mut found = conn.select(sql, args![id]).await?.iter().map(unit).collect::<Result<Vec<_>>>()?;
    complete(conn, &mut found).await?;
    Ok(found.pop())
}

/// The parts that are lists, for all units of a page.
async fn complete(conn: &mut Conn, units: &mut [Unit]) -> Result<()> {
    let mut at: BTreeMap<OuId, usize> = BTreeMap::new();
    at.extend(units.iter().enumerate().map(|(index, unit)| (unit.ou.id, index)));
    let of_page = |conn: &Conn, column: &str| {
        let mut wanted = Where::new(conn.dialect());
        wanted.and_ids(column, at.keys().map(|id| id.0));
        wanted.into_parts()
    };
    let (condition, values) = of_page(conn, "a.id");
    let sql = format!(
        "SELECT a.id, d.uuid FROM ous a JOIN ous d ON d.id <> a.id AND substr(d.path, 1, length(a.path)) = a.path \
         WHERE {condition} ORDER BY d.path"
    );
    for row in conn.select(sql, values).await? {
        if let Some(unit) = at.get(&row.id(0)?).and_then(|index| units.get_mut(*index)) {
            unit.descendants.push(row.uuid(1)?);
        }
    }
    let (condition, values) = of_page(conn, "g.ou_id");
    let sql = format!(
        "SELECT n.ou_id, n.subject_id, n.uuid FROM (SELECT g.ou_id AS ou_id, g.subject_id AS subject_id, r.uuid AS uuid, \
         row_number() OVER (PARTITION BY g.ou_id ORDER BY g.subject_id, g.id) AS place FROM grants g \
         JOIN roles r ON r.id = g.role_id WHERE g.subject_kind = 'user' AND {condition}) n \
         WHERE n.place <= {MAX_USERS} ORDER BY n.ou_id, n.place"
    );
    for row in conn.select(sql, values).await? {
        if let Some(unit) = at.get(&row.id(0)?).and_then(|index| units.get_mut(*index)) {
            unit.users.push((row.id(1)?, row.uuid(2)?));
        }
    }
    Ok(())
}
