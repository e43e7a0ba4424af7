//! The dialect's permission names and the grants they mean.
//!
//! `View X` and `Manage X`, for all resources or named ones: `View Datasources=8qxn-y9ex-65vd,qw1x-7w2l-7rd5`. For
//! `Manage Dashboards` and for alerts, the ids are those of the datasources that can be queried, as the API's reference
//! describes.

use landreeve_analytics::ids::{DashboardId, FilterId, SnippetId};
use landreeve_analytics::nouns;
use landreeve_core::hashid::HashIds;
use landreeve_core::ids::DatasourceId;
use landreeve_core::{Action, IdKind, Noun, Permission};
use landreeve_estate::ops::keys::NewKeyGrant;

/// Every name, for help texts.
pub const NAMES: [&str; 16] = [
    "View Datasources",
    "Manage Datasources",
    "View Dashboards",
    "Manage Dashboards",
    "View Filters",
    "Manage Filters",
    "View SQL Snippets",
    "Manage SQL Snippets",
    "View Users",
    "Manage Users",
    "View User Groups",
    "Manage User Groups",
    "View Alerts",
    "Manage Alerts",
    "View Organization",
    "Manage Organization",
];

/// What the ids after a name restrict.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ids {
    /// This permission.
    This,
    /// Nothing: the permission is about the whole estate, or follows from another.
    Whole,
}

type Meaning = &'static [(Noun, Action, Ids)];

/// The table: what each name grants.
fn meaning(name: &str) -> Option<Meaning> {
    use Ids::{This, Whole};
    Some(match name {
        "View Datasources" => &[(Noun::DATASOURCE, Action::VIEW, This)],
        // Keys that manage every datasource can see and stop all executions.
        "Manage Datasources" => {
            &[(Noun::DATASOURCE, Action::MANAGE, This), (Noun::RUN, Action::MANAGE, Whole)]
        }
        "View Dashboards" => &[(nouns::DASHBOARD, Action::VIEW, This), (nouns::REPORT, Action::VIEW, Whole)],
        "Manage Dashboards" => &[
            (Noun::DATASOURCE, Action::USE, This),
            (nouns::DASHBOARD, Action::MANAGE, Whole),
            (nouns::REPORT, Action::MANAGE, Whole),
            (nouns::FILTER, Action::VIEW, Whole),
            (nouns::SNIPPET, Action::VIEW, Whole),
        ],
        "View Filters" => &[(nouns::FILTER, Action::VIEW, This)],
        "Manage Filters" => &[(nouns::FILTER, Action::MANAGE, This)],
        "View SQL Snippets" => &[(nouns::SNIPPET, Action::VIEW, This)],
        "Manage SQL Snippets" => &[(nouns::SNIPPET, Action::MANAGE, This)],
        "View Users" => &[(Noun::USER, Action::VIEW, Whole)],
        "Manage Users" => &[(Noun::USER, Action::MANAGE, Whole)],
        "View User Groups" => &[(Noun::GROUP, Action::VIEW, Whole)],
        "Manage User Groups" => &[(Noun::GROUP, Action::MANAGE, Whole)],
        // Stored; there are no alerts yet.
        "View Alerts" => &[],
        "Manage Alerts" => &[(Noun::DATASOURCE, Action::USE, This)],
        "View Organization" => &[(Noun::SETTING, Action::VIEW, Whole)],
        "Manage Organization" => &[(Noun::SETTING, Action::MANAGE, Whole)],
        _ => return None,
    })
}

/// The noun of the ids after a name.
fn kind(noun: Noun) -> Option<IdKind> {
    let kinds = [
        (Noun::DATASOURCE, DatasourceId::KIND),
        (nouns::DASHBOARD, DashboardId::KIND),
        (nouns::FILTER, FilterId::KIND),
        (nouns::SNIPPET, SnippetId::KIND),
    ];
    kinds.into_iter().find(|(known, _)| *known == noun).map(|(_, kind)| kind)
}

/// The name whose other grants stay unrestricted when ids restrict one of them; for other names they are dropped.
const KEEPS_THE_REST: &str = "Manage Dashboards";

/// Parses `Manage Datasources` or `View Datasources=ID,ID`. The error message says what would be valid.
pub fn parse(ids: &HashIds, text: &str) -> Result<Vec<NewKeyGrant>, String> {
    let (given, list) = match text.split_once('=') {
        Some((name, list)) => (name.trim(), Some(list)),
        None => (text.trim(), None),
    };
    let known = NAMES.into_iter().find(|name| name.eq_ignore_ascii_case(given));
    let (name, meaning) = known
        .and_then(|name| meaning(name).map(|meaning| (name, meaning)))
        .ok_or_else(|| format!("{given:?} is not a permission; choose one of: {}", NAMES.join(", ")))?;
    let grant =
        |noun, action, resources| NewKeyGrant { permission: Permission::new(noun, action), resources };
    let Some(list) = list else {
        return Ok(meaning.iter().map(|(noun, action, _)| grant(*noun, *action, Vec::new())).collect());
    };
    let restricted = meaning.iter().find(|(_, _, part)| *part == Ids::This);
    let Some(kind) = restricted.and_then(|(noun, _, _)| kind(*noun)) else {
        return Err(format!("{name} cannot be restricted to single resources"));
    };
    let decode = |text: &str| {
        let text = text.trim();
        let id = ids.decode_grouped_as(kind, text);
        id.ok_or_else(|| format!("{text:?} is not the id of a {}, such as 8qxn-y9ex-65vd", kind.0))
    };
    let resources = list.split(',').map(decode).collect::<Result<Vec<i64>, String>>()?;
    let kept = meaning.iter().filter(|(_, _, part)| *part == Ids::This || name == KEEPS_THE_REST);
    Ok(kept
        .map(|(noun, action, part)| {
            grant(*noun, *action, if *part == Ids::This { resources.clone() } else { Vec::new() })
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<(String, Vec<i64>)>, String> {
        let grants = parse(&HashIds::new([7; 16]), text)?;
        Ok(grants.into_iter().map(|grant| (grant.permission.as_text(), grant.resources)).collect())
    }

    #[test]
    fn every_name_is_in_the_table() {
        for name in NAMES {
            assert!(parsed(name).is_ok(), "{name}");
        }
        assert_eq!(parsed("manage datasources").unwrap()[0].0, "datasource:manage");
        assert!(parsed("Own Datasources").unwrap_err().contains("View Datasources"));
    }

    #[test]
    fn ids_restrict() {
        let ids = HashIds::new([7; 16]);
        let (one, two) = (ids.encode_grouped(DatasourceId(1)), ids.encode_grouped(DatasourceId(2)));
        let found = parsed(&format!("View Datasources={one}, {two}")).unwrap();
        assert_eq!(found, [("datasource:view".to_owned(), vec![1, 2])]);
        let found = parsed(&format!("Manage Datasources={one}")).unwrap();
        assert_eq!(found, [("datasource:manage".to_owned(), vec![1])]);
        let found = parsed(&format!("Manage Dashboards={one}")).unwrap();
        assert_eq!(found[0], ("datasource:use".to_owned(), vec![1]));
        assert_eq!(found[1], ("dashboard:manage".to_owned(), vec![]));
        assert!(parsed(&format!("Manage Users={one}")).is_err());
        assert!(parsed("View Datasources=").is_err() && parsed("View Datasources=7").is_err());
        let other = parsed(&format!("View Dashboards={one}")).unwrap_err();
        assert!(other.contains("is not the id of a dashboard"), "{other}");
    }
}
