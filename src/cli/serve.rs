//! `vestibule serve`: a placeholder until the node comes.

use super::Failure;
use crate::config::Config;

/// Runs one node until it is told to stop, then drains it.
pub async fn serve(config: Config) -> Result<(), Failure> {
    let address = config.edge.listen;
    Err(anyhow::anyhow!("serving on {address} is not built in").into())
}
