//! Conversations: what two ends say to each other, both ways, from a client's first packet on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::net::Net;
use super::packet::{ACK, Packet, SYN};
use super::who::{Machine, R};

/// What is talked. The ends are machines by their `ip`; one that lies has another MAC or address
/// than its NIC.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Talk {
    /// Echoes of this identifier.
    Ping(u16),
    /// Datagrams between the client's port and the server's.
    Udp(u16, u16),
    /// A connection between the client's port and the server's.
    Tcp(u16, u16),
}

/// From one end to the other, whoever the address belongs to.
fn between(from: Machine, to: Machine) -> Packet {
    from.to(to.ip).eth_dst(to.mac)
}

impl Talk {
    pub(crate) fn request(self, client: Machine, server: Machine) -> Packet {
        let packet = between(client, server);
        match self {
            Self::Ping(id) => packet.ping_id(id),
            Self::Udp(from, to) => packet.udp(from, to),
            Self::Tcp(from, to) => packet.tcp_at(from, to, SYN, (1000, 0)),
        }
    }

    pub(crate) fn answer(self, client: Machine, server: Machine) -> Packet {
        let packet = between(server, client);
        match self {
            Self::Ping(id) => packet.pong_id(id),
            Self::Udp(from, to) => packet.udp(to, from),
            Self::Tcp(from, to) => packet.tcp_at(to, from, SYN | ACK, (5000, 1001)),
        }
    }

    /// What the client says once they talk.
    pub(crate) fn asks_on(self, client: Machine, server: Machine) -> Packet {
        match self {
            Self::Ping(_) | Self::Udp(..) => self.request(client, server),
            Self::Tcp(from, to) => between(client, server).tcp_at(from, to, ACK, (1001, 5001)),
        }
    }

    /// What the server says once they talk, asked or not.
    pub(crate) fn answers_on(self, client: Machine, server: Machine) -> Packet {
        match self {
            Self::Ping(_) | Self::Udp(..) => self.answer(client, server),
            Self::Tcp(from, to) => between(server, client).tcp_at(to, from, ACK, (5001, 1001)),
        }
    }
}

impl Net {
    /// Every packet of the conversation passes.
    pub(crate) fn connects(&mut self, client: Machine, server: Machine, talk: Talk) {
        self.passes(&talk.request(client, server), server);
        self.passes(&talk.answer(client, server), client);
        self.goes_on(client, server, talk);
    }

    /// What has begun is not disturbed.
    pub(crate) fn goes_on(&mut self, client: Machine, server: Machine, talk: Talk) {
        self.passes(&talk.asks_on(client, server), server);
        self.passes(&talk.answers_on(client, server), client);
    }

    /// What has begun is over, and neither end can begin it anew out of the middle.
    pub(crate) fn is_cut(&mut self, client: Machine, server: Machine, talk: Talk) {
        for _ in 0..2 {
            self.dropped(&talk.answers_on(client, server));
            self.dropped(&talk.asks_on(client, server));
        }
    }

    /// The first packet does not get there. To the world that means: it comes out nowhere. To a
    /// guest that the bridge has not learned of it may be flooded, as its sender's egress allows.
    pub(crate) fn refuses(&mut self, client: Machine, server: Machine, talk: Talk) {
        let first = talk.request(client, server);
        if server.port == R.port {
            self.dropped(&first);
        } else {
            self.blocked(&first, server);
        }
    }

    /// Whatever becomes of the first packet, its answer comes out nowhere.
    pub(crate) fn unanswered(&mut self, client: Machine, server: Machine, talk: Talk) {
        self.arrivals(&talk.request(client, server));
        self.dropped(&talk.answer(client, server));
    }
}

/// Sends once a millisecond until 200 times after it is done; when each was sent.
pub(crate) fn paced(done: &AtomicBool, mut send: impl FnMut(u32) -> Instant) -> Vec<Instant> {
    let (mut times, mut left) = (Vec::new(), 200);
    for n in 1.. {
        left -= i32::from(done.load(Ordering::Relaxed));
        if left == 0 {
            break;
        }
        times.push(send(n));
        std::thread::sleep(Duration::from_millis(1));
    }
    times
}
