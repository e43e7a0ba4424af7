//! Repositories: where backups are kept. Each is a row with its password, sealed. They belong to the estate, not to a unit.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use landreeve_core::error::Faults;
use landreeve_core::vault::{
    Address, CancellationToken, CheckDepth, RepositorySpec, StorageLogin, Vault, VaultError, VaultErrorKind,
};
use landreeve_core::{Action, Error, ErrorKind, Input, OpCtx, Result, Secret};
use landreeve_estate::args;
use landreeve_estate::ops::{OwnedAct, secrets};
use landreeve_estate::secrets::Sealed;
use landreeve_estate::store::{Arg, Conn, Row, taken};

use crate::ids::RepositoryId;
use crate::nouns::REPOSITORY;
use crate::plane::Protection;
use crate::taking_in;

/// The name of the repository that is made when it is first needed.
pub(crate) const DEFAULT: &str = "default";
/// Maximum number of repositories.
pub const MAX_REPOSITORIES: i64 = 100;
/// Characters of a name.
const MAX_NAME: usize = 64;
/// Bytes of a password.
const MAX_PASSWORD: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    pub id: RepositoryId,
    pub name: String,
    pub address: Address,
    /// The repository's own id. `None`: it was not made to its end; adding it again finishes it.
    pub repository_id: Option<String>,
    /// Nothing is ever deleted in it.
    pub append_only: bool,
    /// Every node reaches the same folder at this address.
    pub shared: bool,
    /// When it was last found to be intact, and by reading how much.
    pub checked: Option<(Timestamp, CheckDepth)>,
    pub pruned_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

/// What a caller states about a repository.
#[derive(Debug, Clone)]
pub struct NewRepository {
    pub name: String,
    pub url: String,
    pub append_only: bool,
    pub shared: bool,
    /// `None`: one of 256 random bits, for a new repository.
    pub password: Option<Secret>,
}

/// Whether a repository is made or already exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    New,
    Existing,
}

/// What was stated, checked.
struct Checked {
    name: String,
    address: Address,
    login: Option<StorageLogin>,
    append_only: bool,
    shared: bool,
    password: Option<Secret>,
}

fn check(new: NewRepository, origin: Origin, faults: &mut Faults) -> Option<Checked> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    if new.name.is_empty() || new.name.len() > MAX_NAME || !new.name.chars().all(allowed) {
        let message = format!("must have 1 to {MAX_NAME} letters, digits, dots, hyphens and underscores");
        faults.push("name", "format", message);
    }
    let place = Address::parse_with_login(&new.url);
    let place = place.map_err(|message| faults.push("url", "format", message)).ok();
    match &new.password {
        None if origin == Origin::Existing => faults.push("password", "required", "is required"),
        Some(password) if password.is_empty() || password.reveal().len() > MAX_PASSWORD => {
            faults.push("password", "length", format!("must have 1 to {MAX_PASSWORD} bytes"));
        }
        _ => {}
    }
    let NewRepository { name, append_only, shared, password, .. } = new;
    place.map(|(address, login)| Checked { name, address, login, append_only, shared, password })
}

const COLUMNS: &str = "r.id, r.name, r.address, r.repository_id, r.append_only, r.shared, r.checked_at, r.checked_depth, \
                       r.pruned_at, r.created_at";

fn from_row(row: &Row) -> Result<Repository> {
    let address = Address::parse(&row.text(2)?).map_err(Error::internal)?;
    let depth = match row.text_opt(7)?.as_deref() {
        Some("data") => CheckDepth::Data,
        _ => CheckDepth::Structure,
    };
    Ok(Repository {
        id: row.id(0)?,
        name: row.text(1)?,
        address,
        repository_id: row.text_opt(3)?,
        append_only: row.flag(4)?,
        shared: row.flag(5)?,
        checked: row.time_opt(6)?.map(|at| (at, depth)),
        pruned_at: row.time_opt(8)?,
        created_at: row.time(9)?,
    })
}

/// How a depth is stored.
pub(crate) const fn depth_name(depth: CheckDepth) -> &'static str {
    match depth {
        CheckDepth::Structure => "structure",
        CheckDepth::Data => "data",
    }
}

