//! Custom data: JSON objects with a reference and a key.

use jiff::Timestamp;
use landreeve_core::error::Faults;
use landreeve_core::ids::OuId;
use landreeve_core::{Action, Error, Input, OpCtx, Part, Result};
use landreeve_estate::args;
use landreeve_estate::ops::OwnedAct;
use landreeve_estate::store::{Listing, Row, Tx, Where, next_in};
use serde_json::Value;

use crate::ids::CustomDataId;
use crate::nouns;
use crate::{Delivery, text};

const MAX_VALUES_PER_CALL: usize = 10_000;

#[derive(Debug, Clone)]
pub struct NewCustomData {
    pub reference: String,
    pub key: String,
    /// An object.
    pub value: Value,
    /// Defaults to the current time.
    pub at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct CustomData {
    pub id: CustomDataId,
    pub reference: String,
    pub key: String,
    pub value: Value,
    pub at: Timestamp,
}

/// How a request identifies a record.
#[derive(Debug, Clone)]
pub enum CustomDataRef {
    Key { reference: String, key: String },
    Id(CustomDataId),
}

/// `place` is the prefix of the record's fields in the request (`data.0.`).
fn check(new: &NewCustomData, place: &str, faults: &mut Faults) {
    text::check(faults, &format!("{place}reference"), &new.reference, text::NAME);
    text::check(faults, &format!("{place}key"), &new.key, text::NAME);
    if !new.value.is_object() {
        faults.push(format!("{place}value"), "type", "must be an object");
    }
}

pub async fn custom_data_set(plane: &Delivery, ctx: &OpCtx, new: Input<NewCustomData>) -> Result<CustomData> {
    plane.estate().require_here(ctx, nouns::DELIVERY, Action::USE).await?;
    let new = new.checked(|new, faults| check(new, "", faults))?;
    let (ou, now) = (ctx.authority().ou(), plane.estate().now());
    let act = recorded(format!("custom data {} {}", new.reference, new.key));
    plane.estate().change(ctx, act, move |tx| Box::pin(set_one(tx, ou, new, now))).await
}

/// Sets all the records or none.
pub async fn custom_data_set_all(
    plane: &Delivery,
    ctx: &OpCtx,
    all: Input<Vec<NewCustomData>>,
) -> Result<Vec<CustomData>> {
    plane.estate().require_here(ctx, nouns::DELIVERY, Action::USE).await?;
    let all = all.checked(|all, faults| {
        if all.len() > MAX_VALUES_PER_CALL {
            faults.push("data", "range", format!("must have at most {MAX_VALUES_PER_CALL} records"));
        }
        for (at, new) in all.iter().take(MAX_VALUES_PER_CALL).enumerate() {
            check(new, &format!("data.{at}."), faults);
        }
    })?;
    let (ou, now) = (ctx.authority().ou(), plane.estate().now());
    let act = recorded(format!("{} records of custom data", all.len()));
    plane
        .estate()
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                let mut set = Vec::with_capacity(all.len());
                for new in all {
                    set.push(set_one(tx, ou, new, now).await?);
                }
                Ok(set)
            })
        })
        .await
}

fn recorded(detail: String) -> OwnedAct {
    OwnedAct { action: "recorded", noun: nouns::DELIVERY, noun_id: None, detail }
}

async fn set_one(tx: &mut Tx, ou: OuId, new: NewCustomData, now: Timestamp) -> Result<CustomData> {
    let id = CustomDataId(next_in(tx, CustomDataId::KIND).await?);
    let at = new.at.unwrap_or(now);
    let row = tx
        .one(
            "INSERT INTO delivery_custom_data (id, ou_id, reference, key, value, at) VALUES ($1, $2, $3, $4, $5, $6) \
             ON CONFLICT (ou_id, reference, key) DO UPDATE SET value = excluded.value, at = excluded.at RETURNING id",
            args![id, ou, &new.reference, &new.key, new.value.to_string(), at],
        )
        .await?;
    Ok(CustomData { id: row.id(0)?, reference: new.reference, key: new.key, value: new.value, at })
}

fn from_row(row: &Row) -> Result<CustomData> {
    Ok(CustomData {
        id: row.id(0)?,
        reference: row.text(1)?,
        key: row.text(2)?,
        value: row.json(3)?,
        at: row.time(4)?,
    })
}

fn not_found() -> Error {
    Error::not_found("custom data")
}

pub async fn custom_data_get(plane: &Delivery, ctx: &OpCtx, which: &CustomDataRef) -> Result<CustomData> {
    plane.estate().require_here(ctx, nouns::DELIVERY, Action::USE).await?;
    let ou = ctx.authority().ou();
    let mut conn = plane.estate().store().read().await?;
    let row = match which {
        CustomDataRef::Key { reference, key } => {
            let sql = "SELECT id, reference, key, value, at FROM delivery_custom_data \
                       WHERE ou_id = $1 AND reference = $2 AND key = $3";
            conn.opt(sql, args![ou, reference, key]).await?
        }
        CustomDataRef::Id(id) => {
            let sql =
                "SELECT id, reference, key, value, at FROM delivery_custom_data WHERE ou_id = $1 AND id = $2";
            conn.opt(sql, args![ou, *id]).await?
        }
    };
    row.as_ref().map(from_row).transpose()?.ok_or_else(not_found)
}

/// The page of a reference's records after this key.
pub async fn custom_data_list(
    plane: &Delivery,
    ctx: &OpCtx,
    reference: &str,
    after: Option<String>,
) -> Result<Part<CustomData, String>> {
    const LISTING: Listing = Listing {
        columns: "c.id, c.reference, c.key, c.value, c.at",
        from: "delivery_custom_data c",
        order: "c.key",
        size: Some("length(c.value)"),
    };
    plane.estate().require_here(ctx, nouns::DELIVERY, Action::USE).await?;
    let mut conn = plane.estate().store().read().await?;
    let mut wanted = Where::new(conn.dialect());
    wanted.and_value("c.ou_id = $$", ctx.authority().ou());
    wanted.and_value("c.reference = $$", reference);
    if let Some(key) = after {
        wanted.and_after("c.key", args![key]);
    }
    wanted.page(&mut conn, &LISTING, from_row, |record| record.key.clone()).await
}

/// Deleting a record that does not exist is an error.
pub async fn custom_data_delete(plane: &Delivery, ctx: &OpCtx, which: &CustomDataRef) -> Result<()> {
    let found = custom_data_get(plane, ctx, which).await?;
    let act =
        OwnedAct::new("deleted", nouns::DELIVERY, found.id.0, format!("custom data {}", found.reference));
    plane
        .estate()
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                tx.exec("DELETE FROM delivery_custom_data WHERE id = $1", args![found.id]).await.map(drop)
            })
        })
        .await
}

/// Deletes every record of a reference, if there are any.
pub async fn custom_data_delete_all(plane: &Delivery, ctx: &OpCtx, reference: String) -> Result<u64> {
    plane.estate().require_here(ctx, nouns::DELIVERY, Action::USE).await?;
    let ou = ctx.authority().ou();
    let detail = format!("custom data {reference}");
    let act = OwnedAct { action: "deleted", noun: nouns::DELIVERY, noun_id: None, detail };
    plane
        .estate()
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                let sql = "DELETE FROM delivery_custom_data WHERE ou_id = $1 AND reference = $2";
                tx.exec(sql, args![ou, &reference]).await
            })
        })
        .await
}
