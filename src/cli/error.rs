//! Why a command failed.

use std::path::PathBuf;

use thiserror::Error;

use crate::identity::devca::CaError;
use crate::identity::jwk::KeyError;
use crate::store::StoreError;
use crate::transport::TransportError;

/// Why a command failed; says what to do where that isn't plain.
#[derive(Debug, Error)]
pub enum CliError {
    /// A file can't be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A key file holds something else.
    #[error("{}: {source}; move it away to have a new one made", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: KeyError,
    },
    /// The stateless-reset key has another length.
    #[error("{}: a stateless-reset key has 32 bytes; move the file away to have a new one made", .0.display())]
    ResetKey(PathBuf),
    /// The development CA can't be used.
    #[error("{}: {source}", path.display())]
    Ca {
        /// Its folder.
        path: PathBuf,
        /// What is wrong.
        source: CaError,
    },
    /// What stands where the development CA belongs is none, or lacks its key.
    #[error("{path}: {source}: `ript certs --renew --out {path}` replaces it", path = path.display())]
    ForeignCa {
        /// Its folder.
        path: PathBuf,
        /// What is wrong.
        source: CaError,
    },
    /// The development CA can't enrol anybody.
    #[error("{}: its CA can't enrol users: {why}; `ript certs --renew` makes a new one", path.display())]
    Enroller {
        /// Its folder.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Tokens are minted only beside a development server's keys.
    #[error(
        "{}: no development issuer key there; start `ript serve --dev` once, or name its directory with --data", .0.display()
    )]
    NoIssuerKey(PathBuf),
    /// The store.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// CAMARA's APIs can't be served.
    #[error(transparent)]
    Camara(#[from] crate::adapter::camara::StartError),
    /// An account at an operator can't be used.
    #[error(transparent)]
    Operator(#[from] crate::adapter::operator::StartError),
    /// A telephone network can't be reached.
    #[error(transparent)]
    Telephony(#[from] crate::adapter::ims::StartError),
    /// A listener or certificate.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Neither an encrypted nor a clear address is left to listen on.
    #[error("there is no address to listen on; add listen = [\"127.0.0.1:4433\"]")]
    NoAddress,
    /// A listener without a certificate.
    #[error("listen needs a certificate: [tls] certificate and key, or --dev")]
    NoCertificate,
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
}
