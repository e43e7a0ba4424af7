//! Checks the OpenAPI documents of a running server with third-party tools: a validator, a linter and a client
//! generator. Tools that cannot be installed are skipped and listed at the end of the run.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::tools;

const PYTHON: [&str; 2] = ["openapi-spec-validator==0.9.0", "openapi-python-client==0.29.1"];
const NODE: &str = "@stoplight/spectral-cli@6.16.3";
/// Disabled rules, each with its reason.
const RULES: &str = "xtask/spectral.yaml";

/// The file name of each document, and its path on the main listener.
const DOCUMENTS: [(&str, &str); 7] = [
    ("cluvio", "/cluvio/openapi.json"),
    ("cluvio-data", "/cluvio-data/openapi.json"),
    ("dx", "/dx/openapi.json"),
    ("solution-manager", "/solution-manager/openapi.json"),
    ("license-manager", "/license-manager/openapi.json"),
    ("clover", "/clover/api/rest/v1/openapi.json"),
    ("clumio", "/clumio/openapi.json"),
];

/// Checks all documents of the program. Returns what was skipped, because a tool could not be installed.
pub fn check(program: &Path) -> Result<Vec<String>> {
    eprintln!("xtask: checking the OpenAPI documents");
    let mut skipped = Vec::new();
    let cache = tools::cache("openapi")?;
    let python = available(
        tools::python(&cache, &PYTHON),
        "openapi-spec-validator and openapi-python-client",
        &mut skipped,
    );
    let node = available(node(&cache), "spectral", &mut skipped);
    let folder = Folder::new()?;
    write_documents(program, &folder.0)?;
    // Next to the documents, because its exceptions use paths relative to itself.
    let rules = folder.0.join("spectral.yaml");
    fs::copy(crate::root()?.join(RULES), &rules)?;
    let mut complaints = Vec::new();
    for (name, _) in DOCUMENTS {
        let file = folder.0.join(format!("{name}.json"));
        if let Some(bin) = &python {
            complaints.extend(complaint(
                name,
                Command::new(bin.join("openapi-spec-validator")).arg(&file),
                false,
            )?);
            let client = folder.0.join(name);
            let mut generate = Command::new(bin.join("openapi-python-client"));
            // It looks up tools of its environment in the PATH.
            generate.env("PATH", with_path(bin)?);
            generate.args(["generate", "--meta", "none", "--fail-on-warning", "--path"]);
            complaints.extend(complaint(name, generate.arg(&file).arg("--output-path").arg(client), true)?);
        }
        if let Some(bin) = &node {
            let mut lint = Command::new(bin.join("spectral"));
            lint.args(["lint", "--fail-severity", "hint", "--ruleset"]).arg(&rules).arg(&file);
            complaints.extend(complaint(name, &mut lint, false)?);
        }
    }
    ensure!(complaints.is_empty(), "the OpenAPI documents are not valid:\n{}", complaints.join("\n"));
    Ok(skipped)
}

fn available(bin: Result<PathBuf>, tools: &str, skipped: &mut Vec<String>) -> Option<PathBuf> {
    bin.inspect_err(|error| skipped.push(format!("a check of the OpenAPI documents: {tools}: {error:#}")))
        .ok()
}

fn node(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join(NODE.replace(['/', '@'], "-"));
    let mut fill = Command::new("npm");
    fill.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(&folder).arg(NODE);
    tools::install(&folder, &mut [fill])?;
    Ok(folder.join("node_modules/.bin"))
}

fn with_path(bin: &Path) -> Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths(std::iter::once(bin.to_path_buf()).chain(std::env::split_paths(&path)))?)
}

/// The tool's output if it found problems. Some tools warn and still succeed.
fn complaint(name: &str, command: &mut Command, silent: bool) -> Result<Option<String>> {
    let tool =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| tool.clone())?;
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    let warned = silent && text.contains("Warning(s) encountered");
    Ok((!output.status.success() || warned).then(|| format!("{name}: {tool}:\n{text}")))
}

/// A temporary folder; removed when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("landreeve-documents-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("could not create {}", path.display()))?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server on an empty data directory; killed when it is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn write_documents(program: &Path, folder: &Path) -> Result<()> {
    let mut serve = Command::new(program);
    serve.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.join("data"));
    let child = serve.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut server = Server(child.with_context(|| format!("could not start {}", program.display()))?);
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().context("no output")?).read_line(&mut line)?;
    let address =
        line.trim().strip_prefix("listening on http://").context("the server did not start listening")?;
    for (name, path) in DOCUMENTS {
        fs::write(folder.join(format!("{name}.json")), get(address, path).with_context(|| path.to_owned())?)?;
    }
    Ok(())
}

fn get(address: &str, path: &str) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").context("no answer")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    ensure!(head.split(' ').nth(1) == Some("200"), "the server answered {head}");
    Ok(answer.split_off(end + 4))
}
