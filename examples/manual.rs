//! Writes the man pages and the shell completions of a package, from the command lines themselves:
//!
//! ```text
//! cargo run --example manual DIRECTORY DATE
//! ```
//!
//! An example, so that what it needs are dev-dependencies and the shipped programs carry none of it.
//! There is a page a program, as one looks for a word in all of `man sgctl` and not in twelve
//! pages. What every command takes is described once.

use std::{collections::BTreeSet, fs, io::Write, path::Path};

use anyhow::{Context as _, Result, bail};
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

/// What a page says that no command line knows.
struct Page {
    section: &'static str,
    command: Command,
    files: &'static [(&'static str, &'static str)],
    see_also: &'static str,
}

fn pages() -> [Page; 2] {
    [
        Page {
            section: "8",
            command: sgagent::cli::Cli::command(),
            files: &[
                (
                    "/etc/sgagent/sgagent.toml",
                    "The configuration of the packaged unit. Every key is shown there with its default, \
                     and is a flag too.",
                ),
                (
                    "/run/sgagent/sgagent.sock",
                    "Where the packaged agent listens.",
                ),
                (
                    "/var/lib/sgagent",
                    "What was acknowledged, and the host's settings as they were before.",
                ),
            ],
            see_also: "sgctl(1), nft(8), systemctl(1)",
        },
        Page {
            section: "1",
            command: sgagent::sgctl::command::Cli::command(),
            files: &[(
                "/run/sgagent/sgagent.sock",
                "Where the packaged agent listens.",
            )],
            see_also: "sgagent(8)",
        },
    ]
}

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(directory), Some(date)) = (args.next(), args.next()) else {
        bail!("usage: manual DIRECTORY DATE");
    };
    let directory = Path::new(&directory);
    fs::create_dir_all(directory)?;
    for mut page in pages() {
        let name = page.command.get_name().to_owned();
        let file = directory.join(format!("{name}.{}", page.section));
        fs::write(&file, page.render(&date)?).with_context(|| file.display().to_string())?;
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            clap_complete::generate_to(shell, &mut page.command, &name, directory)?;
        }
    }
    Ok(())
}

impl Page {
    fn render(&self, date: &str) -> Result<String> {
        let mut whole = self.command.clone().disable_help_subcommand(true);
        whole.build();
        let common = common(&whole);
        let mut out = Vec::new();

        let mut top = Command::new("every");
        if let Some(any) = whole.get_subcommands().next() {
            let shared = any.get_arguments().filter(|arg| common.contains(id(arg)));
            top = top.disable_help_flag(true).args(shared.cloned());
        }
        let page = Man::new(whole.clone())
            .section(self.section)
            .date(date)
            .source(whole.render_version().trim())
            .manual("sgagent");
        page.render_title(&mut out)?;
        page.render_name_section(&mut out)?;
        page.render_synopsis_section(&mut out)?;
        page.render_description_section(&mut out)?;
        Roff::new()
            .control("SH", ["COMMANDS"])
            .to_writer(&mut out)?;
        for command in whole.get_subcommands() {
            subcommand(command, &common, &mut out)?;
        }
        let options = section(|out| Man::new(top.clone()).render_options_section(out))?;
        Roff::new()
            .control("SH", ["OPTIONS OF EVERY COMMAND"])
            .to_writer(&mut out)?;
        out.write_all(options.as_bytes())?;
        self.rest(&whole, &mut out)?;
        // An empty line between breaks is one line or two, as the reader sees fit.
        Ok(String::from_utf8(out)?.replace("\n.br\n\n.br\n", "\n.sp\n"))
    }

    fn rest(&self, whole: &Command, out: &mut Vec<u8>) -> Result<()> {
        let mut roff = Roff::new();
        if let Some(codes) = whole.get_after_help() {
            roff.control("SH", ["EXIT STATUS"]);
            for line in codes.to_string().lines().skip(1).map(str::trim) {
                let (code, meaning) = line.split_once(' ').context("an exit code")?;
                if code.parse::<u8>().is_err() {
                    // The line before goes on.
                    roff.text([roman(line)]);
                    continue;
                }
                roff.control("TP", [])
                    .text([bold(code)])
                    .text([roman(meaning.trim())]);
            }
        }
        roff.control("SH", ["FILES"]);
        for (file, meaning) in self.files {
            roff.control("TP", [])
                .text([bold(*file)])
                .text([roman(*meaning)]);
        }
        roff.control("SH", ["SEE ALSO"])
            .text([roman(self.see_also)]);
        roff.to_writer(out)?;
        Ok(())
    }
}

/// A command of the program: how it is called, what it does, and what it alone takes.
fn subcommand(command: &Command, common: &BTreeSet<String>, out: &mut Vec<u8>) -> Result<()> {
    let own = command.clone().mut_args(|arg| {
        let hidden = common.contains(id(&arg));
        arg.hide(hidden)
    });
    let page = Man::new(own.clone());
    Roff::new()
        .control("SS", [command.get_name()])
        .to_writer(out)?;
    out.write_all(section(|out| page.render_synopsis_section(out))?.as_bytes())?;
    Roff::new().control("PP", []).to_writer(out)?;
    out.write_all(section(|out| page.render_description_section(out))?.as_bytes())?;
    if own.get_arguments().any(|arg| !arg.is_hide_set()) {
        out.write_all(section(|out| page.render_options_section(out))?.as_bytes())?;
    }
    Ok(())
}

/// A section without its heading, as there is one of the kind for each command.
fn section(render: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<String> {
    let mut out = Vec::new();
    render(&mut out)?;
    let text = String::from_utf8(out)?;
    let lines = text.lines().filter(|line| !line.starts_with(".SH "));
    Ok(lines.flat_map(|line| [line, "\n"]).collect())
}

/// What every command of the program takes.
fn common(whole: &Command) -> BTreeSet<String> {
    let of = |command: &Command| -> BTreeSet<String> {
        let options = command.get_arguments().filter(|arg| !arg.is_positional());
        options.map(|arg| id(arg).to_owned()).collect()
    };
    whole
        .get_subcommands()
        .map(of)
        .reduce(|all, one| &all & &one)
        .unwrap_or_default()
}

fn id(arg: &clap::Arg) -> &str {
    arg.get_id().as_str()
}
