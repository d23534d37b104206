//! The commands.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::{
    Failure,
    client::{Client, Target},
    explain::Explain,
    json, render,
    tls::Credentials,
};
use crate::pb;

/// Where the packaged agent listens.
const SOCKET: &str = "/run/sgagent/sgagent.sock";

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  the agent refused; the code and each fault are on standard error
  2  the arguments or the file are wrong; nothing was sent
  3  the agent can't be reached
  4  status --check: the agent is not healthy, or NICs are quarantined;
     diagnose: something is wrong; wait: what was waited for is not in force;
     adopt: ports would be closed";

/// Talks to the sgagent of a hypervisor host.
#[derive(Debug, Parser)]
#[command(name = "sgctl", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Global {
    /// The agent's unix socket
    #[arg(long, global = true, value_name = "PATH", env = "SGAGENT_SOCKET", default_value = SOCKET)]
    socket: PathBuf,
    /// The agent's TCP port, instead of the socket; with --cacert, --cert and --key
    #[arg(long, global = true, value_name = "HOST:PORT")]
    address: Option<String>,
    /// The authority that has signed the agent's certificate, in PEM
    #[arg(long, global = true, value_name = "FILE", env = "SGAGENT_CACERT")]
    cacert: Option<PathBuf>,
    /// The certificate to show, in PEM
    #[arg(long, global = true, value_name = "FILE", env = "SGAGENT_CERT")]
    cert: Option<PathBuf>,
    /// Its key
    #[arg(long, global = true, value_name = "FILE", env = "SGAGENT_KEY")]
    key: Option<PathBuf>,
    /// Print the API's messages in proto3 JSON
    #[arg(long, global = true)]
    json: bool,
    /// Whether tables are coloured
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Color,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Global {
    fn target(self) -> Result<Target, Failure> {
        match (self.address, self.cacert, self.cert, self.key) {
            (Some(address), Some(cacert), Some(cert), Some(key)) => {
                let credentials = Credentials { cacert, cert, key };
                Ok(Target::Address(address, credentials))
            }
            (Some(_), ..) => {
                let text = "--address needs --cacert, --cert and --key";
                Err(Failure::File(text.to_owned()))
            }
            (None, ..) => Ok(Target::Socket(self.socket)),
        }
    }
}

/// The states of NICs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum State {
    Active,
    Pending,
    Quarantined,
}

