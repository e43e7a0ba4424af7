//! Runs a program of the operator within bounds: its time, its output, its environment, and what it may leave behind.
//!
//! Does not belong here: which programs a plane runs, and why.

use std::fs::{self, DirBuilder};
use std::io::{self, PipeReader, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use landreeve_core::{Error, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The only variable that a program gets by itself.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long output is still read after the program has ended: what it wrote last is in the pipe by then, and a process
/// that it left behind can keep the pipe open forever.
const AFTER_END: Duration = Duration::from_millis(200);
/// How often and how soon a program is started again that is being written at that moment.
const BUSY: (usize, Duration) = (5, Duration::from_millis(20));

#[derive(Debug, Clone)]
pub struct Program {
    pub path: PathBuf,
    pub arguments: Vec<String>,
    /// Variables of its environment, besides PATH.
    pub variables: Vec<(&'static str, String)>,
    /// Where it works; see `Scratch`.
    pub folder: PathBuf,
    /// Where its process is noted, for `Scratch::clear`.
    pub note: Option<PathBuf>,
    pub time_limit: Duration,
    /// In bytes. What it writes beyond is read and thrown away.
    pub max_output: usize,
}

/// Why a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// By itself, with this code; `None` if a signal ended it.
    Exited(Option<i32>),
    TimedOut,
    Cancelled,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub stop: Stop,
    /// What it wrote, to both outputs, in the order in which it came.
    pub output: String,
    /// There was more of it.
    pub cut: bool,
}

impl Ended {
    pub fn succeeded(&self) -> bool {
        self.stop == Stop::Exited(Some(0))
    }
}

/// A file of a folder that its owner alone can change. The reason, as a sentence without the file's name, if it is not
/// one.
pub fn checked(folder: &Path, name: &str) -> std::result::Result<PathBuf, String> {
    if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." {
        return Err("must be the name of a file, without a folder".to_owned());
    }
    let real = folder.canonicalize().map_err(|error| {
        format!("cannot be read: the folder {} of scripts cannot be opened: {error}", folder.display())
    })?;
    let path = real.join(name).canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("does not exist in {}", folder.display()),
        _ => format!("cannot be read: {error}"),
    })?;
    if path.parent() != Some(real.as_path()) {
        return Err(format!("is a link to a file outside of {}", folder.display()));
    }
    for (what, place) in [("its folder", &real), ("it", &path)] {
        let found = fs::metadata(place).map_err(|error| format!("cannot be read: {error}"))?;
        if found.permissions().mode() & 0o022 != 0 {
            return Err(format!("is refused: {what} is writable by others than its owner (chmod go-w)"));
        }
    }
    let found = fs::metadata(&path).map_err(|error| format!("cannot be read: {error}"))?;
    if !found.is_file() {
        return Err("is not a file".to_owned());
    }
    if found.permissions().mode() & 0o111 == 0 {
        return Err("is not executable (chmod +x)".to_owned());
    }
    Ok(path)
}

/// An empty folder for the owner alone, and beside it the note of what works there. Deleted with the value.
pub struct Scratch(PathBuf);

impl Scratch {
    /// `unique` keeps apart those with the same root.
    pub fn new(root: &Path, unique: Uuid) -> Result<Scratch> {
        let scratch = Scratch(root.join(unique.to_string()));
        let path = scratch.path();
        DirBuilder::new().mode(0o700).recursive(true).create(&path).map_err(|error| {
            Error::unavailable("scratch", format!("could not create {}: {error}", path.display()))
        })?;
        Ok(scratch)
    }

    pub fn path(&self) -> PathBuf {
        self.0.join("work")
    }

    pub fn note(&self) -> PathBuf {
        self.0.join("process")
    }

    /// Deletes what a killed server left below the root, and kills the programs that still work there. The caller is the
    /// only process that uses the root.
    pub fn clear(root: &Path) -> io::Result<()> {
        let left = match fs::read_dir(root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            left => left?.collect::<io::Result<Vec<_>>>()?,
        };
        if left.is_empty() {
            return Ok(());
        }
        // Those whose start could not be noted in time work here still; those that have left have a note.
        working_in(&root.canonicalize()?).into_iter().for_each(kill_left);
        for entry in left {
            if !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
                continue;
            }
            let scratch = Scratch(entry.path());
            if let Some(id) = noted(&scratch.note()) {
                kill_left(id);
            }
        }
        Ok(())
    }
}

fn kill_left(id: i32) {
    Group(Pid::from_raw(id)).kill();
    tracing::warn!(process = id, "killed a program that a killed server had started");
}

