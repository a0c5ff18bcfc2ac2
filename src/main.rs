//! The program `vestibule`. Everything it does is in the library.

use std::process::ExitCode;

#[expect(
    clippy::print_stderr,
    reason = "the one place where a command's failure is told"
)]
fn main() -> ExitCode {
    match vestibule::cli::run(std::env::args_os()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("vestibule: {failure}");
            failure.exit_code()
        }
    }
}
