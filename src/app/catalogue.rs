//! The catalogue's files: read at the start, and again when the operator says so.

use std::path::Path;
use std::{fs, io};

use crate::config;
use crate::events::{Catalogue, Changes, Layer, Mistakes, Vocabulary};
use crate::lifecycle::signal::Reloads;
use crate::telemetry::labels::Attempt;
use crate::telemetry::metrics;

/// Why there is no catalogue to run with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("catalogue.file = {file:?}: the file cannot be read: {error}")]
    Read {
        /// Its name.
        file: String,
        /// Why.
        error: io::Error,
    },
    /// What it says is wrong.
    #[error(transparent)]
    Wrong(#[from] Mistakes),
}

/// Reads the catalogue that a configuration names.
///
/// # Errors
/// That the file cannot be read, or everything that is wrong with it.
pub fn load(config: &config::Catalogue) -> Result<Catalogue, Error> {
    let text = config.file.as_deref().map(read).transpose()?;
    let name = config.file.as_deref().map(shown).unwrap_or_default();
    let file = text.as_deref().map(|text| Layer { name: &name, text });
    Ok(Catalogue::with(config.preset.text(), file)?)
}

/// Puts the catalogue in force anew at each SIGHUP, if it is valid; what is in force else stays.
///
/// # Errors
/// When the system refuses to tell of the signal.
pub(super) async fn watch(config: config::Catalogue, vocabulary: Vocabulary) -> io::Result<()> {
    let mut reloads = Reloads::new()?;
    loop {
        reloads.next().await;
        let (config, vocabulary) = (config.clone(), vocabulary.clone());
        // A small file, once; a thread of the pool keeps a slow disk harmless.
        let reloaded = tokio::task::spawn_blocking(move || reload(&config, &vocabulary)).await;
        match reloaded {
            Ok(Ok(changes)) => {
                metrics::CATALOGUE_RELOADS.of(Attempt::Ok).add(1);
                let changes = if changes.is_empty() {
                    "nothing changed".to_owned()
                } else {
                    changes.to_string()
                };
                tracing::info!(%changes, "catalogue reloaded");
            }
            Ok(Err(error)) => {
                metrics::CATALOGUE_RELOADS.of(Attempt::Failed).add(1);
                // One line for all that is wrong, so that the log stays one line for an event.
                let error = error.to_string().replace("\n  ", " ");
                tracing::warn!(error, "catalogue not reloaded, the old one stays in force");
            }
            Err(_) => metrics::CATALOGUE_RELOADS.of(Attempt::Failed).add(1),
        }
    }
}

fn reload(config: &config::Catalogue, vocabulary: &Vocabulary) -> Result<Changes, Error> {
    let new = load(config)?;
    let changes = new.changes_since(&vocabulary.current())?;
    vocabulary.replace(new);
    Ok(changes)
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|error| Error::Read {
        file: path.display().to_string(),
        error,
    })
}

/// A file's own name, for mistakes.
fn shown(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ADDS: &str = "[[event]]\ntype = \"PING\"\ntopic = \"pings\"\nschema = {}\n";

    #[tokio::test]
    async fn a_hangup_reloads_a_valid_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("own.toml");
        fs::write(&file, ADDS).unwrap();
        let config = config::Catalogue {
            file: Some(file.clone()),
            ..config::Catalogue::default()
        };
        let vocabulary = Vocabulary::new(load(&config).unwrap());
        let watch = watch(config, vocabulary.clone());
        let has = |kind: &str| vocabulary.current().by_type(kind).is_some();
        let act = async {
            assert!(has("PING"));
            fs::write(&file, ADDS.replace("[[event]]", "[[event]")).unwrap();
            hang_up();
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(has("PING"), "a broken file changes nothing");
            fs::write(&file, format!("{ADDS}{}", ADDS.replace("PING", "PONG"))).unwrap();
            hang_up();
            while !has("PONG") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            // First, because without it the signal ends the process.
            biased;
            result = watch => panic!("it watches for ever: {result:?}"),
            done = tokio::time::timeout(Duration::from_secs(10), act) => done.unwrap(),
        }
    }

    fn hang_up() {
        let id = std::process::id().to_string();
        let sent = std::process::Command::new("kill")
            .args(["-HUP", &id])
            .status();
        assert!(sent.unwrap().success());
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let config = config::Catalogue {
            file: Some("/nowhere/own.toml".into()),
            ..config::Catalogue::default()
        };
        let error = load(&config).unwrap_err().to_string();
        assert!(
            error.starts_with("catalogue.file = \"/nowhere/own.toml\": the file"),
            "{error}"
        );
    }
}
