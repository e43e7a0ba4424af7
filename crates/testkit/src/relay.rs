//! A relay between a program and its PostgreSQL that misbehaves on request: it stops responding, cuts connections, cuts
//! the response to a COMMIT, or accepts and closes. It listens on 127.0.0.1 and stops when it is dropped.
//!
//! It only supports servers without TLS, because it reads the messages that pass through.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// What happens to incoming data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    /// Nothing is read or sent; pending data arrives after `pass`.
    Hold,
    /// Connections are closed; new ones as soon as they are accepted.
    Refuse,
}

#[derive(Debug, Clone, Copy)]
struct State {
    mode: Mode,
    /// Connections accepted before this one never respond again.
    stranded: usize,
    /// Connections accepted before this one are closed.
    cut: usize,
}

struct Shared {
    target: SocketAddr,
    state: watch::Sender<State>,
    accepted: AtomicUsize,
    /// How many more responses to COMMIT to cut.
    commits: AtomicUsize,
    commits_cut: watch::Sender<usize>,
}

pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Relay {
    /// Starts a relay in front of the server at this `postgres://` URL (host name or IP address).
    pub async fn to(url: &str) -> Relay {
        let target = tokio::net::lookup_host(authority(url).1).await.unwrap().next().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            target,
            state: watch::Sender::new(State { mode: Mode::Pass, stranded: 0, cut: 0 }),
            accepted: AtomicUsize::new(0),
            commits: AtomicUsize::new(0),
            commits_cut: watch::Sender::new(0),
        });
        let relay = Relay { address: listener.local_addr().unwrap(), shared, stop: CancellationToken::new() };
        let (shared, stop) = (Arc::clone(&relay.shared), relay.stop.clone());
        tokio::spawn(async move {
            stop.run_until_cancelled(accept(listener, shared, stop.clone())).await;
        });
        relay
    }

    /// The same URL, but through the relay.
    pub fn url(&self, url: &str) -> String {
        let (before, host, after) = authority_parts(url);
        debug_assert!(!host.is_empty(), "{url} has no host");
        format!("{before}{}{after}", self.address)
    }

    /// Everything passes again. Connections stranded or cut before stay that way.
    pub fn pass(&self) {
        self.shared.state.send_modify(|state| state.mode = Mode::Pass);
    }

    /// Nothing passes until `pass`; connections stay open and new ones are accepted.
    pub fn hold(&self) {
        self.shared.state.send_modify(|state| state.mode = Mode::Hold);
    }

    /// Connections that are open now stay open but never respond again; new ones pass. A failover looks like this when
    /// the old machine disappears without closing its connections.
    pub fn strand(&self) {
        let now = self.shared.accepted.load(Ordering::SeqCst);
        self.shared.state.send_modify(|state| state.stranded = now);
    }

    /// Closes the connections that are open now; new ones pass.
    pub fn cut(&self) {
        let now = self.shared.accepted.load(Ordering::SeqCst);
        self.shared.state.send_modify(|state| state.cut = now);
    }

    /// Closes all connections, and new ones as soon as they are accepted, until `pass`.
    pub fn refuse(&self) {
        self.cut();
        self.shared.state.send_modify(|state| state.mode = Mode::Refuse);
    }

    /// The next `count` transactions commit, but the connection is cut before the program gets the response.
    pub fn cut_commits(&self, count: usize) {
        self.shared.commits.store(count, Ordering::SeqCst);
    }

    /// How many responses to COMMIT have been cut so far.
    pub fn commits_cut(&self) -> watch::Receiver<usize> {
        self.shared.commits_cut.subscribe()
    }
}

/// Splits `postgres://user@HOST:PORT/database` around HOST:PORT.
fn authority_parts(url: &str) -> (&str, &str, &str) {
    let from = url.find("://").map_or(0, |at| at + 3);
    let end = url[from..].find(['/', '?']).map_or(url.len(), |at| from + at);
    let host = url[from..end].rfind('@').map_or(from, |at| from + at + 1);
    (&url[..host], &url[host..end], &url[end..])
}

fn authority(url: &str) -> (&str, String) {
    let (before, host, _) = authority_parts(url);
    (before, if host.contains(':') { host.to_owned() } else { format!("{host}:5432") })
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
        if shared.state.borrow().mode == Mode::Refuse {
            continue;
        }
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move {
            stop.run_until_cancelled(connection(number, client, shared.clone())).await;
        });
    }
}

