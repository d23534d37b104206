//! Frames out of a capture file, pcap or pcapng, as tcpdump writes them on an Ethernet
//! interface.

use std::{fs::File, io::BufReader, io::Read};

use pcap_file::{
    DataLink, PcapError,
    pcap::PcapReader,
    pcapng::{Block, PcapNgReader},
};

use super::Failure;

/// Reads every frame of a file.
pub(super) fn frames(file: &str) -> Result<Vec<Vec<u8>>, Failure> {
    let wrong = |why: String| Failure::File(format!("{file}: {why}"));
    let open = || File::open(file).map_err(|error| wrong(error.to_string()));
    let mut magic = Vec::new();
    let read = open()?.take(4).read_to_end(&mut magic);
    read.map_err(|error| wrong(error.to_string()))?;
    let reader = BufReader::new(open()?);
    // The type of pcapng's first block (draft-ietf-opsawg-pcapng §4.1).
    if magic == [0x0a, 0x0d, 0x0d, 0x0a] {
        pcapng(reader).map_err(wrong)
    } else {
        pcap(reader).map_err(wrong)
    }
}

fn pcap(reader: impl Read) -> Result<Vec<Vec<u8>>, String> {
    let no_capture = |error: PcapError| format!("is no capture file: {error}");
    let mut reader = PcapReader::new(reader).map_err(no_capture)?;
    ethernet(reader.header().datalink)?;
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.map_err(no_capture)?;
        whole(frames.len(), packet.data.len(), packet.orig_len)?;
        frames.push(packet.data.into_owned());
    }
    Ok(frames)
}

fn pcapng(reader: impl Read) -> Result<Vec<Vec<u8>>, String> {
    let no_capture = |error: PcapError| format!("is no capture file: {error}");
    let mut reader = PcapNgReader::new(reader).map_err(no_capture)?;
    let mut frames = Vec::new();
    while let Some(block) = reader.next_block() {
        match block.map_err(no_capture)? {
            Block::InterfaceDescription(interface) => ethernet(interface.linktype)?,
            Block::EnhancedPacket(packet) => {
                whole(frames.len(), packet.data.len(), packet.original_len)?;
                frames.push(packet.data.into_owned());
            }
            Block::SimplePacket(packet) => {
                whole(frames.len(), packet.data.len(), packet.original_len)?;
                frames.push(packet.data.into_owned());
            }
            Block::SectionHeader(_)
            | Block::Packet(_)
            | Block::NameResolution(_)
            | Block::InterfaceStatistics(_)
            | Block::SystemdJournalExport(_)
            | Block::Unknown(_) => {}
        }
    }
    Ok(frames)
}

fn ethernet(link: DataLink) -> Result<(), String> {
    if link == DataLink::ETHERNET {
        return Ok(());
    }
    Err(format!(
        "was captured with link type {link:?}; Ethernet frames are wanted, as \
         `tcpdump -i INTERFACE -w FILE` captures them at the NIC's own interface"
    ))
}

/// What a capture cut off can't be judged.
fn whole(number: usize, length: usize, original: u32) -> Result<(), String> {
    if u64::try_from(length).is_ok_and(|length| length >= u64::from(original)) {
        return Ok(());
    }
    Err(format!(
        "frame {number} had {original} octets, of which {length} were captured; capture with \
         `tcpdump -s 0`"
    ))
}
