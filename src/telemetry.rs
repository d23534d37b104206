//! The log: events for an operator, in the journal under systemd, else on stderr.
//!
//! Levels: ERROR, what was acknowledged may not be in force; WARN, someone should look; INFO, what
//! came into force. No address of a guest is above DEBUG.

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::LogFormat;

mod journal;

use journal::Journal;

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is wrong.
    #[error("configuration: log: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// There is a log already.
    #[error("the log can't be set up: {0}")]
    Setup(#[from] tracing_subscriber::util::TryInitError),
}

/// Sets up the log of the process.
pub fn start(filter: &str, format: LogFormat) -> Result<(), LogError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let builder = tracing_subscriber::fmt()
        .with_target(false)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Auto if !libsystemd::logging::connected_to_journal() => {
            builder.with_env_filter(filter).finish().try_init()?;
        }
        LogFormat::Auto | LogFormat::Journald => {
            let log = tracing_subscriber::registry().with(filter);
            log.with(Journal).try_init()?;
        }
        LogFormat::Text => builder.with_env_filter(filter).finish().try_init()?,
        LogFormat::Json => builder.json().with_env_filter(filter).finish().try_init()?,
    }
    Ok(())
}
