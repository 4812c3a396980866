//! What an account keeps over restarts: its instance, and the numbers that its SIM has seen.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::aka::Sequence;
use crate::identity::sha256;

/// What is in an account's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// RFC 5626 §4.1: the same for ever.
    pub(super) instance: Uuid,
    /// TS 33.102 §C.2
    pub(super) sequence: Sequence,
}

/// An account's file.
#[derive(Debug)]
pub(super) struct File(PathBuf);

impl File {
    /// The file of the account with this private identity.
    pub(super) fn of(folder: &Path, user: &str) -> Self {
        // Identities are not for file names.
        let name: String = sha256(user.as_bytes())[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        Self(folder.join(format!("{name}.account")))
    }

    /// What was kept, or the beginning of it.
    pub(super) fn read(&self) -> io::Result<Kept> {
        match std::fs::read(&self.0) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                io::Error::other(format!("{}: {error}; delete it to begin anew", self.0.display()))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let kept = Kept { instance: Uuid::new_v4(), sequence: Sequence::default() };
                self.write(&kept)?;
                Ok(kept)
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps it.
    pub(super) fn write(&self, kept: &Kept) -> io::Result<()> {
        if let Some(folder) = self.0.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let draft = self.0.with_extension("draft");
        std::fs::write(&draft, serde_json::to_vec(kept).map_err(io::Error::other)?)?;
        std::fs::rename(draft, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_keeps_its_instance_and_each_has_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::of(folder.path(), "a@ims.test");
        let first = file.read().unwrap();
        assert_eq!(file.read().unwrap(), first);
        assert_ne!(File::of(folder.path(), "b@ims.test").read().unwrap().instance, first.instance);
        std::fs::write(&file.0, "x").unwrap();
        // What can't be read is no reason for another name.
        assert!(file.read().is_err());
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            assert!(!entry.unwrap().file_name().to_string_lossy().contains('@'));
        }
    }
}
