//! `landreeve property …`: set, list and import, without showing a secret.

use serde_json::{Value, json};

use crate::support::{Server, said};

fn list(server: &Server, environment: &str) -> Value {
    serde_json::from_str(&server.say(&["property", "list", environment, "--format", "json"])).unwrap()
}

#[test]
fn properties_are_set_listed_and_imported() {
    let server = Server::stopped();
    server.say(&["env", "create", "production"]);
    assert_eq!(list(&server, "production"), json!([]));
    let password = "databases.sales.datasources.jdbc.ds_erp.USERPASSWORD";
    assert_eq!(server.say(&["property", "set", "production", "a b", "1"]), "set a b");
    server.say(&["property", "set", "production", "soon.gone", "1"]);
    assert_eq!(server.say(&["property", "delete", "production", "soon.gone"]), "deleted soon.gone");
    let again = server.cli(&["property", "delete", "production", "soon.gone"]);
    assert_eq!(String::from_utf8_lossy(&again.stderr), "landreeve: there is no such property\n");
    let set = said(
        &server.cli_with_input(&["property", "set", "production", password, "--value-stdin"], "tiger\n"),
    );
    assert!(!set.contains("tiger"), "{set}");
    let listed = list(&server, "production");
    assert_eq!(listed[0], json!({ "name": "a b", "value": "1", "undefined": false }));
    let text = listed[1]["value"].as_str().unwrap().to_owned();
    assert!(text.starts_with("lr1:"), "{listed}");

    // More than one request, with a ciphertext before the word that says so.
    let mut file = format!("a\\ b = 2\n{password} = {text}\nusers.u.PASSWORD = mYgfbA\n");
    (0..10_001).for_each(|at| file += &format!("p{at:05} = v\n"));
    file += "users.u.PASSWORD.ALGORITHM = SHA512\nempty =\n";
    let path = server.data_dir.join("test.properties");
    std::fs::write(&path, file).unwrap();
    let path = path.to_str().unwrap().to_owned();
    assert_eq!(server.say(&["property", "import", "production", &path]), "set 10006 properties");
    let listed = list(&server, "production");
    let value = |name: &str| {
        let found = listed.as_array().unwrap().iter().find(|property| property["name"] == name);
        found.map(|property| property["value"].clone())
    };
    for (name, expected) in [
        ("a b", "2"),
        (password, text.as_str()),
        ("users.u.PASSWORD", "mYgfbA"),
        ("users.u.PASSWORD.ALGORITHM", "SHA512"),
        ("empty", ""),
        ("p10000", "v"),
    ] {
        assert_eq!(value(name), Some(json!(expected)), "{name}");
    }

    // What is wrong is said with the property's name, and nothing of it is stored.
    std::fs::write(&path, "first = 1\nusers.v.PASSWORD = lr1:AQAA\n").unwrap();
    let refused = server.cli(&["property", "import", "production", &path]);
    assert_eq!(refused.status.code(), Some(1));
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(message.contains("users.v.PASSWORD is an encrypted value"), "{message}");
    assert_eq!(list(&server, "production").as_array().unwrap().len(), 10_006);
    for arguments in [
        vec!["property", "list", "nosuch"],
        vec!["property", "set", "nosuch", "a", "1"],
        vec!["property", "import", "production", "nosuch.properties"],
    ] {
        let ended = server.cli(&arguments);
        assert_eq!(ended.status.code(), Some(1), "{arguments:?} {ended:?}");
    }
    for arguments in [
        vec!["property", "set", "production", "a"],
        vec!["property", "set", "production", "a", "1", "--value-stdin"],
    ] {
        assert_eq!(server.cli(&arguments).status.code(), Some(2), "{arguments:?}");
    }
}
