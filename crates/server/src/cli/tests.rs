//! Checks that every command has help, that its examples parse, and that a mistyped data directory creates no estate.

use clap::{CommandFactory as _, Parser as _};

use super::Cli;

/// Visits every command with its path, `landreeve` included.
fn walk(command: &clap::Command, path: &str, visit: &mut impl FnMut(&str, &clap::Command)) {
    let path = format!("{path} {}", command.get_name()).trim_start().to_owned();
    visit(&path, command);
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        walk(sub, &path, visit);
    }
}

fn commands() -> Vec<(String, clap::Command)> {
    let mut found = Vec::new();
    let mut root = Cli::command();
    root.build();
    walk(&root, "", &mut |path, command| found.push((path.to_owned(), command.clone())));
    found
}

/// The example lines in a command's help, split into words.
fn examples(command: &clap::Command) -> Vec<Vec<String>> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    help.lines().map(str::trim).filter(|line| line.starts_with("landreeve ")).map(words).collect()
}

/// Splits a line without escapes the way a shell does.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.push(c),
            ('"' | '\'', None) => quote = Some(c),
            (' ', None) => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            (c, None) => word.push(c),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

#[track_caller]
fn is_a_sentence(what: &str, text: Option<String>) {
    let text = text.unwrap_or_default();
    let starts = text.chars().next().is_some_and(char::is_uppercase);
    assert!(starts && !text.ends_with('.'), "the help of {what} is {text:?}");
}

#[test]
fn every_command_and_option_has_help_and_valid_examples() {
    for (path, command) in commands() {
        is_a_sentence(&path, command.get_about().map(ToString::to_string));
        for argument in
            command.get_arguments().filter(|one| !["help", "version"].contains(&one.get_id().as_str()))
        {
            is_a_sentence(
                &format!("{path} {}", argument.get_id()),
                argument.get_help().map(ToString::to_string),
            );
        }
        let examples = examples(&command);
        assert!(path == "landreeve" || !examples.is_empty(), "{path} has no example");
        for example in examples {
            assert!(example.join(" ").starts_with(&path), "{path}: {example:?} is of another command");
            let parsed = Cli::try_parse_from(&example);
            assert!(parsed.is_ok(), "{path}: {}", parsed.unwrap_err());
        }
    }
}

/// All other commands fail if there is no estate, and leave nothing behind.
#[tokio::test]
async fn only_three_commands_create_an_estate() {
    const CREATE: [&str; 3] = ["landreeve quickstart", "landreeve serve", "landreeve estate restore"];
    const NEED_NONE: [&str; 3] =
        ["landreeve config check", "landreeve config default", "landreeve estate verify"];
    let folder = tempfile::tempdir().unwrap();
    let slip = folder.path().join("landreev-data");
    let mut tried = 0;
    for (path, command) in commands() {
        if command.has_subcommands() || CREATE.contains(&path.as_str()) {
            continue;
        }
        for mut example in examples(&command) {
            example.extend(["--data-dir".to_owned(), slip.display().to_string()]);
            let ended = super::run(Cli::try_parse_from(&example).unwrap()).await;
            if !NEED_NONE.contains(&path.as_str()) {
                let error = format!("{:#}", ended.unwrap_err());
                let wanted =
                    if path == "landreeve doctor" { "of the checks failed" } else { "there is no estate in" };
                assert!(error.contains(wanted), "{example:?}: {error}");
            }
            assert!(!slip.exists(), "{example:?} left {} behind", slip.display());
            tried += 1;
        }
    }
    assert!(tried > 35, "{tried}");
}

/// `--database` used to be the store option of every command, and a mistake created a stray estate with a password.
#[test]
fn the_store_option_is_not_named_database() {
    for (path, command) in commands() {
        let names = command.get_arguments().filter_map(clap::Arg::get_long);
        let has = names.into_iter().any(|name| name == "database");
        let about_another = [
            "landreeve datasource add",
            "landreeve datasource set",
            "landreeve revision create",
            "landreeve restore",
        ];
        assert_eq!(has, about_another.contains(&path.as_str()), "{path}");
    }
}
