//! Connections as they come in: each with who is at its other end, and no more of them than there
//! are places.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt as _, future, stream};
use nix::unistd::{Gid, Group, Uid, User};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use super::{
    gate::{Certificate, Crowd, Peer, Place},
    tls::{Tls, names},
};
use crate::access::{Access, Caller};

/// How long to leave a listener alone that can't accept, as when file descriptors ran
/// out: a loop without a rest would take the processor too.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Handshakes at the same time. Who is in one is nobody yet, and takes no place.
const HANDSHAKES: usize = 128;

/// Clients of the unix socket whose names are asked for at the same time.
const AT_ONCE: usize = 16;

/// A connection, and who is at its other end.
#[derive(Debug)]
pub(super) struct Connection<S> {
    stream: S,
    peer: Peer,
    _place: Place,
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Who may come in, and how many.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub(super) access: Arc<Access>,
    pub(super) crowd: Crowd,
}

impl Door {
    fn let_in<S>(
        &self,
        stream: S,
        caller: Caller,
        certificate: Option<Certificate>,
    ) -> Option<Connection<S>> {
        let Some(place) = self.crowd.enter(&caller) else {
            warn!(%caller, "too many connections: one more is refused");
            return None;
        };
        // Who may do nothing is told so at its first call.
        let peer = Peer {
            role: self.access.role(&caller),
            caller: Arc::new(caller),
            certificate,
        };
        Some(Connection {
            stream,
            peer,
            _place: place,
        })
    }
}

type Incoming<S> = Result<Connection<S>, Infallible>;

/// The connections of a unix socket.
pub(super) fn unix_connections(
    listener: UnixListener,
    door: Door,
) -> impl Stream<Item = Incoming<UnixStream>> {
    let accepted = stream::unfold(listener, async |listener| {
        loop {
            match listener.accept().await {
                Ok((connection, _)) => return Some((connection, listener)),
                Err(error) => rest(&error).await,
            }
        }
    });
    // Nobody waits for the names of somebody else.
    let known = accepted.map(move |connection| {
        let door = door.clone();
        async move {
            let caller = local(&connection, &door.access).await?;
            door.let_in(connection, caller, None)
        }
    });
    let known = known.buffer_unordered(AT_ONCE);
    known.filter_map(|connection| future::ready(connection.map(Ok)))
}

/// Whose process is at the other end, as the kernel has it (`SO_PEERCRED`).
async fn local(connection: &UnixStream, access: &Arc<Access>) -> Option<Caller> {
    let credentials = match connection.peer_cred() {
        Ok(credentials) => credentials,
        Err(error) => {
            warn!(%error, "nobody knows whose connection this is");
            return None;
        }
    };
    let (uid, gid) = (credentials.uid(), credentials.gid());
    let access = Arc::clone(access);
    // The names may have to be asked for elsewhere.
    let named = tokio::task::spawn_blocking(move || named(uid, gid, &access));
    named.await.ok()
}

fn named(uid: u32, gid: u32, access: &Access) -> Caller {
    let known = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    let own = |group: &Group| {
        let gids = [
            Some(Gid::from_raw(gid)),
            known.as_ref().map(|user| user.gid),
        ];
        let listed = known
            .as_ref()
            .is_some_and(|user| group.mem.contains(&user.name));
        gids.contains(&Some(group.gid)) || listed
    };
    let is_in = |name: &&str| {
        let group = match name.parse() {
            Ok(number) => Group::from_gid(Gid::from_raw(number)),
            Err(_) => Group::from_name(name),
        };
        group.ok().flatten().is_some_and(|group| own(&group))
    };
    let groups: BTreeSet<String> = access
        .groups()
        .into_iter()
        .filter(is_in)
        .map(str::to_owned)
        .collect();
    Caller::Local {
        uid,
        user: known.map(|user| user.name),
        groups,
    }
}

/// The connections of a TCP port whose handshakes went well. One that takes its time holds up no
/// other.
pub(super) fn tls_connections(
    listener: TcpListener,
    tls: Arc<Tls>,
    door: Door,
) -> impl Stream<Item = Incoming<TlsStream<TcpStream>>> {
    let (sender, receiver) = mpsc::channel(1);
    let mut accepting = JoinSet::new();
    accepting.spawn(accept(listener, tls, door, sender));
    // With the stream ends what feeds it.
    ReceiverStream::new(receiver).map(move |connection| {
        let _ = &accepting;
        Ok(connection)
    })
}

async fn accept(
    listener: TcpListener,
    tls: Arc<Tls>,
    door: Door,
    connections: mpsc::Sender<Connection<TlsStream<TcpStream>>>,
) {
    let at_once = Arc::new(Semaphore::new(HANDSHAKES));
    let mut handshakes = JoinSet::new();
    loop {
        while handshakes.try_join_next().is_some() {}
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                rest(&error).await;
                continue;
            }
        };
        let Ok(turn) = Arc::clone(&at_once).try_acquire_owned() else {
            debug!(%address, "too many handshakes: one more is refused");
            continue;
        };
        // Without it small answers wait for acknowledgements; it is no reason to refuse a
        // connection.
        let _ = stream.set_nodelay(true);
        let (tls, door, connections) = (Arc::clone(&tls), door.clone(), connections.clone());
        handshakes.spawn(async move {
            let greeted = timeout(HANDSHAKE, greet(stream, tls)).await;
            drop(turn);
            match greeted {
                Ok(Ok((stream, caller, certificate))) => {
                    if let Some(connection) = door.let_in(stream, caller, Some(certificate)) {
                        let _ = connections.send(connection).await;
                    }
                }
                Ok(Err(error)) => debug!(%address, %error, "a handshake failed"),
                Err(_) => debug!(%address, "a handshake took too long"),
            }
        });
    }
}

async fn greet(
    stream: TcpStream,
    tls: Arc<Tls>,
) -> io::Result<(TlsStream<TcpStream>, Caller, Certificate)> {
    let loaded = tls.current();
    let stream = TlsAcceptor::from(loaded.config).accept(stream).await?;
    let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let caller = Caller::Certified(shown.first().map(names).unwrap_or_default());
    let certificate = Certificate::new(tls, shown.to_vec(), loaded.number);
    Ok((stream, caller, certificate))
}

async fn rest(error: &io::Error) {
    warn!(%error, "cannot accept a connection");
    tokio::time::sleep(ACCEPT_REST).await;
}
