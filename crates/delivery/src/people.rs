//! People: the authors of code. A person cannot sign in; a person and an estate user with the same email address are
//! linked.

use jiff::Timestamp;
use landreeve_core::error::Faults;
use landreeve_core::ids::{OuId, UserId};
use landreeve_core::{Action, Error, Input, OpCtx, Page, PageOf, Permission, Result, calendar};
use landreeve_estate::args;
use landreeve_estate::identity::{Place, Visibility};
use landreeve_estate::ops::OwnedAct;
use landreeve_estate::store::{Conn, Row, Tx, Where, next_in};

use crate::attribution::lock_unit;
use crate::ids::{PersonId, TeamId};
use crate::nouns;
use crate::{Delivery, text};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub id: PersonId,
    pub ou: OuId,
    pub name: String,
    pub email: String,
    pub user: Option<UserId>,
    pub github_username: Option<String>,
    pub additional_github_username: Option<String>,
    pub gitlab_username: Option<String>,
    pub start_date: Option<String>,
    pub ai_light_adoption_date: Option<String>,
    pub ai_moderate_adoption_date: Option<String>,
    pub ai_heavy_adoption_date: Option<String>,
    pub deleted_at: Option<Timestamp>,
}

/// What a client says about a person. `None` keeps the stored value; an empty string clears it.
#[derive(Debug, Clone, Default)]
pub struct PersonFacts {
    pub name: Option<String>,
    pub github_username: Option<String>,
    pub additional_github_username: Option<String>,
    pub gitlab_username: Option<String>,
    /// Dates as YYYY-MM-DD.
    pub start_date: Option<String>,
    pub ai_light_adoption_date: Option<String>,
    pub ai_moderate_adoption_date: Option<String>,
    pub ai_heavy_adoption_date: Option<String>,
}

/// The author of a change, as its source names them.
#[derive(Debug, Clone, Default)]
pub struct Author {
    pub email: Option<String>,
    pub username: Option<String>,
}

/// Whose a change is: the author, and the author's team at that time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Whose {
    pub person: Option<PersonId>,
    pub team: Option<TeamId>,
}

pub(crate) async fn whose(conn: &mut Conn, ou: OuId, author: &Author, at: Timestamp) -> Result<Whose> {
    if author.email.is_none() && author.username.is_none() {
        return Ok(Whose::default());
    }
    let lower = |text: &Option<String>| text.as_ref().map(|text| text.to_lowercase());
    let row = conn
        .opt(
            "SELECT i.person_id, (SELECT m.team_id FROM delivery_memberships m WHERE m.person_id = i.person_id \
             AND m.from_at <= $4 AND (m.until_at IS NULL OR m.until_at > $4) ORDER BY m.from_at DESC, m.id DESC LIMIT 1) \
             FROM delivery_identifiers i WHERE i.ou_id = $1 \
             AND ((i.kind = 'email' AND i.value = $2) OR (i.kind = 'github_username' AND i.value = $3)) \
             ORDER BY i.kind LIMIT 1",
            args![ou, lower(&author.email), lower(&author.username), at],
        )
        .await?;
    match row {
        Some(row) => Ok(Whose { person: Some(row.id(0)?), team: row.id_opt(1)? }),
        None => Ok(Whose::default()),
    }
}

macro_rules! person {
    ($rest:literal) => {
        concat!(
            "SELECT p.id, p.ou_id, p.name, p.email, p.user_id, p.github_username, p.additional_github_username, \
             p.gitlab_username, p.start_date, p.ai_light_adoption_date, p.ai_moderate_adoption_date, \
             p.ai_heavy_adoption_date, p.deleted_at FROM delivery_people p ",
            $rest
        )
    };
}

fn from_row(row: &Row) -> Result<Person> {
    Ok(Person {
        id: row.id(0)?,
        ou: row.id(1)?,
        name: row.text(2)?,
        email: row.text(3)?,
        user: row.id_opt(4)?,
        github_username: row.text_opt(5)?,
        additional_github_username: row.text_opt(6)?,
        gitlab_username: row.text_opt(7)?,
        start_date: row.text_opt(8)?,
        ai_light_adoption_date: row.text_opt(9)?,
        ai_moderate_adoption_date: row.text_opt(10)?,
        ai_heavy_adoption_date: row.text_opt(11)?,
        deleted_at: row.time_opt(12)?,
    })
}

