//! An account's device id: made once, and the same after a restart, so that the operator knows its registration again.

use std::io;
use std::path::Path;

use uuid::Uuid;

use super::settings::AccountSettings;
use crate::identity::sha256;

/// The configured one, the one that was kept, or a new one.
pub(super) fn id(folder: &Path, account: &AccountSettings) -> io::Result<Uuid> {
    if let Some(device) = account.device {
        return Ok(device);
    }
    // Numbers are not for file names.
    let name = sha256(format!("{}\n{}", account.url, account.number).as_bytes());
    let name: String = name[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    let path = folder.join(format!("{name}.device"));
    match std::fs::read_to_string(&path) {
        Ok(text) => Uuid::parse_str(text.trim()).map_err(|_| {
            io::Error::other(format!("{}: no UUID in it; delete it for a new one", path.display()))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let device = Uuid::new_v4();
            std::fs::create_dir_all(folder)?;
            let draft = path.with_extension("draft");
            std::fs::write(&draft, device.to_string())?;
            std::fs::rename(draft, path)?;
            Ok(device)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::operator::settings::Access;
    use crate::protocol::number::Destinations;

    #[test]
    fn a_device_keeps_its_name_and_each_account_has_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let account = |number: &str, device| AccountSettings {
            url: "https://api.example".into(),
            number: number.parse().unwrap(),
            access: Access::File("token".into()),
            destinations: Destinations::all(),
            device,
            roots: Vec::new(),
        };
        let one = account("+14085550001", None);
        let first = id(folder.path(), &one).unwrap();
        assert_eq!(id(folder.path(), &one).unwrap(), first);
        assert_ne!(id(folder.path(), &account("+14085550002", None)).unwrap(), first);
        let given = Uuid::from_u128(7);
        assert_eq!(id(folder.path(), &account("+14085550001", Some(given))).unwrap(), given);
        for file in std::fs::read_dir(folder.path()).unwrap() {
            std::fs::write(file.unwrap().path(), "x").unwrap();
        }
        // What can't be read is no reason for another name.
        assert!(id(folder.path(), &one).is_err());
    }
}
