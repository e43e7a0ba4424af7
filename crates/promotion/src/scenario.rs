//! What an environment is for: it decides who may deploy there.

use landreeve_core::Noun;

use crate::nouns::{DEPLOY_DEVELOPMENT, DEPLOY_PRODUCTION, DEPLOY_STAGING};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    Development,
    Staging,
    Production,
}

impl Scenario {
    pub const ALL: [Scenario; 3] = [Scenario::Development, Scenario::Staging, Scenario::Production];

    /// As it is stored, and as delivery data has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scenario::Development => "development",
            Scenario::Staging => "staging",
            Scenario::Production => "production",
        }
    }

    /// `DEVELOPMENT`, `STAGING` or `PRODUCTION`.
    pub fn alias(self) -> String {
        self.as_str().to_ascii_uppercase()
    }

    pub fn parse(text: &str) -> Option<Scenario> {
        Scenario::ALL.into_iter().find(|known| known.as_str() == text)
    }

    /// The scenario of a license alias: one of the three names, alone or with a number, as `PRODUCTION_1`. An environment
    /// without an alias is for production, where the fewest may deploy.
    pub fn of_alias(alias: Option<&str>) -> Option<Scenario> {
        let Some(alias) = alias else { return Some(Scenario::Production) };
        let name = match alias.rsplit_once('_') {
            Some((name, number))
                if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                name
            }
            _ => alias,
        };
        Scenario::ALL.into_iter().find(|known| known.alias() == name)
    }

    /// The noun whose permissions say who may deploy.
    pub const fn noun(self) -> Noun {
        match self {
            Scenario::Development => DEPLOY_DEVELOPMENT,
            Scenario::Staging => DEPLOY_STAGING,
            Scenario::Production => DEPLOY_PRODUCTION,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_has_a_scenario() {
        for (alias, expected) in [
            (None, Some(Scenario::Production)),
            (Some("DEVELOPMENT"), Some(Scenario::Development)),
            (Some("STAGING"), Some(Scenario::Staging)),
            (Some("PRODUCTION"), Some(Scenario::Production)),
            (Some("PRODUCTION_1"), Some(Scenario::Production)),
            (Some("STAGING_12"), Some(Scenario::Staging)),
            (Some("PRODUCTION_"), None),
            (Some("PRODUCTION_A"), None),
            (Some("production"), None),
            (Some("PERSONAL_DEVELOPER"), None),
            (Some(""), None),
        ] {
            assert_eq!(Scenario::of_alias(alias), expected, "{alias:?}");
        }
    }
}
