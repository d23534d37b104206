//! A way in for `fuzz/`: the text of a configuration file.

use std::path::Path;

use super::{Config, ConfigError};

/// The configuration in a text.
pub fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("sgagent.toml"), text, toml::Table::new())
}
