//! The format in which results are stored (Arrow IPC stream, LZ4) and the formats in which they are returned.
//!
//! Belongs here: pure functions of the stored bytes and options. Does not belong here: a database client, HTTP, a
//! decision about who may read. Everything streams: memory is bounded by one stored batch and one chunk, for Parquet by
//! one row group.

mod cells;
mod columnar;
mod csv;
mod json;
mod time;
mod valid;

use std::collections::VecDeque;
use std::io;
use std::sync::LazyLock;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::CompressionType;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use landreeve_core::source::{ByteStream, EncodeOptions, ResultCodec, ResultFormat, ResultWriter};
use tokio::sync::Semaphore;

/// Approximate size of an output chunk.
const CHUNK: usize = 128 * 1024;
/// Work on more bytes than this gets a thread of its own. Stored bytes can become 255 times as many.
const HEAVY: usize = 1024 * 1024;
const HEAVY_STORED: usize = 32 * 1024;
/// How many chunks such a thread writes at a time.
const TOGETHER: usize = 8;
/// So much of it at a time, so that a processor is left for the others.
static HEAVY_WORK: LazyLock<Semaphore> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Semaphore::new(cores.saturating_sub(1).max(1))
});
/// How many bytes of one value are written at a time; a multiple of three, for base64.
const PIECE: usize = 96 * 1024;

/// The encoders.
#[derive(Debug, Clone, Copy, Default)]
pub struct Codec;

fn broken(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("cannot read the stored result: {error}"))
}

struct KeptWriter(StreamWriter<Vec<u8>>);

impl KeptWriter {
    fn drain(&mut self) -> Bytes {
        Bytes::from(std::mem::take(self.0.get_mut()))
    }
}

impl ResultWriter for KeptWriter {
    fn write(&mut self, batch: &RecordBatch) -> io::Result<Bytes> {
        self.0.write(batch).map_err(io::Error::other)?;
        Ok(self.drain())
    }

    fn finish(&mut self) -> io::Result<Bytes> {
        self.0.finish().map_err(io::Error::other)?;
        Ok(self.drain())
    }
}

impl ResultCodec for Codec {
    fn writer(&self, schema: &SchemaRef) -> io::Result<Box<dyn ResultWriter>> {
        let options = IpcWriteOptions::default()
            .try_with_compression(Some(CompressionType::LZ4_FRAME))
            .map_err(io::Error::other)?;
        let writer =
            StreamWriter::try_new_with_options(Vec::new(), schema, options).map_err(io::Error::other)?;
        Ok(Box::new(KeptWriter(writer)))
    }

    fn encode(&self, kept: ByteStream, options: EncodeOptions) -> ByteStream {
        // The stored form is already what an Arrow client reads.
        if options.format == ResultFormat::ArrowStream {
            return kept;
        }
        let encoding = Encoding {
            kept,
            waiting: VecDeque::new(),
            decoder: StreamDecoder::new(),
            current: None,
            rows: 0,
            left: options.most_rows,
            sink: None,
            out: Vec::new(),
            options,
            state: State::Reading,
            ready: VecDeque::new(),
            buffered: 0,
            held: 0,
        };
        Box::pin(stream::try_unfold(encoding, |mut encoding| async move {
            loop {
                if let Some(chunk) = encoding.ready.pop_front() {
                    // The whole result may be available; give other work on this thread a turn.
                    tokio::task::yield_now().await;
                    return Ok(Some((chunk, encoding)));
                }
                let (worked, step) = encoding.work().await?;
                encoding = worked;
                match step {
                    Step::Chunk(chunk) => encoding.ready.push_back(chunk),
                    Step::End if encoding.ready.is_empty() => return Ok(None),
                    // It says so again when they have been taken.
                    Step::End => {}
                    Step::NeedsInput => encoding.read().await?,
                }
            }
        }))
    }
}

/// Where a chunk ended inside a row. A long value is written in pieces, so that a chunk stays small.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cut {
    column: usize,
    /// How many bytes of its value have been written.
    written: usize,
    /// What was found out about the whole value at its start.
    marked: bool,
}

/// The next piece of a value, and whether it is the last.
fn piece(value: &[u8], written: usize, most: usize) -> (&[u8], bool) {
    let rest = value.get(written..).unwrap_or_default();
    match rest.get(..most) {
        Some(piece) if rest.len() > most => (piece, false),
        _ => (rest, true),
    }
}

/// One way to write rows.
trait Sink: Send {
    /// Writes rows, starting at `from`, until the chunk is full enough; returns the row to continue with, which may have
    /// been written in part.
    fn rows(&mut self, batch: &RecordBatch, from: usize, out: &mut Vec<u8>) -> io::Result<usize>;

    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()>;
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    KeptEnded,
    Done,
}