/// Without a check of permissions.
pub(crate) async fn named(conn: &mut Conn, name: &str) -> Result<Option<Repository>> {
    let sql = format!("SELECT {COLUMNS} FROM repositories r WHERE r.name = $1");
    conn.select(sql, args![name]).await?.first().map(from_row).transpose()
}

/// Without a check of permissions.
pub(crate) async fn find(conn: &mut Conn, id: RepositoryId) -> Result<Option<Repository>> {
    let sql = format!("SELECT {COLUMNS} FROM repositories r WHERE r.id = $1");
    conn.select(sql, args![id]).await?.first().map(from_row).transpose()
}

/// What opens a repository. Without a check of permissions.
pub(crate) async fn spec(plane: &Protection, repository: &Repository) -> Result<RepositorySpec> {
    let estate = plane.estate();
    let sql = "SELECT password_sealed, login_sealed FROM repositories WHERE id = $1";
    let row = estate.store().read().await?.opt(sql, args![repository.id]).await?;
    let row = row.ok_or_else(|| Error::not_found("repository"))?;
    let text = |context: String, sealed: &[u8]| {
        let plain = estate.unseal(&context, sealed)?;
        String::from_utf8(plain.to_vec()).map_err(Error::internal)
    };
    let password = Secret::new(text(context(repository.id), &row.bytes(0)?)?);
    let login = match row.bytes_opt(1)? {
        None => None,
        Some(sealed) => {
            let login = text(login_context(repository.id), &sealed)?;
            let (user, password) =
                login.split_once(':').ok_or_else(|| Error::internal("a stored login has no password"))?;
            Some(StorageLogin { user: user.to_owned(), password: Secret::new(password) })
        }
    };
    let (address, append_only) = (repository.address.clone(), repository.append_only);
    Ok(RepositorySpec { address, login, password, append_only })
}

fn context(id: RepositoryId) -> String {
    format!("repository:{}", id.0)
}

fn login_context(id: RepositoryId) -> String {
    format!("repository_login:{}", id.0)
}

/// Why nothing is deleted there.
pub(crate) fn append_only(name: &str) -> Error {
    let message = format!("the repository {name} is append-only: nothing in it is deleted");
    Error::conflict("append_only", message)
}

/// The repositories, by name.
pub async fn repository_list(plane: &Protection, ctx: &OpCtx) -> Result<Vec<Repository>> {
    plane.estate().require_everywhere(ctx, REPOSITORY, Action::VIEW).await?;
    let sql = format!("SELECT {COLUMNS} FROM repositories r ORDER BY r.name LIMIT {MAX_REPOSITORIES}");
    let rows = plane.estate().store().read().await?.select(sql, args![]).await?;
    rows.iter().map(from_row).collect()
}

/// The repository with this name.
pub async fn repository_named(plane: &Protection, ctx: &OpCtx, name: &str) -> Result<Repository> {
    plane.estate().require_everywhere(ctx, REPOSITORY, Action::VIEW).await?;
    seen(plane, name).await
}

pub(crate) async fn seen(plane: &Protection, name: &str) -> Result<Repository> {
    let found = named(&mut plane.estate().store().read().await?, name).await?;
    found
        .ok_or_else(|| Error::not_found("repository").saying(format!("there is no repository called {name}")))
}

/// The password that opens a repository everywhere, for its operator to write down. Every use is audited.
pub async fn repository_key(plane: &Protection, ctx: &OpCtx, name: &str) -> Result<Secret> {
    let estate = plane.estate();
    estate.require_everywhere(ctx, REPOSITORY, Action::MANAGE).await?;
    let repository = seen(plane, name).await?;
    let spec = spec(plane, &repository).await?;
    let act = OwnedAct::new("key_shown", REPOSITORY, repository.id.0, repository.name);
    estate.change(ctx, act, |_| Box::pin(async { Ok(()) })).await?;
    Ok(spec.password)
}

/// Makes a repository, or takes over one that exists. Its row comes first, so that a password is never lost: if this is
/// interrupted, doing it again finishes it.
pub async fn repository_add(
    plane: &Protection,
    ctx: &OpCtx,
    new: Input<NewRepository>,
    origin: Origin,
) -> Result<Repository> {
    plane.estate().require_everywhere(ctx, REPOSITORY, Action::MANAGE).await?;
    let mut parsed = None;
    new.parsed(|new, faults| parsed = check(new, origin, faults))?;
    let wanted = parsed.ok_or_else(|| Error::internal("a repository without an address"))?;
    let repository = make(plane, ctx, wanted, origin).await?;
    if origin == Origin::Existing {
        let taken = taking_in::take_in(plane, &repository, CancellationToken::new()).await;
        // It is attached; a check of it does the same again.
        taken.map_err(taking_in::Stopped::into_error)?;
    }
    Ok(repository)
}

