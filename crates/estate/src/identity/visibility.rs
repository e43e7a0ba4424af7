//! What of a noun a list shows, as a SQL condition: what lies in or below the caller's unit, narrowed to the caller's
//! grants. It says of each row what `Authority::allows` says of it; a property test compares the two.

use landreeve_core::{Authority, OpCtx, Permission, Result};

use crate::store::Where;

/// The root unit's path.
const ROOT: &str = "/1/";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visibility {
    /// Nothing outside this subtree.
    path: String,
    /// Everything in these subtrees.
    subtrees: Vec<String>,
    /// The ids of rows that are open by name.
    ids: Vec<i64>,
}

/// Where the rows of a list say what their visibility depends on, as SQL expressions.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The id of the row's unit.
    pub unit: &'static str,
    /// Is the row one of the ids `$$`? (`d.id IN ($$)`.) `None`: no grant names such rows.
    pub named: Option<&'static str>,
    /// Is the row in every unit, wherever it is kept?
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

    /// Everything in these subtrees, whatever it is.
    pub fn within(subtrees: &[String]) -> Visibility {
        Visibility { path: ROOT.to_owned(), subtrees: subtrees.to_vec(), ids: Vec::new() }
    }

    /// Everything in the unit that the caller works in, and below it.
    pub fn below(ctx: &OpCtx) -> Visibility {
        Visibility::within(&[ctx.authority().ou_path().to_owned()])
    }

    /// The subtree outside of which nothing is shown.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Lets the list show only what is visible.
    pub fn narrow(&self, list: &mut Where, place: &Place) -> Result<()> {
        let condition = self.condition(list, place)?;
        list.and(&condition);
        Ok(())
    }

    /// The condition alone, for one that stands inside another; its values are bound in the list.
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
