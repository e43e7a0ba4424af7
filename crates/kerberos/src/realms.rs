//! Which user of the estate a principal is.

use std::collections::BTreeMap;

use crate::OpenError;

/// The place of the principal's name in a format.
const USER: &str = "{user}";

/// The realms whose users can sign in, each with the format of their names in the estate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realms(BTreeMap<String, String>);

impl Realms {
    /// An empty format means the name as it is: `alice@EXAMPLE.COM` is the user `alice`. Otherwise it contains `{user}`, as
    /// in `{user}.corp`.
    pub fn new(formats: BTreeMap<String, String>) -> Result<Realms, OpenError> {
        if formats.is_empty() {
            let message =
                r#"name at least one realm whose users can sign in, such as { "EXAMPLE.COM" = "" }"#;
            return Err(OpenError::Realms(message.to_owned()));
        }
        let formats = formats.into_iter().map(|(realm, format)| {
            let format = if format.is_empty() { USER.to_owned() } else { format };
            if realm.is_empty() || realm.contains(['@', '/']) {
                return Err(OpenError::Realms(format!("{realm:?} is not the name of a realm")));
            }
            if format.matches(USER).count() != 1 || format.matches(['{', '}']).count() != 2 {
                let message = format!("{realm:?} = {format:?}: use {USER} once, for the name before the @");
                return Err(OpenError::Realms(message));
            }
            Ok((realm, format))
        });
        Ok(Realms(formats.collect::<Result<_, _>>()?))
    }

    /// The user's name. `None` for another realm, and for what is not a user: services have a `/` in their name, and other
    /// special characters are written with a backslash.
    pub fn user(&self, principal: &str) -> Option<String> {
        let (name, realm) = principal.rsplit_once('@')?;
        let special = |c: char| matches!(c, '/' | '\\' | '@') || c.is_control();
        if name.is_empty() || name.contains(special) {
            return None;
        }
        Some(self.0.get(realm)?.replacen(USER, name, 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn realms(formats: &[(&str, &str)]) -> Result<Realms, OpenError> {
        Realms::new(
            formats.iter().map(|(realm, format)| ((*realm).to_owned(), (*format).to_owned())).collect(),
        )
    }

    #[test]
    fn principals_are_mapped_by_their_realm() {
        let formats = [("EXAMPLE.COM", ""), ("CORP.EXAMPLE.COM", "{user}.corp"), ("LAB", "lab-{user}")];
        let realms = realms(&formats).unwrap();
        for (principal, user) in [
            ("alice@EXAMPLE.COM", Some("alice")),
            ("alice@CORP.EXAMPLE.COM", Some("alice.corp")),
            ("a.b-c@LAB", Some("lab-a.b-c")),
            ("{user}@LAB", Some("lab-{user}")),
            ("alice@example.com", None),
            ("alice@OTHER.COM", None),
            ("alice@", None),
            ("@EXAMPLE.COM", None),
            ("alice", None),
            ("", None),
            ("HTTP/host@EXAMPLE.COM", None),
            ("alice/admin@EXAMPLE.COM", None),
            (r"alice\@OTHER.COM@EXAMPLE.COM", None),
            ("alice@OTHER.COM@EXAMPLE.COM", None),
            ("al\nice@EXAMPLE.COM", None),
        ] {
            assert_eq!(realms.user(principal).as_deref(), user, "{principal:?}");
        }
    }

    #[test]
    fn formats_are_checked() {
        for wrong in [
            &[][..],
            &[("", "")],
            &[("a@B", "")],
            &[("A", "alice")],
            &[("A", "{user}{user}")],
            &[("A", "{user}{realm}")],
            &[("A", "{user")],
        ] {
            assert!(realms(wrong).is_err(), "{wrong:?}");
        }
    }
}
