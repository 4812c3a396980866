//! What proves to a registrar that an account is ours.

use crate::adapter::sip::digest::{Asked, Challenge, Digest};
use crate::adapter::sip::ua::Credentials;
use crate::adapter::sip::value::quoted;

pub use super::aka::Answer;
use super::aka::{Aka, Sequence};

/// A password, or a SIM's keys.
#[derive(Debug)]
pub enum Login {
    /// The strongest digest that is offered.
    Password(Digest),
    /// AKAv1-MD5.
    Sim(Box<Aka>),
}

impl Login {
    /// The private identity.
    pub fn user(&self) -> &str {
        match self {
            Self::Password(digest) => digest.user(),
            Self::Sim(aka) => aka.user(),
        }
    }

    /// TS 24.229 §5.1.1.2: what the first REGISTER says before there is a challenge. It chooses the scheme, too.
    pub fn introduction(&self, realm: &str, uri: &str) -> String {
        let algorithm = match self {
            Self::Password(_) => "",
            Self::Sim(_) => ", algorithm=AKAv1-MD5",
        };
        format!(
            "Digest username={}, realm={}, uri={}, nonce=\"\", response=\"\"{algorithm}",
            quoted(self.user()),
            quoted(realm),
            quoted(uri),
        )
    }

    /// The one of several challenges that is to be answered.
    pub fn choose(&self, all: Vec<Challenge>) -> Option<Challenge> {
        match self {
            Self::Password(_) => Challenge::strongest(&all).cloned(),
            Self::Sim(_) => all.into_iter().find(|challenge| challenge.algorithm.aka),
        }
    }

    /// The SIM's numbers, to see whether they moved.
    pub fn sequence(&self) -> Option<Sequence> {
        match self {
            Self::Password(_) => None,
            Self::Sim(aka) => Some(aka.sequence()),
        }
    }

    /// Answers it; none if it can't be.
    pub fn answer(&self, challenge: &Challenge, asked: Asked<'_>) -> Option<Answer> {
        match self {
            Self::Password(digest) => Some(Answer { value: digest.answer(challenge, asked), invalid: false }),
            Self::Sim(aka) => aka.answer(challenge, asked),
        }
    }
}

impl Credentials for Login {
    fn authorize(&self, challenge: &str, method: &str, uri: &str, body: &[u8], count: u32) -> Option<String> {
        let challenge = self.choose(Challenge::all([challenge]))?;
        Some(self.answer(&challenge, Asked { method, uri, body, count })?.value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::aka::Keys;
    use super::*;

    #[test]
    fn the_first_register_names_who_registers_and_how() {
        let password = Login::Password(Digest::new("ript@ims.test", "riptpw", [0; 32]));
        assert_eq!(
            password.introduction("ims.test", "sip:ims.test"),
            "Digest username=\"ript@ims.test\", realm=\"ims.test\", uri=\"sip:ims.test\", nonce=\"\", response=\"\""
        );
        let keys = Keys::new([0; 16], [0; 16]);
        let sim = Login::Sim(Box::new(Aka::new("c@ims.test", keys, Sequence::default(), [0; 32])));
        assert!(sim.introduction("ims.test", "sip:ims.test").ends_with(", algorithm=AKAv1-MD5"));
        let md5 = "Digest realm=\"r\", nonce=\"n\"";
        assert!(password.authorize(md5, "INVITE", "sip:b", b"", 1).is_some());
        assert!(sim.authorize(md5, "INVITE", "sip:b", b"", 1).is_none());
    }
}
