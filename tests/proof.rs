//! The policy read a second time: a naive oracle of what a guest may send and receive, and random
//! datagrams near the border of that, for whoever wants to be compared with it.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "tests start real programs, and one that cannot go on has failed"
)]

#[expect(dead_code, reason = "shared with tests that use more of it")]
#[path = "support"]
mod support {
    pub(crate) mod agent;
    pub(crate) mod bridge_kind;
    pub(crate) mod coverage;
    pub(crate) mod frag;
    pub(crate) mod namespace;
    pub(crate) mod nd;
    pub(crate) mod net;
    pub(crate) mod packet;
    pub(crate) mod plan;
    pub(crate) mod tap;
    pub(crate) mod want;
    pub(crate) mod who;
}

mod proof {
    mod agree;
    mod cut;
    pub(crate) mod frames;
    mod host_port;
    mod kernel;
    mod label;
    mod model;
    pub(crate) mod oracle;
    mod random;
    mod reach;
    mod reply;
}
