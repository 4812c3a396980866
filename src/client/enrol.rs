//! Who we can prove to be: the key that was given, or one for each number, enrolled when first needed.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{Client, ClientError};
use crate::clock;
use crate::identity::canonical::Identity;
use crate::identity::enrol;
use crate::identity::jwk::SigningKey;
use crate::protocol::time::Timestamp;

/// A key, and what says whom it may speak for.
#[derive(Debug)]
pub(super) struct Credential {
    pub(super) key: SigningKey,
    /// DER, leaf first, root left out; nothing where the server knows the key.
    pub(super) chain: Vec<Vec<u8>>,
}

/// Enrolled ones by TG and number, and until when.
type Enrolled = HashMap<(String, String), (Timestamp, Arc<Credential>)>;

/// Those we have.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    pub(super) given: Option<Arc<Credential>>,
    /// The lock is held while one enrols: two calls at once need one certificate.
    pub(super) enrolled: tokio::sync::Mutex<Enrolled>,
}

impl Client {
    /// What speaks for a number on a TG.
    pub(super) async fn credential(&self, tg: &str, from: &Identity) -> Result<Arc<Credential>, ClientError> {
        let credentials = &self.0.credentials;
        if let Some(given) = &credentials.given {
            return Ok(Arc::clone(given));
        }
        let mut enrolled = credentials.enrolled.lock().await;
        let name = (tg.to_owned(), from.to_string());
        let now = clock::now();
        if let Some((until, credential)) = enrolled.get(&name)
            && now < *until
        {
            return Ok(Arc::clone(credential));
        }
        let (ends, credential) = self.enrol(tg, from).await?;
        let credential = Arc::new(credential);
        // Renewed in the last third of its life: a verifier's clock may be ahead.
        let life = ends.as_millis().saturating_sub(now.as_millis());
        let until = Timestamp::from_millis(now.as_millis() + life / 3 * 2);
        enrolled.insert(name, (until, Arc::clone(&credential)));
        Ok(credential)
    }

    async fn enrol(&self, tg: &str, from: &Identity) -> Result<(Timestamp, Credential), ClientError> {
        let wrong = |why: &dyn std::fmt::Display| ClientError::input("certificate", why);
        let key = SigningKey::generate().map_err(|error| wrong(&error))?;
        let csr = enrol::request(&key, from).map_err(|error| wrong(&error))?;
        let pem = self.post_csr(tg, csr).await?;
        let chain = CertificateDer::pem_slice_iter(&pem).map(|der| der.map(|der| der.to_vec()));
        let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|error| wrong(&error))?;
        let leaf = chain.first().ok_or_else(|| wrong(&"the server answered with none"))?;
        let ends = enrol::ends(leaf).ok_or_else(|| wrong(&"the server's answer can't be read"))?;
        Ok((ends, Credential { key, chain }))
    }
}
