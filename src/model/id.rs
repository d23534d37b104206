//! Names that the management server chooses. Ids are cheap to clone: they are the keys of
//! many maps.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::ValueError;

const MAX_ID: usize = 128;
const MAX_LABEL: usize = 255;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ValueError;

            fn from_str(text: &str) -> Result<Self, ValueError> {
                check_id(text).map(|()| Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = ValueError;

            fn try_from(text: String) -> Result<Self, ValueError> {
                check_id(&text).map(|()| Self(text.into()))
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id_type! {
    /// A NIC's id: 1–128 printable ASCII characters without spaces.
    NicId
}
id_type! {
    /// A security group's id: 1–128 printable ASCII characters without spaces.
    GroupId
}

fn check_id(text: &str) -> Result<(), ValueError> {
    if text.is_empty() {
        return Err(ValueError::new("must not be empty"));
    }
    if text.len() > MAX_ID {
        return Err(ValueError::new(format!(
            "has {} characters, at most {MAX_ID} are allowed",
            text.chars().count()
        )));
    }
    match text.chars().find(|c| !c.is_ascii_graphic()) {
        Some(c) => Err(ValueError::new(format!(
            "has the character {c:?}; only printable ASCII without spaces is allowed"
        ))),
        None => Ok(()),
    }
}

/// A text for people: at most 255 characters, no control characters. May be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Label {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        let length = text.chars().count();
        if length > MAX_LABEL {
            return Err(ValueError::new(format!(
                "has {length} characters, at most {MAX_LABEL} are allowed"
            )));
        }
        match text.chars().find(|c| c.is_control()) {
            Some(c) => Err(ValueError::new(format!("has the control character {c:?}"))),
            None => Ok(Self(text)),
        }
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_printable_and_not_empty() {
        assert!("nic-1".parse::<NicId>().is_ok());
        for bad in ["", "a b", "a\n", "é", &"x".repeat(129)] {
            assert!(bad.parse::<NicId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn labels_refuse_control_characters_and_great_length() {
        assert!(Label::try_from(String::new()).is_ok());
        assert!(Label::try_from("Müller's VM".to_owned()).is_ok());
        assert!(Label::try_from("a\u{7}".to_owned()).is_err());
        assert!(Label::try_from("x".repeat(10_000)).is_err());
    }
}
