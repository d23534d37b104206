//! Who may call what: pure decisions about names that others have proven.
//!
//! Whoever calls is known by what can't be chosen by it: on the unix socket the user that the
//! kernel names, over TCP the names in a certificate that the configured authority has signed.
//! A list of the configuration gives each a [`Role`]; who is not in it may call nothing.

use std::{collections::BTreeSet, fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// What a client may do. The greater includes the lesser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Read; change nothing.
    Inspect,
    /// Read, and change what the agent enforces.
    Push,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inspect => "inspect",
            Self::Push => "push",
        })
    }
}

/// A client that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "ClientEntry", into = "ClientEntry")]
pub struct Client {
    /// Who.
    pub who: Who,
    /// What it may do.
    pub role: Role,
}

/// By what a client is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A DNS name or a URI in the certificate's subject alternative names. `*.` stands for one
    /// label of a DNS name.
    San(String),
    /// A user of this host, by name or number.
    User(String),
    /// The users of a group of this host, by its name or number.
    Group(String),
}

/// As the configuration writes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientEntry {
    #[serde(skip_serializing_if = "Option::is_none")]
    san: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    role: Role,
}

impl TryFrom<ClientEntry> for Client {
    type Error = &'static str;

    fn try_from(entry: ClientEntry) -> Result<Self, Self::Error> {
        let ClientEntry {
            san,
            user,
            group,
            role,
        } = entry;
        let who = match (san, user, group) {
            (Some(san), None, None) => Who::San(san),
            (None, Some(user), None) => Who::User(user),
            (None, None, Some(group)) => Who::Group(group),
            _ => return Err("a client has exactly one of `san`, `user` and `group`"),
        };
        let (Who::San(name) | Who::User(name) | Who::Group(name)) = &who;
        if name.is_empty() {
            return Err("a client's name must not be empty");
        }
        if matches!(&who, Who::San(name) if !is_san_pattern(name)) {
            return Err("`san` is a DNS name, `*.` and a DNS name, or a URI");
        }
        Ok(Self { who, role })
    }
}

impl From<Client> for ClientEntry {
    fn from(client: Client) -> Self {
        let Client { who, role } = client;
        let mut entry = Self {
            san: None,
            user: None,
            group: None,
            role,
        };
        match who {
            Who::San(name) => entry.san = Some(name),
            Who::User(name) => entry.user = Some(name),
            Who::Group(name) => entry.group = Some(name),
        }
        entry
    }
}

fn is_san_pattern(name: &str) -> bool {
    let dns = name.strip_prefix("*.").unwrap_or(name);
    name.contains("://") || (!dns.contains(['*', ' ', '/']) && dns.contains(|c| c != '.'))
}

/// Where certificates and keys are, in PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsFiles {
    /// The agent's certificate, and those that lead to its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities that sign clients' certificates.
    pub client_ca: PathBuf,
    /// What these have revoked (RFC 5280 §5). One of a list that has run out is still believed: it
    /// is better than none.
    pub client_crls: Vec<PathBuf>,
}

impl TlsFiles {
    /// The key of the configuration that is missing, if any is.
    pub fn missing(&self) -> Option<&'static str> {
        let keys = [
            ("certificate", &self.certificate),
            ("key", &self.key),
            ("client_ca", &self.client_ca),
        ];
        let empty = keys.iter().find(|(_, path)| path.as_os_str().is_empty());
        empty.map(|(key, _)| *key)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &PathBuf> {
        let Self {
            certificate,
            key,
            client_ca,
            client_crls,
        } = self;
        [certificate, key, client_ca].into_iter().chain(client_crls)
    }
}

/// Who calls, as far as it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// By the unix socket.
    Local {
        /// The user's number.
        uid: u32,
        /// The user's name, if it has one.
        user: Option<String>,
        /// Those of [`Access::groups`] that the user is in.
        groups: BTreeSet<String>,
    },
    /// By TCP: the DNS names and URIs of its certificate.
    Certified(BTreeSet<String>),
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local {
                user: Some(user), ..
            } => write!(f, "user {user}"),
            Self::Local { uid, .. } => write!(f, "user {uid}"),
            Self::Certified(names) if names.is_empty() => {
                f.write_str("a certificate without names")
            }
            Self::Certified(names) => {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                f.write_str(&names.join(", "))
            }
        }
    }
}

/// Who may do what on this host.
#[derive(Debug, Clone, Default)]
pub struct Access {
    clients: Vec<Client>,
    /// Besides root: the daemon's own user.
    own_uid: u32,
}

impl Access {
    /// By a list. Root and the user that the daemon runs as may do everything.
    pub fn new(clients: Vec<Client>, own_uid: u32) -> Self {
        Self { clients, own_uid }
    }

    /// The groups of this host that matter.
    pub fn groups(&self) -> BTreeSet<&str> {
        let groups = self.clients.iter().filter_map(|client| match &client.who {
            Who::Group(name) => Some(name.as_str()),
            Who::San(_) | Who::User(_) => None,
        });
        groups.collect()
    }

