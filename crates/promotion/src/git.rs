//! Commits texts to a repository on this machine, by the program `git`.
//!
//! Knows files and commits. Does not belong here: what is committed, and when.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use landreeve_core::source::CancellationToken;
use landreeve_estate::program::{self, Ended, Program, Stop};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

/// Of one commit with everything that it needs. Waiting for another commit does not count.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// In bytes.
const MAX_OUTPUT: usize = 16 * 1_024;
/// Nothing that a repository or a user configures is started or changes what is committed.
const ALWAYS: [&str; 13] = [
    "--literal-pathspecs",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "commit.gpgsign=false",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.autocrlf=false",
    "-c",
    "gc.auto=0",
    "-c",
    "maintenance.auto=false",
];
const EMAIL: &str = "landreeve@localhost";

/// A text that is committed as a file.
#[derive(Debug, Clone)]
pub struct Change {
    /// The folders from the top of the repository, and the name of the file; see `file_name`.
    pub path: Vec<String>,
    pub text: String,
    pub message: String,
    pub author: String,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// The abbreviated id of the commit.
    As(String),
    /// The file was committed before as it is.
    Unchanged,
}

/// Commits one change after the other.
pub struct Repository {
    folder: PathBuf,
    program: PathBuf,
    turn: Mutex<()>,
}

impl Repository {
    /// `None` if no folder is configured.
    pub fn new(folder: &Path) -> Option<Repository> {
        let configured = !folder.as_os_str().is_empty();
        configured.then(|| Repository {
            folder: folder.to_path_buf(),
            program: PathBuf::from("git"),
            turn: Mutex::new(()),
        })
    }

    /// Writes and commits a file, or says why that failed. An empty folder becomes a repository first.
    pub async fn commit(&self, change: Change) -> Result<Committed, String> {
        let _turn = self.turn.lock().await;
        match tokio::time::timeout(TIME_LIMIT, self.committed(change)).await {
            Ok(done) => done,
            Err(_) => Err(format!("git was killed after {} seconds", TIME_LIMIT.as_secs())),
        }
    }

    async fn committed(&self, change: Change) -> Result<Committed, String> {
        let (folder, is_empty) = blocking({
            let folder = self.folder.clone();
            move || ready(&folder)
        })
        .await?;
        let git = Git { program: &self.program, variables: variables(&folder, &change), folder: &folder };
        if is_empty {
            git.run(&["init", "--quiet", "--template=", "--initial-branch=main"]).await?;
        }
        let (path, message) = (change.path.join("/"), change.message.clone());
        blocking({
            let folder = folder.clone();
            move || write(&folder, &change)
        })
        .await?;
        // What the repository ignores is committed too.
        git.run(&["add", "--force", "--", &path]).await?;
        let same = ["diff", "--cached", "--quiet", "--no-ext-diff", "--no-textconv", "--", &path];
        match git.ended(&same).await? {
            Ended { stop: Stop::Exited(Some(0)), .. } => return Ok(Committed::Unchanged),
            Ended { stop: Stop::Exited(Some(1)), .. } => {}
            ended => return Err(failure("diff", &ended)),
        }
        let message = format!("--message={message}");
        let commit =
            ["commit", "--quiet", "--no-verify", "--cleanup=verbatim", &message, "--only", "--", &path];
        git.run(&commit).await?;
        let id = git.run(&["rev-parse", "--short=12", "HEAD"]).await?;
        Ok(Committed::As(id.trim().to_owned()))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| format!("internal error: {error}"))?
}

/// The folder without links, and whether it is empty. It is created if it does not exist.
fn ready(folder: &Path) -> Result<(PathBuf, bool), String> {
    let open = || -> io::Result<(PathBuf, bool)> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let folder = folder.canonicalize()?;
        let is_empty = fs::read_dir(&folder)?.next().is_none();
        Ok((folder, is_empty))
    };
    open().map_err(|error| format!("the repository {} cannot be opened: {error}", folder.display()))
}

/// Writes the file, in folders that are none of another place.
fn write(folder: &Path, change: &Change) -> Result<(), String> {
    let mut at = folder.to_path_buf();
    let failed = |at: &Path, error: &io::Error| format!("{} cannot be written: {error}", at.display());
    let Some((file, folders)) = change.path.split_last() else {
        return Err("the file has no name".to_owned());
    };
    for name in folders {
        at.push(name);
        match fs::create_dir(&at) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&at, &error)),
            _ => {}
        }
        if !fs::symlink_metadata(&at).is_ok_and(|found| found.is_dir()) {
            return Err(format!("{} is not a folder", at.display()));
        }
    }
    at.push(file);
    if fs::symlink_metadata(&at).is_ok_and(|found| !found.is_file()) {
        return Err(format!("{} is not a file", at.display()));
    }
    fs::write(&at, &change.text).map_err(|error| failed(&at, &error))
}

