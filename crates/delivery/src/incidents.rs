//! Incidents: identified by reference; each member is left, cleared or replaced.

use jiff::Timestamp;
use landreeve_core::error::Faults;
use landreeve_core::ids::OuId;
use landreeve_core::{Action, Error, Fault, Given, Input, OpCtx, Result};
use landreeve_estate::ops::OwnedAct;
use landreeve_estate::store::{Tx, next_in};
use landreeve_estate::{Estate, args};

use crate::ids::{IncidentId, ServiceId};
use crate::metadata::Metadata;
use crate::names::{Names, ServiceName};
use crate::nouns;
use crate::{Delivery, text};

#[derive(Debug, Clone, Default)]
pub struct IncidentFacts {
    /// Required for a new incident.
    pub started_at: Option<Timestamp>,
    pub name: Given<String>,
    pub priority: Given<String>,
    pub source_url: Given<String>,
    pub resolved_at: Given<Timestamp>,
    pub services: Given<Vec<ServiceName>>,
    pub metadata: Given<Metadata>,
}

fn check(reference: &str, facts: &IncidentFacts, now: Timestamp, faults: &mut Faults) {
    text::check(faults, "reference_id", reference, text::NAME);
    text::check_opt(faults, "name", facts.name.as_value().map(String::as_str), text::LONG);
    text::check_opt(faults, "priority", facts.priority.as_value().map(String::as_str), text::NAME);
    text::check_opt(faults, "source_url", facts.source_url.as_value().map(String::as_str), text::LONG);
    ServiceName::check_list("services", facts.services.as_value().map_or(&[], Vec::as_slice), faults);
    text::check_past(faults, "started_at", facts.started_at, now);
    if let (Some(started), Some(resolved)) = (facts.started_at, facts.resolved_at.as_value())
        && *resolved < started
    {
        faults.add(resolved_too_early());
    }
}

fn resolved_too_early() -> Fault {
    Fault::new("resolved_at", "range", "must not be before started_at")
}

/// Records an incident, or updates the given members.
pub async fn incident_upsert(
    plane: &Delivery,
    ctx: &OpCtx,
    reference: String,
    facts: Input<IncidentFacts>,
) -> Result<IncidentId> {
    plane.estate().require_here(ctx, nouns::DELIVERY, Action::USE).await?;
    let facts = facts.noted(|faults| text::refuse_own(faults, &reference));
    upsert(plane, ctx, reference, facts).await
}

/// The same, for an event.
pub(crate) async fn upsert(
    plane: &Delivery,
    ctx: &OpCtx,
    reference: String,
    facts: Input<IncidentFacts>,
) -> Result<IncidentId> {
    let now = plane.estate().now();
    let facts = facts.checked(|facts, faults| check(&reference, facts, now, faults))?;
    let (ou, inner) = (ctx.authority().ou(), plane.clone());
    let (id, found) = plane
        .estate()
        .change_told(ctx, move |tx| {
            Box::pin(async move {
                let mut names = Names::new(&inner, ou);
                let now = inner.estate().now();
                let old = load(tx, ou, &reference).await?;
                let mut incident = patched(tx, old, &facts).await?;
                if !put(tx, ou, &reference, &incident, now).await? {
                    // Another node has just recorded it.
                    let old = load(tx, ou, &reference).await?;
                    incident = patched(tx, old, &facts).await?;
                    put(tx, ou, &reference, &incident, now).await?;
                }
                put_parts(tx, &mut names, ou, incident.id, &facts).await?;
                let act = OwnedAct::new(
                    "recorded",
                    nouns::DELIVERY,
                    incident.id.0,
                    format!("incident {reference}"),
                );
                Ok(((incident.id, names.found), Some(act)))
            })
        })
        .await?;
    plane.known().remember(found);
    Ok(id)
}

struct Incident {
    id: IncidentId,
    started_at: Timestamp,
    name: Option<String>,
    priority: Option<String>,
    source_url: Option<String>,
    resolved_at: Option<Timestamp>,
    metadata: Option<String>,
}

async fn load(tx: &mut Tx, ou: OuId, reference: &str) -> Result<Option<Incident>> {
    // If two clients change an incident, the second sees what the first wrote.
    let sql = tx.dialect().pick(
        "SELECT id, started_at, name, priority, source_url, resolved_at, metadata FROM delivery_incidents \
         WHERE ou_id = $1 AND reference_id = $2",
        "SELECT id, started_at, name, priority, source_url, resolved_at, metadata FROM delivery_incidents \
         WHERE ou_id = $1 AND reference_id = $2 FOR UPDATE",
    );
    let Some(row) = tx.opt(sql, args![ou, reference]).await? else { return Ok(None) };
    Ok(Some(Incident {
        id: row.id(0)?,
        started_at: row.time(1)?,
        name: row.text_opt(2)?,
        priority: row.text_opt(3)?,
        source_url: row.text_opt(4)?,
        resolved_at: row.time_opt(5)?,
        metadata: row.text_opt(6)?,
    }))
}