/// The leaders of process groups that work in or below a folder.
fn working_in(folder: &Path) -> Vec<i32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let works = |id: &i32| fs::read_link(format!("/proc/{id}/cwd")).is_ok_and(|at| at.starts_with(folder));
    // A program leads its group, as what it started in a session of its own does. Zero and one mean other things to the
    // system, and this process is no program that it started.
    let leads = |id: &i32| *id > 1 && stat(*id).and_then(|stat| stat.group()) == Some(*id);
    ids.filter(works).filter(leads).filter(|id| Some(*id) != own_group()).collect()
}

fn own_group() -> Option<i32> {
    stat(i32::try_from(std::process::id()).ok()?)?.group()
}

/// The process of a note, if it is still the one that was started.
fn noted(note: &Path) -> Option<i32> {
    // Anything else may never end.
    if !fs::symlink_metadata(note).ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    fs::File::open(note).ok()?.take(MAX_NOTE).read_to_string(&mut text).ok()?;
    let (id, begun) = text.split_once(' ')?;
    let id: i32 = id.parse().ok().filter(|id| *id > 1)?;
    let stat = stat(id)?;
    // Another process may have its number by now, but did not begin at the same time. A program leads its group.
    (stat.begun()? == begun && stat.group()? == id && Some(id) != own_group()).then_some(id)
}

/// In bytes.
const MAX_NOTE: u64 = 64;

/// What the system says of a process, after its name, which may have any characters.
struct Stat(String);

fn stat(id: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    text.rsplit_once(')').map(|(_, after)| Stat(after.to_owned()))
}

impl Stat {
    fn group(&self) -> Option<i32> {
        self.0.split_whitespace().nth(2)?.parse().ok()
    }

    /// When it began, in the system's own unit.
    fn begun(&self) -> Option<&str> {
        self.0.split_whitespace().nth(19)
    }
}

/// Written as soon as the program has been started. The system does not reuse its number before it is waited for.
fn write_note(note: &Path, id: i32) {
    let written = match stat(id).as_ref().and_then(Stat::begun) {
        Some(begun) => fs::write(note, format!("{id} {begun}")),
        None => Ok(()),
    };
    if let Err(error) = written {
        tracing::warn!(path = %note.display(), %error, "could not note a program that was started");
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "could not delete a scratch folder");
        }
    }
}

/// Kills a program with everything that it started, unless it has ended.
struct Group(Option<Pid>);

