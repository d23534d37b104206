//! The daemon's command line.

use std::{
    net::{Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, Parser, Subcommand};

use crate::{
    access::{Client, TlsFiles},
    config::{Config, ConfigError, Kind, LogFormat, Placement},
    model::{BridgeConfig, IfPattern},
};

/// Makes IPv6 safe for the instances on this host.
#[derive(Debug, Parser)]
#[command(name = "sgagent", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API and enforce what is pushed, until SIGTERM. The rules stay.
    Run(Options),
    /// Put what was acknowledged in force and end, serving nobody: for the boot, before there is a
    /// network or a guest. If it can't be read, guests' ports are closed.
    Restore(Options),
    /// Remove all that is ours from the kernel and restore the host's settings. Guests are
    /// unprotected afterwards. What was acknowledged stays on disk.
    Purge(Options),
    /// Print the ruleset of a desired-state file, without a look at the kernel. Every
    /// interface that a NIC names is taken to exist.
    Compile {
        /// A `SyncRequest` in YAML or JSON; `-` is stdin.
        file: PathBuf,
        /// Bridges and limits.
        #[command(flatten)]
        options: Options,
    },
}

/// The configuration file, and flags that win over it.
#[derive(Debug, Args)]
pub struct Options {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The unix socket to listen on.
    #[arg(long, value_name = "PATH")]
    unix_socket: Option<PathBuf>,
    /// A TCP address to listen on besides, with mutual TLS. May be repeated.
    #[arg(long, value_name = "ADDRESS:PORT")]
    tcp_listen: Vec<SocketAddr>,
    /// The files for that: `certificate=FILE,key=FILE,client-ca=FILE[,client-crl=FILE]`, the last
    /// as often as needed.
    #[arg(long, value_name = "KEY=FILE,..", value_parser = tls)]
    tls: Option<TlsFiles>,
    /// Who may call besides root: `san=NAME,role=push`, or `user=` or `group=` and `role=inspect`.
    /// May be repeated.
    #[arg(long, value_name = "KEY=VALUE,..", value_parser = client)]
    client: Vec<Client>,
    /// A TCP address where a Prometheus may scrape /metrics, without a question who it is. May be
    /// repeated.
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics_listen: Vec<SocketAddr>,
    /// Where what was acknowledged is kept.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// What programs the kernel.
    #[arg(long, value_enum)]
    dataplane: Option<Kind>,
    /// Where the stateful stage runs.
    #[arg(long, value_enum)]
    placement: Option<Placement>,
    /// The nft program.
    #[arg(long, value_name = "PROGRAM")]
    nft: Option<String>,
    /// What the names of ip6tables-restore and ip6tables-save begin with.
    #[arg(long, value_name = "PROGRAM")]
    ip6tables: Option<String>,
    /// The same of ebtables-restore and ebtables-save, and the program itself.
    #[arg(long, value_name = "PROGRAM")]
    ebtables: Option<String>,
    /// The ipset program.
    #[arg(long, value_name = "PROGRAM")]
    ipset: Option<String>,
    /// What to log: error, warn, info, debug.
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// How log lines look.
    #[arg(long, value_enum)]
    log_format: Option<LogFormat>,
    /// A name, or the beginning of one with a closing *, of interfaces that look like a
    /// guest's. May be repeated.
    #[arg(long, value_name = "PATTERN")]
    guest_interface: Vec<IfPattern>,
    /// The socket of Xen's store; `auto`, where a host of Xen has it, or `none`.
    #[arg(long, value_name = "PATH")]
    xenstore: Option<String>,
    /// A managed bridge: `name=br0`, and behind commas `uplink=eth0`, `router=fe80::1`,
    /// `dhcpv6-server=fe80::1`, each as often as needed, and `adopted=true`. May be repeated.
    #[arg(long, value_name = "KEY=VALUE,..", value_parser = bridge)]
    bridge: Vec<BridgeConfig>,
    /// One of the keys of [limits]. May be repeated.
    #[arg(long, value_name = "KEY=NUMBER", value_parser = limit)]
    limit: Vec<(String, i64)>,
}

impl Options {
    /// The configuration that file and flags make.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let flags = self
            .table()
            .map_err(|error| ConfigError::Key(error.to_string()))?;
        Config::load(self.config.as_ref(), flags)
    }

    fn table(&self) -> Result<toml::Table, toml::ser::Error> {
        let Self {
            config: _,
            unix_socket,
            tcp_listen,
            tls,
            client,
            metrics_listen,
            state_dir,
            dataplane,
            placement,
            nft,
            ip6tables,
            ebtables,
            ipset,
            log,
            log_format,
            guest_interface,
            xenstore,
            bridge,
            limit,
        } = self;
        let mut table = toml::Table::new();
        put(&mut table, "unix_socket", unix_socket.as_ref())?;
        put(&mut table, "tcp_listen", some(tcp_listen))?;
        put(&mut table, "tls", tls.as_ref())?;
        put(&mut table, "clients", some(client))?;
        put(&mut table, "metrics_listen", some(metrics_listen))?;
        put(&mut table, "state_dir", state_dir.as_ref())?;
        put(&mut table, "dataplane", dataplane.as_ref())?;
        put(&mut table, "placement", placement.as_ref())?;
        put(&mut table, "nft", nft.as_ref())?;
        put(&mut table, "ip6tables", ip6tables.as_ref())?;
        put(&mut table, "ebtables", ebtables.as_ref())?;
        put(&mut table, "ipset", ipset.as_ref())?;
        put(&mut table, "log", log.as_ref())?;
        put(&mut table, "log_format", log_format.as_ref())?;
        put(&mut table, "guest_interfaces", some(guest_interface))?;
        put(&mut table, "xenstore", xenstore.as_ref())?;
        put(&mut table, "bridges", some(bridge))?;
        let limits: toml::Table = limit
            .iter()
            .map(|(key, value)| (key.clone(), (*value).into()))
            .collect();
        if !limits.is_empty() {
            table.insert("limits".to_owned(), limits.into());
        }
        Ok(table)
    }
}

