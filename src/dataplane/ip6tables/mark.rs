//! The mark of a guest's frame, from the bridge to where its groups have judged it: 0x60…… and the
//! NIC's number in the low 24 bits, with what is known of the frame in the bits between. Every frame
//! that has one of these tags is on its way; where it leaves the bridge it must have lost it. None
//! is one of nftables' ([`crate::ruleset::name::SENT`], [`NFTABLES`] here): where a host goes from one
//! to the other, both are in force for a moment, and who has marked a frame last judges it.

/// What all of them have in common.
pub(super) const BASE: u32 = 0x6000_0000;

/// From a virtual MAC.
pub(super) const VIRTUAL: u32 = 0x0100_0000;

/// No group judges it (S4).
pub(super) const EXEMPT: u32 = 0x0200_0000;

/// The guard has let it pass.
pub(super) const GUARDED: u32 = 0x0400_0000;

/// Matches every one of them.
pub(super) const ANY: &str = "0x60000000/0xf8000000";

/// Matches what the guard has let pass, and what of it no group judges.
pub(super) const PASSED: &str = "0x64000000/0xfc000000";
pub(super) const UNJUDGED: &str = "0x66000000/0xfe000000";

/// Matches what is from the NIC's own MAC, and from one of its virtual ones.
pub(super) const OWN_MAC: &str = "0x0/0x1000000";
pub(super) const VIRTUAL_MAC: &str = "0x1000000/0x1000000";

/// On a frame from the bridge's forwarding to where the groups of its receiver judge it.
pub(super) const FORWARDED: &str = "0x68000000/0xff000000";

/// On what may be delivered, from there to where it leaves the bridge.
pub(super) const DELIVERABLE: &str = "0x69000000/0xff000000";
pub(super) const DELIVER: &str = "0x69000000/0xffffffff";

/// The other dataplane's, of what a NIC sends.
pub(super) const NFTABLES: &str = "0x5e000000/0xfe000000";
