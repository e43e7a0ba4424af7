//! The audit trail: one event per write and per denied request of a known caller, in the transaction of the action.
//! Requests without a valid credential are counted per address and reason and become one event per minute.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

use jiff::Timestamp;
use landreeve_core::ids::{AuditId, OuId};
use landreeve_core::{Action, Ids, Noun, OpCtx, Page, PageOf, Result};
use uuid::Uuid;

use crate::args;
use crate::identity::{Place, Visibility};
use crate::runs::list::Narrow;
use crate::store::{Append, Conn, Row, Tx, Where};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    pub id: AuditId,
    pub at: Timestamp,
    pub actor_kind: String,
    pub actor_id: Option<i64>,
    pub actor_name: String,
    pub face: String,
    pub address: Option<String>,
    pub request_id: Uuid,
    pub ou: OuId,
    pub action: String,
    pub noun: String,
    pub noun_id: Option<i64>,
    pub outcome: String,
    pub detail: String,
}

/// What was done. The context has who and when.
#[derive(Debug, Clone)]
pub struct Act<'a> {
    /// A verb in the past tense: `created`, `updated`, `cancelled`, `signed_in`, `refused`.
    pub action: &'static str,
    pub noun: Noun,
    pub noun_id: Option<i64>,
    pub detail: &'a str,
}

macro_rules! add {
    ($values:literal) => {
        concat!(
            "INSERT INTO audit_events (id, at, actor_kind, actor_id, actor_name, face, address, request_id, ou_id, \
             action, noun, noun_id, outcome, detail) ",
            $values
        )
    };
}

static ADD: Append = Append {
    one: add!("VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"),
    many: add!("SELECT * FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)"),
};

/// Writes the event in the caller's transaction. `id` comes from the `Ids` port before the transaction begins.
pub async fn record(tx: &mut Tx, id: AuditId, now: Timestamp, ctx: &OpCtx, act: Act<'_>) -> Result<()> {
    let outcome = if act.action == "refused" { "refused" } else { "done" };
    tx.append(
        &ADD,
        args![
            id,
            now,
            ctx.actor().kind(),
            ctx.actor().id(),
            ctx.actor().name(),
            ctx.kind().as_str(),
            ctx.address().map(|address| address.to_string()),
            ctx.request_id(),
            ctx.authority().ou(),
            act.action,
            act.noun.as_str(),
            act.noun_id,
            outcome,
            act.detail,
        ],
    )
    .await
}

/// Newest first, limited to what the caller can see.
pub async fn list(conn: &mut Conn, visibility: &Visibility, page: Page) -> Result<PageOf<AuditEvent>> {
    let mut wanted = Where::new(conn.dialect());
    visibility.narrow(&mut wanted, &Place::of_unit("e.ou_id"))?;
    let total = wanted.count(conn, "audit_events e").await?;
    let limit = wanted.bind(page.limit);
    let offset = wanted.bind(i64::try_from(page.offset).unwrap_or(i64::MAX));
    let (condition, values) = wanted.into_parts();
    let sql = format!(
        "SELECT e.id, e.at, e.actor_kind, e.actor_id, e.actor_name, e.face, e.address, e.request_id, e.ou_id, \
         e.action, e.noun, e.noun_id, e.outcome, e.detail FROM audit_events e WHERE {condition} \
         ORDER BY e.at DESC, e.id DESC LIMIT {limit} OFFSET {offset}"
    );
    let rows = conn.select(sql, values).await?;
    let items = rows.iter().map(from_row).collect::<Result<_>>()?;
    Ok(PageOf { items, offset: page.offset, limit: page.limit, total })
}

/// A dialect's words for events. The first rule of a list that fits decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRule {
    /// Empty: any.
    pub nouns: &'static [&'static str],
    pub actions: &'static [&'static str],
    pub details: &'static [&'static str],
    pub category: &'static str,
    pub action: &'static str,
}

