//! The program: reads its arguments, does what they say, and ends with a truthful exit code.

use clap::Parser as _;
use gofavorites::cli::{Cli, CommandError, told};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("gofavorites: the runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gofavorites: {}", told(&error));
            error
                .downcast_ref::<CommandError>()
                .map_or(ExitCode::FAILURE, |failed| failed.exit_code().into())
        }
    }
}
