//! Where a script may use a secret: in the credential clause of the element that the secret's name names, and in a
//! datasource only if its address is a property too. Otherwise the author of a script could send a password that only the
//! environment knows to a database of the author's choice, or store it in a description.
//!
//! Looks at tokens before values are filled in. Does not belong here: what is a secret.

use landreeve_core::sql::{Kind, Scanner, Token, VQL, statements};

use crate::vql::masked::is_secret;
use crate::vql::place::{Fault, Lines};
use crate::vql::script::properties_in;

struct Word<'a> {
    kind: Kind,
    text: &'a str,
    /// In the script, in bytes.
    at: usize,
}

impl Word<'_> {
    fn is(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    /// The name that it is: plain names are stored in lower case.
    fn name(&self) -> Option<String> {
        let quoted = |quote: char| {
            let inner = self.text.strip_prefix(quote)?.strip_suffix(quote)?;
            Some(inner.replace(&format!("{quote}{quote}"), &quote.to_string()))
        };
        match self.kind {
            Kind::Word => Some(self.text.to_lowercase()),
            Kind::QuotedName => quoted('"').or_else(|| quoted('`')),
            _ => None,
        }
    }

    /// The property that a text consists of.
    fn property(&self) -> Option<&str> {
        let inner = self.text.strip_prefix('\'')?.strip_suffix('\'')?;
        let mut found = properties_in(inner);
        let (range, name) = found.next()?;
        (self.kind == Kind::Text && range == (0..inner.len())).then_some(name)
    }
}

/// Every use of a secret that is not allowed. `is_secret` says which properties are.
pub fn misuses(script: &str, is_secret: impl Fn(&str) -> bool) -> Vec<Fault> {
    let lines = Lines::of(script);
    let (mut faults, mut connected) = (Vec::new(), Vec::new());
    for range in statements(script, VQL) {
        let text = script.get(range.clone()).unwrap_or_default();
        let word = |token: Token| Word {
            kind: token.kind,
            text: text.get(token.start..token.end).unwrap_or_default(),
            at: range.start + token.start,
        };
        let words: Vec<Word<'_>> =
            Scanner::new(text, VQL).filter(|token| !token.kind.is_blank()).map(word).collect();
        match words.as_slice() {
            [connect, database, name, ..] if connect.is("CONNECT") && database.is("DATABASE") => {
                connected.extend(name.name());
            }
            [close] if close.is("CLOSE") => drop(connected.pop()),
            _ => {}
        }
        let element = Element::of(&words, connected.last().map(String::as_str));
        for (at, word) in words.iter().enumerate() {
            for (_, name) in properties_in(word.text).filter(|(_, name)| is_secret(name)) {
                if !element.as_ref().is_some_and(|element| element.may_use(&words, at, name)) {
                    let message = format!("{name} is a secret; {WHERE}");
                    faults.push(Fault { place: lines.place(script, word.at), message });
                }
            }
        }
    }
    faults
}

const WHERE: &str = "it can only be used as the whole password of the datasource or user that its name names, and in a \
    datasource only if DATABASEURI is that datasource's property too";

/// What a statement creates, if it can have a password.
enum Element {
    Source {
        database: String,
        kind: String,
        name: String,
    },
    User {
        name: String,
        /// Where the password follows.
        at: usize,
    },
}

