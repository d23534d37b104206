//! What guests may send and receive, row by row of the packet policy, judged by what arrives.
//!
//! `SGAGENT_TEST_PLACEMENT` names the placement (default `br_netfilter`), `SGAGENT_TEST_LONG`
//! makes the two floods of G15 last the 90 s of the specification instead of 20 s, and
//! `SGAGENT_TEST_VM` says that this machine is emulated and slow (tests/vm). Two more are for
//! `make mutants` (support/coverage.rs).
//!
//! These tests need root (or `unshare --user --map-root-user --net --mount`), `/dev/net/tun`,
//! `ip`, `bridge` and `nft`. A capability that is missing fails them.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests start real programs, in real time"
)]

mod support;

mod traffic {
    mod adoption;
    mod advertisement;
    mod any_link_local;
    mod between;
    mod closed;
    mod counters;
    mod delivery;
    mod dhcp;
    mod diagnose;
    mod discovery;
    mod drift;
    mod ethernet;
    mod floods;
    mod flows;
    mod from_host;
    mod groups;
    mod headers;
    mod icmp;
    mod interfaces;
    mod judges_incus;
    mod judges_neutron;
    mod judges_neutron_ipv6;
    mod judges_neutron_rules;
    mod link_local_mac;
    mod listeners;
    mod live;
    mod misbehaving;
    mod others;
    mod padding;
    mod permissions;
    mod placement;
    mod reassembly;
    mod revocation;
    mod routed;
    mod rules;
    mod snooping;
    mod sources;
    mod tracking;
    mod verdicts;
    mod watching;
}
