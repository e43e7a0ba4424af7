//! Refuses a row that is too large before anything is allocated for it: the client reads a whole message into memory, so
//! the lengths are checked as the bytes arrive from the server.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use crate::Bounds;
use crate::aside::Turn;

const ROW: u8 = b'D';
/// The longest message that is no row. An error may quote a value.
const LONGEST_OTHER: usize = 1024 * 1024;
/// A message's type and length.
const HEADER: usize = 5;

/// Why a connection was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    /// Otherwise it is another message, probably an error.
    pub is_row: bool,
    /// The first value that is too large, counting from 0, if a single one is.
    pub column: Option<usize>,
    pub bytes: usize,
}

/// What a connection receives.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// What it refused, for the task that runs its statement.
    pub refused: OnceLock<Refused>,
    /// The length of the message that is arriving.
    arriving: AtomicUsize,
}

impl Traffic {
    pub fn arriving(&self) -> usize {
        self.arriving.load(Ordering::Relaxed)
    }
}

/// Where the next byte belongs.
#[derive(Debug)]
enum State {
    /// The server's answer to the request for encryption.
    Encrypted,
    /// Encrypted bytes, whose messages are checked elsewhere.
    Opaque,
    Header {
        bytes: [u8; HEADER],
        have: usize,
    },
    Body {
        left: usize,
        length: usize,
    },
    TooLarge(Lengths),
}

const START: State = State::Header { bytes: [0; HEADER], have: 0 };

/// Reads the lengths of the values of a row that is too large, without its values.
#[derive(Debug)]
struct Lengths {
    /// The size of the whole row.
    total: usize,
    /// What is left of the number of values, or of a value's length.
    number: [u8; 4],
    have: usize,
    need: usize,
    skip: usize,
    column: Option<usize>,
    seen: usize,
}

impl Lengths {
    fn new(total: usize) -> Lengths {
        // First comes the number of values, in two bytes.
        Lengths { total, number: [0; 4], have: 0, need: 2, skip: 0, column: None, seen: 0 }
    }

    fn read(&mut self, mut bytes: &[u8], bounds: Bounds) -> Option<Refused> {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.skip > 0 {
                let step = self.skip.min(bytes.len());
                self.skip -= step;
                self.seen += step;
                bytes = bytes.get(step..).unwrap_or_default();
            } else {
                bytes = rest;
                if let Some(slot) = self.number.get_mut(self.have) {
                    *slot = first;
                }
                self.have += 1;
                if self.have == self.need && self.need == 2 {
                    (self.have, self.need) = (0, 4);
                } else if self.have == self.need {
                    self.have = 0;
                    let column = self.column.map_or(0, |column| column + 1);
                    self.column = Some(column);
                    // -1 means NULL.
                    self.skip = usize::try_from(i32::from_be_bytes(self.number)).unwrap_or(0);
                    if self.skip > bounds.max_value_bytes {
                        return Some(Refused { is_row: true, column: Some(column), bytes: self.skip });
                    }
                }
            }
            // Its values are small, but there are too many.
            if self.seen > bounds.max_row_bytes {
                return Some(Refused { is_row: true, column: None, bytes: self.total });
            }
        }
        None
    }
}

/// What to do with bytes that arrived.
enum Verdict {
    Pass,
    /// Only so many may be passed on.
    Stop(usize),
    Refuse(Refused),
}

#[derive(Debug)]
struct Frames {
    state: State,
    bounds: Bounds,
}

impl Frames {
    /// The length of the message of which a part has arrived.
    fn arriving(&self) -> usize {
        if let State::Body { length, .. } = self.state { length } else { 0 }
    }

    fn read(&mut self, bytes: &[u8]) -> Verdict {
        let mut at = 0;
        while at < bytes.len() {
            let rest = bytes.get(at..).unwrap_or_default();
            match &mut self.state {
                State::Opaque => return Verdict::Pass,
                State::Encrypted => {
                    at += 1;
                    self.state = if rest.first() == Some(&b'S') { State::Opaque } else { START };
                }
                State::Body { left, .. } => {
                    let step = (*left).min(rest.len());
                    *left -= step;
                    at += step;
                    if *left == 0 {
                        self.state = START;
                    }
                }
                State::Header { bytes: header, have } => {
                    let begun = at;
                    let step = (HEADER - *have).min(rest.len());
                    header[*have..*have + step].copy_from_slice(&rest[..step]);
                    *have += step;
                    at += step;
                    if *have < HEADER {
                        return Verdict::Pass;
                    }
                    let [kind, length @ ..] = *header;
                    // It counts itself.
                    let left = usize::try_from(i32::from_be_bytes(length)).unwrap_or(0).saturating_sub(4);
                    let most = if kind == ROW { self.bounds.max_row_bytes } else { LONGEST_OTHER };
                    if left <= most {
                        self.state = if left == 0 { START } else { State::Body { left, length: left } };
                        continue;
                    }
                    if kind != ROW {
                        return Verdict::Refuse(Refused { is_row: false, column: None, bytes: left });
                    }
                    let mut lengths = Lengths::new(left);
                    let found = lengths.read(bytes.get(at..).unwrap_or_default(), self.bounds);
                    self.state = State::TooLarge(lengths);
                    return found.map_or(Verdict::Stop(begun), Verdict::Refuse);
                }
                State::TooLarge(lengths) => {
                    let found = lengths.read(rest, self.bounds);
                    return found.map_or(Verdict::Stop(0), Verdict::Refuse);
                }
            }
        }
        Verdict::Pass
    }
}

