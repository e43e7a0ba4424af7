//! Lets a program of PostgreSQL connect as we do: it speaks to a socket in a private folder, and what it sends goes through
//! our own connection, to the addresses that were checked and with our TLS.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use landreeve_core::source::{ConnectSpec, SourceError, TlsMode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio_postgres::tls::TlsConnect as _;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::connect::{Connector, make_tls};
use crate::errors;
use crate::net::Network;

/// The port of the socket's name.
pub(super) const PORT: &str = "5432";
/// The system limits the path of a socket to 107 bytes.
const LONGEST_FOLDER: usize = 90;
/// The longest message before the session begins.
const LONGEST: usize = 64 * 1024;
/// Requests that come before a session's first message.
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
/// libpq refuses to bind a password's proof to the encryption of a connection that it does not encrypt itself.
const BOUND: &[u8] = b"SCRAM-SHA-256-PLUS";

/// The socket and the password, for as long as this exists.
pub(super) struct Relay {
    folder: PathBuf,
    password: PathBuf,
    _serving: DropGuard,
}

impl Relay {
    /// `name`: of the socket's folder, if it cannot be in `scratch`.
    pub async fn open(
        connector: &Connector,
        spec: &ConnectSpec,
        name: &str,
        scratch: &Path,
    ) -> Result<Relay, SourceError> {
        let network = Network::of(&spec.target)?;
        // It is emptied after a crash, but its path may be too long for a socket.
        let near = scratch.join("socket");
        let folder = match near.as_os_str().len() <= LONGEST_FOLDER {
            true => near,
            false => std::env::temp_dir().join(format!("landreeve-{name}")),
        };
        let failed = |error: io::Error| {
            errors::connect(format!("could not prepare the folder {}: {error}", folder.display()))
        };
        DirBuilder::new().mode(0o700).create(&folder).map_err(failed)?;
        let stop = CancellationToken::new();
        let (password, serving) = (scratch.join("password"), stop.clone().drop_guard());
        let relay = Relay { folder: folder.clone(), password, _serving: serving };
        write_password(&relay.password, network.password.reveal()).map_err(failed)?;
        let listener = UnixListener::bind(folder.join(format!(".s.PGSQL.{PORT}"))).map_err(failed)?;
        let (connector, mode, timeout) = (connector.clone(), spec.tls, spec.connect_timeout);
        let (owner, permit) = (connector.owner.clone(), spec.permit.clone());
        owner.tasks.clone().spawn(async move {
            let _permit = permit;
            let serve = async {
                while let Ok((program, _)) = listener.accept().await {
                    let done = carry(&connector, &network, mode, timeout, program).await;
                    if let Err(error) = done {
                        tracing::debug!(%error, "a program's connection ended");
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = owner.closing.cancelled() => {}
                () = serve => {}
            }
        });
        Ok(relay)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn password_file(&self) -> &Path {
        &self.password
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let removed = fs::remove_file(&self.password).and(fs::remove_dir_all(&self.folder));
        if let Err(error) = removed {
            tracing::warn!(path = %self.folder.display(), %error, "could not delete what a program needed");
        }
    }
}

/// In the format of libpq's password file.
fn write_password(path: &Path, password: &str) -> io::Result<()> {
    let escaped = password.replace('\\', "\\\\").replace(':', "\\:");
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "*:*:*:*:{escaped}")
}

/// One connection of the program.
async fn carry(
    connector: &Connector,
    network: &Network,
    mode: TlsMode,
    timeout: std::time::Duration,
    mut program: UnixStream,
) -> io::Result<()> {
    let startup = startup(&mut program).await?;
    let mut server = network.connect(timeout).await.map_err(io::Error::other)?;
    if wants_tls(&mut server, mode).await? {
        let tls = make_tls::<TcpStream>(&connector.tls, mode, &network.host).map_err(io::Error::other)?;
        let server = tls.connect(server).await.map_err(io::Error::other)?;
        return session(program, server, &startup).await;
    }
    session(program, server, &startup).await
}

/// The program's first message, with its length. It may ask for encryption before, which a socket does not have.
async fn startup(program: &mut UnixStream) -> io::Result<Vec<u8>> {
    loop {
        let length = program.read_u32().await? as usize;
        if !(8..=LONGEST).contains(&length) {
            return Err(io::Error::other("the first message has a length that is not allowed"));
        }
        let mut message = vec![0; length];
        message[..4].copy_from_slice(&(length as u32).to_be_bytes());
        program.read_exact(&mut message[4..]).await?;
        match u32::from_be_bytes([message[4], message[5], message[6], message[7]]) {
            SSL_REQUEST | GSS_REQUEST => program.write_all(b"N").await?,
            _ => return Ok(message),
        }
    }
}

/// Asks the server for encryption.
async fn wants_tls(server: &mut TcpStream, mode: TlsMode) -> io::Result<bool> {
    server.write_all(&8_u32.to_be_bytes()).await?;
    server.write_all(&SSL_REQUEST.to_be_bytes()).await?;
    match (server.read_u8().await?, mode) {
        (b'S', _) => Ok(true),
        (b'N', TlsMode::Prefer) => Ok(false),
        _ => Err(io::Error::other("TLS is required, but the server does not support it")),
    }
}

async fn session(
    mut program: UnixStream,
    mut server: impl AsyncRead + AsyncWrite + Unpin,
    startup: &[u8],
) -> io::Result<()> {
    server.write_all(startup).await?;
    server.flush().await?;
    authenticate(&mut program, &mut server).await?;
    copy_bidirectional(&mut program, &mut server).await.map(drop)
}

/// Passes messages on until the server has accepted or refused the user.
async fn authenticate(
    program: &mut UnixStream,
    server: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<()> {
    loop {
        let (kind, body) = message(server).await?;
        let request =
            body.get(..4).map_or(0, |code| u32::from_be_bytes([code[0], code[1], code[2], code[3]]));
        let body = if (kind, request) == (b'R', 10) { without_binding(&body) } else { body };
        program.write_u8(kind).await?;
        program.write_u32(u32::try_from(body.len() + 4).map_err(io::Error::other)?).await?;
        program.write_all(&body).await?;
        match (kind, request) {
            // 0: accepted; 12: the last of the proofs, which has no answer; a notice, or another version, neither.
            (b'R', 12) | (b'N' | b'v', _) => {}
            (b'R', code) if code != 0 => {
                let (kind, body) = message(program).await?;
                server.write_u8(kind).await?;
                server.write_u32(u32::try_from(body.len() + 4).map_err(io::Error::other)?).await?;
                server.write_all(&body).await?;
                server.flush().await?;
            }
            _ => return Ok(()),
        }
    }
}

async fn message(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, Vec<u8>)> {
    let kind = from.read_u8().await?;
    let length = from.read_u32().await? as usize;
    if !(4..=LONGEST).contains(&length) {
        return Err(io::Error::other("a message has a length that is not allowed"));
    }
    let mut body = vec![0; length - 4];
    from.read_exact(&mut body).await?;
    Ok((kind, body))
}

/// The server's offer without the mechanism that binds.
fn without_binding(body: &[u8]) -> Vec<u8> {
    let (code, offers) = body.split_at(4);
    let kept = offers.split(|byte| *byte == 0).filter(|name| !name.is_empty() && *name != BOUND);
    let mut offer = code.to_vec();
    kept.for_each(|name| {
        offer.extend(name);
        offer.push(0);
    });
    offer.push(0);
    offer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offer_loses_the_mechanism_that_binds() {
        let offer = b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
        assert_eq!(without_binding(offer), b"\0\0\0\x0aSCRAM-SHA-256\0\0");
        let offer = b"\0\0\0\x0aSCRAM-SHA-256\0\0";
        assert_eq!(without_binding(offer), offer);
    }

    #[test]
    fn a_password_file_has_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        write_password(&path, r"a:b\c").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "*:*:*:*:a\\:b\\\\c\n");
    }
}
