//! What is called a password is not shown, and not kept in statements without effect.

use landreeve_core::sql::{Kind, Scanner, VQL};

/// What replaces a password.
pub const HIDDEN: &str = "'***'";

/// Whether a word or a text is the name of a password.
pub fn is_secret(name: &str) -> bool {
    const PARTS: [&str; 5] = ["PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "PRIVATEKEY"];
    const ENDS: [&str; 4] = ["PWD", "APIKEY", "ACCESSTOKEN", "REFRESHTOKEN"];
    let name: String = name.chars().filter(|char| !matches!(char, '_' | '-')).collect();
    let name = name.trim_end_matches('\'').to_ascii_uppercase();
    PARTS.iter().any(|part| name.contains(part)) || ENDS.iter().any(|end| name.ends_with(end))
}

/// What the next token may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Anything,
    /// The name of a password came: its value follows, perhaps after `=`, a comma or a parenthesis. A word is only a value
    /// if it cannot be the clause after a text, as in `USERNAME = 'password' USERPASSWORD = …`.
    Secret {
        words: bool,
    },
    /// More of it: literals that follow each other are one value, or a mistake.
    More,
    /// CREATE USER: its name, then its password.
    UserName,
    UserPassword,
}

impl Next {
    fn hides(self, kind: Kind, text: &str) -> bool {
        let is_literal = matches!(kind, Kind::Text | Kind::QuotedName);
        match self {
            Next::Secret { words } => is_literal || kind == Kind::Number || words && kind == Kind::Word,
            Next::More | Next::UserPassword => is_literal,
            // Not the name of a user, but a password without one.
            Next::UserName => kind == Kind::Text && !is_property(text),
            Next::Anything => false,
        }
    }

    fn after_hidden(self, kind: Kind, text: &str) -> Next {
        match self {
            Next::UserName => Next::UserPassword,
            Next::UserPassword => Next::Anything,
            // `SECRET USERPASSWORD = 'x'`: which of them is the name cannot be told.
            Next::Secret { .. } if kind == Kind::Word && is_secret(text) => Next::Secret { words: true },
            _ => Next::More,
        }
    }

    /// After what may be between a name and its value.
    fn after_between(self, text: &str) -> Option<Next> {
        let is_between = matches!(text, "=" | "," | "(" | ":" | ">") || is_encrypted(text);
        match self {
            Next::Secret { words } if is_between => Some(Next::Secret { words: words || text == "=" }),
            Next::More if is_between && text != "," => Some(self),
            Next::UserPassword if is_between => Some(self),
            _ => None,
        }
    }

    fn after_name(self, kind: Kind, text: &str, last: &str) -> Next {
        let is_name = match kind {
            Kind::Word | Kind::QuotedName => true,
            Kind::Text => {
                text.trim_matches('\'').chars().all(|char| char.is_alphanumeric() || "_.-".contains(char))
            }
            _ => false,
        };
        match self {
            Next::UserName => Next::UserPassword,
            _ if kind == Kind::Word && text.eq_ignore_ascii_case("USER") && last != "SINGLE" => {
                Next::UserName
            }
            _ if is_name && is_secret(text.trim_matches(['\'', '"'])) => {
                Next::Secret { words: kind != Kind::Text }
            }
            _ => Next::Anything,
        }
    }
}

/// A statement as written, without what follows the name of a password, the password of CREATE USER, and passwords in URLs.
/// A property stays: it is no password.
pub fn without_passwords(written: &str) -> String {
    let (mut out, mut next) = (String::with_capacity(written.len()), Next::Anything);
    let mut last = String::new();
    for token in Scanner::new(written, VQL) {
        let text = written.get(token.start..token.end).unwrap_or_default();
        if token.kind.is_blank() {
            out.push_str(text);
            continue;
        }
        if let Some(after) = next.after_between(text) {
            out.push_str(text);
            next = after;
            continue;
        }
        if next.hides(token.kind, text) {
            out.push_str(if is_property(text) { text } else { HIDDEN });
            next = next.after_hidden(token.kind, text);
            continue;
        }
        match token.kind {
            Kind::Text => out.push_str(&without_parameters(text)),
            _ => out.push_str(text),
        }
        next = next.after_name(token.kind, text, &last);
        last = text.to_ascii_uppercase();
    }
    out
}

fn is_encrypted(text: &str) -> bool {
    text.eq_ignore_ascii_case("ENCRYPTED")
}

/// `'${name}'`
fn is_property(text: &str) -> bool {
    let name = text.strip_prefix("'${").and_then(|rest| rest.strip_suffix("}'"));
    name.is_some_and(|name| !name.contains(['{', '}']))
}