/// Notes that a repository is at another address now. It must be the same one, which its password opens.
pub async fn repository_move(plane: &Protection, ctx: &OpCtx, name: &str, url: &str) -> Result<Repository> {
    let estate = plane.estate();
    estate.require_everywhere(ctx, REPOSITORY, Action::MANAGE).await?;
    let repository = seen(plane, name).await?;
    let (address, login) =
        Address::parse_with_login(url).map_err(|message| Error::fault("url", "format", message))?;
    let wanted = Checked {
        name: repository.name.clone(),
        address: address.clone(),
        login: login.clone(),
        append_only: repository.append_only,
        shared: repository.shared,
        password: None,
    };
    check_nodes(plane, &wanted).await?;
    let found = RepositorySpec { address: address.clone(), login, ..spec(plane, &repository).await? };
    let opened = plane.blocking(move |vault| {
        vault.open(&found, CancellationToken::new()).map(|opened| opened.id().to_owned())
    });
    let id = opened.await?.map_err(VaultError::into_error)?;
    if Some(&id) != repository.repository_id.as_ref() {
        return Err(Error::fault("url", "other", format!("has another repository than {name}")));
    }
    let (row, key) = (repository.id, estate.sealed_with());
    let login = sealed_login(plane, row, &wanted)?;
    let act = OwnedAct::new("moved", REPOSITORY, row.0, format!("{name} to {address}"));
    let to = address.to_string();
    estate
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                secrets::still_sealed_with(tx, &key).await?;
                let sql = "SELECT name FROM repositories WHERE address = $1 AND id <> $2";
                if let Some(other) = tx.opt(sql, args![&to, row]).await? {
                    let message = format!("is the address of {}", other.text(0)?);
                    return Err(Error::fault("url", "taken", message));
                }
                let sql = "UPDATE repositories SET address = $2, login_sealed = $3, row_version = row_version + 1 \
                           WHERE id = $1";
                let login = login.map_or(Arg::Bytes(None), Arg::from);
                tx.exec(sql, args![row, to, login]).await.map(drop)
            })
        })
        .await?;
    Ok(Repository { address, ..repository })
}

/// The repository that backups go to if the caller names none. It is made when it is first needed.
pub(crate) async fn default(plane: &Protection, ctx: &OpCtx) -> Result<Repository> {
    let _one = plane.making().acquire().await.map_err(Error::internal)?;
    let known = named(&mut plane.estate().store().read().await?, DEFAULT).await?;
    if let Some(known) = known.filter(|known| known.repository_id.is_some()) {
        return Ok(known);
    }
    let wanted = Checked {
        name: DEFAULT.to_owned(),
        address: Address::Folder(plane.options().default_folder.clone()),
        login: None,
        append_only: false,
        shared: false,
        password: None,
    };
    make(plane, ctx, wanted, Origin::New).await.map_err(|error| {
        let message = format!(
            "the repository {DEFAULT} could not be made in {}: {}; make one with `landreeve repository add` and name it",
            plane.options().default_folder.display(),
            error.message
        );
        Error::new(error.kind, error.code, message)
    })
}

async fn make(plane: &Protection, ctx: &OpCtx, wanted: Checked, origin: Origin) -> Result<Repository> {
    check_nodes(plane, &wanted).await?;
    let resumed = match interrupted(plane, &wanted).await? {
        // A password of an existing repository is the caller's, who states it again.
        Some(repository) if origin == Origin::Existing => {
            remove(plane, ctx, &repository).await?;
            None
        }
        Some(repository) => Some(resume(plane, ctx, repository, &wanted).await?),
        None => None,
    };
    let fresh = resumed.is_none();
    let repository = match resumed {
        Some(repository) => repository,
        None => insert(plane, ctx, &wanted).await?,
    };
    let spec = spec(plane, &repository).await?;
    let made = plane.blocking(move |vault| made_or_opened(vault, &spec, origin, fresh)).await?;
    match made {
        Ok(id) => finish(plane, ctx, repository, id, origin).await,
        Err(NotMade { begun, error }) => {
            // Something may be there that only this password opens.
            if fresh && !begun {
                remove(plane, ctx, &repository).await?;
            }
            Err(error.into_error())
        }
    }
}

