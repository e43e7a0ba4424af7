//! `landreeve key …`. `create` prints only the secret on standard output.

use clap::{Args, Subcommand};
use landreeve_core::ids::KeyId;
use landreeve_estate::ops::Api;
use landreeve_estate::ops::keys::{self, NewKey, NewKeyGrant};
use landreeve_estate::ops::users::user_by_name;
use serde_json::json;
use uuid::Uuid;

use super::{Place, Session};
use crate::Usage;
use crate::output::{self, Format};

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Create a key and print its secret (shown only once)
    #[command(
        after_help = "Examples:\n  landreeve key create --api cluvio --name dashboards --permission \"Manage Datasources\"\n  landreeve key create --api dx --name pipeline\n  landreeve key create --api clumio --user admin"
    )]
    Create(Create),
    /// List the keys
    #[command(after_help = "Example:\n  landreeve key list")]
    List {
        #[command(flatten)]
        place: Place,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Disable a key
    #[command(after_help = "Example:\n  landreeve key disable 3")]
    Disable(One),
    /// Enable a key again
    #[command(after_help = "Example:\n  landreeve key enable 3")]
    Enable(One),
    /// Delete a key
    #[command(after_help = "Example:\n  landreeve key delete 3")]
    Delete(One),
}

#[derive(Debug, Args)]
pub struct One {
    #[command(flatten)]
    place: Place,
    /// Number of the key, as shown by `key list`
    id: i64,
}

#[derive(Debug, Args)]
pub struct Create {
    #[command(flatten)]
    place: Place,
    /// Create the key for this API: cluvio, dx or clumio
    #[arg(long)]
    api: String,
    /// Name of the key in listings [default for clumio: the user's name]
    #[arg(long)]
    name: Option<String>,
    /// Grant this permission (cluvio only): "Manage Datasources", "View Datasources=ID,ID", …; repeatable
    #[arg(long = "permission", value_name = "PERMISSION")]
    permissions: Vec<String>,
    /// Grant this scope (dx only), such as datacloud:query; repeatable [default: the Data Cloud methods and auth.info]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Act as this user (clumio only)
    #[arg(long)]
    user: Option<String>,
    /// Limit the key to this organizational unit [default: the root]
    #[arg(long, value_name = "UUID")]
    ou: Option<Uuid>,
}

pub async fn run(command: KeyCommand) -> anyhow::Result<()> {
    match command {
        KeyCommand::Create(args) => create(args).await,
        KeyCommand::List { place, format } => list(&place, format).await,
        KeyCommand::Disable(one) => {
            let session = Session::open(&one.place).await?;
            keys::key_set_enabled(&session.opened.estate, &session.ctx, KeyId(one.id), false).await?;
            session.changed().await
        }
        KeyCommand::Enable(one) => {
            let session = Session::open(&one.place).await?;
            keys::key_set_enabled(&session.opened.estate, &session.ctx, KeyId(one.id), true).await?;
            session.changed().await
        }
        KeyCommand::Delete(one) => {
            let session = Session::open(&one.place).await?;
            keys::key_delete(&session.opened.estate, &session.ctx, KeyId(one.id)).await?;
            session.changed().await
        }
    }
}

async fn create(args: Create) -> anyhow::Result<()> {
    let api = Api::parse(&args.api).ok_or_else(|| Usage("--api must be cluvio, dx or clumio".to_owned()))?;
    check_flags(api, &args)?;
    let session = Session::open(&args.place).await?;
    let secret = make(&session, api, &args).await?;
    session.changed().await?;
    output::say(secret.reveal());
    Ok(())
}

fn check_flags(api: Api, args: &Create) -> Result<(), Usage> {
    let usage = |text: &str| Err(Usage(text.to_owned()));
    if api != Api::Analytics && !args.permissions.is_empty() {
        return usage("--permission is for --api cluvio");
    }
    if api != Api::Delivery && !args.scopes.is_empty() {
        return usage("--scope is for --api dx");
    }
    if api == Api::Protection && args.user.is_none() {
        return usage("--api clumio needs --user NAME: the token acts as that user");
    }
    if api != Api::Protection && args.user.is_some() {
        return usage("--user is for --api clumio");
    }
    if api != Api::Protection && args.name.is_none() {
        return usage("--name is required");
    }
    if api == Api::Analytics && args.permissions.is_empty() {
        return usage("--permission is required, for example --permission \"Manage Datasources\"");
    }
    Ok(())
}

async fn make(session: &Session, api: Api, args: &Create) -> anyhow::Result<landreeve_core::Secret> {
    let estate = &session.opened.estate;
    let mut grants = Vec::new();
    let mut labels = Vec::new();
    for permission in &args.permissions {
        grants
            .extend(landreeve_face_cluvio::permissions::parse(estate.hash_ids(), permission).map_err(Usage)?);
        labels.push(permission.clone());
    }
    if api == Api::Delivery {
        let default = landreeve_face_dx::permissions::DEFAULT_SCOPES.map(str::to_owned).to_vec();
        let scopes = if args.scopes.is_empty() { default } else { args.scopes.clone() };
        grants.extend(scope_grants(&scopes)?);
        labels.extend(scopes);
    }
    let user = match &args.user {
        Some(name) => Some(user_by_name(estate, &session.ctx, name).await?.id),
        None => None,
    };
    let name = args.name.clone().or_else(|| args.user.clone()).unwrap_or_default();
    let new = NewKey { api, name, ou: args.ou, user, grants, labels };
    Ok(keys::key_create(estate, &session.ctx, new).await?.1)
}

/// The grants of these scopes.
pub(crate) fn scope_grants(scopes: &[String]) -> Result<Vec<NewKeyGrant>, Usage> {
    let mut grants = Vec::new();
    for scope in scopes {
        let permissions = landreeve_face_dx::permissions::parse_scope(scope).ok_or_else(|| {
            let known: Vec<&str> = landreeve_face_dx::permissions::scopes().collect();
            Usage(format!("unknown scope {scope:?}; use one of {}", known.join(", ")))
        })?;
        let grant = |permission| NewKeyGrant { permission, resources: Vec::new() };
        grants.extend(permissions.into_iter().map(grant));
    }
    Ok(grants)
}

async fn list(place: &Place, format: Format) -> anyhow::Result<()> {
    let session = Session::open(place).await?;
    let (estate, ctx) = (&session.opened.estate, &session.ctx);
    let all = landreeve_core::page::collect(|after| keys::key_list(estate, ctx, None, after)).await?;
    session.close().await;
    let rows = all
        .into_iter()
        .map(|key| {
            vec![
                json!(key.id.0),
                json!(key.api.as_str()),
                json!(key.name),
                json!(key.hint),
                json!(key.enabled),
                json!(key.labels),
                json!(key.created_at.to_string()),
            ]
        })
        .collect();
    output::listing(format, &["id", "api", "name", "begins", "enabled", "grants", "created"], rows);
    Ok(())
}