/// A connection whose messages are checked.
pub(super) struct Guarded<S> {
    inner: S,
    frames: Frames,
    traffic: Arc<Traffic>,
    turn: Turn,
    /// Others go first before the next read.
    waits: bool,
}

impl<S> Guarded<S> {
    fn new(inner: S, frames: Frames, traffic: Arc<Traffic>) -> Guarded<S> {
        Guarded { inner, frames, traffic, turn: Turn::default(), waits: false }
    }

    /// A connection on which the client first asks for encryption.
    pub fn raw(inner: S, bounds: Bounds, traffic: Arc<Traffic>) -> Guarded<S> {
        Guarded::new(inner, Frames { state: State::Encrypted, bounds }, traffic)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // The client reads as long as there is something to read.
        if std::mem::take(&mut this.waits) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
            let new = buf.filled().get(before..).unwrap_or_default();
            if new.is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.waits |= this.turn.ends_after(new.len());
            let verdict = this.frames.read(new);
            // Encrypted bytes are not counted: inside is another one of these.
            if !matches!(this.frames.state, State::Opaque) {
                this.traffic.arriving.store(this.frames.arriving(), Ordering::Relaxed);
            }
            match verdict {
                Verdict::Pass => return Poll::Ready(Ok(())),
                // The client waits for the rest of a message that never comes, so the next read shows what it is.
                Verdict::Stop(0) => buf.set_filled(before),
                Verdict::Stop(passed) => {
                    buf.set_filled(before + passed);
                    return Poll::Ready(Ok(()));
                }
                Verdict::Refuse(refused) => {
                    buf.set_filled(before);
                    let _ = this.traffic.refused.set(refused);
                    let message = format!("a message of {} bytes is too large", refused.bytes);
                    return Poll::Ready(Err(io::Error::other(message)));
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

impl<S: TlsStream + Unpin> TlsStream for Guarded<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.inner.channel_binding()
    }
}

/// Checks the messages inside the encryption.
pub(super) struct GuardedTls<T> {
    pub inner: T,
    pub bounds: Bounds,
    pub traffic: Arc<Traffic>,
}

impl<S, T> TlsConnect<S> for GuardedTls<T>
where
    T: TlsConnect<S>,
    T::Future: Send + 'static,
    T::Stream: 'static,
{
    type Stream = Guarded<T::Stream>;
    type Error = T::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, T::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let GuardedTls { inner, bounds, traffic } = self;
        let connecting = inner.connect(stream);
        Box::pin(async move {
            let inner = connecting.await?;
            Ok(Guarded::new(inner, Frames { state: START, bounds }, traffic))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { max_value_bytes: 100, max_row_bytes: 150 };

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = i32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[kind], length.as_slice(), body].concat()
    }

    fn row(values: &[Option<usize>]) -> Vec<u8> {
        let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
        for value in values {
            let length = value.map_or(-1, |length| i32::try_from(length).unwrap());
            body.extend_from_slice(&length.to_be_bytes());
            body.extend(std::iter::repeat_n(7, value.unwrap_or(0)));
        }
        message(ROW, &body)
    }

    /// Reads a connection that delivers `bytes` in pieces of one size.
    fn read(bytes: &[u8], piece: usize) -> (Vec<u8>, Option<Refused>) {
        let mut frames = Frames { state: State::Encrypted, bounds: BOUNDS };
        let mut passed = Vec::new();
        for piece in bytes.chunks(piece) {
            match frames.read(piece) {
                Verdict::Pass => passed.extend_from_slice(piece),
                Verdict::Stop(count) => passed.extend_from_slice(&piece[..count]),
                Verdict::Refuse(refused) => return (passed, Some(refused)),
            }
        }
        (passed, None)
    }

    #[test]
    fn rows_are_refused_before_they_are_passed_on() {
        let small = [b"N".to_vec(), message(b'R', &[0; 4]), row(&[Some(40), None, Some(60)])].concat();
        let next = message(b'C', b"SELECT 1\0");
        let value = |column, bytes| Some(Refused { is_row: true, column: Some(column), bytes });
        let cases: [(Vec<u8>, Option<Refused>); 7] = [
            (next.clone(), None),
            (row(&[Some(100), None]), None),
            (row(&[Some(20), Some(101), Some(90)]), value(1, 101)),
            (row(&[None, None, Some(5_000)]), value(2, 5_000)),
            (row(&[Some(90), Some(90)]), Some(Refused { is_row: true, column: None, bytes: 190 })),
            (
                message(b'E', &vec![1; 2_000_000]),
                Some(Refused { is_row: false, column: None, bytes: 2_000_000 }),
            ),
            (message(b'E', &[1; 200]), None),
        ];
        for (case, expected) in cases {
            let bytes = [small.clone(), case, next.clone()].concat();
            for piece in [1, 2, 3, 5, 7, 64, 10_000] {
                let (passed, refused) = read(&bytes, piece);
                assert_eq!(refused, expected, "in pieces of {piece}");
                if refused.is_some() {
                    // At most the header, which the client does not act on before it is complete.
                    assert!(
                        passed.len() < small.len() + HEADER,
                        "{} bytes in pieces of {piece}",
                        passed.len()
                    );
                } else {
                    assert_eq!(passed, bytes, "in pieces of {piece}");
                }
            }
        }
    }

    #[test]
    fn encrypted_bytes_are_not_read_as_messages() {
        let bytes = [b"S".to_vec(), row(&[Some(5_000)])].concat();
        assert_eq!(read(&bytes, 64), (bytes, None));
    }
}
