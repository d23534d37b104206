//! Names of the host's interfaces, and patterns of such names.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::ValueError;

/// `IFNAMSIZ` less the closing NUL (include/uapi/linux/if.h).
const MAX: usize = 15;

/// The kernel's name of an interface: 1–15 characters of `A-Za-z0-9._+-`, more
/// narrow than what the kernel takes (net/core/dev.c `dev_valid_name`), so that a
/// name needs no quoting in any text that it gets into; no `+` at its end, where it would be a pattern
/// to iptables (ip6tables(8), `-i`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(Arc<str>);

impl IfName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-')
}

impl FromStr for IfName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() || text.len() > MAX {
            return Err(ValueError::new(format!(
                "{text:?} is no interface name: it must have 1 to {MAX} characters"
            )));
        }
        if text == "." || text == ".." || text == "-" {
            return Err(ValueError::new(format!("{text:?} is no interface name")));
        }
        if text.ends_with('+') {
            return Err(ValueError::new(format!(
                "{text:?} is no interface name here: with + at its end it is a pattern to iptables"
            )));
        }
        match text.chars().find(|c| !allowed(*c)) {
            Some(c) => Err(ValueError::new(format!(
                "{text:?} is no interface name: {c:?} is not allowed"
            ))),
            None => Ok(Self(text.into())),
        }
    }
}

impl TryFrom<String> for IfName {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl From<IfName> for String {
    fn from(name: IfName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An interface name, or the beginning of one with a closing `*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfPattern {
    stem: String,
    open: bool,
}

impl IfPattern {
    /// Whether a name is meant.
    pub fn matches(&self, name: &IfName) -> bool {
        if self.open {
            name.0.starts_with(self.stem.as_str())
        } else {
            *name.0 == *self.stem
        }
    }

    /// The name, where the pattern means exactly one.
    pub fn exact(&self) -> Option<&str> {
        (!self.open).then_some(self.stem.as_str())
    }
}

impl FromStr for IfPattern {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (stem, open) = match text.strip_suffix('*') {
            Some(stem) => (stem, true),
            None => (text, false),
        };
        let _: IfName = stem.parse().map_err(|_| {
            ValueError::new(format!(
                "{text:?} is no interface name, nor the beginning of one with a closing *"
            ))
        })?;
        if open && stem.len() >= MAX {
            return Err(ValueError::new(format!(
                "{text:?} has {MAX} characters and a *, which no longer name can have"
            )));
        }
        Ok(Self {
            stem: stem.to_owned(),
            open,
        })
    }
}

impl TryFrom<String> for IfPattern {
    type Error = ValueError;

    fn try_from(text: String) -> Result<Self, ValueError> {
        text.parse()
    }
}

impl From<IfPattern> for String {
    fn from(pattern: IfPattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for IfPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.stem, if self.open { "*" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_pass() {
        for good in ["vnet0", "vif7.0", "br-ex", "eth0.100", "a"] {
            assert!(good.parse::<IfName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "a b",
            "a\"b",
            "x/y",
            "a;b",
            "a*",
            "0123456789abcdef",
            "..",
            "a\n",
            "é",
        ] {
            assert!(bad.parse::<IfName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_pattern_is_a_name_or_a_beginning() {
        let pattern: IfPattern = "vnet*".parse().unwrap();
        assert!(pattern.matches(&"vnet12".parse().unwrap()));
        assert!(!pattern.matches(&"tap1".parse().unwrap()));
        let exact: IfPattern = "br0".parse().unwrap();
        assert!(exact.matches(&"br0".parse().unwrap()));
        assert!(!exact.matches(&"br01".parse().unwrap()));
        for bad in ["*", "v*n", "", "0123456789abcde*"] {
            assert!(bad.parse::<IfPattern>().is_err(), "{bad:?}");
        }
    }
}