impl EventRule {
    pub fn fits(&self, event: &AuditEvent) -> bool {
        let has = |words: &[&str], word: &str| words.is_empty() || words.contains(&word);
        has(self.nouns, &event.noun) && has(self.actions, &event.action) && has(self.details, &event.detail)
    }

    fn condition(&self, list: &mut Where) -> String {
        let parts = [("e.noun", self.nouns), ("e.action", self.actions), ("e.detail", self.details)];
        let given = parts.into_iter().filter(|(_, words)| !words.is_empty());
        let given = given.map(|(column, words)| {
            let places: Vec<String> = words.iter().map(|word| list.bind(*word)).collect();
            format!("{column} IN ({})", places.join(", "))
        });
        let given: Vec<String> = given.collect();
        if given.is_empty() { "1 = 1".to_owned() } else { given.join(" AND ") }
    }
}

/// Limits a list of events. A field that is `None` does not limit it; an empty list selects nothing.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// What `categories` and `actions` are about.
    pub rules: &'static [EventRule],
    pub categories: Option<Vec<String>>,
    pub actions: Option<Vec<String>>,
    pub nouns: Option<Vec<String>>,
    /// `done`, `refused`.
    pub outcomes: Option<Vec<String>>,
    pub emails: Option<Vec<String>>,
    pub address: Option<String>,
    /// Only this unit, without those below it.
    pub unit: Option<Uuid>,
    /// From, inclusive, and to, exclusive.
    pub at: (Option<Timestamp>, Option<Timestamp>),
    /// What only a plane knows, about `audit_events e`.
    pub narrow: Option<Narrow>,
    /// It selects nothing, whatever else it says.
    pub nothing: bool,
}

/// The email address of the user who acted, also with a key. Without one, the actor's name.
const EMAIL: &str = "COALESCE(NULLIF(u.email, ''), NULLIF(k.email, ''), e.actor_name)";
const WITH_ACTOR: &str = "audit_events e LEFT JOIN users u ON e.actor_kind = 'user' AND u.id = e.actor_id \
                          LEFT JOIN (SELECT keys.id AS id, COALESCE(NULLIF(users.email, ''), users.name) AS email FROM keys \
                          JOIN users ON users.id = keys.user_id) k ON e.actor_kind = 'key' AND k.id = e.actor_id";

/// What a rule says of an event.
type Word = fn(&EventRule) -> &'static str;

impl AuditFilter {
    fn narrow(&self, wanted: &mut Where) -> Result<()> {
        if self.nothing {
            wanted.and("1 = 0");
        }
        let words: [(&Option<Vec<String>>, Word); 2] =
            [(&self.categories, |rule| rule.category), (&self.actions, |rule| rule.action)];
        for (asked, word) in words {
            let Some(asked) = asked else { continue };
            let cases: Vec<String> = self
                .rules
                .iter()
                .map(|rule| format!("WHEN {} THEN '{}'", rule.condition(wanted), word(rule)))
                .collect();
            wanted.and_texts(&format!("(CASE {} END)", cases.join(" ")), asked)?;
        }
        let lists = [("e.noun", &self.nouns), ("e.outcome", &self.outcomes), (EMAIL, &self.emails)];
        for (column, asked) in lists {
            if let Some(asked) = asked {
                wanted.and_texts(column, asked)?;
            }
        }
        if let Some(address) = &self.address {
            wanted.and_value("e.address = $$", address);
        }
        if let Some(unit) = self.unit {
            wanted.and_value("e.ou_id IN (SELECT id FROM ous WHERE uuid = $$)", unit.to_string());
        }
        for (operator, time) in [(">=", self.at.0), ("<", self.at.1)] {
            if let Some(time) = time {
                wanted.and_value(&format!("e.at {operator} $$"), time);
            }
        }
        if let Some(Narrow(narrow)) = &self.narrow {
            narrow(wanted);
        }
        Ok(())
    }
}

/// An event, and the email address of the user who acted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    pub event: AuditEvent,
    pub email: String,
}

