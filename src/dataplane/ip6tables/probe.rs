//! What this host's table raw sees.
//!
//! Whether `ip6table_raw` was loaded with `raw_before_defrag=1` (Linux 4.16) is in no file: the
//! parameter has no mode (`module_param(raw_before_defrag, bool, 0000)`,
//! `net/ipv6/netfilter/ip6table_raw.c`), and what is said in `/etc/modprobe.d` may have come too late.
//! So it is tried: a fragment is sent to the host itself, and a rule in OUTPUT drops it, which the
//! sender is told. Where fragments are kept for their packet before table raw, it is kept, and the
//! sender is told nothing.

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with},
};
use tracing::debug;

use super::{LIMIT, Tools};
use crate::dataplane::exec::{self, ExecError};

/// Which fragment it is, to the rules.
const NUMBER: u32 = 0x5361_6741;

/// The rules, without what is to be done with them. The first one has no verdict. It makes the
/// kernel track connections, and thereby join fragments: else table raw would see them all.
fn rules() -> [String; 2] {
    let which = format!("OUTPUT -s ::1/128 -d ::1/128 -o lo -m frag --fragid {NUMBER}");
    [
        format!("{which} -m conntrack --ctstate INVALID"),
        format!("{which} -j DROP"),
    ]
}

fn edits(verb: &str) -> String {
    let [first, second] = rules();
    format!("*raw\n{verb} {first}\n{verb} {second}\nCOMMIT\n")
}

/// Whether fragments come to table raw before they are joined.
pub async fn sees_fragments(tools: &Tools) -> bool {
    // Those of one who was killed here.
    let run = async |verb| -> Result<String, ExecError> {
        exec::run(&tools.restore, tools.restore_args(), &edits(verb), LIMIT).await
    };
    let _ = run("-D").await;
    let seen = match run("-A").await {
        Ok(_) => send().inspect_err(|error| debug!(%error, "fragments can't be tried")),
        Err(error) => {
            debug!(%error, "fragments can't be tried");
            return false;
        }
    };
    if let Err(error) = run("-D").await {
        debug!(%error, "the rules for the trial stay");
    }
    seen.unwrap_or(false)
}

/// Sends the fragment, and says whether it was dropped.
fn send() -> io::Result<bool> {
    let protocol = Some(ipproto::RAW);
    let socket = socket_with(
        AddressFamily::INET6,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        protocol,
    )?;
    let to = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 0, 0, 0);
    match sendto(&socket, &fragment(), SendFlags::DONTWAIT, &to) {
        Ok(_) => Ok(false),
        Err(Errno::PERM) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// The first fragment of a packet with no upper layer that is never completed (RFC 8200 §4.5).
fn fragment() -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 16, 44, 64];
    packet.extend(Ipv6Addr::LOCALHOST.octets());
    packet.extend(Ipv6Addr::LOCALHOST.octets());
    packet.extend([59, 0, 0, 1]);
    packet.extend(NUMBER.to_be_bytes());
    packet.extend([0; 8]);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_there_is_taken_away() {
        let put = edits("-A");
        assert!(
            put.starts_with("*raw\n-A OUTPUT ") && put.ends_with(" -j DROP\nCOMMIT\n"),
            "{put}"
        );
        assert_eq!(put.replace("-A OUTPUT", "-D OUTPUT"), edits("-D"));
    }

    #[test]
    fn the_fragment_is_as_long_as_it_says() {
        let fragment = fragment();
        assert_eq!(fragment.len(), 40 + usize::from(fragment[5]));
        assert_eq!(fragment[44..48], NUMBER.to_be_bytes());
    }
}