async fn patched(tx: &mut Tx, old: Option<Incident>, facts: &IncidentFacts) -> Result<Incident> {
    let started_at = facts.started_at.or_else(|| old.as_ref().map(|old| old.started_at));
    let started_at = started_at.ok_or_else(|| Error::fault("started_at", "required", "is required"))?;
    let old = match old {
        Some(old) => old,
        None => Incident {
            id: IncidentId(next_in(tx, IncidentId::KIND).await?),
            started_at,
            name: None,
            priority: None,
            source_url: None,
            resolved_at: None,
            metadata: None,
        },
    };
    let incident = Incident {
        started_at,
        name: facts.name.clone().over(old.name),
        priority: facts.priority.clone().over(old.priority),
        source_url: facts.source_url.clone().over(old.source_url),
        resolved_at: facts.resolved_at.over(old.resolved_at),
        metadata: match &facts.metadata {
            Given::Absent => old.metadata,
            Given::Null => None,
            Given::Value(metadata) => Some(metadata.as_json()),
        },
        ..old
    };
    if incident.resolved_at.is_some_and(|resolved| resolved < incident.started_at) {
        return Err(Error::invalid(vec![resolved_too_early()]));
    }
    Ok(incident)
}

/// Returns false, and changes nothing, if the reference names a different incident from the one that was loaded.
async fn put(tx: &mut Tx, ou: OuId, reference: &str, incident: &Incident, now: Timestamp) -> Result<bool> {
    let changed = tx.exec(
        "INSERT INTO delivery_incidents (id, ou_id, reference_id, name, priority, source_url, started_at, \
         resolved_at, metadata, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10) \
         ON CONFLICT (ou_id, reference_id) DO UPDATE SET name = excluded.name, priority = excluded.priority, \
         source_url = excluded.source_url, started_at = excluded.started_at, resolved_at = excluded.resolved_at, \
         metadata = excluded.metadata, updated_at = excluded.updated_at \
         WHERE delivery_incidents.id = excluded.id",
        args![
            incident.id,
            ou,
            reference,
            incident.name.clone(),
            incident.priority.clone(),
            incident.source_url.clone(),
            incident.started_at,
            incident.resolved_at,
            incident.metadata.clone(),
            now,
        ],
    );
    Ok(changed.await? > 0)
}

/// The incident's rows in other tables: given lists replace all existing rows.
async fn put_parts(
    tx: &mut Tx,
    names: &mut Names<'_>,
    ou: OuId,
    id: IncidentId,
    facts: &IncidentFacts,
) -> Result<()> {
    if facts.services != Given::Absent {
        tx.exec("DELETE FROM delivery_incident_services WHERE incident_id = $1", args![id]).await?;
        for service in facts.services.as_value().into_iter().flatten() {
            let service: ServiceId = names.service(tx, service).await?;
            let sql = "INSERT INTO delivery_incident_services (incident_id, service_id, ou_id) VALUES ($1, $2, $3) \
                       ON CONFLICT DO NOTHING";
            tx.exec(sql, args![id, service, ou]).await?;
        }
    }
    if facts.metadata != Given::Absent {
        tx.exec("DELETE FROM delivery_incident_metadata WHERE incident_id = $1", args![id]).await?;
        for (key, value) in facts.metadata.as_value().into_iter().flat_map(Metadata::flat) {
            let sql = "INSERT INTO delivery_incident_metadata (incident_id, ou_id, key, value) \
                       VALUES ($1, $2, $3, $4)";
            tx.exec(sql, args![id, ou, key, value]).await?;
        }
    }
    Ok(())
}

/// The unresolved incident that a monitor opened: its reference and start.
pub(crate) async fn open_of_monitor(
    estate: &Estate,
    ou: OuId,
    monitor: i64,
) -> Result<Option<(String, Timestamp)>> {
    let row = estate
        .store()
        .read()
        .await?
        .opt(
            "SELECT reference_id, started_at FROM delivery_incidents WHERE ou_id = $1 AND reference_id LIKE $2 \
             AND resolved_at IS NULL ORDER BY started_at DESC LIMIT 1",
            args![ou, format!("{}monitor:{monitor}:%", text::RESERVED_PREFIX)],
        )
        .await?;
    row.map(|row| Ok((row.text(0)?, row.time(1)?))).transpose()
}
