//! Faults: whatever happens to the agent, nothing opens, nothing that is permitted is lost, and
//! nothing that was acknowledged is forgotten. All of it while packets flow, 5,000 a second at least.
//!
//!     make faults
//!     tests/run.sh cargo test --offline --features failpoints --test faults
//!
//! How much is done comes from the environment: `SGAGENT_FAULTS_KILLS` (20; the proof has 200) and
//! `SGAGENT_FAULTS_APPLIES` (50; the proof has 1,000, of re-applies and of random changes each).
//! `SGAGENT_FAULTS_SEED` is what is random (1).
//!
//! Each test prints lines of this form on its standard output (`--nocapture` shows them), one for
//! each traffic that it had flowing, for a script to add up:
//!
//!     faults: NAME: N faults injected, N packets sent, N forbidden passed, N permitted lost
//!
//! and how fast the packets were, which is asserted too: `rate of NAME: N packets a second`. Both
//! come before anything is asserted of them.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::similar_names,
    clippy::too_many_lines,
    reason = "tests start real programs, in real time, and tell what they did"
)]

#[expect(dead_code, reason = "the other tests of the kernel need more of it")]
mod support;

mod faults {
    mod applies;
    mod clock;
    mod disk;
    mod fixture;
    mod floods;
    mod kills;
    mod nft;
    mod orphan;
    mod overrun;
    mod places;
    mod probe;
    mod random;
    mod served;
    mod store;
    mod switch;
    mod traffic;
    mod wanted;
    mod wire;
}
