//! The guard: stops the servers and removes their directory when the command that started them is gone.

use std::fmt;
use std::fs;
use std::io::{BufRead as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// The guard removes only directories whose name has this prefix.
pub const DIRECTORY_PREFIX: &str = "landreeve-db-";

/// How long a server may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(20);

/// Something that has to be undone at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Started {
    Directory(PathBuf),
    /// A process is identified by its number *and* start time, because numbers are reused.
    Server {
        pid: u32,
        began: u64,
        /// The signal for a fast but clean shutdown.
        signal: String,
    },
}

impl Started {
    /// Describes a server that has just been started.
    pub fn server(child: &Child, signal: &str) -> Result<Self> {
        let pid = child.id();
        let (_, began) = look_up(pid).with_context(|| format!("process {pid} ended immediately"))?;
        Ok(Self::Server { pid, began, signal: signal.to_owned() })
    }

    /// Parses the output of `Display`.
    pub fn parse(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.splitn(2, ' ').collect();
        match words[..] {
            ["directory", path] => Ok(Self::Directory(PathBuf::from(path))),
            ["server", rest] => {
                let [pid, began, signal] = rest.split(' ').collect::<Vec<_>>()[..] else {
                    bail!("invalid line: {line}");
                };
                if !["INT", "TERM"].contains(&signal) {
                    bail!("invalid signal: {line}");
                }
                Ok(Self::Server { pid: pid.parse()?, began: began.parse()?, signal: signal.to_owned() })
            }
            _ => bail!("invalid line: {line}"),
        }
    }

    fn is_running(&self) -> bool {
        match self {
            Self::Directory(_) => false,
            Self::Server { pid, began, .. } => {
                look_up(*pid).is_some_and(|(state, since)| state != 'Z' && since == *began)
            }
        }
    }

    fn send(&self, name: Option<&str>) -> Result<()> {
        if let Self::Server { pid, signal, .. } = self
            && self.is_running()
        {
            let signal = name.unwrap_or(signal);
            Command::new("sh").args(["-c", &format!("kill -s {signal} {pid}")]).status()?;
        }
        Ok(())
    }
}

impl fmt::Display for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "directory {}", path.display()),
            Self::Server { pid, began, signal } => write!(f, "server {pid} {began} {signal}"),
        }
    }
}

/// State and start time (in clock ticks since boot) of the process with this number, if there is one.
fn look_up(pid: u32) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets, which may itself contain brackets and spaces.
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect();
    Some((fields.first()?.chars().next()?, fields.get(19)?.parse().ok()?))
}

/// Stops servers and removes directories; servers that do not stop are killed.
pub fn stop_all(started: &[Started]) -> Result<()> {
    for server in started {
        server.send(None)?;
    }
    let begun = Instant::now();
    while started.iter().any(Started::is_running) {
        if begun.elapsed() > STOP {
            for server in started {
                server.send(Some("KILL"))?;
            }
        }
        if begun.elapsed() > STOP * 2 {
            bail!("could not kill a server: {started:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    for item in started {
        let Started::Directory(path) = item else { continue };
        let ours = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(DIRECTORY_PREFIX));
        if !ours {
            bail!("{} is not one of our directories; it is not removed", path.display());
        }
        remove(path)?;
    }
    Ok(())
}

/// Removes a directory, after killing interrupted setup programs (`initdb`, `mariadb-install-db`, `cp`) that would keep
/// writing to it.
fn remove(base: &Path) -> Result<()> {
    let begun = Instant::now();
    while base.exists() {
        for pid in living_in(base)? {
            Command::new("sh").args(["-c", &format!("kill -s KILL {pid}")]).status()?;
        }
        match fs::remove_dir_all(base) {
            Err(error) if begun.elapsed() > STOP => {
                return Err(error).with_context(|| format!("{}", base.display()));
            }
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    Ok(())
}

/// Processes whose home is inside `base`. Only processes started by `Account::command` have such a home.
fn living_in(base: &Path) -> Result<Vec<u32>> {
    let mark = format!("HOME={}/", base.display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable.starts_with(mark.as_bytes())) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// The guard process: it reads from standard input what was started, and cleans up when the input ends.
pub fn run() -> Result<ExitCode> {
    let mut started = Vec::new();
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "release" => return Ok(ExitCode::SUCCESS),
            line => started.push(Started::parse(line)?),
        }
    }
    stop_all(&started)?;
    Ok(ExitCode::SUCCESS)
}

/// A handle to the guard process. Dropping it closes the pipe, which makes the guard clean up.
pub struct Guard {
    process: Child,
    pipe: ChildStdin,
    started: Vec<Started>,
}

impl Guard {
    pub fn start() -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(super::GUARD)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("the guard process")?;
        let pipe = process.stdin.take().context("the guard's standard input")?;
        Ok(Self { process, pipe, started: Vec::new() })
    }

    pub fn tell(&mut self, started: Started) -> Result<()> {
        writeln!(self.pipe, "{started}").context("the guard process is gone")?;
        self.started.push(started);
        Ok(())
    }

    pub fn started(&self) -> &[Started] {
        &self.started
    }

    /// Leaves everything running; from now on only `--stop` stops it.
    pub fn release(mut self) -> Result<()> {
        writeln!(self.pipe, "release")?;
        self.finish()
    }

    /// Stops everything and waits until it is gone.
    pub fn stop(self) -> Result<()> {
        self.finish()
    }

    fn finish(self) -> Result<()> {
        let Self { mut process, pipe, .. } = self;
        drop(pipe);
        let status = process.wait()?;
        if !status.success() {
            bail!("the guard of the databases failed ({status})");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_reverses_display() {
        let items = [
            Started::Directory(PathBuf::from("/tmp/landreeve-db-0 1")),
            Started::Server { pid: 12, began: 345, signal: "INT".to_owned() },
        ];
        for item in items {
            assert_eq!(Started::parse(&item.to_string()).unwrap(), item);
        }
        assert!(Started::parse("server 1 2 STOP; rm").is_err());
        assert!(Started::parse("server 1 2 HUP").is_err());
    }

    #[test]
    fn processes_are_identified_by_number_and_start_time() {
        let pid = std::process::id();
        let (_, began) = look_up(pid).unwrap();
        let signal = "TERM".to_owned();
        assert!(Started::Server { pid, began, signal: signal.clone() }.is_running());
        assert!(!Started::Server { pid, began: began + 1, signal }.is_running());
    }

    #[test]
    fn never_removes_directories_without_the_prefix() {
        assert!(stop_all(&[Started::Directory(PathBuf::from("/tmp"))]).is_err());
    }
}
