//! What is known about repositories besides their names.

use landreeve_core::error::Faults;
use landreeve_core::{Action, Input, OpCtx, Result};
use landreeve_estate::args;
use landreeve_estate::ops::OwnedAct;
use landreeve_estate::store::Tx;

use crate::ids::RepoId;
use crate::names::Names;
use crate::{Delivery, attribution, moving, nouns, text};

#[derive(Debug, Clone, Default)]
pub struct RepoFacts {
    pub default_branch: Option<String>,
    pub source: Option<String>,
    pub external_id: Option<String>,
}

fn check(name: &str, facts: &RepoFacts, faults: &mut Faults) {
    text::check(faults, "repository", name, text::NAME);
    text::check_opt(faults, "default_branch", facts.default_branch.as_deref(), text::NAME);
    text::check_opt(faults, "source", facts.source.as_deref(), text::NAME);
    text::check_opt(faults, "external_id", facts.external_id.as_deref(), text::NAME);
}

/// Adds a repository or updates the given values. A new default branch means attributing all its deployments again.
pub async fn repo_upsert(
    plane: &Delivery,
    ctx: &OpCtx,
    name: String,
    facts: Input<RepoFacts>,
) -> Result<RepoId> {
    plane.estate().require_here(ctx, nouns::DELIVERY, Action::USE).await?;
    let facts = facts.checked(|facts, faults| check(&name, facts, faults))?;
    let (ou, inner) = (ctx.authority().ou(), plane.clone());
    let (id, moved, found) = plane
        .estate()
        .change_told(ctx, move |tx| {
            Box::pin(async move {
                let mut names = Names::new(&inner, ou);
                let id = names.repo_always(tx, &name).await?;
                attribution::lock_repository(tx, ou, id).await?;
                let moved = put(tx, id, &facts).await?;
                if moved {
                    moving::mark(tx, id).await?;
                }
                let act = OwnedAct::new("recorded", nouns::DELIVERY, id.0, format!("repository {name}"));
                Ok(((id, moved, names.found), Some(act)))
            })
        })
        .await?;
    plane.known().remember(found);
    if moved {
        moving::move_lines(plane, ou, id).await?;
    }
    Ok(id)
}

/// `true` if the default branch has changed.
async fn put(tx: &mut Tx, id: RepoId, facts: &RepoFacts) -> Result<bool> {
    let old =
        tx.one("SELECT default_branch FROM delivery_repos WHERE id = $1", args![id]).await?.text_opt(0)?;
    tx.exec(
        "UPDATE delivery_repos SET default_branch = COALESCE($2, default_branch), source = COALESCE($3, source), \
         external_id = COALESCE($4, external_id) WHERE id = $1",
        args![id, facts.default_branch.clone(), facts.source.clone(), facts.external_id.clone()],
    )
    .await?;
    Ok(facts.default_branch.is_some() && facts.default_branch != old)
}
