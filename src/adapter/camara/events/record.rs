//! A subscription as it is stored and as its owner sees it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::cloudevent::{INVITATION, REGISTRATION_ENDS, STATUS, SubscriptionEnd};
use crate::identity::principal::UserId;
use crate::protocol::time::Timestamp;

/// How long before its token's end a subscription ends, so that its end can still be told.
const BEFORE_TOKEN_ENDS: Duration = Duration::from_secs(30);

/// What is subscribed to (webrtc-events.yaml, SubscriptionEventType).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    Status,
    Invitation,
    RegistrationEnds,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Status, Self::Invitation, Self::RegistrationEnds];

    pub(super) const fn event_type(self) -> &'static str {
        match self {
            Self::Status => STATUS,
            Self::Invitation => INVITATION,
            Self::RegistrationEnds => REGISTRATION_ENDS,
        }
    }

    /// webrtc-events.yaml, createNotificationChannelSubscription, security
    pub(super) const fn scope(self) -> &'static str {
        match self {
            Self::Status => "webrtc-events:org.camaraproject.webrtc-events.v0.session-status:create",
            Self::Invitation => "webrtc-events:org.camaraproject.webrtc-events.v0.session-invitation:create",
            Self::RegistrationEnds => {
                "webrtc-events:org.camaraproject.webrtc-events.v0.registration-ends:create"
            }
        }
    }
}

/// Text that is stored and sent, and printed never.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// webrtc-events.yaml, AccessTokenCredential
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Credential {
    pub(super) token: Secret,
    pub(super) expires: Timestamp,
    /// When the subscription ends for its sake.
    pub(super) warn: Timestamp,
}

impl Credential {
    pub(super) fn new(token: String, expires: Timestamp, now: Timestamp) -> Self {
        let life = expires.since(now);
        let warn = now + (life - BEFORE_TOKEN_ENDS.min(life / 2));
        Self { token: Secret(token), expires, warn }
    }
}

/// That and why a subscription has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) why: SubscriptionEnd,
    pub(super) at: Timestamp,
    /// The id of the event that says so.
    pub(super) event: Uuid,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: Uuid,
    pub(super) user: UserId,
    pub(super) device: Uuid,
    pub(super) kind: Kind,
    /// Webhooks' URLs often hold a secret.
    pub(super) sink: Secret,
    pub(super) credential: Option<Credential>,
    /// protocolSettings, as they were given.
    pub(super) headers: Option<BTreeMap<String, Secret>>,
    pub(super) method: bool,
    /// subscriptionExpireTime was given.
    pub(super) expiry_asked: bool,
    pub(super) max_events: Option<u32>,
    pub(super) initial: Option<bool>,
    pub(super) starts: Timestamp,
    pub(super) expires: Timestamp,
    /// Events that were taken for it.
    pub(super) taken: u32,
    pub(super) ended: Option<Ended>,
}

impl Record {
    /// Why it ends at the latest, and when.
    pub(super) fn deadline(&self) -> (Timestamp, SubscriptionEnd) {
        match &self.credential {
            // A token that outlives the subscription ends nothing.
            Some(token) if token.expires <= self.expires => (token.warn, SubscriptionEnd::TokenExpired),
            _ => (self.expires, SubscriptionEnd::Expired),
        }
    }

    /// Whether it is there for its owner.
    pub(super) fn is_active(&self, now: Timestamp) -> bool {
        self.ended.is_none() && now < self.deadline().0
    }

    /// Whether the token is no longer good for a request.
    pub(super) fn lacks_token(&self, now: Timestamp) -> bool {
        self.credential.as_ref().is_some_and(|credential| credential.expires <= now)
    }

    /// webrtc-events.yaml, HTTPSubscriptionResponse
    pub(super) fn described(&self) -> Value {
        let mut config = Map::new();
        config.insert("subscriptionDetail".to_owned(), json!({"deviceId": self.device.to_string()}));
        if self.expiry_asked {
            config.insert("subscriptionExpireTime".to_owned(), self.expires.to_string().into());
        }
        if let Some(most) = self.max_events {
            config.insert("subscriptionMaxEvents".to_owned(), most.into());
        }
        if let Some(initial) = self.initial {
            config.insert("initialEvent".to_owned(), initial.into());
        }
        let mut told = json!({
            "protocol": "HTTP",
            "sink": self.sink.0,
            "types": [self.kind.event_type()],
            "config": config,
            "id": self.id.to_string(),
            "startsAt": self.starts.to_string(),
            // "Or Telco Operator has specific policy about that": each has an end.
            "expiresAt": self.expires.to_string(),
            "status": "ACTIVE",
        });
        let mut settings = Map::new();
        if let Some(headers) = &self.headers {
            let headers = headers.iter().map(|(name, value)| (name.clone(), value.0.clone().into()));
            settings.insert("headers".to_owned(), Value::Object(headers.collect()));
        }
        if self.method {
            settings.insert("method".to_owned(), "POST".into());
        }
        if !settings.is_empty() {
            told["protocolSettings"] = settings.into();
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_ends_its_subscription_in_time_to_say_so() {
        let now = Timestamp::from_millis(1_790_000_000_000);
        for (life, warned) in [(3600, 3570), (60, 30), (40, 20), (2, 1)] {
            let credential = Credential::new("t".into(), now + Duration::from_secs(life), now);
            assert_eq!(credential.warn, now + Duration::from_secs(warned), "{life}");
        }
    }

    #[test]
    fn a_type_and_its_scope_belong_together() {
        for kind in Kind::ALL {
            assert_eq!(kind.scope(), format!("webrtc-events:{}:create", kind.event_type()));
        }
    }
}