fn variables(folder: &Path, change: &Change) -> Vec<(&'static str, String)> {
    // A folder that is no repository must not become a part of the one above it.
    let above = folder.parent().map(|above| above.display().to_string()).unwrap_or_default();
    let date = format!("@{} +0000", change.at.as_second());
    vec![
        ("HOME", String::new()),
        ("GIT_CONFIG_NOSYSTEM", "1".to_owned()),
        ("GIT_CONFIG_GLOBAL", "/dev/null".to_owned()),
        ("GIT_CEILING_DIRECTORIES", above),
        ("GIT_TERMINAL_PROMPT", "0".to_owned()),
        ("LC_ALL", "C".to_owned()),
        ("GIT_AUTHOR_NAME", author(&change.author)),
        ("GIT_AUTHOR_EMAIL", EMAIL.to_owned()),
        ("GIT_AUTHOR_DATE", date.clone()),
        ("GIT_COMMITTER_NAME", "Landreeve".to_owned()),
        ("GIT_COMMITTER_EMAIL", EMAIL.to_owned()),
        ("GIT_COMMITTER_DATE", date),
    ]
}

/// git refuses a name of nothing but signs.
fn author(name: &str) -> String {
    if name.chars().any(char::is_alphanumeric) { name.to_owned() } else { format!("user {name}") }
}

struct Git<'a> {
    program: &'a Path,
    folder: &'a Path,
    variables: Vec<(&'static str, String)>,
}

impl Git<'_> {
    /// What it wrote, if it succeeded.
    async fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let ended = self.ended(arguments).await?;
        if ended.succeeded() {
            return Ok(ended.output);
        }
        Err(failure(arguments.first().copied().unwrap_or_default(), &ended))
    }

    async fn ended(&self, arguments: &[&str]) -> Result<Ended, String> {
        let program = Program {
            path: self.program.to_path_buf(),
            arguments: ALWAYS.iter().chain(arguments).map(|text| (*text).to_owned()).collect(),
            variables: self.variables.clone(),
            folder: self.folder.to_path_buf(),
            note: None,
            time_limit: TIME_LIMIT,
            max_output: MAX_OUTPUT,
        };
        let ended = program::run(&program, &CancellationToken::new()).await;
        ended.map_err(|error| format!("{}; is git installed?", error.message))
    }
}

/// `git commit ended with 128: fatal: …`
fn failure(command: &str, ended: &Ended) -> String {
    let how = match ended.stop {
        Stop::Exited(Some(code)) => format!("ended with {code}"),
        Stop::Exited(None) => "was ended by a signal".to_owned(),
        Stop::TimedOut | Stop::Cancelled => "was killed".to_owned(),
    };
    let said = ended.output.trim();
    let colon = if said.is_empty() { "" } else { ": " };
    format!("git {command} {how}{colon}{said}")
}

/// In bytes; an ending has room after it.
const MAX_FILE_NAME: usize = 200;

