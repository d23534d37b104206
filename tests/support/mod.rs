//! The harness of the kernel tests: a host in a network namespace, guests that are taps, the
//! real agent, and frames made octet by octet.
//!
//! A test says which frame enters at which port and asks where it came out. Nothing here looks
//! at the ruleset; the one exception is [`coverage`], by which `make mutants` learns which tests
//! may notice that a rule is missing.

pub(crate) mod agent;
pub(crate) mod bridge_kind;
pub(crate) mod coverage;
pub(crate) mod exchange;
pub(crate) mod frag;
pub(crate) mod frames;
pub(crate) mod host;
pub(crate) mod namespace;
pub(crate) mod nd;
pub(crate) mod net;
pub(crate) mod packet;
pub(crate) mod plan;
pub(crate) mod tap;
pub(crate) mod want;
pub(crate) mod who;
