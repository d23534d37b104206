//! The daemon.

use clap::Parser as _;
use sgagent::{
    cli::{Cli, Command},
    daemon,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(options) => daemon::run(options.load()?).await,
        Command::Restore(options) => daemon::restore(options.load()?).await,
        Command::Purge(options) => daemon::purge(options.load()?).await,
        Command::Compile { file, options } => daemon::compile(&file, &options.load()?),
    }
}
