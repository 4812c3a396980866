//! The providers that were joined, a file each, as `ript trunk join` writes them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::Trunks;
use crate::identity::canonical::Identity;
use crate::identity::principal::{Principal, TRUNK};
use crate::identity::sha256;
use crate::protocol::number::{Destinations, Number};
use crate::protocol::time::Timestamp;

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// What tokens for the way back begin with.
pub const TOKEN_PREFIX: &str = "ript-trunk.";

/// A provider that was joined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Joined {
    /// Where the login was.
    pub domain: String,
    /// The provider's TG.
    pub tg: String,
    /// Whom it takes calls to.
    pub destinations: Destinations,
    /// The numbers that it assigned.
    pub numbers: Vec<String>,
    /// Our own TG, to which it brings calls.
    pub own_tg: String,
    /// The hash of the token that it brings them with: who reads this file can't use it.
    pub token_sha256: String,
    /// Its registration of our TG, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration: Option<String>,
}

impl Joined {
    /// Where it is written down.
    pub fn file(folder: &Path, domain: &str) -> PathBuf {
        let safe = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' };
        folder.join(format!("{}.json", domain.chars().map(safe).collect::<String>()))
    }

    /// Writes it down, for this user's eyes only, at once or not at all.
    pub fn write(&self, folder: &Path) -> std::io::Result<()> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let file = Self::file(folder, &self.domain);
        let draft = file.with_extension("draft");
        let mut options = std::fs::OpenOptions::new();
        let mut out = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        out.write_all(&serde_json::to_vec_pretty(self)?)?;
        out.sync_all()?;
        std::fs::rename(draft, file)
    }
}

/// A token's hash, as the file has it.
pub fn hashed(token: &str) -> String {
    sha256(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All providers.
#[derive(Debug, Default)]
pub struct Joins(BTreeMap<String, Joined>);

impl Joins {
    /// Reads a folder; none is as good as an empty one.
    pub fn read(folder: &Path) -> Self {
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let read = |path: PathBuf| {
            let text = std::fs::read(&path).ok()?;
            match serde_json::from_slice::<Joined>(&text) {
                Ok(joined) => Some((joined.domain.clone(), joined)),
                Err(error) => {
                    tracing::error!(file = %path.display(), %error, "this trunk can't be read; it is left out");
                    None
                }
            }
        };
        Self(files.filter_map(read).collect())
    }

    /// Every one.
    pub fn all(&self) -> impl Iterator<Item = &Joined> {
        self.0.values()
    }

    /// The one of that domain.
    pub fn get(&self, domain: &str) -> Option<&Joined> {
        self.0.get(domain)
    }

    /// Whose numbers hold this one.
    pub fn of_number(&self, number: &Number) -> Option<&Joined> {
        let identity = Identity::from_number(&number.to_string())?;
        self.all().find(|joined| identity.is_covered_by(&joined.numbers))
    }

    /// Who takes a call to a number. One of our own that nobody answers here is not asked for elsewhere.
    pub fn route(&self, to: &Number) -> Option<&Joined> {
        let away = self.of_number(to).is_none();
        self.all().find(|joined| away && joined.destinations.allow(to))
    }

    /// Whose token this is.
    pub fn holder(&self, token: &str) -> Option<Principal> {
        let hash = hashed(token);
        let joined = self.all().find(|joined| joined.token_sha256 == hash)?;
        Some(Principal {
            issuer: TRUNK.to_owned(),
            subject: joined.domain.clone(),
            numbers: Vec::new(),
            tgs: vec![joined.own_tg.clone()],
            scopes: ["ript:calls", "ript:handlers"].map(str::to_owned).into(),
            expires: Timestamp::from_millis(u64::MAX / 2),
        })
    }
}

/// Reads the folder again when something in it changed, until the trunks are gone.
pub(super) async fn watch(trunks: Weak<Trunks>) {
    let Some(folder) = trunks.upgrade().map(|trunks| trunks.settings.folder.clone()) else { return };
    let mut seen = state(&folder);
    let mut interval = tokio::time::interval(LOOK);
    while trunks.strong_count() > 0 {
        interval.tick().await;
        let now = state(&folder);
        if now != seen {
            seen = now;
            if super::reread(&trunks).is_none() {
                return;
            }
        }
    }
}

/// Names and times of the folder's files.
fn state(folder: &Path) -> BTreeMap<PathBuf, Option<SystemTime>> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| (entry.path(), entry.metadata().and_then(|m| m.modified()).ok())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(domain: &str) -> Joined {
        Joined {
            domain: domain.into(),
            tg: format!("https://{domain}/.well-known/ript/v1/providertgs/x"),
            destinations: Destinations::new(["*", "!+1900*"]).unwrap(),
            numbers: vec!["+1408555*".into()],
            own_tg: "main".into(),
            token_sha256: hashed("ript-trunk.secret"),
            registration: Some("/x".into()),
        }
    }

    #[test]
    fn what_was_joined_reads_back_and_says_which_calls_leave_and_who_calls() {
        let folder = tempfile::tempdir().unwrap();
        joined("p.example").write(folder.path()).unwrap();
        joined("q.example:4433").write(folder.path()).unwrap();
        std::fs::write(folder.path().join("broken.json"), "{").unwrap();
        let joins = Joins::read(folder.path());
        assert_eq!(joins.all().count(), 2);
        let route = |to: &str| joins.route(&to.parse().unwrap()).map(|joined| joined.domain.as_str());
        assert_eq!(route("+442071838750"), Some("p.example"));
        assert_eq!(route("+19005551000"), None, "excluded by the provider");
        assert_eq!(route("+14085559999"), None, "one of our own");
        let holder = joins.holder("ript-trunk.secret").unwrap();
        assert!(holder.is_trunk() && holder.may_use_number("+442071838750") && holder.may_use_tg("main"));
        assert!(!holder.may_use_tg("other") && !holder.has_scope("ript:trunks") && holder.numbers.is_empty());
        assert!(joins.holder("ript-trunk.other").is_none());
        let mode = {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::metadata(Joined::file(folder.path(), "p.example")).unwrap().permissions().mode()
        };
        assert_eq!(mode & 0o777, 0o600);
    }
}