fn some<T>(list: &Vec<T>) -> Option<&Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn put<T: serde::Serialize>(
    table: &mut toml::Table,
    key: &str,
    value: Option<&T>,
) -> Result<(), toml::ser::Error> {
    if let Some(value) = value {
        table.insert(key.to_owned(), toml::Value::try_from(value)?);
    }
    Ok(())
}

fn bridge(text: &str) -> Result<BridgeConfig, String> {
    let mut name = None;
    let (mut uplinks, mut routers, mut dhcpv6_servers) = (Vec::new(), Vec::new(), Vec::new());
    let mut adopted = false;
    for word in text.split(',') {
        let (key, value) = key_value(word)?;
        let pattern = || {
            value
                .parse::<IfPattern>()
                .map_err(|error| error.to_string())
        };
        let address = || {
            value
                .parse::<Ipv6Addr>()
                .map_err(|_| format!("{value:?} is no IPv6 address"))
        };
        match key {
            "name" => name = Some(pattern()?),
            "uplink" => uplinks.push(pattern()?),
            "router" => routers.push(address()?),
            "dhcpv6-server" => dhcpv6_servers.push(address()?),
            "adopted" => {
                adopted = value
                    .parse()
                    .map_err(|_| format!("{value:?} is neither true nor false"))?;
            }
            _ => {
                return Err(format!(
                    "{key:?} is none of name, uplink, router, dhcpv6-server, adopted"
                ));
            }
        }
    }
    let name = name.ok_or("the name is missing")?;
    Ok(BridgeConfig {
        name,
        uplinks,
        routers,
        dhcpv6_servers,
        adopted,
    })
}

fn tls(text: &str) -> Result<TlsFiles, String> {
    let mut files = TlsFiles::default();
    for word in text.split(',') {
        let (key, file) = key_value(word)?;
        match key {
            "certificate" => files.certificate = file.into(),
            "key" => files.key = file.into(),
            "client-ca" => files.client_ca = file.into(),
            "client-crl" => files.client_crls.push(file.into()),
            _ => {
                return Err(format!(
                    "{key:?} is none of certificate, key, client-ca, client-crl"
                ));
            }
        }
    }
    match files.missing() {
        Some(key) => Err(format!("the {} is missing", key.replace('_', "-"))),
        None => Ok(files),
    }
}

fn client(text: &str) -> Result<Client, String> {
    let mut entry = toml::Table::new();
    for word in text.split(',') {
        let (key, value) = key_value(word)?;
        entry.insert(key.to_owned(), value.into());
    }
    let client: Result<Client, _> = entry.try_into();
    client.map_err(|error: toml::de::Error| error.message().to_owned())
}

fn key_value(word: &str) -> Result<(&str, &str), String> {
    word.split_once('=')
        .ok_or(format!("{word:?} is not KEY=VALUE"))
}

fn limit(text: &str) -> Result<(String, i64), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or(format!("{text:?} is not KEY=NUMBER"))?;
    let value = value
        .parse()
        .map_err(|_| format!("{value:?} is no number"))?;
    Ok((key.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(args: &[&str]) -> Options {
        let words = ["sgagent", "run"].into_iter().chain(args.iter().copied());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Run(options) => options,
            other @ (Command::Restore(_) | Command::Purge(_) | Command::Compile { .. }) => {
                panic!("{other:?}")
            }
        }
    }

    #[test]
    fn every_key_of_the_file_is_a_flag() {
        let set = options(&[
            "--unix-socket=/x/s",
            "--tcp-listen=[::1]:1",
            "--tls=certificate=/c,key=/k,client-ca=/a,client-crl=/r,client-crl=/s",
            "--client=san=mgmt.example,role=push",
            "--client=group=ops,role=inspect",
            "--metrics-listen=[::1]:2",
            "--state-dir=/x",
            "--dataplane=auto",
            "--placement=auto",
            "--nft=n",
            "--ip6tables=i",
            "--ebtables=e",
            "--ipset=s",
            "--log=debug",
            "--log-format=json",
            "--guest-interface=g*",
            "--xenstore=/x/x",
            "--bridge=name=br0,uplink=eth0,router=fe80::1,dhcpv6-server=fe80::2",
            "--limit=nics=7",
        ]);
        let flags = set.table().unwrap();
        let keys = toml::Table::try_from(Config::default()).unwrap();
        for key in keys.keys() {
            assert!(flags.contains_key(key), "{key}");
        }
        let config = set.load().unwrap();
        assert_eq!(config.limits.nics, 7);
        assert_eq!(config.bridges[0].name.to_string(), "br0");
        assert_eq!(config.bridges[0].routers.len(), 1);
        assert_eq!(config.tls.client_crls.len(), 2);
        assert_eq!(config.clients.len(), 2);
    }

    #[test]
    fn a_flag_that_makes_no_sense_is_refused() {
        for flag in [
            "--bridge=uplink=eth0",
            "--bridge=name=br0,x=y",
            "--limit=nics",
            "--tls=certificate=/c,key=/k",
            "--tls=ca=/c",
            "--client=user=ada",
            "--client=user=ada,san=b,role=push",
        ] {
            assert!(
                Cli::try_parse_from(["sgagent", "run", flag]).is_err(),
                "{flag}"
            );
        }
        let error = options(&["--limit=nicks=1"])
            .load()
            .unwrap_err()
            .to_string();
        assert!(error.contains("nicks"), "{error}");
    }
}