/// Why there is no repository, and whether making one was begun.
struct NotMade {
    begun: bool,
    error: VaultError,
}

/// The id of the repository.
fn made_or_opened(
    vault: &dyn Vault,
    spec: &RepositorySpec,
    origin: Origin,
    fresh: bool,
) -> std::result::Result<String, NotMade> {
    let begun = |error: VaultError| {
        let untouched = error.kind == VaultErrorKind::Exists;
        NotMade { begun: !untouched, error }
    };
    match vault.open(spec, CancellationToken::new()) {
        // What was interrupted may have been made all the same.
        Ok(opened) if origin == Origin::Existing || !fresh => Ok(opened.id().to_owned()),
        Err(error) if error.kind == VaultErrorKind::Missing && origin == Origin::New => {
            vault.create(spec).map(|made| made.id().to_owned()).map_err(begun)
        }
        Err(error) if error.kind != VaultErrorKind::WrongPassword || origin == Origin::Existing => {
            Err(NotMade { begun: false, error })
        }
        Ok(_) | Err(_) => {
            let message = format!("{} already has a repository; attach it with its password", spec.address);
            Err(NotMade { begun: false, error: VaultError::new(VaultErrorKind::Exists, message) })
        }
    }
}

/// A folder is one machine's, unless the operator says that all nodes share it.
async fn check_nodes(plane: &Protection, wanted: &Checked) -> Result<()> {
    if wanted.shared || !wanted.address.is_local() {
        return Ok(());
    }
    let sql = "SELECT count(*) FROM nodes WHERE home IS NOT NULL";
    let nodes = plane.estate().store().read().await?.one(sql, args![]).await?.int(0)?;
    if nodes > 1 {
        let message = format!(
            "must be reached by all {nodes} nodes; if they share this folder, it must be marked as shared"
        );
        return Err(Error::fault("url", "not_shared", message));
    }
    Ok(())
}

/// The row of the same repository, which was not made to its end.
async fn interrupted(plane: &Protection, wanted: &Checked) -> Result<Option<Repository>> {
    let found = named(&mut plane.estate().store().read().await?, &wanted.name).await?;
    Ok(found.filter(|found| found.repository_id.is_none() && found.address == wanted.address))
}

/// What was interrupted, with what is stated now. Its password stays.
async fn resume(
    plane: &Protection,
    ctx: &OpCtx,
    repository: Repository,
    wanted: &Checked,
) -> Result<Repository> {
    let known = spec(plane, &repository).await?.password;
    if wanted.password.as_ref().is_some_and(|stated| *stated != known) {
        let message = "differs from the one with which making it was begun; leave it out to use that one";
        return Err(Error::fault("password", "differs", message));
    }
    let (id, key) = (repository.id, plane.estate().sealed_with());
    let (append_only, shared) = (wanted.append_only, wanted.shared);
    let login = sealed_login(plane, id, wanted)?;
    let act = OwnedAct::new("begun", REPOSITORY, id.0, repository.name.clone());
    plane
        .estate()
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                secrets::still_sealed_with(tx, &key).await?;
                let sql = "UPDATE repositories SET append_only = $2, shared = $3, login_sealed = $4, \
                           row_version = row_version + 1 WHERE id = $1";
                let login = login.map_or(Arg::Bytes(None), Arg::from);
                tx.exec(sql, args![id, append_only, shared, login]).await.map(drop)
            })
        })
        .await?;
    Ok(Repository { append_only, shared, ..repository })
}

fn sealed_login(plane: &Protection, id: RepositoryId, wanted: &Checked) -> Result<Option<Sealed>> {
    let text = wanted.login.as_ref().map(|login| format!("{}:{}", login.user, login.password.reveal()));
    text.map(|text| plane.estate().seal(&login_context(id), text.as_bytes())).transpose()
}

