//! `vestibule serve`: one node, until it is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;
use tracing::info;

use super::Failure;
use crate::app::{self, App, catalogue};
use crate::config::{Config, LogFormat};
use crate::lifecycle::signal::Signals;
use crate::telemetry::log::{self, Format};
use crate::telemetry::{metrics, trace};

/// Runs one node until SIGTERM or SIGINT, then drains it; a second signal ends it at once.
///
/// # Errors
/// When the node cannot be built, or a part of it failed.
pub async fn serve(config: Config) -> Result<(), Failure> {
    let format = match config.telemetry.log_format {
        LogFormat::Text => Format::Text,
        LogFormat::Json => Format::Json,
    };
    log::init(format, &config.telemetry.log_level).map_err(anyhow::Error::from)?;
    metrics::describe_all();
    let mut signals = Signals::new().map_err(|error| Failure::new("cannot take signals", error))?;
    let otlp = config.telemetry.otlp.clone();
    let one_in = u64::from(config.telemetry.otlp_one_in);
    let app = App::build(config).await.map_err(not_built)?;
    if let Some(endpoint) = otlp {
        let node = app.node().to_string();
        trace::begin(&trace::Options {
            endpoint,
            one_in,
            node,
        })
        .map_err(anyhow::Error::from)?;
    }
    let scheme = if app.is_secure() { "https" } else { "http" };
    for (name, address) in app.addresses() {
        info!(%name, %address, "listening");
    }
    let clients = app.clients();
    // On standard output, for people and scripts: where to go.
    super::print(&format!("open {scheme}://{clients}/\n"))?;
    let (first, second) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let run = {
        let (first, second) = (Arc::clone(&first), Arc::clone(&second));
        app.run(async move { first.notified().await }, async move {
            second.notified().await
        })
    };
    let signals_heard = AtomicUsize::new(0);
    let listen = async {
        for told in [first, second] {
            let signal = signals.next().await;
            info!(
                signal = signal.name(),
                "draining; a second signal ends at once"
            );
            signals_heard.fetch_add(1, Ordering::Relaxed);
            told.notify_one();
        }
        std::future::pending::<()>().await;
    };
    let outcome = tokio::select! {
        () = listen => Ok(()),
        result = Box::pin(run) => result.map_err(anyhow::Error::from),
    };
    if signals_heard.load(Ordering::Relaxed) < 2 {
        tokio::task::spawn_blocking(trace::end).await.ok();
    }
    Ok(outcome?)
}

/// A catalogue with mistakes is a wrong setting, like any other.
fn not_built(error: app::Error) -> Failure {
    match &error {
        app::Error::Build(cause) if cause.is::<catalogue::Error>() => {
            Failure::refused(cause.to_string())
        }
        _ => anyhow::Error::from(error).into(),
    }
}