fn not_found() -> Error {
    Error::not_found("person")
}

fn check(email: &str, facts: &PersonFacts, faults: &mut Faults) {
    if !email.contains('@') || email.chars().count() > text::NAME || email.chars().any(char::is_whitespace) {
        faults.push("email", "format", "must be an email address");
    }
    text::check_opt(faults, "name", facts.name.as_deref(), text::NAME);
    for (field, name) in [
        ("github_username", &facts.github_username),
        ("additional_github_username", &facts.additional_github_username),
        ("gitlab_username", &facts.gitlab_username),
    ] {
        if name.as_ref().is_some_and(|name| name.chars().count() > text::NAME) {
            faults.push(field, "length", format!("must have at most {} characters", text::NAME));
        }
    }
    for (field, date) in [
        ("start_date", &facts.start_date),
        ("ai_light_adoption_date", &facts.ai_light_adoption_date),
        ("ai_moderate_adoption_date", &facts.ai_moderate_adoption_date),
        ("ai_heavy_adoption_date", &facts.ai_heavy_adoption_date),
    ] {
        if let Some(date) = date.as_ref().filter(|date| !date.is_empty())
            && calendar::date(date).is_none()
        {
            faults.push(field, "format", "must be a date such as 2026-01-31");
        }
    }
}

/// Updates the given values of a known person.
pub async fn person_update(
    plane: &Delivery,
    ctx: &OpCtx,
    email: &str,
    facts: Input<PersonFacts>,
) -> Result<Person> {
    put(plane, ctx, email, facts, false).await
}

/// Adds a person or updates the given values. Does not create a login.
pub async fn person_upsert(
    plane: &Delivery,
    ctx: &OpCtx,
    email: &str,
    facts: Input<PersonFacts>,
) -> Result<Person> {
    put(plane, ctx, email, facts, true).await
}

async fn put(
    plane: &Delivery,
    ctx: &OpCtx,
    email: &str,
    facts: Input<PersonFacts>,
    create: bool,
) -> Result<Person> {
    plane.estate().require_here(ctx, nouns::PERSON, Action::MANAGE).await?;
    let email = email.trim().to_lowercase();
    let facts = facts.checked(|facts, faults| check(&email, facts, faults))?;
    let (ou, inner) = (ctx.authority().ou(), plane.clone());
    plane
        .estate()
        .change_told(ctx, move |tx| {
            Box::pin(async move {
                let now = inner.estate().now();
                lock_unit(tx, ou).await?;
                let old = find_in(tx, ou, &email, create).await?.ok_or_else(not_found)?;
                let person = patched(old, facts);
                write(tx, &person, now).await?;
                rewrite_ownership(tx, person.id).await?;
                let act = OwnedAct::new("updated", nouns::PERSON, person.id.0, person.email.clone());
                Ok((person, Some(act)))
            })
        })
        .await
}

/// The person with that address. An unknown person is created if `create` is set or an estate user has the address.
pub(crate) async fn find_in(tx: &mut Tx, ou: OuId, email: &str, create: bool) -> Result<Option<Person>> {
    let sql = "SELECT id, first_name, last_name FROM users WHERE lower(email) = $1 ORDER BY id LIMIT 1";
    let user = tx.opt(sql, args![email]).await?;
    if let Some(row) = tx.opt(person!("WHERE p.ou_id = $1 AND p.email = $2"), args![ou, email]).await? {
        // The user may have been added or removed since.
        let user = user.map(|user| user.id(0)).transpose()?;
        return Ok(Some(Person { user, ..from_row(&row)? }));
    }
    if user.is_none() && !create {
        return Ok(None);
    }
    let name = match &user {
        Some(user) => format!("{} {}", user.text(1)?, user.text(2)?).trim().to_owned(),
        None => String::new(),
    };
    Ok(Some(Person {
        id: PersonId(next_in(tx, PersonId::KIND).await?),
        ou,
        name: if name.is_empty() { email.to_owned() } else { name },
        email: email.to_owned(),
        user: user.map(|user| user.id(0)).transpose()?,
        github_username: None,
        additional_github_username: None,
        gitlab_username: None,
        start_date: None,
        ai_light_adoption_date: None,
        ai_moderate_adoption_date: None,
        ai_heavy_adoption_date: None,
        deleted_at: None,
    }))
}

