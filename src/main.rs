//! The program: reads its arguments, runs the command, and ends with its exit code.

use gofavorites::cli::{Cli, complete};
use gofavorites::telemetry::LastLines;
use mimalloc::MiMalloc;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let _last_lines = LastLines;
    complete();
    let cli = Cli::read();

    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };

    let exit_code = runtime.block_on(cli.run_and_report());
    // A file that cannot be read now, for example of a network share, does not hold up the end.
    runtime.shutdown_background();

    exit_code.into()
}
