//! Files that are whole or not there, and secrets that only their owner reads.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use super::CliError;

/// Makes a directory, and those above it; a new one is its owner's alone.
pub(super) fn directory(path: &Path) -> Result<(), CliError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(|source| failed(path, source))
}

/// What a file holds; none if it isn't there.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, CliError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(path, source)),
    }
}

/// As `read`, for PEM; says so if others may read it too.
pub(super) fn read_secret(path: &Path) -> Result<Option<String>, CliError> {
    #[cfg(unix)]
    if let Ok(found) = std::fs::metadata(path)
        && std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o077 != 0
    {
        tracing::warn!(file = %path.display(), "others may read this key; chmod 600 it");
    }
    read_text(path)
}

/// As `read`, for PEM.
pub(super) fn read_text(path: &Path) -> Result<Option<String>, CliError> {
    Ok(read(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Writes a file that anyone may read.
pub(super) fn write_public(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    write(path, bytes, 0o644)
}

/// Writes a file that only its owner may read.
pub(super) fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    write(path, bytes, 0o600)
}

/// Removes a file; one that isn't there is fine.
pub(super) fn remove(path: &Path) -> Result<(), CliError> {
    absent(path).map_err(|source| failed(path, source))
}

fn absent(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// By way of a file beside it, so that a crash leaves the old one or the new one.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CliError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let fresh = Path::new(&name);
    let put = || {
        // Whatever a crashed run left: the mode counts only for a file that is made here.
        absent(fresh)?;
        let mut file = open_new(fresh, mode)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(fresh, path)
    };
    put().map_err(|source| failed(path, source))
}

#[cfg_attr(not(unix), expect(unused_variables, reason = "there are no modes"))]
fn open_new(path: &Path, mode: u32) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    options.open(path)
}

fn failed(path: &Path, source: std::io::Error) -> CliError {
    CliError::File { path: path.to_owned(), source }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn secrets_are_their_owners_and_replace_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, path) = (dir.path().join("a/b"), dir.path().join("a/b/key"));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(read(&path).unwrap(), None);
        directory(&inner).unwrap();
        directory(&inner).unwrap();
        assert_eq!(mode(&inner), 0o700);
        std::fs::write(&path, "open").unwrap();
        write_secret(&path, b"shut").unwrap();
        assert_eq!((read(&path).unwrap().unwrap(), mode(&path)), (b"shut".to_vec(), 0o600));
        assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 1);
        assert!(matches!(write_secret(&dir.path().join("none/x"), b""), Err(CliError::File { .. })));
    }
}
