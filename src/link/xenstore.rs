//! A client of Xen's store, as far as reading and following it need one: the wire protocol of
//! `xen/include/public/io/xs_wire.h` and `docs/misc/xenstore.txt`, on the socket of a daemon in this
//! domain (xenstored or oxenstored).
//!
//! A message is a header of four 32-bit numbers in the host's order (what, request, transaction,
//! length) and at most 4,096 octets, of which oxenstored's answers take no notice. A request is
//! answered by a message of its own kind and number, or by an error. What a watch saw comes between
//! answers, unasked.

use std::{collections::VecDeque, io, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

/// `enum xsd_sockmsg_type`.
const DIRECTORY: u32 = 1;
const READ: u32 = 2;
const WATCH: u32 = 4;
const WATCH_EVENT: u32 = 15;
const ERROR: u32 = 16;
const DIRECTORY_PART: u32 = 22;

/// `sizeof(struct xsd_sockmsg)`.
const HEADER: usize = 16;

/// `XENSTORE_PAYLOAD_MAX`, octets.
const PAYLOAD_MAX: usize = 4096;

/// Octets of an answer: oxenstored sends the names of all children at once, whatever they are.
const ANSWER_MAX: usize = 4 << 20;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection.
#[derive(Debug)]
pub(super) struct Xenstore {
    stream: UnixStream,
    /// What was received and is no message yet.
    inbox: Vec<u8>,
    requests: u32,
    /// Paths that watches saw change, and that nobody has asked for yet.
    changed: VecDeque<String>,
}

struct Message {
    kind: u32,
    request: u32,
    payload: Vec<u8>,
}

impl Xenstore {
    /// Connects to the daemon's socket.
    pub(super) async fn connect(socket: &Path) -> io::Result<Self> {
        Ok(Self {
            stream: UnixStream::connect(socket).await?,
            inbox: Vec::new(),
            requests: 0,
            changed: VecDeque::new(),
        })
    }

    /// The value of a node; nothing where there is no such node.
    pub(super) async fn read(&mut self, path: &str) -> io::Result<Option<String>> {
        let value = self.ask(READ, &[path]).await?;
        Ok(value.map(|octets| String::from_utf8_lossy(&octets).into_owned()))
    }

    /// The names of a node's children; none where there is no such node.
    pub(super) async fn directory(&mut self, path: &str) -> io::Result<Vec<String>> {
        match self.ask(DIRECTORY, &[path]).await {
            Ok(names) => Ok(strings(&names.unwrap_or_default())),
            Err(error) if is(&error, "E2BIG") => self.long_directory(path).await,
            Err(error) => Err(error),
        }
    }

    /// In parts, each with the generation of the node: where it changes meanwhile, from the
    /// beginning. After the last name comes an empty one.
    async fn long_directory(&mut self, path: &str) -> io::Result<Vec<String>> {
        let (mut names, mut generation) = (Vec::new(), None);
        loop {
            let offset = names.len().to_string();
            let Some(part) = self.ask(DIRECTORY_PART, &[path, &offset]).await? else {
                return Ok(Vec::new());
            };
            let end = part.iter().position(|octet| *octet == 0);
            let (head, part) = part.split_at(end.map_or(part.len(), |end| end + 1));
            if part.is_empty() || generation.as_deref().is_some_and(|before| before != head) {
                names.clear();
                generation = None;
                continue;
            }
            generation = Some(head.to_vec());
            if let Some(last) = part.strip_suffix(b"\0\0") {
                names.extend_from_slice(last);
                return Ok(strings(&names));
            }
            names.extend_from_slice(part);
        }
    }

    /// Has [`changed`](Self::changed) tell what changes there and below, and at once that the watch
    /// is set.
    pub(super) async fn watch(&mut self, path: &str) -> io::Result<()> {
        self.ask(WATCH, &[path, path]).await.map(|_| ())
    }

    /// The next path that a watch saw change; nothing where that takes longer.
    pub(super) async fn changed(&mut self, longest: Duration) -> io::Result<Option<String>> {
        if let Some(path) = self.known_change() {
            return Ok(Some(path));
        }
        let Ok(message) = timeout(longest, self.receive()).await else {
            return Ok(None);
        };
        let message = message?;
        if message.kind != WATCH_EVENT {
            return Err(broken("answers what nobody asked"));
        }
        self.keep(&message);
        Ok(self.known_change())
    }

    /// The next of those that came beside answers.
    pub(super) fn known_change(&mut self) -> Option<String> {
        self.changed.pop_front()
    }

    /// The answer to a request; nothing where there is no such node.
    async fn ask(&mut self, kind: u32, words: &[&str]) -> io::Result<Option<Vec<u8>>> {
        let mut payload = Vec::new();
        for word in words {
            payload.extend_from_slice(word.as_bytes());
            payload.push(0);
        }
        if payload.len() > PAYLOAD_MAX {
            return Err(broken("would be asked for a path that is too long"));
        }
        self.requests = self.requests.wrapping_add(1);
        let request = self.requests;
        let mut message = Vec::with_capacity(HEADER + payload.len());
        for number in [
            kind,
            request,
            0,
            u32::try_from(payload.len()).unwrap_or(u32::MAX),
        ] {
            message.extend_from_slice(&number.to_ne_bytes());
        }
        message.extend_from_slice(&payload);
        let answer = timeout(PATIENCE, async {
            self.stream.write_all(&message).await?;
            self.answer(request).await
        });
        let answer = answer
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        if answer.kind == kind {
            return Ok(Some(answer.payload));
        }
        if answer.kind != ERROR {
            return Err(broken("answers something else"));
        }
        let words = strings(&answer.payload);
        match words.first().map_or("", String::as_str) {
            "ENOENT" => Ok(None),
            code => Err(io::Error::other(Refused(code.to_owned()))),
        }
    }

    async fn answer(&mut self, request: u32) -> io::Result<Message> {
        loop {
            let message = self.receive().await?;
            if message.kind == WATCH_EVENT {
                self.keep(&message);
            } else if message.request == request {
                return Ok(message);
            } else {
                return Err(broken("answers another request"));
            }
        }
    }

    fn keep(&mut self, event: &Message) {
        self.changed
            .extend(strings(&event.payload).into_iter().next());
    }

    /// The next message. Who stops waiting loses nothing of it.
    async fn receive(&mut self) -> io::Result<Message> {
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(message);
            }
            if self.stream.read_buf(&mut self.inbox).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn take_message(&mut self) -> io::Result<Option<Message>> {
        let Some((header, rest)) = self.inbox.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let number = |at: usize| {
            let octets = [header[at], header[at + 1], header[at + 2], header[at + 3]];
            u32::from_ne_bytes(octets)
        };
        let (kind, request, length) = (number(0), number(4), number(12) as usize);
        if length > ANSWER_MAX {
            return Err(broken("sends more than an answer can have"));
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let payload = payload.to_vec();
        self.inbox.drain(..HEADER + length);
        Ok(Some(Message {
            kind,
            request,
            payload,
        }))
    }
}

/// An error of the store's own.
#[derive(Debug, thiserror::Error)]
#[error("Xen's store answers {0}")]
struct Refused(String);

fn is(error: &io::Error, code: &str) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner.is_some_and(|Refused(found)| found == code)
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("Xen's store {what}"))
}

/// Texts that end with a NUL each.
fn strings(octets: &[u8]) -> Vec<String> {
    let each = octets.split(|octet| *octet == 0);
    each.filter(|text| !text.is_empty())
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .collect()
}
