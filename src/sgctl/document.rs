//! Files: the API's messages in YAML or JSON.
//!
//! The names of the fields are those of the proto3 JSON mapping or of the API's
//! definition, whichever the author prefers; enumerations go by name. A field that the
//! API does not have is refused, for a typing error must not mean "nothing given".

use std::sync::OnceLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};

use super::Failure;
use crate::pb;

/// Reads a file, or standard input where it is called `-`.
pub fn read(file: &str) -> Result<String, Failure> {
    let text = if file == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    text.map_err(|error| Failure::File(format!("{}: {error}", shown(file))))
}

/// The Apply in a text that came from `file`.
pub fn apply(file: &str, text: &str) -> Result<pb::ApplyRequest, Failure> {
    parse("sgagent.v1.ApplyRequest", file, text)
}

/// The Sync in a text that came from `file`. `complete` need not be in it.
pub fn sync(file: &str, text: &str) -> Result<pb::SyncRequest, Failure> {
    parse("sgagent.v1.SyncRequest", file, text)
}

/// The API's own description.
pub(super) fn descriptors() -> Result<DescriptorPool, prost_reflect::DescriptorError> {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    if let Some(pool) = POOL.get() {
        return Ok(pool.clone());
    }
    let pool = DescriptorPool::decode(pb::DESCRIPTORS)?;
    Ok(POOL.get_or_init(|| pool).clone())
}

fn parse<M: Message + Default>(name: &str, file: &str, text: &str) -> Result<M, Failure> {
    let wrong = |why: String| Failure::File(format!("{}: {why}", shown(file)));
    let description = descriptors()
        .map_err(|error| wrong(error.to_string()))?
        .get_message_by_name(name)
        .ok_or_else(|| wrong(format!("{name} is not in the API")))?;
    let misread = |error: serde_norway::Error| {
        let text = error.to_string();
        let Some(at) = error.location() else {
            return wrong(text);
        };
        let (line, column) = (at.line(), at.column());
        let place = format!(" at line {line} column {column}");
        let text = text.strip_suffix(&place).unwrap_or(&text);
        Failure::File(format!("{}:{line}:{column}: {text}", shown(file)))
    };
    // Alone for the keys that are given twice: the messages' own reader takes the last.
    serde_norway::from_str::<serde_norway::Value>(text).map_err(misread)?;
    let document = serde_norway::Deserializer::from_str(text);
    let message = DynamicMessage::deserialize(description, document).map_err(misread)?;
    message
        .transcode_to()
        .map_err(|error| wrong(error.to_string()))
}

fn shown(file: &str) -> &str {
    if file == "-" { "standard input" } else { file }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: &str = "
generation: 7
nics:
  - id: nic-1
    mac: 06:b2:00:00:04:79
    interfaces: [{name: vnet0}]
    slaacPrefix: 2001:db8:100:1::/64
    link_local: LINK_LOCAL_MODE_ANY_UNOWNED
    addresses:
      - {address: '2001:db8::1', shared: true}
groups:
  - id: 12
    rules:
      - direction: DIRECTION_INGRESS
        protocol: PROTOCOL_TCP
        ports: {first: 80, last: 80}
        remote: {anyone: true}
";

    fn refused(text: &str) -> String {
        apply("f.yaml", text).unwrap_err().to_string()
    }

    #[test]
    fn yaml_and_json_say_the_same() {
        let yaml = apply("f.yaml", YAML).unwrap();
        assert_eq!(yaml.generation, Some(7));
        assert_eq!(yaml.nics[0].slaac_prefix, "2001:db8:100:1::/64");
        assert_eq!(yaml.nics[0].mac, "06:b2:00:00:04:79");
        assert_eq!(yaml.nics[0].link_local(), pb::LinkLocalMode::AnyUnowned);
        assert_eq!(yaml.groups[0].id, "12");
        let json = super::super::json::text(&yaml, "ApplyRequest").unwrap();
        assert_eq!(apply("f.json", &json).unwrap(), yaml);
        assert_eq!(sync("f.json", "{}").unwrap(), pb::SyncRequest::default());
    }

    #[test]
    fn what_the_api_does_not_have_is_refused_with_line_and_field() {
        // The line is that of the object that the field is in.
        for (from, to, wanted) in [
            (
                "slaacPrefix",
                "slaacprefix",
                "f.yaml:4:5: nics[0]: unrecognized field name 'slaacprefix'",
            ),
            (
                "PROTOCOL_TCP",
                "TCP",
                "f.yaml:15:19: groups[0].rules[0].protocol: ",
            ),
            (
                "first: 80",
                "first: -1",
                "f.yaml:16:24: groups[0].rules[0].ports.first: ",
            ),
        ] {
            let error = refused(&YAML.replace(from, to));
            assert!(error.starts_with(wanted), "{error}");
        }
        for bad in ["nics: 7", "a: [", "[]", "nics: [{id: a, id: b}]"] {
            assert!(refused(bad).starts_with("f.yaml:"), "{bad}");
        }
    }
}