/// A literal without the passwords of a URL or of parameters in it: `://user:password@`, `password=…`.
fn without_parameters(literal: &str) -> String {
    let mut text = literal.to_owned();
    if let Some((scheme, rest)) = literal.split_once("://") {
        let end = rest.find(['/', '?', '\'']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if let Some((credentials, host)) = authority.rsplit_once('@')
            && let Some((user, _)) = credentials.split_once(':')
        {
            text = format!("{scheme}://{user}:***@{host}{rest}");
        }
    }
    let mut out = String::with_capacity(text.len());
    for part in text.split_inclusive(['?', '&', ';', ',', ' ']) {
        match part.split_once('=') {
            Some((name, value)) if is_secret(name.trim_matches('\'')) && !value.starts_with("${") => {
                let end = value.find(['?', '&', ';', ',', ' ', '\'']).unwrap_or(value.len());
                let rest = value.get(end..).unwrap_or_default();
                out.push_str(&format!("{name}=***{rest}"));
            }
            _ => out.push_str(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_have_no_passwords() {
        for (written, shown) in [
            (
                "CREATE DATASOURCE JDBC a USERNAME = 'u' USERPASSWORD = 'secret' ENCRYPTED",
                "CREATE DATASOURCE JDBC a USERNAME = 'u' USERPASSWORD = '***' ENCRYPTED",
            ),
            ("CREATE USER x 'secret' 'a person'", "CREATE USER x '***' 'a person'"),
            (
                "CREATE OR REPLACE USER x '${users.x.PASSWORD}'",
                "CREATE OR REPLACE USER x '${users.x.PASSWORD}'",
            ),
            ("ALTER USER x GRANT ROLE y", "ALTER USER x GRANT ROLE y"),
            ("ALTER USER x 'SEKRET'", "ALTER USER x '***'"),
            ("ALTER USER x PASSWORD 'SEKRET'", "ALTER USER x PASSWORD '***'"),
            ("CREATE USER 'SEKRET' (a)", "CREATE USER '***' (a)"),
            ("CREATE USER 'bob' 'SEKRET'", "CREATE USER '***' '***'"),
            ("CREATE USER x ENCRYPTED 'SEKRET'", "CREATE USER x ENCRYPTED '***'"),
            ("ALTER DATABASE d SINGLE USER MODE", "ALTER DATABASE d SINGLE USER MODE"),
            ("P (SECRET USERPASSWORD = 'SEKRET')", "P (SECRET '***' = '***')"),
            ("P ('password', USERPASSWORD = 'SEKRET', b 'c')", "P ('password', USERPASSWORD = '***', b 'c')"),
            ("USERNAME = 'password' USERPASSWORD = 'SEKRET'", "USERNAME = 'password' USERPASSWORD = '***'"),
            ("USERNAME 'pwd' ROLE 'x'", "USERNAME 'pwd' ROLE 'x'"),
            (
                "DATABASEURI = 'jdbc:x?password=a' USERPASSWORD = 'SEKRET'",
                "DATABASEURI = 'jdbc:x?password=***' USERPASSWORD = '***'",
            ),
            ("USERPASSWORD SEKRET = 'SEKRET'", "USERPASSWORD '***' = '***'"),
            ("USERPASSWORD ENCRYPTED 'SEKRET'", "USERPASSWORD ENCRYPTED '***'"),
            ("USERPASSWORD ('SEKRET') DESCRIPTION 'x'", "USERPASSWORD ('***') DESCRIPTION 'x'"),
            ("SET 'x.password' = SEKRET", "SET 'x.password' = '***'"),
            ("SET 'a' = 'b'", "SET 'a' = 'b'"),
            ("SET 'com.vendor.proxy.password' = 'S6'", "SET 'com.vendor.proxy.password' = '***'"),
            ("LOGIN 'u' PASSWORD 'S5' ENCRYPTED", "LOGIN 'u' PASSWORD '***' ENCRYPTED"),
            ("PROPERTIES ('password'='S4', 'b'='c')", "PROPERTIES ('password'='***', 'b'='c')"),
            ("VAULTSECRET = 'S3' PROXYPASSWORD 'S2'", "VAULTSECRET = '***' PROXYPASSWORD '***'"),
            ("USERPASSWORD = \"S1\"", "USERPASSWORD = '***'"),
            ("userpassword /* c */ 'x'", "userpassword /* c */ '***'"),
            ("USERPASSWORD SEKRET USERNAME 'u'", "USERPASSWORD '***' USERNAME 'u'"),
            ("USERPASSWORD '' 'SEKRET'", "USERPASSWORD '***' '***'"),
            ("USERPASSWORD='a' 'SEKRET' ENCRYPTED", "USERPASSWORD='***' '***' ENCRYPTED"),
            ("USERPASSWORD 17", "USERPASSWORD '***'"),
            ("USERPASSWORD ENCRYPTED", "USERPASSWORD ENCRYPTED"),
            ("CREATE USER bob \"SEKRET\"", "CREATE USER bob '***'"),
            ("CREATE USER \"bob b\" 'SEKRET' 'x'", "CREATE USER \"bob b\" '***' 'x'"),
            ("SET 'x.pwd' = 'SEKRET'", "SET 'x.pwd' = '***'"),
            ("SET \"x.password\" = 'SEKRET'", "SET \"x.password\" = '***'"),
            ("FOO 'password=SEKRET'", "FOO 'password=***'"),
            ("FOO 'a=b;api_key=SEKRET;c=d'", "FOO 'a=b;api_key=***;c=d'"),
            (
                "DATABASEURI = 'jdbc:postgresql://u:SEKRET@h:1/x?user=a&password=SEKRET&ssl=on'",
                "DATABASEURI = 'jdbc:postgresql://u:***@h:1/x?user=a&password=***&ssl=on'",
            ),
            ("DATABASEURI = 'jdbc:postgresql://h:1/x'", "DATABASEURI = 'jdbc:postgresql://h:1/x'"),
            ("URI 'http://u@h/x:y@z'", "URI 'http://u@h/x:y@z'"),
            ("SET 'a' = 'password=${users.x.PASSWORD}'", "SET 'a' = 'password=${users.x.PASSWORD}'"),
        ] {
            assert_eq!(without_passwords(written), shown);
        }
    }
}
