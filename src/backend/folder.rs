//! The data folder, used by one process at a time.
//!
//! The lock is the operating system's: it goes when the process goes, however that ends, so no
//! stale lock file ever has to be removed by hand.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use super::sql::Error;

/// Holds the folder until it is dropped.
#[derive(Debug)]
pub(super) struct FolderLock {
    /// Closing the file gives the lock back.
    _file: File,
}

/// Makes the folder if it is missing and locks it.
pub(super) fn lock(folder: &Path) -> Result<FolderLock, Error> {
    let failed = |source| Error::Folder {
        folder: folder.to_owned(),
        source,
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let path = folder.join(LOCK_FILE);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(FolderLock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(Error::Locked(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

const LOCK_FILE: &str = "vestibule.lock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_locked_until_its_holder_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock(folder.path()).unwrap();
        let refused = lock(folder.path()).unwrap_err().to_string();
        assert!(
            refused.contains(folder.path().to_str().unwrap()),
            "{refused}"
        );
        drop(held);
        lock(folder.path()).unwrap();
    }
}
