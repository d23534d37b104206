//! The policy read a second time: a naive oracle of what a guest may send and receive, and random
//! datagrams near the border of that, for whoever wants to be compared with it.
#![expect(clippy::unwrap_used, reason = "tests of plain code")]

#[expect(dead_code, reason = "shared with tests that use more of it")]
#[path = "support"]
mod support {
    pub(crate) mod frag;
    pub(crate) mod nd;
    pub(crate) mod packet;
    pub(crate) mod want;
    pub(crate) mod who;
}

mod proof {
    pub(crate) mod frames;
    pub(crate) mod oracle;
    mod reach;
}
