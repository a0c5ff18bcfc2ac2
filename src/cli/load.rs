//! `vestibule load`: a placeholder until the load generator comes.

/// Put a server under load and check what it delivers.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Plays the run and prints its account.
///
/// # Errors
/// Always, until it is there.
pub fn run(_args: Args) -> Result<(), anyhow::Error> {
    anyhow::bail!("the load generator is not built in")
}
