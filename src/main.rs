//! The program: reads its arguments, runs the command, and ends with its exit code.

use gofavorites::cli::{Cli, CommandError, complete, error_chain};
use std::process::ExitCode;

fn main() -> ExitCode {
    complete();
    let cli = Cli::read();

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

    let ended = runtime.block_on(cli.run());
    // A file that cannot be read now, for example of a network share, does not hold up the end.
    runtime.shutdown_background();

    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gofavorites: {}", error_chain(&error));
            error
                .downcast_ref::<CommandError>()
                .map_or(ExitCode::FAILURE, |failed| failed.exit_code().into())
        }
    }
}
