//! What the fuzz targets do with an input. Each function here is a target (`targets/`); beyond not to
//! panic, what is accepted has to be what it says it is.

mod agent;
mod explain;
mod host;
mod kernel;
mod oracle;
mod parsers;
mod requests;
mod source;
mod words;

pub use explain::explain;
pub use parsers::{
    configuration, documents, drops, flows, interfaces, listings, store, transactions,
};
pub use requests::{raw_requests, requests};