fn patched(mut person: Person, facts: PersonFacts) -> Person {
    let replace = |place: &mut Option<String>, given: Option<String>| {
        if let Some(given) = given {
            *place = Some(given).filter(|given| !given.is_empty());
        }
    };
    person.name = facts.name.unwrap_or(person.name);
    replace(&mut person.github_username, facts.github_username);
    replace(&mut person.additional_github_username, facts.additional_github_username);
    replace(&mut person.gitlab_username, facts.gitlab_username);
    replace(&mut person.start_date, facts.start_date);
    replace(&mut person.ai_light_adoption_date, facts.ai_light_adoption_date);
    replace(&mut person.ai_moderate_adoption_date, facts.ai_moderate_adoption_date);
    replace(&mut person.ai_heavy_adoption_date, facts.ai_heavy_adoption_date);
    person
}

/// `true` if the person is new.
pub(crate) async fn write(tx: &mut Tx, person: &Person, now: Timestamp) -> Result<bool> {
    tx.exec(
        "INSERT INTO delivery_people (id, ou_id, name, email, user_id, github_username, additional_github_username, \
         gitlab_username, start_date, ai_light_adoption_date, ai_moderate_adoption_date, ai_heavy_adoption_date, \
         created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13) \
         ON CONFLICT (ou_id, email) DO UPDATE SET name = excluded.name, user_id = excluded.user_id, \
         github_username = excluded.github_username, \
         additional_github_username = excluded.additional_github_username, \
         gitlab_username = excluded.gitlab_username, start_date = excluded.start_date, \
         ai_light_adoption_date = excluded.ai_light_adoption_date, \
         ai_moderate_adoption_date = excluded.ai_moderate_adoption_date, \
         ai_heavy_adoption_date = excluded.ai_heavy_adoption_date, updated_at = excluded.updated_at",
        args![
            person.id,
            person.ou,
            &person.name,
            &person.email,
            person.user,
            person.github_username.clone(),
            person.additional_github_username.clone(),
            person.gitlab_username.clone(),
            person.start_date.clone(),
            person.ai_light_adoption_date.clone(),
            person.ai_moderate_adoption_date.clone(),
            person.ai_heavy_adoption_date.clone(),
            now,
        ],
    )
    .await?;
    // A person has at least one identifier, the address.
    let new = tx.exec("DELETE FROM delivery_identifiers WHERE person_id = $1", args![person.id]).await? == 0;
    let known = [
        ("email", Some(&person.email)),
        ("github_username", person.github_username.as_ref()),
        ("github_username", person.additional_github_username.as_ref()),
        ("gitlab_username", person.gitlab_username.as_ref()),
    ];
    for (kind, value) in known.into_iter().filter_map(|(kind, value)| Some((kind, value?))) {
        let sql = "INSERT INTO delivery_identifiers (ou_id, kind, value, person_id) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (ou_id, kind, value) DO NOTHING";
        let value = value.to_lowercase();
        tx.exec(sql, args![person.ou, kind, &value, person.id]).await?;
        let sql = "SELECT person_id FROM delivery_identifiers WHERE ou_id = $1 AND kind = $2 AND value = $3";
        let owner: PersonId = tx.one(sql, args![person.ou, kind, &value]).await?.id(0)?;
        if owner != person.id {
            return Err(Error::fault(kind, "taken", format!("{value:?} already belongs to another person")));
        }
    }
    Ok(new)
}

/// The changes that are, or were until now, authored by person $1.
macro_rules! theirs {
    () => {
        "(SELECT w.id FROM delivery_changes w WHERE w.person_id = $1 \
         UNION SELECT w.id FROM delivery_identifiers i JOIN delivery_changes w ON w.ou_id = i.ou_id \
         AND w.author_email = i.value WHERE i.person_id = $1 AND i.kind = 'email' \
         UNION SELECT w.id FROM delivery_identifiers i JOIN delivery_changes w ON w.ou_id = i.ou_id \
         AND w.author_username = i.value WHERE i.person_id = $1 AND i.kind = 'github_username')"
    };
}

