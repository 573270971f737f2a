//! The program: reads its arguments, does what they say, and ends with a truthful exit code.

use clap::Parser as _;
use gofavorites::cli::{Cli, Failed, told};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(fault) => {
            eprintln!("gofavorites: the runtime cannot start: {fault}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("gofavorites: {}", told(&fault));
            fault
                .downcast_ref::<Failed>()
                .map_or(ExitCode::FAILURE, |failed| failed.exit_code().into())
        }
    }
}
