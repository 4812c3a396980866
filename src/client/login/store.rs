//! Logins on disk: one file a domain, its owner's alone, whole or not there.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Login, LoginError, authority};

/// How often a renewal looks whether another process is done with its own.
const TURN: Duration = Duration::from_millis(50);

/// A folder of logins.
#[derive(Clone, Debug)]
pub struct LoginStore {
    folder: PathBuf,
}

/// One process at a time renews a login; the turn ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn(#[expect(dead_code, reason = "closing the file ends the lock")] File);

impl LoginStore {
    /// The logins in this folder, which need not be there yet.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// `$XDG_CONFIG_HOME/ript/logins`, or `~/.config/ript/logins`.
    pub fn default_folder() -> Result<PathBuf, LoginError> {
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        // XDG base directories: a relative path is to be ignored.
        let config = variable("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
        let config = config.or_else(|| Some(variable("HOME")?.join(".config")));
        let why = "neither XDG_CONFIG_HOME nor HOME is set; name a folder with --tokens DIR";
        Ok(config.ok_or_else(|| LoginError::local("the folder of logins", why))?.join("ript/logins"))
    }

    /// The login at a domain, if there is one.
    pub fn load(&self, domain: &str) -> Result<Option<Login>, LoginError> {
        let domain = authority(domain)?;
        let path = self.path(&domain);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LoginError::Store { path, source }),
        };
        warn_if_open(&path);
        // What serde says may quote the file.
        let damaged = |reason: &str| LoginError::Damaged { path: path.clone(), reason: reason.to_owned() };
        let login: Login = serde_json::from_slice(&bytes).map_err(|_| damaged("this is no login"))?;
        login.discovery.check().map_err(|reason| damaged(&reason))?;
        if login.domain == domain { Ok(Some(login)) } else { Err(damaged("this is another domain's login")) }
    }

    /// Keeps a login, in place of the one that is there.
    pub async fn save(&self, login: &Login) -> Result<(), LoginError> {
        self.make_folder()?;
        let path = self.path(&authority(&login.domain)?);
        let json = serde_json::to_vec_pretty(login).map_err(|error| LoginError::local("login", error))?;
        let (fresh, target) = (beside(&path, &format!("{}.new", std::process::id())), path.clone());
        let writing = tokio::task::spawn_blocking(move || write(&fresh, &target, &json));
        let written = writing.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        written.map_err(|source| LoginError::Store { path, source })
    }

    /// Forgets a login; whether there was one.
    pub fn remove(&self, domain: &str) -> Result<bool, LoginError> {
        let path = self.path(&authority(domain)?);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(source) => Err(LoginError::Store { path, source }),
        }
    }

    /// Waits until no other process renews this login: a rotated refresh token is good once.
    pub(super) async fn turn(&self, domain: &str) -> Result<Turn, LoginError> {
        self.make_folder()?;
        let path = beside(&self.path(domain), "lock");
        let failed = |source| LoginError::Store { path: path.clone(), source };
        let file = private(OpenOptions::new().write(true).create(true)).open(&path).map_err(failed)?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Turn(file)),
                Err(TryLockError::WouldBlock) => tokio::time::sleep(TURN).await,
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
    }

    /// The file of a domain's login.
    fn path(&self, authority: &str) -> PathBuf {
        let safe = |c: char| if c.is_ascii_alphanumeric() || "-.".contains(c) { c } else { '_' };
        self.folder.join(format!("{}.json", authority.chars().map(safe).collect::<String>()))
    }

    fn make_folder(&self) -> Result<(), LoginError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        let made = builder.create(&self.folder);
        made.map_err(|source| LoginError::Store { path: self.folder.clone(), source })
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{ending}"));
    PathBuf::from(name)
}

/// By way of a file beside it, so that a crash leaves the old login or the new one.
fn write(fresh: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // Whatever a crashed run left: the mode counts only for a file that is made here.
    match std::fs::remove_file(fresh) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = private(OpenOptions::new().write(true).create_new(true)).open(fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(fresh, path)
}

/// Made for its owner alone.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

#[cfg_attr(not(unix), expect(unused_variables, reason = "there are no modes"))]
fn warn_if_open(path: &Path) {
    #[cfg(unix)]
    if let Ok(found) = std::fs::metadata(path)
        && std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o077 != 0
    {
        tracing::warn!(file = %path.display(), "others may read this login; chmod 600 it");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tokens::tests::login;
    use super::*;

    fn sample(access: &str) -> Login {
        login(json!({"access_token": access, "token_type": "bearer", "refresh_token": "r", "expires_in": 9}))
            .unwrap()
    }

    #[tokio::test]
    async fn a_login_is_kept_for_its_owner_alone_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let store = LoginStore::new(dir.path().join("a/ript"));
        assert_eq!(store.load("ript.example").unwrap(), None);
        store.save(&sample("one")).await.unwrap();
        store.save(&sample("two")).await.unwrap();
        assert_eq!(store.load("https://RIPT.example:443").unwrap(), Some(sample("two")));
        assert_eq!(store.load("ript.example:4433").unwrap(), None);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&store.folder), mode(&store.path("ript.example"))), (0o700, 0o600));
        }
        assert_eq!(std::fs::read_dir(&store.folder).unwrap().count(), 1);
        assert!(store.remove("ript.example").unwrap() && !store.remove("ript.example").unwrap());
    }

    #[tokio::test]
    async fn a_file_that_is_no_login_says_so_without_quoting_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = LoginStore::new(dir.path());
        for text in ["", "{}", "{\"access_token\": \"sesame\", \"issued\": 1}"] {
            std::fs::write(store.path("ript.example"), text).unwrap();
            let error = store.load("ript.example").unwrap_err();
            assert!(matches!(error, LoginError::Damaged { .. }) && !error.to_string().contains("sesame"));
        }
        store.save(&sample("one")).await.unwrap();
        std::fs::rename(store.path("ript.example"), store.path("other.example")).unwrap();
        assert!(matches!(store.load("other.example"), Err(LoginError::Damaged { .. })));
    }

    #[tokio::test]
    async fn one_renewal_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let store = LoginStore::new(dir.path());
        let first = store.turn("ript.example").await.unwrap();
        let second = tokio::time::timeout(TURN * 3, store.turn("ript.example")).await;
        assert!(second.is_err());
        drop(first);
        store.turn("ript.example").await.unwrap();
    }
}
