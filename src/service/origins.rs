//! `origins`: a certificate of the numbers that a token may call from. It is a statement, and signs nothing.

use std::collections::HashMap;
use std::sync::Mutex;

use super::{Service, lock};
use crate::clock;
use crate::identity::enrol::{EnrolError, Enroller};
use crate::identity::principal::Principal;
use crate::identity::tn_auth_list::TnAuthList;
use crate::protocol::time::Timestamp;

/// How many are kept; a long list of numbers makes a certificate of some 20 KiB.
const CAPACITY: usize = 1_000;

/// Whose they are, and the numbers as the token names them.
type Key = (String, Vec<String>);

/// Those that were issued, and until when they are told.
#[derive(Debug, Default)]
pub(crate) struct Origins(Mutex<HashMap<Key, (String, Timestamp)>>);

impl Service {
    /// The certificate for a token's holder, PEM, leaf first; none where this server enrols nobody, or for nobody's numbers.
    pub(crate) fn origins(&self, principal: &Principal) -> Option<String> {
        let enroller = self.settings.enroller.as_deref()?;
        let issued = self.origins.of(enroller, principal, clock::now());
        issued.unwrap_or_else(|error| {
            tracing::error!(%error, "no certificate of a token's numbers");
            None
        })
    }
}

impl Origins {
    fn of(
        &self,
        enroller: &Enroller,
        principal: &Principal,
        now: Timestamp,
    ) -> Result<Option<String>, EnrolError> {
        let Some(numbers) = TnAuthList::from_patterns(&principal.numbers) else { return Ok(None) };
        let key = (principal.user().to_string(), principal.numbers.clone());
        if let Some((pem, _)) = lock(&self.0).get(&key).filter(|(_, until)| now < *until) {
            return Ok(Some(pem.clone()));
        }
        let (pem, ends) = enroller.statement(&numbers, now)?;
        // A client keeps a TG's description for a while, and is to have time left then.
        let life = ends.as_millis().saturating_sub(now.as_millis());
        let until = Timestamp::from_millis(now.as_millis() + life / 3 * 2);
        let mut kept = lock(&self.0);
        if kept.len() >= CAPACITY {
            kept.retain(|_, (_, until)| now < *until);
            if kept.len() >= CAPACITY {
                kept.clear();
            }
        }
        kept.insert(key, (pem.clone(), until));
        Ok(Some(pem))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::identity::devca::DevCa;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn principal(subject: &str, numbers: &[&str]) -> Principal {
        Principal {
            issuer: "urn:ript:test".into(),
            subject: subject.into(),
            numbers: numbers.iter().map(|number| (*number).to_owned()).collect(),
            tgs: vec![],
            scopes: BTreeSet::new(),
            expires: NOW,
        }
    }

    #[test]
    fn one_is_issued_for_a_user_and_their_numbers_and_anew_before_it_ends() {
        let ca = DevCa::generate(NOW).unwrap();
        let enroller = Enroller::new(ca.cert_pem(), &ca.key_pem(), Duration::from_secs(300)).unwrap();
        let origins = Origins::default();
        let of = |subject: &str, numbers: &[&str], after| {
            origins.of(&enroller, &principal(subject, numbers), NOW + Duration::from_secs(after)).unwrap()
        };
        let first = of("alice", &["+14085550001"], 0);
        assert!(first.is_some());
        assert_eq!(of("alice", &["+14085550001"], 199), first);
        assert_ne!(of("alice", &["+14085550001", "+14085550002"], 0), first);
        assert_ne!(of("bob", &["+14085550001"], 0), first);
        assert_ne!(of("alice", &["+14085550001"], 200), first);
        assert_eq!(of("alice", &["a@example.com", "4711@example.com", "*@example.com"], 0), None);
        assert_eq!(of("alice", &[], 0), None);
    }

    #[test]
    fn few_are_kept() {
        let ca = DevCa::generate(NOW).unwrap();
        let enroller = Enroller::new(ca.cert_pem(), &ca.key_pem(), Duration::from_secs(300)).unwrap();
        let origins = Origins::default();
        for user in 0..CAPACITY + 5 {
            let alice = principal(&user.to_string(), &["+14085550001"]);
            origins.of(&enroller, &alice, NOW).unwrap();
        }
        assert!(lock(&origins.0).len() <= CAPACITY);
    }
}