impl Group {
    fn kill(&mut self) {
        if let Some(pid) = self.0.take()
            && let Err(error) = kill_process_group(pid, Signal::KILL)
        {
            tracing::debug!(%error, "could not kill a process group");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a program to its end, or kills it and its process group: at its time limit, when `stop` is cancelled, or when
/// this future is dropped. An error means that it could not be started.
pub async fn run(program: &Program, stop: &CancellationToken) -> Result<Ended> {
    let (mut child, reader) = started(program).await?;
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let mut group = Group(id.and_then(Pid::from_raw));
    if let (Some(note), Some(id)) = (&program.note, id) {
        write_note(note, id);
    }
    let mut output = Output { kept: Vec::new(), most: program.max_output, cut: false };
    let limit = tokio::time::sleep(program.time_limit);
    tokio::pin!(limit);
    let mut reader = Some(Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(Error::internal)?);
    let ended = loop {
        tokio::select! {
            status = child.wait() => break Stop::Exited(status.map_err(Error::internal)?.code()),
            () = &mut limit => break Stop::TimedOut,
            () = stop.cancelled() => break Stop::Cancelled,
            more = output.read(&mut reader) => if !more { reader = None },
        }
    };
    if matches!(ended, Stop::Exited(_)) {
        // What it left running is the operator's business.
        group.0 = None;
    } else {
        group.kill();
        let _ = child.wait().await;
    }
    if reader.is_some() {
        let rest = async { while output.read(&mut reader).await {} };
        let _ = tokio::time::timeout(AFTER_END, rest).await;
    }
    Ok(Ended { stop: ended, output: output.text(), cut: output.cut })
}

async fn started(program: &Program) -> Result<(Child, PipeReader)> {
    let (tries, pause) = BUSY;
    for _ in 1..tries {
        match spawn(program) {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                tokio::time::sleep(pause).await
            }
            other => return other.map_err(|error| failed(program, &error)),
        }
    }
    spawn(program).map_err(|error| failed(program, &error))
}

fn failed(program: &Program, error: &io::Error) -> Error {
    Error::conflict("not_started", format!("could not start {}: {error}", program.path.display()))
}

fn spawn(program: &Program) -> io::Result<(Child, PipeReader)> {
    let (reader, writer) = io::pipe()?;
    let mut command = std::process::Command::new(&program.path);
    command
        .args(&program.arguments)
        .env_clear()
        .env("PATH", PATH)
        .envs(program.variables.iter().map(|(name, value)| (*name, value)))
        .current_dir(&program.folder)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    // The command is dropped here, with its ends of the pipe: only the program has it open.
    let child = Command::from(command).kill_on_drop(true).spawn()?;
    Ok((child, reader))
}

struct Output {
    kept: Vec<u8>,
    most: usize,
    cut: bool,
}

impl Output {
    /// Reads what is there, or waits for it. `false` at the end. Never returns if there is nothing to read from.
    async fn read(&mut self, reader: &mut Option<Receiver>) -> bool {
        let Some(reader) = reader else { return std::future::pending().await };
        let mut buffer = [0_u8; 8_192];
        let Ok(count) = reader.read(&mut buffer).await else { return false };
        let room = self.most.saturating_sub(self.kept.len());
        self.cut |= count > room;
        self.kept.extend_from_slice(buffer.get(..count.min(room)).unwrap_or_default());
        count > 0
    }

    fn text(&self) -> String {
        // Neither store accepts NUL.
        String::from_utf8_lossy(&self.kept).replace('\0', "\u{fffd}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(folder: &Path, script: &str, limit: Duration) -> Program {
        Program {
            path: PathBuf::from("/bin/sh"),
            arguments: ["-c", script, "script", "a b", "$HOME;"].map(str::to_owned).to_vec(),
            variables: Vec::new(),
            folder: folder.to_path_buf(),
            note: None,
            time_limit: limit,
            max_output: 65_536,
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    async fn ran(script: &str, limit: Duration) -> Ended {
        let folder = tempfile::tempdir().unwrap();
        run(&shell(folder.path(), script, limit), &CancellationToken::new()).await.unwrap()
    }

    #[tokio::test]
    async fn a_program_has_its_arguments_and_nothing_else() {
        let ended =
            ran("echo \"$1|$2\"; echo err >&2; env | cut -d= -f1 | sort | tr '\\n' ' '; cat; exit 3", LONG);
        let ended = ended.await;
        assert_eq!(ended.stop, Stop::Exited(Some(3)));
        let (first, variables) = ended.output.split_once("err\n").unwrap();
        assert_eq!(first, "a b|$HOME;\n");
        // A shell sets some by itself.
        let own = ["PWD", "OLDPWD", "SHLVL", "_", "PATH"];
        assert!(variables.split_whitespace().all(|name| own.contains(&name)), "{variables}");
    }

    #[tokio::test]
    async fn variables_are_added_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let variables = vec![("LETTER", "a 'b' $c".to_owned()), ("EMPTY", String::new())];
        let program = Program {
            variables,
            ..shell(folder.path(), "echo \"$LETTER|${EMPTY-unset}|${HOME-unset}\"", LONG)
        };
        let ended = run(&program, &CancellationToken::new()).await.unwrap();
        assert_eq!(ended.output, "a 'b' $c||unset\n");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo begun; (sleep 1000; echo late > late) & sleep 1000";
        let program = shell(folder.path(), script, Duration::from_millis(300));
        let ended = run(&program, &CancellationToken::new()).await.unwrap();
        assert_eq!((ended.stop, ended.output.as_str()), (Stop::TimedOut, "begun\n"));
        let stop = CancellationToken::new();
        stop.cancel();
        let ended = run(&shell(folder.path(), "sleep 1000", LONG), &stop).await.unwrap();
        assert_eq!(ended.stop, Stop::Cancelled);
        assert!(!folder.path().join("late").exists());
    }

    #[tokio::test]
    async fn what_a_killed_server_left_behind_is_cleared() {
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Scratch::clear(&root.path().join("none")).unwrap();
        let scratch = |unique: u128| Scratch::new(root.path(), Uuid::from_u128(unique)).unwrap();
        let sleeper = |note: PathBuf| {
            let program = Program { note: Some(note), ..shell(elsewhere.path(), "sleep 1000", LONG) };
            tokio::spawn(async move { run(&program, &CancellationToken::new()).await.unwrap() })
        };
        // The first is left as by a kill; the number of the second belongs to another process by now.
        let (left, reused) = (scratch(1), scratch(2));
        let (killed, spared) = (sleeper(left.note()), sleeper(reused.note()));
        let noted = async |note: PathBuf| loop {
            match fs::read_to_string(&note) {
                Ok(text) if text.contains(' ') => return text,
                _ => tokio::task::yield_now().await,
            }
        };
        noted(left.note()).await;
        let text = noted(reused.note()).await;
        fs::write(reused.note(), format!("{} 1", text.split(' ').next().unwrap())).unwrap();
        // Started, and not noted: it works there.
        let unnoted = scratch(3);
        let program = shell(&unnoted.path(), "sleep 1000", LONG);
        let working = tokio::spawn(async move { run(&program, &CancellationToken::new()).await.unwrap() });
        while working_in(&unnoted.path().canonicalize().unwrap()).is_empty() {
            tokio::task::yield_now().await;
        }
        // Nothing of this may be followed, waited for or killed.
        let own = std::process::id();
        let mine = format!("{own} {}", stat(i32::try_from(own).unwrap()).unwrap().begun().unwrap());
        let first = format!("1 {}", stat(1).unwrap().begun().unwrap());
        let wrong = ["nothing", "0 0", "-1 1", "", &"9".repeat(1_000), &mine, &first];
        for (at, text) in (10..).zip(wrong) {
            let scratch = scratch(at);
            fs::write(scratch.note(), text).unwrap();
            std::mem::forget(scratch);
        }
        let pipe = scratch(4);
        rustix::fs::mkfifoat(rustix::fs::CWD, pipe.note(), rustix::fs::Mode::RWXU).unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("/", root.path().join("link")).unwrap();
        std::mem::forget((left, reused, unnoted, pipe));
        let path = root.path().to_path_buf();
        tokio::task::spawn_blocking(move || Scratch::clear(&path)).await.unwrap().unwrap();
        assert_eq!(killed.await.unwrap().stop, Stop::Exited(None));
        assert_eq!(working.await.unwrap().stop, Stop::Exited(None));
        assert!(!spared.is_finished());
        spared.abort();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_flood_is_cut_and_a_child_left_behind_delays_nothing() {
        let ended = ran("head -c 1000000 /dev/zero | tr '\\0' x", LONG).await;
        assert_eq!((ended.succeeded(), ended.output.len(), ended.cut), (true, 65_536, true));
        let ended =
            tokio::time::timeout(Duration::from_secs(20), ran("sleep 30 & echo done", LONG)).await.unwrap();
        assert_eq!((ended.succeeded(), ended.output.as_str()), (true, "done\n"));
    }

    #[tokio::test]
    async fn a_program_that_cannot_be_started_is_an_error() {
        let program = Program { path: PathBuf::from("/no/such/program"), ..shell(Path::new("/"), "", LONG) };
        let error = run(&program, &CancellationToken::new()).await.unwrap_err();
        assert!(error.message.starts_with("could not start /no/such/program"), "{error}");
    }

    #[test]
    fn only_files_of_the_folder_that_others_cannot_change_are_run() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("scripts");
        fs::create_dir(&folder).unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(&folder, 0o755);
        for (name, bits) in [("good", 0o755), ("open", 0o757), ("group", 0o775), ("plain", 0o644)] {
            fs::write(folder.join(name), "#!/bin/sh\n").unwrap();
            mode(&folder.join(name), bits);
        }
        fs::create_dir(folder.join("sub")).unwrap();
        mode(&folder.join("sub"), 0o755);
        fs::write(place.path().join("outside"), "#!/bin/sh\n").unwrap();
        mode(&place.path().join("outside"), 0o755);
        std::os::unix::fs::symlink("../outside", folder.join("link")).unwrap();
        std::os::unix::fs::symlink("good", folder.join("inner")).unwrap();
        for name in ["good", "inner"] {
            checked(&folder, name).unwrap();
        }
        for (name, part) in [
            ("", "must be the name"),
            ("..", "must be the name"),
            ("../outside", "must be the name"),
            ("sub/x", "must be the name"),
            ("none", "does not exist"),
            ("link", "is a link"),
            ("open", "writable by others"),
            ("group", "writable by others"),
            ("plain", "is not executable"),
            ("sub", "is not a file"),
        ] {
            let error = checked(&folder, name).unwrap_err();
            assert!(error.contains(part), "{name}: {error}");
        }
        mode(&folder, 0o777);
        assert!(checked(&folder, "good").unwrap_err().contains("its folder is writable"));
        assert!(checked(&place.path().join("nowhere"), "good").unwrap_err().contains("cannot be opened"));
    }

    #[test]
    fn a_scratch_folder_is_deleted() {
        let root = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(root.path(), Uuid::nil()).unwrap();
        fs::write(scratch.path().join("x"), "x").unwrap();
        drop(scratch);
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
