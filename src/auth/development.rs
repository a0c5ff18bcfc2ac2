//! The secret of the development mode: made once per data folder, readable by its owner only.
//!
//! Whoever can read it can be anybody, so it serves on one machine only; the configuration refuses
//! it with a listener that others can reach.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::globs::{GlobError, Rooms};
use super::issue::{Grant, issue, token_id};
use crate::types::{Secret, Timestamp, UserId};

/// Why the secret is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The folder or file cannot be read or made.
    #[error("cannot use the development secret {0}")]
    Io(PathBuf, #[source] io::Error),
    /// Others than its owner may read or write it.
    #[error("the development secret {0} has mode {1:o}: run chmod 600 on it")]
    Exposed(PathBuf, u32),
    /// It does not hold 32 bytes as base64url.
    #[error("the development secret {0} is damaged: delete it, and a new one is made")]
    Damaged(PathBuf),
}

/// The file in the data folder.
pub const FILE_NAME: &str = "development-secret";

/// As long as the hash, as RFC 7518 section 3.2 demands.
const SECRET_BYTES: usize = 32;

/// The secret of a data folder, to make tokens with. Cheap to clone.
#[derive(Clone)]
pub struct Development(Arc<Secret<Vec<u8>>>);

impl Development {
    /// Reads the secret; makes it, with the folder, when it is missing. Two processes that start
    /// together get the same one.
    ///
    /// # Errors
    /// When it cannot be read or made, is damaged, or others may read it.
    pub fn open(data: &Path) -> Result<Self, SecretError> {
        secret(data).map(|secret| Self(Arc::new(secret)))
    }

    /// The secret that the tokens are checked with.
    pub(super) fn secret(&self) -> &[u8] {
        self.0.reveal()
    }

    /// Makes a token.
    #[must_use]
    pub fn sign(&self, grant: &Grant, now: Timestamp) -> String {
        issue(self.secret(), grant, now)
    }

    /// Makes a token with a new id for a user and the rooms of some patterns.
    ///
    /// # Errors
    /// When a pattern is refused.
    pub fn issue(
        &self,
        user: &UserId,
        rooms: &[String],
        life: Duration,
        now: Timestamp,
    ) -> Result<String, GlobError> {
        let rooms = Rooms::parse(rooms)?;
        let grant = Grant {
            user: user.clone(),
            name: None,
            rooms,
            token_id: token_id(),
            scope: None,
            is_login: false,
            life,
        };
        Ok(self.sign(&grant, now))
    }
}

fn secret(data: &Path) -> Result<Secret<Vec<u8>>, SecretError> {
    let path = data.join(FILE_NAME);
    let failed = |error| SecretError::Io(path.clone(), error);
    match File::open(&path) {
        Ok(file) => return read(&path, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(failed)?;
    create(data, &path).map_err(failed)?;
    read(&path, File::open(&path).map_err(failed)?)
}

fn read(path: &Path, file: File) -> Result<Secret<Vec<u8>>, SecretError> {
    let failed = |error| SecretError::Io(path.to_owned(), error);
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed(path.to_owned(), mode));
    }
    let mut text = String::new();
    file.take(1_024).read_to_string(&mut text).map_err(failed)?;
    let bytes = URL_SAFE_NO_PAD.decode(text.trim_end()).unwrap_or_default();
    if bytes.len() != SECRET_BYTES {
        return Err(SecretError::Damaged(path.to_owned()));
    }
    Ok(Secret::new(bytes))
}

/// Writes a secret beside its place and links it there whole. A link, unlike a rename, never
/// replaces what another process was quicker to put there.
fn create(data: &Path, path: &Path) -> io::Result<()> {
    let text = format!(
        "{}\n",
        URL_SAFE_NO_PAD.encode(rand::random::<[u8; SECRET_BYTES]>())
    );
    let draft = data.join(format!(".{FILE_NAME}.{:016x}", rand::random::<u64>()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    let linked = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => File::open(data)?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("a").join("b");
        let first = secret(&data).unwrap();
        assert_eq!(first.reveal().len(), 32);
        assert!(first == secret(&data).unwrap());
        let mode = fs::metadata(data.join(FILE_NAME)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        let files: Vec<_> = fs::read_dir(&data)
            .unwrap()
            .map(|entry| entry.unwrap())
            .collect();
        assert_eq!(files.len(), 1, "{files:?}");
    }

    #[test]
    fn those_who_start_together_get_the_same_secret() {
        let folder = tempfile::tempdir().unwrap();
        let secrets: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| secret(folder.path()).unwrap()))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(secrets.iter().all(|secret| *secret == secrets[0]));
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        secret(folder.path()).unwrap();
        let path = folder.path().join(FILE_NAME);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = secret(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("mode 644") && error.contains("chmod 600"),
            "{error}"
        );
    }

    #[test]
    fn a_damaged_secret_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        secret(folder.path()).unwrap();
        fs::write(folder.path().join(FILE_NAME), "short\n").unwrap();
        assert!(matches!(
            secret(folder.path()),
            Err(SecretError::Damaged(_))
        ));
    }
}
