//! RIPT clients that call by the trunk.

use ript::identity::jwk::SigningKey;

use crate::Place;
use crate::common::user::{ALL_SCOPES, BOTH, User, token};

/// One connection each; calls are dealt out among them.
pub struct Callers(Vec<(User, String)>);

impl Callers {
    pub async fn connect(place: &Place, many: u32) -> Self {
        let Place::Ript { address, ca, issuer, passports } = place else { unreachable!("no server of ours") };
        let issuer = SigningKey::from_pem(issuer).expect("a key");
        let mut all = Vec::new();
        for n in 0..many.max(1) {
            let number = format!("+44207183{n:04}");
            let token = token(&issuer, &format!("caller{n}"), &[&number], &["test"], ALL_SCOPES);
            let user = User::at(ca, *address, passports.clone(), token, &number).await;
            let handler = user.register("phone", BOTH).await;
            all.push((user, handler));
        }
        Self(all)
    }

    /// Who places a call, and the device.
    pub fn of(&self, call: u32) -> (&User, &str) {
        let (user, handler) = &self.0[call as usize % self.0.len()];
        (user, handler)
    }

    /// Datagrams that were too old before their connections had room.
    pub fn late(&self) -> u64 {
        self.0.iter().map(|(user, _)| user.client.counters().late).sum()
    }
}