async fn connection(number: usize, mut client: TcpStream, shared: Arc<Shared>) {
    let Ok(mut server) = TcpStream::connect(shared.target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let mut up = Direction { number, state: shared.state.subscribe(), shared: &shared };
    tokio::select! {
        () = cut(number, shared.state.subscribe()) => return,
        begun = up.begin(&mut client, &mut server) => {
            if begun.is_none() {
                return;
            }
        }
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    // How many COMMITs were forwarded whose response is to be cut.
    let (committing, commits) = mpsc::unbounded_channel();
    let down = Direction { number, state: shared.state.subscribe(), shared: &shared };
    tokio::select! {
        () = cut(number, shared.state.subscribe()) => {}
        () = up.requests(from_client, to_server, committing) => {}
        () = down.answers(from_server, to_client, commits) => {}
    }
}

/// Returns when the connection should be closed.
async fn cut(number: usize, mut state: watch::Receiver<State>) {
    let _ = state.wait_for(|state| number < state.cut || state.mode == Mode::Refuse).await;
}

struct Direction<'a> {
    number: usize,
    state: watch::Receiver<State>,
    shared: &'a Shared,
}

impl Direction<'_> {
    /// Waits while nothing may pass.
    async fn gate(&mut self) {
        let number = self.number;
        let open = |state: &State| number >= state.stranded && state.mode != Mode::Hold;
        let _ = self.state.wait_for(open).await;
    }

    /// Forwards the start of a session. It declines TLS, so that it can read the rest.
    async fn begin(&mut self, client: &mut TcpStream, server: &mut TcpStream) -> Option<()> {
        loop {
            let length = client.read_u32().await.ok()?;
            let mut message = vec![0; usize::try_from(length).ok()?.checked_sub(4)?];
            client.read_exact(&mut message).await.ok()?;
            self.gate().await;
            if matches!(message.as_slice(), TLS | GSS) {
                client.write_all(b"N").await.ok()?;
                continue;
            }
            server.write_u32(length).await.ok()?;
            return server.write_all(&message).await.ok();
        }
    }

    async fn requests(
        mut self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        committing: mpsc::UnboundedSender<()>,
    ) {
        let mut messages = Messages::default();
        while messages.read(&mut from).await {
            self.gate().await;
            while let Some(message) = messages.next() {
                if messages.commits(&message) && take_one(&self.shared.commits) {
                    let _ = committing.send(());
                }
                if to.write_all(&message).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn answers(
        mut self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        mut commits: mpsc::UnboundedReceiver<()>,
    ) {
        let mut messages = Messages::default();
        let mut cutting = false;
        while messages.read(&mut from).await {
            self.gate().await;
            while let Some(message) = messages.next() {
                cutting = cutting || commits.try_recv().is_ok();
                if cutting && message.starts_with(b"C") && message.ends_with(b"COMMIT\0") {
                    self.shared.commits_cut.send_modify(|count| *count += 1);
                    return;
                }
                if to.write_all(&message).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn take_one(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1)).is_ok()
}

/// The codes of the requests that a client can make before it starts a session.
const TLS: &[u8] = &80_877_103_u32.to_be_bytes();
const GSS: &[u8] = &80_877_104_u32.to_be_bytes();

/// Assembles the messages of one direction.
#[derive(Default)]
struct Messages {
    buffer: BytesMut,
    /// The names of prepared statements that are a COMMIT.
    prepared: Vec<Vec<u8>>,
}

impl Messages {
    /// `false` if the other side is gone.
    async fn read(&mut self, from: &mut OwnedReadHalf) -> bool {
        from.read_buf(&mut self.buffer).await.is_ok_and(|read| read > 0)
    }

    fn next(&mut self) -> Option<BytesMut> {
        let length = self.buffer.get(1..5)?.get_u32() as usize + 1;
        (self.buffer.len() >= length).then(|| self.buffer.split_to(length))
    }

    fn commits(&mut self, message: &[u8]) -> bool {
        let body = message.get(5..).unwrap_or_default();
        let mut texts = body.split(|byte| *byte == 0);
        let first = texts.next().unwrap_or_default();
        let second = texts.next().unwrap_or_default();
        match message.first() {
            Some(b'Q') => is_commit(first),
            Some(b'P') => {
                self.prepared.retain(|name| name != first);
                if is_commit(second) {
                    self.prepared.push(first.to_vec());
                }
                false
            }
            // The portal's name comes before the statement's.
            Some(b'B') => self.prepared.iter().any(|name| name == second),
            _ => false,
        }
    }
}

fn is_commit(sql: &[u8]) -> bool {
    sql.split(|byte| *byte == b';').any(|part| part.trim_ascii().eq_ignore_ascii_case(b"COMMIT"))
}
