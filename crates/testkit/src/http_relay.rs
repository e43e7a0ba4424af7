//! A relay in front of an HTTP server that misbehaves on request, for clients that make a connection for each call: it
//! closes, says nothing, cuts answers off, or answers something else. It listens on 127.0.0.1 and stops when it is dropped.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mishap {
    /// The connection is closed, and the server never sees the call.
    Refuse,
    /// The server answers, but the connection is closed before the client gets the answer.
    CutAnswer,
    /// The server never sees the call, and the client gets no answer.
    Hold,
    /// These bytes are the answer.
    Say(String),
    /// An answer whose body never ends.
    Endless,
}

struct Rule {
    /// Of the request line: `POST /a/b HTTP/1.1`.
    part: String,
    mishap: Mishap,
    /// How many more calls it is for.
    times: usize,
}

#[derive(Default)]
struct Shared {
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<String>>,
}

impl Shared {
    /// Notes a call, and says what becomes of it.
    fn next(&self, line: &str) -> Option<Mishap> {
        let short = line.trim_end_matches(" HTTP/1.1").to_owned();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(short);
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let rule = rules.iter_mut().find(|rule| rule.times > 0 && line.contains(&rule.part))?;
        rule.times -= 1;
        Some(rule.mishap.clone())
    }
}

pub struct HttpRelay {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl Drop for HttpRelay {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl HttpRelay {
    pub async fn to(target: SocketAddr) -> HttpRelay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = HttpRelay {
            address: listener.local_addr().unwrap(),
            shared: Arc::default(),
            stop: CancellationToken::new(),
        };
        let (shared, stop) = (Arc::clone(&relay.shared), relay.stop.clone());
        tokio::spawn(async move {
            while let Some(Ok((client, _))) = stop.run_until_cancelled(listener.accept()).await {
                let (shared, stop) = (Arc::clone(&shared), stop.clone());
                tokio::spawn(async move {
                    // A connection that breaks is what it is for.
                    let _ = stop.run_until_cancelled(connection(client, target, &shared)).await;
                });
            }
        });
        relay
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The next calls whose request line contains this meet with a mishap, so many times.
    pub fn mishap(&self, part: &str, mishap: Mishap, times: usize) {
        let rule = Rule { part: part.to_owned(), mishap, times };
        self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner).push(rule);
    }

    /// Every call passes again.
    pub fn pass(&self) {
        self.shared.rules.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Method and path of the calls since the last time.
    pub fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn connection(mut client: TcpStream, target: SocketAddr, shared: &Shared) -> std::io::Result<()> {
    let mut begin = Vec::new();
    while !begin.windows(4).any(|four| four == b"\r\n\r\n") {
        if client.read_buf(&mut begin).await? == 0 {
            return Ok(());
        }
    }
    let line = String::from_utf8_lossy(&begin).lines().next().unwrap_or_default().to_owned();
    let mishap = shared.next(&line);
    match &mishap {
        Some(Mishap::Refuse) => return Ok(()),
        Some(Mishap::Hold) => return std::future::pending().await,
        Some(Mishap::Say(text)) => {
            client.write_all(text.as_bytes()).await?;
            client.shutdown().await?;
            // If the rest of the request were not read, the client might not get the answer.
            return tokio::io::copy(&mut client, &mut tokio::io::sink()).await.map(drop);
        }
        Some(Mishap::Endless) => {
            client.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n").await?;
            loop {
                client.write_all(&[b' '; 65_536]).await?;
            }
        }
        Some(Mishap::CutAnswer) | None => {}
    }
    let mut server = TcpStream::connect(target).await?;
    server.write_all(&begin).await?;
    if mishap.is_none() {
        return copy_bidirectional(&mut client, &mut server).await.map(drop);
    }
    let (mut from_client, _to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let mut first = [0; 1];
    tokio::select! {
        // The rest of the request, until the server begins to answer.
        _ = tokio::io::copy(&mut from_client, &mut to_server) => drop(from_server.read(&mut first).await?),
        answered = from_server.read(&mut first) => drop(answered?),
    }
    Ok(())
}