    /// What the caller may do; nothing for who is in no entry. Of several entries the greatest
    /// role holds.
    pub fn role(&self, caller: &Caller) -> Option<Role> {
        if let Caller::Local { uid, .. } = caller
            && (*uid == 0 || *uid == self.own_uid)
        {
            return Some(Role::Push);
        }
        let named = self.clients.iter().filter(|client| client.is(caller));
        named.map(|client| client.role).max()
    }
}

impl Client {
    fn is(&self, caller: &Caller) -> bool {
        match (&self.who, caller) {
            (Who::San(pattern), Caller::Certified(names)) => {
                names.iter().any(|name| matches(pattern, name))
            }
            (Who::User(wanted), Caller::Local { uid, user, .. }) => {
                user.as_ref() == Some(wanted) || *wanted == uid.to_string()
            }
            (Who::Group(wanted), Caller::Local { groups, .. }) => groups.contains(wanted),
            (Who::San(_), Caller::Local { .. })
            | (Who::User(_) | Who::Group(_), Caller::Certified(_)) => false,
        }
    }
}

/// Whether a pattern of the configuration is about a name of a certificate. DNS names are the same
/// in capitals (RFC 4343), URIs are not.
fn matches(pattern: &str, name: &str) -> bool {
    if pattern.contains("://") || name.contains("://") {
        return pattern == name;
    }
    let same = |one: &str, other: &str| one.eq_ignore_ascii_case(other);
    match (pattern.strip_prefix("*."), name.split_once('.')) {
        (Some(domain), Some((label, rest))) => !label.is_empty() && same(domain, rest),
        (Some(_), None) => false,
        (None, _) => same(pattern, name),
    }
}

/// What keeps one client from taking all there is. TCP and the unix socket are counted apart, so
/// that an operator on the host always gets in.
#[derive(Debug, Clone, Copy)]
pub struct Crowding {
    /// Connections at any time.
    pub connections: usize,
    /// Those of one client: of a user, or of the names in a certificate.
    pub connections_per_client: usize,
    /// Calls of one connection at any time; more wait.
    pub requests_per_connection: u32,
    /// How long a call may take until its answer begins, a slowly sent request included.
    pub request: Duration,
}

impl Default for Crowding {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_per_client: 64,
            requests_per_connection: 64,
            request: Duration::from_secs(300),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(text: &str) -> Access {
        #[derive(Deserialize)]
        struct File {
            clients: Vec<Client>,
        }
        let file: File = toml::from_str(text).unwrap();
        Access::new(file.clients, 990)
    }

    fn certified(names: &[&str]) -> Caller {
        Caller::Certified(names.iter().map(ToString::to_string).collect())
    }

    fn local(uid: u32, user: &str, groups: &[&str]) -> Caller {
        Caller::Local {
            uid,
            user: Some(user.to_owned()),
            groups: groups.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn who_is_not_named_may_do_nothing() {
        let nobody = access("clients = []");
        for caller in [
            certified(&["mgmt.example"]),
            certified(&[]),
            local(1000, "ada", &[]),
        ] {
            assert_eq!(nobody.role(&caller), None, "{caller}");
        }
        assert_eq!(nobody.role(&local(0, "root", &[])), Some(Role::Push));
        assert_eq!(nobody.role(&local(990, "sgagent", &[])), Some(Role::Push));
    }

    #[test]
    fn names_give_roles_and_the_greatest_counts() {
        let some = access(
            "clients = [
                { san = 'Mgmt.example', role = 'push' },
                { san = '*.ops.example', role = 'inspect' },
                { san = 'spiffe://cloud/agent', role = 'inspect' },
                { group = 'ops', role = 'inspect' },
                { user = 'ada', role = 'push' },
                { user = '1001', role = 'inspect' },
            ]",
        );
        for (caller, role) in [
            (certified(&["mgmt.example"]), Some(Role::Push)),
            (certified(&["a.ops.example"]), Some(Role::Inspect)),
            (certified(&["a.b.ops.example"]), None),
            (certified(&["ops.example"]), None),
            (certified(&[".ops.example"]), None),
            (certified(&["*.ops.example"]), Some(Role::Inspect)),
            (certified(&["spiffe://cloud/agent"]), Some(Role::Inspect)),
            (certified(&["spiffe://cloud/Agent"]), None),
            (
                certified(&["a.ops.example", "mgmt.example"]),
                Some(Role::Push),
            ),
            (certified(&["ada"]), None),
            (local(5, "ada", &["ops"]), Some(Role::Push)),
            (local(5, "eve", &["ops"]), Some(Role::Inspect)),
            (local(1001, "bob", &[]), Some(Role::Inspect)),
            (local(5, "mgmt.example", &[]), None),
        ] {
            assert_eq!(some.role(&caller), role, "{caller}");
        }
    }

    #[test]
    fn an_entry_that_means_nothing_is_refused() {
        for text in [
            "role = 'push'",
            "san = 'a'\nuser = 'b'\nrole = 'push'",
            "san = ''\nrole = 'push'",
            "san = '*'\nrole = 'push'",
            "san = 'a.*.b'\nrole = 'push'",
            "san = '*.'\nrole = 'push'",
            "san = 'a'\nrole = 'admin'",
            "san = 'a'",
            "name = 'a'\nrole = 'push'",
        ] {
            assert!(toml::from_str::<Client>(text).is_err(), "{text}");
        }
    }
}
