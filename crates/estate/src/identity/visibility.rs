//! What a list shows of a noun, as a SQL condition: what is in or below the caller's unit, limited to the caller's
//! grants. It selects exactly the rows that `Authority::allows` accepts; a property test compares the two.

use landreeve_core::{Authority, OpCtx, Permission, Result};

use crate::store::Where;

/// The root unit's path.
const ROOT: &str = "/1/";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visibility {
    /// Nothing outside this subtree is visible.
    path: String,
    /// Everything in these subtrees is visible.
    subtrees: Vec<String>,
    /// The ids of rows that are visible individually.
    ids: Vec<i64>,
}

/// The columns of a list that its rows' visibility depends on, as SQL expressions.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The id of the row's unit.
    pub unit: &'static str,
    /// Whether the row's id is one of `$$`: `d.id IN ($$)`. `None` if no grant names individual rows.
    pub named: Option<&'static str>,
    /// Whether the row belongs to every unit, wherever it is stored.
    pub everywhere: Option<&'static str>,
}

impl Place {
    pub const fn of_unit(unit: &'static str) -> Place {
        Place { unit, named: None, everywhere: None }
    }

    pub const fn named(unit: &'static str, named: &'static str) -> Place {
        Place { unit, named: Some(named), everywhere: None }
    }
}

impl Visibility {
    pub fn of(ctx: &OpCtx, permission: Permission) -> Visibility {
        Visibility::of_authority(ctx.authority(), permission)
    }

    pub fn of_authority(authority: &Authority, permission: Permission) -> Visibility {
        let granted = authority.granted(permission);
        Visibility { path: authority.ou_path().to_owned(), subtrees: granted.subtrees, ids: granted.ids }
    }

    /// Everything in these subtrees, of any noun.
    pub fn within(subtrees: &[String]) -> Visibility {
        Visibility { path: ROOT.to_owned(), subtrees: subtrees.to_vec(), ids: Vec::new() }
    }

    /// Everything in or below the unit that the caller works in.
    pub fn below(ctx: &OpCtx) -> Visibility {
        Visibility::within(&[ctx.authority().ou_path().to_owned()])
    }

    /// Nothing outside this subtree is shown.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Limits the list to what is visible.
    pub fn narrow(&self, list: &mut Where, place: &Place) -> Result<()> {
        let condition = self.condition(list, place)?;
        list.and(&condition);
        Ok(())
    }

    /// Only the condition, to nest it in another one. Its values are bound in the list.
    pub fn condition(&self, list: &mut Where, place: &Place) -> Result<String> {
        if self.subtrees.iter().any(|path| path == ROOT) {
            return Ok("1 = 1".to_owned());
        }
        let mut any = Vec::new();
        if !self.subtrees.is_empty() {
            any.push(format!("{} IN ({})", place.unit, list.units(&self.subtrees)?));
        }
        let whole = self.subtrees.contains(&self.path);
        let named = place.named.filter(|_| !self.ids.is_empty());
        let named = named.map(|named| named.replace("$$", &list.ids(self.ids.iter().copied())));
        if let Some(named) = &named {
            if self.path == ROOT {
                any.push(named.clone());
            } else {
                let units = list.units(std::slice::from_ref(&self.path))?;
                any.push(format!("({named} AND {} IN ({units}))", place.unit));
            }
        }
        let inside = if any.is_empty() { "1 = 0".to_owned() } else { format!("({})", any.join(" OR ")) };
        Ok(match (place.everywhere, named) {
            (None, _) => inside,
            (Some(everywhere), _) if whole => format!("({everywhere} OR {inside})"),
            (Some(everywhere), Some(named)) => {
                format!("CASE WHEN {everywhere} THEN {named} ELSE {inside} END")
            }
            (Some(everywhere), None) => format!("(NOT ({everywhere}) AND {inside})"),
        })
    }
}
