//! Helpers for processes: accounts, waiting, ports and random words.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How long a server can take from its start to its first response.
const START: Duration = Duration::from_secs(90);

/// Starts a program without the file descriptors that we inherited: a server left running must not keep, say, the lock
/// of the `flock` that started us. (The shell replaces itself, so that the process number is the program's.)
const CLOSE_AND_EXEC: &str = r#"exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; exec "$0" "$@""#;

/// The arguments before the program's name in such a command.
const SHELL: [&str; 3] = ["sh", "-c", CLOSE_AND_EXEC];

/// The account that runs a server: our own, or an unprivileged one, because database servers refuse root.
#[derive(Clone, Debug)]
pub struct Account(Option<(u32, u32)>);

impl Account {
    /// The first of `names` that exists if we are root; otherwise our own account.
    pub fn first_of(names: &[&str]) -> Result<Self> {
        if !is_root() {
            return Ok(Self(None));
        }
        let passwd = fs::read_to_string("/etc/passwd").context("/etc/passwd")?;
        for name in names {
            for line in passwd.lines() {
                let fields: Vec<&str> = line.split(':').collect();
                if let [found, _, uid, gid, ..] = fields[..]
                    && found == *name
                {
                    return Ok(Self(Some((uid.parse()?, gid.parse()?))));
                }
            }
        }
        bail!("running as root, but none of these accounts exists to run a server: {}", names.join(", "))
    }

    /// A command that runs under this account, with a minimal environment and in its own process group, so that Ctrl-C
    /// at the terminal does not reach it.
    pub fn command(&self, program: &Path, home: &Path) -> Command {
        let mut command = Command::new(SHELL[0]);
        command.args(&SHELL[1..]).arg(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs([("LC_ALL", "C"), ("TZ", "UTC")]).env("HOME", home).env("TMPDIR", home);
        command.current_dir(home).process_group(0).stdin(Stdio::null());
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Gives a file or directory to this account.
    pub fn own(&self, path: &Path) -> Result<()> {
        if let Some((uid, gid)) = self.0 {
            chown(path, Some(uid), Some(gid)).with_context(|| format!("{}", path.display()))?;
        }
        Ok(())
    }
}

pub fn is_root() -> bool {
    // The owner of our /proc entry is the effective user.
    fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0)
}

/// 128 random bits in hexadecimal.
pub fn random_hex() -> Result<String> {
    let mut bytes = [0u8; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A free port of 127.0.0.1. Another program can take it before the server does, so callers retry with another port.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Runs a command to its end; an error includes its output.
pub fn run(command: &mut Command) -> Result<()> {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let program = words.map(|word| word.to_string_lossy()).find(|word| !SHELL.contains(&word.as_ref()));
    let program = program.unwrap_or_default().into_owned();
    let output = command.output().with_context(|| program.clone())?;
    if !output.status.success() {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("{program}: {}\n{out}{err}", output.status);
    }
    Ok(())
}

/// Waits until `probe` (a query on the server) succeeds; gives up if the server ends or takes too long.
pub fn await_answer(server: &mut Child, log: &Path, mut probe: impl FnMut() -> Command) -> Result<()> {
    let begun = Instant::now();
    loop {
        if probe().stdin(Stdio::null()).output()?.status.success() {
            return Ok(());
        }
        let why = match server.try_wait()? {
            Some(status) => format!("the server ended ({status})"),
            None if begun.elapsed() > START => format!("no response within {} s", START.as_secs()),
            None => {
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
        };
        let log = fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        bail!("{why}; its log ends:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
    }
}

/// Tries to start a server up to three times, because its port may have been taken in between.
pub fn with_retries<T>(mut start: impl FnMut(u16) -> Result<T>) -> Result<T> {
    let mut last = None;
    for _ in 0..3 {
        match start(free_port()?) {
            Ok(started) => return Ok(started),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("no attempt was made")?)
}