/// The name of a file or folder for any name: it has no path, is not hidden, and differs for different names.
pub fn file_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        let inside = matches!(c, '.' | ' ') && !out.is_empty();
        if c.is_alphanumeric() || matches!(c, '-' | '_') || inside {
            out.push(c);
            continue;
        }
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    if out.len() <= MAX_FILE_NAME {
        return out;
    }
    let mut short = String::with_capacity(MAX_FILE_NAME);
    for c in out.chars() {
        if short.len() + c.len_utf8() > MAX_FILE_NAME - 20 {
            break;
        }
        short.push(c);
    }
    let hash = hex::encode(Sha256::digest(name));
    short.push('-');
    short.extend(hash.chars().take(16));
    short
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    fn change(name: &str, text: &str) -> Change {
        Change {
            path: vec!["prod".to_owned(), name.to_owned()],
            text: text.to_owned(),
            message: "Deployment 28 to prod: ok\n\n# Revisions: 'a' $b\n".to_owned(),
            author: "ada".to_owned(),
            at: Timestamp::from_second(1_768_478_400).unwrap(),
        }
    }

    /// What git says about the repository.
    fn git(folder: &Path, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        let said = command.current_dir(folder).args(arguments).output().unwrap();
        assert!(said.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8_lossy(&said.stdout).into_owned()
    }

    #[tokio::test]
    async fn changes_are_committed_one_after_the_other() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("a/b");
        let repository = Repository::new(&folder).unwrap();
        let Committed::As(first) = repository.commit(change("s1.vql", "one\n")).await.unwrap() else {
            panic!("nothing was committed");
        };
        assert_eq!(repository.commit(change("s1.vql", "one\n")).await, Ok(Committed::Unchanged));
        assert!(git(&folder, &["rev-parse", "HEAD"]).starts_with(&first));
        let shown = git(&folder, &["log", "-1", "--format=%an|%ae|%cn|%at|%B"]);
        assert_eq!(
            shown.trim_end(),
            "ada|landreeve@localhost|Landreeve|1768478400|Deployment 28 to prod: ok\n\n# Revisions: 'a' $b"
        );
        // Names that git could read as something else.
        let (dash, magic) = (change("-s.vql", "x"), change(":(top)*.vql", "y"));
        let (one, two) = tokio::join!(repository.commit(dash), repository.commit(magic));
        assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
        assert_eq!(git(&folder, &["rev-list", "--count", "HEAD"]).trim(), "3");
        assert_eq!(git(&folder, &["status", "--porcelain"]), "");
        assert_eq!(git(&folder, &["branch", "--show-current"]).trim(), "main");
    }

    #[tokio::test]
    async fn hooks_and_settings_of_the_repository_have_no_effect() {
        let place = tempfile::tempdir().unwrap();
        git(place.path(), &["init", "--quiet"]);
        for (name, value) in [
            ("commit.gpgSign", "true"),
            ("user.name", "Someone Else"),
            ("core.hooksPath", ".hooks"),
            ("core.fsmonitor", "touch fsmonitor-ran"),
        ] {
            git(place.path(), &["config", name, value]);
        }
        fs::write(place.path().join(".gitignore"), "*.vql\n").unwrap();
        for hooks in [".hooks", ".git/hooks"] {
            fs::create_dir_all(place.path().join(hooks)).unwrap();
            for hook in ["pre-commit", "post-commit", "commit-msg"] {
                let path = place.path().join(hooks).join(hook);
                fs::write(&path, "#!/bin/sh\ntouch hook-ran\nexit 1\n").unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        // What others have staged stays theirs.
        fs::write(place.path().join("README"), "own work").unwrap();
        git(place.path(), &["-c", "core.fsmonitor=false", "add", "README"]);
        let repository = Repository::new(place.path()).unwrap();
        assert!(matches!(repository.commit(change("s1.vql", "one\n")).await, Ok(Committed::As(_))));
        let files = git(place.path(), &["show", "--name-only", "--format=%an", "HEAD"]);
        assert_eq!(files.trim(), "ada\n\nprod/s1.vql");
        for made in ["hook-ran", "fsmonitor-ran"] {
            assert!(!place.path().join(made).exists(), "{made}");
        }
    }

    #[tokio::test]
    async fn a_failure_says_what_is_wrong() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        let failed = async |repository: Repository| {
            repository.commit(change("s1.vql", "one\n")).await.expect_err("it was committed")
        };
        // Not even if a folder above it is one.
        git(place.path(), &["init", "--quiet"]);
        fs::create_dir(path("other")).unwrap();
        fs::write(path("other").join("file"), "x").unwrap();
        let said = failed(Repository::new(&path("other")).unwrap()).await;
        assert!(
            said.starts_with("git add ended with 128: ") && said.contains("not a git repository"),
            "{said}"
        );
        fs::write(path("plain"), "x").unwrap();
        let said = failed(Repository::new(&path("plain")).unwrap()).await;
        assert!(said.contains("plain cannot be opened"), "{said}");
        let missing =
            Repository { program: PathBuf::from("git-of-nowhere"), ..Repository::new(&path("r")).unwrap() };
        let said = failed(missing).await;
        assert!(
            said.starts_with("could not start git-of-nowhere: ") && said.ends_with("; is git installed?")
        );
        let good = Repository::new(&path("good")).unwrap();
        good.commit(change("s0.vql", "zero\n")).await.unwrap();
        fs::write(path("good").join(".git/index.lock"), "").unwrap();
        let said = failed(Repository::new(&path("good")).unwrap()).await;
        assert!(said.contains("index.lock"), "{said}");
        fs::remove_file(path("good").join(".git/index.lock")).unwrap();
        fs::remove_dir_all(path("good").join("prod")).unwrap();
        std::os::unix::fs::symlink(place.path(), path("good").join("prod")).unwrap();
        let said = failed(Repository::new(&path("good")).unwrap()).await;
        assert!(said.ends_with("prod is not a folder") && !path("s1.vql").exists(), "{said}");
    }

    #[test]
    fn names_of_files_are_safe_and_differ() {
        for (name, expected) in [
            ("prod-1", "prod-1"),
            ("Größe 1.2", "Größe 1.2"),
            ("..", "%2E."),
            (".git", "%2Egit"),
            (" a", "%20a"),
            ("a/b\\c:\n%", "a%2Fb%5Cc%3A%0A%25"),
        ] {
            assert_eq!(file_name(name), expected);
        }
        let (long, longer) = ("ä".repeat(250), "ä".repeat(251));
        assert!(file_name(&long).len() <= MAX_FILE_NAME && file_name(&long) != file_name(&longer));
        assert!(Repository::new(Path::new("")).is_none());
        assert_eq!((author("ada"), author("<>")), ("ada".to_owned(), "user <>".to_owned()));
    }
}
