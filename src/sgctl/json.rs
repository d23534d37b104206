//! The API's messages in proto3 JSON.

use prost::Message;
use prost_reflect::{DynamicMessage, SerializeOptions};

use super::{Failure, document::descriptors};

/// The message of this name, with all of its fields, for a program finds what it can
/// rely on.
pub(super) fn text(message: &impl Message, name: &str) -> Result<String, Failure> {
    let json = serde_json::ser::PrettyFormatter::new();
    write(message, name, json)
}

/// The same in one line, for one of many.
pub(super) fn line(message: &impl Message, name: &str) -> Result<String, Failure> {
    write(message, name, serde_json::ser::CompactFormatter)
}

fn write(
    message: &impl Message,
    name: &str,
    how: impl serde_json::ser::Formatter,
) -> Result<String, Failure> {
    let wrong = |why: String| Failure::File(format!("cannot show {name} as JSON: {why}"));
    let description = descriptors()
        .map_err(|error| wrong(error.to_string()))?
        .get_message_by_name(&format!("sgagent.v1.{name}"))
        .ok_or_else(|| wrong("it is not in the API".to_owned()))?;
    let message = DynamicMessage::decode(description, message.encode_to_vec().as_slice())
        .map_err(|error| wrong(error.to_string()))?;
    let mut json = serde_json::Serializer::with_formatter(Vec::new(), how);
    let options = SerializeOptions::new().skip_default_fields(false);
    message
        .serialize_with_options(&mut json, &options)
        .map_err(|error| wrong(error.to_string()))?;
    String::from_utf8(json.into_inner()).map_err(|error| wrong(error.to_string()))
}
