//! The operator's client: what `sgctl` does, apart from its arguments and its exit.
//!
//! It speaks the API and nothing else, so that whatever it does any other client can do
//! too. People get tables, programs get the API's messages in proto3 JSON.
//!
//! Exit codes:
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | the agent refused; the code and each fault are on standard error |
//! | 2 | the arguments or the file are wrong; nothing was sent |
//! | 3 | the agent can't be reached |
//! | 4 | `status --check`: the agent is not healthy, or NICs are quarantined; `diagnose`: something is wrong; `wait`: not in force in time; `adopt`: ports would be closed |

mod capture;
mod change;
pub mod client;
pub mod command;
mod cut;
pub mod document;
mod explain;
mod failure;
mod follow;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod json;
mod render;
mod table;
mod tls;
mod top;
mod wait;

pub use failure::Failure;
