//! The audit trail with what its events are about, by the ids and names that dialects show.

use std::sync::Arc;

use landreeve_core::{OpCtx, Page, PageOf, Result};
use landreeve_estate::audit::{AuditEvent, AuditFilter, AuditRecord};
use landreeve_estate::ops::Narrow;
use landreeve_estate::ops::audit::audit_select;
use landreeve_estate::store::Where;

use crate::plane::Protection;
use crate::subjects::{Subject, TABLES, look_up};

/// An event, and what it is about unless that is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub record: AuditRecord,
    pub subject: Option<Subject>,
}

/// Events about something that is gone and whose detail was its name.
pub const NAMING: [&str; 2] = ["created", "deleted"];

/// The name that an event has for what is gone.
pub fn former_name(event: &AuditEvent) -> Option<&str> {
    NAMING.contains(&event.action.as_str()).then_some(event.detail.as_str()).filter(|name| !name.is_empty())
}

/// Limits the list by what events are about. `None` does not limit it.
#[derive(Debug, Clone, Default)]
pub struct TrailFilter {
    pub audit: AuditFilter,
    pub ids: Option<Vec<String>>,
    pub names: Option<Vec<String>>,
}

/// A numbered page, newest first.
pub async fn trail_page(
    plane: &Protection,
    ctx: &OpCtx,
    asked: TrailFilter,
    page: Page,
) -> Result<PageOf<Entry>> {
    let estate = plane.estate();
    let TrailFilter { audit, ids, names } = asked;
    let narrow = Narrow(Arc::new(move |wanted: &mut Where| apply(wanted, ids.as_ref(), names.as_ref())));
    let audit = AuditFilter { narrow: Some(narrow), ..audit };
    let found = audit_select(estate, ctx, &audit, page).await?;
    let about =
        |record: &AuditRecord| Some((record.event.id, record.event.noun.clone(), record.event.noun_id?));
    let about: Vec<_> = found.items.iter().filter_map(about).collect();
    let mut subjects = look_up(&mut estate.store().read().await?, &TABLES, &about).await?;
    let entry = |record: AuditRecord| Entry { subject: subjects.remove(&record.event.id), record };
    let items = found.items.into_iter().map(entry).collect();
    Ok(PageOf { items, offset: found.offset, limit: found.limit, total: found.total })
}

fn apply(wanted: &mut Where, ids: Option<&Vec<String>>, names: Option<&Vec<String>>) {
    for (asked, of_name) in [(ids, false), (names, true)] {
        let Some(asked) = asked else { continue };
        let places: Vec<String> = asked.iter().map(|text| wanted.bind(text)).collect();
        let list = if places.is_empty() { "NULL".to_owned() } else { places.join(", ") };
        let known = |column: &dyn Fn(usize) -> String| {
            let rows = TABLES.iter().enumerate().map(|(at, table)| {
                let nouns: Vec<String> =
                    table.nouns.iter().map(|noun| format!("'{}'", noun.as_str())).collect();
                format!(
                    "(e.noun IN ({}) AND EXISTS (SELECT 1 FROM {} WHERE {} = e.noun_id{}))",
                    nouns.join(", "),
                    table.from,
                    table.number,
                    column(at)
                )
            });
            format!("({})", rows.collect::<Vec<_>>().join(" OR "))
        };
        let named = known(&|at| {
            let table = TABLES.get(at);
            let text = table.map_or("NULL", |table| if of_name { table.name } else { table.id });
            format!(" AND {text} IN ({list})")
        });
        let exists = known(&|_| String::new());
        let former = match of_name {
            false => format!("CAST(e.noun_id AS TEXT) IN ({list})"),
            true => {
                let naming = NAMING.map(|action| format!("'{action}'")).join(", ");
                format!("e.action IN ({naming}) AND e.detail <> '' AND e.detail IN ({list})")
            }
        };
        wanted.and(&format!("({named} OR (NOT {exists} AND e.noun_id IS NOT NULL AND {former}))"));
    }
}
