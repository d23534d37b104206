//! A way in for `fuzz/`: the API's messages as text.

use prost::Message;

/// A message as `sgctl --json` prints it.
pub fn json(message: &impl Message, name: &str) -> Option<String> {
    super::json::text(message, name).ok()
}