/// A numbered page of what the filter selects, newest first.
pub async fn select(
    conn: &mut Conn,
    visibility: &Visibility,
    asked: &AuditFilter,
    page: Page,
) -> Result<PageOf<AuditRecord>> {
    let mut wanted = Where::new(conn.dialect());
    visibility.narrow(&mut wanted, &Place::of_unit("e.ou_id"))?;
    asked.narrow(&mut wanted)?;
    let total = wanted.count(conn, WITH_ACTOR).await?;
    let limit = wanted.bind(page.limit);
    let offset = wanted.bind(i64::try_from(page.offset).unwrap_or(i64::MAX));
    let (condition, values) = wanted.into_parts();
    let sql = format!(
        "SELECT e.id, e.at, e.actor_kind, e.actor_id, e.actor_name, e.face, e.address, e.request_id, e.ou_id, \
         e.action, e.noun, e.noun_id, e.outcome, e.detail, {EMAIL} FROM {WITH_ACTOR} WHERE {condition} \
         ORDER BY e.at DESC, e.id DESC LIMIT {limit} OFFSET {offset}"
    );
    let rows = conn.select(sql, values).await?;
    let record = |row: &Row| Ok(AuditRecord { event: from_row(row)?, email: row.text(14)? });
    let items = rows.iter().map(record).collect::<Result<_>>()?;
    Ok(PageOf { items, offset: page.offset, limit: page.limit, total })
}

fn from_row(row: &Row) -> Result<AuditEvent> {
    Ok(AuditEvent {
        id: row.id(0)?,
        at: row.time(1)?,
        actor_kind: row.text(2)?,
        actor_id: row.int_opt(3)?,
        actor_name: row.text(4)?,
        face: row.text(5)?,
        address: row.text_opt(6)?,
        request_id: row.uuid(7)?,
        ou: row.id(8)?,
        action: row.text(9)?,
        noun: row.text(10)?,
        noun_id: row.int_opt(11)?,
        outcome: row.text(12)?,
        detail: row.text(13)?,
    })
}

pub async fn purge(tx: &mut Tx, before: Timestamp) -> Result<u64> {
    tx.exec("DELETE FROM audit_events WHERE at < $1", args![before]).await
}

/// Counts requests of unknown callers in memory. Bounded: addresses beyond the limit share an entry without an address.
#[derive(Debug, Default)]
pub struct Strangers(Mutex<HashMap<(Option<IpAddr>, &'static str), u64>>);

const ADDRESSES: usize = 1_024;

impl Strangers {
    pub fn count(&self, address: Option<IpAddr>, reason: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = if counts.len() < ADDRESSES || counts.contains_key(&(address, reason)) {
            (address, reason)
        } else {
            (None, reason)
        };
        *counts.entry(key).or_insert(0) += 1;
    }

    /// The counts since the last call.
    pub fn take(&self) -> Vec<(Option<IpAddr>, &'static str, u64)> {
        let counts = std::mem::take(&mut *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        counts.into_iter().map(|((address, reason), count)| (address, reason, count)).collect()
    }
}

/// Writes the counts as events, one per address and reason.
pub async fn record_strangers(
    tx: &mut Tx,
    ids: &[AuditId],
    now: Timestamp,
    counts: &[(Option<IpAddr>, &'static str, u64)],
) -> Result<()> {
    for (id, (address, reason, count)) in ids.iter().zip(counts) {
        tx.exec(
            "INSERT INTO audit_events (id, at, actor_kind, actor_id, actor_name, face, address, request_id, ou_id, \
             action, noun, noun_id, outcome, detail) \
             VALUES ($1, $2, 'stranger', NULL, '', 'any', $3, $4, 1, 'refused', 'session', NULL, 'refused', $5)",
            args![
                *id,
                now,
                address.map(|address| address.to_string()),
                Uuid::nil(),
                format!("{reason}: {count} requests"),
            ],
        )
        .await?;
    }
    Ok(())
}

pub async fn next_id(ids: &dyn Ids) -> Result<AuditId> {
    ids.next(AuditId::KIND).await.map(AuditId)
}

/// The permission for reading the trail.
pub const READ: (Noun, Action) = (Noun::AUDIT, Action::VIEW);
