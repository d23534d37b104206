//! The operator's client. What it does is in [`sgagent::sgctl`].

use std::{io::Write, process::ExitCode};

use clap::Parser;
use sgagent::sgctl::command::{Cli, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // clap exits with 2 where the arguments are wrong.
    let cli = Cli::parse();
    match run(cli, &mut std::io::stdout()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let code = failure.exit_code();
            if code != 0 {
                let _ = writeln!(std::io::stderr(), "sgctl: {failure}");
            }
            ExitCode::from(code)
        }
    }
}