async fn insert(plane: &Protection, ctx: &OpCtx, wanted: &Checked) -> Result<Repository> {
    let estate = plane.estate();
    let id = estate.next::<RepositoryId>(RepositoryId::KIND).await?;
    let password = wanted.password.clone().unwrap_or_else(|| {
        let mut bytes = [0; 32];
        estate.random().fill(&mut bytes);
        Secret::new(URL_SAFE_NO_PAD.encode(bytes))
    });
    let key = estate.sealed_with();
    let sealed = estate.seal(&context(id), password.reveal().as_bytes())?;
    let login = sealed_login(plane, id, wanted)?;
    let made = Repository {
        id,
        name: wanted.name.clone(),
        address: wanted.address.clone(),
        repository_id: None,
        append_only: wanted.append_only,
        shared: wanted.shared,
        checked: None,
        pruned_at: None,
        created_at: estate.now(),
    };
    let (act, row) = (OwnedAct::new("begun", REPOSITORY, id.0, wanted.name.clone()), made.clone());
    estate
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                // `secrets rotate` may have replaced the key meanwhile.
                secrets::still_sealed_with(tx, &key).await?;
                let count = tx.one("SELECT count(*) FROM repositories", args![]).await?.int(0)?;
                if count >= MAX_REPOSITORIES {
                    let message = format!("an estate can have at most {MAX_REPOSITORIES} repositories");
                    return Err(Error::fault("", "limit", message));
                }
                let sql = "SELECT address FROM repositories WHERE name = $1 AND repository_id IS NULL";
                if let Some(begun) = tx.opt(sql, args![&row.name]).await? {
                    let message = format!(
                        "is the name of a repository that was not made to its end; add it in {} again first",
                        begun.text(0)?
                    );
                    return Err(Error::fault("name", "taken", message));
                }
                let sql = "SELECT 1 FROM repositories WHERE address = $1";
                if tx.opt(sql, args![row.address.to_string()]).await?.is_some() {
                    return Err(Error::fault("url", "taken", "is the address of another repository"));
                }
                tx.exec(
                    "INSERT INTO repositories (id, name, address, append_only, shared, password_sealed, \
                     login_sealed, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                    args![
                        row.id,
                        row.name,
                        row.address.to_string(),
                        row.append_only,
                        row.shared,
                        sealed,
                        login.map_or(Arg::Bytes(None), Arg::from),
                        row.created_at
                    ],
                )
                .await
                .map(drop)
            })
        })
        .await
        .map_err(|error| taken(error, "name"))?;
    Ok(made)
}

/// The repository exists: from now on it can be used.
async fn finish(
    plane: &Protection,
    ctx: &OpCtx,
    repository: Repository,
    own_id: String,
    origin: Origin,
) -> Result<Repository> {
    let action = if origin == Origin::New { "created" } else { "attached" };
    let act = OwnedAct::new(action, REPOSITORY, repository.id.0, repository.name.clone());
    let (id, written) = (repository.id, own_id.clone());
    let finished = plane
        .estate()
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                let sql = "SELECT name FROM repositories WHERE repository_id = $1 AND id <> $2";
                if let Some(other) = tx.opt(sql, args![&written, id]).await? {
                    let message = format!("is the same repository as {}", other.text(0)?);
                    return Err(Error::fault("url", "taken", message));
                }
                let sql =
                    "UPDATE repositories SET repository_id = $2, row_version = row_version + 1 WHERE id = $1";
                tx.exec(sql, args![id, written]).await.map(drop)
            })
        })
        .await;
    if let Err(error) = finished {
        // Otherwise it is ours, and doing this again finishes it.
        if error.kind == ErrorKind::Invalid {
            remove(plane, ctx, &repository).await?;
        }
        return Err(error);
    }
    Ok(Repository { repository_id: Some(own_id), ..repository })
}

/// Removes a row that no repository belongs to.
async fn remove(plane: &Protection, ctx: &OpCtx, repository: &Repository) -> Result<()> {
    let (id, act) =
        (repository.id, OwnedAct::new("given_up", REPOSITORY, repository.id.0, repository.name.clone()));
    plane
        .estate()
        .change(ctx, act, move |tx| {
            Box::pin(async move {
                let sql = "DELETE FROM repositories WHERE id = $1 AND repository_id IS NULL";
                tx.exec(sql, args![id]).await.map(drop)
            })
        })
        .await
}
