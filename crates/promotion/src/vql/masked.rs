//! What is called a password is not shown, and not kept in statements without effect.

use landreeve_core::sql::{Kind, Scanner, VQL};

/// What replaces a password.
pub const HIDDEN: &str = "'***'";

/// Whether a word or a text is the name of a password.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["PASSWORD", "SECRET", "PASSPHRASE"].iter().any(|word| name.contains(word))
}

/// A statement as written, without the literals that follow the name of a password, and those of CREATE USER. A property
/// stays: it is no password.
pub fn without_passwords(written: &str) -> String {
    let (mut out, mut secret, mut user) = (String::with_capacity(written.len()), false, false);
    let mut last = String::new();
    for token in Scanner::new(written, VQL) {
        let text = written.get(token.start..token.end).unwrap_or_default();
        let is_literal = matches!(token.kind, Kind::Text | Kind::QuotedName);
        if is_literal && (secret || user) {
            let property = text.strip_prefix("'${").and_then(|rest| rest.strip_suffix("}'"));
            let property = property.is_some_and(|name| !name.contains(['{', '}']));
            // The name of a user can be quoted.
            let name = user && !secret && token.kind == Kind::QuotedName;
            out.push_str(if property || name { text } else { HIDDEN });
            (secret, user) = (false, user && name);
            continue;
        }
        out.push_str(text);
        if token.kind.is_blank() || text == "=" || text == "," && secret {
            continue;
        }
        let word = text.to_ascii_uppercase();
        secret = matches!(token.kind, Kind::Word | Kind::Text) && is_secret(text);
        user |= word == "USER" && last != "SINGLE" && last != "ALTER" && last != "DROP";
        last = word;
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
            ("SET 'a' = 'b'", "SET 'a' = 'b'"),
            ("SET 'com.vendor.proxy.password' = 'S6'", "SET 'com.vendor.proxy.password' = '***'"),
            ("LOGIN 'u' PASSWORD 'S5' ENCRYPTED", "LOGIN 'u' PASSWORD '***' ENCRYPTED"),
            ("PROPERTIES ('password'='S4', 'b'='c')", "PROPERTIES ('password'='***', 'b'='c')"),
            ("VAULTSECRET = 'S3' PROXYPASSWORD 'S2'", "VAULTSECRET = '***' PROXYPASSWORD '***'"),
            ("USERPASSWORD = \"S1\"", "USERPASSWORD = '***'"),
            ("userpassword /* c */ 'x'", "userpassword /* c */ '***'"),
        ] {
            assert_eq!(without_passwords(written), shown);
        }
    }
}
