//! The API: thin handlers between the management server and the agent.
//!
//! [`convert`] parses each message once and completely, before anything is asked of
//! the agent; what it lets through are values of [`crate::model`]. `service` holds
//! the handlers, [`serve`] the listeners with health, reflection and limits. A client comes by way of
//! `listen` (where), `connection` with `tls` (who it is) and `gate` (whether it may). `watch` has the
//! streams that have no end of their own.
//!
//! A request is refused whole, and every fault of it is named by the path of its
//! field. In a sync the indices of a path count over all messages of the stream.

mod connection;
pub mod convert;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod health;
mod join;
mod listen;
mod page;
mod pieces;
mod server;
mod service;
mod status;
mod tls;
mod watch;

pub use listen::{ListenError, Listener};
pub use server::{ServeError, ServeOptions, serve};
pub use tls::{Tls, TlsError};
