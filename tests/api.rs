//! The API in process: the real agent, server and client, a kernel and a host that are
//! made up and can be told to fail, to hang and to forget.

#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests start real programs, and one that can't go on has failed"
)]

mod api {
    pub(crate) mod access;
    pub(crate) mod bad_input;
    pub(crate) mod changes;
    pub(crate) mod dashboard;
    pub(crate) mod diagnose;
    pub(crate) mod drift;
    pub(crate) mod explain;
    pub(crate) mod fake;
    pub(crate) mod metrics;
    pub(crate) mod pki;
    pub(crate) mod reads;
    pub(crate) mod serving;
    pub(crate) mod sgctl;
    pub(crate) mod syncs;
    pub(crate) mod together;
    pub(crate) mod watching;
    pub(crate) mod world;
}