/// Whose a row of delivery_changes is, consistent with `whose`.
macro_rules! owner {
    () => {
        "COALESCE((SELECT i.person_id FROM delivery_identifiers i WHERE i.ou_id = delivery_changes.ou_id \
         AND i.kind = 'email' AND i.value = delivery_changes.author_email), \
         (SELECT i.person_id FROM delivery_identifiers i WHERE i.ou_id = delivery_changes.ou_id \
         AND i.kind = 'github_username' AND i.value = delivery_changes.author_username))"
    };
}

/// Changes written by a person belong to the person and to the person's team at the time; changes that none of the
/// person's names match any more no longer do.
pub(crate) async fn rewrite_ownership(tx: &mut Tx, person: PersonId) -> Result<()> {
    // Update the person last: until then it identifies the changes that the person loses.
    for sql in [
        concat!(
            "UPDATE delivery_changes SET team_id = (SELECT m.team_id FROM delivery_memberships m WHERE m.person_id = ",
            owner!(),
            " AND m.from_at <= delivery_changes.opened_at \
             AND (m.until_at IS NULL OR m.until_at > delivery_changes.opened_at) \
             ORDER BY m.from_at DESC, m.id DESC LIMIT 1) WHERE id IN ",
            theirs!()
        ),
        concat!(
            "UPDATE delivery_change_deployments SET team_id = (SELECT c.team_id FROM delivery_changes c \
             WHERE c.id = delivery_change_deployments.change_id) WHERE change_id IN ",
            theirs!()
        ),
        concat!(
            "UPDATE delivery_deployments SET team_id = (SELECT a.team_id FROM delivery_change_deployments a \
             WHERE a.deployment_id = delivery_deployments.id AND a.team_id IS NOT NULL \
             ORDER BY a.landed_at DESC, a.change_id DESC LIMIT 1) WHERE id IN (SELECT a.deployment_id \
             FROM delivery_change_deployments a WHERE a.change_id IN ",
            theirs!(),
            ")"
        ),
        concat!("UPDATE delivery_changes SET person_id = ", owner!(), " WHERE id IN ", theirs!()),
    ] {
        tx.exec(sql, args![person]).await?;
    }
    Ok(())
}

/// By email address.
pub async fn person_list(plane: &Delivery, ctx: &OpCtx, page: Page) -> Result<PageOf<Person>> {
    plane.estate().require_some(ctx, nouns::PERSON, Action::VIEW).await?;
    let mut conn = plane.estate().store().read().await?;
    let mut wanted = Where::new(conn.dialect());
    Visibility::of(ctx, Permission::new(nouns::PERSON, Action::VIEW))
        .narrow(&mut wanted, &Place::of_unit("p.ou_id"))?;
    let total = wanted.count(&mut conn, "delivery_people p").await?;
    let limit = wanted.bind(page.limit);
    let offset = wanted.bind(i64::try_from(page.offset).unwrap_or(i64::MAX));
    let (condition, values) = wanted.into_parts();
    let sql =
        format!("{} WHERE {condition} ORDER BY p.email, p.id LIMIT {limit} OFFSET {offset}", person!(""));
    let rows = conn.select(sql, values).await?;
    let items = rows.iter().map(from_row).collect::<Result<_>>()?;
    Ok(PageOf { items, offset: page.offset, limit: page.limit, total })
}

/// The person in the caller's unit, or else the oldest one below it.
pub async fn person_by_github(plane: &Delivery, ctx: &OpCtx, username: &str) -> Result<Person> {
    plane.estate().require_some(ctx, nouns::TEAM, Action::VIEW).await?;
    let mut conn = plane.estate().store().read().await?;
    let mut wanted = Where::new(conn.dialect());
    Visibility::of(ctx, Permission::new(nouns::TEAM, Action::VIEW))
        .narrow(&mut wanted, &Place::of_unit("p.ou_id"))?;
    wanted.and("i.kind = 'github_username'");
    wanted.and_value("i.value = $$", username.to_lowercase());
    let own = wanted.bind(ctx.authority().ou());
    let (condition, values) = wanted.into_parts();
    let sql = format!(
        "{} JOIN delivery_identifiers i ON i.person_id = p.id WHERE {condition} \
         ORDER BY CASE WHEN p.ou_id = {own} THEN 0 ELSE 1 END, p.id LIMIT 1",
        person!("")
    );
    let rows = conn.select(sql, values).await?;
    rows.first().map(from_row).transpose()?.ok_or_else(not_found)
}