impl Element {
    fn of(words: &[Word<'_>], connected: Option<&str>) -> Option<Element> {
        let mut rest = words.iter().enumerate().peekable();
        let mut eat = |word: &str| rest.next_if(|(_, found)| found.is(word)).is_some();
        if !eat("CREATE") {
            return None;
        }
        if eat("OR") && !eat("REPLACE") {
            return None;
        }
        if eat("USER") {
            let (at, word) = rest.next()?;
            return Some(Element::User { name: word.name()?, at: at + 1 });
        }
        if !eat("DATASOURCE") {
            return None;
        }
        let kind = rest.next()?.1.name()?;
        let first = rest.next()?.1.name()?;
        let (database, name) = match rest.next_if(|(_, word)| word.text == ".") {
            Some(_) => (first, rest.next()?.1.name()?),
            None => (connected?.to_owned(), first),
        };
        Some(Element::Source { database, kind, name })
    }

    /// Whether a secret may be the word at this position.
    fn may_use(&self, words: &[Word<'_>], at: usize, secret: &str) -> bool {
        let whole = words.get(at).and_then(Word::property) == Some(secret);
        match self {
            Element::User { name, at: expected } => {
                whole && at == *expected && secret == format!("users.{name}.PASSWORD")
            }
            Element::Source { .. } => {
                let clause = clause_of(words, at).map(|word| word.text.to_ascii_uppercase());
                let last = self.parameter(secret).and_then(|parameter| parameter.rsplit('.').next());
                whole && last.is_some() && last == clause.as_deref() && self.has_address(words)
            }
        }
    }

    /// What follows the name of the element in the name of a property of it.
    fn parameter<'a>(&self, property: &'a str) -> Option<&'a str> {
        let Element::Source { database, kind, name } = self else { return None };
        let rest = property.strip_prefix("databases.")?.strip_prefix(database.as_str())?;
        let element = format!(".datasources.{kind}.{name}.");
        // Folders may be between the database and the element.
        let (folders, parameter) = match rest.strip_prefix(element.as_str()) {
            Some(parameter) => ("", parameter),
            None => rest.rsplit_once(element.as_str())?,
        };
        let upper = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"._".contains(&byte);
        let fits = (folders.is_empty() || folders.starts_with(".folder."))
            && !parameter.is_empty()
            && parameter.bytes().all(upper);
        fits.then_some(parameter)
    }