struct Encoding {
    kept: ByteStream,
    waiting: VecDeque<Buffer>,
    decoder: StreamDecoder,
    current: Option<(RecordBatch, usize)>,
    rows: u64,
    /// How many more rows to return; `None`: all.
    left: Option<u64>,
    sink: Option<Box<dyn Sink>>,
    out: Vec<u8>,
    options: EncodeOptions,
    state: State,
    /// Chunks that have not been taken yet.
    ready: VecDeque<Bytes>,
    /// Bytes of a batch that the decoder has, and of the batch that is being written.
    buffered: usize,
    held: usize,
}

/// What the work led to.
enum Step {
    Chunk(Bytes),
    NeedsInput,
    End,
}

impl Encoding {
    /// Works up to the next chunk, on a thread of its own if there is much to do: the others must not wait for it.
    async fn work(mut self) -> io::Result<(Encoding, Step)> {
        let waiting: usize = self.waiting.iter().map(Buffer::len).sum();
        if waiting + self.buffered < HEAVY_STORED && self.held < HEAVY {
            let step = self.next_step()?;
            return Ok((self, step));
        }
        let place = HEAVY_WORK.acquire().await.map_err(io::Error::other)?;
        let worked = tokio::task::spawn_blocking(move || {
            let _place = place;
            let mut step = self.next_step()?;
            // Several, because changing the thread costs about as much as writing a chunk.
            while self.ready.len() < TOGETHER
                && let Step::Chunk(chunk) = step
            {
                self.ready.push_back(chunk);
                step = self.next_step()?;
            }
            Ok((self, step))
        });
        worked.await.map_err(io::Error::other)?
    }

    async fn read(&mut self) -> io::Result<()> {
        match self.kept.next().await {
            Some(bytes) => self.waiting.push_back(Buffer::from(bytes?)),
            None => self.state = State::KeptEnded,
        }
        Ok(())
    }

    fn next_step(&mut self) -> io::Result<Step> {
        while self.state != State::Done {
            if let Some((batch, from)) = self.current.take() {
                let sink = self.sink.as_mut().ok_or_else(|| broken("rows before the schema"))?;
                let next = sink.rows(&batch, from, &mut self.out)?;
                if next < batch.num_rows() {
                    self.current = Some((batch, next));
                } else {
                    self.held = 0;
                }
                if self.out.len() >= CHUNK {
                    break;
                }
            } else if self.left == Some(0) && self.sink.is_some() {
                self.end()?;
            } else if self.waiting.is_empty() && self.state == State::Reading {
                return Ok(Step::NeedsInput);
            } else {
                self.step()?;
            }
        }
        if self.out.is_empty() {
            return Ok(Step::End);
        }
        let full = std::mem::replace(&mut self.out, Vec::with_capacity(CHUNK + CHUNK / 4));
        Ok(Step::Chunk(Bytes::from(full)))
    }

    /// Decodes pending input, or writes the end.
    fn step(&mut self) -> io::Result<()> {
        if let Some(mut buffer) = self.waiting.pop_front() {
            self.buffered += buffer.len();
            let batch = self.decoder.decode(&mut buffer).map_err(broken)?;
            if !buffer.is_empty() {
                self.waiting.push_front(buffer);
            }
            self.open()?;
            if let Some(batch) = batch {
                self.buffered = 0;
                self.held = batch.get_array_memory_size();
                self.rows += batch.num_rows() as u64;
                self.current = Some((self.cut(batch), 0));
            }
            return Ok(());
        }
        self.decoder.finish().map_err(broken)?;
        self.open()?;
        // A stored stream that was cut off between two batches looks complete.
        if let Some(count) = self.options.row_count.filter(|count| *count != self.rows) {
            return Err(broken(format!("{} of {count} rows", self.rows)));
        }
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        let sink = self.sink.as_mut().ok_or_else(|| broken("it is empty"))?;
        sink.finish(&mut self.out)?;
        self.state = State::Done;
        Ok(())
    }

    /// The rows of the batch that are still within the limit.
    fn cut(&mut self, batch: RecordBatch) -> RecordBatch {
        let Some(left) = &mut self.left else { return batch };
        let rows = batch.num_rows().min(usize::try_from(*left).unwrap_or(usize::MAX));
        *left -= rows as u64;
        batch.slice(0, rows)
    }

    fn open(&mut self) -> io::Result<()> {
        if self.sink.is_some() {
            return Ok(());
        }
        let Some(schema) = self.decoder.schema() else { return Ok(()) };
        self.sink = Some(match self.options.format {
            ResultFormat::Json => Box::new(json::Json::new(&schema, &self.options, &mut self.out)?),
            ResultFormat::Csv => Box::new(csv::Csv::new(&schema, &self.options, &mut self.out)),
            ResultFormat::Parquet => Box::new(columnar::Parquet::new(&schema)?),
            ResultFormat::ArrowStream => return Err(broken("the stored form needs no encoder")),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
