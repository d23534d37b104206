//! The question of `sgctl explain`.

use clap::{Args, ValueEnum};

use super::{Failure, capture};
use crate::pb;

/// What becomes of a packet, and why
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The NIC that sends it, or that it is delivered to
    nic: String,
    /// Which way; for frames by default: out what is from the NIC's MAC, in all else
    direction: Option<Way>,
    /// Which of the NIC's interfaces
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Ask about every frame of a capture (pcap or pcapng)
    #[arg(long, value_name = "FILE", group = "what")]
    pcap: Option<String>,
    /// Ask about an Ethernet frame in hexadecimal; fragments of a packet one by one
    #[arg(long, value_name = "HEX", group = "what")]
    frame: Vec<String>,
    #[command(flatten)]
    packet: Packet,
    /// What connection tracking knows of its flow
    #[arg(long, default_value = "new")]
    flow: Flow,
    /// Where it comes from, if it is delivered
    #[arg(long, default_value = "uplink")]
    from: From,
    /// Judge wrong checksums as such: not those of a capture on a guest's interface
    #[arg(long)]
    checksums: bool,
    /// Show each step
    #[arg(long)]
    trace: bool,
}

/// A packet by its fields.
#[derive(Debug, Args)]
struct Packet {
    /// tcp, udp, sctp, icmpv6 or a number
    #[arg(long, short, group = "what", default_value = "icmpv6")]
    protocol: String,
    /// From this address; by default one of the NIC's
    #[arg(long, short, value_name = "ADDRESS")]
    source: Option<String>,
    /// To this address; by default one of the NIC's
    #[arg(long, short, value_name = "ADDRESS")]
    destination: Option<String>,
    /// From this MAC
    #[arg(long, value_name = "MAC")]
    source_mac: Option<String>,
    /// To this MAC
    #[arg(long, value_name = "MAC")]
    destination_mac: Option<String>,
    /// To this port
    #[arg(long)]
    port: Option<u32>,
    /// From this port
    #[arg(long)]
    source_port: Option<u32>,
    /// The `ICMPv6` type; by default 128, an echo request
    #[arg(long = "type")]
    kind: Option<u32>,
    /// The `ICMPv6` code
    #[arg(long)]
    code: Option<u32>,
    /// Whom neighbour discovery is about (types 135 and 136)
    #[arg(long, value_name = "ADDRESS")]
    target: Option<String>,
    /// The hop limit
    #[arg(long)]
    hop_limit: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    /// Sent by the instance
    #[value(alias = "egress")]
    Out,
    /// Delivered to the instance
    #[value(alias = "ingress")]
    In,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Flow {
    /// Nothing: the packet begins one
    New,
    /// It was allowed to begin
    Established,
    /// The packet is an error about one that was
    Related,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum From {
    /// An uplink of the bridge
    Uplink,
    /// Another NIC of this host
    Nic,
    /// The host itself
    Host,
}

impl Explain {
    /// The request of these arguments.
    pub(super) fn request(self) -> Result<pb::ExplainRequest, Failure> {
        let Self {
            nic,
            direction,
            interface,
            pcap,
            frame,
            packet,
            flow,
            from,
            checksums,
            trace,
        } = self;
        let frames = match pcap {
            Some(file) => capture::frames(&file)?,
            None => frame
                .iter()
                .map(|hex| octets(hex))
                .collect::<Result<_, _>>()?,
        };
        let packet = frames.is_empty().then(|| packet.fields()).transpose()?;
        let direction = direction.map(|way| match way {
            Way::Out => pb::Direction::Egress.into(),
            Way::In => pb::Direction::Ingress.into(),
        });
        let flow_state = match flow {
            Flow::New => pb::FlowState::New,
            Flow::Established => pb::FlowState::Established,
            Flow::Related => pb::FlowState::Related,
        };
        let origin = match from {
            From::Uplink => pb::PacketOrigin::Uplink,
            From::Nic => pb::PacketOrigin::Nic,
            From::Host => pb::PacketOrigin::Host,
        };
        Ok(pb::ExplainRequest {
            nic_id: nic,
            interface: interface.unwrap_or_default(),
            direction,
            frames,
            packet,
            flow_state: Some(flow_state.into()),
            origin: Some(origin.into()),
            verify_checksums: checksums,
            trace,
        })
    }
}

impl Packet {
    fn fields(self) -> Result<pb::PacketFields, Failure> {
        let Self {
            protocol,
            source,
            destination,
            source_mac,
            destination_mac,
            port,
            source_port,
            kind,
            code,
            target,
            hop_limit,
        } = self;
        let (protocol, protocol_number) = named(&protocol)?;
        Ok(pb::PacketFields {
            source: source.unwrap_or_default(),
            destination: destination.unwrap_or_default(),
            source_mac: source_mac.unwrap_or_default(),
            destination_mac: destination_mac.unwrap_or_default(),
            protocol: protocol.into(),
            protocol_number,
            source_port,
            destination_port: port,
            icmpv6_type: kind,
            icmpv6_code: code,
            target: target.unwrap_or_default(),
            hop_limit,
        })
    }
}

fn named(protocol: &str) -> Result<(pb::Protocol, Option<u32>), Failure> {
    let named = match protocol {
        "tcp" => pb::Protocol::Tcp,
        "udp" => pb::Protocol::Udp,
        "sctp" => pb::Protocol::Sctp,
        "icmpv6" => pb::Protocol::Icmpv6,
        number => {
            let wrong = || {
                let text =
                    format!("--protocol {number}: tcp, udp, sctp, icmpv6 or a number is wanted");
                Failure::File(text)
            };
            let number = number.parse().map_err(|_| wrong())?;
            return Ok((pb::Protocol::Number, Some(number)));
        }
    };
    Ok((named, None))
}

fn octets(hex: &str) -> Result<Vec<u8>, Failure> {
    let digits: Vec<char> = hex
        .chars()
        .filter(|c| !matches!(c, ' ' | ':' | '-'))
        .collect();
    let wrong = || Failure::File(format!("--frame {hex}: octets in hexadecimal are wanted"));
    if !digits.len().is_multiple_of(2) || digits.is_empty() {
        return Err(wrong());
    }
    let octet = |pair: &[char]| {
        let text: String = pair.iter().collect();
        u8::from_str_radix(&text, 16).map_err(|_| wrong())
    };
    digits.chunks(2).map(octet).collect()
}