    /// Whether every address in the statement is the element's own property, and there is one.
    fn has_address(&self, words: &[Word<'_>]) -> bool {
        let mut addresses = words.iter().enumerate().filter(|(_, word)| word.is("DATABASEURI")).peekable();
        let own = |at: usize| {
            let next = words.get(at + 1).filter(|word| word.text == "=").map_or(at + 1, |_| at + 2);
            let property = words.get(next).and_then(Word::property);
            property.and_then(|property| self.parameter(property)) == Some("DATABASEURI")
        };
        addresses.peek().is_some() && addresses.all(|(at, _)| own(at))
    }
}

/// The keyword of the statement's own clause whose value is at this position: what is in parentheses, or follows
/// something else, is no clause of the element.
fn clause_of<'a, 'b>(words: &'a [Word<'b>], at: usize) -> Option<&'a Word<'b>> {
    let is_assigned = words.get(at.checked_sub(1)?)?.text == "=";
    let clause = at.checked_sub(if is_assigned { 2 } else { 1 })?;
    let before = words.get(..clause)?;
    let depth = before.iter().try_fold(0usize, |depth, word| match word.text {
        "(" => depth.checked_add(1),
        ")" => depth.checked_sub(1),
        _ => Some(depth),
    });
    let is_value = before.last().is_some_and(|word| {
        word.kind == Kind::Symbol && word.text != ")" || word.kind == Kind::Word && is_secret(word.text)
    });
    let clause = words.get(clause)?;
    (clause.kind == Kind::Word && depth == Some(0) && !is_value).then_some(clause)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "databases.sales.datasources.jdbc.erp.USERPASSWORD";

    fn found(script: &str) -> usize {
        misuses(script, |name| name.ends_with("PASSWORD")).len()
    }

    #[test]
    fn a_secret_is_the_password_of_what_its_name_names() {
        let uri = "DATABASEURI = '${databases.sales.datasources.jdbc.erp.DATABASEURI}'";
        let with = |password: &str| {
            format!("CONNECT DATABASE sales; CREATE OR REPLACE DATASOURCE JDBC erp {uri} {password}; CLOSE")
        };
        for good in [
            with(&format!("USERPASSWORD = '${{{OWN}}}' ${{{OWN}.ENCRYPTED}}")),
            with(&format!("userpassword '${{{OWN}}}'")),
            format!("CREATE DATASOURCE JDBC sales.erp USERPASSWORD = '${{{OWN}}}' {uri}"),
            "CONNECT DATABASE sales; CREATE DATASOURCE JDBC erp \
             DATABASEURI = '${databases.sales.folder.a.b.datasources.jdbc.erp.DATABASEURI}' \
             USERPASSWORD = '${databases.sales.folder.a.b.datasources.jdbc.erp.USERPASSWORD}'"
                .to_owned(),
            "CREATE USER x '${users.x.PASSWORD}' ${users.x.PASSWORD.ENCRYPTED} 'a user'".to_owned(),
            "CREATE OR REPLACE USER \"X y\" '${users.X y.PASSWORD}'".to_owned(),
            format!("# '${{{OWN}}}'\nCREATE DATABASE d"),
        ] {
            assert_eq!(found(&good), 0, "{good}");
        }
        for bad in [
            // Elsewhere, or only a part.
            with(&format!("USERNAME = '${{{OWN}}}'")),
            with(&format!("USERPASSWORD = 'x${{{OWN}}}'")),
            with(&format!("USERPASSWORD = \"${{{OWN}}}\"")),
            with(&format!("USERPASSWORD = ${{{OWN}}}")),
            with(&format!("DESCRIPTION = '${{{OWN}}}'")),
            with(&format!("P (USERPASSWORD = '${{{OWN}}}')")),
            with(&format!("P (SECRET USERPASSWORD = '${{{OWN}}}')")),
            with(&format!("PROPERTIES ('password', USERPASSWORD = '${{{OWN}}}')")),
            with(&format!("SECRET USERPASSWORD = '${{{OWN}}}'")),
            with(&format!("A = USERPASSWORD '${{{OWN}}}'")),
            with(&format!("P (a) ) ( USERPASSWORD = '${{{OWN}}}' (")),
            format!("CREATE DATABASE d '${{{OWN}}}'"),
            format!("CONNECT DATABASE sales; CREATE VIEW v AS SELECT '${{{OWN}}}' AS p FROM dual()"),
            format!("SET 'a' = '${{{OWN}}}'"),
            // Of another element.
            with("USERPASSWORD = '${databases.sales.datasources.jdbc.other.USERPASSWORD}'"),
            with("USERPASSWORD = '${databases.hr.datasources.jdbc.erp.USERPASSWORD}'"),
            with("USERPASSWORD = '${users.x.PASSWORD}'"),
            format!("CONNECT DATABASE hr; CREATE DATASOURCE JDBC erp {uri} USERPASSWORD = '${{{OWN}}}'"),
            format!("CREATE DATASOURCE JDBC erp {uri} USERPASSWORD = '${{{OWN}}}'"),
            "CREATE USER y '${users.x.PASSWORD}'".to_owned(),
            "CREATE USER x 'y' '${users.x.PASSWORD}'".to_owned(),
            // Another address.
            format!("CREATE DATASOURCE JDBC sales.erp USERPASSWORD = '${{{OWN}}}'"),
            format!("CREATE DATASOURCE JDBC sales.erp DATABASEURI = 'jdbc:x' USERPASSWORD = '${{{OWN}}}'"),
            format!(
                "CREATE DATASOURCE JDBC sales.erp {uri} DATABASEURI = 'jdbc:x' USERPASSWORD = '${{{OWN}}}'"
            ),
            format!(
                "CREATE DATASOURCE JDBC sales.erp DATABASEURI = '${{a.DATABASEURI}}' USERPASSWORD = '${{{OWN}}}'"
            ),
            format!(
                "CREATE DATASOURCE JDBC sales.erp USERPASSWORD = '${{{OWN}}}' \
                 DATABASEURI = '${{databases.sales.datasources.jdbc.erp.DATABASEURI}}.evil'"
            ),
        ] {
            assert_eq!(found(&bad), 1, "{bad}");
        }
    }

    #[test]
    fn a_misuse_has_its_place() {
        let script = format!("CREATE DATABASE d;\nSET 'a' = '${{{OWN}}}'");
        let faults = misuses(&script, |name| name == OWN);
        assert!(faults[0].to_string().starts_with("line 2, column 11: databases.sales."), "{faults:?}");
    }
}