impl State {
    fn of_api(self) -> pb::NicState {
        match self {
            Self::Active => pb::NicState::Active,
            Self::Pending => pb::NicState::Pending,
            Self::Quarantined => pb::NicState::Quarantined,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Change NICs, groups and members by the request in FILE, YAML or JSON
    Apply {
        /// The file, or - for standard input
        file: String,
    },
    /// Replace everything by the request in FILE, YAML or JSON
    Sync {
        /// The file, or - for standard input
        file: String,
    },
    /// Say what a file would change, and change nothing
    Plan {
        /// The file, or - for standard input
        file: String,
        /// The request is a full sync
        #[arg(long)]
        sync: bool,
    },
    /// Enforce a bridge that is held back; say first which ports that closes
    Adopt {
        /// The bridge
        bridge: String,
        /// Close them
        #[arg(long)]
        yes: bool,
    },
    /// List the NICs
    Nics {
        /// Only those in this state; may be repeated
        #[arg(long, value_enum)]
        state: Vec<State>,
    },
    /// Show what a NIC may do, why, and since when
    Nic {
        /// Its id
        id: String,
    },
    /// List the groups
    Groups,
    /// Show a group with its rules
    Group {
        /// Its id
        id: String,
    },
    /// List the members of a group
    Members {
        /// The group's id
        group: String,
    },
    /// Show what the agent is and does
    Status {
        /// Exit with 4 unless the agent is healthy and no NIC is quarantined
        #[arg(long)]
        check: bool,
    },
    /// Print what is programmed in the kernel
    Ruleset,
    /// List what was dropped, by NIC and reason
    Drops {
        /// Only of this NIC
        nic: Option<String>,
        /// Show what is dropped from now on: some of the packets, and how many there were
        #[arg(long, short)]
        follow: bool,
    },
    /// List what happened lately: NICs bound and unbound, changes applied, drift and its repair
    Events {
        /// Only to this NIC
        nic: Option<String>,
        /// Show the last ten, and what happens from now on
        #[arg(long, short)]
        follow: bool,
    },
    /// Show what the NICs send, receive and lose, as it changes
    Top {
        /// How often, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3600))]
        interval: u32,
        /// Measure one interval, and print that
        #[arg(long)]
        once: bool,
    },
    /// Wait until NICs are in force, or all interfaces of a libvirt domain that are on managed bridges
    Wait {
        /// How long, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 30)]
        timeout: u32,
        /// The file with the domain's XML, or - for standard input
        #[arg(long, value_name = "FILE", conflicts_with = "nics")]
        domain: Option<String>,
        /// Their ids
        #[arg(value_name = "NIC", required_unless_present = "domain")]
        nics: Vec<String>,
    },
    /// Go along a NIC's path, and say the first thing that is wrong; exit with 4 where something is
    Diagnose {
        /// Its id
        nic: String,
    },
    /// Say what becomes of a packet and why, without sending it
    Explain(Box<Explain>),
}

/// Does what the arguments say and writes the answer to `out`.
pub async fn run(cli: Cli, out: &mut impl Write) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    let show = Show {
        json: global.json,
        colour: coloured(global.color),
    };
    let target = global.target()?;
    let mut session = Session { target, show, out };
    match command {
        Command::Apply { file } => session.apply(&file, false).await,
        Command::Sync { file } => session.sync(&file, false).await,
        Command::Plan { file, sync: false } => session.apply(&file, true).await,
        Command::Plan { file, sync: true } => session.sync(&file, true).await,
        Command::Adopt { bridge, yes } => session.adopt(bridge, yes).await,
        Command::Nics { state } => session.nics(&state).await,
        Command::Nic { id } => session.nic(id).await,
        Command::Groups => session.groups().await,
        Command::Group { id } => session.group(id).await,
        Command::Members { group } => session.members(&group).await,
        Command::Status { check } => session.status(check).await,
        Command::Ruleset => session.ruleset().await,
        Command::Drops { nic, follow: false } => session.drops(nic).await,
        Command::Drops { nic, follow: true } => session.follow_drops(nic).await,
        Command::Events { nic, follow } => session.events(nic, follow).await,
        Command::Top { interval, once } => {
            let every = Duration::from_secs(interval.into());
            session.top(every, once).await
        }
        Command::Wait {
            timeout,
            domain,
            nics,
        } => session.wait(timeout, domain, nics).await,
        Command::Diagnose { nic } => session.diagnose(nic).await,
        Command::Explain(question) => session.explain(*question).await,
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Show {
    pub(super) json: bool,
    pub(super) colour: bool,
}

pub(super) struct Session<'a, W> {
    pub(super) target: Target,
    pub(super) show: Show,
    pub(super) out: &'a mut W,
}

impl<W: Write> Session<'_, W> {
    pub(super) async fn client(&self) -> Result<Client, Failure> {
        Client::connect(&self.target).await
    }

    pub(super) fn show<M: prost::Message>(
        &mut self,
        message: &M,
        name: &str,
        table: impl FnOnce(&M, bool) -> String,
    ) -> Result<(), Failure> {
        if self.show.json {
            writeln!(self.out, "{}", json::text(message, name)?)?;
        } else {
            self.out
                .write_all(table(message, self.show.colour).as_bytes())?;
        }
        Ok(self.out.flush()?)
    }

    async fn nics(&mut self, states: &[State]) -> Result<(), Failure> {
        let states: Vec<_> = states.iter().map(|state| state.of_api()).collect();
        let list = self.client().await?.nics_in(&states).await?;
        self.show(&list, "ListNicsResponse", render::nics)
    }

    async fn nic(&mut self, id: String) -> Result<(), Failure> {
        let mut client = self.client().await?;
        let answer = client.nic(id).await?;
        let mut groups: Vec<render::Group> = Vec::new();
        if !self.show.json {
            let nic = answer.nic.as_ref().and_then(|info| info.nic.as_ref());
            for id in nic.into_iter().flat_map(|nic| &nic.group_ids) {
                groups.push((id.clone(), client.group_if_there(id.clone()).await?));
            }
        }
        self.show(&answer, "GetNicResponse", |answer, colour| {
            render::nic(answer, &groups, colour)
        })
    }

    async fn groups(&mut self) -> Result<(), Failure> {
        let list = self.client().await?.groups().await?;
        self.show(&list, "ListGroupsResponse", render::groups)
    }

    async fn group(&mut self, id: String) -> Result<(), Failure> {
        let answer = self.client().await?.group(id).await?;
        self.show(&answer, "GetGroupResponse", render::group)
    }

    async fn members(&mut self, group: &str) -> Result<(), Failure> {
        let list = self.client().await?.members(group).await?;
        self.show(&list, "ListMembersResponse", render::members)
    }

    async fn ruleset(&mut self) -> Result<(), Failure> {
        let answer = self.client().await?.ruleset().await?;
        self.show(&answer, "GetRulesetResponse", |answer, _| {
            answer.text.clone()
        })
    }

    async fn drops(&mut self, nic: Option<String>) -> Result<(), Failure> {
        let of_one = nic.is_some();
        let list = self.client().await?.drops(nic.unwrap_or_default()).await?;
        self.show(&list, "ListDropsResponse", |list, colour| {
            render::drops(list, of_one, colour)
        })
    }

    async fn explain(&mut self, question: Explain) -> Result<(), Failure> {
        let answer = self.client().await?.explain(question.request()?).await?;
        self.show(&answer, "ExplainResponse", render::explained)
    }

    async fn diagnose(&mut self, nic: String) -> Result<(), Failure> {
        let answer = self.client().await?.diagnose(nic).await?;
        self.show(&answer, "DiagnoseResponse", render::diagnosed)?;
        match answer.first_wrong {
            Some(check) => Err(Failure::NotWell(check.text)),
            None => Ok(()),
        }
    }

    async fn status(&mut self, check: bool) -> Result<(), Failure> {
        let answer = self.client().await?.status().await?;
        self.show(&answer, "GetStatusResponse", render::status)?;
        if check { well(&answer) } else { Ok(()) }
    }
}

fn well(status: &pb::GetStatusResponse) -> Result<(), Failure> {
    let quarantined = status.counts.unwrap_or_default().nics_quarantined;
    if !status.healthy {
        return Err(Failure::NotWell(format!(
            "not healthy: {}",
            status.unhealthy_reason
        )));
    }
    if quarantined > 0 {
        return Err(Failure::NotWell(format!(
            "{quarantined} NICs are quarantined"
        )));
    }
    Ok(())
}

/// <https://no-color.org>: set and not empty means no colour.
fn coloured(color: Color) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
            std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_check_fails_where_someone_should_look() {
        let healthy = pb::GetStatusResponse {
            healthy: true,
            ..Default::default()
        };
        assert!(well(&healthy).is_ok());
        let quarantined = pb::GetStatusResponse {
            counts: Some(pb::Counts {
                nics_quarantined: 1,
                ..Default::default()
            }),
            ..healthy
        };
        assert_eq!(well(&quarantined).unwrap_err().exit_code(), 4);
        assert_eq!(
            well(&pb::GetStatusResponse::default())
                .unwrap_err()
                .exit_code(),
            4
        );
    }
}
